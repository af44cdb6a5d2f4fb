"""A number is told under one name, with its meaning, as its owner has it at that moment."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from peerkv.metrics import Metric, Metrics, counter


@dataclass(slots=True)
class Counters:
    eaten: int = counter("eggs_eaten", "eggs that somebody has eaten")
    read: int = counter("eggs_read", "what was read of eggs", "bytes")


def test_a_counter_is_told_as_its_engine_has_counted_it() -> None:
    counters, metrics = Counters(), Metrics()
    metrics.counters(counters)
    counters.eaten += 2
    assert list(metrics) == [
        (Metric("eggs_eaten", "eggs that somebody has eaten", grows=True), 2),
        (Metric("eggs_read", "what was read of eggs", "bytes", grows=True), 0),
    ]


def test_a_gauge_is_read_when_somebody_asks() -> None:
    eggs: list[int] = []
    metrics = Metrics()
    metrics.gauge("eggs", lambda: len(eggs), "eggs that are there")
    assert [value for _, value in metrics] == [0]
    eggs.append(1)
    assert list(metrics) == [(Metric("eggs", "eggs that are there"), 1)]


def test_one_name_means_one_thing() -> None:
    metrics = Metrics()
    metrics.counters(Counters())
    with pytest.raises(AssertionError, match="eggs_eaten means something already"):
        metrics.gauge("eggs_eaten", lambda: 0, "again")
