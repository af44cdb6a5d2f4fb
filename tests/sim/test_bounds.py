"""What nodes do in a turn, and what they keep, has a bound: counted, so that a busy machine changes nothing."""

from __future__ import annotations

import gc
import sys
from types import FrameType, FunctionType, ModuleType
from typing import Any, Final

import pytest

from peerkv.node import Node
from peerkv.resp import Replies, Reply
from tests.sim.checker import History
from tests.sim.world import Host, World

CALLS_MAX: Final = 100_000
"""Calls of functions in one turn: 10 to 20 ms."""

Request = tuple[bytes, ...]


def cluster(data: int = 3) -> World:
    world = World(3, 256)
    world.cluster(data)
    world.run(4.0)
    return world


def ask(world: World, name: str, *requests: Request) -> list[Reply]:
    """The replies, once all are there."""
    connection = world.connect(name)
    assert connection is not None, f"{name} listens"
    replies: list[Reply] = []
    connection.on_reply = replies.append
    connection.send(*requests)
    until = world.now + 60.0
    while len(replies) < len(requests):
        assert world.now < until, f"{len(replies)} replies of {len(requests)}"
        world.run(world.now + 0.1)
    connection.close()
    return replies


class Calls:
    """Counts calls of functions in the turns of every host."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.most = 0
        self._count = 0
        whole = Host.turn

        def turn(host: Host) -> None:
            self._count = 0
            sys.setprofile(self._on_call)
            try:
                whole(host)
            finally:
                sys.setprofile(None)
            self.most = max(self.most, self._count)

        patch.setattr(Host, "turn", turn)
        read = Replies.feed

        def feed(replies: Replies, data: bytes) -> list[Reply]:
            """What a client does with what it gets is none of the node's work."""
            count = self._count
            found = read(replies, data)
            self._count = count
            return found

        patch.setattr(Replies, "feed", feed)

    def _on_call(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            self._count += 1


KEYS: Final = [b"key:%d" % number for number in range(4000)]


def fill(world: World, *options: bytes) -> None:
    for first in range(0, len(KEYS), 500):
        ask(world, "db1", *((b"SET", key, b"v" * 64, *options) for key in KEYS[first : first + 500]))


LOADS: Final[dict[str, list[Request]]] = {
    "a long pipeline": [(b"GET", key) for key in KEYS] * 2,
    "writes": [(b"SET", key, b"w" * 64) for key in KEYS],
    "many keys": [(b"MGET", *KEYS), (b"MSET", *(word for key in KEYS for word in (key, b"v"))), (b"DEL", *KEYS)],
    "every key": [(b"KEYS", b"*"), (b"DBSIZE",), (b"SCAN", b"0", b"COUNT", b"10000"), (b"RANDOMKEY",)],
    "all of it": [(b"FLUSHALL",)],
    "about the cluster": [(b"INFO",), (b"CLUSTER", b"SLOTS"), (b"CLUSTER", b"NODES"), (b"COMMAND",)] * 25,
}


@pytest.mark.parametrize("load", LOADS)
def test_no_turn_is_long(load: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All other clients of that node wait meanwhile, and its peers."""
    world = cluster()
    fill(world)
    calls = Calls(monkeypatch)
    ask(world, "db1", *LOADS[load])
    assert calls.most < CALLS_MAX


def test_keys_that_expire_together_take_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    world = cluster()
    fill(world, b"PXAT", b"%d" % (1000 * (1_700_000_000 + 60)))
    calls = Calls(monkeypatch)
    world.run(70.0)
    assert calls.most < CALLS_MAX
    assert ask(world, "db2", (b"DBSIZE",)) == [0]


def test_an_epoch_begins_within_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    world = cluster(4)
    fill(world)
    calls = Calls(monkeypatch)
    leaving = world.hosts["db4"]
    assert leaving.node is not None
    leaving.input(leaving.node.drain)
    world.run(world.now + 20.0)
    assert leaving.left
    assert calls.most < CALLS_MAX


ROUND: Final[list[Request]] = [
    (b"SET", b"a", b"v" * 100),
    (b"GET", b"a"),
    (b"SET", b"b", b"v" * 100, b"PX", b"100000"),
    (b"EXPIRE", b"a", b"1000"),
    (b"GETSET", b"c", b"v" * 1000),
    (b"INCR", b"n"),
    (b"SETNX", b"a", b"w"),
    (b"MSET", b"d", b"1", b"e", b"2"),
    (b"DEL", b"d", b"e"),
    (b"MGET", b"a", b"b", b"c"),
    (b"APPEND", b"b", b"x"),
    (b"GETDEL", b"b"),
    (b"NOSUCH", b"command"),
    (b"INCR", b"a"),
]


def size(node: Node) -> int:
    """Bytes of all that a node holds, without what watches it."""
    seen: dict[int, Any] = {}
    found: list[Any] = [node]
    total = 0
    while found:
        item = found.pop()
        if id(item) in seen or isinstance(item, (type, ModuleType, FunctionType, FrameType, History)):
            continue
        seen[id(item)] = item
        total += sys.getsizeof(item)
        found += gc.get_referents(item)
    return total


def test_ten_thousand_times_the_same_leaves_what_a_thousand_times_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered operations, deadlines, turns, reads, sessions: whatever is kept of an operation must go some time."""
    monkeypatch.setattr("peerkv.agreement.home.UNCHANGING_MAX", 64)  # a bound, but one of megabytes
    monkeypatch.setattr("peerkv.agreement.journal.BYTES_MAX", 100_000)  # likewise
    world = cluster()

    def sizes() -> dict[str, int]:
        world.run(world.now + 10.0)
        return {name: size(host.node) for name, host in world.hosts.items() if host.node is not None}

    def again(times: int) -> None:
        for _ in range(times):
            for name in ("db1", "db2", "db3"):
                ask(world, name, *ROUND * 4)

    again(10)
    before = sizes()
    again(70)
    after = sizes()
    for name, most in before.items():
        assert after[name] < 1.05 * most + 50_000, name
