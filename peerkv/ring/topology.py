"""The topology: which members own the slots in this epoch, agreed by them, never inferred from who seems alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    slots: int = SLOTS
    """How many there are: fixed when the cluster is born."""

    @classmethod
    def birth(cls, cluster_id: int, replicas: int, members: list[Owner], slots: int = SLOTS) -> Topology:
        """Epoch 1: members numbered in order of name, whatever number they came with."""
        ordered = sorted(members, key=lambda member: member.name)
        numbered = tuple(
            Owner(number, member.name, member.process, member.zone, member.weight)
            for number, member in enumerate(ordered, start=1)
        )
        return cls(cluster_id, 1, replicas, numbered, (), len(numbered) + 1, slots)

    @property
    def is_joint(self) -> bool:
        """Whether a change is under way."""
        return bool(self.next_members)

    def joined(self, staying: Sequence[Owner], newcomers: Sequence[Owner]) -> Topology:
        """The joint epoch that leads from the present members to these; newcomers are numbered here. If these are the
        present ones (a change is called off), that epoch needs to be no joint one."""
        numbered = tuple(
            Owner(number, member.name, member.process, member.zone, member.weight)
            for number, member in enumerate(sorted(newcomers, key=lambda m: m.name), start=self.next_number)
        )
        following = tuple(staying) + numbered
        if following == self.members:
            following = ()
        epoch, next_number = self.epoch + 1, self.next_number + len(numbered)
        return replace(self, epoch=epoch, next_members=following, next_number=next_number)

    def finished(self) -> Topology:
        """The epoch that ends a joint one: the next members are the members."""
        return replace(self, epoch=self.epoch + 1, members=self.next_members, next_members=())

    @cached_property
    def voters(self) -> Quorum:
        """Who decides the next epoch: the members, also in a joint epoch. Until that is over the next members are only
        candidates, and whatever becomes of them the members can choose others."""
        return Quorum(tuple(member.number for member in self.members))

    @cached_property
    def kinds(self) -> tuple[list[int], list[tuple[tuple[int, ...], tuple[int, ...]]]]:
        """Slots with the same owners are of one kind: for each slot its kind, and for each kind its old and new owners.
        There are few, so what depends on the owners alone is worked out per kind."""
        old = _placed(self.members, self.replicas, self.slots)
        new = _placed(self.next_members, self.replicas, self.slots) if self.next_members else old
        rows = list(zip(old, new, strict=True))
        numbers = {row: number for number, row in enumerate(dict.fromkeys(rows))}
        return [numbers[row] for row in rows], list(numbers)

    @cached_property
    def orders(self) -> list[tuple[int, ...]]:
        """For each kind its owners' numbers in order of preference; in a joint epoch the old owners, then the new."""
        return [old + tuple([number for number in new if number not in old]) for old, new in self.kinds[1]]

    @cached_property
    def quorums(self) -> list[Quorum]:
        """For each kind what decides."""
        return [Quorum(old, () if set(old) == set(new) else new) for old, new in self.kinds[1]]

    def order(self, slot: int) -> tuple[int, ...]:
        """A slot's owners' numbers in order of preference."""
        return self.orders[self.kinds[0][slot]]

    def quorum(self, slot: int) -> Quorum:
        """What decides for a slot."""
        return self.quorums[self.kinds[0][slot]]

    @cached_property
    def changing(self) -> list[int]:
        """The slots whose owners this joint epoch changes."""
        joint = [bool(quorum.joint) for quorum in self.quorums]
        return [slot for slot, kind in enumerate(self.kinds[0]) if joint[kind]] if any(joint) else []

    @cached_property
    def changing_bits(self) -> int:
        """`changing` as a bit per slot."""
        bits = bytearray(self.slots // 8)
        for slot in self.changing:
            bits[slot >> 3] |= 1 << (slot & 7)
        return int.from_bytes(bits, "little")

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
            self.slots,
        ]

    @classmethod
    def from_wire(cls, fields: list[Any]) -> Topology:
        """Raises TypeError or ValueError for anything that `to_wire` does not produce."""
        cluster_id, epoch, replicas, members, next_members, next_number, slots = fields
        for number in (cluster_id, epoch, replicas, next_number, slots):
            if not isinstance(number, int) or number < 0:
                raise ValueError("a topology's numbers are not negative")
        return cls(
            cluster_id,
            epoch,
            replicas,
            tuple(_owner_from_wire(member) for member in members),
            tuple(_owner_from_wire(member) for member in next_members),
            next_number,
            slots,
        )


@lru_cache(maxsize=8)
def _placed(members: tuple[Owner, ...], replicas: int, slots: int) -> list[tuple[int, ...]]:
    """Cached, as two epochs in a row share much, and as the nodes of a simulation share all."""
    if not members:
        return [()] * slots
    places = [Place(member.name, member.zone, member.weight) for member in members]
    numbers = [member.number for member in members]
    rows = owners(places, replicas, slots)
    numbered = {row: tuple([numbers[index] for index in row]) for row in set(rows)}
    return [numbered[row] for row in rows]


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
