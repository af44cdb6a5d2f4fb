"""The owner that orders a slot's writes: run them, have the other owners accept them, and take a slot over.

A home is no leader: any owner may become home of a slot at any moment by a higher ballot, safely. Agreeing on who it is
only makes things fast. What is run for a slot within a turn goes out as one change, a step of the slot's history;
nothing waits for the step before, since a change carries the position that it begins at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
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
    ballot_member,
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
EXPIRE_RETRY_MS: Final = 500
"""When to try again while no majority can be reached."""
PROBES_MAX: Final = 2048
"""Slots whose other owners are probed at a time."""
TEND_PERIOD_S: Final = 1.0
"""How often a home looks after owners that are behind and after tombstones."""


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


class Accepts:
    """ACCEPTs of one turn, as columns."""

    __slots__ = ("cells", "ids", "slots")

    def __init__(self, slots: list[int], cells: list[Any], ids: list[Any]) -> None:
        self.slots = slots
        """Slot, from, to, how many of ..."""
        self.cells = cells
        """... key, value, deadline; and how many of ..."""
        self.ids = ids
        """... process, counter, reply."""


class Group:
    """The other owners of some slots of ours: as these are the same, so is what they are to accept."""

    __slots__ = ("peers", "steps", "turn")

    def __init__(self, peers: tuple[Peer, ...]) -> None:
        self.peers = peers
        self.steps: list[Step] = []
        """Of this turn."""
        self.turn = 0


class Step:
    """One change of a slot: all that was run in one turn."""

    __slots__ = ("changes", "ended", "home", "ids", "start", "to")

    def __init__(self, home: HomeSlot, start: int, to: int) -> None:
        self.home = home
        self.start = start
        self.to = to
        self.changes: list[Change] = []
        self.ids: list[Any] = []
        self.ended: list[Ended] = []
        """Operations that end once a quorum has reached `to`."""


@dataclass(slots=True, eq=False)
class HomeSlot:
    """A slot that this node is home of."""

    slot: Slot
    ballot: int
    group: Group
    quorum: Quorum
    pair: bool
    lagging: set[int]
    """Owners (numbers) that are not known to be where we are, but for turns that they have not answered yet."""
    step: Step | None = None
    """The step of this turn."""
    turn: int = 0
    """The last turn in which something was sent."""
    waiting: deque[Step] = field(default_factory=deque)
    """Steps with operations that a quorum has not accepted, in order."""
    acked: dict[int, int] = field(default_factory=dict)
    """Per owner how far it has acknowledged under this ballot; kept where more than one other must."""
    unchanging: set[OperationId] = field(default_factory=set)
    """Reads run here lately; what may be run after them need not wait for their coordinator's mark."""
    timed: bool = False
    """Some cell has had a deadline."""
    purgeable: tuple[int, int] = (0, 0)
    """(turn, position): once every owner has accepted that turn, tombstones up to that position can go."""


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
        self.clock = 0
        """Cluster time in milliseconds."""
        self._settings = settings
        self._replica = replica
        self._operations = operations
        self._rng = rng
        self._run = run
        self._settle = settle
        """Ends an operation of our own coordinator."""
        self._refused = refused
        """Tells our own coordinator that an operation was not done here."""
        self._groups: dict[tuple[Peer, ...], Group] = {}
        self._steps: list[Step] = []
        """Of this turn."""
        self._turn = 0
        self._wanted: list[int] = []
        """Slots to take over at the end of this turn."""
        self._seen_round: dict[int, int] = {}
        self._tend_at = 0.0
        replica.on_deposed = self.deposed
        replica.on_handed_out = self._close

    # -- operations in

    def enqueue(
        self, number: int, origin: Peer | None, process: int, counter: int, request: Sequence[bytes], after: int
    ) -> None:
        """Run an operation on a slot, or as soon as we are its home; its end is reported to who sent it (rule H1)."""
        home = self.homes.get(number)
        if home is None:
            self._enqueue_elsewhere(number, (origin, process, counter, request, after))
            return
        step = home.step or self._open(home)
        if step is None:
            self._end(origin, counter, Status.NO_QUORUM)
            return
        slot = home.slot
        recent = slot.recent
        id_ = (process, counter)
        if id_ in recent:
            step.ended.append((origin, counter, recent[id_], False))
            return
        if after and not self._has_run(home, process, after):  # O3
            self._end(origin, counter, Status.NOT_HERE)
            return
        if home.timed:
            self._remove_expired(step, request)
        changes, reply = self._run(slot.cells, request, self.clock)
        if changes is None:
            home.unchanging.add(id_)
            if len(home.unchanging) > UNCHANGING_MAX:
                home.unchanging.clear()
            step.ended.append((origin, counter, reply, False))
            return
        if changes:
            slot.write(step.to, changes)
            step.changes += changes
            for key, _, deadline in changes:
                if deadline:
                    home.timed = True
                    self.expiry.add(deadline, number, key)
        if not recent:
            self._replica.remembering.add(number)
        recent[id_] = reply
        step.ids += (process, counter, reply)
        step.ended.append((origin, counter, reply, True))

    def _enqueue_elsewhere(self, number: int, queued: Queued) -> None:
        waiting = self.taking.get(number)
        if waiting is not None:
            waiting.append(queued)
        elif self.view.slots[number] is None:
            self._end(queued[0], queued[2], Status.NOT_HERE)
        else:
            self.taking[number] = [queued]
            self._wanted.append(number)

    def _open(self, home: HomeSlot) -> Step | None:
        """Begin this turn's step; None if no majority can be reached.

        The copy is at the new position at once. Until the end of the turn nobody else sees it (`_close`), and after
        that it does not change any more.
        """
        slot = home.slot
        view = self.view
        if view.impaired and not view.reachable(slot.number):
            return None
        start = slot.position
        to = start + 1 if start >> SEQUENCE_BITS == home.ballot else first_position(home.ballot) + 1
        slot.apply(to, ())
        step = home.step = Step(home, start, to)
        self._steps.append(step)
        return step

    def _close(self, number: int) -> None:
        home = self.homes.get(number)
        if home is not None and home.step is not None:
            self.flush()

    def apply_alone(self, home: HomeSlot, run: Run, request: Sequence[bytes], now: int) -> Reply:
        """Run an operation on a slot whose only owner we are: done as soon as it is run."""
        slot = home.slot
        if home.timed:
            self.clock = now
            step = home.step or self._open(home)
            assert step is not None, "we alone are a majority"
            self._remove_expired(step, request)
        changes, reply = run(slot.cells, request, now)
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

    def flush(self) -> None:
        """End of a turn: send each slot's step to its other owners."""
        if self._wanted:
            self._start_takeovers()
        steps, self._steps = self._steps, []
        sending: list[Group] = []
        for step in steps:
            home = step.home
            if home.step is not step:
                continue  # deposed since
            home.step = None
            group = home.group
            if not group.peers:
                self._release(home, step.ended)
                continue
            if not group.steps:
                self._turn += 1
                group.turn = self._turn
                sending.append(group)
            home.turn = group.turn
            group.steps.append(step)
            if step.ended:
                home.waiting.append(step)
        touched = self.view.touched
        for group in sending:
            sent, group.steps = group.steps, []
            accepts = _accepts(sent)
            for peer in group.peers:
                if peer.up:
                    peer.changes += (group.turn, accepts)
                    peer.steps[group.turn] = sent
                    touched.add(peer)
                else:
                    for step in sent:
                        step.home.lagging.add(peer.number)

    def _has_run(self, home: HomeSlot, process: int, counter: int) -> bool:
        """Whether that operation is part of this home's history (or has ended without a trace)."""
        id_ = (process, counter)
        return id_ in home.slot.recent or id_ in home.unchanging or counter < self.view.marks.get(process, 0)

    # -- acknowledgements

    def acknowledge(self, peer: Peer, column: list[Any]) -> None:
        """ACKs of an owner: the turns whose changes it has accepted, and which not (protocol rule H2)."""
        owner = peer.number
        items = iter(column)
        for turn, missed in zip(items, items, strict=True):
            steps = peer.steps.pop(turn, None)
            if steps is None:
                continue
            peer.answered = max(peer.answered, turn)
            for step in steps:
                home = step.home
                if missed and home.slot.number in missed:
                    home.lagging.add(owner)
                    continue
                if home.lagging:
                    home.lagging.discard(owner)
                if home.waiting:
                    self._accepted(home, owner, step.to)

    def settled(self, peer: Peer, column: list[int]) -> None:
        """An owner has reached positions by catching up, or says after a probe that it is there."""
        items = iter(column)
        for number, position in zip(items, items, strict=True):
            home = self.homes.get(number)
            if home is None or position >> SEQUENCE_BITS != home.ballot:
                continue
            if position == home.slot.position:
                home.lagging.discard(peer.number)
            self._accepted(home, peer.number, position)

    def _accepted(self, home: HomeSlot, owner: int, position: int) -> None:
        """Report what a quorum has reached now that this owner is at `position`."""
        if not home.pair:
            home.acked[owner] = max(position, home.acked.get(owner, 0))
            position = home.quorum.reached({**home.acked, self.view.me.number: home.slot.position})
        waiting = home.waiting
        while waiting and waiting[0].to <= position:
            self._release(home, waiting.popleft().ended)

    def _release(self, home: HomeSlot, ended: list[Ended]) -> None:
        pair = home.pair
        others = home.group.peers
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
        steps = list(home.waiting)
        home.waiting.clear()
        if home.step is not None:
            steps.append(home.step)
            home.step = None
        for step in steps:
            for origin, counter, _, _ in step.ended:
                self._end(origin, counter, Status.AGAIN)

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
                self._become_home(slot, ballot, set())
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
        group = self._groups.get(others)
        if group is None:
            group = self._groups[others] = Group(others)
        lagging = {peer.number for peer in others if peer not in equal} if slot.position else set()
        home = HomeSlot(slot, ballot, group, view.quorums[number], bool(view.pair[number]), lagging)
        self.homes[number] = home
        self._replica.counters.takeovers += 1
        for key, cell in slot.cells.items():
            if cell[2]:
                home.timed = True
                self.expiry.add(cell[2], number, key)
        for origin, process, counter, request, after in self.taking.pop(number, ()):
            if counter >= view.marks.get(process, 0):  # T4: what is older has ended
                self.enqueue(number, origin, process, counter, request, after)

    def _give_up(self, numbers: Sequence[int], status: Status) -> None:
        for number in numbers:
            for origin, _, counter, _, _ in self.taking.pop(number, ()):
                self._end(origin, counter, status)

    def enter_epoch(self) -> None:
        """A new topology is installed: begin anew as home of what we own first (protocol rule E2)."""
        for number in list(self.homes):
            self.deposed(number)
        self._groups.clear()
        for peer in self.view.peers.values():
            peer.steps.clear()
        me = self.view.me
        self.want([number for number, order in enumerate(self.view.order) if order and order[0] is me])

    # -- looking after

    def link_up(self) -> None:
        """An owner can be talked to again: see soon what it has missed."""
        self._tend_at = self.now

    def link_down(self, peer: Peer) -> None:
        """What an owner has not acknowledged may never have reached it."""
        self._give_up_turns(peer, self._turn)

    def _give_up_turns(self, peer: Peer, upto: int) -> None:
        for turn in [turn for turn in peer.steps if turn <= upto]:
            peer.answered = max(peer.answered, turn)
            for step in peer.steps.pop(turn):
                step.home.lagging.add(peer.number)

    def orphans(self, count: int) -> list[int]:
        """Slots that nobody is home of, as far as can be seen, and that are ours to take (protocol rule T5).

        Whose ballot we have promised is home, or tried to be. If that is ourselves, in vain, or one that cannot be
        talked to, the first owner that can be takes over, though no operation asks for it: someone must look after
        copies that are behind, deadlines and tombstones.
        """
        me = self.view.me
        by_number = {peer.number: peer for peer in self.view.peers.values()}
        by_number[me.number] = me
        found: list[int] = []
        for number, order in enumerate(self.view.order):
            slot = self.view.slots[number]
            if slot is None or number in self.homes or number in self.taking:
                continue
            holder = by_number.get(ballot_member(slot.promised)) if slot.promised else None
            if holder is me or (
                (holder is None or not holder.up) and next((peer for peer in order if peer.usable), None) is me
            ):
                found.append(number)
                if len(found) == count:
                    break
        return found

    def tend(self, now: float) -> None:
        """Once a period: probe owners that are behind, purge tombstones that every owner has (protocol rule X1)."""
        if now < self._tend_at:
            return
        self._tend_at = now + TEND_PERIOD_S
        purges: dict[Peer, list[int]] = {}
        probed = 0
        for home in list(self.homes.values()):
            slot = home.slot
            if not slot.position:
                continue
            if position_sequence(slot.position) > SEQUENCE_RENEWED:  # H3
                self.deposed(slot.number)
                self.want([slot.number])
                continue
            if home.lagging:
                behind = [peer for peer in home.group.peers if peer.up and peer.number in home.lagging]
                if behind and probed < PROBES_MAX:
                    probed += 1
                    self._probe(home, behind)
            if slot.tombstones:
                self._purge(home, purges)
        if probed == PROBES_MAX:
            self._tend_at = now
        for peer in self.view.peers.values():
            self._give_up_turns(peer, peer.overdue)
            peer.overdue = self._turn
        for peer, column in purges.items():
            if peer.up:
                peer.tells.append(("purge", column))
                self.view.touched.add(peer)

    def _probe(self, home: HomeSlot, behind: list[Peer]) -> None:
        """Have owners catch up that have missed something: a change does that, or else the position alone."""
        slot = home.slot
        if slot.position >> SEQUENCE_BITS != home.ballot:
            self._open(home)
        elif home.step is None:
            for peer in behind:
                peer.probes += (slot.number, slot.position)
                self.view.touched.add(peer)

    def _purge(self, home: HomeSlot, purges: dict[Peer, list[int]]) -> None:
        slot = home.slot
        peers = home.group.peers
        turn, upto = home.purgeable
        if home.lagging:
            return
        if upto and all(peer.answered >= turn for peer in peers):
            self._replica.counters.purged += slot.purge(upto)
            for peer in peers:
                purges.setdefault(peer, []).extend((slot.number, home.ballot, upto))
        if home.step is None:
            home.purgeable = (home.turn, slot.position)

    def expire(self, now: int) -> None:
        """Write tombstones for keys whose deadline has passed; expiry is a change like any other (rule X2)."""
        self.clock = now
        for _, number, key in self.expiry.due(now, EXPIRE_GROUP):
            home = self.homes.get(number)
            if home is None:
                continue
            cell = home.slot.cells.get(key)
            if cell is None or not 0 < cell[2] <= now or cell[1] is None:
                continue
            step = home.step or self._open(home)
            if step is None:
                self.expiry.add(now + EXPIRE_RETRY_MS, number, key)
            else:
                self._remove_expired(step, (key,))

    def _remove_expired(self, step: Step, keys: Sequence[bytes]) -> None:
        """Remove those of `keys` that have expired. What an operation finds expired is removed before it runs,
        whichever of its arguments are keys, so that nobody sees it again."""
        slot = step.home.slot
        cells = slot.cells
        for argument in keys:
            cell = cells.get(argument)
            if cell is not None and 0 < cell[2] <= self.clock and cell[1] is not None:
                change = (argument, None, 0)
                slot.write(step.to, (change,))
                step.changes.append(change)


def _accepts(steps: list[Step]) -> Accepts:
    slots: list[int] = []
    cells: list[Any] = []
    ids: list[Any] = []
    for step in steps:
        changes = step.changes
        slots += (step.home.slot.number, step.start, step.to, len(changes), len(step.ids) // 3)
        for change in changes:
            cells += change
        ids += step.ids
    return Accepts(slots, cells, ids)


def _answered(quorum: Quorum, me: int, answers: Answers) -> bool:
    return quorum.won([me, *(peer.number for peer in answers.by_peer)])
