"""A client's request at any node: which owners to ask, when to ask others, and what to say if it cannot be known.

The first try of a write is one entry in a home's column, the first try of a read one entry in an owner's; both end when
a frame comes back. It is sent elsewhere, under the same id, when whoever has it is *silent*: its link is gone, or for a
hedge it has read nothing of ours. Whoever reads is busy, and what waits in its queue is not made more (rule O2).

What one connection asks of one slot takes effect in the order in which it was sent, whoever dies: writes by tickets
(O3), reads by bunches. Reads of a slot that were sent in one turn go to the same owner in one frame, and are answered
as of one moment; where one of them needs more than that, so do those behind it, in their order (R4).
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from peerkv.agreement.home import Run
from peerkv.agreement.operation import (
    Answers,
    CellAnswers,
    Operation,
    Operations,
    ReadCells,
    Round,
)
from peerkv.agreement.peer import Peer
from peerkv.agreement.progress import Status
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.resp import Reply, ReplyError
from peerkv.ring.keys import slot_of
from peerkv.ring.quorum import Quorum
from peerkv.settings import Settings
from peerkv.store.cell import Cell
from peerkv.store.recent import TICKET_SLOT, TICKET_SLOT_BITS

if TYPE_CHECKING:
    from random import Random

CELLS_BYTES_MAX: Final = 8 << 20
"""Values that an owner sends in answer to one frame of reads; who wants more is sent to the home (rule R2)."""
_CHECKS: Final = frozenset({tuple})
SEND_CELL: Final = -1
"""In place of the version that the reader holds: it holds no copy, send yours."""
EXPIRED: Final = 1
"""Likewise: it holds a cell that has expired. No cell is of that version."""
RETRY_FIRST_S: Final = 0.005
ASKED_AGAIN: Final = 2
"""So often the same owner is asked before another one is."""
TOLD_MAX: Final = 5
"""An operation follows so many words of where the home is; then it waits between its attempts."""
READ_KEYS_MAX: Final = 256
"""Keys that every owner is asked for at a time, where a bunch of reads was not answered at once."""
AGAIN_SHARE: Final = 0.1
"""What is sent again because somebody is silent adds no more than this to the load, ..."""
AGAIN_BURST: Final = 1024
"""... but for so many at a time, as when a node dies with all that it was asked, and ..."""
AGAIN_PER_S: Final = 100.0
"""... so many a second. (gRPC's retry throttling, proposal A6)"""
CROWDED_LOOK: Final = 64
"""Operations looked at to find the oldest that is merely under way."""
PURSUED_MAX: Final = 4
"""So many times `in_flight_max` may be under way in all, those included that are pursued."""
BUSY_PATIENCE: Final = 3
"""So many times as long a request is pursued while a quorum of its owners is heard: they are busy (many slots on the
move, a slow machine), and what they are asked is more likely to be done than not."""


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


Write: TypeAlias = tuple[Sequence[bytes], Sink, int, int, Peer | None, float]
"""(request, sink, index, ticket of the operation to be run before or 0, who was asked first, when). A tuple, as one is
made for every operation: it costs a sixth of an object."""

Check: TypeAlias = tuple[int, Sequence[bytes], Sink, int, Reply, Run, int]
"""(slot, request, sink, index, reply, how it is run, cluster time): a read that our own copy answers so, if another
owner holds the same version of the key."""


@dataclass(slots=True, eq=False)
class Pursuit:
    """What becomes of a write whose first try did not end."""

    target: Peer | None
    """Who was asked last."""
    sent: float
    out: bool = True
    """It is in the hands of `target`, which has neither answered nor fallen silent."""
    attempts: int = 1
    undecided: int = 1
    """Homes that were asked and have not said that they did nothing."""
    again_at: float = 0.0
    """When it is to be sent again; earlier entries of the timers are void."""


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


@dataclass(slots=True, eq=False)
class Reading:
    """An operation that only reads."""

    sent_as: int
    """The ticket under which it was sent last."""
    before: Reading | None
    """The read that its client sent before on that slot, and ..."""
    behind: int
    """... the ticket that this one had when we were sent last."""
    ended: bool = False


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
class CoordinatorCounters:
    """What a coordinator has seen, for INFO."""

    reads_by_home: int = 0
    """Reads whose owners did not agree at once."""
    hedges: int = 0
    """Requests that were sent elsewhere, as who had them was silent."""
    uncertain: int = 0
    no_quorum: int = 0


class Coordinator:
    """This node as its clients' agent."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        operations: Operations,
        rng: Random,
    ) -> None:
        self.view = view
        self.counters = CoordinatorCounters()
        self.pending: dict[int, Write] = {}
        """Operations that have not ended by their tickets, oldest first."""
        self.turn = 0
        """Changes with every turn, and whenever reads of it are asked elsewhere: what is read of a slot in one turn is
        answered in order."""
        self._clock = clock
        self._settings = settings
        self._operations = operations
        self._rng = rng
        self._counter = 0
        self._pursued: dict[int, Pursuit] = {}
        self._retries: list[tuple[float, int]] = []
        """(when, ticket) of operations that are being pursued."""
        self._hedge_at = inf
        """When to look for operations whose first try takes too long."""
        self._readings: dict[int, Reading] = {}
        """Operations that only read, by their tickets."""
        self._aliases: dict[int, int] = {}
        """Tickets under which such were sent again, and those that they had first."""
        self._given_up: dict[int, int] = {}
        """Per slot the last operation of unknown outcome: whatever comes behind it waits until our mark has passed it
        (protocol rule O5)."""
        self._partner_of: dict[int, Peer] = {}
        """Whom the reads of this turn go to, by the identity of the tuple of partners."""
        self._asked_of: dict[int, list[Peer]] = {}
        """Likewise where we have no copy, by the identity of the tuple of owners."""
        self._budget = Budget()
        self._earned = 0
        self._reads_ended = 0
        self._reads_out = 0
        """Reads under way at owners."""

    # -- writes

    def write(
        self, number: int, request: Sequence[bytes], sink: Sink, index: int, after: int = 0, *, reads: bool = False
    ) -> int:
        """Have the slot's home run this request, not before the operation `after`; the sink gets the reply. `reads`: it
        changes nothing.

        Returns the operation's ticket.
        """
        self._counter += 1
        ticket = self._counter << TICKET_SLOT_BITS | number
        pending = self.pending
        if after and after not in pending:
            after = 0
        target = self.view.targets[number]
        pending[ticket] = (request, sink, index, after, target, self._clock.now)
        if reads:
            before = self._readings.get(after)
            self._readings[ticket] = Reading(ticket, before, before.sent_as if before is not None else after)
        if self._hedge_at == inf:
            self._hedge_at = self._clock.now + self._settings.write_hedge / 2
        if target is not None and (not self._given_up or self._may_follow(number)):
            target.forwards += (ticket, self._sent_as(after), request)
        else:
            self._pursued[ticket] = pursuit = Pursuit(None, self._clock.now, out=False, undecided=0)
            self._later(ticket, pursuit, RETRY_FIRST_S)
        return ticket

    def _may_follow(self, number: int) -> bool:
        """Whether what was given up of a slot can have no effect any more, once this turn's frames are read: our mark
        has passed it (protocol rules T4 and O5)."""
        given_up = self._given_up.get(number)
        if given_up is None:
            return True
        if given_up >= self.mark:
            return False
        del self._given_up[number]
        return True

    def _sent_as(self, after: int) -> int:
        """Under which ticket the operation of that ticket was sent last."""
        reading = self._readings.get(after) if self._aliases else None
        return after if reading is None else reading.sent_as

    def settle(self, tickets: Iterable[int], replies: Iterable[Reply]) -> None:
        """Operations have ended: their changes are chosen."""
        if self._readings:
            tickets, replies = self._in_order(tickets, replies)
        end = self.pending.pop
        pursued = self._pursued
        for ticket, reply in zip(tickets, replies, strict=True):
            write = end(ticket, None)
            if write is not None:
                sink = write[1]
                sink.replies[write[2]] = reply  # `Sink.deliver` in line
                sink.left -= 1
                if not sink.left:
                    sink.complete()
                if pursued:
                    pursued.pop(ticket, None)

    def _in_order(self, tickets: Iterable[int], replies: Iterable[Reply]) -> tuple[list[int], list[Reply]]:
        """What of this may be answered. Reads are not remembered by those who run them, so what counts of one that was
        sent again is the last time only; and if it was the one before that was sent again, whose answer is now newer
        than ours, we must be read again, too (protocol rule R4)."""
        kept: list[int] = []
        answers: list[Reply] = []
        for sent_as, reply in zip(tickets, replies, strict=True):
            ticket = self._aliases.get(sent_as, sent_as)
            reading = self._readings.get(ticket)
            if reading is not None:
                if reading.sent_as != sent_as:
                    continue
                before = reading.before
                if before is not None and (not before.ended or before.sent_as != reading.behind):
                    pursuit = self._pursuit(ticket, self.pending[ticket])
                    pursuit.out = False
                    self._later(ticket, pursuit, RETRY_FIRST_S)
                    continue
                self._end_reading(ticket, reading)
            kept.append(ticket)
            answers.append(reply)
        return kept, answers

    def _end_reading(self, ticket: int, reading: Reading) -> None:
        reading.ended = True
        reading.before = None
        del self._readings[ticket]
        self._aliases.pop(reading.sent_as, None)

    def done(self, home: Peer, tickets: Iterable[int], replies: Iterable[Reply]) -> None:
        """A home says that it has done operations of ours."""
        if self._pursued:
            for ticket in tickets:
                if self._aliases.get(ticket, ticket) in self._pursued:
                    self.view.told(ticket & TICKET_SLOT, home)
        self.settle(tickets, replies)

    @property
    def writes(self) -> int:
        """How many operations have gone to homes from here."""
        return self._counter

    def refused(self, ticket: int, status: Status, home: int = 0) -> None:
        """An owner has not done, or may not have done, an operation; another one (its number) is home, it says."""
        sent_as = ticket
        ticket = self._aliases.get(sent_as, sent_as)
        write = self.pending.get(ticket)
        reading = self._readings.get(ticket)
        if write is None or (reading is not None and reading.sent_as != sent_as):
            return
        pursuit = self._pursuit(ticket, write)
        pursuit.out = False
        if status is not Status.AGAIN:
            pursuit.undecided = max(0, pursuit.undecided - 1)
        if status is Status.NO_QUORUM:
            self.view.forget_told(ticket & TICKET_SLOT)
            if not pursuit.undecided and self._clock.now - write[5] >= self._settings.request_timeout:
                self._fail(ticket, write, pursuit)
                return
        told = self.view.members.get(home)
        if told is None or pursuit.attempts > TOLD_MAX:
            self._later(ticket, pursuit, RETRY_FIRST_S * (1 << min(pursuit.attempts - 1, 5)))
        elif told.usable:
            self.view.told(ticket & TICKET_SLOT, told)
            self._send_again(ticket, write, told)
        else:
            self._send_again(ticket, write)

    def outcomes(self, _owner: Peer, column: list[int]) -> None:
        """What owners say of operations of ours that they have not done."""
        items = iter(column)
        for ticket, status, home in zip(items, items, items, strict=True):
            self.refused(ticket, Status(status), home)

    def _pursuit(self, ticket: int, write: Write) -> Pursuit:
        pursuit = self._pursued.get(ticket)
        if pursuit is None:
            pursuit = self._pursued[ticket] = Pursuit(write[4], write[5])
        return pursuit

    def _later(self, ticket: int, pursuit: Pursuit, pause: float) -> None:
        pursuit.again_at = self._clock.now + pause * self._rng.uniform(0.8, 1.2)
        heapq.heappush(self._retries, (pursuit.again_at, ticket))

    def _send_again(self, ticket: int, write: Write, told: Peer | None = None) -> None:
        """Pursue an operation: the same id, to the home that we were told of, or else to the owner that we believe to
        be home, which is to take the slot over unless it is; where that one has been asked twice, to the others in turn
        (protocol rule O2)."""
        pursuit = self._pursuit(ticket, write)
        pursuit.out = False
        if self._out_of_time(ticket, write, pursuit):
            return
        request, _, _, after, _, _ = write
        if after and after not in self.pending:
            after = 0
        number = ticket & TICKET_SLOT
        if self._given_up and not self._may_follow(number):
            self._later(ticket, pursuit, RETRY_FIRST_S * (1 << min(pursuit.attempts, 5)))
            return
        target = told or self.view.targets[number]
        if told is None and target is pursuit.target and pursuit.attempts >= ASKED_AGAIN:
            others = [peer for peer in self.view.order[number] if peer.usable and peer is not target]
            target = others[pursuit.attempts % len(others)] if others else target
        pursuit.attempts += 1
        pursuit.target = target
        pursuit.sent = self._clock.now
        self._later(ticket, pursuit, self._settings.write_hedge)
        if target is not None:
            pursuit.out = True
            pursuit.undecided += 1
            sent_as = self._read_again(ticket) if ticket in self._readings else ticket
            target.forwards += (sent_as, self._sent_as(after), request)
            if told is None:
                target.insist(sent_as)

    def _read_again(self, ticket: int) -> int:
        """A new ticket for an operation that only reads: what comes of the former ones does not count any more."""
        reading = self._readings[ticket]
        self._aliases.pop(reading.sent_as, None)
        self._counter += 1
        reading.sent_as = self._counter << TICKET_SLOT_BITS | ticket & TICKET_SLOT
        self._aliases[reading.sent_as] = ticket
        if reading.before is not None:
            reading.behind = reading.before.sent_as
        return reading.sent_as

    def _out_of_time(self, ticket: int, write: Write, pursuit: Pursuit) -> bool:
        """Whether an operation has been pursued for as long as it is worth (protocol rule O4); it has ended then."""
        waited, patience = self._clock.now - write[5], self._settings.request_timeout
        if waited < patience:
            return False
        if waited < BUSY_PATIENCE * patience and self._quorum_lives(ticket & TICKET_SLOT, write[5]):
            return False
        self._fail(ticket, write, pursuit)
        return True

    def _quorum_lives(self, number: int, since: float) -> bool:
        """Whether enough owners of the slot have been heard since then, of whatever."""
        view = self.view
        alive = [peer.number for peer in view.order[number] if peer is view.me or (peer.up and peer.heard > since)]
        return bool(alive) and view.quorums[number].won(alive)

    def _fail(self, ticket: int, write: Write, pursuit: Pursuit) -> None:
        del self.pending[ticket]
        self._pursued.pop(ticket, None)
        number = ticket & TICKET_SLOT
        undecided = pursuit.undecided > 0
        reading = self._readings.get(ticket)
        if reading is not None:
            self._end_reading(ticket, reading)
            undecided = False
        elif undecided:
            self._given_up[number] = max(ticket, self._given_up.get(number, 0))
        write[1].deliver(write[2], self._no_outcome(number, undecided))

    def _no_outcome(self, number: int, undecided: bool) -> ReplyError:
        if self.view.topology is None:
            return ReplyError("CLUSTERDOWN this node has not met its cluster yet")
        quorum = self.view.quorums[number]
        owners = self.view.order[number]
        up = sum(peer.usable for peer in owners)
        seen = f"{up} of the {len(owners)} owners of slot {number} answer, {quorum.need} are needed"
        if not quorum.possible:
            seen = f"a majority of the owners of slot {number} is lost (see `peerkv recover`)"
        if undecided:
            self.counters.uncertain += 1
            return ReplyError(f"UNCERTAIN the outcome is unknown, the change may or may not have been made: {seen}")
        self.counters.no_quorum += 1
        return ReplyError(f"NOQUORUM nothing was done: {seen}")

    # -- reads

    def read(self, number: int, request: Sequence[bytes], run: Run, now: int, sink: Sink, index: int) -> bool:
        """Answer a request for one key from a majority of its owners (protocol rules R1 to R4).

        Returns whether it goes with this turn's reads: see `bunches`.
        """
        view = self.view
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
                peer.reads += (key, version)
                peer.reads_waiting.append((number, request, sink, index, run(cells, request, now)[1], run, now))
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
        partners = self.view.partners[number]
        if self.view.slots[number] is not None and partners:
            peer = self._partner_of.get(id(partners))
            return peer is not None and peer.usable
        return self._asked_of.get(id(self.view.others[number])) == self._asked(number)

    def _asked(self, number: int) -> list[Peer]:
        """Whose cells of a slot are asked for, where we have no copy; they are a majority."""
        others = self.view.others[number]
        asked = [peer for peer in others if peer.usable][: self.view.quorums[number].need]
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

    def close_reads(self, peer: Peer) -> None:
        """End of a turn: the reads in the peer's column are about to be sent."""
        peer.sequence += 1
        peer.reads_sent[peer.sequence] = (self._clock.now, peer.reads_waiting)
        self._reads_out += len(peer.reads_waiting)
        peer.reads_waiting = []

    def answer_reads(self, peer: Peer, sequence: int, keys: Sequence[bytes], versions: Sequence[int]) -> None:
        """As owner: what of the versions that a reader holds differs here, and the cells that it lacks (rule R1)."""
        slots, mask = self.view.slots, self.view.mask
        cells_of = self.view.copies.cells
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
            self._reads_ended += len(reads)
            self._reads_out -= len(reads)
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
        read.sink.deliver(read.index, read.run(cells, read.request, read.now)[1])
        return True

    def _ask_home(self, read: Read | Check, after: int) -> int:
        """The owners do not agree, or the key has expired: let the home put it in order, behind `after` (rule R2)."""
        if isinstance(read, Read):
            read.ended = True
            number, request, sink, index = read.slot, read.request, read.sink, read.index
        else:
            number, request, sink, index = read[:4]
        self.counters.reads_by_home += 1
        return self.write(number, request, sink, index, after, reads=True)

    def _hedge(self, reads: Iterable[Read | Check]) -> None:
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
        view = self.view
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
        view, key = self.view, request[1]
        cells: list[Cell] = []
        own = view.slots[number]
        if own is not None:
            cells.append(own.cells.get(key, (0, None, 0)))
        asks = [(peer, ReadCells(number, [key])) for peer in view.others[number]]
        answers: Answers = yield Round(asks, self._settings.write_hedge)
        cells += [row[0] for row in _cells(answers).values() if row]
        if not cells:
            sink.deliver(index, self._no_outcome(number, undecided=False))
            return
        cell = max(cells, key=lambda found: found[0])
        sink.deliver(index, run({key: cell} if cell[0] else {}, request, self._clock.cluster_ms)[1])

    # -- what moves operations on

    def met(self, peer: Peer) -> None:
        """What it was asked it may never have read: it has only now entered our epoch, or its link is down. All that is
        asked again at once, there or elsewhere; unanswered sends stay undecided."""
        for ticket, write in list(self.pending.items()):
            pursuit = self._pursued.get(ticket)
            if (write[4] is peer) if pursuit is None else (pursuit.target is peer and pursuit.out):
                self._send_again(ticket, write)
        self._ask_again(peer)

    def _ask_again(self, peer: Peer) -> None:
        """Reads that this owner was asked about are asked of all."""
        waiting = [read for _, reads in peer.reads_sent.values() for read in reads]
        self._reads_out -= len(waiting)
        waiting += peer.reads_waiting
        peer.reads_sent = {}
        peer.reads_waiting = []
        peer.reads.clear()
        self.end_turn()
        self._hedge(waiting)

    def enter_epoch(self) -> None:
        """Another topology: everything under way is asked anew."""
        for ticket, write in list(self.pending.items()):
            self._send_again(ticket, write)
        for peer in self.view.peers.values():
            self._ask_again(peer)

    def wake(self) -> None:
        """Send elsewhere what silent peers were asked, retry what is due."""
        now = self._clock.now
        ended = self._counter - len(self.pending) + self._reads_ended
        self._budget.earn(ended - self._earned)
        self._earned = ended
        for peer in self.view.peers.values():
            if peer.reads_sent:
                self._hedge_reads(peer, now)
        if now >= self._hedge_at:
            self._hedge_writes(now)
        retries = self._retries
        while retries and retries[0][0] <= now:
            at, ticket = heapq.heappop(retries)
            pursuit = self._pursued.get(ticket)
            if pursuit is None or pursuit.again_at != at:
                continue
            write = self.pending[ticket]
            if not pursuit.out:
                self._send_again(ticket, write)
            elif not self._out_of_time(ticket, write, pursuit):
                self._look_after(ticket, write, pursuit.target, pursuit.sent)

    def _hedge_reads(self, peer: Peer, now: float) -> None:
        """Ask others what a peer has not answered, if nothing has come from it either."""
        hedge = self._settings.read_hedge
        sent = peer.reads_sent
        while sent:
            sequence, (at, reads) = next(iter(sent.items()))
            if now < self._reads_due(peer, at):
                return
            self._doubt(peer, at)
            if not self._budget.spend(now, len(reads)) and not peer.silent:
                peer.reads_again_at = now + hedge
                return
            del sent[sequence]
            self._reads_out -= len(reads)
            self.counters.hedges += 1
            self.end_turn()
            self._hedge(reads)

    def _reads_due(self, peer: Peer, sent: float) -> float:
        """When reads that a peer was sent then are to be asked of others."""
        if not peer.usable:
            return sent + self._settings.read_hedge
        return max(max(sent, peer.read_at, self._clock.awake) + self._settings.read_hedge, peer.reads_again_at)

    def _hedge_writes(self, now: float) -> None:
        """Look after what was first sent half a hedge ago and has not ended."""
        half = self._settings.write_hedge / 2
        self._hedge_at = inf
        for ticket, write in list(self.pending.items()):
            if ticket in self._pursued:
                continue
            if write[5] > now - half:
                self._hedge_at = min(self._hedge_at, write[5] + half)
                return
            self._hedge_at = now + half / 2
            if now - write[5] < self._settings.request_timeout:
                self._look_after(ticket, write, write[4], write[5])
            elif not self._out_of_time(ticket, write, pursuit := self._pursuit(ticket, write)):
                self._later(ticket, pursuit, half)

    def _look_after(self, ticket: int, write: Write, target: Peer | None, sent: float) -> None:
        """An operation is in a peer's hands: leave it there unless that one is silent, as it is merely busy (O2)."""
        if target is not None and not self._doubt(target, sent):
            pursuit = self._pursued.get(ticket)
            if pursuit is not None:
                self._later(ticket, pursuit, self._settings.write_hedge / 4)
        elif self._budget.spend(self._clock.now):
            self.counters.hedges += 1
            self._send_again(ticket, write)
        else:
            self._later(ticket, self._pursuit(ticket, write), self._settings.write_hedge / 4)

    def _doubt(self, peer: Peer, since: float) -> bool:
        """Whether a peer that was asked something then is silent now."""
        return self.view.doubt(peer, since, self._clock, self._settings.write_hedge)

    @property
    def crowded(self) -> bool:
        """Whether so much is under way that clients had better wait to ask for more: so queues stay short, here and at
        the homes, and nobody waits for longer than they take (after CoDel, RFC 8289: what counts is the time in the
        queue). Operations that are pursued do not count: they wait for somebody who is not there, and others need not
        wait with them."""
        settings = self._settings
        count = len(self.pending) - len(self._pursued) + self._reads_out
        if count < settings.in_flight_min:
            return len(self.pending) >= PURSUED_MAX * settings.in_flight_max
        if count >= settings.in_flight_max:
            return True
        pursued = self._pursued
        late = self._clock.now - settings.queue_time
        for peer in self.view.peers.values():
            if peer.reads_sent and next(iter(peer.reads_sent.values()))[0] < late:
                return True
        oldest = next((write for t, write in islice(self.pending.items(), CROWDED_LOOK) if t not in pursued), None)
        return oldest is not None and oldest[5] < late

    @property
    def mark(self) -> int:
        """The oldest ticket that may still be repeated."""
        return next(iter(self.pending), (self._counter + 1) << TICKET_SLOT_BITS)

    @property
    def wake_at(self) -> float:
        """When `wake` has something to do."""
        at = self._hedge_at
        if self._retries:
            at = min(at, self._retries[0][0])
        for peer in self.view.peers.values():
            if peer.reads_sent:
                at = min(at, self._reads_due(peer, next(iter(peer.reads_sent.values()))[0]))
        return at


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
