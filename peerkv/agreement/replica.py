"""An owner's rules: what it promises, accepts, answers and fetches. docs/protocol.md numbers them; so do the comments.

Whoever orders a slot (`home`) or asks about it (`coordinator`) goes through these rules, in its own copy as in others'.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from peerkv.agreement.operation import (
    Answers,
    CellAnswer,
    Count,
    Counts,
    Fetch,
    KeyPage,
    ListKeys,
    Message,
    Operation,
    Page,
    Prepare,
    Promises,
    ReadCell,
    Refused,
    Round,
)
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.resp import Reply
from peerkv.store.cell import SEQUENCE_BITS, Cell
from peerkv.store.slot import OperationId, Slot, digest_of

if TYPE_CHECKING:
    from peerkv.agreement.home import Accepts

PAGE_BYTES_MAX: Final = 1 << 20
"""Values and keys in one page of a copy: about a millisecond of either end's time."""

FETCH_PATIENCE_S: Final = 1.0


@dataclass(slots=True)
class Counters:
    """What an owner has seen, for INFO."""

    takeovers: int = 0
    """Slots that this node has become home of."""
    deposed: int = 0
    """Slots that another has taken from it."""
    caught_up: int = 0
    """Copies that were brought up to date by a fetch."""
    replaced: int = 0
    """... whose history was another, so that they were replaced."""
    mended: int = 0
    """... whose digest differed although their position agreed."""
    cells_fetched: int = 0
    purged: int = 0


@dataclass(slots=True)
class _Staged:
    """A copy on its way in: nothing of it counts before its last page."""

    whole: bool
    since: int
    cells: dict[bytes, Cell] = field(default_factory=dict)
    last: Page | None = None


class Replica:
    """This node as an owner of slots."""

    def __init__(
        self,
        view: View,
        settle: Callable[[int, Reply], None],
        start: Callable[[Operation], None],
    ) -> None:
        self.view = view
        self.counters = Counters()
        self.remembering: set[int] = set()
        """Slots whose `recent` is not empty."""
        self.fetching: set[int] = set()
        """Slots whose copy is being brought up to date."""
        self.on_deposed: Callable[[int], None] = lambda _number: None
        """Told of a slot when another member's ballot is promised or accepted here; set by `home`."""
        self.on_handed_out: Callable[[int], None] = lambda _number: None
        """Told of a slot before its copy is handed out, which may not change at that position any more; likewise."""
        self._settle = settle
        """Ends an operation of our own coordinator whose reply arrived with a change."""
        self._start = start

    # -- what homes send

    def accept(self, home: Peer, turn: int, accepts: Accepts) -> None:
        """ACCEPT: one turn's changes of slots, in order (protocol rules A1 to A5)."""
        view = self.view
        slots = view.slots
        me = view.me.process
        pair = view.pair
        missed: list[int] = []
        header = iter(accepts.slots)
        cells = iter(accepts.cells)
        entries = iter(accepts.ids)
        changes = zip(cells, cells, cells, strict=True)
        ids = zip(entries, entries, entries, strict=True)
        for number, start, to, changed, run in zip(header, header, header, header, header, strict=True):
            written = list(islice(changes, changed))
            done = list(islice(ids, run))
            slot = slots[number]
            ballot = to >> SEQUENCE_BITS
            if slot is None or (ballot != slot.promised and not self._follows(slot, ballot, home)):
                missed.append(number)
                continue
            if slot.position != start:
                if slot.position < to:  # A5; otherwise a copy brought it before the ACCEPT did (A4)
                    missed.append(number)
                    self._fall_behind(slot, home)
                continue
            slot.apply(to, written)  # A2
            if done:
                recent = slot.recent
                if not recent:
                    self.remembering.add(number)
                for process, counter, reply in done:
                    recent[process, counter] = reply
                    if process == me and pair[number]:
                        self._settle(counter, reply)  # A3: home and we are a majority
        home.acks += (turn, missed)
        view.touched.add(home)

    def probe(self, home: Peer, column: list[int]) -> None:
        """A home is at these positions: say that we are, too, or catch up."""
        items = iter(column)
        for number, position in zip(items, items, strict=True):
            slot = self.view.slots[number]
            if slot is None or not self._follows(slot, position >> SEQUENCE_BITS, home):
                continue
            if slot.position < position:
                self._fall_behind(slot, home)
            else:
                home.settled += (number, slot.position)
                self.view.touched.add(home)

    def _follows(self, slot: Slot, ballot: int, home: Peer) -> bool:
        """Whether we accept that ballot; a new one is promised, of a lower one its home is told (rule A1)."""
        if ballot == slot.promised:
            return True
        if ballot < slot.promised:
            home.tells.append(("nack", slot.number, ballot, slot.promised))
            self.view.touched.add(home)
            return False
        slot.promised = ballot
        self.on_deposed(slot.number)
        return True

    def _fall_behind(self, slot: Slot, home: Peer) -> None:
        if slot.number not in self.fetching:
            self.fetching.add(slot.number)
            self._start(self.catch_up(slot.number, slot.promised, home))

    def purge(self, column: list[Any]) -> None:
        """PURGE: every owner has passed these positions; tombstones up to them may go (rule X1)."""
        items = iter(column)
        for number, ballot, upto in zip(items, items, items, strict=True):
            slot = self.view.slots[number]
            if slot is not None and slot.promised == ballot and slot.position >= upto:
                self.counters.purged += slot.purge(upto)

    # -- what anybody asks

    def answer(self, message: Message) -> Message:
        """The answer to an ask that concerns our copies."""
        match message:
            case Prepare(numbers, ballots):
                return self._promise(numbers, ballots)
            case Fetch(number, ballot, since, whole):
                return self._page(number, ballot, since, whole)
            case ReadCell(number, key):
                slot = self.view.slots[number]
                return Refused() if slot is None else CellAnswer(*slot.cells.get(key, (0, None, 0)))
            case Count(numbers):
                return self._count(numbers)
            case ListKeys(numbers, start, count):
                return self._list(numbers, start, count)
            case _:
                return Refused()

    def _promise(self, numbers: list[int], ballots: list[int]) -> Message:
        promised: list[int] = []
        positions: list[int] = []
        for number, ballot in zip(numbers, ballots, strict=True):
            slot = self.view.slots[number]
            if slot is None:
                return Refused()
            if ballot > slot.promised:  # P1
                slot.promised = ballot
                self.on_deposed(number)
            promised.append(slot.promised)
            positions.append(slot.position)
        return Promises(promised, positions)

    def _page(self, number: int, ballot: int, since: int, whole: bool) -> Message:
        slot = self.view.slots[number]
        if slot is None or slot.promised != ballot:  # F1: only under one ballot do pages fit together
            return Refused(slot.promised if slot is not None else 0)
        self.on_handed_out(number)
        if since and not whole and not slot.on_history(since):
            whole, since = True, 0
        newer = slot.newer_than(since)
        cells: list[Any] = []
        size = 0
        upto = since
        last = True
        for version, key in newer:
            if size >= PAGE_BYTES_MAX and version != upto:
                last = False
                break
            _, value, deadline = slot.cells[key]
            cells += (key, version, value, deadline)
            size += len(key) + (len(value) if value is not None else 0) + 16
            upto = version
        if not last:
            return Page(whole, cells, upto, last=False)
        lineage = [item for entry in slot.lineage.items() for item in entry]
        recent: list[Any] = []
        for (process, counter), reply in slot.recent.items():
            recent += (process, counter, reply)
        marks = [item for entry in self.view.marks.items() for item in entry]
        return Page(whole, cells, slot.position, True, slot.position, lineage, recent, marks, slot.digest)

    def _count(self, numbers: list[int]) -> Message:
        positions: list[int] = []
        keys: list[int] = []
        for number in numbers:
            slot = self.view.slots[number]
            positions.append(-1 if slot is None else slot.position)
            keys.append(0 if slot is None else slot.live)
        return Counts(positions, keys)

    def _list(self, numbers: list[int], start: int, count: int) -> Message:
        pages: list[list[bytes]] = []
        resume = 0
        for number in numbers:
            slot = self.view.slots[number]
            if slot is None:
                return Refused()
            keys, resume = slot.keys_from(start, count)
            pages.append(keys)
            start = 0
            count -= len(keys)
            if resume or count <= 0:
                break
        return KeyPage(pages, resume)

    # -- what this owner asks when it has missed something

    def catch_up(self, number: int, ballot: int, source: Peer) -> Operation:
        """Fetch from `source`, the home of `ballot`, what our copy lacks (rules F1 to F4)."""
        yield from self.fetch(number, ballot, source)
        self.fetching.discard(number)
        slot = self.view.slots[number]
        if slot is not None and slot.promised == ballot == slot.position >> SEQUENCE_BITS:
            source.settled += (number, slot.position)
            self.view.touched.add(source)
            self.settle_recent(slot)

    def fetch(self, number: int, ballot: int, source: Peer, whole: bool = False) -> Operation:
        """Bring our copy to the source's, page by page, and install it at once at the end, or not at all."""
        slot = self.view.slots[number]
        if slot is None:
            return
        epoch = self.view.epoch
        staged = _Staged(whole, 0 if whole else slot.position)
        since = staged.since
        while True:
            answers: Answers = yield Round([(source, Fetch(number, ballot, since, staged.whole))], FETCH_PATIENCE_S)
            page = answers.by_peer.get(source)
            slot = self.view.slots[number]
            if slot is None or self.view.epoch != epoch or slot.promised != ballot or not isinstance(page, Page):
                return  # deposed, or the source is gone: the next home begins anew
            if not staged.whole and slot.position != staged.since:
                return  # an ACCEPT fitted in the meantime
            if page.whole and not staged.whole:
                staged = _Staged(True, 0)
            cells = iter(page.cells)
            for key, version, value, deadline in zip(cells, cells, cells, cells, strict=True):
                staged.cells[key] = (version, value, deadline)
            self.counters.cells_fetched += len(page.cells) // 4
            since = page.upto
            if page.last:
                break
        if not self._install(slot, staged, page):
            self.counters.mended += 1
            yield from self.fetch(number, ballot, source, whole=True)

    def _install(self, slot: Slot, staged: _Staged, page: Page) -> bool:
        """Whether the copy, put together, is the source's; only then it becomes ours (rule F3)."""
        cells = staged.cells if staged.whole else {**slot.cells, **staged.cells}
        if digest_of(cells) != page.digest and not staged.whole:
            return False
        recent: dict[OperationId, Reply] = {} if staged.whole else dict(slot.recent)
        entries = iter(page.recent)
        for process, counter, reply in zip(entries, entries, entries, strict=True):
            recent[process, counter] = reply
        marks = iter(page.marks)
        for process, mark in zip(marks, marks, strict=True):
            self.view.mark(process, mark)
        lineage = dict(zip(islice(page.lineage, 0, None, 2), islice(page.lineage, 1, None, 2), strict=True))
        slot.replace(page.position, lineage, cells, recent)
        self.counters.caught_up += 1
        self.counters.replaced += staged.whole
        if recent:
            self.remembering.add(slot.number)
        return True

    def settle_recent(self, slot: Slot) -> None:
        """End the operations of our own coordinator that a copy from its home shows to be chosen (rule A3)."""
        if self.view.pair[slot.number]:
            for (process, counter), reply in list(slot.recent.items()):
                if process == self.view.me.process:
                    self._settle(counter, reply)

    def forget_finished(self, gone: Collection[int]) -> None:
        """Drop remembered replies whose coordinators will not ask again, or whose processes are gone for good."""
        marks = self.view.marks
        for number in list(self.remembering):
            slot = self.view.slots[number]
            if slot is None:
                self.remembering.discard(number)
                continue
            recent = slot.recent
            for id_ in [id_ for id_ in recent if id_[1] < marks.get(id_[0], 0) or id_[0] in gone]:
                del recent[id_]
            if not recent:
                self.remembering.discard(number)
