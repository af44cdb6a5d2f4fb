"""An owner's rules: what it promises, accepts, answers and fetches. docs/protocol.md numbers them; so do the comments.

Whoever orders a slot (`home`) or asks about it (`coordinator`) goes through these rules, in its own copy as in others'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from peerkv.agreement.handout import Handout
from peerkv.agreement.journal import Journal
from peerkv.agreement.operation import (
    CONTINUES,
    UNFINISHED,
    Answers,
    CellAnswers,
    Count,
    Counts,
    Fetch,
    KeyPage,
    ListKeys,
    Message,
    Missed,
    Operation,
    Page,
    Pause,
    Prepare,
    Progressed,
    Promises,
    ReadCells,
    Refused,
    Round,
)
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.cbor import FORMER
from peerkv.clock import Clock
from peerkv.kernel.batches import accept
from peerkv.kernel.slot import Slot
from peerkv.metrics import counter
from peerkv.resp import Reply
from peerkv.store.cell import MEMBER_MASK, SEQUENCE_BITS, SEQUENCE_MASK, Cell, Change
from peerkv.store.large import LARGE_FROM, digest_entry
from peerkv.store.recent import TICKET_SLOT, Recent
from peerkv.store.values import patched, size_of

if TYPE_CHECKING:
    from peerkv.agreement.turn import Accepts

HELD_MAX: Final = 8
"""Values that have come in parts, of which it is said with each question for more that they are here."""
FETCH_PATIENCE_S: Final = 1.0
FETCHES_MAX: Final = 8
"""Copies that are brought up to date at a time, but for those that a request waits for: with twice as many nothing is
done sooner, and requests wait twice as long."""
RATE_OVER_S: Final = 1.0


@dataclass(slots=True)
class Counters:
    """What an owner has seen."""

    takeovers: int = counter("takeovers", "slots that this node has become home of")
    deposed: int = counter("deposed", "slots that another has taken from it")
    caught_up: int = counter("copies_caught_up", "copies that were brought up to date by a fetch")
    replaced: int = counter("copies_replaced", "... whose history was another, so that they were replaced")
    mended: int = counter("copies_mended", "... whose digest differed although their position agreed")
    purged: int = counter("tombstones_purged", "tombstones that nobody needs any more, and are gone")
    bytes_fetched: int = counter("fill_bytes_fetched", "what copies have come in with", "bytes")


@dataclass(slots=True)
class _Staged:
    """A copy on its way in: nothing of it counts before its last page."""

    whole: bool
    since: int
    cells: dict[bytes, Cell] = field(default_factory=dict)
    digest: int = 0
    """Of these cells."""
    unfinished: tuple[bytes, Cell] | None = None
    """A value of which some parts have come, and its key."""
    held: dict[bytes, int] = field(default_factory=dict)
    """Versions of values that have come in parts, newest last."""

    def take(self, cells: list[Any]) -> None:
        """What a page holds. Raises an exception if it does not fit to what has come before."""
        unfinished, self.unfinished = self.unfinished, None
        for key, version, content, deadline, flags in _rows(cells, 5):
            value = content
            if type(content) is list:
                value = None
                if flags & CONTINUES:
                    before = unfinished[1] if unfinished is not None and unfinished[0] == key else self.cells[key]
                    value = before[1]
                for part in content:
                    value = patched(value, part)
            if flags & UNFINISHED:
                self.unfinished = key, (version, value, deadline)
                self.held.pop(key, None)
            else:
                self._put(key, (version, value, deadline))
                if flags & CONTINUES:
                    self.held.pop(key, None)
                    self.held[key] = version
                    if len(self.held) > HELD_MAX:
                        del self.held[next(iter(self.held))]

    def _put(self, key: bytes, cell: Cell) -> None:
        """What a page says of a key; a later one may say another."""
        former = self.cells.get(key)
        if former is not None and former[1] is not None:
            self.digest ^= digest_entry(key, former[0])
        if cell[1] is not None:
            self.digest ^= digest_entry(key, cell[0])
        self.cells[key] = cell


class Replica:
    """This node as an owner of slots."""

    def __init__(
        self,
        clock: Clock,
        view: View,
        settle: Callable[[Iterable[int], Iterable[Reply]], None],
        start: Callable[[Operation], None],
        fill_rate: int = 1 << 30,
    ) -> None:
        self.view = view
        self._clock = clock
        self.counters = Counters()
        self.recent = Recent()
        self.fetching: set[int] = set()
        """Slots whose copy is being brought up to date."""
        self.queue: dict[int, Peer] = {}
        """Slots whose copy will be, and their homes; first come, first served."""
        self.journal = Journal()
        self._handout = Handout(view, self.recent, self.journal)
        self._unreached: dict[Peer, dict[int, bool]] = {}
        """Slots whose copies are behind those of homes that we cannot talk to yet, and whether a request waits."""
        self._comparing: set[int] = set()
        """Large slots that are being compared."""
        self._fetchers = 0
        """How many operations work it off."""
        self._fill_rate = fill_rate
        self._free_at = 0.0
        """When the next page may be asked for, so that the rate is kept."""
        self._rate_since = (0.0, 0)
        self._rate = 0
        self.on_promised: Callable[[int], None] = lambda _number: None
        """Told of a slot when another member's ballot is promised here; set by `home`."""
        self.on_refused: Callable[[int], None] = lambda _ticket: None
        """Told of an operation of our own coordinator that we do not accept, as its home is no home any more; set by
        `home`."""
        self._settle = settle
        """Ends operations of our own coordinator whose replies arrived with changes."""
        self._start = start

    # -- what homes send

    def accept(self, home: Peer, turn: int, accepts: Accepts) -> None:
        """ACCEPT: one turn's changes of slots, in order (protocol rules A1 to A5). What is usual is done by the kernel,
        which brings all else here, one by one."""
        copies = self.view.copies
        missed: list[int] = []
        for process, mark in accepts.marks.items():
            self.view.mark(process, mark)
        for place, (process, columns) in enumerate(accepts.segments):
            replies = columns[5] if process else ()
            if accepts.recipes and place in accepts.recipes:
                lost, replies = self._accept_recipes(home, process, columns, accepts.starts, accepts.recipes[place])
            else:
                lost = accept(copies, self, home, columns, accepts.starts, urgent=process != 0)
            if lost:
                missed += [ticket & TICKET_SLOT for ticket in lost]
            if process:
                self._remember_all(process, columns, replies, lost)
        self.journal.note(accepts)
        home.acknowledge(turn, missed, awaited=accepts.awaited)

    def _accept_recipes(
        self,
        home: Peer,
        process: int,
        columns: Sequence[Sequence[Any]],
        starts: dict[int, int],
        recipes: Sequence[int],
    ) -> tuple[list[int], list[Reply]]:
        """Operations of one coordinator, of which these have recipes for replies: before such a change is applied what
        its key holds is the reply (protocol rule A7). Returns the tickets of those that are not accepted, and all
        replies."""
        lost: list[int] = []
        replies = list(columns[5])
        done = 0
        for place in recipes:
            if place > done:
                before = [column[done:place] for column in columns]
                lost += accept(self.view.copies, self, home, before, starts, urgent=True)
            done = place + 1
            ticket, to, key, value, deadline, _ = (column[place] for column in columns)
            number = ticket & TICKET_SLOT
            slot = self.view.slots[number]
            is_new = slot is not None and slot.position < to
            replies[place] = recalled = self._recalled(number, to, key, self.recent[process].get(ticket))
            if not self.accept_one(home, number, to, key, value, deadline, starts, True):
                lost.append(ticket)
            elif recalled is None:
                lost.append(ticket)
                if slot is not None and is_new:  # our copy is not what the home's is
                    self.mend(home, slot.number)
        if done < len(replies):
            behind = [column[done:] for column in columns]
            lost += accept(self.view.copies, self, home, behind, starts, urgent=True)
        return lost, replies

    def _recalled(self, number: int, to: int, key: bytes, known: Reply) -> Reply:
        """What an operation has answered whose reply is said to be what its key held before its change, which leads to
        `to` and has not been applied here; or which is here with a copy, and then so is its reply, as `known`. None: no
        string is there, or is known any more."""
        slot = self.view.slots[number]
        if slot is None or slot.position >= to:
            return known if type(known) is bytes else None
        cell = slot.cells.get(key)
        value = cell[1] if cell is not None else None
        if type(value) is not bytes:
            return None
        self.recent.note_traffic(len(value))
        return value

    def _remember_all(
        self, process: int, columns: Sequence[Sequence[Any]], replies: Sequence[Reply], lost: list[int]
    ) -> None:
        """Of a turn's changes that are operations of one coordinator, of which some may be lost."""
        self._remember(process, columns[0], replies, lost)
        if lost and process == self.view.me.process:
            promised = self.view.copies.promised
            for ticket, to in zip(columns[0], columns[1], strict=True):
                if ticket in lost and to >> SEQUENCE_BITS < promised[ticket & TICKET_SLOT]:
                    self.on_refused(ticket)

    def _remember(self, process: int, tickets: Sequence[int], replies: Sequence[Reply], lost: list[int]) -> None:
        """What operations answered that we have accepted (all but the lost); our own coordinator learns it, too."""
        if lost:
            accepted = {ticket: reply for ticket, reply in zip(tickets, replies, strict=True) if ticket not in lost}
            tickets, replies = list(accepted), list(accepted.values())
        self.recent[process].update(zip(tickets, replies, strict=True))
        if process == self.view.me.process:
            self._settle_pairs(tickets, replies)

    def _settle_pairs(self, tickets: Sequence[int], replies: Sequence[Reply]) -> None:
        """The home of these operations and we have accepted them: where that is a majority, they have ended (A3)."""
        pair = self.view.pair
        if not all(pair[ticket & TICKET_SLOT] for ticket in tickets):
            ended = [(t, reply) for t, reply in zip(tickets, replies, strict=True) if pair[t & TICKET_SLOT]]
            tickets, replies = [ticket for ticket, _ in ended], [reply for _, reply in ended]
        self._settle(tickets, replies)

    def accept_one(
        self,
        home: Peer,
        number: int,
        to: int,
        key: Any,
        value: Any,
        deadline: int,
        starts: dict[int, int],
        urgent: bool,
    ) -> bool:
        """Another change than the usual: not of one key to a value, of another ballot or position than ours."""
        slot = self.view.slots[number]
        if slot is None or not self._follows(slot, to >> SEQUENCE_BITS, home):
            return False
        start = starts.get(number, -1) if to & SEQUENCE_MASK == 1 else to - 1
        if slot.position == start:
            try:
                self._apply(slot, to, key, value, deadline)  # A2
            except Exception:  # our copy is not what the home's is
                self.mend(home, slot.number)
                return False
        elif slot.position < to:
            self._fall_behind(slot, home, urgent)  # A5
            return False
        return True  # A4, where a copy brought it before the ACCEPT did

    def probe(self, home: Peer, column: list[int]) -> None:
        """A home is at these positions: say that we are, too, or catch up."""
        items = iter(column)
        for number, position, urgent in zip(items, items, items, strict=True):
            slot = self.view.slots[number]
            if slot is None or not self._follows(slot, position >> SEQUENCE_BITS, home):
                continue
            if slot.position < position:
                self._fall_behind(slot, home, bool(urgent))
            else:
                home.arrive(number, slot.position)

    def _follows(self, slot: Slot, ballot: int, home: Peer) -> bool:
        """Whether we accept that ballot; a new one is promised, of a lower one its home is told (rule A1)."""
        if ballot == slot.promised:
            return True
        if ballot < slot.promised:
            home.tell("nack", slot.number, slot.promised)
            return False
        if ballot & MEMBER_MASK != home.number:
            return False  # a home acts under its own ballots only
        slot.promised = ballot
        self.on_promised(slot.number)
        return True

    def _fall_behind(self, slot: Slot, home: Peer, urgent: bool) -> None:
        """Have our copy brought up to date: at once if a request waits for it, otherwise in its turn."""
        number = slot.number
        if number in self.fetching:
            return
        if not home.up:  # it can talk to us, and we not yet to it
            self._unreached.setdefault(home, {})[number] = urgent
            return
        if urgent:
            self.queue.pop(number, None)
            self.fetching.add(number)
            self._start(self.catch_up(number, slot.promised, home))
        else:
            self.queue[number] = home
            if self._fetchers < FETCHES_MAX:
                self._fetchers += 1
                self._start(self._work_off_queue())

    def link_up(self, home: Peer) -> None:
        """We can talk to a peer, which may have said before that our copies are behind its."""
        for number, urgent in self._unreached.pop(home, {}).items():
            slot = self.view.slots[number]
            if slot is not None and slot.promised & MEMBER_MASK == home.number:
                self._fall_behind(slot, home, urgent)

    def link_down(self, home: Peer) -> None:
        """It will say anew what we lack."""
        self._unreached.pop(home, None)

    def _work_off_queue(self) -> Operation:
        while self.queue:
            wait = self._free_at - self._clock.now
            if wait > 0:
                yield Pause(wait)
                continue
            number = next(iter(self.queue))
            home = self.queue.pop(number)
            slot = self.view.slots[number]
            if slot is None or number in self.fetching:
                continue
            if slot.promised & MEMBER_MASK == home.number:  # otherwise it is home no more: who is will ask
                self.fetching.add(number)
                yield from self.catch_up(number, slot.promised, home)
        self._fetchers -= 1

    def progress(self, filled: bytes, settled: bytes) -> Progressed:
        """How far we are with copies that are to be brought up to date; `filled`, `settled`: what we know as home."""
        to_go = len(self.queue) + len(self.fetching)
        return Progressed(filled, to_go, self.counters.bytes_fetched, self.rate, settled)

    @property
    def rate(self) -> int:
        """Bytes a second that were fetched of late."""
        since, fetched = self._rate_since
        if self._clock.now - since >= RATE_OVER_S:
            self._rate = int((self.counters.bytes_fetched - fetched) / (self._clock.now - since))
            self._rate_since = self._clock.now, self.counters.bytes_fetched
        return self._rate

    def compare(self, home: Peer, column: list[int]) -> None:
        """A home's digests, of copies that are complete: what differs is fetched anew, as a whole (rule F5). With each
        comes the oldest tombstone there: older ones were purged, and we have not been told (rule X1). A home whose
        ballot is not the highest any more, and that has not noticed, as nothing was written since, is told. A home at
        position 0 cannot ask by a change of its own: what we have was never chosen."""
        copies = self.view.copies
        items = iter(column)
        for number, ballot, position, digest, oldest in zip(items, items, items, items, items, strict=True):
            if ballot < copies.promised[number]:
                home.tell("nack", number, copies.promised[number])
                continue
            slot = copies.slots[number]
            if slot is None or ballot & MEMBER_MASK != home.number:
                continue
            if not position and copies.positions[number] >> SEQUENCE_BITS < ballot and copies.positions[number]:
                if number not in self.fetching and self._follows(slot, ballot, home):
                    self.fetching.add(number)
                    self._start(self.catch_up(number, ballot, home, whole=True))
                continue
            if copies.positions[number] != position:
                continue
            if slot.tombstones:
                self.counters.purged += slot.purge(oldest - 1)
            if copies.promised[number] != position >> SEQUENCE_BITS:
                continue
            if len(slot.cells) >= LARGE_FROM:
                if number not in self._comparing:
                    self._comparing.add(number)
                    self._start(self._compare_large(slot, position, digest, home))
            elif slot.digest != digest:
                self.mend(home, slot.number)

    def _compare_large(self, slot: Slot, position: int, digest: int, home: Peer) -> Operation:
        while (ours := slot.digest_bit_by_bit()) is None and slot.position == position:
            yield Pause(0.0)  # others have their turn
        self._comparing.discard(slot.number)
        if self.view.slots[slot.number] is slot and slot.position == position and ours not in (None, digest):
            self.mend(home, slot.number)

    def mend(self, home: Peer, number: int) -> None:
        """Our copy is at the home's position, and another."""
        if number not in self.fetching:
            self.counters.mended += 1
            self.fetching.add(number)
            self._start(self.catch_up(number, self.view.copies.promised[number], home, whole=True))

    def purge(self, home: Peer, column: list[Any]) -> None:
        """PURGE: every owner has passed these positions; tombstones up to them may go (rule X1)."""
        items = iter(column)
        for number, ballot, upto in zip(items, items, items, strict=True):
            slot = self.view.slots[number]
            if slot is None or slot.promised != ballot or ballot & MEMBER_MASK != home.number:
                continue
            if slot.position >= upto:
                self.counters.purged += slot.purge(upto)

    # -- what anybody asks

    def answer(self, message: Message) -> Message:
        """The answer to an ask that concerns our copies."""
        match message:
            case Prepare(numbers, ballots):
                return self._promise(numbers, ballots)
            case Fetch():
                return self._handout.answer(message)
            case ReadCells(number, keys):
                return self._read(number, keys)
            case Count(numbers, database):
                return self._count(numbers, database)
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
                self.on_promised(number)
            promised.append(slot.promised)
            positions.append(slot.position)
        return Promises(promised, positions)

    def _read(self, number: int, keys: list[bytes]) -> Message:
        slot = self.view.slots[number]
        if slot is None:
            return Refused()
        cells = [slot.cells.get(key, (0, None, 0)) for key in keys]
        sizes = [-1 if value is None else size_of(value) for _, value, _ in cells]
        return CellAnswers([cell[0] for cell in cells], sizes, [cell[2] for cell in cells])

    def _count(self, numbers: list[int], database: int) -> Message:
        positions: list[int] = []
        keys: list[int] = []
        for number in numbers:
            slot = self.view.slots[number]
            positions.append(-1 if slot is None else slot.position)
            keys.append(0 if slot is None else slot.live if database < 0 else slot.live_in(database))
        return Counts(positions, keys)

    def _list(self, numbers: list[int], start: int, count: int) -> Message:
        pages: list[list[bytes]] = []
        positions: list[int] = []
        resume = 0
        for number in numbers:
            slot = self.view.slots[number]
            if slot is None:
                return Refused()
            keys, resume = slot.keys_from(start, count, self._clock.cluster_ms)
            pages.append(keys)
            positions.append(slot.position)
            start = 0
            count -= len(keys)
            if resume or count <= 0:
                break
        return KeyPage(pages, resume, positions)

    # -- what this owner asks when it has missed something

    def catch_up(self, number: int, ballot: int, source: Peer, whole: bool = False) -> Operation:
        """Fetch from `source`, the home of `ballot`, what our copy lacks (rules F1 to F4)."""
        yield from self.fetch(number, ballot, source, whole)
        self.fetching.discard(number)
        slot = self.view.slots[number]
        if slot is not None and slot.promised == ballot == slot.position >> SEQUENCE_BITS:
            source.arrive(number, slot.position)
            self.settle_recent(slot)

    def fetch(self, number: int, ballot: int, source: Peer, whole: bool = False) -> Operation:
        """Bring our copy to the source's: by the changes that it lacks, one after another, as long as the source knows
        them; or else page by page, installed at once at the end, or not at all."""
        slot = self.view.slots[number]
        if slot is None:
            return
        epoch = self.view.epoch
        began = slot.position
        staged = _Staged(whole, 0 if whole else began)
        since, within = staged.since, list[Any]()
        while True:
            held = [item for entry in staged.held.items() for item in entry]
            question = Fetch(number, ballot, since, staged.whole, within, held)
            answers: Answers = yield Round([(source, question)], FETCH_PATIENCE_S)
            page = answers.by_peer.get(source)
            slot = self.view.slots[number]
            if slot is None or self.view.epoch != epoch or slot.promised != ballot:
                return  # deposed: the next home begins anew
            if isinstance(page, Missed):
                if not self._accept_missed(slot, page):
                    self.counters.mended += 1
                    yield from self.fetch(number, ballot, source, whole=True)
                    return
                if slot.position >= page.position:
                    return
                began = slot.position
                staged = _Staged(False, began)
                since, within = began, []
                continue
            if not isinstance(page, Page):
                return  # the source is gone
            if slot.position != began and not (staged.whole and _leads_on(page, slot.position)):
                return  # an ACCEPT fitted in the meantime, or another copy was installed
            if page.last and page.position < slot.position and ballot & MEMBER_MASK != source.number:
                return  # only the home knows that what we have beyond its copy was never chosen
            if page.whole and not staged.whole:
                staged = _Staged(True, 0)
            try:
                staged.take(page.cells)
            except Exception:  # it does not fit to those before it
                return
            size = _bytes_of(page)
            self.counters.bytes_fetched += size
            self._free_at = max(self._clock.now, self._free_at) + size / self._fill_rate
            since, within = page.upto, page.within
            if page.last:
                break
        base = 0
        if not staged.whole:
            while (digest := slot.digest_bit_by_bit()) is None:
                yield Pause(0.0)  # others have their turn
                if self.view.slots[number] is not slot or slot.promised != ballot or slot.position != staged.since:
                    return
            base = digest
        if not self._install(slot, staged, page, base):
            self.counters.mended += 1
            if not staged.whole:  # one that is not whole in itself is asked for again by whoever finds that it differs
                yield from self.fetch(number, ballot, source, whole=True)

    def _accept_missed(self, slot: Slot, missed: Missed) -> bool:
        """Changes that come again are accepted like those that come first (rule A2), under whichever ballot they were
        made: they are the source's history, and ours is a part of it. False: our copy is not what it should be."""
        accepts = missed.accepts
        for process, mark in accepts.marks.items():
            self.view.mark(process, mark)
        for process, columns in accepts.segments:
            lost: list[int] = []
            replies = list(columns[5]) if process else []
            for place, (ticket, to, key, body, deadline) in enumerate(zip(*columns[:5], strict=True)):
                if process and replies[place] is FORMER:
                    replies[place] = self._recalled(slot.number, to, key, self.recent[process].get(ticket))
                    if replies[place] is None:
                        if to == slot.position + 1:
                            return False
                        lost.append(ticket)
                        continue
                if to == slot.position + 1:
                    try:
                        self._apply(slot, to, key, body, deadline)
                    except Exception:
                        return False
                elif to > slot.position:
                    lost.append(ticket)
            if process:
                if lost:
                    replies = [reply for ticket, reply in zip(columns[0], replies, strict=True) if ticket not in lost]
                known = [ticket for ticket in columns[0] if ticket not in lost] if lost else columns[0]
                self.recent[process].update(zip(known, replies, strict=True))
        self.journal.note(accepts)
        size = sum([_size(item) for _, columns in accepts.segments for column in columns[2:4] for item in column])
        self.journal.weigh(size)
        self.counters.bytes_fetched += size + 64
        self.counters.caught_up += 1
        self._free_at = max(self._clock.now, self._free_at) + size / self._fill_rate
        return True

    def _apply(self, slot: Slot, to: int, key: Any, body: Any, deadline: int) -> None:
        """One change of a home's."""
        slot.apply(to, () if key is None else ((key, body, deadline),) if type(key) is bytes else _triples(key))

    def _install(self, slot: Slot, staged: _Staged, page: Page, base: int) -> bool:
        """Whether the copy, put together, is the source's; only then it becomes ours (rule F3). `base`: the digest of
        what it is built upon."""
        digest = base ^ staged.digest
        for key in staged.cells if not staged.whole else ():
            former = slot.cells.get(key)
            if former is not None and former[1] is not None:
                digest ^= digest_entry(key, former[0])
        if digest != page.digest:
            return False
        cells = staged.cells if staged.whole else {**slot.cells, **staged.cells}
        if staged.whole:
            self.recent.forget((slot.number,))
        entries = iter(page.recent)
        for process, ticket, reply in zip(entries, entries, entries, strict=True):
            self.recent[process][ticket] = reply
        marks = iter(page.marks)
        for process, mark in zip(marks, marks, strict=True):
            self.view.mark(process, mark)
        lineage = dict(zip(islice(page.lineage, 0, None, 2), islice(page.lineage, 1, None, 2), strict=True))
        slot.replace(page.position, lineage, cells)
        self.counters.caught_up += 1
        self.counters.replaced += staged.whole
        return True

    def settle_recent(self, slot: Slot) -> None:
        """End the operations of our own coordinator that a copy from its home shows to be chosen (rule A3)."""
        if self.view.pair[slot.number]:
            tickets = self.recent.tickets_of(slot.number, self.view.me.process)
            mine = self.recent[self.view.me.process]
            self._settle(tickets, [mine[ticket] for ticket in tickets])


def _leads_on(page: Page, position: int) -> bool:
    """Whether a whole copy that is on its way will hold what ours has accepted meanwhile: a copy never goes back."""
    return not page.last or (page.position >= position and not (page.position ^ position) >> SEQUENCE_BITS)


def _rows(flat: list[Any], width: int) -> Iterator[tuple[Any, ...]]:
    return zip(*[iter(flat)] * width, strict=True)


def _size(item: Any) -> int:
    """Bytes of what stands in a column, about."""
    if type(item) is bytes:
        return len(item)
    return sum(map(_size, item)) if type(item) is tuple or type(item) is list else 8


def _bytes_of(page: Page) -> int:
    return sum([_size(key) + _size(content) + 16 for key, _, content, _, _ in _rows(page.cells, 5)]) + 64


def _triples(flat: list[Any]) -> list[Change]:
    """The changes of an operation that makes several."""
    items = iter(flat)
    return list(zip(items, items, items, strict=True))
