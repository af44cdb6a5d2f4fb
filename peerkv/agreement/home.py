"""The owner that orders a slot's writes: run them, and have the other owners accept them.

A home is no leader: any owner may become home of a slot at any moment by a higher ballot, safely (`takeover`). Agreeing
on who it is only makes things fast. Every operation is the next position of its slot's history; what was run within a
turn goes out at its end, and nothing waits for the turn before, since a change tells the position that it begins at.
Which operations have ended is known by what the owners acknowledge (`progress`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from peerkv.agreement.holds import Awaited, Holds
from peerkv.agreement.interests import Interests
from peerkv.agreement.notices import Notice
from peerkv.agreement.operation import Operations
from peerkv.agreement.peer import Peer
from peerkv.agreement.progress import HomeSlot, Progress, Status
from peerkv.agreement.replica import Replica
from peerkv.agreement.takeover import Queued, Takeover
from peerkv.agreement.tracked import Tracked
from peerkv.agreement.turn import Group, Turn
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.kernel.batches import Rows, Run, is_former, run
from peerkv.kernel.slot import Slot
from peerkv.resp import CommandError, Reply, ReplyError, size_of_reply
from peerkv.settings import Settings
from peerkv.store.cell import SEQUENCE_BITS, Cells, Change, first_position, seen_of
from peerkv.store.events import MISSED
from peerkv.store.expiry import Expiry
from peerkv.store.recent import TICKET_SLOT, OperationId
from peerkv.store.scratch import Occupied, Overheard, Scratch
from peerkv.store.values import MOVE, OF_OTHERS, size_of, size_of_body
from peerkv.store.values.held import HELD, Held

if TYPE_CHECKING:
    from random import Random

CHANGE_BYTES_MAX: Final = 128 << 20
REPLY_BYTES_MAX: Final = 64 << 20
"""One change, and what it answers, must fit into a frame together (`frame_bytes_max`)."""
PROBED_AT_ONCE: Final = 4096
"""Slots in a look, while an owner is away: all of them within a second."""
UNCHANGING_MAX: Final = 16384
"""Forgetting one costs its successor a retry, no more."""


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
        keys: Mapping[bytes, Callable[[Sequence[bytes]], Sequence[bytes]]],
        awaited: Awaited,
        settle: Callable[[Iterable[int], Iterable[Reply]], None],
        refused: Callable[[int, Status, int], None],
    ) -> None:
        """`settle` ends operations of our own coordinator; `refused` tells it that one was not done here."""
        self.view = view
        self.progress = Progress(settings, clock, view, settle, refused)
        self.takeover = Takeover(
            settings, clock, view, replica, operations, rng, self.progress, self._promised, self._begin
        )
        self.homes = self.progress.homes
        self.notices = self.progress.notices
        self.alone = bytearray(len(view.slots))
        """1: we are home of that slot, and its only owner."""
        self.somewhere_alone = False
        """We are so of some slot, perhaps."""
        self.timed = bytearray(len(view.slots))
        """1: we are home of that slot, and some cell has had a deadline."""
        self.expiry = Expiry()
        self.interests = Interests(clock, view, self._wake, self._lead_on)
        self.tracked = Tracked(view)
        self.holds = Holds(clock, awaited, self.interests.of_slot)
        self.renewed: tuple[Collection[bytes], Callable[..., Sequence[bytes]]] = (), lambda request, _now_seen: request
        """Names of requests that say what was seen of keys, and how that is said anew (`commands.transactions`)."""
        self.on_woken: Callable[[Peer, Sequence[bytes], Sequence[int]], None] = lambda _peer, _keys, _numbers: None
        """Told of waiters of our own that are woken, and ..."""
        self.on_astray: Callable[[Peer, Sequence[int]], None] = lambda _peer, _numbers: None
        """... of those that must look for another home; both set by `clients`."""
        self.overdue: list[tuple[int, bytes]] = []
        """Decisions of transactions (slot, key) whose coordinators have not dropped them in time."""
        self.unclaimed: set[int] = set()
        """Slots of ours whose owners this epoch has changed, and for which we have seen no ballot since."""
        self.group_of: list[Group | None] = [None] * len(view.slots)
        """Of each slot that we are home of."""
        self.turn = 0
        """The last turn that was begun."""
        self.clock = clock
        self._replica = replica
        self._runs = runs
        """How a request is run, by its name."""
        self._keys = keys
        """Likewise, which its keys are."""
        self._groups: dict[tuple[tuple[Peer, ...], int], Group] = {}
        self._open: list[Group] = []
        """Those with something to send at the end of this turn."""
        self._recent = replica.recent
        self._unchanging: set[OperationId] = set()
        """Reads run here lately; what may be run after them need not wait for their coordinator's mark."""
        self.made = 0
        """Bytes of values and replies that operations have made in this turn of the node."""
        self._recalled = 0
        """... and of those replies among them that are recipes for the other owners (rule A7)."""
        self._put_off: list[tuple[Peer, list[tuple[int, int, Sequence[bytes]]]]] = []
        """Operations beyond that, by who sent them: run in the next turn, in the order in which they came."""
        self._round: list[int] = []
        """Slots of which it is to be seen whether we are home still."""
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

        Hot. What is usual is done by the kernel; all else comes back here, one by one.
        """
        if self._put_off:
            if tickets:
                self._put_off.append((origin, list(zip(tickets, afters, requests, strict=True))))
            return
        view, process = self.view, origin.process
        left = run(
            view.copies,
            self,
            origin,
            zip(tickets, afters, requests, strict=True),
            self._recent[process],
            view.marks.get(process, 0),
            self._runs,
            self.clock.cluster_ms,
            impaired=view.impaired,
        )
        if left:
            self._put_off.append((origin, left))

    @property
    def open_groups(self) -> Sequence[Group]:
        """Those with something that is sent at the end of this turn."""
        return self._open

    def end_turn(self) -> None:
        """Of the node: what was run has been sent."""
        self.made = self._recalled = 0

    @property
    def has_more(self) -> bool:
        """Whether there are operations that are to be run in the next turn."""
        return bool(self._put_off)

    def _run_freed(self) -> None:
        """What has waited for keys that are held no more."""
        for number, waiters in self.holds.take_freed():
            for origin, ticket, request, after in waiters:
                if ticket < self.view.marks.get(origin.process, 0):  # T4
                    continue
                if number in self.homes:
                    self.run_one(origin, ticket, request, after)
                else:
                    self.progress.end(origin, ticket, Status.NOT_HERE)

    def _now_seen(self, number: int, key: bytes, seen: int) -> int:
        return self.holds.now_seen(number, seen_of(self.view.copies.cells[number].get(key)), key, seen)

    def _run_put_off(self) -> None:
        put_off, self._put_off = self._put_off, []
        for origin, operations in put_off:
            tickets, afters, requests = zip(*operations, strict=True)
            self.run(origin, tickets, afters, requests)

    def run_one(self, origin: Peer, ticket: int, request: Sequence[bytes], after: int) -> None:
        number = ticket & TICKET_SLOT
        home = self.homes.get(number)
        if home is None:
            self.takeover.enqueue(number, (origin, ticket, request, after))
            return
        view = self.view
        if view.impaired and not view.reachable(number):
            self.progress.end(origin, ticket, Status.NO_QUORUM)
            return
        process = origin.process
        recent = self._recent[process]
        if ticket in recent:
            self._extend(home, (), origin, 0, ticket, recent[ticket])
            return
        held = number in self.holds
        if held and self.holds.must_wait(number, origin, ticket, request, after):
            return
        if after and not self._has_run(process, after):  # O3
            self.progress.end(origin, ticket, Status.NOT_HERE)
            return
        if self.timed[number]:
            self.remove_expired(home, self._keys[request[0]](request))
        cells: Cells = home.slot.cells
        now = self.clock.cluster_ms
        if self.holds.same and request[0] in self.renewed[0]:
            request = self.renewed[1](request, partial(self._now_seen, number))
        if held and request[0] not in self.notices.several and self.holds.awaits(request):
            cells = Scratch(cells, now)  # it may look at more than its keys (MOVE, COPY, SORT)
        observed = self.notices.on
        if observed and request[0] in self.notices.several:
            cells = Overheard(cells)
        try:
            changes, reply = self._runs[request[0]](cells, request, now)
        except Occupied as occupied:
            self.must_wait(number, origin, ticket, request, after, occupied.key)
            return
        except Exception as error:
            changes, reply = (), fault(request, error)
        notice = (
            self.notices.of(process, ticket, cells, request, changes or (), reply, now)
            if observed and (changes is not None or self.notices.misses)
            else None
        )
        self.record(number, origin, ticket, changes, reply, request, notice)

    def record(
        self,
        number: int,
        origin: Peer,
        ticket: int,
        changes: Sequence[Change] | None,
        reply: Reply,
        request: Sequence[bytes],
        notice: Notice | None = None,
    ) -> None:
        """What an operation has done becomes history. `notice`: what there is to tell of it."""
        home = self.homes[number]
        process = origin.process
        refused = too_much(changes, reply)
        if refused is not None:
            changes, reply, notice = None if changes is None else (), refused, None
        if changes is None:
            self._unchanging.add((process, ticket))
            if len(self._unchanging) > UNCHANGING_MAX:
                self._unchanging.clear()
            if request[0] == self.tracked.name:
                self.timed[number] = 1
                reply = [reply, self.tracked.note(number, self._keys[request[0]](request), origin, ticket)]
            self._extend(home, (), origin, 0, ticket, reply, notice=notice)
            return
        self._extend(home, changes, origin, process, ticket, reply, request, notice)

    def must_wait(
        self, number: int, origin: Peer, ticket: int, request: Sequence[bytes], after: int, key: bytes | None = None
    ) -> bool:
        """Whether an operation is to be run later, as a transaction holds what it needs; it is kept until then."""
        return self.holds.must_wait(number, origin, ticket, request, after, key)

    def fault(self, request: Sequence[bytes], error: Exception) -> ReplyError:
        """See `fault`."""
        return fault(request, error)

    def _extend(
        self,
        home: HomeSlot,
        changes: Sequence[Change],
        origin: Peer,
        process: int,
        ticket: int,
        reply: Reply,
        request: Sequence[bytes] = (b"patch",),
        notice: Notice | None = None,
    ) -> None:
        """Make an operation's changes the next position of the slot's history: in our copy at once, in the others' by
        this turn's ACCEPTs; it ends when a quorum has accepted. One that is not to be remembered has process 0; what
        is no operation has as its ticket the slot."""
        slot = home.slot
        former = process != 0 and len(changes) == 1 and is_former(slot.cells, changes[0][0], reply)
        to = slot.position + 1
        group = home.group
        turn = group.turn or self._begin_turn(group)
        if to >> SEQUENCE_BITS != home.ballot:
            turn.starts[slot.number] = slot.position
            to = first_position(home.ballot) + 1
            slot.apply(to, ())
        try:
            slot.apply(to, changes)
        except Exception as error:  # owners will miss that change, and fetch what it has left
            changes, reply, process, former, notice = (), fault(request, error), 0, False, None
            to += 1
            slot.apply(to, ())
        if process:
            self._recent[process][ticket] = reply
        rows = turn.segment(origin, process).rows
        if len(changes) == 1:
            rows += (ticket, to, *changes[0], reply)
        else:
            rows += (ticket, to, [item for change in changes for item in change] or None, None, 0, reply)
        if notice is not None:
            self.notices.note(home, to, turn.number, notice)
            if turn.notices is None:
                turn.notices = []
            turn.notices.append(notice)
        if former:
            self.recall(group, origin, reply)  # type: ignore[arg-type]
        self.made += (self._work_of(slot, changes) if changes else 0) + size_of_reply(reply)
        self.note_deadlines(slot.number, changes, origin, ticket)

    def spoil(self, number: int, origin: Peer, ticket: int, request: Sequence[bytes], error: Exception) -> None:
        """A patch is none for what its key holds: its position is spent, and owners will miss it."""
        self._extend(self.homes[number], (), origin, 0, ticket, fault(request, error))

    def rows(self, group: Group, origin: Peer) -> Rows:
        """Where what is run next for that coordinator is to be put."""
        return (group.turn or self._begin_turn(group)).segment(origin, origin.process).rows

    def recall(self, group: Group, origin: Peer, reply: bytes) -> None:
        """The last row's reply is a recipe for the other owners. It is remembered here and there as it is: who repeats
        it later has no other copy of it, so it counts as if it had been sent."""
        assert group.turn is not None, "its rows are there"
        group.turn.segment(origin, origin.process).is_former()
        self._recalled += len(reply)
        self._recent.note_traffic(len(reply))

    def drop_keys(self, number: int, keys: Iterable[bytes]) -> None:
        """Drop keys of a slot that nobody asks for any more, if we are home of it, by no operation."""
        home = self.homes.get(number)
        if home is None or (self.view.impaired and not self.view.reachable(number)):
            return
        cells = home.slot.cells
        changes = [(key, None, 0) for key in keys if key in cells and cells[key][1] is not None]
        if changes:
            self._extend(home, changes, self.view.me, 0, number, None)

    def write_nothing(self, home: HomeSlot) -> None:
        """A position of the home's own ballot that changes nothing: whoever accepts it has all that was before."""
        self._extend(home, (), self.view.me, 0, home.slot.number, None)

    def _begin_turn(self, group: Group) -> Turn:
        self.turn += 1
        self._open.append(group)
        turn = group.turn = Turn(self.turn, group.pair, self.clock.now)
        return turn

    def apply_alone(self, number: int, run: Run, request: Sequence[bytes], now: int) -> Reply:
        """Run an operation on a slot whose only owner we are: done as soon as it is run."""
        if self.timed[number]:
            self.remove_expired(self.homes[number], self._keys[request[0]](request))
        try:
            changes, reply = run(self.view.copies.cells[number], request, now)
            if changes:
                self.change_alone(number, changes)
        except Exception as error:
            reply = fault(request, error)
        return reply

    def change_alone(self, number: int, changes: Sequence[Change]) -> int:
        """Make changes of a slot whose only owner we are. Returns the bytes that have been written for that."""
        home = self.homes[number]
        to = home.slot.position + 1
        copies = self.view.copies
        if len(changes) == 1 and copies.plain[number]:
            ((key, body, deadline),) = changes
            if type(body) is tuple and body[0] not in OF_OTHERS:
                copies.patch(number, to, key, body, deadline)
                if deadline or self.timed[number]:
                    self.note_deadlines(number, changes, self.view.me, 0)
                value = copies.cells[number][key][1]
                return len(value) if type(value) is bytes else size_of_body(body)
        home.slot.apply(to if to >> SEQUENCE_BITS == home.ballot else first_position(home.ballot) + 1, changes)
        self.note_deadlines(number, changes, self.view.me, 0)
        return self._work_of(home.slot, changes)

    def _work_of(self, slot: Slot, changes: Sequence[Change]) -> int:
        """Bytes that have been written: a string that is patched is written anew, and so is what is made of what other
        keys hold."""
        work = 0
        for key, body, _ in changes:
            value = slot.cells[key][1]
            is_made = type(body) is tuple and body[0] in OF_OTHERS and body[0] != MOVE
            work += size_of(value) if is_made or type(value) is bytes else size_of_body(body)
        return work

    def note_deadlines(self, number: int, changes: Sequence[Change], origin: Peer, ticket: int) -> None:
        same: set[bytes] | None = None
        """Keys that a transaction holds from now on, or has let go as they were."""
        for key, body, deadline in changes:
            if deadline == HELD:
                self._hold(number, key)
                same = {*(same or ()), key}
                continue
            if number in self.holds:
                commits = body != ("free", 0)
                if not (commits and self.holds.becomes(number, key)):
                    same = {*(same or ()), key}
                if self.holds.let_go(number, key, seen_of(self.view.copies.cells[number].get(key)), commits=commits):
                    self.alone[number] = not (self.homes[number].group.peers or self.notices.on)
            if deadline:
                self.timed[number] = 1
                self.expiry.add(deadline, number, key)
            elif self.timed[number]:
                self.expiry.discard(number, key)

        if number in self.interests.of_slot:
            self.interests.changed(number, changes)
        if number in self.tracked.slots:
            keys = [key for key, _, _ in changes]
            told = keys if same is None else [key for key in keys if key not in same]
            self.tracked.changed(number, told, origin, ticket)

    def take_interest(self, peer: Peer, keys: Sequence[bytes], waiters: Sequence[int], everyone: Sequence[int]) -> None:
        """Waiters of a node wait for keys of ours; where we are not home, they are told so."""
        astray: dict[int, None] = {}
        view = self.view
        for key, waiter, all_of_them in zip(keys, waiters, everyone, strict=True):
            number = view.slot_of(key)
            if number in self.homes and (not view.impaired or view.reachable(number)):
                self.timed[number] = 1
                self.interests.wait(number, key, peer, waiter, everyone=bool(all_of_them))
            else:
                astray[waiter] = None
        if astray:
            self._lead_on(peer, astray)

    def end_interest(self, peer: Peer, keys: Sequence[bytes], waiters: Sequence[int]) -> None:
        """They wait no more."""
        for key, waiter in zip(keys, waiters, strict=True):
            self.interests.end(self.view.slot_of(key), key, peer, waiter)

    def _wake(self, peer: Peer, key: bytes, waiter: int) -> None:
        if peer is self.view.me:
            self.on_woken(peer, (key,), (waiter,))
        elif peer.up:
            peer.tell("wake", [key], [waiter])

    def _lead_on(self, peer: Peer, waiters: Iterable[int]) -> None:
        if peer is self.view.me:
            self.on_astray(peer, list(waiters))
        elif peer.up:
            peer.tell("astray", list(waiters))

    def look(self, hedge: float) -> None:
        """See whether we are home still of slots whose changes somebody wants to hear of: owners that have parted from
        us may have made another one that, and those that have promised to follow it say so if they are asked."""
        slots = {**self.tracked.slots, **dict.fromkeys(self.interests.of_slot, 0)}
        if not slots:
            return
        view = self.view
        for peer in {peer: None for number in slots for peer in view.others[number]}:
            view.doubt(peer, peer.pinged, self.clock, hedge)
        if view.impaired:
            for number in [number for number in slots if not view.reachable(number)]:
                del slots[number]
                self.tracked.drop(number)
                self.interests.drop(number)
            self._round = self._round or list(slots)
            for number in self._round[-PROBED_AT_ONCE:]:
                others = view.others[number]
                if number in slots and not all(peer.usable for peer in others):
                    for peer in others:
                        if peer.usable:
                            peer.probe(number, view.copies.positions[number], urgent=False)
            del self._round[-PROBED_AT_ONCE:]

    def _hold(self, number: int, key: bytes) -> None:
        """A transaction holds a key: nobody passes by `run_one` until it is let go."""
        self.timed[number] = 1
        self.alone[number] = 0
        self.expiry.discard(number, key)
        held = self.view.copies.cells[number][key][1]
        assert isinstance(held, Held), "it is held"
        self.holds.hold(number, key, held.was, changes=bool(held.then))

    def is_plain_now(self, number: int, request: Sequence[bytes]) -> bool:
        """Of a slot that is `timed`, whether a request meets no deadline that has passed, and nothing that is held, and
        nobody observes."""
        if self.notices.on or number in self.holds or (self.holds.same and request[0] in self.renewed[0]):
            return False
        cells = self.view.copies.cells[number]
        now = self.clock.cluster_ms
        return not any(key in cells and 0 < cells[key][2] <= now for key in self._keys[request[0]](request))

    def remove_expired(self, home: HomeSlot, keys: Sequence[bytes]) -> None:
        """Remove those of `keys` that have expired. What an operation finds expired is removed before it runs, so that
        nobody sees it again."""
        cells = home.slot.cells
        now = self.clock.cluster_ms
        for key in keys:
            cell = cells.get(key)
            if cell is not None and HELD < cell[2] <= now and cell[1] is not None:
                notice = self.notices.expired(key) if self.notices.on else None
                self._extend(home, ((key, None, 0),), self.view.me, 0, home.slot.number, None, notice=notice)

    def _has_run(self, process: int, ticket: int) -> bool:
        """Whether that operation is part of its slot's history (or has ended without a trace)."""
        return (
            ticket in self._recent[process]
            or (process, ticket) in self._unchanging
            or ticket < self.view.marks.get(process, 0)
        )

    # -- turns out

    def flush(self) -> None:
        """End of a turn: run what our own coordinator wants, and send what was run in the turn to the other owners."""
        me = self.view.me
        if me.insists:
            self.takeover.insist(me, me.insists)
            me.insists.clear()
        if self._put_off and not self.made:
            self._run_put_off()
        if me.forwards:
            forwards, me.forwards = me.forwards, []
            self.run(me, forwards[::3], forwards[1::3], forwards[2::3])
        if self.holds.freed:
            self._run_freed()
        self.takeover.flush()
        groups, self._open = self._open, []
        for group in groups:
            turn, group.turn = group.turn, None
            assert turn is not None, "a group is open because of its turn"
            self._send(group, turn)
        if groups:
            self._replica.journal.weigh(self.made - self._recalled)
        self.tracked.flush()

    def _send(self, group: Group, turn: Turn) -> None:
        self.progress.sent(group, turn)
        if not group.peers:
            return
        accepts = turn.accepts(self.view.marks)
        self._replica.journal.note(accepts)
        for peer in group.peers:
            if peer.up:
                peer.offer(turn.number, accepts)
                if turn.notices:
                    self.notices.offered(peer, turn.number, turn.notices)
                peer.turns[turn.number] = turn
            else:
                self.progress.mark_lagging(peer, turn)

    # -- being home, and being it no more

    def _begin(self, slot: Slot, ballot: int, equal: Collection[Peer], queued: Sequence[Queued]) -> None:
        """Serve from now on: first what has waited for that."""
        number = slot.number
        view = self.view
        home = HomeSlot(
            slot,
            ballot,
            self._group(view.others[number], view.pair[number]),
            view.quorums[number],
            since=slot.position,
            at=self.clock.now,
        )
        self.progress.begin(home, equal)
        self._join_group(home)
        for key, cell in slot.cells.items():
            if cell[2] == HELD:
                self._hold(number, key)
            elif cell[2]:
                self.timed[number] = 1
                self.expiry.add(cell[2], number, key)
        for origin, ticket, request, after in queued:
            if ticket >= view.marks.get(origin.process, 0):  # T4: what is older has ended
                self.run_one(origin, ticket, request, after)

    def _join_group(self, home: HomeSlot) -> None:
        number = home.slot.number
        self.group_of[number] = home.group
        if not home.group.peers:
            self.somewhere_alone = True
            self.alone[number] = not (number in self.holds or self.notices.on)
        else:
            self.alone[number] = 0
        if self.notices.on:
            self.timed[number] = 1

    def observe(self, *, classes: int | None = None, keys: bool | None = None) -> None:
        """Which events somebody in the cluster is to be told from now on, and whether which keys are changed. While
        there is anything to tell nothing is run in line: `run_one` sees what was there before."""
        notices = self.notices
        notices.classes = notices.classes if classes is None else classes
        notices.keys = notices.keys if keys is None else keys
        notices.misses = bool(notices.classes & MISSED)
        on = bool(notices.classes or notices.keys)
        if on == notices.on:
            return
        notices.on = on
        for number, home in self.homes.items():
            told = number in self.interests.of_slot or number in self.tracked.slots
            self.timed[number] = on or told or number in self.holds or self.expiry.has(number)
            self.alone[number] = not (on or home.group.peers or number in self.holds)

    def _group(self, others: Iterable[Peer], pair: int) -> Group:
        key = tuple(sorted(others, key=_process)), pair
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key[0], bool(key[1]))
        return group

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
        self.takeover.hand_on(number)

    def _refused_here(self, ticket: int) -> None:
        """As owner we have not accepted what another home has run for our own coordinator: it is home no more."""
        self.progress.end(self.view.me, ticket, Status.AGAIN)

    def deposed(self, number: int) -> None:
        """We are home of this slot no more."""
        self.takeover.unsettled = True
        self.unclaimed.discard(number)
        home = self.homes.get(number)
        if home is None:
            return
        self.group_of[number] = None
        if self.timed[number]:
            self.expiry.forget(number)
        self.alone[number] = self.timed[number] = 0
        self.interests.drop(number)
        self.tracked.drop(number)
        for origin, ticket, _, _ in self.holds.drop(number):
            self.progress.end(origin, ticket, Status.NOT_HERE)
        self._replica.counters.deposed += 1
        self.progress.drop(home)

    def enter_epoch(self) -> None:
        """A new topology is installed (protocol rule E2): what was under way may have met owners of another epoch, and
        where the owners are others now, it begins anew who is known to be where we are. A home stays home, if it is
        still an owner."""
        view = self.view
        self.tracked.enter_epoch()
        self.takeover.enter_epoch()
        self.progress.enter_epoch()
        topology = view.topology
        if topology is None:
            self._recoveries = 0
            for number in list(self.homes):
                self.deposed(number)
            return
        compared = topology.is_compared if topology.recoveries != self._recoveries else None
        """Slots whose former home must first see what others have (rule V6)."""
        others, pair, quorums, slots = view.others, view.pair, view.quorums, view.slots
        groups: dict[int, Group | None] = {}
        """By quorum; slots of the same owners share one. None: nobody can be home of them."""
        regrouped: list[tuple[int, HomeSlot, Group]] = []
        for number, home in list(self.homes.items()):
            quorum = quorums[number]
            try:
                group = groups[id(quorum)]
            except KeyError:
                group = self._group(others[number], pair[number]) if quorum.possible else None
                groups[id(quorum)] = group
            if slots[number] is not home.slot or group is None or (compared is not None and compared(number)):
                self.deposed(number)
            elif group is not home.group or (quorum is not home.quorum and quorum != home.quorum):
                regrouped.append((number, home, group))
        self.progress.regroup(regrouped)
        for _, home, _ in regrouped:
            self._join_group(home)
        self.somewhere_alone = any(not home.group.peers for home in self.homes.values())
        self._recoveries = topology.recoveries


def fault(request: Sequence[bytes], error: Exception) -> ReplyError:
    """What is said to a command that raised an exception. It has changed nothing; one that is a fault of ours costs its
    client an error, and not one home after another."""
    if isinstance(error, CommandError):
        return error.reply
    name = request[0].decode("ascii", "replace")
    return ReplyError(f"ERR internal fault in '{name:.64}', nothing was done: {type(error).__name__}")


def too_much(changes: Sequence[Change] | None, reply: Reply) -> ReplyError | None:
    """What is said to an operation that would do, or answer, more than can be sent to the other owners in a frame."""
    size = sum([size_of_body(body) for _, body, _ in changes or ()])
    if size > CHANGE_BYTES_MAX:
        return ReplyError(f"ERR the change would be of {size} bytes, at most {CHANGE_BYTES_MAX} are allowed")
    size = size_of_reply(reply)
    if size > REPLY_BYTES_MAX:
        return ReplyError(
            f"ERR the reply would be of {size} bytes, at most {REPLY_BYTES_MAX} are allowed: ask for a part of it"
        )
    return None


def reply_of(run: Run, cells: Cells, request: Sequence[bytes], now: int) -> Reply:
    """What a request that changes nothing answers."""
    try:
        return run(cells, request, now)[1]
    except Exception as error:
        return fault(request, error)


def _process(peer: Peer) -> int:
    return peer.process
