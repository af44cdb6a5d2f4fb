"""Whole nodes under the simulated network: who is held alive, by whom, and how soon."""

from __future__ import annotations

import pytest

from peerkv.gossip.member import Liveness
from tests.sim.world import World


def views(world: World, name: str) -> set[Liveness]:
    """How the living hold a member."""
    return {
        host.node.swim.members[name].liveness
        for other, host in world.hosts.items()
        if host.node is not None and other != name
    }


@pytest.fixture
def world() -> World:
    running = World(7)
    running.cluster(3)
    running.run(5.0)
    return running


def test_everybody_meets_everybody_through_the_master(world: World) -> None:
    for host in world.hosts.values():
        assert host.node is not None
        assert set(host.node.swim.members) == set(world.hosts)
        assert host.node.ready
    assert all(views(world, name) == {Liveness.ALIVE} for name in world.hosts)


def test_a_dead_member_is_found_out_and_a_quiet_network_accuses_nobody(world: World) -> None:
    world.run(60.0)
    assert all(views(world, name) == {Liveness.ALIVE} for name in world.hosts)
    world.hosts["db2"].kill()
    world.run(62.0)
    assert views(world, "db2") <= {Liveness.SUSPECT, Liveness.DOWN}
    world.run(90.0)
    assert views(world, "db2") == {Liveness.DOWN}


def test_the_master_is_not_needed(world: World) -> None:
    world.hosts["master"].kill()
    world.run(40.0)
    assert views(world, "master") == {Liveness.DOWN}
    for name in ("db1", "db2", "db3"):
        assert views(world, name) == {Liveness.ALIVE}
        node = world.hosts[name].node
        assert node is not None
        assert node.ready


def test_moderate_loss_convicts_nobody(world: World) -> None:
    world.loss = 0.15
    world.run(120.0)
    for name in world.hosts:
        assert Liveness.DOWN not in views(world, name)


def test_a_long_cut_heals(world: World) -> None:
    others = [name for name in world.hosts if name != "db3"]
    world.cuts |= {("db3", other) for other in others} | {(other, "db3") for other in others}
    world.run(65.0)
    assert views(world, "db3") == {Liveness.DOWN}
    world.heal()
    world.run(100.0)
    assert all(views(world, name) == {Liveness.ALIVE} for name in world.hosts)


def test_a_restart_is_another_life_of_the_name(world: World) -> None:
    host = world.hosts["db1"]
    assert host.node is not None
    first = host.node.process
    host.kill()
    world.run(world.now + 0.5)
    host.start()
    world.run(world.now + 8.0)
    assert host.node is not None
    assert host.node.process != first
    assert views(world, "db1") == {Liveness.ALIVE}
    assert host.node.view.topology is not None
    assert host.node.process in host.node.view.topology.by_process


def test_a_node_that_stood_still_accuses_nobody(world: World) -> None:
    host = world.hosts["db1"]
    host.paused = True
    world.run(world.now + 20.0)
    host.resume()
    world.run(world.now + 15.0)
    assert all(views(world, name) == {Liveness.ALIVE} for name in world.hosts)


def test_news_after_a_long_silence_is_no_stall(world: World) -> None:
    world.run(60.0)
    host = world.hosts["db1"]
    assert host.node is not None
    swim, now = host.node.swim, host.local()
    swim.update(load=1)
    swim.take(now)
    swim.wake(now + 0.001)
    assert [text for _, text in swim.take(now).log if "did not run" in text] == []


def test_datagrams_fit_a_packet() -> None:
    world = World(3)
    sizes: list[int] = []
    send = world.datagram

    def measured(source: object, address: tuple[str, int], payload: bytes) -> None:
        sizes.append(len(payload))
        send(source, address, payload)  # type: ignore[arg-type]

    world.datagram = measured  # type: ignore[method-assign, assignment]
    world.cluster(12)
    world.run(10.0)
    assert sizes
    assert max(sizes) <= 1232
