"""The rules of SWIM and Lifeguard, one by one; and whole nodes, where these matter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerkv.gossip.health import SCORE_MAX, Health, suspicion
from peerkv.gossip.member import Claim, Liveness, MemberChanged, MemberDown, MemberLeft, MemberSuspect, MemberUp
from peerkv.gossip.messages import Datagram, Gossip, Nack, Ping, PingRequest
from peerkv.settings import GossipSettings
from tests.gossip.engines import HOST, Engine, Town
from tests.sim.world import World

ALIVE, SUSPECT, DOWN, LEFT = Liveness
KNOBS = GossipSettings()


def views(town: Town, name: str) -> set[Liveness]:
    """How the others hold a member, of those that run."""
    held = [engine.holds(name) for engine in town.engines.values() if engine.running and engine.swim.me.name != name]
    return {liveness for found in held if found is not None for liveness in [found[1]]}


def said(town: Town, engine: Engine, kind: type) -> list[Datagram]:
    """What it has sent of that kind."""
    return [message for port, _, message in town.sent if port == engine.port and isinstance(message.body, kind)]


def accuse(town: Town, target: Engine, accused: Engine, by: Engine, liveness: Liveness = SUSPECT) -> None:
    claim = Claim(replace(accused.swim.me, liveness=liveness), by.swim.me.name)
    town.forge(target, by.swim.me.name, by.swim.me.process, Gossip(), claim, source=by.address)


def test_in_a_quiet_network_everybody_is_pinged_in_turn_and_nobody_accused() -> None:
    """Each of four others once in two seconds, in an order that is shuffled after every round."""
    town = Town()
    first, *_ = town.members(5)
    del town.sent[:]
    town.run(60.0)
    pinged = [message.to for message in said(town, first, Ping)]
    assert len(pinged) == 120
    others = {member.process for member in first.swim.members.values()} - {first.swim.me.process}
    windows = [tuple(pinged[at : at + 7]) for at in range(len(pinged) - 6)]
    assert all(set(window) == others for window in windows)
    assert len(set(windows)) > len(windows) // 2
    assert all(views(town, f"db{number}") == {ALIVE} for number in range(1, 6))
    assert not any(isinstance(event, MemberSuspect) for engine in town.engines.values() for event in engine.events)


def test_who_does_not_answer_is_pinged_through_three_others_and_by_a_stream() -> None:
    """A path of datagrams that is broken between two nodes alone accuses nobody."""
    town = Town()
    first, second, *_ = town.members(6)
    town.run(1.0)
    town.cut(first, second)
    town.run(10.0)
    helpers = {message.to for message in said(town, first, PingRequest)}
    assert len(helpers) >= KNOBS.indirect_probes
    assert (first.port, second.address) in town.asked
    assert views(town, "db2") == {ALIVE}


def test_who_is_asked_to_ping_and_hears_nothing_says_so() -> None:
    """So who asked knows that the fault is not on its own side (Lifeguard): its health stays as it is."""
    town = Town()
    first, second, third, _ = town.members(4)
    town.run(3.0)
    second.kill()
    del town.sent[:]
    town.run(2.0)
    assert said(town, third, Nack) or said(town, first, Nack)
    assert first.swim.health.score == 0


def test_a_suspect_hears_of_it_and_contradicts() -> None:
    town = Town()
    first, second, third, _ = town.members(4)
    incarnation = second.swim.me.incarnation
    accuse(town, first, second, by=third)
    assert first.holds("db2") == (second.swim.me.process, SUSPECT)
    town.run(1.5)
    assert second.swim.me.incarnation == incarnation + 1
    assert views(town, "db2") == {ALIVE}
    assert second.swim.health.score <= 1


def test_a_ping_to_a_suspect_tells_it_what_it_is_accused_of() -> None:
    """Lifeguard's buddy system: it is the first to know."""
    town = Town()
    first, second, *_ = town.members(4)
    town.cut(second, *[engine for engine in town.engines.values() if engine is not second])
    while first.holds("db2") != (second.swim.me.process, SUSPECT):
        town.run(0.1)
    del town.sent[:]
    town.run(2.0)
    pings = [message for message in said(town, first, Ping) if message.to == second.swim.me.process]
    assert pings
    told = [claim.member for message in pings for claim in message.claims if claim.member.name == "db2"]
    assert {member.liveness for member in told} <= {SUSPECT, DOWN}
    assert told


def test_a_dead_member_is_found_out() -> None:
    town = Town()
    _, second, *_ = town.members(4)
    second.kill()
    town.run(1.5)
    assert views(town, "db2") <= {ALIVE, SUSPECT}
    town.run(6.0)
    assert views(town, "db2") == {DOWN}
    first = town.engines[1]
    kinds = [
        type(event) for event in first.events if not isinstance(event, MemberChanged) and event.member.name == "db2"
    ]
    assert kinds == [MemberUp, MemberSuspect, MemberDown]


def test_each_accuser_more_shortens_a_suspicion() -> None:
    """The longest time for one accuser, the shortest for three; who repeats itself counts once."""
    suspected = suspicion(100.0, 10, 0.5, 4, 6, "db1")
    shortest = 4 * 0.5
    assert suspected.ends_at == 100.0 + 6 * shortest
    assert not suspected.confirm("db1")
    assert suspected.confirm("db2")
    halfway = suspected.ends_at
    assert 100.0 + shortest < halfway < 100.0 + 6 * shortest
    assert suspected.confirm("db3")
    assert suspected.ends_at == 100.0 + shortest
    assert not suspected.confirm("db4")


def test_among_two_nobody_can_confirm_and_among_three_one_can() -> None:
    """memberlist asks for no confirmation among three, so that one that is ill declares both others dead."""
    alone = suspicion(0.0, 2, 0.5, 4, 6, "db1")
    assert alone.ends_at == 2.0
    assert suspicion(0.0, 3, 0.5, 4, 6, "db1").ends_at == 12.0


def test_health_is_between_nothing_and_its_worst() -> None:
    health = Health()
    health.better()
    assert health.score == 0
    health.worse(100)
    assert health.score == SCORE_MAX


def test_a_node_that_is_ill_probes_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town()
    first, *_ = town.members(4)
    monkeypatch.setattr(Health, "better", lambda _health: None)
    first.swim.health.worse(3)
    del town.sent[:]
    town.run(20.0)
    assert 8 <= len(said(town, first, Ping)) <= 11


def test_hearsay_over_a_stream_convicts_nobody() -> None:
    """Two halves of a split hold each other for dead; when they meet again, neither believes it of its own."""
    town = Town()
    one, two, three, four = town.members(4)
    for engine in (one, two):
        town.cut(engine, three, four)
    town.run(15.0)
    assert one.holds("db3") == (three.swim.me.process, DOWN)
    assert three.holds("db2") == (two.swim.me.process, DOWN)
    marks = [len(engine.events) for engine in (one, two, three, four)]
    town.cuts.clear()
    town.run(25.0)
    assert all(views(town, f"db{number}") == {ALIVE} for number in range(1, 5))
    for engine, mark in zip((one, two, three, four), marks, strict=True):
        assert not any(isinstance(event, MemberDown) for event in engine.events[mark:])


def test_moderate_loss_convicts_nobody() -> None:
    town = Town()
    town.members(5)
    town.loss = 0.15
    town.run(120.0)
    assert not any(isinstance(event, MemberDown) for engine in town.engines.values() for event in engine.events)


def test_a_node_that_stood_still_accuses_nobody() -> None:
    town = Town()
    first, *_ = town.members(3)
    first.paused = True
    town.run(20.0)
    assert views(town, "db1") == {DOWN}
    mark = len(first.events)
    first.resume()
    town.run(15.0)
    assert all(views(town, f"db{number}") == {ALIVE} for number in range(1, 4))
    assert not any(isinstance(event, (MemberDown, MemberSuspect)) for event in first.events[mark:])
    assert any("did not run for" in text for text in first.log)


def test_who_hears_nobody_at_all_keeps_its_verdicts_to_itself() -> None:
    """It is the one that is cut off: what it holds for dead is looked at again with the first sign of anybody."""
    town = Town()
    first, second, third = town.members(3)
    town.cut(first, second, third)
    del town.sent[:]
    town.run(30.0)
    assert first.holds("db2") == (second.swim.me.process, DOWN)
    town.cuts.clear()
    town.run(15.0)
    assert all(views(town, f"db{number}") == {ALIVE} for number in range(1, 4))
    assert third.holds("db2") == (second.swim.me.process, ALIVE)
    assert not [event for event in third.events if isinstance(event, MemberDown) and event.member.name == "db2"]


def test_a_link_that_broke_has_its_member_looked_at_at_once() -> None:
    town = Town()
    first, second, *_ = town.members(4)
    town.run(0.6)
    second.kill()
    first.input(lambda: first.swim.link_lost(town.now, "db2"))
    town.run(KNOBS.probe_timeout + 0.01)
    assert first.holds("db2") == (second.swim.me.process, SUSPECT)


def test_bytes_over_a_link_are_as_good_as_an_answer() -> None:
    town = Town()
    first, second, *others = town.members(4)
    town.cut(second, first, *others)
    for _ in range(100):
        town.run(0.1)
        for engine in (first, *others):
            engine.input(lambda engine=engine: engine.swim.heard(town.now, "db2", second.swim.me.process))  # type: ignore[misc]
    assert not any(isinstance(event, MemberSuspect) for event in first.events)


def test_who_says_goodbye_has_left_at_once_and_everywhere() -> None:
    town = Town()
    first, second, *_ = town.members(4)
    second.input(second.swim.leave)
    town.run(0.1)
    assert views(town, "db2") == {LEFT}
    assert isinstance(first.events[-1], MemberLeft)


def test_who_was_given_up_and_is_heard_again_begins_anew() -> None:
    """As it was agreed that this life is over, it goes on as another one."""
    town = Town()
    first, second, third, _ = town.members(4)
    life = second.swim.me.life
    accuse(town, first, second, by=third, liveness=LEFT)
    assert first.holds("db2") == (second.swim.me.process, LEFT)
    town.run(5.0)
    assert second.swim.me.generation == life[0] + 1
    assert views(town, "db2") == {ALIVE}


def test_who_left_is_forgotten_after_a_while_and_does_not_come_back_by_hearsay() -> None:
    """Not even from one that stood still all the while, and holds it alive."""
    town = Town()
    first, second, third, fourth = town.members(4)
    fourth.paused = True
    second.input(second.swim.leave)
    second.kill()
    town.run(KNOBS.forget_left_after + 30.0)
    assert first.holds("db2") is third.holds("db2") is None
    del first.events[:]
    fourth.missed.clear()
    fourth.resume()
    assert fourth.holds("db2") == (second.swim.me.process, ALIVE)
    town.run(30.0)
    assert first.holds("db4") == (fourth.swim.me.process, ALIVE)
    assert first.holds("db2") is None
    assert not [event for event in first.events if event.member.name == "db2"]  # type: ignore[union-attr]


def test_who_is_down_and_owns_nothing_is_shown_for_a_while() -> None:
    """A container that was killed and replaced by one of another name would be shown for a day."""
    town = Town()
    first, second, _ = town.members(3)
    second.kill()
    town.run(60.0)
    assert {member.name for member in first.swim.shown(town.now, ())} == {"db1", "db2", "db3"}
    town.run(KNOBS.forget_left_after)
    assert {member.name for member in first.swim.shown(town.now, ())} == {"db1", "db3"}
    assert {member.name for member in first.swim.shown(town.now, [second.swim.me.process])} == {"db1", "db2", "db3"}
    assert "db2" in first.swim.members


def test_what_is_said_of_oneself_reaches_everybody() -> None:
    town = Town()
    *_, last = town.members(6)
    last.input(lambda: last.swim.update(epoch=7))
    town.run(1.0)
    assert {engine.swim.members["db6"].epoch for engine in town.engines.values()} == {7}


def test_news_after_a_long_silence_is_no_stall() -> None:
    town = Town()
    first, *_ = town.members(3)
    town.run(60.0)
    first.swim.update(load=1)
    first.swim.take(town.now)
    first.swim.wake(town.now + 0.001)
    assert [text for _, text in first.swim.take(town.now).log if "did not run" in text] == []


def test_an_answer_of_a_stream_counts_and_lost_datagrams_are_told_of() -> None:
    """Where a firewall lets no UDP through, the cluster lives all the same, and says so."""
    town = Town()
    first, _ = town.members(2)
    town.loss = 1.0
    town.run(20.0)
    assert views(town, "db2") == {ALIVE}
    assert any("is UDP let through?" in text for text in first.log)


def test_a_node_that_was_not_told_its_address_learns_it() -> None:
    town = Town()
    first, _ = town.members(2)
    late = town.start("db9", 9, 1, host="")
    town.run(3.0)
    assert late.swim.me.host == HOST
    assert first.swim.members["db9"].address == (HOST, 9)


def test_datagrams_fit_a_packet() -> None:
    town = Town()
    sizes: list[int] = []
    send = town.datagram
    town.datagram = lambda sender, address, payload: (sizes.append(len(payload)), send(sender, address, payload))  # type: ignore[method-assign, assignment, func-returns-value]
    town.members(14)
    assert max(sizes) <= KNOBS.datagram_bytes_max
    assert max(sizes) > KNOBS.datagram_bytes_max // 2


# Whole nodes


def test_everybody_meets_everybody_through_the_master_which_is_not_needed_then() -> None:
    world = World(7)
    world.cluster(3)
    world.run(5.0)
    nodes = [host.node for host in world.hosts.values() if host.node is not None]
    for node in nodes:
        assert set(node.gossip.members) == set(world.hosts)
        assert node.ready
    world.hosts["master"].kill()
    world.run(20.0)
    for host in world.hosts.values():
        if host.node is not None:
            assert host.node.gossip.members["master"].liveness is DOWN
            assert host.node.ready


def test_a_restart_is_another_life_of_the_name() -> None:
    world = World(7)
    world.cluster(3)
    world.run(5.0)
    host = world.hosts["db1"]
    assert host.node is not None
    first = host.node.process
    host.kill()
    world.run(world.now + 0.5)
    host.start()
    world.run(world.now + 8.0)
    assert host.node is not None
    assert host.node.process != first
    assert host.node.view.topology is not None
    assert host.node.process in host.node.view.topology.by_process
