"""What subscribers must have been told: the judge finds what is wrong, and a few seeds."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.sim.observing import Change, Observing
from tests.sim.scenario import Result, run_seed

EVENT = b"ob:1", b"set"
OTHER = b"ob:2", b"set"


def _wrong(
    done: bool | None, heard: Counter[tuple[bytes, bytes]], *, faults: bool = True, reached: bool = True
) -> list[str]:
    load = Observing()
    load.changes[EVENT] = Change(1.0, done)
    result = Result(1, faults=["one"] if faults else [])
    scenario: Any = SimpleNamespace(result=result, world=SimpleNamespace(was_out_of_reach=lambda *_: not reached))
    host: Any = SimpleNamespace(settings=SimpleNamespace(name="db1"))
    return load.wrong(scenario, host, heard)


def test_the_judge_knows_what_must_be_told() -> None:
    assert "was not told" in _wrong(True, Counter())[0]
    assert "did not happen" in _wrong(False, Counter([EVENT]))[0]
    assert "2 times" in _wrong(True, Counter([EVENT, EVENT]), faults=False)[0]
    assert "from nowhere" in _wrong(True, Counter([EVENT, OTHER]))[0]


def test_the_judge_knows_what_may_be() -> None:
    assert _wrong(True, Counter([EVENT]), faults=False) == []
    assert _wrong(True, Counter([EVENT, EVENT])) == []
    assert _wrong(None, Counter()) == _wrong(None, Counter([EVENT])) == _wrong(False, Counter()) == []
    assert _wrong(True, Counter(), reached=False) == []


@pytest.mark.parametrize("seed", [16, 71])
def test_what_was_acknowledged_is_told(seed: int) -> None:
    result = run_seed(seed, 10.0, 256)
    assert result.problems == []
    assert result.told > 100
