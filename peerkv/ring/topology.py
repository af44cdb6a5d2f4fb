"""The topology: which members own the slots in this epoch, agreed by them, never inferred from who seems alive."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final

from peerkv.ring.keys import SLOTS
from peerkv.ring.placement import Place, in_parts, rows_of_owners
from peerkv.ring.quorum import Quorum, without

RECOVERY_BITS: Final = 32
"""An epoch is (recoveries so far, count since the last one): what a recovery decides is later than anything that those
who were lost may have decided and nobody remembers."""
SUCCEEDED_MAX: Final = 4
"""Lost clusters that one knows to stand in the place of; older ones are as strangers."""


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
    generation: int = 0
    """When that life began, as gossip has it: later lives of the name have higher ones."""


@dataclass(frozen=True)
class Kept:
    """What a recovery has found of each slot: its owners from there on, which no longer follow from the members."""

    rows: tuple[tuple[int, ...], ...]
    """Numbers of owners; slots with the same ones share a row."""
    whole: tuple[bool, ...]
    """Per row: a majority was lost, and these are all that is left. What they have together is the slot, so all of them
    must be asked (until the slot is settled)."""
    row_of: bytes
    """Per slot its row, two bytes each, the lower first."""

    def row(self, slot: int) -> int:
        return self.row_of[2 * slot] | self.row_of[2 * slot + 1] << 8


@dataclass(frozen=True)
class Topology:
    """One epoch, the same on every node. `next_members` is empty but while a change is under way (a joint epoch).

    Members that are **lost** will never answer again, and nobody knows what they have said: what they held counts as
    gone, their acknowledgements are made up for by more of those that are left (`ring.quorum.without`). Once every slot
    is **settled**, which means that those that are left have everything, they do not count at all any more.
    """

    cluster_id: int
    epoch: int
    replicas: int
    members: tuple[Owner, ...]
    next_members: tuple[Owner, ...] = ()
    next_number: int = 1
    """The number that the next joining member gets."""
    slots: int = SLOTS
    """How many there are: fixed when the cluster is born."""
    lost: tuple[int, ...] = ()
    """Numbers of members that are lost, until all is settled without them."""
    settled: tuple[int, ...] = ()
    """Numbers of members that were lost, and count no more."""
    kept: Kept | None = None
    """After a recovery, until the change that it began is over."""
    unsettled: bool = False
    """`kept.whole` counts: some slot may still have its copies to be compared."""
    succeeds: tuple[int, ...] = ()
    """Ids of clusters all of whose data was lost, and in whose place this one was founded; the last one first."""

    @classmethod
    def birth(
        cls,
        cluster_id: int,
        replicas: int,
        members: Sequence[Owner],
        slots: int = SLOTS,
        succeeds: tuple[int, ...] = (),
    ) -> Topology:
        """Epoch 1: members numbered in order of name, whatever number they came with."""
        numbered = _numbered(members, 1)
        return cls(cluster_id, 1, replicas, numbered, (), len(numbered) + 1, slots, succeeds=succeeds[:SUCCEEDED_MAX])

    @property
    def is_joint(self) -> bool:
        """Whether a change is under way."""
        return bool(self.next_members)

    def joined(self, staying: Sequence[Owner], newcomers: Sequence[Owner], lost: Collection[int] = ()) -> Topology:
        """The joint epoch that leads from the present members to these; newcomers are numbered here. If these are the
        present ones (a change is called off), that epoch needs to be no joint one. `lost`: numbers of members that are
        lost beside those that are known to be."""
        numbered = _numbered(newcomers, self.next_number)
        following = tuple(staying) + numbered
        if following == self.members and self.kept is None:
            following = ()
        return replace(
            self,
            epoch=self.epoch + 1,
            next_members=following,
            next_number=self.next_number + len(numbered),
            lost=self._with_lost(lost),
        )

    def settled_down(self) -> Topology:
        """The epoch in which the lost do not count any more: every slot is settled without them."""
        settled = tuple(sorted({*self.settled, *self.lost}))
        return replace(self, epoch=self.epoch + 1, lost=(), settled=settled, unsettled=False)

    def finished(self) -> Topology:
        """The epoch that ends a joint one: the next members are the members."""
        return Topology(
            self.cluster_id,
            self.epoch + 1,
            self.replicas,
            self.next_members,
            (),
            self.next_number,
            self.slots,
            succeeds=self.succeeds,
        )

    def recovered(self, following: Sequence[Owner], lost: Collection[int]) -> Topology:
        """The joint epoch that goes on with what is left although a majority of some slots' owners is lost. Members of
        `following` that are not members now are numbered here."""
        known = self.by_number
        numbered = _numbered([owner for owner in following if owner.number not in known], self.next_number)
        target = tuple([owner for owner in following if owner.number in known]) + numbered
        present = tuple(self.by_number.values())
        lost = self._with_lost(lost)
        return Topology(
            self.cluster_id,
            self.recovery_epoch,
            self.replicas,
            present,
            target,
            self.next_number + len(numbered),
            self.slots,
            lost,
            self.settled,
            self._keep(target, lost),
            unsettled=True,
            succeeds=self.succeeds,
        )

    def _keep(self, target: tuple[Owner, ...], lost: Collection[int]) -> Kept:
        """For each slot who has it: its owners, where a majority of them is left; whoever is left of the old and the
        new ones, where it is not; and where nobody is, those that begin it anew."""
        beginning_rows, beginners = _indexed(target, self.replicas, self.slots)
        index: dict[tuple[tuple[int, ...], bool], int] = {}
        found: dict[tuple[int, int], int] = {}
        row_of = bytearray()
        kinds, rows = self.kinds
        parts = [self._part(old, whole, lost) for old, _, whole in rows]
        for kind, beginning in zip(kinds, beginners, strict=True):
            place = found.get((kind, beginning))
            if place is None:
                old, new, _ = rows[kind]
                left, needed = parts[kind]
                if needed <= len(left):
                    row = old, False
                else:
                    both = tuple([n for n in dict.fromkeys((*old, *new)) if n not in lost])
                    row = (both, True) if both else (beginning_rows[beginning], False)
                place = found[kind, beginning] = index.setdefault(row, len(index))
            row_of += place.to_bytes(2, "little")
        return Kept(tuple([row for row, _ in index]), tuple([whole for _, whole in index]), bytes(row_of))

    def _with_lost(self, lost: Collection[int]) -> tuple[int, ...]:
        return tuple(sorted({*self.lost, *lost} - {*self.settled}))

    @property
    def recoveries(self) -> int:
        """How often the cluster has gone on although something was lost."""
        return self.epoch >> RECOVERY_BITS

    @property
    def recovery_epoch(self) -> int:
        """The epoch that a recovery would begin."""
        return ((self.epoch >> RECOVERY_BITS) + 1) << RECOVERY_BITS

    @cached_property
    def voters(self) -> Quorum:
        """Who decides the next epoch: the members that are not lost, also in a joint epoch. Until that is over the next
        members are only candidates, and whatever becomes of them the members can choose others."""
        out = {*self.lost, *self.settled}
        return Quorum(tuple(member.number for member in self.members if member.number not in out))

    def voters_without(self, lost: Collection[int]) -> Quorum:
        """The same, where these are lost, too: a quorum that meets any that may have decided with them. For whoever
        proposes (flexible Paxos: Howard, Malkhi and Spiegelman, 2016)."""
        left, needed = without(self.voters.members, lost)
        return Quorum(left, needed=needed)

    def survivors(self, lost: Collection[int]) -> list[Owner]:
        """Members, old and next ones, that have not lost their memory."""
        out = {*self.lost, *self.settled, *lost}
        return [owner for number, owner in self.by_number.items() if number not in out]

    @cached_property
    def kinds(self) -> tuple[list[int], list[tuple[tuple[int, ...], tuple[int, ...], bool]]]:
        """Slots with the same owners are of one kind: for each slot its kind, and for each kind its old owners (those
        that are lost included, until all is settled), its new owners, and whether the old ones are all that a recovery
        has found. There are few, so what depends on the owners alone is worked out per kind."""
        rows: Sequence[tuple[int, ...]]
        new_rows: Sequence[tuple[int, ...]]
        whole: Sequence[bool]
        if self.kept is not None:
            row_of = memoryview(self.kept.row_of)
            low, high = row_of[::2].tolist(), row_of[1::2].tolist()
            old = [lower | higher << 8 for lower, higher in zip(low, high, strict=True)]
            rows = self.kept.rows
            whole = self.kept.whole
        else:
            rows, old = _indexed(self.members, self.replicas, self.slots)
            whole = ()
        if self.next_members:
            new_rows, new = _indexed(self.next_members, self.replicas, self.slots)
        else:
            new_rows, new = rows, old
        many = len(new_rows)
        pairs = [o * many + n for o, n in zip(old, new, strict=True)]  # a third of the time of tuples
        kinds = {pair: kind for kind, pair in enumerate(dict.fromkeys(pairs))}
        settled = self.settled
        table = [
            (
                tuple([n for n in rows[o] if n not in settled]) if settled else rows[o],
                new_rows[n],
                self.unsettled and bool(whole) and whole[o],
            )
            for o, n in [divmod(pair, many) for pair in kinds]
        ]
        return list(map(kinds.__getitem__, pairs)), table

    def in_parts(self) -> Iterator[int]:
        """Have `kinds` computed piece by piece; yields how many slots a piece was worth."""
        for members in (self.members, self.next_members) if self.kept is None else (self.next_members,):
            yield from in_parts(_places(members), self.replicas, self.slots)
            if members:
                _indexed(members, self.replicas, self.slots)
        assert self.kinds, "there are slots"

    @cached_property
    def orders(self) -> list[tuple[int, ...]]:
        """For each kind its owners' numbers in order of preference; in a joint epoch the old owners, then the new."""
        lost = self.lost
        return [
            tuple([number for number in dict.fromkeys(old + new) if number not in lost])
            for old, new, _ in self.kinds[1]
        ]

    @cached_property
    def quorums(self) -> list[Quorum]:
        """For each kind what decides."""
        return self.quorums_without(())

    def quorums_without(self, lost: Collection[int]) -> list[Quorum]:
        """The same, where these are lost, too; impossible ones are of slots that cannot be had without a recovery."""
        quorums = []
        for old, new, whole in self.kinds[1]:
            left, needed = self._part(old, whole, {*self.lost, *lost})
            quorums.append(Quorum(left, () if set(old) == set(new) else new, needed))
        return quorums

    @staticmethod
    def _part(old: tuple[int, ...], whole: bool, lost: Collection[int]) -> tuple[tuple[int, ...], int]:
        """Who is left of a slot's owners, and how many of them are needed."""
        left, needed = without(old, lost)
        if whole:
            needed = len(old)  # which are more than there are, once one of them is lost
            if len(left) == needed == len(left) // 2 + 1:
                needed = 0
        return left, needed

    @cached_property
    def unsettled_kinds(self) -> list[bool]:
        """For each kind whether its slots are to be settled: some owner is lost, or all that is left is to be
        compared."""
        lost = {*self.lost}
        return [whole or not lost.isdisjoint(old) for old, _, whole in self.kinds[1]]

    @cached_property
    def unsettled_bits(self) -> int:
        """A bit per slot that is to be settled."""
        return self.bits(self.unsettled_kinds)

    def is_compared(self, slot: int) -> bool:
        """Whether a recovery has found this slot without a majority of its owners, so that whatever is left of it is to
        be compared before anybody serves it."""
        return self.kinds[1][self.kinds[0][slot]][2]

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

    @property
    def unfilled(self) -> list[int]:
        """The slots whose owners this epoch changes, and those that are to be settled."""
        both = [bool(quorum.joint) or new for quorum, new in zip(self.quorums, self.unsettled_kinds, strict=True)]
        return [slot for slot, kind in enumerate(self.kinds[0]) if both[kind]] if any(both) else []

    @cached_property
    def changing_bits(self) -> int:
        """`changing` as a bit per slot."""
        return self.bits([bool(quorum.joint) for quorum in self.quorums])

    def bits(self, of_kind: Sequence[bool]) -> int:
        """A bit per slot of those kinds."""
        if not any(of_kind):
            return 0
        digits = ["1" if wanted else "0" for wanted in of_kind]
        return int("".join([digits[kind] for kind in reversed(self.kinds[0])]), 2)

    @cached_property
    def by_number(self) -> dict[int, Owner]:
        return {member.number: member for member in self.members + self.next_members}

    @cached_property
    def by_process(self) -> dict[int, Owner]:
        return {member.process: member for member in self.members + self.next_members}

    def number_of(self, process: int) -> int:
        """The process's member number; 0 if it is no member, or is held for lost."""
        member = self.by_process.get(process)
        return member.number if member is not None and member.number not in self.out else 0

    @cached_property
    def out(self) -> frozenset[int]:
        """Numbers of those that are lost, settled or not."""
        return frozenset({*self.lost, *self.settled})

    @property
    def lacks_memory(self) -> bool:
        """Whether something is to be settled."""
        return bool(self.lost) or self.unsettled

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
            list(self.lost),
            list(self.settled),
            [list(self.kept.rows), list(self.kept.whole), self.kept.row_of] if self.kept is not None else [],
            self.unsettled,
            list(self.succeeds),
        ]

    @classmethod
    def from_wire(cls, fields: list[Any]) -> Topology:
        """Raises TypeError or ValueError for anything that `to_wire` does not produce."""
        cluster_id, epoch, replicas, members, next_members, next_number, slots, *losses = fields
        lost, settled, kept, unsettled, succeeds = losses
        numbers = (cluster_id, epoch, replicas, next_number, slots, *lost, *settled, *succeeds)
        if any(type(number) is not int or number < 0 for number in numbers) or type(unsettled) is not bool:
            raise ValueError("a topology's numbers are not negative")
        topology = cls(
            cluster_id,
            epoch,
            replicas,
            tuple(_owner_from_wire(member) for member in members),
            tuple(_owner_from_wire(member) for member in next_members),
            next_number,
            slots,
            tuple(lost),
            tuple(settled),
            _kept_from_wire(slots, *kept) if kept else None,
            unsettled,
            tuple(succeeds),
        )
        named = {*topology.out, *(number for row in (topology.kept.rows if topology.kept else ()) for number in row)}
        if not named <= topology.by_number.keys():
            raise ValueError("a topology speaks of its members only")
        return topology


def describe_epoch(epoch: int) -> str:
    """An epoch as people read it: its count, and after a recovery the recoveries before it."""
    recoveries, count = divmod(epoch, 1 << RECOVERY_BITS)
    return f"{recoveries}.{count}" if recoveries else f"{count}"


def _numbered(members: Sequence[Owner], first: int) -> tuple[Owner, ...]:
    ordered = sorted(members, key=lambda member: member.name)
    return tuple([replace(member, number=number) for number, member in enumerate(ordered, start=first)])


@lru_cache(maxsize=8)
def _indexed(members: tuple[Owner, ...], replicas: int, slots: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """The distinct rows of owners, and for each slot its row. Cached, as two epochs in a row share much, and as the
    nodes of a simulation share all."""
    rows, row_of = rows_of_owners(_places(members), replicas, slots)
    return [tuple([members[index].number for index in row]) for row in rows], row_of


def _places(members: Sequence[Owner]) -> list[Place]:
    return [Place(member.name, member.zone, member.weight) for member in members]


def _owner_to_wire(member: Owner) -> list[Any]:
    return [member.number, member.name, member.process, member.zone, member.weight, member.generation]


def _owner_from_wire(fields: list[Any]) -> Owner:
    number, name, process, zone, weight, generation = fields
    if not (
        isinstance(number, int)
        and isinstance(name, str)
        and isinstance(process, int)
        and isinstance(zone, str)
        and isinstance(weight, int)
        and isinstance(generation, int)
    ):
        raise TypeError("an owner is (number, name, process, zone, weight, generation)")
    return Owner(number, name, process, zone, weight, generation)


def _kept_from_wire(slots: int, rows: list[Any], whole: list[Any], row_of: Any) -> Kept:
    if type(row_of) is not bytes or len(row_of) != 2 * slots or len(rows) != len(whole):
        raise ValueError("what was kept is rows, and for each slot which of them")
    for row in rows:
        if not row or any(type(number) is not int or number < 0 for number in row):
            raise ValueError("a row is numbers of members")
    kept = Kept(tuple([tuple(row) for row in rows]), tuple([bool(flag) for flag in whole]), row_of)
    if any(kept.row(slot) >= len(rows) for slot in range(slots)):
        raise ValueError("a slot is of a row that there is not")
    return kept
