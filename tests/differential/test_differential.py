"""A few sequences of all that is served beside a real redis-server: `make differential` runs thousands."""

from __future__ import annotations

import random
from itertools import count

import pytest

from peerkv.resp import encode_request
from tests.differential.differences import NODE_SPECIFIC, SCRIPT, UNKNOWN_TO_7_0
from tests.differential.requests import ASKED, Requests
from tests.differential.sequences import Buffer, Comparison, Story, made, served, shortened
from tests.differential.servers import ByItself, InProcess, Server, Sockets
from tests.differential.trees import Tree

FEW = 25
"""Sequences of each: some seconds."""


def agree(ours: Server, theirs: Sockets, payloads: list[bytes], first: int, sequences: int) -> Comparison:
    comparison = Comparison(ours, theirs)
    for seed in range(first, first + sequences):
        found = comparison.run(made(seed, payloads))
        if found is not None:
            pytest.fail(f"seed {seed}: {shortened(comparison, found)}")
    return comparison


def test_a_node_by_itself_answers_as_redis_does(theirs: Sockets, payloads: list[bytes]) -> None:
    comparison = agree(ByItself(), theirs, payloads, 1, FEW)
    assert comparison.errors[False] > comparison.errors[True] / 2, "most of it is refused: that shows little"


def test_three_nodes_answer_as_redis_does_whichever_is_asked(theirs: Sockets, payloads: list[bytes]) -> None:
    agree(InProcess(), theirs, payloads, 1000, FEW)


# -- the test of the test


def test_every_command_is_asked_and_answered(theirs: Sockets, payloads: list[bytes]) -> None:
    """One that no pool of arguments fits would never be compared."""
    never = {"latency|graph", "client|caching", "acl|cat", "config|rewrite", "latency|doctor"}
    answered: set[str] = set()
    theirs.connect()
    theirs.ask(0, encode_request((b"SCRIPT", b"LOAD", SCRIPT)), 1)
    rng = random.Random(7)
    for name in ASKED:
        requests = Requests(rng, payloads, [ASKED[name].group])
        for number in count():
            theirs.ask(0, encode_request(requests.request()), 1)  # there must be something to ask for
            replies = theirs.ask(0, encode_request(requests.of(name)), 1)
            if replies and replies[0][0] != b"-":
                answered.add(name)
                break
            if number == 400:
                break
    assert set(ASKED) - answered <= never
    assert set(NODE_SPECIFIC) | UNKNOWN_TO_7_0 <= served() | {"command"}


class Wrong:
    """A side that answers one command wrongly."""

    def __init__(self, right: Server, name: bytes, reply: Tree) -> None:
        self._right = right
        self._name = name
        self._reply = reply
        self.slots = right.slots
        self.connect, self.closed, self.wait = right.connect, right.closed, right.wait

    def ask(self, place: int, data: bytes, count: int) -> list[Tree]:
        replies = self._right.ask(place, data, count)
        return [self._reply] if count == 1 and self._name in data.upper() else replies


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        (b"LLEN", (b":", b"77")),
        (b"SMEMBERS", (b"*", [(b"$", b"nobody")])),
        (b"SRANDMEMBER", (b"$", b"nobody")),
        (b"TTL", (b":", b"-2")),
        (b"INFO", (b":", b"1")),
        (b"SSCAN", (b"*", [(b"$", b"0"), (b"*", [(b"$", b"nobody")])])),
        (b"SPOP", (b"$", b"nobody")),
        (b"ZSCORE", (b"$", b"2.0")),
    ],
)
def test_what_is_wrong_is_found_and_cut_short(theirs: Sockets, name: bytes, reply: Tree) -> None:
    lines = (
        b"SADD {x}t a b|RPUSH {x}l a|ZADD {x}z 2 a|SET {x}s 1 EX 1000|PING|GET {x}s|LLEN {x}l|SMEMBERS {x}t|SPOP {x}t"
    )
    lines += b"|SRANDMEMBER {x}t|TTL {x}s|INFO|SSCAN {x}t 0|ZSCORE {x}z a"
    buffers = [Buffer(0, (tuple(line.split()),)) for line in lines.split(b"|")]
    comparison = Comparison(Wrong(ByItself(), name, reply), theirs)
    found = comparison.run(Story(2, tuple(buffers)))
    assert found is not None
    assert found.request[0] == name
    assert len(shortened(comparison, found).sequence.buffers) <= 2
