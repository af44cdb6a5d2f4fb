"""The judge of clients that wait finds what cannot be, and a seed shows when a rule is missing."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any
from unittest.mock import patch

from peerkv.agreement.home import Home
from peerkv.clients.session import Session
from peerkv.resp import Reply, ReplyError, Requests
from tests.sim.jobs import Answer, Caller, Job
from tests.sim.scenario import run_seed
from tests.sim.waiting import Answered, PuttingBack, Unheard, Waiting


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

    def session(self) -> tuple[None, None]:
        return None, None

    def commits(self) -> None: ...

    def close(self) -> None: ...


def _run(job: Job) -> None:
    queued = -1
    requests = next(job)
    try:
        while True:
            assert isinstance(requests, list), "it asks, and does not wait"
            answers: list[Any] = []
            for name, *_ in requests:
                if name == b"EXEC":
                    answers.append([1] * queued)
                    queued = -1
                else:
                    answers.append("OK" if name == b"MULTI" else "QUEUED" if queued >= 0 else 1)
                    queued += name == b"MULTI" or queued >= 0
            requests = job.send([Answer(answer, 1.0) for answer in answers])
    except StopIteration:
        pass


def _pushed() -> tuple[Waiting, list[bytes]]:
    load = Waiting()
    caller: Caller = Asking(load)
    while len(load._pushed) < 3:
        _run(load._push(caller))
    assert load.problems == []
    return load, list(load._pushed)


def test_what_is_there_or_popped_once_is_right() -> None:
    load, elements = _pushed()
    assert load.wrong(Counter(elements), ()) == []
    load.got([b"k"], [b"k", elements[0]], 1.0)
    assert load.wrong(Counter(elements[1:]), ()) == []
    assert load.problems == []


def test_what_is_lost_twice_or_from_nowhere_is_found() -> None:
    load, elements = _pushed()
    assert "neither popped nor there" in load.wrong(Counter(elements[1:]), ())[0]
    assert "comes from nowhere" in load.wrong(Counter([*elements, b"new"]), ())[0]
    load.got([b"k"], [b"k", elements[0]], 1.0)
    assert "is there 2 times" in load.wrong(Counter(elements), ())[0]


def test_what_is_of_unknown_outcome_may_be_there_and_what_was_refused_may_not() -> None:
    load, elements = _pushed()
    load._pushed[elements[0]] = None
    assert load.wrong(Counter(elements), ()) == load.wrong(Counter(elements[1:]), ()) == []
    load._pushed[elements[0]] = False
    assert "was never pushed" in load.wrong(Counter(elements), ())[0]


REQUEST = b"BLPOP", b"k", b"0"


def _answered(load: Waiting, reply: Reply, *, gone: bool) -> None:
    """A wait of a client that has gone without having heard this."""
    node, session = object(), Session(1, "", "", 0.0, Requests(100, 100))
    keys = list(dict.fromkeys(load._first_in.values()))
    load.unheard.append(Unheard(session, node, REQUEST, keys, 1.0))
    load.answered(session, Answered(node, REQUEST, reply, 2.0, gone))


def test_what_is_of_unknown_outcome_has_taken_one_and_no_more() -> None:
    load, elements = _pushed()
    for _ in elements[1:]:
        _answered(load, ReplyError("UNCERTAIN"), gone=True)
    assert load.wrong(Counter(elements[:1]), ()) == []
    assert len(load.wrong(Counter(), ())) == 1
    load.unheard[0].keys = [b"another"]
    assert len(load.wrong(Counter(), ())) == 2
    assert len(elements) > 2


def test_what_took_nothing_or_was_refused_accounts_for_nothing() -> None:
    load, elements = _pushed()
    for reply in (None, ReplyError("NOQUORUM"), [b"k", elements[0]]):
        _answered(load, reply, gone=True)
    assert len(load.wrong(Counter(elements[1:]), ())) == 1
    _answered(load, [b"k", elements[0]], gone=False)
    assert load.wrong(Counter(elements[1:]), ()) == [], "it was sent, and is lost with the connection"
    assert len(load.wrong(Counter(elements), ())) == 1


def test_what_was_put_back_must_be_there_unless_nobody_knows() -> None:
    load, elements = _pushed()
    node = object()
    missing = Counter(elements[1:])
    for living, reply, right in (
        ([], None, True),
        ([id(node)], None, False),
        ([], 1, False),
        ([], ReplyError("UNCERTAIN"), True),
        ([], ReplyError("NOQUORUM"), True),
        ([id(node)], ReplyError("NOQUORUM"), False),
    ):
        load._putting_back[elements[0]] = PuttingBack(node, reply)
        assert (load.wrong(missing, living) == []) is right
        assert load.wrong(Counter(elements), living) == []


def test_what_was_moved_may_have_been_taken_where_it_was_moved_to() -> None:
    load, elements = _pushed()
    _answered(load, ReplyError("UNCERTAIN"), gone=True)
    load.unheard[0].keys = [b"there"]
    assert len(load.wrong(Counter(elements[1:]), ())) == 1
    load._moves.append((load._first_in[elements[0]], b"there", elements[0]))
    assert load.wrong(Counter(elements[1:]), ()) == []


def test_an_answer_of_another_key_is_found() -> None:
    load, elements = _pushed()
    load.got([b"k"], [b"l", elements[0]], 1.0)
    assert load.problems != []


def test_a_seed_in_which_nobody_says_that_he_is_not_home_is_found() -> None:
    with patch.object(Home, "_lead_on", lambda *_: None):
        assert any("second after a push" in problem for problem in run_seed(3, 10.0, 256).problems)


def test_a_waiter_of_a_node_that_was_killed_is_in_nobodys_way() -> None:
    """db3 is killed while a client waits there. Its last word, that somebody awaits bl:patient:0., is read by db2, the
    home, after db2 has found its link to db3 broken and has forgotten all waiters of it. So that one stands first, and
    is woken, which goes nowhere; what is pushed is kept for it, and the one behind it is never woken."""
    assert run_seed(1201272, 8.0, 256).problems == []
