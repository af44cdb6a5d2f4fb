"""What a home does with keys that a transaction holds, on whole nodes in a simulated world."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from peerkv.commands import transactions as asked
from peerkv.databases import in_database
from peerkv.resp import Reply
from peerkv.store.values.held import Held, Tentative
from peerkv.transactions.coordination import Gathered
from tests.agreement.test_nodes import ask, cluster, node
from tests.sim.world import World


class Holder:
    """A transaction of db1 whose coordinator takes its time: it holds a key until it is told to let go."""

    def __init__(self, world: World, key: bytes, then: Tentative = ()) -> None:
        self._world = world
        self._node = node(world, "db1")
        self._number = self._node.view.slot_of(key)
        self._key = key
        ticket = self._node.coordinator.reserve(self._number)
        self._node.transactions.active.add(ticket)
        self._id = self._node.view.me.process, ticket
        outcome = self._write(asked.hold_request([key], self._id, {}, {key: then}, waits=False))
        assert isinstance(outcome, list)
        assert outcome[0] == asked.Outcome.DONE

    def _write(self, request: list[bytes]) -> Reply:
        gathered = Gathered(1)
        self._node.coordinator.write(self._number, request, gathered, 0)
        self._world.run(self._world.now + 0.5)
        return gathered.replies[0]

    def let_go(self, *, commits: bool) -> None:
        assert self._write(asked.release_request(self._id, [self._key], commits=commits)) == 1


def held(world: World) -> list[tuple[str, bytes]]:
    """Node and key of all that is held, or written of decisions."""
    found: list[tuple[str, bytes]] = []
    for name, host in world.hosts.items():
        for slot in host.node.view.copies.cells if host.node is not None else ():
            for key, cell in (slot or {}).items():
                if isinstance(cell[1], Held) or (asked.is_record(key) and cell[1] is not None):
                    found.append((name, key))
    return found


@pytest.fixture
def world() -> World:
    return cluster(3)


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize(
    ("request_", "if_so", "if_not"),
    [
        ((b"GET", b"k"), b"theirs", b"1"),
        ((b"INCR", b"k"), "WRONG", 2),
        ((b"SET", b"k", b"2", b"GET"), b"theirs", b"1"),
        ((b"DEL", b"k"), 1, 1),
        ((b"MGET", b"k", b"none"), [b"theirs", None], [b"1", None]),
        ((b"RENAME", b"k", b"elsewhere"), "OK", "OK"),
        ((b"COPY", b"full", b"k"), 0, 0),
        ((b"FLUSHALL",), "OK", "OK"),
    ],
)
def test_whoever_comes_waits_and_sees_what_became_of_it(
    world: World, request_: tuple[bytes, ...], if_so: Reply, if_not: Reply, commits: bool
) -> None:
    assert ask(world, "db1", (b"MSET", b"k", b"1", b"full", b"x")) == ["OK"]
    holder = Holder(world, b"k", [(b"theirs", 0)])
    replies: list[Reply] = []
    connection = world.connect("db2")
    assert connection is not None
    connection.on_reply = replies.append
    connection.send(request_)
    world.run(world.now + 1.0)
    assert replies == []
    holder.let_go(commits=commits)
    world.run(world.now + 1.0)
    expected = if_so if commits else if_not
    assert len(replies) == 1
    assert replies == [expected] or (expected == "WRONG" and "not an integer" in str(replies[0]))
    world.run(world.now + 1.0)
    assert held(world) == []


def test_others_of_the_slot_do_not_wait(world: World) -> None:
    ask(world, "db1", (b"SET", b"{t}k", b"1"))
    holder = Holder(world, b"{t}k")
    requests = (b"SET", b"{t}other", b"x"), (b"GET", b"{t}other"), (b"MSET", b"{t}a", b"1", b"{t}b", b"2"), (b"MULTI",)
    assert ask(world, "db3", *requests, (b"APPEND", b"{t}other", b"y"), (b"EXEC",)) == [
        *("OK", b"x", "OK", "OK", "QUEUED"),
        [2],
    ]
    holder.let_go(commits=True)
    assert ask(world, "db2", (b"GET", b"{t}k")) == [b"1"]


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ((b"MOVE", b"k", b"1"), 0),
        ((b"COPY", b"k", b"k", b"DB", b"1"), 0),
        ((b"COPY", b"k", b"k", b"DB", b"1", b"REPLACE"), 1),
    ],
)
def test_a_key_that_is_not_among_the_arguments_is_not_written_over(
    world: World, request_: tuple[bytes, ...], reply: Reply
) -> None:
    """A command that takes a held key for one that is not there would undo what has been decided."""
    assert ask(world, "db1", (b"SET", b"k", b"1")) == ["OK"]
    holder = Holder(world, in_database(b"k", 1), [(b"theirs", 0)])
    replies: list[Reply] = []
    connection = world.connect("db2")
    assert connection is not None
    connection.on_reply = replies.append
    connection.send(request_)
    world.run(world.now + 1.0)
    assert replies == []
    holder.let_go(commits=True)
    world.run(world.now + 1.0)
    assert replies == [reply]
    expected = b"1" if reply else b"theirs"
    assert ask(world, "db3", (b"GET", b"k"), (b"SELECT", b"1"), (b"GET", b"k")) == [b"1", "OK", expected]
    assert held(world) == []


@pytest.mark.parametrize("other", [(b"PING",), (b"GET", b"far"), (b"SET", b"far", b"x"), (b"RENAME", b"far", b"away")])
@pytest.mark.parametrize(
    "moving", [(b"MOVE", b"k", b"1"), (b"COPY", b"k", b"k", b"DB", b"1"), (b"COPY", b"k", b"copy", b"DB", b"1")]
)
def test_all_that_a_transaction_writes_is_let_go(
    world: World, moving: tuple[bytes, ...], other: tuple[bytes, ...]
) -> None:
    """Also what is none of its commands' arguments: it would be held until somebody finds no decision, and be lost."""
    ask(world, "db1", (b"SADD", b"k", b"a", b"b"), (b"SET", b"far", b"y"))
    assert ask(world, "db2", (b"MULTI",), moving, other, (b"EXEC",))[-1] is not None
    world.run(world.now + 30.0)
    assert held(world) == []
    target = moving[2] if moving[0] == b"COPY" else b"k"
    replies = ask(world, "db3", (b"SELECT", b"1"), (b"SCARD", target))
    assert replies == ["OK", 2]


def test_who_is_gone_is_settled_for_and_nothing_of_it_is_left(world: World) -> None:
    """A coordinator that dies while it holds keys: they are as they were, within some hedges."""
    ask(world, "db2", (b"MSET", b"a", b"1", b"b", b"2"))
    for key in (b"a", b"b"):
        Holder(world, key, [(b"theirs", 0)])
    world.hosts["db1"].kill()
    world.run(world.now + 5.0)
    assert ask(world, "db2", (b"MGET", b"a", b"b"), (b"INCR", b"a")) == [[b"1", b"2"], 2]


def stopped_when_all_is_held(world: World) -> None:
    """db1 stands still before it decides; what db2 holds for it is settled, so it begins anew."""
    _stopped(world, 1, [1], [2, 1], b"ba")


def stopped_when_it_has_decided(world: World) -> None:
    """db1 stands still before it has anything let go; what db2 holds for it is settled as db3 has the decision."""
    _stopped(world, 2, [2], [1, 1], b"ab")


def _stopped(world: World, frames: int, other_is_told: list[Reply], is_told: list[Reply], ends: bytes) -> None:
    slot_of = node(world, "db1").view.slot_of
    keys = sorted([b"key:%d" % number for number in range(200)], key=slot_of)
    low = next(key for key in keys if _home(world, key) == "db2")
    high = next(key for key in reversed(keys) if _home(world, key) == "db3")
    replies: list[Reply] = []
    connection = world.connect("db1")
    assert connection is not None
    connection.on_reply = replies.append
    host = world.hosts["db1"]
    host.after_frames(frames, lambda: setattr(host, "paused", True))
    connection.send((b"MULTI",), (b"APPEND", low, b"a"), (b"APPEND", high, b"a"), (b"EXEC",))
    world.run(world.now + 0.1)
    other = node(world, "db2")
    cell = other.view.copies.cells[slot_of(low)][low]
    assert isinstance(cell[1], Held)
    other.operations.start(other.clock.now, other.settling._settle(cell[1].process, cell[1].ticket))
    assert ask(world, "db2", (b"APPEND", low, b"b")) == other_is_told
    host.resume()
    world.run(world.now + 2.0)
    assert replies[-1] == is_told
    assert ask(world, "db3", (b"MGET", low, high)) == [[ends, b"a"]]
    world.run(world.now + 12.0)
    assert held(world) == []


def _home(world: World, key: bytes) -> str:
    view = node(world, "db1").view
    home = view.targets[view.slot_of(key)]
    assert home is not None
    return home.name


@pytest.mark.parametrize("story", [stopped_when_all_is_held, stopped_when_it_has_decided])
def test_what_a_coordinator_that_stands_still_holds_is_settled(world: World, story: Callable[[World], None]) -> None:
    story(world)


@pytest.mark.parametrize("before", [(b"PING",), (b"SET", b"w", b"1")])
def test_who_had_to_wait_for_another_key_has_not_changed_the_one_that_it_watches(
    world: World, before: tuple[bytes, ...]
) -> None:
    """arq takes the nil of an EXEC for a job that is there already, and does not put it in."""
    ask(world, "db2", before)
    holder = Holder(world, b"busy")
    replies: list[Reply] = []
    connection = world.connect("db2")
    assert connection is not None
    connection.on_reply = replies.append
    connection.send((b"WATCH", b"w"), (b"MULTI",), (b"SET", b"w", b"2"), (b"INCR", b"busy"), (b"EXEC",))
    world.run(world.now + 0.5)
    holder.let_go(commits=False)
    world.run(world.now + 2.0)
    assert replies[-1] == ["OK", 1]
