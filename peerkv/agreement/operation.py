"""Operations that wait for other nodes, as generators: the only place that knows waiting.

An operation is straight-line code; where it needs others it says `answers = yield Round(...)` and goes on when enough
of them have answered, when nobody is left who could, or when its patience is at an end. Nothing is cancelled: an answer
that comes later finds no one waiting and is dropped. After a `yield` the world has changed; look again.

The hot paths (an operation's first try, an owner's acceptance) do not come here: see `coordinator` and `home`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from peerkv.store.cell import SEQUENCE_BITS
from peerkv.store.recent import TICKET_SLOT

if TYPE_CHECKING:
    from peerkv.agreement.peer import Peer
    from peerkv.agreement.turn import Accepts


@dataclass(frozen=True, slots=True)
class Prepare:
    """Promise me these ballots for these slots."""

    slots: list[int]
    ballots: list[int]


@dataclass(frozen=True, slots=True)
class Promises:
    """Per slot asked for: what I have promised now (the ballot asked for, or a higher one: refused), how far I am."""

    promised: list[int]
    positions: list[int]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Send me what your copy has beyond `since`. You have promised `ballot`, so it cannot change but by that home."""

    slot: int
    ballot: int
    since: int
    whole: bool = False
    """My copy cannot be built upon: begin from nothing."""
    within: list[Any] = field(default_factory=list)
    """Key, parts: of the cells of version `since` I have those up to that key, and so many parts of its value (0: all
    of it). Empty: I have all of them."""
    held: list[Any] = field(default_factory=list)
    """Flat: key, version of values that I have got in parts; what has been done to them since is enough."""


@dataclass(frozen=True, slots=True)
class Missed:
    """The changes that you lack, as they were made."""

    accepts: Accepts
    reached: int
    """The position that they lead to, ..."""
    position: int
    """... and the one that my copy is at."""


CONTINUES: Final = 1
"""Of a cell in a page: its content is to be done to the value that has come before, ..."""
UNFINISHED: Final = 2
"""... and the rest comes in the next page."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some cells of a copy, in order of version; the last page says what the copy then is."""

    whole: bool
    """The cells are to replace a copy (its owner's history is another), not to extend it."""
    cells: list[Any]
    """Flat: key, version, content (bytes, None, or the parts of a value), deadline, flags."""
    upto: int
    """All cells of versions up to here have been sent, ..."""
    within: list[Any]
    """... or, as in `Fetch`, some of that version."""
    last: bool
    position: int = 0
    lineage: list[int] = field(default_factory=list)
    """Flat: ballot, the position at which it ended."""
    recent: list[Any] = field(default_factory=list)
    """Flat: process, ticket, reply."""
    marks: list[int] = field(default_factory=list)
    """Flat: process, the oldest of its operations that it may repeat: `recent` says nothing of older ones."""
    digest: int = 0


@dataclass(frozen=True, slots=True)
class ReadCells:
    """Of what versions, sizes and deadlines are your cells of these keys of a slot?"""

    slot: int
    keys: list[bytes]


@dataclass(frozen=True, slots=True)
class CellAnswers:
    """Per key asked for; version 0: none; size -1: no value."""

    versions: list[int]
    sizes: list[int]
    deadlines: list[int]


@dataclass(frozen=True, slots=True)
class RunReads:
    """What do these requests, which change nothing, answer on your copy of a slot?"""

    slot: int
    requests: list[Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Ran:
    """Per request; fewer than were asked for, if more would be too much for a message."""

    versions: list[int]
    """Of the keys of each, which that is of; -1: it has expired."""
    replies: list[Any]


@dataclass(frozen=True, slots=True)
class Count:
    """How far is your copy of each of these slots, and how many keys does it hold, of that database, or (-1) of all?"""

    slots: list[int]
    database: int = -1


@dataclass(frozen=True, slots=True)
class Counts:
    """Per slot asked for: position, keys."""

    positions: list[int]
    keys: list[int]


@dataclass(frozen=True, slots=True)
class ListKeys:
    """Keys of slot `first` from `start` on in scan order, then of the following slots of the list, about `count`."""

    slots: list[int]
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Live keys per slot, for the first so many slots asked for, and the copies' positions; `resume` > 0: the last of
    them has more from there."""

    keys: list[list[bytes]]
    resume: int
    positions: list[int]


@dataclass(frozen=True, slots=True)
class CountSubscribers:
    """How many subscribers has each of these channels at your node?"""

    kind: int
    channels: list[bytes]


@dataclass(frozen=True, slots=True)
class Subscribers:
    """Per channel asked for."""

    counts: list[int]


@dataclass(frozen=True, slots=True)
class Refused:
    """I cannot answer that (not an owner, another ballot)."""

    promised: int = 0


@dataclass(frozen=True, slots=True)
class EpochPrepare:
    """Of this epoch: accept no proposal of a lower ballot."""

    epoch: int
    ballot: int


@dataclass(frozen=True, slots=True)
class EpochPromise:
    """What I have promised, and what I have accepted, under which ballot (0: nothing)."""

    promised: int
    ballot: int
    topology: list[Any]


@dataclass(frozen=True, slots=True)
class EpochAccept:
    """For this epoch accept this topology, to_wire's form."""

    epoch: int
    ballot: int
    topology: list[Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far are you with the present change of the topology?"""


@dataclass(frozen=True, slots=True)
class Progressed:
    """Of one member."""

    filled: bytes
    """A bit per slot (the least of the first byte is slot 0): a changing slot that I am home of, and of which all
    owners in reach have all there is."""
    to_go: int
    """Copies of mine that are still to be brought up to date."""
    bytes_fetched: int
    """In this life."""
    rate: int
    """Bytes a second, of late."""
    settled: bytes = b""
    """A bit per slot that has lost owners: one that I am home of, and of which those that are left have all there is;
    empty where nothing is lost."""


Message: TypeAlias = (
    Prepare
    | Promises
    | Fetch
    | Page
    | Missed
    | ReadCells
    | CellAnswers
    | RunReads
    | Ran
    | Count
    | Counts
    | ListKeys
    | KeyPage
    | Refused
    | EpochPrepare
    | EpochPromise
    | EpochAccept
    | Progress
    | Progressed
    | CountSubscribers
    | Subscribers
)


def fits(question: Message, answer: Message) -> bool:
    """Whether that is an answer to this question."""
    match question, answer:
        case _, Refused():
            return True
        case Prepare(slots=asked), Promises(promised=told):
            return len(asked) == len(told)
        case Count(slots=asked), Counts(keys=told):
            return len(asked) == len(told)
        case ReadCells(keys=wanted), CellAnswers(versions=versions):
            return len(versions) == len(wanted)
        case RunReads(requests=requests), Ran(replies=replies):
            return len(replies) <= len(requests)
        case CountSubscribers(channels=named), Subscribers(counts=counted):
            return len(named) == len(counted)
        case ListKeys(slots=asked), KeyPage(keys=pages):
            return len(pages) <= len(asked)
        case Fetch(ballot=ballot), Page(position=reached, upto=upto):
            return max(reached, upto) >> SEQUENCE_BITS <= ballot
        case Fetch(slot=number, ballot=ballot, since=since), Missed(accepts=accepts, reached=reached, position=upto):
            tickets = [ticket for _, columns in accepts.segments for ticket in columns[0]]
            positions = [at for _, columns in accepts.segments for at in columns[1]]
            return (
                upto >> SEQUENCE_BITS <= ballot
                and reached <= upto
                and all(ticket & TICKET_SLOT == number for ticket in tickets)
                and positions == list(range(since + 1, reached + 1))
            )
        case (EpochPrepare() | EpochAccept(), EpochPromise()) | (Progress(), Progressed()):
            return True
        case _:
            return False


@dataclass(slots=True)
class Answers:
    """What has come of a round."""

    by_peer: dict[Peer, Message] = field(default_factory=dict)
    failed: list[Peer] = field(default_factory=list)
    """Their links are down: they will not answer."""


@dataclass(frozen=True, slots=True)
class Round:
    """Whom an operation asks what, and how long it waits. Peers whose links are down fail at once."""

    asks: Sequence[tuple[Peer, Message]]
    patience: float
    """Seconds."""
    enough: Callable[[Answers], bool] | None = None
    """Whether the answers so far decide; None: all are wanted."""


@dataclass(frozen=True, slots=True)
class Pause:
    """An operation goes on after so many seconds."""

    seconds: float


@dataclass(slots=True, eq=False)
class Event:
    """An operation that yields it goes on, in the same turn of the node, when it has been set."""

    set_: bool = False
    waiting: _Waiting | None = None
    operations: Operations | None = None

    def set(self) -> None:
        """What was waited for has happened."""
        self.set_ = True
        if self.waiting is not None and self.operations is not None:
            self.operations.ready.append(self.waiting)


Operation: TypeAlias = Generator[Round | Pause | Event, Answers, None]


@dataclass(slots=True, eq=False)
class _Waiting:
    operation: Operation
    enough: Callable[[Answers], bool] | None = None
    answers: Answers = field(default_factory=Answers)
    left: int = 0
    ids: list[int] = field(default_factory=list)
    done: bool = False

    @property
    def decided(self) -> bool:
        return self.left == 0 or (self.enough is not None and self.enough(self.answers))


class Operations:
    """Drives operations: sends their asks, hands them the answers, wakes them when their patience is at an end."""

    def __init__(self) -> None:
        self._next_id = 0
        self._by_id: dict[int, tuple[_Waiting, Peer, Message]] = {}
        self._timers: list[tuple[float, int, _Waiting]] = []
        self.ready: list[_Waiting] = []
        """Operations that can go on; see `Event`."""

    def start(self, now: float, operation: Operation) -> None:
        """Run an operation up to its first wait."""
        self._resume(now, operation, None)

    def answer(self, now: float, peer: Peer, ask_id: int, message: Message) -> None:
        """An answer came from `peer`. Raises ValueError if it is none to that question."""
        entry = self._by_id.get(ask_id)
        if entry is None or entry[1] is not peer:
            return
        if not fits(entry[2], message):
            raise ValueError(f"{type(message).__name__} is no answer to {type(entry[2]).__name__}")
        del self._by_id[ask_id]
        waiting = entry[0]
        waiting.answers.by_peer[peer] = message
        waiting.left -= 1
        self._check(now, waiting)

    def link_down(self, now: float, peer: Peer) -> None:
        """Whoever waits for `peer` waits no longer."""
        for ask_id in [ask_id for ask_id, entry in self._by_id.items() if entry[1] is peer]:
            entry = self._by_id.pop(ask_id, None)
            if entry is not None:
                waiting = entry[0]
                waiting.answers.failed.append(peer)
                waiting.left -= 1
                self._check(now, waiting)

    def wake(self, now: float) -> None:
        """Resume the operations whose patience is at an end; each once, so that who pauses lets others have their turn
        however short the pause."""
        timers = self._timers
        due: list[_Waiting] = []
        while timers and timers[0][0] <= now:
            due.append(heapq.heappop(timers)[2])
        for waiting in due:
            if not waiting.done:
                self._finish(now, waiting)

    def go_on(self, now: float) -> bool:
        """Resume those whose events have been set; whether there were any."""
        ready, self.ready = self.ready, []
        for waiting in ready:
            if not waiting.done:
                self._finish(now, waiting)
        return bool(ready)

    @property
    def wake_at(self) -> float | None:
        timers = self._timers
        while timers and timers[0][2].done:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def _check(self, now: float, waiting: _Waiting) -> None:
        if not waiting.done and waiting.decided:
            self._finish(now, waiting)

    def _finish(self, now: float, waiting: _Waiting) -> None:
        self._stop_waiting(waiting)
        self._resume(now, waiting.operation, waiting.answers)

    def _stop_waiting(self, waiting: _Waiting) -> None:
        waiting.done = True
        for ask_id in waiting.ids:
            self._by_id.pop(ask_id, None)

    def _resume(self, now: float, operation: Operation, answers: Answers | None) -> None:
        while True:
            try:
                wanted = next(operation) if answers is None else operation.send(answers)
            except StopIteration:
                return
            waiting = _Waiting(operation)
            if isinstance(wanted, Pause):
                self._wait(now + wanted.seconds, waiting)
                return
            if isinstance(wanted, Event):
                if wanted.set_:
                    answers = waiting.answers
                    continue
                wanted.waiting, wanted.operations = waiting, self
                return
            self._ask(waiting, wanted)
            if not waiting.decided:
                self._wait(now + wanted.patience, waiting)
                return
            self._stop_waiting(waiting)
            answers = waiting.answers

    def _ask(self, waiting: _Waiting, round_: Round) -> None:
        waiting.enough = round_.enough
        for peer, message in round_.asks:
            if not peer.up:
                waiting.answers.failed.append(peer)
                continue
            self._next_id += 1
            self._by_id[self._next_id] = (waiting, peer, message)
            waiting.ids.append(self._next_id)
            waiting.left += 1
            peer.ask(self._next_id, message)

    def _wait(self, until: float, waiting: _Waiting) -> None:
        self._next_id += 1
        heapq.heappush(self._timers, (until, self._next_id, waiting))
