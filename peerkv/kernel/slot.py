"""A slot is everything one owner knows of one slot: a prefix of its one history, and how far along that prefix is.

What the hot paths read and write of a slot stands in lists by slot number (`Copies`): a change of one of 16384 slots
finds nothing of it in the processor's caches, and every object that need not be touched is a tenth of a microsecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import islice
from typing import Final

from peerkv.databases import database_of
from peerkv.store.cell import SEQUENCE_BITS, Cell, Change, position_ballot
from peerkv.store.large import LARGE_FROM, Digesting, digest_of, newer_than
from peerkv.store.scan import IDLE_MAX, INDEX_FROM, ScanIndex, page_of
from peerkv.store.values import OF_OTHERS, Patch, Value, derived, patched
from peerkv.store.values.held import Held

PURGED_AT_ONCE: Final = 1024
"""Tombstones: half a millisecond."""
LINEAGE_MAX: Final = 64
"""Ballots remembered of a slot's history; an owner that was away for more takeovers gets a whole copy."""


class Copies:
    """The copies of slots that a node holds, by slot number."""

    def __init__(self, count: int) -> None:
        self.slots: list[Slot | None] = [None] * count
        """None where it holds none."""
        self.held = 0
        """How many it holds."""
        self.positions = [0] * count
        """The last change accepted."""
        self.promised = [0] * count
        """The highest ballot promised."""
        self._nothing: dict[bytes, Cell] = {}
        self.cells = [self._nothing] * count
        self.plain = bytearray(count)
        """1: there is a copy, its position is of the ballot that is promised, and it has no tombstones. A change to the
        next position that sets one key is then these two lines and nothing else, and the hot paths have them in line:

            positions[number] = to
            cells[number][key] = (to, value, deadline)
        """
        self.marked: dict[int, set[bytes]] = {}
        """Of slots that have such the keys of other databases than 0, ..."""
        self._examined = [0] * count
        """... among so many of the cells, the first ones: who writes a key need not know of databases."""
        self.buried: set[int] = set()
        """Slots with tombstones."""
        self.digesting: dict[int, Digesting] = {}
        """Of large slots that are being digested."""
        self.indexes: dict[int, ScanIndex] = {}
        """Of large slots that have been listed lately."""
        self.dropped: list[tuple[Slot | None, dict[bytes, Cell]]] = []
        """What copies were that are held no more; see `free`."""

    def add(self, number: int) -> Slot:
        """Begin an empty copy."""
        self.held += self.slots[number] is None
        self.positions[number] = self.promised[number] = 0
        self.cells[number] = {}
        slot = self.slots[number] = Slot(self, number)
        return slot

    def remove(self, numbers: AbstractSet[int]) -> None:
        """Drop copies that are held; each `Slot` is no more. What they held keeps its memory until `free`."""
        slots, cells = self.slots, self.cells
        positions, promised, plain = self.positions, self.promised, self.plain
        for number in numbers:
            self.dropped.append((slots[number], cells[number]))
            slots[number] = None
            positions[number] = promised[number] = plain[number] = 0
            cells[number] = self._nothing
            self._examined[number] = 0
        self.held -= len(numbers)
        self.buried.difference_update(numbers)
        for table in (self.indexes, self.digesting, self.marked):
            for number in table.keys() & numbers:
                del table[number]

    def free(self, count: int) -> bool:
        """Give back the memory of about so many cells of copies that were dropped; whether there are more. To give back
        a million takes a third of a second."""
        dropped = self.dropped
        while dropped and count > 0:
            _, cells = dropped[-1]
            if len(cells) <= count:
                dropped.pop()
                count -= len(cells) + 1
            else:
                for _ in range(count):
                    cells.popitem()
                break
        return bool(dropped)

    def patch(self, number: int, to: int, key: bytes, body: Patch, deadline: int) -> None:
        """A change to the next position that patches one key, where `plain` says so: as `Slot.apply`, at half the cost.
        Not for `OF_OTHERS`."""
        self.positions[number] = to
        cells = self.cells[number]
        cell = cells.get(key)
        try:
            value = patched(cell[1] if cell is not None else None, body)
        except Exception:
            if cell is not None:
                cells[key] = (to, *cell[1:])
            raise
        if value is None:
            slot = self.slots[number]
            assert slot is not None, "there is a copy"
            slot.bury(key, to)
        else:
            cells[key] = (to, value, deadline)

    @property
    def tombstones(self) -> int:
        """Cells without a value."""
        return sum([len(slot.tombstones) for number in self.buried if (slot := self.slots[number]) is not None])

    def find_marked(self) -> int:
        """Look at the keys that have come since that was done last, of all slots; returns how many cells there are."""
        counts = list(map(len, self.cells))  # which reads memory all over: half a millisecond
        if counts != self._examined:
            pairs = zip(counts, self._examined, strict=True)
            for number in [number for number, (count, known) in enumerate(pairs) if count != known]:
                self.find_marked_in(number)
        return sum(counts)

    def find_marked_in(self, number: int) -> None:
        """Likewise, of one."""
        cells = self.cells[number]
        new = len(cells) - self._examined[number]
        found = [key for key in islice(reversed(cells), new) if database_of(key)]
        if found:
            self.marked.setdefault(number, set()).update(found)
        self._examined[number] = len(cells)

    def about_to_remove(self, number: int, keys: Sequence[bytes]) -> None:
        """These cells will not be there any more."""
        self.find_marked_in(number)
        self._examined[number] -= len(keys)
        marked = self.marked.get(number)
        if marked is not None:
            marked.difference_update(keys)
            if not marked:
                del self.marked[number]

    def examine_anew(self, number: int) -> None:
        """Its cells are others."""
        self._examined[number] = 0
        self.marked.pop(number, None)

    def age_indexes(self) -> None:
        """Drop indexes that nobody has asked for `IDLE_MAX` rounds."""
        for number, index in list(self.indexes.items()):
            index.idle += 1
            if index.idle > IDLE_MAX:
                del self.indexes[number]


class Slot:
    """One owner's copy of one slot. Plain state; the rules are in `agreement`."""

    __slots__ = ("_copies", "_digest", "_digested_at", "lineage", "number", "tombstones")

    def __init__(self, copies: Copies, number: int) -> None:
        self._copies = copies
        self.number = number
        self.lineage: dict[int, int] = {}
        """For each earlier ballot of this copy's history the position at which it ended, oldest first."""
        self.tombstones: dict[bytes, int] = {}
        """The cells without a value, and their versions."""
        self._digest = 0
        self._digested_at = 0
        """The position at which the digest was computed."""

    @property
    def position(self) -> int:
        """The last change accepted."""
        return self._copies.positions[self.number]

    @property
    def cells(self) -> dict[bytes, Cell]:
        return self._copies.cells[self.number]

    @property
    def promised(self) -> int:
        """The highest ballot promised."""
        return self._copies.promised[self.number]

    @promised.setter
    def promised(self, ballot: int) -> None:
        self._copies.promised[self.number] = ballot
        self._note_plain()

    def _note_plain(self) -> None:
        copies, number = self._copies, self.number
        if self.tombstones:
            copies.buried.add(number)
            copies.plain[number] = 0
        else:
            copies.buried.discard(number)
            copies.plain[number] = copies.positions[number] >> SEQUENCE_BITS == copies.promised[number]

    def apply(self, to: int, changes: Sequence[Change]) -> None:
        """Extend the history to position `to`: every change becomes a cell of that version.

        Raises what `patched` does if a patch is none for what is here. What that has left of the keys is then of
        version `to`, as if it had been put: who lacks that change gets them as a whole, and holds the same."""
        position = self.position
        if (position ^ to) >> SEQUENCE_BITS:
            self.lineage[position_ballot(position)] = position
            if len(self.lineage) > LINEAGE_MAX:
                del self.lineage[next(iter(self.lineage))]
        self._copies.positions[self.number] = to
        cells = self.cells
        tombstones = self.tombstones
        value: Value | None
        for key, body, deadline in changes:
            if isinstance(body, tuple):
                try:
                    value = self._patched(key, body)
                except Exception:
                    for left, _, _ in changes:
                        if left in cells:
                            cells[left] = (to, *cells[left][1:])
                    self._note_plain()
                    raise
                if value is None:
                    deadline = 0
            else:
                value = body
            cells[key] = (to, value, deadline)
            if value is None:
                tombstones[key] = to
            elif tombstones:
                tombstones.pop(key, None)
        self._note_plain()

    def bury(self, key: bytes, to: int) -> None:
        """A key has no value any more since that position."""
        self.cells[key] = (to, None, 0)
        self.tombstones[key] = to
        self._note_plain()

    def _patched(self, key: bytes, body: Patch) -> Value | None:
        """What becomes of a key; some patches are made of what other keys of the slot hold."""
        if body[0] in OF_OTHERS:
            return derived(lambda other: self.cells[other][1], body)
        cell = self.cells.get(key)
        return patched(cell[1] if cell is not None else None, body)

    def on_history(self, position: int) -> bool:
        """Whether a copy at `position` is a prefix of this one, so that newer cells are all that it lacks."""
        ballot = position_ballot(position)
        if ballot == position_ballot(self.position):
            return position <= self.position
        return position == 0 or position <= self.lineage.get(ballot, -1)

    def newer_than(self, position: int) -> list[tuple[int, bytes]]:
        """(version, key) of every cell written after `position`, oldest first."""
        return newer_than(self.cells, position)

    def purge(self, upto: int) -> int:
        """Drop tombstones of versions up to `upto`, which every owner has passed, `PURGED_AT_ONCE` at most; how many
        there were."""
        purged = list(islice((key for key, version in self.tombstones.items() if version <= upto), PURGED_AT_ONCE))
        index = self._copies.indexes.get(self.number)
        if index is not None and not index.about_to_remove(self.cells, len(purged)):
            del self._copies.indexes[self.number]
        self._copies.about_to_remove(self.number, purged)
        for key in purged:
            del self.tombstones[key]
            del self.cells[key]
        self._note_plain()
        return len(purged)

    def replace(
        self,
        position: int,
        lineage: dict[int, int],
        cells: dict[bytes, Cell],
    ) -> None:
        """Become a copy at `position` that was put together elsewhere."""
        self._copies.positions[self.number] = position
        self._copies.cells[self.number] = cells
        self._copies.indexes.pop(self.number, None)
        self._copies.digesting.pop(self.number, None)
        self._copies.examine_anew(self.number)
        self.lineage = lineage
        self.tombstones = {key: cell[0] for key, cell in cells.items() if cell[1] is None}
        self._digested_at = -1
        self._note_plain()

    @property
    def live(self) -> int:
        """Keys with a value, expired ones that the home has not yet removed included (as Redis counts)."""
        return len(self.cells) - len(self.tombstones)

    def live_in(self, database: int) -> int:
        """As `live`, of one database."""
        copies, number = self._copies, self.number
        copies.find_marked_in(number)
        marked = copies.marked.get(number)
        if not marked:
            return 0 if database else self.live
        others = [database_of(key) for key in marked if key not in self.tombstones]
        return others.count(database) if database else self.live - len(others)

    @property
    def digest(self) -> int:
        """See `digest_of`. Computed when asked for and kept until the next change: 1 us a cell once per comparison
        instead of once per write."""
        if self._digested_at != self.position:
            self._digest = digest_of(self.cells)
            self._digested_at = self.position
        return self._digest

    def digest_bit_by_bit(self) -> int | None:
        """The digest; None: it is a large copy, ask again in another turn."""
        if len(self.cells) < LARGE_FROM or self._digested_at == self.position:
            return self.digest
        digesting = self._copies.digesting
        work = digesting.get(self.number)
        if work is None or work.cells is not self.cells:
            work = digesting[self.number] = Digesting(self.cells, self.position)
        digest = work.step(self.position)
        if digest is not None:
            del digesting[self.number]
            self._digest, self._digested_at = digest, self.position
        return digest

    def keys_from(self, start: int, count: int, now: int) -> tuple[list[bytes], int]:
        """Up to `count` keys that live at `now` (cluster milliseconds), in the order of `scan_order`, from `start` on;
        and where to go on (0: no more). Of a large slot that has not been listed lately there is no key in the first
        pages."""
        indexes = self._copies.indexes
        if len(self.cells) < INDEX_FROM:
            indexes.pop(self.number, None)
            return page_of(filter(partial(self._lives, now), self.cells), start, count)
        index = indexes.get(self.number)
        if index is None or index.outgrown(self.cells):
            index = indexes[self.number] = ScanIndex(self.cells)
        if not index.built(self.cells):
            return [], max(start, 1)
        return index.page(partial(self._lives, now), start, count)

    def _lives(self, now: int, key: bytes) -> bool:
        cell = self.cells.get(key)
        if cell is None or cell[1] is None:
            return False
        if type(cell[1]) is Held:
            return cell[1].value is not None and not 0 < cell[1].deadline <= now
        return not 0 < cell[2] <= now
