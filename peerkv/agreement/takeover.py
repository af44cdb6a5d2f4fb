"""Becoming home of a slot: by a higher ballot that a majority of its owners promises (protocol rules T1 to T5).

Slots with the same owners go together, as many as a message has room for. Those that operations wait for go a few
messages at a time; others a few slots at a time, so that clients are served meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from peerkv.agreement.operation import Answers, Operation, Operations, Pause, Prepare, Promises, Round
from peerkv.agreement.peer import Peer
from peerkv.agreement.progress import Progress, Status
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.kernel.slot import Slot
from peerkv.ring.quorum import Quorum
from peerkv.settings import Settings
from peerkv.store.cell import ROUND_MAX, ballot_round, make_ballot
from peerkv.store.recent import OperationId

if TYPE_CHECKING:
    from random import Random

TAKEOVER_GROUP: Final = 512
"""Slots prepared in one message: 5 ms of either end's time."""
TAKEOVERS_MAX: Final = 8
"""Such messages under way at a time; what is wanted meanwhile goes into the next ones."""
SPACED_GROUP: Final = 128
"""... where no operation waits for that."""
SPACING_S: Final = 0.01
"""Between such messages, so that clients are served meanwhile."""
TAKEOVER_ATTEMPTS: Final = 8

Queued: TypeAlias = tuple[Peer, int, Sequence[bytes], int]
"""(who sent it; ticket; request; the ticket of the operation that the same client sent before on this slot and that
must have been run before, 0: none)"""


class Takeover:
    """The slots that this node wants to be home of, or is about to be."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        replica: Replica,
        operations: Operations,
        rng: Random,
        progress: Progress,
        promised: Callable[[int], None],
        begin: Callable[[Slot, int, Collection[Peer], Sequence[Queued]], None],
    ) -> None:
        """`promised`: told of a slot whose copy has promised another ballot, ours. `begin`: told of a slot that we are
        home of, its ballot, the owners whose copies are known to be ours, and the operations that have waited for that.
        """
        self.taking: dict[int, list[Queued]] = {}
        """Slots being taken over, and the operations that wait for that."""
        self.unsettled = True
        """There may be slots that have lost their home since `upkeep` looked for such."""
        self._settings = settings
        self._clock = clock
        self._view = view
        self._replica = replica
        self._operations = operations
        self._rng = rng
        self._progress = progress
        self._promised = promised
        self._begin = begin
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

    def insist(self, origin: Peer, tickets: Iterable[int]) -> None:
        """For these operations of a coordinator, which come next, we are to take the slots over (protocol rule O2)."""
        self._insisted.update([(origin.process, ticket) for ticket in tickets])

    def enqueue(self, number: int, queued: Queued) -> None:
        """We are not home: become it, or say who is."""
        view = self._view
        waiting = self.taking.get(number)
        origin, ticket = queued[:2]
        home = view.promised_to(number)
        if waiting is not None:
            insisted = (origin.process, ticket) in self._insisted
            if home is None or home is view.me or not home.usable or insisted:
                waiting.append(queued)
            else:
                self._progress.end(origin, ticket, Status.NOT_HERE, home.number)
            return
        if view.slots[number] is None:
            self._progress.end(origin, ticket, Status.NOT_HERE)
        elif (
            home is not None and home is not view.me and home.usable and (origin.process, ticket) not in self._insisted
        ):
            self._progress.end(origin, ticket, Status.NOT_HERE, home.number)
        else:
            self.taking[number] = [queued]
            self._wanted.append(number)

    def hand_on(self, number: int) -> None:
        """Another one was promised a slot that we are about to take over: what has waited for that goes to it."""
        home = self._view.promised_to(number)
        if home is not None and home is not self._view.me and home.usable and self.taking.get(number):
            waiting, self.taking[number] = self.taking[number], []
            for origin, ticket, _, _ in waiting:
                self._progress.end(origin, ticket, Status.NOT_HERE, home.number)

    def flush(self) -> None:
        """End of a turn: begin what operations wait for."""
        self._insisted.clear()
        if self._wanted and self._takeovers < TAKEOVERS_MAX:
            self._take_over_wanted()

    def enter_epoch(self) -> None:
        """A new topology is installed: what was wanted without haste is wanted anew, or not at all."""
        self.unsettled = True
        self._spaced.clear()

    def want(self, numbers: Sequence[int]) -> None:
        """Take these slots over although no operation waits for that: a few at a time."""
        parts = self._by_owners([number for number in numbers if self.is_free(number)], SPACED_GROUP)
        for part in parts:
            if self._view.others[part[0]]:
                self._spaced.append(part)
            else:
                self._start_takeover(part)
        if self._spaced and not self._spacing:
            self._spacing = True
            self._operations.start(self._clock.now, self._take_over_spaced())

    def _take_over_spaced(self) -> Operation:
        while self._spaced:
            part = [number for number in self._spaced.popleft() if self.is_free(number)]
            if part:
                self._start_takeover(part)
                yield Pause(SPACING_S)
        self._spacing = False

    def is_free(self, number: int) -> bool:
        """Whether we have a copy, and are neither home nor about to be."""
        return number not in self._progress.homes and number not in self.taking and self._view.slots[number] is not None

    def _start_takeover(self, part: list[int]) -> None:
        for number in part:
            self.taking[number] = []
        self._operations.start(self._clock.now, self.take_over(part))

    def _take_over_wanted(self) -> None:
        parts = self._by_owners(self._wanted, TAKEOVER_GROUP)
        begun, later = parts[: TAKEOVERS_MAX - self._takeovers], parts[TAKEOVERS_MAX - self._takeovers :]
        self._wanted = [number for part in later for number in part]
        for part in begun:
            self._takeovers += 1
            self._operations.start(self._clock.now, self._take_over_part(part))

    def _take_over_part(self, part: list[int]) -> Operation:
        yield from self.take_over(part)
        self._takeovers -= 1

    def _by_owners(self, numbers: Sequence[int], most: int) -> list[list[int]]:
        """In parts of the same owners and the same quorum, of at most so many slots."""
        view = self._view
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
        view = self._view
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
                self._become(slot, ballot, set())
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
        return max(ballot_round(self._view.copies.promised[number]), self._seen_round.get(number, 0))

    def _next_ballot(self, number: int) -> int:
        slot = self._view.slots[number]
        assert slot is not None, "takeovers are of our own slots"
        round_ = self._last_round(number) + 1
        self._seen_round.pop(number, None)
        slot.promised = make_ballot(round_, self._view.me.number)
        self._promised(number)
        return slot.promised

    def _won(self, slot: Slot, ballot: int, promised: list[tuple[Peer, int]]) -> None:
        furthest = max(promised, key=lambda entry: entry[1], default=None)
        if furthest is not None and furthest[1] > slot.position:
            self._operations.start(self._clock.now, self._adopt(slot.number, ballot, *furthest))
        else:
            self._become(slot, ballot, {peer for peer, position in promised if position == slot.position})

    def _adopt(self, number: int, ballot: int, source: Peer, position: int) -> Operation:
        yield from self._replica.fetch(number, ballot, source)
        slot = self._view.slots[number]
        if slot is not None and slot.promised == ballot and slot.position >= position:
            self._become(slot, ballot, {source})
        else:
            self._give_up([number], Status.NOT_HERE)

    def _become(self, slot: Slot, ballot: int, equal: Collection[Peer]) -> None:
        self._replica.counters.takeovers += 1
        self._begin(slot, ballot, equal, self.taking.pop(slot.number, ()))

    def _give_up(self, numbers: Sequence[int], status: Status) -> None:
        self.unsettled = True
        for number in numbers:
            for origin, ticket, _, _ in self.taking.pop(number, ()):
                self._progress.end(origin, ticket, status)


def _answered(quorum: Quorum, me: int, answers: Answers) -> bool:
    return quorum.won([me, *(peer.number for peer in answers.by_peer)])
