"""The owner that orders a slot's writes: run them, have the other owners accept them, and take a slot over.

A home is no leader: any owner may become home of a slot at any moment by a higher ballot, safely. Agreeing on who it is
only makes things fast. Every operation is the next position of its slot's history; what was run within a turn goes out
at its end, and nothing waits for the turn before, since a change tells the position that it begins at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from peerkv.agreement.operation import Answers, Operation, Operations, Pause, Prepare, Promises, Round
from peerkv.agreement.peer import Peer
from peerkv.agreement.replica import Replica
from peerkv.agreement.turn import ROW, Group, Rows, Segment, Turn
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.resp import Reply, ReplyError
from peerkv.ring.quorum import Quorum
from peerkv.settings import Settings
from peerkv.store.cell import (
    ROUND_MAX,
    SEQUENCE_BITS,
    Cells,
    Change,
    ballot_round,
    first_position,
    make_ballot,
)
from peerkv.store.expiry import Expiry
from peerkv.store.recent import TICKET_SLOT, OperationId
from peerkv.store.slot import Slot

if TYPE_CHECKING:
    from random import Random

Run: TypeAlias = Callable[[Cells, Sequence[bytes], int], tuple[Sequence[Change] | None, Reply]]
"""Runs a request on a slot's cells at a cluster time: its changes (None: it is one that never has any) and its reply.
What could have changed something but did not is remembered like what did: run again elsewhere it might."""

TAKEOVER_GROUP: Final = 512
"""Slots prepared in one message: 5 ms of either end's time."""
TAKEOVERS_MAX: Final = 8
"""Such messages under way at a time; what is wanted meanwhile goes into the next ones."""
SPACED_GROUP: Final = 128
"""... where no operation waits for that."""
SPACING_S: Final = 0.01
"""Between such messages, so that clients are served meanwhile."""
TAKEOVER_ATTEMPTS: Final = 8
TURN_BYTES_MAX: Final = 8 << 20
"""Values and replies that operations make in a turn; the rest of them is run in the next one. Each is kept until the
frames are made: 25 APPENDs to 60 MiB, or 400 GETEX of 1 MiB, were one turn, and more than a frame may have."""
UNCHANGING_MAX: Final = 16384
"""Forgetting one costs its successor a retry, no more."""
FILLED_LOOKS: Final = 256
"""Slots looked at per survey of a change; most are noted as filled by the acknowledgement that makes them so."""


class Status(IntEnum):
    """How an operation ended at a home that has not done it, or may not have."""

    AGAIN = 1
    """Deposed: the change may or may not survive. Send the same id again."""
    NOT_HERE = 2
    """Not home, nothing applied. Send the same id again."""
    NO_QUORUM = 3
    """Nothing applied: a majority of the owners cannot be reached from here."""


Queued: TypeAlias = tuple[Peer, int, Sequence[bytes], int]
"""(who sent it; ticket; request; the ticket of the operation that the same client sent before on this slot and that
must have been run before, 0: none)"""


@dataclass(slots=True, eq=False)
class HomeSlot:
    """A slot that this node is home of."""

    slot: Slot
    ballot: int
    group: Group
    quorum: Quorum
    since: int = 0
    """The position at which it met the present owners: who has acknowledged it in this epoch, or a later one, has all
    that was chosen before."""
    purgeable: tuple[int, int] = (0, 0)
    """(turn, position): once every owner has answered that turn, tombstones up to that position can go."""
    at: float = 0.0
    """When we became home."""
    acked: dict[int, int] = field(default_factory=dict)
    """Per owner how far it has acknowledged under this ballot; kept where more than one other must."""


Ended: TypeAlias = tuple[int, Peer, int, Reply]
"""(position that a quorum must have reached; who sent the operation; ticket; reply)"""


class Home:
    """This node as home of slots."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        replica: Replica,
        operations: Operations,
        rng: Random,
        runs: Mapping[bytes, Run],
        settle: Callable[[Iterable[int], Iterable[Reply]], None],
        refused: Callable[[int, Status, int], None],
    ) -> None:
        self.view = view
        self.homes: dict[int, HomeSlot] = {}
        self.taking: dict[int, list[Queued]] = {}
        """Slots being taken over, and the operations that wait for that."""
        self.lagging: dict[HomeSlot, set[int]] = {}
        """Owners (numbers) that are not known to be where we are, but for turns that they have not answered yet."""
        self.waiting: dict[HomeSlot, deque[Ended]] = {}
        """Operations that a quorum has not accepted, in order; most wait in their turns instead."""
        self.alone = bytearray(len(view.slots))
        """1: we are home of that slot, and its only owner."""
        self.timed = bytearray(len(view.slots))
        """1: we are home of that slot, and some cell has had a deadline."""
        self.expiry = Expiry()
        self.unclaimed: set[int] = set()
        """Slots of ours whose owners this epoch has changed, and for which we have seen no ballot since."""
        self.unsettled = True
        """There may be slots that have lost their home since `upkeep` looked for such."""
        self.group_of: list[Group | None] = [None] * len(view.slots)
        """Of each slot that we are home of."""
        self.turn = 0
        """The last turn that was begun."""
        self.clock = clock
        self._settings = settings
        self._replica = replica
        self._operations = operations
        self._rng = rng
        self._runs = runs
        """How a request is run, by its name."""
        self._settle = settle
        """Ends operations of our own coordinator."""
        self._refused = refused
        """Tells our own coordinator that an operation was not done here."""
        self._groups: dict[tuple[tuple[Peer, ...], int], Group] = {}
        self._open: list[Group] = []
        """Those with something to send at the end of this turn."""
        self._recent = replica.recent
        self._unchanging: set[OperationId] = set()
        """Reads run here lately; what may be run after them need not wait for their coordinator's mark."""
        self._wanted: list[int] = []
        """Slots to take over as soon as there are less than TAKEOVERS_MAX under way, ..."""
        self._takeovers = 0
        """... which is the number of these."""
        self._spaced: deque[list[int]] = deque()
        """Slots to take over without haste, in parts with the same owners."""
        self._spacing = False
        """Whether that is under way."""
        self._insisted: set[OperationId] = set()
        """Operations in this turn for which we are to take the slot over, whoever we believe to be home."""
        self._seen_round: dict[int, int] = {}
        self._made = 0
        """Bytes of values and replies that operations have made in this turn of the node."""
        self._put_off: list[tuple[Peer, list[tuple[int, int, Sequence[bytes]]]]] = []
        """Operations beyond that, by who sent them: run in the next turn, in the order in which they came."""
        self._unfilled: list[int] = []
        """Slots that this epoch changes, but for those ..."""
        self._filled = bytearray(len(view.slots) // 8)
        """... whose bits are set here: of which we, as home, have seen all copies made."""
        self._unsettled = bytes(len(view.slots) // 8)
        """Bits of slots that have lost owners, and ..."""
        self._settled = bytearray(len(view.slots) // 8)
        """... of those among them of which we, as home, know that the owners that are left have everything."""
        self._recoveries = 0
        """How many recoveries the cluster had had when the present epoch was entered."""
        replica.on_promised = self._promised
        replica.on_refused = self._refused_here

    # -- operations in

    def run(
        self, origin: Peer, tickets: Sequence[int], afters: Sequence[int], requests: Sequence[Sequence[bytes]]
    ) -> None:
        """Run a coordinator's operations (see `Peer.forwards`), each on its slot or as soon as we are home of that; the
        ends are reported to the coordinator (rule H1).

        Hot. What is usual is done in line: we are home, its copy is plain, the change is of one key. All else is
        `_run_one`.
        """
        view = self.view
        process = origin.process
        mark = view.marks.get(process, 0)
        recent = self._recent[process]
        runs = self._runs
        clock = self.clock.cluster_ms
        group_of, timed = self.group_of, self.timed
        plain, positions, cells_of = view.copies.plain, view.copies.positions, view.copies.cells
        rows_of: dict[Group, Rows] = {}
        impaired = view.impaired
        operations = zip(tickets, afters, requests, strict=True)
        if self._put_off:
            if tickets:
                self._put_off.append((origin, list(operations)))
            return
        made = self._made
        for ticket, after, request in operations:
            if made > TURN_BYTES_MAX:
                self._put_off.append((origin, [(ticket, after, request), *operations]))
                break
            if ticket < mark:  # T4: a late copy of an operation that has ended
                continue
            number = ticket & TICKET_SLOT
            group = group_of[number]
            if (
                group is None
                or impaired
                or not plain[number]
                or ticket in recent
                or (after and after not in recent)
                or (timed[number] and self._finds_expired(number, request))
            ):
                rows_of.clear()
                self._made = made
                self._run_one(origin, ticket, request, after)
                made = self._made
                continue
            try:
                changes, reply = runs[request[0]](cells_of[number], request, clock)
            except Exception as error:
                changes, reply = None, fault(request, error)
            if changes is None or len(changes) != 1 or changes[0][1] is None:
                rows_of.clear()
                self._made = made
                self._record(number, origin, ticket, changes, reply)
                made = self._made
                continue
            ((key, value, deadline),) = changes
            recent[ticket] = reply
            positions[number] = to = positions[number] + 1
            cells_of[number][key] = (to, value, deadline)
            if deadline or timed[number]:
                self._note_deadlines(number, changes)
            rows = rows_of.get(group)
            if rows is None:
                turn = group.turn or self._begin_turn(group)
                rows = rows_of[group] = turn.segment(origin, process).rows
            rows += (ticket, to, key, value, deadline, reply)
            made += len(value) if type(reply) is not bytes else len(value) + len(reply)  # type: ignore[arg-type]
        self._made = made

    def end_turn(self) -> None:
        """Of the node: what was run has been sent."""
        self._made = 0

    @property
    def has_more(self) -> bool:
        """Whether there are operations that are to be run in the next turn."""
        return bool(self._put_off)

    def _run_put_off(self) -> None:
        put_off, self._put_off = self._put_off, []
        for origin, operations in put_off:
            tickets, afters, requests = zip(*operations, strict=True)
            self.run(origin, tickets, afters, requests)

    def _run_one(self, origin: Peer, ticket: int, request: Sequence[bytes], after: int) -> None:
        number = ticket & TICKET_SLOT
        home = self.homes.get(number)
        if home is None:
            self._enqueue_elsewhere(number, (origin, ticket, request, after))
            return
        view = self.view
        if view.impaired and not view.reachable(number):
            self._end(origin, ticket, Status.NO_QUORUM)
            return
        process = origin.process
        recent = self._recent[process]
        if ticket in recent:
            self._extend(home, (), origin, 0, ticket, recent[ticket])
            return
        if after and not self._has_run(process, after):  # O3
            self._end(origin, ticket, Status.NOT_HERE)
            return
        if self.timed[number]:
            self.remove_expired(home, request)
        try:
            changes, reply = self._runs[request[0]](home.slot.cells, request, self.clock.cluster_ms)
        except Exception as error:
            changes, reply = None, fault(request, error)
        self._record(number, origin, ticket, changes, reply)

    def _record(self, number: int, origin: Peer, ticket: int, changes: Sequence[Change] | None, reply: Reply) -> None:
        """What an operation has done becomes history."""
        home = self.homes[number]
        process = origin.process
        if changes is None:
            self._unchanging.add((process, ticket))
            if len(self._unchanging) > UNCHANGING_MAX:
                self._unchanging.clear()
            self._extend(home, (), origin, 0, ticket, reply)
            return
        self._recent[process][ticket] = reply
        self._extend(home, changes, origin, process, ticket, reply)

    def _extend(
        self, home: HomeSlot, changes: Sequence[Change], origin: Peer, process: int, ticket: int, reply: Reply
    ) -> None:
        """Make an operation's changes the next position of the slot's history: in our copy at once, in the others' by
        this turn's ACCEPTs; it ends when a quorum has accepted. One that is not to be remembered has process 0; what
        is no operation has as its ticket the slot."""
        slot = home.slot
        to = slot.position + 1
        group = home.group
        turn = group.turn or self._begin_turn(group)
        if to >> SEQUENCE_BITS != home.ballot:
            turn.starts[slot.number] = slot.position
            to = first_position(home.ballot) + 1
            slot.apply(to, ())
        slot.apply(to, changes)
        rows = turn.segment(origin, process).rows
        if len(changes) == 1:
            rows += (ticket, to, *changes[0], reply)
        else:
            rows += (ticket, to, [item for change in changes for item in change] or None, None, 0, reply)
        self._made += sum([len(value) for _, value, _ in changes if value is not None])
        if type(reply) is bytes:
            self._made += len(reply)
        self._note_deadlines(slot.number, changes)

    def write_nothing(self, home: HomeSlot) -> None:
        """A position of the home's own ballot that changes nothing: whoever accepts it has all that was before."""
        self._extend(home, (), self.view.me, 0, home.slot.number, None)

    def _begin_turn(self, group: Group) -> Turn:
        self.turn += 1
        self._open.append(group)
        turn = group.turn = Turn(self.turn, group.pair, self.clock.now)
        return turn

    def insist(self, origin: Peer, tickets: Iterable[int]) -> None:
        """For these operations of a coordinator, which come next, we are to take the slots over (protocol rule O2)."""
        self._insisted.update([(origin.process, ticket) for ticket in tickets])

    def _enqueue_elsewhere(self, number: int, queued: Queued) -> None:
        """We are not home: become it, or say who is."""
        view = self.view
        waiting = self.taking.get(number)
        if waiting is not None:
            waiting.append(queued)
            return
        origin, ticket = queued[:2]
        home = view.promised_to(number)
        if view.slots[number] is None:
            self._end(origin, ticket, Status.NOT_HERE)
        elif (
            home is not None and home is not view.me and home.usable and (origin.process, ticket) not in self._insisted
        ):
            self._end(origin, ticket, Status.NOT_HERE, home.number)
        else:
            self.taking[number] = [queued]
            self._wanted.append(number)

    def apply_alone(self, number: int, run: Run, request: Sequence[bytes], now: int) -> Reply:
        """Run an operation on a slot whose only owner we are: done as soon as it is run."""
        if self.timed[number]:
            self.remove_expired(self.homes[number], request)
        try:
            changes, reply = run(self.view.copies.cells[number], request, now)
        except Exception as error:
            changes, reply = None, fault(request, error)
        if changes:
            self.change_alone(number, changes)
        return reply

    def change_alone(self, number: int, changes: Sequence[Change]) -> None:
        """Make changes of a slot whose only owner we are."""
        home = self.homes[number]
        to = home.slot.position + 1
        home.slot.apply(to if to >> SEQUENCE_BITS == home.ballot else first_position(home.ballot) + 1, changes)
        self._note_deadlines(number, changes)

    def _note_deadlines(self, number: int, changes: Sequence[Change]) -> None:
        for key, _, deadline in changes:
            if deadline:
                self.timed[number] = 1
                self.expiry.add(deadline, number, key)
            elif self.timed[number]:
                self.expiry.discard(number, key)

    def flush(self) -> None:
        """End of a turn: run what our own coordinator wants, and send what was run in the turn to the other owners."""
        me = self.view.me
        if me.insists:
            self.insist(me, me.insists)
            me.insists.clear()
        if self._put_off and not self._made:
            self._run_put_off()
        if me.forwards:
            forwards, me.forwards = me.forwards, []
            self.run(me, forwards[::3], forwards[1::3], forwards[2::3])
        self._insisted.clear()
        if self._wanted and self._takeovers < TAKEOVERS_MAX:
            self._take_over_wanted()
        groups, self._open = self._open, []
        for group in groups:
            turn, group.turn = group.turn, None
            assert turn is not None, "a group is open because of its turn"
            self._send(group, turn)

    def _send(self, group: Group, turn: Turn) -> None:
        for segment in turn.segments:
            (turn.learned if group.learns(segment) and segment.origin.up else turn.ended).append(segment)
        if not group.peers:
            self._release(turn.ended)
            return
        if not group.pair:
            self._spill(turn)
        accepts = turn.accepts(self.view.marks)
        for peer in group.peers:
            if peer.up:
                peer.offer(turn.number, accepts)
                peer.turns[turn.number] = turn
            else:
                self._mark_lagging(peer, turn)

    def _has_run(self, process: int, ticket: int) -> bool:
        """Whether that operation is part of its slot's history (or has ended without a trace)."""
        return (
            ticket in self._recent[process]
            or (process, ticket) in self._unchanging
            or ticket < self.view.marks.get(process, 0)
        )

    # -- acknowledgements

    def acknowledge(self, peer: Peer, column: list[Any]) -> None:
        """ACKs of an owner: the turns whose changes it has accepted, and which not (protocol rule H2)."""
        items = iter(column)
        for number, missed in zip(items, items, strict=True):
            turn = peer.turns.pop(number, None)
            if turn is None:
                continue
            if missed:
                self._mark_lagging(peer, turn, missed)
                self._spill(turn)
                self._teach(peer, turn, missed)
            else:
                turn.accepted = True
                if turn.ended:  # a pair's: it and we are a quorum
                    ended, turn.ended = turn.ended, []
                    self._release(ended)
            if self.lagging or self.waiting or not turn.pair:
                self._look_closer(peer, turn, missed)

    def _look_closer(self, peer: Peer, turn: Turn, missed: Collection[int]) -> None:
        """Slot by slot what an acknowledgement means."""
        for number, to in turn.positions().items():
            home = self.homes.get(number)
            if home is None or number in missed or to >> SEQUENCE_BITS != home.ballot:
                continue
            self._mark_abreast(home, peer)
            if home in self.waiting or not turn.pair:
                self._accepted(home, peer.number, to)

    def _mark_lagging(self, peer: Peer, turn: Turn, numbers: Iterable[int] | None = None) -> None:
        """An owner may not have accepted a turn, or these slots of it."""
        for number in turn.positions() if numbers is None else numbers:
            home = self.homes.get(number)
            if home is not None:
                self.lagging.setdefault(home, set()).add(peer.number)

    def _mark_abreast(self, home: HomeSlot, peer: Peer) -> None:
        lagging = self.lagging.get(home)
        if lagging is not None:
            lagging.discard(peer.number)
            if not lagging:
                del self.lagging[home]

    def _spill(self, turn: Turn) -> None:
        """What was to end with the turn as a whole now waits slot by slot."""
        ended, turn.ended = turn.ended, []
        for segment in ended:
            rows, origin = segment.rows, segment.origin
            for ticket, to, reply in zip(rows[::ROW], rows[1::ROW], rows[ROW - 1 :: ROW], strict=True):
                home = self.homes.get(ticket & TICKET_SLOT)
                if ticket <= TICKET_SLOT:
                    continue  # of no operation
                self._await(home, to, origin, ticket, reply)

    def _await(self, home: HomeSlot | None, to: int, origin: Peer, ticket: int, reply: Reply) -> None:
        """An operation ends when a quorum is known to have reached its position."""
        if home is None or home.ballot != to >> SEQUENCE_BITS:
            self._end(origin, ticket, Status.AGAIN)
            return
        waiting = self.waiting.setdefault(home, deque())
        waiting.append((to, origin, ticket, reply))
        if len(waiting) > 1 and waiting[-2][0] > to:
            self.waiting[home] = deque(sorted(waiting, key=_position))

    def _teach(self, peer: Peer, turn: Turn, missed: Collection[int] | None = None) -> None:
        """A coordinator that was to learn the ends of its operations from their changes has not accepted these (of the
        slots `missed`; None: perhaps none of them): they are reported to it like others' (protocol rule A3)."""
        for segment in turn.learned:
            if segment.origin is not peer:
                continue
            rows = segment.rows
            for ticket, to, reply in zip(rows[::ROW], rows[1::ROW], rows[ROW - 1 :: ROW], strict=True):
                number = ticket & TICKET_SLOT
                if missed is not None and number not in missed:
                    continue
                if turn.accepted:
                    peer.report((ticket,), (reply,))
                    continue
                home = self.homes.get(number)
                self._await(home, to, peer, ticket, reply)
                if home is not None:
                    for other in home.group.peers:
                        if other.up:
                            other.probe(number, home.slot.position, urgent=True)

    def hand_back(self) -> None:
        """Look whether the owners that our operations wait for are there. What waits for a quorum that is silent is
        handed back: its coordinator may reach owners that we do not (protocol rule O2)."""
        hedge = self._settings.write_hedge
        view = self.view
        for peer in view.peers.values():
            turn = next(iter(peer.turns.values()), None)
            if turn is not None:
                view.doubt(peer, turn.at, self.clock, hedge)
        if not view.impaired:
            return
        for peer in view.peers.values():
            if not peer.usable:
                for turn in peer.turns.values():
                    if not turn.accepted and not view.reachable(turn.a_slot):
                        self._spill(turn)
        for home in [home for home in self.waiting if not view.reachable(home.slot.number)]:
            for _, origin, ticket, _ in self.waiting.pop(home):
                self._end(origin, ticket, Status.AGAIN)

    def settled(self, peer: Peer, column: list[int]) -> None:
        """An owner has reached positions by catching up, or says after a probe that it is there."""
        items = iter(column)
        for number, position in zip(items, items, strict=True):
            home = self.homes.get(number)
            if home is None or position >> SEQUENCE_BITS != home.ballot:
                continue
            if position == home.slot.position:
                self._mark_abreast(home, peer)
            self._accepted(home, peer.number, position)

    def _accepted(self, home: HomeSlot, owner: int, position: int) -> None:
        """Report what a quorum has reached now that this owner is at `position`."""
        if not home.group.pair:
            home.acked[owner] = max(position, home.acked.get(owner, 0))
            position = home.quorum.reached({**home.acked, self.view.me.number: home.slot.position})
            if self._must_answer(home):
                self._note_filled(home)
        self._release_upto(home, position)

    def _release_upto(self, home: HomeSlot, position: int) -> None:
        waiting = self.waiting.get(home)
        if waiting is None:
            return
        while waiting and waiting[0][0] <= position:
            _, origin, ticket, reply = waiting.popleft()
            self._report(origin, (ticket,), (reply,))
        if not waiting:
            del self.waiting[home]

    def _release(self, ended: Iterable[Segment]) -> None:
        """A quorum has accepted these."""
        for segment in ended:
            self._report(segment.origin, segment.rows[::ROW], segment.rows[ROW - 1 :: ROW])

    def _report(self, origin: Peer, tickets: Sequence[int], replies: Sequence[Reply]) -> None:
        if origin is self.view.me:
            self._settle(tickets, replies)
        else:
            origin.report(tickets, replies)

    def refuse(self, owner: Peer, number: int, promised: int) -> None:
        """NACK: an owner has promised a higher ballot. So do we, and know who is home (protocol rule H4)."""
        slot = self.view.slots[number]
        if slot is not None and promised > slot.promised and owner in self.view.others[number]:
            slot.promised = promised
            self._promised(number)

    def _promised(self, number: int) -> None:
        """Our copy has promised another ballot."""
        self.deposed(number)
        self.view.aim(number)

    def deposed(self, number: int) -> None:
        """We are home of this slot no more."""
        self.unsettled = True
        self.unclaimed.discard(number)
        home = self.homes.pop(number, None)
        if home is None:
            return
        self.group_of[number] = None
        if self.timed[number]:
            self.expiry.forget(number)
        self.alone[number] = self.timed[number] = 0
        self._replica.counters.deposed += 1
        self.lagging.pop(home, None)
        for _, origin, ticket, _ in self.waiting.pop(home, ()):
            self._end(origin, ticket, Status.AGAIN)

    def _end(self, origin: Peer, ticket: int, status: Status, home: int = 0) -> None:
        """An operation was not done here, or is not known to be. `home`: the number of the member that is home."""
        if not home and status is not Status.NO_QUORUM:
            promised_to = self.view.promised_to(ticket & TICKET_SLOT)
            if promised_to is not None and promised_to is not self.view.me:
                home = promised_to.number
        if origin is self.view.me:
            self._refused(ticket, status, home)
        else:
            origin.hand_back(ticket, status, home)

    def _refused_here(self, ticket: int) -> None:
        """As owner we have not accepted what another home has run for our own coordinator: it is home no more."""
        self._end(self.view.me, ticket, Status.AGAIN)

    # -- taking over

    def want(self, numbers: Sequence[int]) -> None:
        """Take these slots over although no operation waits for that: a few at a time."""
        parts = self._by_owners([number for number in numbers if self.is_free(number)], SPACED_GROUP)
        for part in parts:
            if self.view.others[part[0]]:
                self._spaced.append(part)
            else:
                self._start_takeover(part)
        if self._spaced and not self._spacing:
            self._spacing = True
            self._operations.start(self.clock.now, self._take_over_spaced())

    def _take_over_spaced(self) -> Operation:
        while self._spaced:
            part = [number for number in self._spaced.popleft() if self.is_free(number)]
            if part:
                self._start_takeover(part)
                yield Pause(SPACING_S)
        self._spacing = False

    def is_free(self, number: int) -> bool:
        """Whether we have a copy, and are neither home nor about to be."""
        return number not in self.homes and number not in self.taking and self.view.slots[number] is not None

    def _start_takeover(self, part: list[int]) -> None:
        for number in part:
            self.taking[number] = []
        self._operations.start(self.clock.now, self.take_over(part))

    def _take_over_wanted(self) -> None:
        parts = self._by_owners(self._wanted, TAKEOVER_GROUP)
        begun, later = parts[: TAKEOVERS_MAX - self._takeovers], parts[TAKEOVERS_MAX - self._takeovers :]
        self._wanted = [number for part in later for number in part]
        for part in begun:
            self._takeovers += 1
            self._operations.start(self.clock.now, self._take_over_part(part))

    def _take_over_part(self, part: list[int]) -> Operation:
        yield from self.take_over(part)
        self._takeovers -= 1

    def _by_owners(self, numbers: Sequence[int], most: int) -> list[list[int]]:
        """In parts of the same owners and the same quorum, of at most so many slots."""
        view = self.view
        quorums: dict[int, tuple[object, ...]] = {}
        groups: dict[tuple[object, ...], list[int]] = {}
        for number in numbers:
            quorum = view.quorums[number]
            same = quorums.get(id(quorum))  # slots of the same kind share one
            if same is None:
                same = quorums[id(quorum)] = frozenset(quorum.members), frozenset(quorum.joint), quorum.need
            groups.setdefault((view.others[number], same), []).append(number)
        return [group[first : first + most] for group in groups.values() for first in range(0, len(group), most)]

    def take_over(self, numbers: list[int]) -> Operation:
        """Become home of these slots, which have the same owners (protocol rules T1 to T4)."""
        view = self.view
        epoch = view.epoch
        me = view.me.number
        self._give_up([number for number in numbers if view.slots[number] is None], Status.NOT_HERE)
        numbers = [number for number in numbers if view.slots[number] is not None]
        numbers = self._with_rounds_left(numbers)
        if not numbers:
            return
        if not view.others[numbers[0]] and view.reachable(numbers[0]):
            for number in numbers:
                ballot = self._next_ballot(number)
                slot = view.slots[number]
                assert slot is not None, "the only owner has a copy"
                self._become_home(slot, ballot, set())
            return
        for attempt in range(TAKEOVER_ATTEMPTS):
            if view.epoch != epoch:
                break
            others = view.others[numbers[0]]
            quorum = view.quorums[numbers[0]]
            if not view.reachable(numbers[0]):
                self._give_up(numbers, Status.NO_QUORUM)
                return
            ballots = [self._next_ballot(number) for number in numbers]
            asks = [(peer, Prepare(numbers, ballots)) for peer in others]
            answers: Answers = yield Round(
                asks,
                self._settings.round_patience,
                partial(_answered, quorum, me),
            )
            if view.epoch != epoch:
                self._give_up(numbers, Status.NOT_HERE)
                return
            promises = [(peer, answer) for peer, answer in answers.by_peer.items() if isinstance(answer, Promises)]
            lost: list[int] = []
            for index, (number, ballot) in enumerate(zip(numbers, ballots, strict=True)):
                slot = view.slots[number]
                if slot is None or slot.promised != ballot:  # promised to another meanwhile
                    self._give_up([number], Status.NOT_HERE)
                    continue
                yes = [(peer, answer.positions[index]) for peer, answer in promises if answer.promised[index] == ballot]
                if quorum.won([me, *(peer.number for peer, _ in yes)]):
                    self._won(slot, ballot, yes)
                else:
                    highest = max((ballot_round(answer.promised[index]) for _, answer in promises), default=0)
                    self._seen_round[number] = max(self._seen_round.get(number, 0), highest)
                    lost.append(number)
            if not lost:
                return
            numbers = self._with_rounds_left(lost)
            if not numbers:
                return
            yield Pause(self._rng.uniform(0.002, 0.01) * (1 << attempt))
        self._give_up(numbers, Status.NOT_HERE)

    def _with_rounds_left(self, numbers: list[int]) -> list[int]:
        """Those of these slots for which there is another ballot; see `store.cell` for how long there is."""
        spent = [number for number in numbers if self._last_round(number) >= ROUND_MAX]
        if not spent:
            return numbers
        self._give_up(spent, Status.NO_QUORUM)
        return [number for number in numbers if number not in spent]

    def _last_round(self, number: int) -> int:
        return max(ballot_round(self.view.copies.promised[number]), self._seen_round.get(number, 0))

    def _next_ballot(self, number: int) -> int:
        slot = self.view.slots[number]
        assert slot is not None, "takeovers are of our own slots"
        round_ = self._last_round(number) + 1
        self._seen_round.pop(number, None)
        slot.promised = make_ballot(round_, self.view.me.number)
        self._promised(number)
        return slot.promised

    def _won(self, slot: Slot, ballot: int, promised: list[tuple[Peer, int]]) -> None:
        furthest = max(promised, key=lambda entry: entry[1], default=None)
        if furthest is not None and furthest[1] > slot.position:
            self._operations.start(self.clock.now, self._adopt(slot.number, ballot, *furthest))
        else:
            self._become_home(slot, ballot, {peer for peer, position in promised if position == slot.position})

    def _adopt(self, number: int, ballot: int, source: Peer, position: int) -> Operation:
        yield from self._replica.fetch(number, ballot, source)
        slot = self.view.slots[number]
        if slot is not None and slot.promised == ballot and slot.position >= position:
            self._become_home(slot, ballot, {source})
        else:
            self._give_up([number], Status.NOT_HERE)

    def _become_home(self, slot: Slot, ballot: int, equal: Collection[Peer]) -> None:
        """Serve from now on. `equal`: the owners whose copies are known to be ours."""
        number = slot.number
        view = self.view
        others = view.others[number]
        home = self.homes[number] = HomeSlot(
            slot, ballot, self._group(number), view.quorums[number], since=slot.position, at=self.clock.now
        )
        changes = self._must_answer(home)
        if changes:
            equal = ()  # E5: all have to say that they are here
        lagging = {peer.number for peer in others if peer not in equal} if slot.position or changes else set()
        if lagging:
            self.lagging[home] = lagging
        self._replica.counters.takeovers += 1
        self._join_group(home)
        for key, cell in slot.cells.items():
            if cell[2]:
                self.timed[number] = 1
                self.expiry.add(cell[2], number, key)
        for origin, ticket, request, after in self.taking.pop(number, ()):
            if ticket >= view.marks.get(origin.process, 0):  # T4: what is older has ended
                self._run_one(origin, ticket, request, after)

    def _join_group(self, home: HomeSlot) -> None:
        number = home.slot.number
        self.group_of[number] = home.group
        self.alone[number] = not home.group.peers

    def _group(self, number: int) -> Group:
        key = tuple(sorted(self.view.others[number], key=_process)), self.view.pair[number]
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key[0], bool(key[1]))
        return group

    def _give_up(self, numbers: Sequence[int], status: Status) -> None:
        self.unsettled = True
        for number in numbers:
            for origin, ticket, _, _ in self.taking.pop(number, ()):
                self._end(origin, ticket, status)

    def enter_epoch(self) -> None:
        """A new topology is installed (protocol rule E2): what was under way may have met owners of another epoch, and
        where the owners are others now, it begins anew who is known to be where we are. A home stays home, if it is
        still an owner."""
        view = self.view
        topology = view.topology
        unsettled = topology.unsettled_bits if topology is not None else 0
        self._unsettled = unsettled.to_bytes(len(view.slots) // 8, "little")
        self.unsettled = True
        for peer in view.peers.values():
            for turn in peer.turns.values():
                self._mark_lagging(peer, turn)
                self._spill(turn)
                self._teach(peer, turn)
            peer.turns.clear()
        for number, home in list(self.homes.items()):
            if view.slots[number] is not home.slot or self._is_at_a_loss(number):
                self.deposed(number)
            elif self._group(number) is not home.group or view.quorums[number] != home.quorum:
                self._regroup(home)
        self._filled = bytearray(len(view.slots) // 8)
        self._settled = bytearray(len(view.slots) // 8)
        self._spaced.clear()
        changing = (topology.changing_bits if topology is not None else 0) | unsettled
        self._unfilled = [number for number in range(len(view.slots)) if changing >> number & 1] if changing else []
        self._recoveries = topology.recoveries if topology is not None else 0

    def _must_answer(self, home: HomeSlot) -> bool:
        """Whether the other owners have to say in this epoch that they are here (rules E5, V5)."""
        number = home.slot.number
        return bool(home.quorum.joint) or bool(self._unsettled[number >> 3] >> (number & 7) & 1)

    def _is_at_a_loss(self, number: int) -> bool:
        """Whether nobody can be home of that slot, or whoever was must first see what others have (rule V6)."""
        topology = self.view.topology
        if topology is None or not self.view.quorums[number].possible:
            return True
        return topology.recoveries != self._recoveries and topology.is_compared(number)

    def _regroup(self, home: HomeSlot) -> None:
        number = home.slot.number
        known = self.lagging.pop(home, ())
        former = home.group.peers
        group = home.group = self._group(number)
        self._join_group(home)
        home.quorum = self.view.quorums[number]
        home.since = home.slot.position
        home.acked = {}
        home.purgeable = (0, 0)
        if not group.peers:
            self._release_upto(home, home.slot.position)
        all_of_them = self._must_answer(home)
        lagging = {p.number for p in group.peers if all_of_them or p.number in known or p not in former}
        if lagging:
            self.lagging[home] = lagging

    def filled(self) -> bytes:
        """A bit for each slot that the present epoch changes, of which we are home, and which could do without its
        former owners: a quorum has acknowledged its position in this epoch, and so has every new owner in reach. Once
        that is so it stays so."""
        looked_at, self._unfilled = self._unfilled[:FILLED_LOOKS], self._unfilled[FILLED_LOOKS:]
        for number in looked_at:
            if not self._filled[number >> 3] >> (number & 7) & 1:
                self._note_filled(self.homes.get(number))
                self._unfilled.append(number)
        return bytes(self._filled)

    def settled_slots(self) -> bytes:
        """A bit for each slot that has lost owners, of which we are home, and of which as many of the others as are
        needed have acknowledged its position in this epoch (rule V5); empty where nothing is lost."""
        return bytes(self._settled) if any(self._unsettled) else b""

    def _note_filled(self, home: HomeSlot | None) -> None:
        if home is None:
            return
        number = home.slot.number
        have = {owner for owner, position in home.acked.items() if position >= home.since}
        have.add(self.view.me.number)
        quorum = home.quorum
        bit = 1 << (number & 7)
        if self._unsettled[number >> 3] & bit and quorum.won_by_members(have):
            self._settled[number >> 3] |= bit
        if quorum.won(have) and all(
            peer.number in have or not peer.up for peer in home.group.peers if peer.number in quorum.joint
        ):
            self._filled[number >> 3] |= bit

    def link_down(self, peer: Peer) -> None:
        """What an owner has not acknowledged may never have reached it."""
        self.give_up_turns(peer, self.turn)

    def give_up_turns(self, peer: Peer, upto: int) -> None:
        """What an owner has not acknowledged of the turns up to this one it may lack."""
        for number in [number for number in peer.turns if number <= upto]:
            turn = peer.turns.pop(number)
            self._mark_lagging(peer, turn)
            self._spill(turn)
            self._teach(peer, turn)

    def _finds_expired(self, number: int, keys: Sequence[bytes]) -> bool:
        cells = self.view.copies.cells[number]
        now = self.clock.cluster_ms
        return any(key in cells and 0 < cells[key][2] <= now for key in keys)

    def remove_expired(self, home: HomeSlot, keys: Sequence[bytes]) -> None:
        """Remove those of `keys` that have expired. What an operation finds expired is removed before it runs,
        whichever of its arguments are keys, so that nobody sees it again."""
        cells = home.slot.cells
        now = self.clock.cluster_ms
        for key in keys:
            cell = cells.get(key)
            if cell is not None and 0 < cell[2] <= now and cell[1] is not None:
                self._extend(home, ((key, None, 0),), self.view.me, 0, home.slot.number, None)


def fault(request: Sequence[bytes], error: Exception) -> ReplyError:
    """What is said to a command that raised an exception. It has changed nothing; it costs its client an error, and not
    one home after another."""
    name = request[0].decode("ascii", "replace")
    return ReplyError(f"ERR internal fault in '{name:.64}', nothing was done: {type(error).__name__}")


def _position(ended: Ended) -> int:
    return ended[0]


def _process(peer: Peer) -> int:
    return peer.process


def _answered(quorum: Quorum, me: int, answers: Answers) -> bool:
    return quorum.won([me, *(peer.number for peer in answers.by_peer)])
