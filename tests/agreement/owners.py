"""A few owners' roles wired together by hand: each test decides which message is delivered, and when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from peerkv import wire
from peerkv.agreement.columns import Tell
from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home
from peerkv.agreement.load import Load
from peerkv.agreement.operation import Message, Operations
from peerkv.agreement.peer import Peer
from peerkv.agreement.reads import Sink
from peerkv.agreement.replica import Replica
from peerkv.agreement.turn import Accepts
from peerkv.agreement.upkeep import Upkeep
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.kernel.slot import Slot
from peerkv.resp import Reply
from peerkv.ring.topology import Owner, Topology
from peerkv.settings import Settings
from peerkv.store.cell import Cells, Change
from peerkv.store.values import KEEP, lists, strings

PATCHED = (lists, strings)
"""Rooms whose patches `run` makes; a node knows those of all commands."""
SLOT = 42
SLOTS = 256


def run(cells: Cells, request: Sequence[bytes], _now: int) -> tuple[Sequence[Change] | None, Reply]:
    """APPEND key text, GET key, TRY key text (only if it is not there), PATCH key text (as APPEND, by a patch), BROKEN
    key (by a patch that is none for any string); and what returns what was there: SWAP key text, TAKE, TOUCH."""
    name, key = request[0], request[1]
    assert name != b"FAULTY", "a fault of ours"
    cell = cells.get(key)
    value = cell[1] if cell is not None else None
    if name == b"GET":
        return None, value
    if name == b"TRY":
        return ((), 0) if value is not None else (((key, request[2], 0),), 1)
    if name == b"DEL":
        return ((key, None, 0),), 1
    if name == b"SWAP":
        return ((key, request[2], 0),), value
    if name == b"TAKE":
        return (((key, None, 0),) if value is not None else ()), value
    if name == b"TOUCH":
        return (((key, KEEP, 1 << 50),) if value is not None else ()), value
    if name == b"BROKEN":
        return ((key, ("lset", 3, b"x"), 0),), 1
    if name == b"PATCH" and value is not None:
        return ((key, ("splice", len(value), request[2]), int(request[3]) if len(request) > 3 else 0),), len(value)
    text = (value or b"") + request[2]
    return ((key, text, int(request[3]) if len(request) > 3 else 0),), text


class Runs(dict[bytes, Any]):
    """Every name means `run`."""

    def __missing__(self, name: bytes) -> Any:
        return run


class Keys(dict[bytes, Any]):
    """Every request has one key."""

    def __missing__(self, name: bytes) -> Any:
        return lambda request: request[1:2]


class Replies(dict[int, Reply]):
    """By index; each comes once."""

    def __setitem__(self, index: int, reply: Reply) -> None:
        assert index not in self, "one reply per request"
        super().__setitem__(index, reply)


class Got(Sink):
    """Replies, as a client would get them."""

    def __init__(self) -> None:
        super().__init__(0)
        self.replies = Replies()  # type: ignore[assignment]

    def complete(self) -> None:
        pass


class Member:
    """One node's roles without sessions, gossip and frames."""

    def __init__(self, number: int, topology: Topology, settings: Settings) -> None:
        self.name = f"n{number}"
        self.clock = Clock()
        self.view = View(number, self.name, SLOTS)
        self.rng = random.Random(number)
        self.operations = Operations()
        runs, keys = Runs(), Keys()
        self.coordinator = Coordinator(settings, self.clock, self.view, self.operations, self.rng, runs, keys)
        self.reads = self.coordinator.reads
        self.replica = Replica(self.clock, self.view, self.coordinator.settle, self.start)
        self.home = Home(
            settings,
            self.clock,
            self.view,
            self.replica,
            self.operations,
            self.rng,
            runs,
            keys,
            lambda request: keys[request[0]](request),
            self.coordinator.settle,
            self.coordinator.refused,
        )
        self.progress = self.home.progress
        self.takeover = self.home.takeover
        self.upkeep = Upkeep(self.view, self.operations, self.replica, self.home)
        self.load = Load(settings, self.view, self.replica, self.home)
        self.enter(topology)

    def enter(self, topology: Topology) -> None:
        """Install a topology; every link is up."""
        self.home.flush()
        for owner in (*topology.members, *topology.next_members):
            if owner.process != self.view.me.process:
                self.view.peer(owner.process, owner.name).up = True
        self.view.install(topology)
        self.home.enter_epoch()
        self.upkeep.enter_epoch()
        self.coordinator.enter_epoch()

    def start(self, operation: Any) -> None:
        self.operations.start(self.clock.now, operation)

    def at(self, now: float) -> None:
        self.clock.at(now)

    def take_answers(self, peer: Peer, answers: list[tuple[int, Message]]) -> None:
        for number, message in answers:
            self.operations.answer(self.clock.now, peer, number, message)

    def take_changes(self, peer: Peer, turns: list[tuple[int, Accepts]]) -> None:
        for turn, accepts in turns:
            self.replica.accept(peer, turn, accepts)

    def take_asks(self, peer: Peer, asks: list[tuple[int, Message]]) -> None:
        for number, message in asks:
            peer.answer(number, self.replica.answer(message))

    def take_tells(self, peer: Peer, tells: list[tuple[Tell, list[Any]]]) -> None:
        for tell, values in tells:
            if tell.takes:
                attrgetter(tell.takes)(self)(peer, *values)

    def take_ping(self, peer: Peer) -> None:
        peer.tell("here")

    def take_over(self, _peer: Peer, numbers: list[int]) -> None:
        self.takeover.want(numbers)

    def peer(self, other: Member) -> Peer:
        return self.view.peers[other.view.me.process]

    @property
    def slot(self) -> Slot:
        slot = self.view.slots[SLOT]
        assert slot is not None
        return slot

    def write(self, got: Got, index: int, *request: bytes, after: int = 0) -> int:
        return self.coordinator.write(SLOT, request, got, index, after)


TURN_S = 0.0001
"""What a turn takes: an answer is later than its question."""


class Owners:
    """`count` members of one topology, `replicas` of which are the slot's owners (default: all); the first in the
    slot's order of preference is `members[0]`."""

    def __init__(self, count: int = 3, replicas: int = 0) -> None:
        numbers = range(1, count + 1)
        owners = [Owner(0, f"n{number}", number) for number in numbers]
        self.topology = Topology.birth(1, replicas or count, owners, SLOTS)
        self.settings = Settings()
        by_number = {number: Member(number, self.topology, self.settings) for number in self.topology.by_number}
        order = self.topology.order(SLOT)
        self.members = [by_number[number] for number in (*order, *[n for n in numbers if n not in order])]
        self.now = 0.0
        self.cut: set[tuple[str, str]] = set()
        """(from, to) of directions in which nothing gets through; as on any connection it comes later, ..."""
        self.stalled: dict[tuple[str, str], list[bytes]] = {}
        """... unless the link breaks."""

    def change(self, leaving: Member, process: int) -> Member:
        """A joint epoch begins: one member goes, and a new one comes."""
        staying = [owner for owner in self.topology.members if owner.process != leaving.view.me.process]
        self.topology = self.topology.joined(staying, [Owner(0, f"n{process}", process)])
        newcomer = Member(process, self.topology, self.settings)
        for member in self.members:
            member.enter(self.topology)
        self.members.append(newcomer)
        return newcomer

    def finish(self) -> None:
        """The joint epoch ends."""
        self.topology = self.topology.finished()
        for member in self.members:
            member.enter(self.topology)

    def deliver(self, *, rounds: int = 20) -> None:
        """Turns until nothing is on its way."""
        for _ in range(rounds):
            busy = False
            for member in self.members:
                busy |= self.turn(member)
            if not busy:
                return
        raise AssertionError("the owners do not come to rest")

    def turn(self, member: Member) -> bool:
        """End of a member's turn: flush, and deliver its columns to the others."""
        for other in self.members:
            if (member.name, other.name) not in self.cut:
                for frame in self.stalled.pop((member.name, other.name), ()):
                    self.receive(other, other.peer(member), frame)
        self.now += TURN_S
        member.at(self.now)
        member.home.flush()
        member.home.end_turn()
        outgoing = member.view.outgoing()
        for peer in outgoing:
            other = next(other for other in self.members if other.view.me.process == peer.process)
            if peer.reads:
                member.reads.close(peer)
            peer.sends(self.now)
            frames = wire.Encoder(0, 0, 0).frames(peer)
            peer.clear()
            for frame in frames:
                if (member.name, other.name) not in self.cut:
                    self.receive(other, other.peer(member), frame)
                else:
                    self.stalled.setdefault((member.name, other.name), []).append(frame)
        return bool(outgoing)

    def receive(self, member: Member, peer: Peer, payload: bytes) -> None:
        member.at(self.now)
        frame = wire.decode_frame(payload)
        peer.heard_of(self.now, frame.number, frame.read)
        if peer.silent and peer.read_at == self.now:
            peer.silent = False
            member.view.links_changed()
        for column, arguments in frame.unpacked(SLOTS):
            attrgetter(column.takes)(member)(peer, *arguments)

    def cut_apart(self, one: Member, *others: Member) -> None:
        """Links break, and what is sent is lost."""
        for other in others:
            self.cut |= {(one.name, other.name), (other.name, one.name)}
            for here, there in ((one, other), (other, one)):
                self.stalled.pop((here.name, there.name), None)
                here.peer(there).up = False
                here.view.links_changed()
                here.operations.link_down(self.now, here.peer(there))
                here.coordinator.met(here.peer(there))
                here.progress.give_up_turns(here.peer(there), here.home.turn)
                here.peer(there).clear()

    def pass_time(self, seconds: float) -> None:
        """Virtual time goes by in steps, with everything that is due."""
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            for member in self.members:
                member.at(self.now)
                member.view.send_what_waits()
                member.operations.wake(self.now)
                member.coordinator.wake()
                member.progress.hand_back()
                member.upkeep.tend(self.now)
                member.load.move(self.now, member.coordinator.writes)
                member.upkeep.expire()
            self.deliver()
