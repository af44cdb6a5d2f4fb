"""What an owner sends to one that lacks something: the changes that it has missed, or else cells, page by page.

Cells go in order of version, and a page may end within a version and within a value; where it goes on is said by who
asks, so nothing is kept here that could not be made again. (protocol rules F1 and F2)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final

from peerkv.agreement.journal import Journal
from peerkv.agreement.operation import CONTINUES, UNFINISHED, Fetch, Message, Missed, Page, Refused
from peerkv.agreement.turn import Accepts
from peerkv.agreement.view import View
from peerkv.kernel.slot import Slot
from peerkv.store.cell import SEQUENCE_BITS, Cell
from peerkv.store.large import LARGE_FROM, Newer
from peerkv.store.recent import Recent
from peerkv.store.values import Collection, Patch, size_of_body

PAGE_BYTES_MAX: Final = 1 << 20
"""Values and keys in one page of a copy: some milliseconds of either end's time."""
CELL_BYTES: Final = 16
ARGUMENT_BYTES: Final = 64
"""An element of a collection counts for so many bytes more, as it takes its time to be put where it belongs."""
SORTED_MAX: Final = 4
"""Large copies that are being handed out and whose cells beyond some position are sorted for that; who asks for another
one has it sorted anew."""
CUT_MAX: Final = 8
"""Values that are being handed out in parts, as they were when that began; of another one the rest is sent only if it
has not been changed meanwhile, and otherwise it is begun anew."""
PATCHES_MAX: Final = 16_384
"""Changes of a slot that are looked at for those of one key, 10 ms."""
ABREAST_CHANGES: Final = 16_384
"""A copy that lacks no more changes than that is not looked at bit by bit, however large it is: 30 ms."""

_Place = tuple[int, bytes, int, int]
"""(slot, key, version, parts that have been sent)"""


class Handout:
    """Copies of this node, as others fetch them."""

    def __init__(self, view: View, recent: Recent, journal: Journal) -> None:
        self._view = view
        self._recent = recent
        self._journal = journal
        self._sorting: dict[tuple[int, int, bytes, int], Newer] = {}
        """By slot, and by where the next page begins: version, key, part."""
        self._cut: dict[_Place, tuple[Iterator[Patch], int]] = {}
        """The parts that are left of values, and their deadlines."""

    def answer(self, fetch: Fetch) -> Message:
        """What is asked for, or as much of it as there is room for in a message."""
        slot = self._view.slots[fetch.slot]
        if slot is None or slot.promised != fetch.ballot:  # F1: only under one ballot do pages fit together
            return Refused(slot.promised if slot is not None else 0)
        since, whole, within = fetch.since, fetch.whole, fetch.within
        if since and not whole and not slot.on_history(since):
            whole, since, within = True, 0, []
        if not (whole or within):
            missed = self._journal.since(slot.number, since, slot.position)
            if missed is not None:
                segments, reached = missed
                of = {process for process, _ in segments}
                told = {process: mark for process, mark in self._view.marks.items() if process in of}
                return Missed(Accepts(segments, {}, told, awaited=False), reached, slot.position)
        paging = _Paging(self, slot, since, within, dict(zip(fetch.held[::2], fetch.held[1::2], strict=True)))
        if len(slot.cells) >= LARGE_FROM:
            page = self._of_large(slot, since, within, paging, whole=whole)
            if page is not None:
                return page
        elif not paging.resume():
            return paging.page(whole)
        newer: Iterable[tuple[int, bytes]] = slot.newer_than(since - bool(within))
        if within:
            newer = [at for at in newer if at > (since, within[0])]
        for at in newer:
            if not paging.add(*at):
                return paging.page(whole)
        lineage = [item for entry in slot.lineage.items() for item in entry]
        recent = self._recent.of_slot(slot.number, self._view.marks)
        marks = [item for entry in self._view.marks.items() for item in entry]
        return Page(whole, paging.cells, slot.position, [], True, slot.position, lineage, recent, marks, slot.digest)

    def _of_large(self, slot: Slot, since: int, within: list[Any], paging: _Paging, *, whole: bool) -> Page | None:
        """A page of a copy that cannot be looked at as a whole; without cells, where there is more to be looked at.
        None: hardly anything is lacking."""
        position = slot.position
        if since >> SEQUENCE_BITS == position >> SEQUENCE_BITS and position - since <= ABREAST_CHANGES:
            if slot.digest_bit_by_bit() is not None and paging.resume():
                return None
            return paging.page(whole)
        newer = self._sorting.pop((slot.number, since, *(within or (b"", 0))), None)
        if newer is None:
            newer = Newer(slot.cells, since - bool(within), position)
        if newer.sorted_further(slot.cells) and paging.resume():
            while (first := newer.first) is not None:
                version, key = first
                cell = slot.cells.get(key)
                is_before = bool(within) and first <= (since, within[0])
                if is_before or cell is None or cell[0] != version:
                    newer.take()  # sent already; or written again: it comes with what is newer
                    continue
                if paging.is_full:
                    break
                newer.take()
                if not paging.add(version, key):
                    break
            else:
                return Page(whole, paging.cells, newer.upto, [], last=False)
        while len(self._sorting) >= SORTED_MAX:
            del self._sorting[next(iter(self._sorting))]
        page = paging.page(whole)
        self._sorting[slot.number, page.upto, *(page.within or (b"", 0))] = newer
        return page

    def parts(self, place: _Place, cell: Cell | None) -> tuple[Iterator[Patch], int] | None:
        """Those of a value that have not been sent, and its deadline; None: it has been changed, and is not what it was
        any more."""
        cut = self._cut.pop(place, None)
        if cut is None and cell is not None and cell[0] == place[2] and isinstance(cell[1], Collection):
            cut = islice(cell[1].parts(), place[3], None), cell[2]
        return cut

    def keep(self, place: _Place, parts: Iterator[Patch], deadline: int) -> None:
        """A page has ended within a value."""
        while len(self._cut) >= CUT_MAX:
            del self._cut[next(iter(self._cut))]
        self._cut[place] = parts, deadline

    def patches(self, number: int, key: bytes, since: int, upto: int) -> list[list[Any]] | None:
        """What has been done to a key between two versions of it; None: that is not known, or not all of it patches."""
        missed = self._journal.since(number, since, upto, rows_max=PATCHES_MAX)
        if missed is None or missed[1] < upto:
            return None
        bodies: list[Any] = []
        for _, columns in missed[0]:
            for changed, body in zip(columns[2], columns[3], strict=True):
                if changed == key:
                    bodies.append(body)
                elif type(changed) is list:
                    bodies += [body for at, body in zip(changed[::3], changed[1::3], strict=True) if at == key]
        return [list(body) for body in bodies] if all(type(body) is tuple for body in bodies) else None


class _Paging:
    """A page that is being filled."""

    def __init__(self, handout: Handout, slot: Slot, upto: int, within: Sequence[Any], held: dict[bytes, int]) -> None:
        self.cells: list[Any] = []
        """Flat: key, version, content, deadline, flags."""
        self._handout = handout
        self._slot = slot
        self._upto = upto
        self._within = list(within)
        self._held = held
        self._room = PAGE_BYTES_MAX

    @property
    def is_full(self) -> bool:
        return self._room <= 0

    def page(self, whole: bool) -> Page:
        """As it is now."""
        return Page(whole, self.cells, self._upto, self._within, last=False)

    def resume(self) -> bool:
        """Go on within the value in which the page before ended, though it may have been changed meanwhile: it comes
        as it was, and what was done to it behind that (F6). Whether there is room for more."""
        if not self._within or not self._within[1]:
            return True
        key, part = self._within
        version = self._upto
        rest = self._handout.parts((self._slot.number, key, version, part), self._slot.cells.get(key))
        self._within = [key, 0]
        return rest is None or self._add_parts(key, version, *rest, part)

    def add(self, version: int, key: bytes) -> bool:
        """Put a cell into the page, or as much of it as there is room for; whether all of it is in."""
        if self._room <= 0:
            return False
        self._upto, self._within = version, [key, 0]
        _, value, deadline = self._slot.cells[key]
        if isinstance(value, Collection):
            held = self._held.get(key)
            patches = self._handout.patches(self._slot.number, key, held, version) if held is not None else None
            if patches:
                self._put(key, version, patches, deadline, CONTINUES)
                return True
            return self._add_parts(key, version, value.parts(), deadline, 0)
        self._put(key, version, value, deadline, 0)
        return True

    def _add_parts(self, key: bytes, version: int, parts: Iterator[Patch], deadline: int, part: int) -> bool:
        content: list[list[Any]] = []
        room = self._room
        following = next(parts, None)
        while following is not None and room > 0:
            content.append(list(following))
            room -= _weight(following)
            following = next(parts, None)
        flags = CONTINUES if part else 0
        if following is not None:
            flags |= UNFINISHED
            sent = part + len(content)
            self._within = [key, sent]
            self._handout.keep((self._slot.number, key, version, sent), chain((following,), parts), deadline)
        self._put(key, version, content, deadline, flags)
        return following is None

    def _put(self, key: bytes, version: int, content: Any, deadline: int, flags: int) -> None:
        self.cells += (key, version, content, deadline, flags)
        self._room -= len(key) + CELL_BYTES
        if type(content) is list:
            self._room -= sum(map(_weight, content))
        elif content is not None:
            self._room -= len(content)


def _weight(patch: Sequence[Any]) -> int:
    return size_of_body(tuple(patch)) + ARGUMENT_BYTES * len(patch)
