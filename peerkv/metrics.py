"""What engines count and measure, each with a name, a unit and a meaning: INFO reads it, and so may who exports it.

An engine owns its counters, as fields of a dataclass, so that counting costs an addition. What is there anyway is read
when somebody asks for it. The names are part of what users see: they stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Final

METRIC: Final = "metric"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a number means."""

    name: str
    meaning: str
    unit: str = ""
    """Empty: it counts what the meaning says."""
    grows: bool = False
    """A counter, from 0 at the start of the process; else it goes up and down."""


def counter(name: str, meaning: str, unit: str = "") -> Any:
    """A field of a dataclass that counts."""
    return field(default=0, metadata={METRIC: Metric(name, meaning, unit, grows=True)})


class Rate:
    """How fast a number grows, over the last times that it was looked at."""

    def __init__(self, looks: int) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=looks)
        """When, and what it was."""

    def look(self, now: float, number: int) -> None:
        """It is so large now."""
        self._seen.append((now, number))

    def clear(self) -> None:
        """It begins anew."""
        self._seen.clear()

    @property
    def per_second(self) -> int:
        """0: not known yet."""
        if len(self._seen) < 2:
            return 0
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return round((after - before) / (ended - began)) if ended > began else 0


class Metrics:
    """Of a node, in the order in which they are told."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[Metric, Callable[[], int]]] = {}

    def gauge(self, name: str, read: Callable[[], int], meaning: str, unit: str = "") -> None:
        """What `read` finds when somebody asks."""
        self._add(Metric(name, meaning, unit), read)

    def counters(self, counters: Any) -> None:
        """What an engine counts in a dataclass of `counter` fields."""
        for row in fields(counters):
            self._add(row.metadata[METRIC], partial(getattr, counters, row.name))

    def _add(self, metric: Metric, read: Callable[[], int]) -> None:
        assert metric.name not in self._read, f"{metric.name} means something already"
        self._read[metric.name] = metric, read

    def __iter__(self) -> Iterator[tuple[Metric, int]]:
        """Each, and what it is now."""
        return iter([(metric, read()) for metric, read in self._read.values()])
