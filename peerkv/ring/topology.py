"""The topology: which members own the slots in this epoch, agreed by them, never inferred from who seems alive."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from peerkv.ring.keys import SLOTS
from peerkv.ring.placement import Place, owners
from peerkv.ring.quorum import Quorum


@dataclass(frozen=True, slots=True)
class Owner:
    """A member of the topology: one life of one process.

    `number` is given once in a cluster's life and never again, so that a ballot names one process. A node that was
    restarted has another `process` and is therefore not this member: it owns nothing until it has joined anew.
    """

    number: int
    name: str
    process: int
    zone: str = ""
    weight: int = 1


@dataclass(frozen=True)
class Topology:
    """One epoch, the same on every node. `next_members` is empty but while a change is under way (a joint epoch)."""

    cluster_id: int
    epoch: int
    replicas: int
    members: tuple[Owner, ...]
    next_members: tuple[Owner, ...] = ()
    next_number: int = 1
    """The number that the next joining member gets."""

    @classmethod
    def birth(cls, cluster_id: int, replicas: int, members: list[Owner]) -> Topology:
        """Epoch 1: members numbered in order of name, whatever number they came with."""
        ordered = sorted(members, key=lambda member: member.name)
        numbered = tuple(
            Owner(number, member.name, member.process, member.zone, member.weight)
            for number, member in enumerate(ordered, start=1)
        )
        return cls(cluster_id, 1, replicas, numbered, (), len(numbered) + 1)

    @cached_property
    def table(self) -> list[tuple[int, ...]]:
        """For each slot its owners' numbers in order of preference; in a joint epoch the old owners, then the new."""
        old, new = self._owners
        if old is new:
            return old
        return [
            before + tuple(number for number in after if number not in before)
            for before, after in zip(old, new, strict=True)
        ]

    @cached_property
    def quorums(self) -> list[Quorum]:
        """For each slot what decides; slots with the same owners share one Quorum."""
        shared: dict[tuple[tuple[int, ...], tuple[int, ...]], Quorum] = {}
        old, new = self._owners
        quorums = []
        for before, after in zip(old, new, strict=True):
            key = (before, () if set(before) == set(after) else after)
            quorum = shared.get(key)
            if quorum is None:
                quorum = shared[key] = Quorum(*key)
            quorums.append(quorum)
        return quorums

    @cached_property
    def _owners(self) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        old = _placed(self.members, self.replicas)
        return old, _placed(self.next_members, self.replicas) if self.next_members else old

    @cached_property
    def by_number(self) -> dict[int, Owner]:
        return {member.number: member for member in self.members + self.next_members}

    @cached_property
    def by_process(self) -> dict[int, Owner]:
        return {member.process: member for member in self.members + self.next_members}

    def number_of(self, process: int) -> int:
        """The process's member number; 0 if it is no member."""
        member = self.by_process.get(process)
        return member.number if member is not None else 0

    def to_wire(self) -> list[Any]:
        """As plain lists, for a frame."""
        return [
            self.cluster_id,
            self.epoch,
            self.replicas,
            [_owner_to_wire(member) for member in self.members],
            [_owner_to_wire(member) for member in self.next_members],
            self.next_number,
        ]

    @classmethod
    def from_wire(cls, fields: list[Any]) -> Topology:
        """Raises TypeError or ValueError for anything that `to_wire` does not produce."""
        cluster_id, epoch, replicas, members, next_members, next_number = fields
        for number in (cluster_id, epoch, replicas, next_number):
            if not isinstance(number, int) or number < 0:
                raise ValueError("a topology's numbers are not negative")
        return cls(
            cluster_id,
            epoch,
            replicas,
            tuple(_owner_from_wire(member) for member in members),
            tuple(_owner_from_wire(member) for member in next_members),
            next_number,
        )


@lru_cache(maxsize=8)
def _placed(members: tuple[Owner, ...], replicas: int) -> list[tuple[int, ...]]:
    """Cached, as two epochs in a row share much, and as the nodes of a simulation share all."""
    if not members:
        return [()] * SLOTS
    places = [Place(member.name, member.zone, member.weight) for member in members]
    numbers = [member.number for member in members]
    return [tuple([numbers[index] for index in row]) for row in owners(places, replicas)]


def _owner_to_wire(member: Owner) -> list[Any]:
    return [member.number, member.name, member.process, member.zone, member.weight]


def _owner_from_wire(fields: list[Any]) -> Owner:
    number, name, process, zone, weight = fields
    if not (
        isinstance(number, int)
        and isinstance(name, str)
        and isinstance(process, int)
        and isinstance(zone, str)
        and isinstance(weight, int)
    ):
        raise TypeError("an owner is (number, name, process, zone, weight)")
    return Owner(number, name, process, zone, weight)
