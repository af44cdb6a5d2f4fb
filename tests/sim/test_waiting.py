"""The judge of clients that wait finds what cannot be, and a seed shows when a rule is missing."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from peerkv.agreement.home import Home
from tests.sim.jobs import Answer, Caller, Job
from tests.sim.scenario import run_seed
from tests.sim.waiting import Waiting


class Asking:
    """A client whose requests are answered as a test says."""

    def __init__(self, load: Waiting) -> None:
        self.rng = Random(1)
        self.problems, self.refusals = load.problems, load.refusals
        self.names = 0

    def now(self) -> float:
        return 1.0

    def name(self) -> bytes:
        self.names += 1
        return b"%d" % self.names

    def place(self) -> tuple[int, int]:
        return 0, 0

    def commits(self) -> None: ...

    def close(self) -> None: ...


def _run(job: Job) -> None:
    requests = next(job)
    assert isinstance(requests, list), "it asks at once"
    answers: list[Any] = [1 for _ in requests]
    if len(requests) > 1:
        answers = ["OK", *["QUEUED"] * (len(requests) - 2), [1] * (len(requests) - 2)]
    with pytest.raises(StopIteration):
        job.send([Answer(answer, 1.0) for answer in answers])


def _pushed() -> tuple[Waiting, list[bytes]]:
    load = Waiting()
    caller: Caller = Asking(load)
    _run(load._push(caller))
    assert load.problems == []
    return load, list(load._pushed)


def test_what_is_there_or_popped_once_is_right() -> None:
    load, elements = _pushed()
    assert load.wrong(Counter(elements)) == []
    load.got([b"k"], [b"k", elements[0]], 1.0)
    assert load.wrong(Counter(elements[1:])) == []
    assert load.problems == []


def test_what_is_lost_twice_or_from_nowhere_is_found() -> None:
    load, elements = _pushed()
    assert "are lost" in load.wrong(Counter(elements[1:]))[0]
    assert "comes from nowhere" in load.wrong(Counter([*elements, b"new"]))[0]
    load.got([b"k"], [b"k", elements[0]], 1.0)
    assert "is there 2 times" in load.wrong(Counter(elements))[0]


def test_what_is_of_unknown_outcome_may_be_there_and_what_was_refused_may_not() -> None:
    load, elements = _pushed()
    load._pushed[elements[0]] = None
    assert load.wrong(Counter(elements)) == load.wrong(Counter(elements[1:])) == []
    load._pushed[elements[0]] = False
    assert "was never pushed" in load.wrong(Counter(elements))[0]


def test_what_may_have_been_taken_may_be_missing_but_no_more() -> None:
    load, elements = _pushed()
    for _ in elements[1:]:
        load.untold(0)
    assert load.wrong(Counter(elements[:1])) == []
    assert load.wrong(Counter()) != []


def test_an_answer_of_another_key_is_found() -> None:
    load, elements = _pushed()
    load.got([b"k"], [b"l", elements[0]], 1.0)
    assert load.problems != []


def test_a_seed_in_which_nobody_says_that_he_is_not_home_is_found() -> None:
    with patch.object(Home, "_lead_on", lambda *_: None):
        assert any("second after a push" in problem for problem in run_seed(6, 10.0, 256).problems)


def test_a_waiter_of_a_node_that_was_killed_is_in_nobodys_way() -> None:
    """db3 is killed while a client waits there. Its last word, that somebody awaits bl:patient:0., is read by db2, the
    home, after db2 has found its link to db3 broken and has forgotten all waiters of it. So that one stands first, and
    is woken, which goes nowhere; what is pushed is kept for it, and the one behind it is never woken."""
    assert run_seed(1201272, 8.0, 256).problems == []
