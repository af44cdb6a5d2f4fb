"""The owner that orders a slot's writes: queue, run, accept round, group commit, and taking a slot over.

A home is no leader: any owner may become home of a slot at any moment by a higher ballot, safely. Agreeing on who it is
only makes things fast. What is queued for a slot within a turn goes out as one change; nothing waits for the round
before, since changes carry the position that they begin at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from peerkv.agreement.operation import Answers, Operation, Operations, Pause, Prepare, Promises, Round
from peerkv.agreement.peer import Peer
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.resp import Reply
from peerkv.ring.quorum import Quorum
from peerkv.settings import Settings
from peerkv.store.cell import (
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    Cells,
    Change,
    ballot_round,
    first_position,
    make_ballot,
    position_sequence,
)
from peerkv.store.expiry import Expiry
from peerkv.store.slot import OperationId, Slot

if TYPE_CHECKING:
    from random import Random

Run: TypeAlias = Callable[[Cells, Sequence[bytes], int], tuple[Sequence[Change] | None, Reply]]
"""Runs a request on a slot's cells at a cluster time: its changes (None: it is one that never has any) and its reply.
What could have changed something but did not is remembered like what did: run again elsewhere it might."""

TAKEOVER_GROUP: Final = 512
"""Slots prepared in one message: 3 ms of either end's time."""
TAKEOVER_ATTEMPTS: Final = 8
UNCHANGING_MAX: Final = 1024
"""Forgetting one costs its successor a retry, no more."""
EXPIRE_GROUP: Final = 1024
"""Keys expired in one turn at most, so that a storm of deadlines does not stop the node."""
TEND_PERIOD_S: Final = 1.0
"""How often a home looks after owners that are behind and after tombstones."""
EAGER_AFTER_S: Final = 1.0
"""How long a home's link must have been down before the next owner takes its idle slots too."""


SEQUENCE_RENEWED: Final = SEQUENCE_MASK // 2


class Status(IntEnum):
    """How an operation ended at a home."""

    DONE = 0
    AGAIN = 1
    """Deposed: the change may or may not survive. Send the same id again."""
    NOT_HERE = 2
    """Not home, nothing applied. Send the same id again."""
    NO_QUORUM = 3
    """Nothing applied: a majority of the owners cannot be reached from here."""


Queued: TypeAlias = tuple[Peer | None, int, int, Sequence[bytes], int]
"""(who sent it, None: our own coordinator; the coordinator's process; counter; request; the counter of the operation
that the same client sent before on this slot and that must have been run before, 0: none)"""

Ended: TypeAlias = tuple[Peer | None, int, Reply, bool]
"""(who sent it; counter; reply; whether an owner that sent it learns the reply from the change itself)"""


@dataclass(slots=True, eq=False)
class HomeSlot:
    """A slot that this node is home of."""

    slot: Slot
    ballot: int
    others: tuple[Peer, ...]
    quorum: Quorum
    pair: bool
    acked: dict[int, int] = field(default_factory=dict)
    """Per owner (number) how far it has acknowledged under this ballot."""
    queue: list[Queued] = field(default_factory=list)
    waiting: list[tuple[int, list[Ended]]] = field(default_factory=list)
    """(position, operations that end once a quorum has reached it), in order."""
    unchanging: set[OperationId] = field(default_factory=set)
    """Reads run here lately; what may be run after them need not wait for their coordinator's mark."""
    expired: list[bytes] = field(default_factory=list)
    """Keys to be removed by the next change."""
    dirty: bool = False
    timed: bool = False
    """Some cell has had a deadline."""


class Home:
    """This node as home of slots."""

    def __init__(
        self,
        settings: Settings,
        view: View,
        replica: Replica,
        operations: Operations,
        rng: Random,
        run: Run,
        settle: Callable[[int, Reply], None],
        refused: Callable[[int, Status], None],
    ) -> None:
        self.view = view
        self.homes: dict[int, HomeSlot] = {}
        self.taking: dict[int, list[Queued]] = {}
        """Slots being taken over, and the operations that wait for that."""
        self.expiry = Expiry()
        self.now = 0.0
        self._settings = settings
        self._replica = replica
        self._operations = operations
        self._rng = rng
        self._run = run
        self._settle = settle
        """Ends an operation of our own coordinator."""
        self._refused = refused
        """Tells our own coordinator that an operation was not done here."""
        self._dirty: list[HomeSlot] = []
        self._wanted: list[int] = []
        """Slots to take over at the end of this turn."""
        self._seen_round: dict[int, int] = {}
        self._tend_at = 0.0
        replica.on_deposed = self.deposed

    # -- operations in

    def enqueue(self, number: int, queued: Queued) -> None:
        """Order an operation on a slot; its end is reported to who sent it."""
        home = self.homes.get(number)
        if home is not None:
            home.queue.append(queued)
            if not home.dirty:
                home.dirty = True
                self._dirty.append(home)
            return
        waiting = self.taking.get(number)
        if waiting is not None:
            waiting.append(queued)
        elif self.view.slots[number] is None:
            self._end(queued[0], queued[2], Status.NOT_HERE)
        else:
            self.taking[number] = [queued]
            self._wanted.append(number)

    def apply_alone(self, home: HomeSlot, request: Sequence[bytes], now: int) -> Reply:
        """Run an operation on a slot whose only owner we are: done as soon as it is run."""
        slot = home.slot
        if home.timed:
            self._expire_arguments(home, request, now)
        changes, reply = self._run(slot.cells, request, now)
        if changes:
            ballot = home.ballot
            position = slot.position
            to = position + 1 if position >> SEQUENCE_BITS == ballot else first_position(ballot) + 1
            slot.apply(to, changes)
            for key, _, deadline in changes:
                if deadline:
                    home.timed = True
                    self.expiry.add(deadline, slot.number, key)
        return reply

    def flush(self, now: int) -> None:
        """End of a turn: run what has queued, send each slot's change to its other owners."""
        if self._wanted:
            self._start_takeovers()
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for home in dirty:
                home.dirty = False
                self._flush_slot(home, now)

    def _flush_slot(self, home: HomeSlot, now: int) -> None:
        slot = home.slot
        number = slot.number
        queue = home.queue
        home.queue = []
        view = self.view
        if self.homes.get(number) is not home:
            for origin, _, counter, _, _ in queue:
                self._end(origin, counter, Status.NOT_HERE)
            return
        if view.impaired and not view.reachable(number):
            for origin, _, counter, _, _ in queue:
                self._end(origin, counter, Status.NO_QUORUM)
            return
        ballot = home.ballot
        start = slot.position
        to = start + 1 if start >> SEQUENCE_BITS == ballot else first_position(ballot) + 1
        changes: list[Change] = []
        ids: list[Any] = []
        ended: list[Ended] = []
        recent = slot.recent
        cells = slot.cells
        run = self._run
        if home.expired:
            self._remove_expired(home, home.expired, now, to, changes)
            home.expired = []
        for origin, process, counter, request, after in queue:
            if recent and (process, counter) in recent:
                ended.append((origin, counter, recent[process, counter], False))
                continue
            if after and not self._has_run(home, process, after):  # O3
                self._end(origin, counter, Status.NOT_HERE)
                continue
            if home.timed:
                self._remove_expired(home, request, now, to, changes)
            wanted, reply = run(cells, request, now)
            if wanted is not None:
                if wanted:
                    slot.write(to, wanted)
                    changes += wanted
                if not recent:
                    self._replica.remembering.add(number)
                recent[process, counter] = reply
                ids += (process, counter, reply)
                for key, _, deadline in wanted:
                    if deadline:
                        home.timed = True
                        self.expiry.add(deadline, number, key)
            else:
                home.unchanging.add((process, counter))
            ended.append((origin, counter, reply, wanted is not None))
        slot.apply(to, ())
        for peer in home.others:
            if peer.up:
                peer.accepts += (number, start, to, changes, ids)
                view.touched.add(peer)
        if len(home.unchanging) > UNCHANGING_MAX:
            home.unchanging.clear()
        if view.sole[number]:
            self._release(home, ended)
        elif ended:
            home.waiting.append((to, ended))

    def _has_run(self, home: HomeSlot, process: int, counter: int) -> bool:
        """Whether that operation is part of this home's history (or has ended without a trace)."""
        id_ = (process, counter)
        return id_ in home.slot.recent or id_ in home.unchanging or counter < self.view.marks.get(process, 0)

    # -- acknowledgements

    def acknowledge(self, peer: Peer, column: list[int]) -> None:
        """ACKs of an owner: cumulative positions (protocol rule H2)."""
        homes = self.homes
        owner = peer.number
        items = iter(column)
        for number, position in zip(items, items, strict=True):
            home = homes.get(number)
            if home is None or position >> SEQUENCE_BITS != home.ballot or position <= home.acked.get(owner, 0):
                continue
            home.acked[owner] = position
            waiting = home.waiting
            if not waiting or waiting[0][0] > position:
                continue
            if not home.pair:
                position = home.quorum.reached({**home.acked, self.view.me.number: home.slot.position})
            while waiting and waiting[0][0] <= position:
                self._release(home, waiting.pop(0)[1])

    def _release(self, home: HomeSlot, ended: list[Ended]) -> None:
        pair = home.pair
        others = home.others
        for origin, counter, reply, taught in ended:
            if origin is None:
                self._settle(counter, reply)
            elif not (taught and pair and origin in others):
                origin.outcomes += (counter, Status.DONE, reply)
                self.view.touched.add(origin)

    def refuse(self, number: int, ballot: int, promised: int) -> None:
        """NACK: an owner has promised a higher ballot."""
        self._seen_round[number] = max(self._seen_round.get(number, 0), ballot_round(promised))
        home = self.homes.get(number)
        if home is not None and home.ballot == ballot:
            self.deposed(number)

    def deposed(self, number: int) -> None:
        """Another member is home of this slot now, or will be."""
        home = self.homes.pop(number, None)
        if home is None:
            return
        self._replica.counters.deposed += 1
        for _, ended in home.waiting:
            for origin, counter, _, _ in ended:
                self._end(origin, counter, Status.AGAIN)
        for origin, _, counter, _, _ in home.queue:
            self._end(origin, counter, Status.NOT_HERE)
        home.queue = []

    def _end(self, origin: Peer | None, counter: int, status: Status) -> None:
        if origin is None:
            self._refused(counter, status)
        else:
            origin.outcomes += (counter, status, None)
            self.view.touched.add(origin)

    # -- taking over

    def want(self, numbers: Sequence[int]) -> None:
        """Take these slots over although no operation waits for them."""
        for number in numbers:
            if number not in self.homes and number not in self.taking and self.view.slots[number] is not None:
                self.taking[number] = []
                self._wanted.append(number)

    def _start_takeovers(self) -> None:
        groups: dict[tuple[Peer, ...], list[int]] = {}
        for number in self._wanted:
            groups.setdefault(self.view.others[number], []).append(number)
        self._wanted = []
        for numbers in groups.values():
            for first in range(0, len(numbers), TAKEOVER_GROUP):
                self._operations.start(self.now, self.take_over(numbers[first : first + TAKEOVER_GROUP]))

    def take_over(self, numbers: list[int]) -> Operation:
        """Become home of these slots, which have the same owners (protocol rules T1 to T4)."""
        view = self.view
        epoch = view.epoch
        me = view.me.number
        if not view.others[numbers[0]]:
            for number in numbers:
                ballot = self._next_ballot(number)
                slot = view.slots[number]
                assert slot is not None, "the only owner has a copy"
                self._become_home(slot, ballot, equal=True)
            return
        for attempt in range(TAKEOVER_ATTEMPTS):
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
            numbers = lost
            yield Pause(self._rng.uniform(0.002, 0.01) * (1 << attempt))
        self._give_up(numbers, Status.NOT_HERE)

    def _next_ballot(self, number: int) -> int:
        slot = self.view.slots[number]
        assert slot is not None, "takeovers are of our own slots"
        round_ = max(ballot_round(slot.promised), self._seen_round.pop(number, 0)) + 1
        self.deposed(number)
        slot.promised = make_ballot(round_, self.view.me.number)
        return slot.promised

    def _won(self, slot: Slot, ballot: int, promised: list[tuple[Peer, int]]) -> None:
        furthest = max(promised, key=lambda entry: entry[1], default=None)
        if furthest is not None and furthest[1] > slot.position:
            self._operations.start(self.now, self._adopt(slot.number, ballot, *furthest))
        else:
            self._become_home(slot, ballot, equal=all(position == slot.position for _, position in promised))

    def _adopt(self, number: int, ballot: int, source: Peer, position: int) -> Operation:
        yield from self._replica.fetch(number, ballot, source)
        slot = self.view.slots[number]
        if slot is not None and slot.promised == ballot and slot.position >= position:
            self._become_home(slot, ballot, equal=False)
        else:
            self._give_up([number], Status.NOT_HERE)

    def _become_home(self, slot: Slot, ballot: int, equal: bool) -> None:
        number = slot.number
        view = self.view
        home = HomeSlot(slot, ballot, view.others[number], view.quorums[number], bool(view.pair[number]))
        self.homes[number] = home
        self._replica.counters.takeovers += 1
        for key, cell in slot.cells.items():
            if cell[2]:
                home.timed = True
                self.expiry.add(cell[2], number, key)
        for queued in self.taking.pop(number, ()):
            _, process, counter, _, _ = queued
            if counter >= view.marks.get(process, 0):  # T4: what is older has ended
                home.queue.append(queued)
        if home.queue or not equal:  # an empty change brings the others to our copy
            self._touch(home)

    def _give_up(self, numbers: Sequence[int], status: Status) -> None:
        for number in numbers:
            for origin, _, counter, _, _ in self.taking.pop(number, ()):
                self._end(origin, counter, status)

    def _touch(self, home: HomeSlot) -> None:
        if not home.dirty:
            home.dirty = True
            self._dirty.append(home)

    def enter_epoch(self) -> None:
        """A new topology is installed: begin anew as home of what we own first (protocol rule E2)."""
        for number in list(self.homes):
            self.deposed(number)
        me = self.view.me
        self.want([number for number, order in enumerate(self.view.order) if order and order[0] is me])

    # -- looking after

    def link_up(self, peer: Peer) -> None:
        """An owner can be talked to again: whatever it missed, an empty change of each slot will show."""
        me = self.view.me
        slots = self.view.slots
        fresh = [number for number, order in enumerate(self.view.order) if order and order[0] is me]
        self.want([number for number in fresh if (slot := slots[number]) is not None and not slot.promised])
        numbers = [number for number, home in self.homes.items() if peer in home.others and home.slot.position]
        if numbers:
            self._operations.start(self.now, self._show(peer, numbers))

    def _show(self, peer: Peer, numbers: list[int]) -> Operation:
        for first in range(0, len(numbers), TAKEOVER_GROUP):
            for number in numbers[first : first + TAKEOVER_GROUP]:
                home = self.homes.get(number)
                if home is not None:
                    self._probe(home, peer)
            yield Pause(0.01)
            if not peer.up:
                return

    def _probe(self, home: HomeSlot, peer: Peer) -> None:
        position = home.slot.position
        if position >> SEQUENCE_BITS != home.ballot:
            self._touch(home)
        elif home.acked.get(peer.number, 0) < position and peer.up:
            peer.accepts += (home.slot.number, position, position, (), ())
            self.view.touched.add(peer)

    def takes_over_from(self, gone: Peer) -> list[int]:
        """Slots that are ours to take while `gone` is: it comes first of their owners, we are the next usable one."""
        me = self.view.me
        numbers = []
        for number, order in enumerate(self.view.order):
            if order and order[0] is gone and me in order and number not in self.homes:
                first = next((peer for peer in order if peer is not gone and peer.usable), None)
                if first is me:
                    numbers.append(number)
        return numbers

    def tend(self, now: float) -> None:
        """Once a period: probe owners that are behind, purge tombstones that every owner has (protocol rule X1)."""
        if now < self._tend_at:
            return
        self._tend_at = now + TEND_PERIOD_S
        purges: dict[Peer, list[int]] = {}
        for home in list(self.homes.values()):
            slot = home.slot
            position = slot.position
            if not position:
                continue
            if position_sequence(position) > SEQUENCE_RENEWED:  # H3
                self.deposed(slot.number)
                self.want([slot.number])
                continue
            low = position
            for peer in home.others:
                acked = home.acked.get(peer.number, 0)
                if acked < position:
                    low = min(low, acked)
                    if peer.up and (acked or home.waiting or slot.tombstones):
                        self._probe(home, peer)
            if slot.tombstones and low >> SEQUENCE_BITS == home.ballot:
                purged = slot.purge(low)
                self._replica.counters.purged += purged
                if purged:
                    for peer in home.others:
                        purges.setdefault(peer, []).extend((slot.number, home.ballot, low))
            elif slot.tombstones and not home.others:
                self._replica.counters.purged += slot.purge(position)
        for peer, column in purges.items():
            if peer.up:
                peer.tells.append(("purge", column))
                self.view.touched.add(peer)

    def expire(self, now: int) -> None:
        """Write tombstones for keys whose deadline has passed; expiry is a change like any other."""
        for deadline, number, key in self.expiry.due(now, EXPIRE_GROUP):
            home = self.homes.get(number)
            if home is None:
                continue
            cell = home.slot.cells.get(key)
            if cell is not None and cell[2] == deadline and cell[1] is not None:
                home.expired.append(key)
                self._touch(home)

    def _remove_expired(self, home: HomeSlot, keys: Sequence[bytes], now: int, to: int, changes: list[Change]) -> None:
        """Remove those of `keys` that have expired (rule X2). What an operation finds expired is removed before it
        runs, whichever of its arguments are keys, so that nobody sees it again."""
        cells = home.slot.cells
        for argument in keys:
            cell = cells.get(argument)
            if cell is not None and 0 < cell[2] <= now and cell[1] is not None:
                change = (argument, None, 0)
                home.slot.write(to, (change,))
                changes.append(change)

    def _expire_arguments(self, home: HomeSlot, request: Sequence[bytes], now: int) -> None:
        slot = home.slot
        changes: list[Change] = []
        position = slot.position
        to = position + 1 if position >> SEQUENCE_BITS == home.ballot else first_position(home.ballot) + 1
        self._remove_expired(home, request, now, to, changes)
        if changes:
            slot.apply(to, ())


def _answered(quorum: Quorum, me: int, answers: Answers) -> bool:
    return quorum.won([me, *(peer.number for peer in answers.by_peer)])
