"""A client's request at any node: which owners to ask, when to ask others, and what to say if it cannot be known.

The first try of a write is one entry in a home's column, the first try of a read one entry in an owner's; both end when
a frame comes back. What does not end so within a hedge is pursued: sent again under the same id, to the next owner
where the first is silent.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from peerkv.agreement.home import Run, Status
from peerkv.agreement.operation import (
    Answers,
    CellAnswer,
    Operation,
    Operations,
    ReadCell,
    Round,
)
from peerkv.agreement.peer import Peer
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

SEND_CELL: Final = -1
"""In place of the version that the reader holds: it holds no copy, send yours."""
RETRY_FIRST_S: Final = 0.005
ASKED_AGAIN: Final = 2
"""So often the same owner is asked before another one is."""
TOLD_MAX: Final = 5
"""An operation follows so many words of where the home is; then it waits between its attempts."""
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


@dataclass(slots=True)
class CoordinatorCounters:
    """What a coordinator has seen, for INFO."""

    reads_by_home: int = 0
    """Reads whose owners did not agree at once."""
    hedges: int = 0
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
        self._hedged_upto = 0
        """Operations up to this ticket have been looked at."""
        self._turn = 0
        """Changes with every turn, and with it the partner that the first read goes to."""

    # -- writes

    def write(self, number: int, request: Sequence[bytes], sink: Sink, index: int, after: int = 0) -> int:
        """Have the slot's home run this request, not before the operation `after`; the sink gets the reply.

        Returns the operation's ticket.
        """
        self._counter += 1
        ticket = self._counter << TICKET_SLOT_BITS | number
        pending = self.pending
        if after and after not in pending:
            after = 0
        target = self.view.targets[number]
        pending[ticket] = (request, sink, index, after, target, self._clock.now)
        if self._hedge_at == inf:
            self._hedge_at = self._clock.now + self._settings.write_hedge
        if target is not None:
            target.forwards += (ticket, after, request)
        else:
            self._pursued[ticket] = pursuit = Pursuit(None, self._clock.now, undecided=0)
            self._later(ticket, pursuit, RETRY_FIRST_S)
        return ticket

    def settle(self, tickets: Iterable[int], replies: Iterable[Reply]) -> None:
        """Operations have ended: their changes are chosen."""
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

    def done(self, home: Peer, tickets: Iterable[int], replies: Iterable[Reply]) -> None:
        """A home says that it has done operations of ours."""
        if self._pursued:
            for ticket in tickets:
                if ticket in self._pursued:
                    self.view.told(ticket & TICKET_SLOT, home)
        self.settle(tickets, replies)

    @property
    def writes(self) -> int:
        """How many operations have gone to homes from here."""
        return self._counter

    def refused(self, ticket: int, status: Status, home: int = 0) -> None:
        """An owner has not done, or may not have done, an operation; another one (its number) is home, it says."""
        write = self.pending.get(ticket)
        if write is None:
            return
        pursuit = self._pursuit(ticket, write)
        if status is not Status.AGAIN:
            pursuit.undecided = max(0, pursuit.undecided - 1)
        if status is Status.NO_QUORUM:
            self.view.forget_told(ticket & TICKET_SLOT)
            if not pursuit.undecided and self._clock.now - write[5] >= self._settings.request_timeout / 3:
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

    def outcomes(self, column: list[int]) -> None:
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
        request, _, _, after, _, started = write
        if after and after not in self.pending:
            after = 0
        number = ticket & TICKET_SLOT
        waited, patience = self._clock.now - started, self._settings.request_timeout
        if waited >= patience and (waited >= BUSY_PATIENCE * patience or not self._quorum_lives(number, started)):
            self._fail(ticket, write, pursuit)
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
            pursuit.undecided += 1
            target.forwards += (ticket, after, request)
            if told is None:
                target.insist(ticket)

    def _quorum_lives(self, number: int, since: float) -> bool:
        """Whether enough owners of the slot have been heard since then, of whatever."""
        view = self.view
        alive = [peer.number for peer in view.order[number] if peer is view.me or (peer.up and peer.heard > since)]
        return bool(alive) and view.quorums[number].won(alive)

    def _fail(self, ticket: int, write: Write, pursuit: Pursuit) -> None:
        del self.pending[ticket]
        self._pursued.pop(ticket, None)
        write[1].deliver(write[2], self._no_outcome(ticket & TICKET_SLOT, pursuit.undecided > 0))

    def _no_outcome(self, number: int, undecided: bool) -> ReplyError:
        if self.view.topology is None:
            return ReplyError("CLUSTERDOWN this node has not met its cluster yet")
        quorum = self.view.quorums[number]
        owners = self.view.order[number]
        up = sum(peer.usable for peer in owners)
        seen = f"{up} of the {len(owners)} owners of slot {number} answer, {quorum.need} are needed"
        if undecided:
            self.counters.uncertain += 1
            return ReplyError(f"UNCERTAIN the outcome is unknown, the change may or may not have been made: {seen}")
        self.counters.no_quorum += 1
        return ReplyError(f"NOQUORUM nothing was done: {seen}")

    # -- reads

    def read(self, number: int, request: Sequence[bytes], run: Run, now: int, sink: Sink, index: int) -> None:
        """Answer a request for one key from a majority of its owners (protocol rules R1 to R3)."""
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
                    self.write(number, request, sink, index)  # R3: only the home lets a key expire
                    return
            peer = partners[0]
            if len(partners) > 1:
                other = partners[1]
                if not peer.usable or (other.usable and not peer.reads and (other.reads or self._turn & 1)):
                    peer = other  # where there is a frame of reads already: one is cheaper than two
            if peer.usable:
                peer.reads += (key, version)
                peer.reads_waiting.append((number, request, sink, index, run(cells, request, now)[1], run, now))
                return
        elif slot is None and view.topology is not None and not view.quorums[number].joint:
            need = view.quorums[number].need
            asked = [peer for peer in view.others[number] if peer.usable][:need]
            if len(asked) == need:
                read = Read(number, request, sink, index, run, now, need)
                for peer in asked:
                    peer.reads += (key, SEND_CELL)
                    peer.reads_waiting.append(read)
                return
        self._operations.start(self._clock.now, self._read_slowly(Read(number, request, sink, index, run, now, 1)))

    def end_turn(self) -> None:
        """Of the node: everything up to here goes out together."""
        self._turn += 1

    def close_reads(self, peer: Peer) -> None:
        """End of a turn: the reads in the peer's column are about to be sent."""
        peer.sequence += 1
        peer.reads_sent[peer.sequence] = (self._clock.now, peer.reads_waiting)
        peer.reads_waiting = []

    def answer_reads(self, peer: Peer, sequence: int, keys: Sequence[bytes], versions: Sequence[int]) -> None:
        """As owner: what of the versions that a reader holds differs here, and the cells that it lacks (rule R1)."""
        slots = self.view.slots
        cells_of = self.view.copies.cells
        differ: list[int] = []
        cells: list[Any] = []
        for index, (key, version) in enumerate(zip(keys, versions, strict=True)):
            number = slot_of(key)
            cell = cells_of[number].get(key)
            if (0 if cell is None else cell[0]) == version and slots[number] is not None:
                continue
            if version == SEND_CELL and slots[number] is not None:
                cells += (index, *(cell or (0, None, 0)))
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
            if differ or cells:
                self._compare(reads, differ, cells)
                continue
            for _, _, sink, index, reply, _, _ in reads:
                sink.replies[index] = reply  # `Sink.deliver` in line
                sink.left -= 1
                if not sink.left:
                    sink.complete()

    def _compare(self, reads: list[Any], differ: list[int], cells: list[Any]) -> None:
        left = dict(enumerate(reads))
        for index in differ:
            self._ask_home(left.pop(index))
        items = iter(cells)
        for index, version, value, deadline in zip(items, items, items, items, strict=True):
            read = left.pop(index)
            if read.ended:
                continue
            cell = (version, value, deadline)
            read.need -= 1
            if read.cell is None:
                read.cell = cell
            elif read.cell[0] != version:
                self._ask_home(read)
                continue
            if read.need == 0:
                self._answer(read, cell)
        for _, _, sink, index, reply, _, _ in left.values():
            sink.deliver(index, reply)

    def _answer(self, read: Read, cell: Cell) -> None:
        if 0 < cell[2] <= read.now:
            self._ask_home(read)
            return
        read.ended = True
        cells = {read.request[1]: cell} if cell[0] else {}
        read.sink.deliver(read.index, read.run(cells, read.request, read.now)[1])

    def _ask_home(self, read: Read | Check) -> None:
        """The owners do not agree, or the key has expired: let the home put it in order (rule R2)."""
        if isinstance(read, Read):
            if read.ended:
                return
            read.ended = True
            number, request, sink, index = read.slot, read.request, read.sink, read.index
        else:
            number, request, sink, index = read[:4]
        self.counters.reads_by_home += 1
        self.write(number, request, sink, index)

    def _hedge(self, read: Read | Check) -> None:
        """An owner takes too long or is gone: ask all of them."""
        if not isinstance(read, Read):
            number, request, sink, index, _, run, now = read
            read = Read(number, request, sink, index, run, now, 1)
        if not read.ended:
            self._operations.start(self._clock.now, self._read_slowly(read))

    def _read_slowly(self, read: Read) -> Operation:
        """Ask every owner that can be asked; go to the home if that does not decide."""
        view = self.view
        if read.ended:
            return
        number = read.slot
        key = read.request[1]
        if view.topology is not None:
            epoch = view.epoch
            quorum = view.quorums[number]
            own = view.slots[number]
            cells: dict[int, Cell] = {}
            if own is not None:
                cells[view.me.number] = own.cells.get(key, (0, None, 0))
            if not quorum.won(cells):
                asks = [(peer, ReadCell(number, key)) for peer in view.others[number]]

                def enough(answers: Answers) -> bool:
                    return _agreed(quorum, {**cells, **_cells(answers)}) is not None

                answers: Answers = yield Round(asks, self._settings.read_hedge, enough)
                cells.update(_cells(answers))
            cell = _agreed(quorum, cells)
            if cell is not None and view.epoch == epoch and not read.ended:
                self._answer(read, cell)
                return
        if not read.ended:
            self._ask_home(read)

    # -- what moves operations on

    def met(self, peer: Peer) -> None:
        """What it was asked it may never have read: it has only now entered our epoch, or its link is down. All that is
        asked again at once, there or elsewhere; unanswered sends stay undecided."""
        for ticket, write in list(self.pending.items()):
            pursuit = self._pursued.get(ticket)
            if (write[4] if pursuit is None else pursuit.target) is peer:
                self._send_again(ticket, write)
        self._ask_again(peer)

    def _ask_again(self, peer: Peer) -> None:
        """Reads that this owner was asked about are asked of all."""
        waiting = [read for _, reads in peer.reads_sent.values() for read in reads] + peer.reads_waiting
        peer.reads_sent = {}
        peer.reads_waiting = []
        peer.reads.clear()
        for read in waiting:
            self._hedge(read)

    def enter_epoch(self) -> None:
        """Another topology: everything under way is asked anew."""
        for ticket, write in list(self.pending.items()):
            self._send_again(ticket, write)
        for peer in self.view.peers.values():
            self._ask_again(peer)

    def wake(self) -> None:
        """Hedge what has waited for too long, retry what is due."""
        now = self._clock.now
        for peer in self.view.peers.values():
            if peer.reads_sent:
                self._hedge_reads(peer, now)
        if now >= self._hedge_at:
            self._hedge_writes(now)
        retries = self._retries
        while retries and retries[0][0] <= now:
            at, ticket = heapq.heappop(retries)
            pursuit = self._pursued.get(ticket)
            if pursuit is not None and pursuit.again_at == at:
                self._doubt(pursuit.target, pursuit.sent)
                self._send_again(ticket, self.pending[ticket])

    def _hedge_reads(self, peer: Peer, now: float) -> None:
        late = now - self._settings.read_hedge
        sent = peer.reads_sent
        while sent:
            sequence, (at, reads) = next(iter(sent.items()))
            if at > late:
                return
            del sent[sequence]
            self.counters.hedges += 1
            for read in reads:
                self._hedge(read)
            if now - at >= self._settings.write_hedge:
                self._doubt(peer, at)

    def _hedge_writes(self, now: float) -> None:
        """Send again what was first sent a hedge ago and has not ended."""
        hedge = self._settings.write_hedge
        self._hedge_at = inf
        for ticket, write in list(self.pending.items()):
            if ticket <= self._hedged_upto:
                continue
            if write[5] > now - hedge:
                self._hedge_at = write[5] + hedge
                return
            self._hedged_upto = ticket
            if ticket not in self._pursued:
                self.counters.hedges += 1
                self._doubt(write[4], write[5])
                self._send_again(ticket, write)

    def _doubt(self, peer: Peer | None, since: float) -> None:
        """Nothing has come from a peer since then although something should have: ask others first."""
        if peer is not None and peer is not self.view.me and peer.heard <= since and not peer.silent:
            peer.silent = True
            self.view.aim_all()

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
                at = min(at, next(iter(peer.reads_sent.values()))[0] + self._settings.read_hedge)
        return at


def _cells(answers: Answers) -> dict[int, Cell]:
    return {
        peer.number: (answer.version, answer.value, answer.deadline)
        for peer, answer in answers.by_peer.items()
        if isinstance(answer, CellAnswer)
    }


def _agreed(quorum: Quorum, cells: dict[int, Cell]) -> Cell | None:
    """The cell whose version a quorum holds: it was chosen, and nothing newer is."""
    for cell in cells.values():
        if quorum.won([number for number, other in cells.items() if other[0] == cell[0]]):
            return cell
    return None
