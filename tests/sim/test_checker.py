"""The state checker on nodes that go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peerkv.agreement.replica import Replica
from peerkv.node import Node
from peerkv.store.cell import first_position, make_ballot
from tests.sim.checker import Checked, History, Violation
from tests.sim.world import Host, World

AT = first_position(make_ballot(1, 1)) + 1


@pytest.fixture
def world() -> World:
    world = World(1)
    world.cluster(3)
    world.run(4.0)
    return world


def _write(world: World, count: int = 40) -> None:
    connection = world.connect("db1")
    assert connection is not None
    connection.send(*((b"SET", b"key:%d" % number, b"value") for number in range(count)))
    world.run(world.now + 3.0)


def _node(host: Host) -> Node:
    assert host.node is not None
    return host.node


def test_a_healthy_cluster_has_one_history(world: World) -> None:
    _write(world)
    assert len(world.history) >= 40


@pytest.mark.parametrize(
    "wrong",
    [
        lambda columns: columns.__setitem__(3, [b"other" for _ in columns[3]]),
        lambda columns: columns.__setitem__(2, [b"k" + key for key in columns[2]]),
        lambda columns: columns.__setitem__(4, [deadline + 1 for deadline in columns[4]]),
    ],
    ids=["value", "key", "deadline"],
)
def test_a_copy_that_differs_is_found_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[list[Any]], None]
) -> None:
    """Position, versions and so digests are the same: a client might read it hours later, or never."""
    whole = Replica.accept

    def accept(self: Replica, home: Any, turn: int, accepts: Any) -> None:
        if self.view.me.name == "db2":
            for process, columns in accepts.segments:
                if process:
                    wrong(columns)
        whole(self, home, turn, accepts)

    monkeypatch.setattr(Replica, "accept", accept)
    with pytest.raises(Violation, match="has"):
        _write(world)


def test_what_is_fetched_is_what_was_written() -> None:
    history = History()
    history.change("one", 1, 5, AT, [(b"k", b"v", 0)])
    history.cell("other", 1, 5, AT, (b"k", b"v", 0))
    with pytest.raises(Violation):
        history.cell("other", 1, 5, AT, (b"k", b"w", 0))


def test_another_cluster_has_another_history() -> None:
    history = History()
    history.change("one", 1, 5, AT, [(b"k", b"v", 0)])
    history.change("one", 2, 5, AT, [(b"k", b"w", 0)])


def test_a_change_of_nothing_is_a_change() -> None:
    history = History()
    history.change("one", 1, 5, AT, [])
    with pytest.raises(Violation):
        history.change("other", 1, 5, AT, [(b"k", b"v", 0)])


def test_a_promise_never_falls() -> None:
    copies = Checked(History(), "one").copies(8)
    slot = copies.add(3)
    slot.promised = make_ballot(2, 1)
    with pytest.raises(Violation, match="promise"):
        slot.promised = make_ballot(1, 2)


def test_a_cell_is_written_at_a_position() -> None:
    copies = Checked(History(), "one").copies(8)
    slot = copies.add(3)
    with pytest.raises(Violation, match="position"):
        slot.cells[b"k"] = (AT, b"v", 0)


def test_only_tombstones_are_purged() -> None:
    copies = Checked(History(), "one").copies(8)
    slot = copies.add(3)
    slot.promised = make_ballot(1, 1)
    slot.apply(AT, [(b"k", b"v", 0)])
    with pytest.raises(Violation, match="tombstone"):
        del slot.cells[b"k"]


@pytest.mark.parametrize("what", ["ballot", "promise", "version", "tombstone"])
def test_what_must_hold_between_turns(world: World, what: str) -> None:
    _write(world)
    host = world.hosts["db1"]
    node = _node(host)
    number, home = next((number, home) for number, home in node.home.homes.items() if home.slot.cells)
    key = next(iter(home.slot.cells))
    match what:
        case "ballot":
            home.ballot += 1
        case "promise":
            list.__setitem__(node.view.copies.promised, number, 1)
        case "version":
            list.__setitem__(node.view.copies.positions, number, AT - 1)
        case _:
            home.slot.tombstones[key] = AT
    with pytest.raises(Violation):
        world.run(world.now + 3.0)
