"""Rules of docs/protocol.md that show on whole nodes, in a simulated world."""

from __future__ import annotations

import pytest

from peerkv.node import Node
from peerkv.resp import Reply
from peerkv.ring.topology import Topology
from tests.sim.world import Host, World

FORGET_AFTER_S = 5.0


def cluster(data: int) -> World:
    world = World(7, 256)
    world.forget_after = FORGET_AFTER_S
    world.cluster(data)
    world.run(4.0)
    return world


def node(world: World, name: str) -> Node:
    running = world.hosts[name].node
    assert running is not None, f"{name} runs"
    return running


def topology(world: World, name: str) -> Topology:
    known = node(world, name).topology
    assert known is not None, f"{name} has met the cluster"
    return known


def names(world: World, name: str) -> list[str]:
    return [member.name for member in topology(world, name).members]


def ask(world: World, name: str, *requests: tuple[bytes, ...], within: float = 1.0) -> list[Reply]:
    connection = world.connect(name)
    assert connection is not None, f"{name} listens"
    replies: list[Reply] = []
    connection.on_reply = replies.append
    connection.send(*requests)
    world.run(world.now + within)
    return replies


def cut_off(world: World, *few: str) -> None:
    """These are cut off from all others."""
    rest = [name for name in world.hosts if name not in few]
    world.cuts |= {pair for one in few for other in rest for pair in ((one, other), (other, one))}


KEYS = [b"key:%d" % number for number in range(40)]


def test_e3_who_is_no_member_coordinates_and_owns_nothing() -> None:
    """A process that has restarted has lost its memory: it must not vote with nothing where it had something."""
    world = cluster(3)
    ask(world, "db1", *((b"SET", key, b"v") for key in KEYS))
    number = node(world, "db2").view.me.number
    world.hosts["db2"].kill()
    world.hosts["db2"].start()
    while node(world, "db2").topology is None:
        world.run(world.now + 0.01)
    again = node(world, "db2")
    assert again.view.me.number == 0
    assert not any(again.view.slots)
    asked = ask(world, "db2", *((b"GET", key) for key in KEYS), within=0.4)
    assert asked == [b"v"] * len(KEYS)
    world.run(world.now + 15.0)
    assert again.view.me.number not in (0, number)
    assert names(world, "db1") == names(world, "db2")


def test_e4_a_minority_removes_nobody() -> None:
    """It would go on with what it believes, and the majority, too."""
    world = cluster(5)
    before = topology(world, "db1")
    cut_off(world, "db1", "db2")
    world.run(world.now + 4 * FORGET_AFTER_S)
    assert topology(world, "db1") == topology(world, "db2") == before
    (reply,) = ask(world, "db1", (b"SET", b"k", b"v"), within=12.0)
    assert str(reply).find("NOQUORUM") >= 0 or str(reply).find("UNCERTAIN") >= 0


def test_e8_who_was_removed_drops_its_copies_and_comes_back_under_another_number() -> None:
    """What it holds is of a history that went on without it."""
    world = cluster(4)
    ask(world, "db1", *((b"SET", key, b"old") for key in KEYS))
    number = node(world, "db1").view.me.number
    cut_off(world, "db1")
    world.run(world.now + 4 * FORGET_AFTER_S)
    assert any(node(world, "db1").view.slots)
    assert names(world, "db2") == ["db2", "db3", "db4"]
    ask(world, "db2", *((b"SET", key, b"new") for key in KEYS))
    world.heal()
    world.run(world.now + 30.0)
    assert node(world, "db1").view.me.number > number
    assert "db1" in names(world, "db2")
    assert ask(world, "db1", *((b"GET", key) for key in KEYS)) == [b"new"] * len(KEYS)


@pytest.mark.parametrize("dead", [["master"], ["master", "db1"], ["db1"]])
def test_e7_whoever_lives_proposes(dead: list[str]) -> None:
    """The master and the first member are nothing without which a cluster does not change."""
    world = cluster(4)
    for name in dead:
        world.hosts[name].kill()
    world.run(world.now + 6 * FORGET_AFTER_S)
    assert names(world, "db3") == [name for name in ("db1", "db2", "db3", "db4") if name not in dead]


def test_e9_who_leaves_goes_once_it_is_no_member_any_more() -> None:
    world = cluster(4)
    ask(world, "db1", *((b"SET", key, b"v") for key in KEYS))
    leaving: Host = world.hosts["db2"]
    leaving.input(node(world, "db2").drain)
    while leaving.node is not None:
        assert world.now < 60.0, "db2 does not go"
        world.run(world.now + 0.1)
    assert leaving.left
    assert names(world, "db1") == ["db1", "db3", "db4"]
    assert ask(world, "db3", *((b"GET", key) for key in KEYS)) == [b"v"] * len(KEYS)


def test_e9_who_leaves_waits_for_those_that_are_merely_out_of_sight() -> None:
    """A node that was cut off while it left thought that nobody was there to take its share (seed 1004)."""
    world = cluster(4)
    cut_off(world, "db2")
    world.run(world.now + 2.0)
    world.hosts["db2"].input(node(world, "db2").drain)
    world.run(world.now + 2.0)
    assert not node(world, "db2").steward.drained
    world.heal()
    world.run(world.now + 40.0)
    assert world.hosts["db2"].left
    assert names(world, "db1") == ["db1", "db3", "db4"]
