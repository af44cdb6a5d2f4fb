"""A rolling upgrade over a change of wire version: old and new programs side by side, and nothing is lost."""

from __future__ import annotations

from peerkv.resp import Reply
from tests.sim.world import World

OLD, NEW = (2, 3), (3, 4)
KEYS = 50


def ask(world: World, name: str, *requests: tuple[bytes, ...]) -> list[Reply]:
    connection = world.connect(name)
    assert connection is not None
    replies: list[Reply] = []
    connection.on_reply = replies.append
    connection.send(*requests)
    world.run(world.now + 3.0)
    return replies


def spoken(world: World) -> dict[tuple[str, str], int]:
    """The wire version of the frames between each two, as each of them has it."""
    names = {host.node.process: name for name, host in world.hosts.items() if host.node is not None}
    return {
        (name, names[process]): peer.version
        for name, host in world.hosts.items()
        if host.node is not None
        for process, peer in host.node.view.peers.items()
        if peer.up
    }


def test_every_member_is_replaced_by_one_of_the_next_version() -> None:
    """From 2 to 3 to 3 to 4, one node after the other: those that differ speak 3, and all of them 4 in the end."""
    world = World(11)
    versions = dict.fromkeys(("master", "db1", "db2", "db3"), OLD)
    world.versions = OLD
    world.cluster(3)
    world.run(6.0)
    assert set(spoken(world).values()) == {3}
    keys = [b"k%d" % number for number in range(KEYS)]
    assert ask(world, "db1", *((b"SET", key, key) for key in keys)) == ["OK"] * KEYS
    for name in versions:
        host = world.hosts[name]
        assert host.node is not None
        host.kill()
        host.versions = versions[name] = NEW
        host.start()
        world.run(world.now + 15.0)
        expected = {
            (one, other): min(versions[one][1], versions[other][1])
            for one in versions
            for other in versions
            if one != other
        }
        assert spoken(world) == expected
        assert ask(world, "db1", *((b"GET", key) for key in keys)) == keys
    assert set(spoken(world).values()) == {4}
