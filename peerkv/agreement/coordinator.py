"""A client's request at any node: which owners to ask, when to ask others, and what to say if it cannot be known.

The first try is one entry in a home's column, and ends when a frame comes back. It is sent elsewhere, under the same
id, when whoever has it is *silent*: its link is gone, or for a hedge it has read nothing of ours. Whoever reads is
busy, and what waits in its queue is not made more (rule O2).

What one connection asks of one slot takes effect in the order in which it was sent, whoever dies: operations by tickets
(O3), reads from owners by bunches (`reads`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from peerkv.agreement.operation import Operations
from peerkv.agreement.peer import Peer
from peerkv.agreement.progress import Status
from peerkv.agreement.reads import Budget, Counters, KeysOf, Reads, Sink
from peerkv.agreement.view import READ_BYTES_PER_S, View
from peerkv.clock import Clock
from peerkv.kernel.batches import Run
from peerkv.resp import Reply, ReplyError
from peerkv.settings import Settings
from peerkv.store.recent import TICKET_SLOT, TICKET_SLOT_BITS

if TYPE_CHECKING:
    from random import Random

RETRY_FIRST_S: Final = 0.005
ASKED_AGAIN: Final = 2
"""So often the same owner is asked before another one is."""
TOLD_MAX: Final = 5
"""An operation follows so many words of where the home is; then it waits between its attempts."""
LATER_S: Final = 0.001
"""What nobody waits for is sent with the next frame, or after so long: who asks for one thing after another, over the
loopback or a local network, has sent the next by then."""
CROWDED_LOOK: Final = 64
"""Operations looked at to find the oldest that is merely under way."""
FAILED_LEAST: Final = 256
PURSUED_MAX: Final = 4
"""So many times `in_flight_max` may be under way in all, those included that are pursued."""
BUSY_PATIENCE: Final = 3
"""So many times as long a request is pursued while a quorum of its owners is heard: they are busy (many slots on the
move, a slow machine), and what they are asked is more likely to be done than not."""


class _Nobody(Sink):
    """Waits for nothing."""

    __slots__ = ()

    def complete(self) -> None:
        pass


NOBODY: Final = _Nobody(0)
Write: TypeAlias = tuple[Sequence[bytes], Sink, int, int, Peer | None, float]
"""(request, sink, index, ticket of the operation to be run before or 0, who was asked first, when). A tuple, as one is
made for every operation: it costs a sixth of an object."""


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
class Reading:
    """An operation that only reads."""

    sent_as: int
    """The ticket under which it was sent last."""
    before: Reading | None
    """The read that its client sent before on that slot, and ..."""
    behind: int
    """... the ticket that this one had when we were sent last."""
    ended: bool = False


class Coordinator:
    """This node as its clients' agent."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        operations: Operations,
        rng: Random,
        runs: Mapping[bytes, Run],
        keys: Mapping[bytes, KeysOf],
    ) -> None:
        """`runs`: how a request is run, by its name; `keys`: likewise, which its keys are."""
        self.view = view
        self.counters = Counters()
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
        self._readings: dict[int, Reading] = {}
        """Operations that only read, by their tickets."""
        self._aliases: dict[int, int] = {}
        """Tickets under which such were sent again, and those that they had first."""
        self._given_up: dict[int, int] = {}
        """Per slot the last operation of unknown outcome: whatever comes behind it waits until our mark has passed it
        (protocol rule O5)."""
        self._failed: dict[int, int] = {}
        """Operations that have ended without an outcome beside earlier ones that have not ended, and the ones that they
        were to follow: what was to follow them follows those."""
        self._failed_kept = 0
        """How many there were when those were dropped last that say nothing any more."""
        self._reserved: set[int] = set()
        """Tickets of operations that have not been asked for yet, and perhaps never are."""
        self._later_writes: list[tuple[int, int, Sequence[bytes]]] = []
        """Operations that are sent when something else is: ticket, ticket before, request."""
        self.later_at = inf
        """When they are sent otherwise."""
        self._budget = Budget()
        self._earned = 0
        self.reads = Reads(
            settings,
            clock,
            view,
            operations,
            self._budget,
            self.counters,
            runs,
            keys,
            self._read_at_home,
            self._no_outcome,
        )

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
            after = self._still_before(after)
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

    def write_later(self, number: int, request: Sequence[bytes], sink: Sink, index: int, after: int) -> int:
        """As `write`, of what nobody waits for: it goes with what is sent next, before that, or a little later."""
        target = self.view.targets[number]
        if target is None or self._given_up:
            return self.write(number, request, sink, index, after)
        self._counter += 1
        ticket = self._counter << TICKET_SLOT_BITS | number
        now = self._clock.now
        if after and after not in self.pending:
            after = self._still_before(after)
        self.pending[ticket] = (request, sink, index, after, target, now)
        if self._hedge_at == inf:
            self._hedge_at = now + self._settings.write_hedge / 2
        if not self._later_writes:
            self.later_at = now + LATER_S
        self._later_writes.append((ticket, after, request))
        return ticket

    def send_later_writes(self) -> None:
        """Send what `write_later` has kept, before all else of this turn."""
        self.later_at = inf
        writes, self._later_writes = self._later_writes, []
        columns: dict[Peer, list[Any]] = {}
        for ticket, after, request in writes:
            write = self.pending.get(ticket)
            if write is not None and ticket not in self._pursued and write[4] is not None:
                columns.setdefault(write[4], []).extend((ticket, after, request))
        for target, column in columns.items():
            target.forwards[:0] = column

    def reserve(self, number: int) -> int:
        """The ticket of an operation that is still to come. Our mark does not pass it before `release`: so an owner
        that knows of a higher mark knows that it will never come (protocol rules T4 and G8)."""
        self._counter += 1
        ticket = self._counter << TICKET_SLOT_BITS | number
        self.pending[ticket] = ((), NOBODY, 0, 0, None, self._clock.now)
        self._pursued[ticket] = Pursuit(None, self._clock.now, out=False, undecided=0)
        self._reserved.add(ticket)
        return ticket

    def write_reserved(self, ticket: int, request: Sequence[bytes], sink: Sink, index: int, after: int) -> None:
        """As `write`, under a ticket that was reserved."""
        self._reserved.discard(ticket)
        number = ticket & TICKET_SLOT
        target = self.view.targets[number]
        self.pending[ticket] = (request, sink, index, after, target, self._clock.now)
        pursuit = self._pursued[ticket] = Pursuit(target, self._clock.now, out=target is not None)
        if target is None or (self._given_up and not self._may_follow(number)):
            pursuit.out, pursuit.undecided = False, 0
            self._later(ticket, pursuit, RETRY_FIRST_S)
            return
        target.forwards += (ticket, after, request)
        self._later(ticket, pursuit, self._settings.write_hedge / 2)

    def release(self, ticket: int) -> None:
        """A reserved ticket is not wanted any more."""
        if ticket in self._reserved:
            self._reserved.discard(ticket)
            del self.pending[ticket]
            del self._pursued[ticket]

    def _read_at_home(self, number: int, request: Sequence[bytes], sink: Sink, index: int, after: int) -> int:
        return self.write(number, request, sink, index, after, reads=True)

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

    def _still_before(self, after: int) -> int:
        """What was to follow the operation `after`, which has ended, is to follow this one, which has not; 0: none."""
        while after and after not in self.pending:
            after = self._failed.get(after, 0)
        return after

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
            after = self._still_before(after)
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
        owners = self.view.order[ticket & TICKET_SLOT]
        patience += (sum(map(len, write[0])) + sum([peer.unread_bytes for peer in owners])) / READ_BYTES_PER_S
        if waited < patience:
            return False
        if waited < BUSY_PATIENCE * patience and self._quorum_lives(ticket & TICKET_SLOT, write[5]):
            return False
        self._fail(ticket, write, pursuit)
        return True

    def _quorum_lives(self, number: int, since: float) -> bool:
        """Whether enough owners of the slot have been heard since then, of whatever."""
        view = self.view
        alive = [
            peer.number
            for peer in view.order[number]
            if peer is view.me or (peer.up and max(peer.heard, peer.read_at) > since)
        ]
        return bool(alive) and view.quorums[number].won(alive)

    def _fail(self, ticket: int, write: Write, pursuit: Pursuit) -> None:
        del self.pending[ticket]
        self._pursued.pop(ticket, None)
        self._failed[ticket] = write[3]
        if len(self._failed) >= 2 * self._failed_kept + FAILED_LEAST:
            mark = self.mark
            self._failed = {failed: before for failed, before in self._failed.items() if before >= mark}
            self._failed_kept = len(self._failed)
        number = ticket & TICKET_SLOT
        undecided = pursuit.undecided > 0
        reading = self._readings.get(ticket)
        if reading is not None:
            self._end_reading(ticket, reading)
            undecided = False
        elif undecided:
            self._given_up[number] = max(ticket, self._given_up.get(number, 0))
        write[1].deliver(write[2], self._no_outcome(number, undecided=undecided))

    def _no_outcome(self, number: int, *, undecided: bool = False) -> ReplyError:
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

    # -- what moves operations on

    def met(self, peer: Peer) -> None:
        """What it was asked it may never have read: it has only now entered our epoch, or its link is down. All that is
        asked again at once, there or elsewhere; unanswered sends stay undecided."""
        for ticket, write in list(self.pending.items()):
            if ticket in self._reserved:
                continue
            pursuit = self._pursued.get(ticket)
            if (write[4] is peer) if pursuit is None else (pursuit.target is peer and pursuit.out):
                self._send_again(ticket, write)
        self.reads.ask_again(peer)

    def enter_epoch(self) -> None:
        """Another topology: everything under way is asked anew."""
        for ticket, write in list(self.pending.items()):
            if ticket not in self._reserved:
                self._send_again(ticket, write)
        for peer in self.view.peers.values():
            self.reads.ask_again(peer)

    def wake(self) -> None:
        """Send elsewhere what silent peers were asked, retry what is due."""
        now = self._clock.now
        ended = self._counter - len(self.pending) + self.reads.ended
        self._budget.earn(ended - self._earned)
        self._earned = ended
        for peer in self.view.peers.values():
            if peer.reads_sent:
                self.reads.hedge(peer, now)
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
        count = len(self.pending) - len(self._pursued) + self.reads.under_way
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
        at = min(self._hedge_at, self.later_at)
        if self._retries:
            at = min(at, self._retries[0][0])
        for peer in self.view.peers.values():
            if peer.reads_sent:
                at = min(at, self.reads.due(peer, next(iter(peer.reads_sent.values()))[0]))
        return at
