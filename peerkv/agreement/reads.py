"""Reads: from a majority of the owners, without the home, and in order (protocol rules R1 to R4).

The first try is one entry in an owner's column, and ends when a frame comes back. Reads of a slot that are sent in one
turn are a bunch: they go to the same owner in one frame, which answers them as of one moment; where one of them needs
more than that, so do those behind it, in their order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from peerkv.agreement.home import Run, fault, reply_of
from peerkv.agreement.operation import Answers, CellAnswers, Operation, Operations, ReadCells, Round
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.resp import Reply, ReplyError
from peerkv.ring.keys import slot_of
from peerkv.ring.quorum import Quorum
from peerkv.settings import Settings
from peerkv.store.cell import Cell

CELLS_BYTES_MAX: Final = 8 << 20
"""Values that an owner sends in answer to one frame of reads; who wants more is sent to the home (rule R2)."""
_CHECKS: Final = frozenset({tuple})
SEND_CELL: Final = -1
"""In place of the version that the reader holds: it holds no copy, send yours."""
EXPIRED: Final = 1
"""Likewise: it holds a cell that has expired. No cell is of that version."""
READ_KEYS_MAX: Final = 256
"""Keys that every owner is asked for at a time, where a bunch of reads was not answered at once."""
AGAIN_SHARE: Final = 0.1
"""What is sent again because somebody is silent adds no more than this to the load, ..."""
AGAIN_BURST: Final = 1024
"""... but for so many at a time, as when a node dies with all that it was asked, and ..."""
AGAIN_PER_S: Final = 100.0
"""... so many a second. (gRPC's retry throttling, proposal A6)"""


class Sink(ABC):
    """Where replies go: a client's batch, or the gathering of a command that was split."""

    __slots__ = ("left", "replies")

    def __init__(self, count: int) -> None:
        self.replies: list[Reply] = [None] * count
        self.left = count
        """Replies still to come."""

    def deliver(self, index: int, reply: Reply) -> None:
        """One has come. Where many come at a time this is done in line."""
        self.replies[index] = reply
        self.left -= 1
        if not self.left:
            self.complete()

    @abstractmethod
    def complete(self) -> None:
        """All are here."""


Check: TypeAlias = tuple[int, Sequence[bytes], Sink, int, Reply, Run, int]
"""(slot, request, sink, index, reply, how it is run, cluster time): a read that our own copy answers so, if another
owner holds the same version of the key."""


@dataclass(slots=True, eq=False)
class Read:
    """A read of a slot of which we have no copy, or that is asked of every owner."""

    slot: int
    request: Sequence[bytes]
    sink: Sink
    index: int
    run: Run
    now: int
    need: int
    """Cells still wanted."""
    cell: Cell | None = None
    """The first that came."""
    ended: bool = False
    hedged: bool = False
    """All owners are being asked."""


class Budget:
    """How much may be sent again: a share of what ends, and a little without that."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = float(AGAIN_BURST)
        self._at = 0.0

    def earn(self, count: int) -> None:
        """So many have ended."""
        self._tokens = min(AGAIN_BURST, self._tokens + AGAIN_SHARE * count)

    def spend(self, now: float, count: int = 1) -> bool:
        """Whether so many may be sent again now."""
        self._tokens = min(AGAIN_BURST, self._tokens + AGAIN_PER_S * max(0.0, now - self._at))
        self._at = now
        if self._tokens < min(count, AGAIN_BURST):
            return False
        self._tokens -= count
        return True


@dataclass(slots=True)
class Counters:
    """What a coordinator has seen, for INFO."""

    reads_by_home: int = 0
    """Reads whose owners did not agree at once."""
    hedges: int = 0
    """Requests that were sent elsewhere, as who had them was silent."""
    uncertain: int = 0
    no_quorum: int = 0


class Reads:
    """Of one node's clients; and its answers to those of others."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        operations: Operations,
        budget: Budget,
        counters: Counters,
        at_home: Callable[[int, Sequence[bytes], Sink, int, int], int],
        no_answer: Callable[[int], ReplyError],
    ) -> None:
        """`at_home`: have the home of a slot answer a request, into a place of a sink, behind the operation of that
        ticket; returns its ticket. `no_answer`: what is said if nobody answers for a slot."""
        self.turn = 0
        """Changes with every turn, and whenever reads of it are asked elsewhere: what is read of a slot in one turn is
        answered in order."""
        self.ended = 0
        """How many were answered by owners, ..."""
        self.under_way = 0
        """... and how many wait for that."""
        self._settings = settings
        self._clock = clock
        self._view = view
        self._operations = operations
        self._budget = budget
        self._counters = counters
        self._at_home = at_home
        self._no_answer = no_answer
        self._partner_of: dict[int, Peer] = {}
        """Whom the reads of this turn go to, by the identity of the tuple of partners."""
        self._asked_of: dict[int, list[Peer]] = {}
        """Likewise where we have no copy, by the identity of the tuple of owners."""

    def read(self, number: int, request: Sequence[bytes], run: Run, now: int, sink: Sink, index: int) -> bool:
        """Answer a request for one key from a majority of its owners (protocol rules R1 to R4).

        Returns whether it goes with this turn's reads: see `bunches`.
        """
        view = self._view
        key = request[1]
        slot = view.slots[number]
        partners = view.partners[number]
        if slot is not None and partners:
            cells = view.copies.cells[number]
            cell = cells.get(key)
            version = 0
            if cell is not None:
                version = cell[0]
                if 0 < cell[2] <= now:
                    version = EXPIRED  # R3: only the home lets a key expire
            peer = self._partner_of.get(id(partners)) or self._choose_partner(partners)
            if peer.usable:
                try:
                    reply = run(cells, request, now)[1]
                except Exception as error:
                    reply = fault(request, error)
                peer.reads += (key, version)
                peer.reads_waiting.append((number, request, sink, index, reply, run, now))
                return True
        elif slot is None and view.topology is not None and not view.quorums[number].joint:
            need = view.quorums[number].need
            asked = self._asked(number)
            if len(asked) == need:
                read = Read(number, request, sink, index, run, now, need)
                for peer in asked:
                    peer.reads += (key, SEND_CELL)
                    peer.reads_waiting.append(read)
                return True
        self._operations.start(
            self._clock.now, self._read_slowly(number, [Read(number, request, sink, index, run, now, 1)])
        )
        return False

    def bunches(self, number: int) -> bool:
        """Whether a read of a slot now is answered together with those of it that were sent in this turn, in order: it
        goes to the same owners in the same frame (protocol rule R4)."""
        partners = self._view.partners[number]
        if self._view.slots[number] is not None and partners:
            peer = self._partner_of.get(id(partners))
            return peer is not None and peer.usable
        return self._asked_of.get(id(self._view.others[number])) == self._asked(number)

    def _asked(self, number: int) -> list[Peer]:
        """Whose cells of a slot are asked for, where we have no copy; they are a majority."""
        others = self._view.others[number]
        asked = [peer for peer in others if peer.usable][: self._view.quorums[number].need]
        self._asked_of.setdefault(id(others), asked)
        return asked

    def _choose_partner(self, partners: tuple[Peer, ...]) -> Peer:
        """Whom this turn's reads of slots with these partners go to."""
        peer = partners[0]
        if len(partners) > 1:
            other = partners[1]
            if not peer.usable or (other.usable and not peer.reads and (other.reads or self.turn & 1)):
                peer = other  # where there is a frame of reads already: one is cheaper than two
        self._partner_of[id(partners)] = peer
        return peer

    def end_turn(self) -> None:
        """Of the node: everything up to here goes out together. Another bunch of reads begins also where some on their
        way are asked elsewhere."""
        self.turn += 1
        self._partner_of.clear()
        if self._asked_of:
            self._asked_of.clear()

    def close(self, peer: Peer) -> None:
        """End of a turn: the reads in the peer's column are about to be sent."""
        peer.sequence += 1
        peer.reads_sent[peer.sequence] = (self._clock.now, peer.reads_waiting)
        self.under_way += len(peer.reads_waiting)
        peer.reads_waiting = []

    def answer(self, peer: Peer, sequence: int, keys: Sequence[bytes], versions: Sequence[int]) -> None:
        """As owner: what of the versions that a reader holds differs here, and the cells that it lacks (rule R1)."""
        slots, mask = self._view.slots, self._view.mask
        cells_of = self._view.copies.cells
        differ: list[int] = []
        cells: list[Any] = []
        size = 0
        for index, (key, version) in enumerate(zip(keys, versions, strict=True)):
            number = slot_of(key, mask)
            cell = cells_of[number].get(key)
            if (0 if cell is None else cell[0]) == version and slots[number] is not None:
                continue
            if version == SEND_CELL and slots[number] is not None and size <= CELLS_BYTES_MAX:
                cells += (index, *(cell or (0, None, 0)))
                size += len(cell[1] or b"") if cell is not None else 0
            else:
                differ.append(index)
        peer.confirm(sequence, differ, cells)

    def confirmed(self, peer: Peer, confirms: list[Any]) -> None:
        """Owners' answers to our reads."""
        for sequence, differ, cells in confirms:
            sent = peer.reads_sent.pop(sequence, None)
            if sent is None:
                continue
            reads = sent[1]
            self.ended += len(reads)
            self.under_way -= len(reads)
            if differ or cells or not _CHECKS.issuperset(map(type, reads)):
                self._compare(reads, differ, cells)
                continue
            for _, _, sink, index, reply, _, _ in reads:
                sink.replies[index] = reply  # `Sink.deliver` in line
                sink.left -= 1
                if not sink.left:
                    sink.complete()

    def _compare(self, reads: list[Check | Read], differ: list[int], cells: list[Any]) -> None:
        """Where owners do not agree, that read and those of its slot behind it go to the home, in their order (R4)."""
        unsure = set(differ)
        items = iter(cells)
        found = {
            index: (version, value, deadline) for index, version, value, deadline in zip(*[items] * 4, strict=True)
        }
        last: dict[int, int] = {}
        """Per slot that went to its home the last operation."""
        for index, read in enumerate(reads):
            if isinstance(read, Read):
                number = read.slot
                if not read.ended and (number in last or index in unsure or not self._counts(read, found.get(index))):
                    last[number] = self._ask_home(read, last.get(number, 0))
            else:
                number = read[0]
                if number in last or index in unsure:
                    last[number] = self._ask_home(read, last.get(number, 0))
                else:
                    read[2].deliver(read[3], read[4])

    def _counts(self, read: Read, cell: Cell | None) -> bool:
        """Take an owner's cell into account; False: only the home can answer this read."""
        if cell is None:
            return False
        read.need -= 1
        if read.cell is None:
            read.cell = cell
        elif read.cell[0] != cell[0]:
            return False
        return read.need > 0 or self._answer(read, cell)

    def _answer(self, read: Read, cell: Cell) -> bool:
        """From this cell, unless it has expired: then only the home can (R3)."""
        if 0 < cell[2] <= read.now:
            return False
        read.ended = True
        cells = {read.request[1]: cell} if cell[0] else {}
        read.sink.deliver(read.index, reply_of(read.run, cells, read.request, read.now))
        return True

    def _ask_home(self, read: Read | Check, after: int) -> int:
        """The owners do not agree, or the key has expired: let the home put it in order, behind `after` (rule R2)."""
        if isinstance(read, Read):
            read.ended = True
            number, request, sink, index = read.slot, read.request, read.sink, read.index
        else:
            number, request, sink, index = read[:4]
        self._counters.reads_by_home += 1
        return self._at_home(number, request, sink, index, after)

    def _ask_all(self, reads: Iterable[Read | Check]) -> None:
        """An owner takes too long or is gone: ask all of them, slot by slot."""
        bunches: dict[int, list[Read]] = {}
        for read in reads:
            if not isinstance(read, Read):
                number, request, sink, index, _, run, now = read
                read = Read(number, request, sink, index, run, now, 1)
            if not read.ended and not read.hedged:
                read.hedged = True
                bunches.setdefault(read.slot, []).append(read)
        for number, bunch in bunches.items():
            self._operations.start(self._clock.now, self._read_slowly(number, bunch))

    def _read_slowly(self, number: int, bunch: list[Read]) -> Operation:
        """Ask every owner that can be asked; the first read that this does not decide goes to the home, and so do all
        behind it (protocol rule R4)."""
        view = self._view
        keys = list(dict.fromkeys([read.request[1] for read in bunch]))
        agreed: dict[bytes, Cell] = {}
        for first in range(0, len(keys), READ_KEYS_MAX):
            if view.topology is None:
                break
            part = keys[first : first + READ_KEYS_MAX]
            epoch = view.epoch
            quorum = view.quorums[number]
            own = view.slots[number]
            held: dict[int, list[Cell]] = {}
            if own is not None:
                held[view.me.number] = [own.cells.get(key, (0, None, 0)) for key in part]
            if not quorum.won(held):
                asks = [(peer, ReadCells(number, part)) for peer in view.others[number]]
                enough = partial(_all_agreed, quorum, held, len(part))
                answers: Answers = yield Round(asks, self._settings.read_hedge, enough)
                held.update(_cells(answers))
            if view.epoch != epoch:
                break
            found = {key: _agreed(quorum, held, index) for index, key in enumerate(part)}
            agreed.update({key: cell for key, cell in found.items() if cell is not None})
            if len(agreed) < first + len(part):
                break
        last = 0
        for read in bunch:
            cell = agreed.get(read.request[1])
            if not read.ended and (last or cell is None or not self._answer(read, cell)):
                last = self._ask_home(read, last)

    def read_any_copy(self, number: int, request: Sequence[bytes], run: Run, sink: Sink, index: int) -> None:
        """Answer a request for one key from the furthest of the copies that answer, be it ever so old (rule V8)."""
        self._operations.start(self._clock.now, self._read_any_copy(number, request, run, sink, index))

    def _read_any_copy(self, number: int, request: Sequence[bytes], run: Run, sink: Sink, index: int) -> Operation:
        view, key = self._view, request[1]
        cells: list[Cell] = []
        own = view.slots[number]
        if own is not None:
            cells.append(own.cells.get(key, (0, None, 0)))
        asks = [(peer, ReadCells(number, [key])) for peer in view.others[number]]
        answers: Answers = yield Round(asks, self._settings.write_hedge)
        cells += [row[0] for row in _cells(answers).values() if row]
        if not cells:
            sink.deliver(index, self._no_answer(number))
            return
        cell = max(cells, key=lambda found: found[0])
        sink.deliver(index, reply_of(run, {key: cell} if cell[0] else {}, request, self._clock.cluster_ms))

    def ask_again(self, peer: Peer) -> None:
        """Reads that this owner was asked about are asked of all."""
        waiting = [read for _, reads in peer.reads_sent.values() for read in reads]
        self.under_way -= len(waiting)
        waiting += peer.reads_waiting
        peer.reads_sent = {}
        peer.reads_waiting = []
        peer.reads.clear()
        self.end_turn()
        self._ask_all(waiting)

    def hedge(self, peer: Peer, now: float) -> None:
        """Ask others what a peer has not answered, if nothing has come from it either."""
        hedge = self._settings.read_hedge
        sent = peer.reads_sent
        while sent:
            sequence, (at, reads) = next(iter(sent.items()))
            if now < self.due(peer, at):
                return
            self._view.doubt(peer, at, self._clock, self._settings.write_hedge)
            if not self._budget.spend(now, len(reads)) and not peer.silent:
                peer.reads_again_at = now + hedge
                return
            del sent[sequence]
            self.under_way -= len(reads)
            self._counters.hedges += 1
            self.end_turn()
            self._ask_all(reads)

    def due(self, peer: Peer, sent: float) -> float:
        """When reads that a peer was sent then are to be asked of others."""
        if not peer.usable:
            return sent + self._settings.read_hedge
        patience = self._view.patience(peer, self._clock, self._settings.read_hedge)
        return max(max(sent, peer.read_at, self._clock.awake) + patience, peer.reads_again_at)


def _cells(answers: Answers) -> dict[int, list[Cell]]:
    return {
        peer.number: list(zip(answer.versions, answer.values, answer.deadlines, strict=True))
        for peer, answer in answers.by_peer.items()
        if isinstance(answer, CellAnswers)
    }


def _agreed(quorum: Quorum, held: dict[int, list[Cell]], index: int) -> Cell | None:
    """The cell whose version a quorum holds: it was chosen, and nothing newer is."""
    cells = {number: row[index] for number, row in held.items() if index < len(row)}
    for cell in cells.values():
        if quorum.won([number for number, other in cells.items() if other[0] == cell[0]]):
            return cell
    return None


def _all_agreed(quorum: Quorum, own: dict[int, list[Cell]], count: int, answers: Answers) -> bool:
    held = {**own, **_cells(answers)}
    return all(_agreed(quorum, held, index) is not None for index in range(count))
