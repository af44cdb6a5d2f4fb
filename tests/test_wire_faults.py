"""Whatever comes on a link: a node takes it in, or says what is wrong with it, and is itself as before."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cbor2
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from peerkv import wire
from peerkv.agreement.checks import POSITION_MAX
from peerkv.agreement.operation import EpochAccept, EpochPrepare, Fetch, Message, Prepare, Progress, ReadCells
from peerkv.agreement.peer import Peer
from peerkv.cbor import ERROR_TAG
from peerkv.node import Node
from peerkv.resp import Map, Named, Pairs, ReplyError, Set, encode_request
from peerkv.ring.topology import Owner, Topology
from peerkv.settings import Settings
from peerkv.store.cell import BALLOT_MAX, SEQUENCE_BITS, make_ballot

FAST = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # all examples go to one node, so none of them can be made smaller
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
RUBBISH = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 65), 1 << 65)
    | st.sampled_from([0, 1, -1, 16383, 16384, 1 << 20, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63])
    | st.binary(max_size=24)
    | st.text(max_size=5)
    | st.floats()
    | st.lists(st.integers(-1, 1 << 62) | st.binary(max_size=8), max_size=4)
    | st.builds(dict)
    | st.builds(cbor2.CBORTag, st.just(258), st.just([1, 2]))
    | st.builds(cbor2.CBORTag, st.just(ERROR_TAG), st.just(7))
)


class Cluster:
    """Three nodes that own all slots, and what they send each other, without a network."""

    def __init__(self) -> None:
        self.now = 100.0
        rng = random.Random(1)
        self.nodes = [
            Node(Settings(name=f"db{number}", seeds=(("127.0.0.1", 1),)), rng, self.now, 0.0) for number in range(1, 4)
        ]
        self.frames: list[tuple[int, int, bytes]] = []
        """(from, to, payload)"""
        topology = Topology.birth(7, 3, [Owner(0, node.settings.name, node.process) for node in self.nodes])
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    node.links.meet(other.gossip.me)
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    answer, _ = other.accept(self.now, ("127.0.0.1", 1), node.hello(other.process))
                    assert node.welcome(self.now, other.process, answer)
            node._enter(topology)

    def run(self, turns: int) -> None:
        """Turns of all, a millisecond each; what one sends the others get in the next."""
        by_process = {node.process: node for node in self.nodes}
        for _ in range(turns):
            self.now += 0.001
            sent = []
            for node in self.nodes:
                node.wake(self.now)
                sent += [(node.process, to, payload) for to, payload in node.take(self.now).frames]
            for source, to, payload in sent:
                by_process[to].frame(self.now, source, payload)
            self.frames += sent


@dataclass
class Recorded:
    """A node in a cluster of three that has done some work, and the frames that it was sent."""

    node: Node
    now: float
    frames: list[tuple[int, bytes]]


def rare(source: Node, to: Node) -> list[tuple[int, int, bytes]]:
    """What is not often said, as one node may say it to another."""
    topology = to.view.topology
    assert topology is not None
    number = source.view.me.number
    pending = [*to.coordinator.pending, 1 << 14 | 42]
    frames = []
    for slot in range(8):
        position = to.view.copies.positions[slot] + 1
        peer = Peer(to.process, to.settings.name)
        peer.forwards += [99 << 14 | slot, 0, (b"SET", b"k", b"v")]
        peer.insist(99 << 14 | slot)
        peer.hand_back(pending[0], 1 + slot % 3, number)
        peer.arrive(slot, position)
        peer.probe(slot, position + (1 << 40) * slot, urgent=bool(slot & 1))
        peer.confirm(to.view.peers[source.process].sequence, [slot], [], [])
        peer.tell("purge", [slot, position >> SEQUENCE_BITS, position - 1])
        peer.tell("compare", [slot, position >> SEQUENCE_BITS, position - 1, 5, position])
        peer.tell("take", [slot, slot + 1])
        peer.tell("load", 1000)
        peer.tell("topology", topology.to_wire())
        peer.tell("nack", slot, position + (slot << 20) >> SEQUENCE_BITS)
        asks: list[Message] = [
            EpochPrepare(2, 1 << 100),
            EpochAccept(2, 1 << 101, topology.finished().to_wire()),
            Progress(),
            ReadCells(slot, [b"k"]),
            Fetch(slot, position >> SEQUENCE_BITS, 0, True),
            Prepare([slot], [make_ballot(slot + 5, number)]),
        ]
        for place, message in enumerate(asks):
            peer.ask(place, message)
        frames.append((source.process, to.process, wire.Encoder(topology.epoch, slot, 0).frames(peer)[0]))
        peer.clear()
    return frames


@cache
def recorded() -> Recorded:
    cluster = Cluster()
    cluster.run(400)
    first = cluster.nodes[0]
    assert first.ready
    assert first.home.homes
    sessions = [(node, node.open(cluster.now, "client:1", "node:1")) for node in cluster.nodes]
    for turn in range(30):
        for number, (node, session) in enumerate(sessions):
            key = b"%d" % (turn + number)
            requests = [
                (b"SET", b"k" + key, b"v" * turn),
                (b"GET", b"k" + key),
                (b"INCR", b"n" + key),
                (b"MSET", b"{a}1", key, b"{a}2", key),
                (b"DEL", b"k" + key),
                (b"SET", b"e" + key, b"x", b"PX", b"10"),
            ]
            if turn == 20:
                requests += [(b"SCAN", b"0"), (b"DBSIZE",)]
            node.receive(cluster.now, session, b"".join(map(encode_request, requests)))
            reader = node.open(cluster.now, "client:2", "node:1")
            node.receive(cluster.now, reader, b"".join([encode_request((b"GET", b"k%d" % key)) for key in range(turn)]))
        if turn == 10:  # the second one has not got the last turns
            cluster.nodes[1].link_down(cluster.now, first.process)
            cluster.nodes[2].link_down(cluster.now, first.process)
        if turn == 15:
            for node in cluster.nodes[1:]:
                answer, _ = first.accept(cluster.now, ("127.0.0.1", 1), node.hello(first.process))
                assert node.welcome(cluster.now, first.process, answer)
        cluster.run(10)
    cluster.run(300)
    cluster.frames += rare(cluster.nodes[1], first)
    different = {len(payload): (source, payload) for source, to, payload in cluster.frames if to == first.process}
    return Recorded(first, cluster.now, list(different.values()))


def places(value: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Of everything in a list, and in lists in it."""
    found = []
    for index, item in enumerate(value):
        found.append((*path, index))
        if isinstance(item, list):
            found += places(item, (*path, index))
    return found


def copied(value: Any) -> Any:
    return [copied(item) for item in value] if isinstance(value, list) else value


def mutated(draw: st.DataObject, fields: list[Any]) -> list[Any]:
    """The same with something in it replaced, left out or repeated."""
    fields = copied(fields)
    every = places(fields)
    if not every:
        return fields
    *path, last = draw.draw(st.sampled_from(every))
    around = fields
    for step in path:
        around = around[step]
    item = around[last]
    match draw.draw(st.integers(0, 4)):
        case 0:
            del around[last]
        case 1:
            around.insert(last, item)
        case 2 if isinstance(item, bytes) and len(item) >= 8:
            number = draw.draw(st.integers(-1, 1 << 63) | st.integers(0, 1 << 20)) & ((1 << 64) - 1)
            at = draw.draw(st.integers(0, len(item) // 8 - 1)) * 8
            around[last] = item[:at] + number.to_bytes(8, "little") + item[at + 8 :]
        case 2 if isinstance(item, int):
            around[last] = item + draw.draw(st.integers(-3, 3) | st.sampled_from([1 << 20, 1 << 36, -(1 << 36)]))
        case _:
            around[last] = draw.draw(RUBBISH)
    return fields


def check(node: Node) -> None:
    """What holds of a node at the end of every turn."""
    view = node.view
    copies = view.copies
    for number, slot in enumerate(view.slots):
        position, promised = copies.positions[number], copies.promised[number]
        assert type(position) is type(promised) is int
        assert 0 <= position <= POSITION_MAX
        assert position >> SEQUENCE_BITS <= promised <= BALLOT_MAX
        if slot is None:
            assert not copies.cells[number]
            continue
        for key, (version, value, deadline) in slot.cells.items():
            assert type(key) is bytes
            assert type(version) is type(deadline) is int
            assert 0 < version <= position
            assert deadline >= 0
            assert value is None or type(value) is bytes
            assert (value is None) == (key in slot.tombstones)
    for number, home in node.home.homes.items():
        assert view.slots[number] is home.slot
        assert home.slot.promised == home.ballot
    for process, operations in node.replica.recent.items():
        assert type(process) is int
        for ticket, reply in operations.items():
            assert type(ticket) is int
            assert type(reply) in (type(None), int, bytes, str, float, bool, list, Map, Pairs, Named, Set, ReplyError)
    for mark in view.marks.values():
        assert type(mark) is int
    for peer in view.peers.values():
        for sequence, (_, reads) in peer.reads_sent.items():
            assert type(sequence) is int
            assert not reads or reads[0] is not None


@settings(FAST, max_examples=150)
@given(st.data(), st.integers(0, 10_000), st.integers(1, 3), st.booleans())
def test_a_frame_is_taken_in_or_refused(draw: st.DataObject, which: int, times: int, passing: bool) -> None:
    """The node would end, or hold what none of its engines can work with, by one frame of a peer that is out of its
    mind. Nothing but a ValueError comes of it, which costs the link."""
    found = recorded()
    node = found.node
    process, payload = found.frames[which % len(found.frames)]
    fields = cbor2.loads(payload)
    fields[0] = node.view.epoch
    for _ in range(times):
        fields = mutated(draw, fields)
    found.now += 0.3 if passing else 0.001
    try:
        node.frame(found.now, process, cbor2.dumps(fields))
    except ValueError:
        pass
    check(node)
    node.take(found.now)
    if passing:
        node.wake(found.now)
        node.take(found.now)
    check(node)


@settings(FAST, max_examples=100)
@given(st.data(), st.integers(0, 10_000))
def test_bytes_of_a_frame_that_are_others(draw: st.DataObject, which: int) -> None:
    """As the one before, but by any byte."""
    found = recorded()
    process, payload = found.frames[which % len(found.frames)]
    rng = random.Random(draw.draw(st.integers()))
    damaged = bytearray(payload)
    for _ in range(rng.randint(1, 4)):
        damaged[rng.randrange(len(damaged))] = rng.getrandbits(8)
    try:
        found.node.frame(found.now, process, bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])]))
    except ValueError:
        pass
    found.node.take(found.now)
    check(found.node)


def test_a_forged_topology_is_not_believed() -> None:
    """61 bytes made a node drop its copies, by the name of a member that it had a link of."""
    cluster = Cluster()
    cluster.run(5)
    first, second = cluster.nodes[:2]
    topology = first.view.topology
    assert topology is not None
    held = len(first.slots_state())
    for forged in (
        replace(topology, epoch=2, members=topology.members[1:]),
        replace(topology, epoch=5, members=(Owner(9, "x", 9),), next_number=10),
        replace(topology, epoch=(1 << 62) - 1),
    ):
        peer = Peer(first.process, "db1")
        peer.tell("topology", forged.to_wire())
        first.frame(cluster.now, second.process, wire.Encoder(forged.epoch, 0, 0).frames(peer)[0])
        assert first.view.topology is topology
        assert len(first.slots_state()) == held > 0
        assert any("is not believed" in text for _, text in first.take(cluster.now).log)
    joint = topology.joined(topology.members[1:], [Owner(0, "db9", 99)])
    peer = Peer(first.process, "db1")
    peer.tell("topology", joint.to_wire())
    first.frame(cluster.now, second.process, wire.Encoder(joint.epoch, 0, 0).frames(peer)[0])
    cluster.run(100)  # it is worked out some thousand slots a turn
    assert first.view.topology == joint


def test_a_ballot_is_promised_to_who_asks_for_it() -> None:
    cluster = Cluster()
    cluster.run(400)
    first, second, third = cluster.nodes
    promised = first.view.copies.promised[42]
    for member, taken in ((third, False), (second, True)):
        ballot = make_ballot(1000, member.view.me.number)
        peer = Peer(first.process, "db1")
        peer.ask(1, Prepare([42], [ballot]))
        first.frame(cluster.now, second.process, wire.Encoder(1, 0, 0).frames(peer)[0])
        assert first.view.copies.promised[42] == (ballot if taken else promised)


def test_what_is_too_long_for_a_frame_is_not_sent() -> None:
    """The other node would close the link for it, and again when it was sent again."""
    cluster = Cluster()
    first, second = cluster.nodes[:2]
    first.settings = replace(first.settings, frame_bytes_max=100)
    first.view.peers[second.process].tell("load", 7)
    first.view.peers[second.process].tell("purge", [1, 2, 3] * 100)
    outbox = first.take(cluster.now)
    assert all(len(payload) <= 100 for _, payload in outbox.frames)
    assert any("are not sent" in text for _, text in first.take(cluster.now).log)
