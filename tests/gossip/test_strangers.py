"""What somebody who is no member can do to a node: nothing, and not at its cost."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerkv import wire
from peerkv.gossip.exchanges import COMPLAINT_INTERVAL_S, COMPLAINTS_MAX
from peerkv.gossip.member import PROTOCOL_VERSIONS, Claim, Liveness, Member, MemberDown
from peerkv.gossip.membership import INCARNATIONS_MAX
from peerkv.gossip.messages import (
    Ack,
    Admission,
    Contest,
    Datagram,
    ExchangeRequest,
    Gossip,
    Nack,
    Ping,
    PingRequest,
    Purpose,
)
from peerkv.node import Node
from peerkv.settings import Settings
from tests.gossip.engines import HOST, Engine, Town

STRANGER = ("10.9.9.9", 666)
LARGEST = (1 << 63) - 1
ALIVE = Liveness.ALIVE


def test_a_datagram_of_more_than_a_packet_is_dropped_unread() -> None:
    """65,000 bytes of one datagram cost what 65,000 bytes of CBOR cost."""
    node = Node(Settings(), random.Random(1), 0.0, 1e9)
    payload = wire.encode_datagram("other", PROTOCOL_VERSIONS[1], Datagram("x" * 60, 1, 0, 0, node.process, Gossip()))
    node.datagram(0.0, STRANGER, payload + bytes(1233 - len(payload)))
    node.datagram(0.0, ("10.9.9.8", 666), payload)
    too_long, foreign = [text for level, text in node.take(0.0).log if level == "warning"]
    assert "a datagram of 1233 bytes; 1232 are allowed" in too_long
    assert "belongs to cluster 'other'" in foreign


def test_a_number_beyond_63_bits_is_refused() -> None:
    claim = Claim(Member("db1", 1, 1 << 63, host=HOST, peer_port=1))
    payload = wire.encode_datagram("peerkv", PROTOCOL_VERSIONS[1], Datagram("db2", 2, 0, 0, 1, Gossip(), (claim,)))
    assert isinstance(wire.decode_datagram("peerkv", (3, 3), payload), wire.Refusal)


def state(engine: Engine) -> tuple[object, ...]:
    """What a stranger must not change."""
    swim = engine.swim
    return dict(swim.members), swim.me, swim.health.score, list(engine.events), engine.gave_way


NUMBERS = st.integers(0, 4) | st.integers(0, LARGEST) | st.just(LARGEST)
NAMES = st.sampled_from(["db1", "db2", "db3", "stranger"])


@st.composite
def claims(draw: st.DrawFn, members: dict[str, Member]) -> Claim:
    """Of a member as it is held but for some fields, or of nobody."""
    member = members.get(draw(NAMES)) or Member("stranger", draw(NUMBERS), draw(NUMBERS))
    changes = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "process": NUMBERS,
                "generation": NUMBERS,
                "incarnation": NUMBERS,
                "liveness": st.sampled_from(Liveness),
                "host": st.sampled_from(["", HOST, "10.9.9.9"]),
                "peer_port": st.integers(0, 65535),
                "epoch": NUMBERS,
                "cluster_id": NUMBERS,
                "leaving": st.booleans(),
            },
        )
    )
    return Claim(replace(member, **changes), draw(NAMES), draw(st.integers(0, 100)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_datagram_of_a_stranger_changes_anything_or_is_answered(data: st.DataObject) -> None:
    """Whatever it says of whom, whoever it says it is, and though it knows the lives of all members: membership, events
    and the node itself stay as they are. A contest is asked back, by a stream; nothing answers at that address."""
    town = Town()
    first, second, _ = town.members(3)
    members = dict(first.swim.members)
    lives = {member.process for member in members.values()}
    before, sent = state(first), len(town.sent)
    for _ in range(data.draw(st.integers(1, 4))):
        body = data.draw(
            st.one_of(
                st.builds(Ping, NUMBERS),
                st.builds(Ack, NUMBERS, st.sampled_from(["", "10.9.9.9"])),
                st.builds(PingRequest, NUMBERS, st.sampled_from(sorted(lives))),
                st.builds(Nack, NUMBERS),
                st.just(Contest()),
                st.just(Gossip()),
            )
        )
        told = data.draw(st.lists(claims(members), max_size=4))
        town.forge(
            first,
            data.draw(NAMES),
            data.draw(NUMBERS.filter(lambda process: process not in lives)),
            body,
            *told,
            to=data.draw(st.sampled_from([first.swim.me.process, second.swim.me.process, 0])),
            cluster_id=data.draw(st.sampled_from([0, 77])),
            view=data.draw(NUMBERS),
            source=STRANGER,
        )
    assert len(town.sent) == sent
    assert state(first) == before
    town.run(3.0)
    assert state(first) == before
    assert {address for _, address, _ in town.sent} <= {(HOST, port) for port in (1, 2, 3)}


def test_a_stranger_that_asks_becomes_a_member_only_where_it_answers() -> None:
    town = Town()
    first, second, _ = town.members(3)
    ghost = Claim(Member("db9", 99, 1 << 50, host=HOST, peer_port=9))
    answer = first.swim.request(town.now, (HOST, 1), ExchangeRequest(Purpose.SYNC, ghost, 0))
    assert answer.admission is Admission.WELCOME
    town.run(5.0)
    assert first.holds("db9") is None
    real = town.start("db9", 9, 1)
    town.run(3.0)
    assert first.holds("db9") == second.holds("db9") == (real.swim.me.process, ALIVE)


def test_what_a_stranger_says_of_others_over_a_stream_is_not_read() -> None:
    town = Town()
    first, second, third = town.members(3)
    before = state(first)
    down = Claim(replace(second.swim.me, liveness=Liveness.LEFT), "db3")
    later = Claim(replace(third.swim.me, process=7, generation=LARGEST, peer_port=9))
    ghost = Claim(Member("db9", 99, 1 << 50, host=HOST, peer_port=9))
    first.swim.request(town.now, (HOST, 1), ExchangeRequest(Purpose.SYNC, ghost, 0, (down, later)))
    town.run(5.0)
    assert state(first) == before


@pytest.mark.parametrize(
    "change",
    [
        {"incarnation": LARGEST, "liveness": Liveness.LEFT},
        {"incarnation": LARGEST, "liveness": Liveness.DOWN},
        {"incarnation": LARGEST, "liveness": Liveness.SUSPECT},
        {"incarnation": LARGEST, "leaving": True},
        {"incarnation": INCARNATIONS_MAX + 1, "peer_port": 9},
        {"incarnation": 5, "peer_port": 9},
        {"generation": LARGEST, "peer_port": 9},
        {"generation": LARGEST, "liveness": Liveness.LEFT},
        {"process": 5, "generation": LARGEST},
        {"process": 5, "generation": LARGEST, "peer_port": 9},
    ],
    ids=str,
)
def test_not_even_a_member_is_believed_what_it_cannot_know(change: dict[str, object]) -> None:
    """A claim with incarnation or generation 2^64-1 had a healthy member removed."""
    town = Town()
    first, second, third = town.members(3)
    claim = Claim(replace(second.swim.me, **change), "db3")  # type: ignore[arg-type]
    for target in (first, second):
        town.forge(target, "db3", third.swim.me.process, Gossip(), claim, source=third.address)
    town.run(10.0)
    for engine in (first, third):
        assert engine.holds("db2") == (second.swim.me.process, ALIVE)
        assert engine.swim.members["db2"].address == second.address
    assert not second.gave_way
    assert second.swim.me.generation < 1 << 62
    assert second.swim.me.incarnation < 10 * INCARNATIONS_MAX


def test_a_member_moves_only_where_it_answers() -> None:
    town = Town()
    first, second, third = town.members(3)
    moved = Claim(replace(second.swim.me, incarnation=1, peer_port=9))
    town.forge(first, "db3", third.swim.me.process, Gossip(), moved, source=third.address)
    town.run(0.1)
    assert first.swim.members["db2"].address == second.address


def test_what_members_forge_within_bounds_is_contradicted() -> None:
    town = Town()
    first, second, third = town.members(3)
    leaving = Claim(replace(second.swim.me, incarnation=5, leaving=True))
    town.forge(first, "db3", third.swim.me.process, Gossip(), leaving, source=third.address)
    assert first.swim.members["db2"].leaving
    town.run(2.0)
    assert not first.swim.members["db2"].leaving
    assert first.holds("db2") == (second.swim.me.process, ALIVE)


def test_a_member_is_pinged_for_others_at_the_address_that_we_know() -> None:
    town = Town()
    first, second, third = town.members(3)
    del town.sent[:]
    town.forge(first, "db3", third.swim.me.process, PingRequest(7, second.swim.me.process), source=third.address)
    town.forge(first, "db3", third.swim.me.process, PingRequest(8, 12345), source=third.address)
    pings = [address for port, address, message in town.sent if port == 1 and isinstance(message.body, Ping)]
    assert pings == [second.address]


def test_a_newcomer_that_then_belongs_to_another_cluster_is_no_member_any_more() -> None:
    """Who was given a dead member's address was met before it had joined its own cluster, and stayed in `status`."""
    town = Town()
    first, second = town.members(2)
    for engine in (first, second):
        engine.input(lambda engine=engine: engine.swim.update(cluster_id=5))  # type: ignore[misc]
    guest = town.start("y3", 9, 1)
    town.run(3.0)
    assert first.holds("y3") == second.holds("y3") == (guest.swim.me.process, ALIVE)
    guest.input(lambda: guest.swim.update(cluster_id=7))
    town.run(10.0)
    assert first.holds("y3") is second.holds("y3") is guest.holds("db1") is None
    assert isinstance(first.events[-1], MemberDown)
    assert any("y3: belongs to another cluster of the same name (id 7; ours is 5)" in text for text in first.log)


def test_strangers_have_few_lines_of_the_log() -> None:
    """Each with a host and a reason of its own: they would fill a disk."""
    town = Town()
    first, *_ = town.members(2)
    del first.log[:]
    for number in range(1000):
        source = (f"10.1.{number >> 8}.{number & 255}", 1)
        first.swim.refuse(town.now, source, f"belongs to cluster '{number}'")
        first.swim.refuse(town.now, source, "sent something that is not peerkv's")
    first.turn()
    assert len(first.log) == COMPLAINTS_MAX
    town.run(COMPLAINT_INTERVAL_S)
    first.swim.refuse(town.now, STRANGER, "belongs to cluster 'x'")
    first.turn()
    more, again = first.log[COMPLAINTS_MAX:]
    assert more == f"{2 * (1000 - COMPLAINTS_MAX)} more were refused, or did not answer"
    assert again == "refused 10.9.9.9:666, which belongs to cluster 'x'"
