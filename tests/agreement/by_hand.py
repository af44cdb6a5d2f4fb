"""A few nodes that belong to a cluster, without I/O: each test decides which frame is delivered, and when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from peerkv.agreement.operation import Operation
from peerkv.agreement.peer import Peer
from peerkv.agreement.reads import Sink
from peerkv.kernel.slot import Slot
from peerkv.node import Node
from peerkv.resp import Reply
from peerkv.ring.topology import Owner, Topology
from peerkv.settings import Settings
from peerkv.store.cell import Cells, Change
from peerkv.store.values import KEEP

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


class Numbered(random.Random):
    """The chance of a node, whose process it chooses by its first draw."""

    def __init__(self, process: int) -> None:
        super().__init__(process)
        self._process = process

    def getrandbits(self, bits: int, /) -> int:
        drawn, self._process = self._process, 0
        return drawn or super().getrandbits(bits)


class Member(Node):
    """A node whose commands are `run`, and whose topology a test decides."""

    def __init__(self, process: int, settings: Settings) -> None:
        super().__init__(replace(settings, name=f"n{process}", expect=99), Numbered(process), 0.0, 0.0)
        self.name = f"n{process}"
        runs, keys = Runs(), Keys()
        self.home._runs = self.reads._runs = runs
        self.home._keys = self.reads._keys = keys
        self.home.holds._awaited = lambda request: request[1:2]
        self.steward.consider_change = lambda: None  # type: ignore[method-assign]

    def start(self, operation: Operation) -> None:
        self.operations.start(self.clock.now, operation)

    def meet(self, other: Member) -> None:
        """Both know each other, and dial each other."""
        for here, there in ((self, other), (other, self)):
            here.links.meet(there.gossip.me)
        for here, there in ((self, other), (other, self)):
            hello = here.hello(there.process)
            answer, whose = there.accept(here.clock.now, here.gossip.me.address, hello)
            assert whose == here.process
            assert here.welcome(here.clock.now, there.process, answer)

    def peer(self, other: Member) -> Peer:
        return self.view.peers[other.process]

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
        processes = range(1, 2 * count, 2)
        births = [Owner(0, f"n{process}", process) for process in processes]
        self.settings = Settings(slots=SLOTS)
        self.topology = Topology.birth(1, replicas or count, births, SLOTS)
        by_number = {number: Member(owner.process, self.settings) for number, owner in self.topology.by_number.items()}
        order = self.topology.order(SLOT)
        self.members = [by_number[number] for number in (*order, *[n for n in by_number if n not in order])]
        for one, other in combinations(self.members, 2):
            one.meet(other)
        for member in self.members:
            member._decided(self.topology)
        self.now = 0.0
        self.cut: set[tuple[str, str]] = set()
        """(from, to) of directions in which nothing gets through; as on any connection it comes later, ..."""
        self.stalled: dict[tuple[str, str], list[bytes]] = {}
        """... unless the link breaks."""
        self.deliver()

    def change(self, leaving: Member, process: int) -> Member:
        """A joint epoch begins: one member goes, and a new one comes."""
        staying = [owner for owner in self.topology.members if owner.process != leaving.process]
        self.topology = self.topology.joined(staying, [Owner(0, f"n{process}", process)])
        newcomer = Member(process, self.settings)
        newcomer.clock.at(self.now)
        for member in self.members:
            member.meet(newcomer)
        self.members.append(newcomer)
        for member in self.members:
            member._decided(self.topology)
        return newcomer

    def finish(self) -> None:
        """The joint epoch ends."""
        self.topology = self.topology.finished()
        for member in self.members:
            member._decided(self.topology)

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
        outbox = member.take(self.now)
        for process, frame in outbox.frames:
            other = next(other for other in self.members if other.process == process)
            if (member.name, other.name) not in self.cut:
                self.receive(other, other.peer(member), frame)
            else:
                self.stalled.setdefault((member.name, other.name), []).append(frame)
        return bool(outbox.frames)

    def receive(self, member: Member, peer: Peer, payload: bytes) -> None:
        member.frame(self.now, peer.process, payload)

    def cut_apart(self, one: Member, *others: Member) -> None:
        """Links break, and what is sent is lost."""
        for other in others:
            self.cut |= {(one.name, other.name), (other.name, one.name)}
            for here, there in ((one, other), (other, one)):
                self.stalled.pop((here.name, there.name), None)
                here.link_down(self.now, there.process)

    def pass_time(self, seconds: float) -> None:
        """Virtual time goes by in steps, with everything that is due."""
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            for member in self.members:
                member.wake(self.now)
            self.deliver()
