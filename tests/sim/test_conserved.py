"""What is kept whole: what can be seen of it is let pass, what cannot is not."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random

import pytest

from peerkv.resp import Reply, ReplyError
from tests.sim.conserved import Bank, Hat, Kept, Members, Pairs, Tokens, looked, watched
from tests.sim.jobs import DISCARD, EXEC, LOST, WRONG, Answer, Outcome, asked, read_transaction, transaction
from tests.sim.requests import Request

ALL = list(Tokens.TOKENS)
SET = list(Members.MEMBERS)


class Hand:
    """A client whose replies are made by hand."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = Random(seed)
        self.problems: list[str] = []
        self.refusals: list[str] = []
        self.time = 10.0
        self.names = 0
        self.closed = False

    def now(self) -> float:
        return self.time

    def name(self) -> bytes:
        self.names += 1
        return b"v%d" % self.names

    def place(self) -> tuple[int, int]:
        return 1, 1

    def commits(self) -> None:
        """Nothing happens then."""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("kept", "right", "wrong"),
    [
        (Bank(2), [[b"100", b"100"], [b"-5", b"205"]], [[b"100", b"101"], [b"200", None], [None, None]]),
        (Tokens(2), [[ALL, []], [ALL[4:], ALL[:4]]], [[ALL[1:], []], [ALL, ALL[:1]], [[], []]]),
        (
            Members(2),
            [[SET, [], SET, 0], [SET[1:], SET[:1], SET[::-1], 0]],
            [[SET, [], SET[1:], 0], [SET, SET[:1], SET, 0], [SET, [], SET, 1], [SET[1:], [], SET, 0]],
        ),
        (Hat(3), [[None, b"hat", None]], [[None, None, None], [b"hat", b"hat", None], [b"cap", None, None]]),
    ],
)
def test_what_is_whole_is_let_pass(kept: Kept, right: list[Sequence[Reply]], wrong: list[Sequence[Reply]]) -> None:
    assert [kept.saw(replies, 0, 1) for replies in right] == [""] * len(right)
    assert all(kept.saw(replies, 0, 1) for replies in wrong)


def pairs(*seen: tuple[list[Reply], float, float]) -> list[str]:
    """One pair, `a`, was set at 1 to 2 s for 5 s; `b` for ever, or never; `c` never."""
    kept = Pairs()
    kept._deadlines = {b"a": (5.7, 8.0), b"b": (inf, inf), b"c": (inf, inf)}
    kept._undone = {b"c"}
    for replies, invoked, returned in seen:
        assert kept.saw(replies, invoked, returned) == ""
    return kept.finish()


def test_pairs_are_one_value_until_both_expire() -> None:
    assert pairs(([b"a", b"a"], 2, 3), ([b"b", b"b"], 2, 99), ([None, None], 3, 4)) == []
    assert pairs(([b"a", None], 5, 6), ([None, b"a"], 7.9, 8)) == [], "clocks differ"
    for replies, invoked, returned in (
        ([b"a", b"b"], 2, 3),
        ([b"a", None], 2, 3),
        ([b"b", None], 2, 99),
        ([b"c", b"c"], 2, 3),
        ([b"a", b"a"], 8.1, 9),
        ([b"z", None], 8.1, 9),
    ):
        assert pairs((replies, invoked, returned)), replies


def test_msetnx_has_one_winner() -> None:
    def claimed(claims: list[bytes], refused: set[bytes], *seen: list[Reply]) -> list[str]:
        kept = Pairs()
        kept._claims, kept._refused = {3: claims} if claims else {}, refused
        kept._claimed = [(3, replies) for replies in seen]
        return kept.finish()

    assert claimed([b"a"], {b"b"}, [b"a"] * 3, [None] * 3) == []
    assert claimed([], {b"b"}, [b"a"] * 3) == [], "whose reply nobody had"
    assert claimed([b"a", b"b"], set())
    assert claimed([b"a"], set(), [b"a", b"a", None])
    assert claimed([b"a"], set(), [b"c"] * 3)
    assert claimed([], {b"b"}, [b"b"] * 3)


TWO: list[Request] = [(b"GET", b"a"), (b"GET", b"b")]
QUEUED = ["OK", "QUEUED", "QUEUED"]
REFUSED = ReplyError("EXECABORT Transaction discarded because of previous errors.")


@pytest.mark.parametrize(
    ("replies", "how", "done"),
    [
        ([*QUEUED, [b"1", b"2"]], {}, True),
        ([*QUEUED, None], {"watching": True}, False),
        ([*QUEUED, LOST], {}, None),
        ([LOST] * 4, {}, None),
        ([*QUEUED, ReplyError("UNCERTAIN it may have been")], {}, None),
        ([*QUEUED, ReplyError("NOQUORUM 1 of 3")], {}, False),
        ([*QUEUED, ReplyError("TRYAGAIN nothing was done")], {}, False),
        (["OK", ReplyError("CLUSTERDOWN not yet"), "QUEUED", REFUSED], {}, False),
        (["OK", "QUEUED", ReplyError("ERR"), "QUEUED", REFUSED], {"spoiled": True}, False),
        (["OK", "QUEUED", ReplyError("ERR"), "QUEUED", LOST], {"spoiled": True}, False),
        ([*QUEUED, "OK"], {"last": DISCARD}, False),
        ([*QUEUED, LOST], {"last": DISCARD}, False),
    ],
)
def test_what_became_of_a_transaction(replies: list[Reply], how: dict[str, bool], done: bool | None) -> None:
    hand, outcome = Hand(), Outcome(1, (1, 1))
    read_transaction(hand, outcome, TWO, [Answer(reply, 2.0) for reply in replies], **how)  # type: ignore[arg-type]
    assert (outcome.done, hand.problems) == (done, [])
    assert outcome.aborted == (replies[-1] is None)


@pytest.mark.parametrize(
    ("replies", "how"),
    [
        ([*QUEUED, None], {}),
        ([*QUEUED, [b"1"]], {}),
        ([*QUEUED, "OK"], {}),
        ([*QUEUED, REFUSED], {}),
        ([*QUEUED, ReplyError("ERR internal")], {}),
        ([ReplyError("ERR unknown command"), *QUEUED[1:], [b"1", b"2"]], {}),
        (["OK", b"1", "QUEUED", [b"1", b"2"]], {}),
        (["OK", "QUEUED", ReplyError("ERR"), "QUEUED", [b"1", b"2"]], {"spoiled": True}),
        (["OK", ReplyError("ERR what"), "QUEUED", REFUSED], {}),
        ([*QUEUED, [b"1", b"2"]], {"last": DISCARD}),
    ],
)
def test_what_cannot_become_of_one_is_noticed(replies: list[Reply], how: dict[str, bool]) -> None:
    hand, outcome = Hand(), Outcome(1, (1, 1))
    read_transaction(hand, outcome, TWO, [Answer(reply, 2.0) for reply in replies], **how)  # type: ignore[arg-type]
    assert hand.problems


def test_a_connection_that_is_lost_before_exec_is_sent_has_done_nothing() -> None:
    """Whatever was queued is forgotten with it."""
    for seed in range(20):
        steps = transaction(Hand(seed), TWO)
        first = next(steps)
        if len(first) > 1:
            continue
        steps.send([Answer("OK", 1.0)])
        with pytest.raises(StopIteration) as end:
            steps.send([Answer(LOST, inf)])
        assert end.value.value.done is False
        return
    pytest.fail("none of them is sent one by one")


def test_one_that_is_spoiled_has_a_command_that_cannot_be() -> None:
    steps = transaction(Hand(), TWO, spoiled=True, at_once=True)
    sent = next(steps)
    assert sent.count(WRONG) == 1
    assert sent[-1] == EXEC


def test_what_cannot_be_watched_is_not_gone_on_with() -> None:
    steps = watched(Hand(), [b"a"], [(b"GET", b"a")])
    assert next(steps) == [(b"WATCH", b"a"), (b"GET", b"a")]
    assert steps.send([Answer("OK", 1.0), Answer(ReplyError("NOQUORUM"), 1.0)]) == [(b"UNWATCH",)]
    with pytest.raises(StopIteration) as end:
        steps.send([Answer("OK", 1.0)])
    assert end.value.value is None


def test_an_error_that_nobody_expects_is_noticed() -> None:
    hand = Hand()
    steps = asked(hand, (b"LMOVE", b"a", b"b", b"LEFT", b"LEFT"))
    next(steps)
    with pytest.raises(StopIteration):
        steps.send([Answer(ReplyError("CROSSSLOT Keys in request don't hash to the same slot"), 2.0)])
    assert "CROSSSLOT" in hand.problems[0]


def test_a_script_looks_with_what_each_read_wants() -> None:
    """Otherwise LRANGE has no range, and what is looked at is an error."""
    for seed in range(20):
        request, *_ = next(looked(Hand(seed), Tokens(2), atomic=False))
        if request[0] == b"EVAL":
            assert request[2:5] == (b"2", b"tx:tokens:0", b"tx:tokens:1")
            assert request[5:] == (b"3", b"LRANGE", b"0", b"-1") * 2
            return
    pytest.fail("none of them is a script")
