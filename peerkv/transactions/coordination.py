"""A node as the coordinator of its clients' transactions: what is asked of whom, and when it has happened.

Whatever can be done in one slot is one operation there. Otherwise the commands are run here, on our own copies or on
what owners hand out, be that as old as it may; then every key that was looked at is held at its home, if it is still
as it was seen (after Kung and Robinson, "On optimistic methods for concurrency control", 1981); then the decision is
written, in the last one of its slots, whose keys are seen and changed in the same moment. Commands each of whose keys
are of one slot are run by the homes when they hold them, and nothing travels but what is answered. Who meets somebody
else's hold lets go of all that it has, and then takes its slots one after another in order, waiting at each in a queue:
so nobody waits in a circle, and everybody has its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import inf
from typing import Any, Final, TypeAlias, TypeVar

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home, fault
from peerkv.agreement.operation import Answers, Event, Operation, Operations, Pause, Round
from peerkv.agreement.reads import Sink
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.commands import transactions as asked
from peerkv.commands.running import run_on
from peerkv.commands.table import find_part, keys_of
from peerkv.commands.transactions import Outcome
from peerkv.metrics import counter
from peerkv.resp import NULL_ARRAY, Reply, ReplyError
from peerkv.scripting import Killed, Stopped
from peerkv.store.cell import Cell, Change, seen_of
from peerkv.store.events import KeyEvent
from peerkv.store.recent import TICKET_SLOT
from peerkv.store.scratch import Elsewhere, Scratch, Unlisted
from peerkv.store.values.held import Held, Tentative
from peerkv.transactions.turns import Turn, Turns

_Found = TypeVar("_Found")
Asking: TypeAlias = Generator[Round | Pause | Event, Answers, _Found]
"""A part of an operation that comes to something."""

_Wish: TypeAlias = tuple[Sequence[bytes], list[bytes]]
"""Keys of a slot, and how its home is asked to hold them."""

UNDER_WAY_MAX: Final = 1024
"""Transactions at a time; what else is wanted waits."""
PATIENCE_S: Final = 20.0
"""What has not been decided by then is given up. Much less than the time for which an abort is remembered."""
ATTEMPTS_MAX: Final = 64
KEYS_MAX: Final = 1 << 16
TRY_AGAIN: Final = ReplyError(
    "TRYAGAIN nothing was done: others have changed or held keys of this transaction all the while"
)
NOT_HELD: Final = ReplyError("NOQUORUM nothing was done: not all keys of the transaction could be held in time")
TOO_LONG: Final = ReplyError("ERR nothing was done: the script is not at its end after all the steps that it may take")
KILLED: Final = ReplyError("ERR Error running script: Script killed by user with SCRIPT KILL. Nothing was done")
TOO_MANY_KEYS: Final = ReplyError(f"ERR nothing was done: a transaction over several slots may have {KEYS_MAX} keys")


class _Attempt:
    """One id, and what is held under it."""

    __slots__ = ("anchor", "asked", "id", "keys")

    def __init__(self, ticket: int, process: int) -> None:
        self.id = process, ticket
        self.anchor = ticket & TICKET_SLOT
        """The slot where its decision is written."""
        self.keys: dict[int, dict[bytes, None]] = {}
        """By slot, those that are held, or may be."""
        self.asked: dict[int, int] = {}
        """Per slot the last operation that asked for that."""

    @property
    def others(self) -> dict[int, list[bytes]]:
        """The keys in other slots than the one where it is decided."""
        return {number: list(keys) for number, keys in self.keys.items() if number != self.anchor}


@dataclass(slots=True)
class Work:
    """What is to take effect at one moment."""

    requests: Sequence[Sequence[bytes]]
    """Prepared commands (`commands.running`), in order."""
    keys: dict[bytes, None]
    """Theirs, as far as they say, in order: whom is asked first is no matter of chance, or a seed would not replay."""
    seen: dict[bytes, int] = field(default_factory=dict)
    """What was seen of keys that must not have changed since (WATCH); otherwise nothing is done, and nil answered."""
    reads: bool = False
    """None of the commands changes anything."""
    apart: bool = False
    """Each has the keys that it says, of one slot."""
    listed: dict[tuple[bytes, int], Sequence[bytes]] = field(default_factory=dict)
    """Keys that were listed for its commands."""
    until: float = inf
    """When it is given up if it is not decided."""
    at_leisure: bool = False
    """It takes so long that it is run in a thread of its own."""
    said: Sequence[tuple[int, bytes, bytes]] = ()
    """Messages to be published once it has happened, as of the last run: kind, channel, message."""
    observed: bool = False
    """Somebody observes keys, ..."""
    classes: int = 0
    """... or wants to be told of events of these classes, ..."""
    events: Mapping[bytes, Sequence[KeyEvent]] = field(default_factory=dict)
    """... and this is what there is to tell of each, as of the last run."""
    attempt: _Attempt | None = None
    """The last one, ..."""
    happened: bool = False
    """... which is decided."""
    turn: Turn | None = None
    """What it has its keys by, among our own."""
    joins: bool = True
    """It may be begun as one with others."""
    count: int = 1
    """So many it is."""
    note: Callable[[int], None] | None = None
    """Told the tickets of the operations that change something: its client is told of its own changes otherwise than of
    others', or not at all."""

    def joined(self, others: Sequence[Work]) -> Work:
        """One that is this and others, one after another."""
        works = (self, *others)
        keys = {key: None for work in works for key in work.keys}
        requests = [request for work in works for request in work.requests]
        return Work(requests, keys, apart=True, count=len(works))

    def noted(self, ticket: int) -> None:
        """That operation is about to change something."""
        if self.note is not None:
            self.note(ticket)


class Job:
    """What takes too long for a turn of the node: to be run elsewhere, and handed back when it has been."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.event = Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self._work = work

    def run(self) -> None:
        """Touches nothing of the node; from any thread, once."""
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error


class Gathered(Sink):
    """Replies to what was asked at a time."""

    __slots__ = ("event",)

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.event = Event(set_=not count)

    def complete(self) -> None:
        self.event.set()


class _InOneSlot(Sink):
    """What becomes of a transaction that its home is to run."""

    __slots__ = ("answer", "transactions", "work")

    def __init__(self, transactions: Transactions, work: Work, answer: Callable[[Reply], None]) -> None:
        super().__init__(1)
        self.transactions = transactions
        self.work = work
        self.answer = answer

    def complete(self) -> None:
        work = self.work
        match self.replies[0]:
            case ReplyError() as error:
                self.answer(error)
            case [Outcome.DONE, replies, said]:
                self.answer(replies)
                self.transactions.say(asked.messages_of(said))
            case [Outcome.CHANGED]:
                self.answer(NULL_ARRAY)
            case [Outcome.ELSEWHERE, bytes(key)]:
                work.keys[key] = None
                work.apart = False
                self.transactions.begin(work, self.answer)
            case [Outcome.TOO_LONG]:
                work.at_leisure, work.apart = True, False
                self.transactions.begin(work, self.answer)
            case [Outcome.UNLISTED, *_]:
                work.apart = False
                self.transactions.begin(work, self.answer)
            case _:
                self.answer(ReplyError("ERR internal fault: the home of a slot gave no answer to a transaction"))


class _Looking(Mapping[bytes, Cell]):
    """Cells of all slots, and what was seen of them: what owners have handed out, and where we hold a copy that."""

    def __init__(self, view: View, now: int, handed: Mapping[bytes, tuple[int, Cell]], *, own: bool) -> None:
        self._view = view
        self._now = now
        self._handed = handed
        self._own = own
        self.seen: dict[bytes, int] = {}
        self.unknown: dict[bytes, None] = {}
        """Keys that were looked at although it is not known what they hold. Commands went on as if nothing were there:
        what else they look at is wanted, too, and what they have done does not count."""

    def get(self, key: bytes, default: Any = None, /) -> Any:
        asked.check_name(key)
        handed = self._handed.get(key)
        if handed is not None:
            self.seen[key], cell = handed
            return cell if cell[1] is not None else default
        number = self._view.slot_of(key)
        found = self._view.copies.cells[number].get(key) if self._own else None
        if not self._own or self._view.slots[number] is None or (found is not None and type(found[1]) is Held):
            self.unknown[key] = None
            return default
        self.seen[key] = seen_of(found, self._now)
        return default if found is None else found

    def __getitem__(self, key: bytes) -> Cell:
        cell: Cell | None = self.get(key)
        if cell is None:
            raise KeyError(key)
        return cell

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.seen)

    def __len__(self) -> int:
        return len(self.seen)


class _Again(Exception):
    """This attempt came to nothing; `holds_first`: the next one is to hold its keys before it looks at them."""

    def __init__(self, *, holds_first: bool) -> None:
        self.holds_first = holds_first


class _Over(Exception):
    """Nothing was done, and this is said."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply


class _Once:
    """Passes on what it is told first; what the commands have said is published then."""

    def __init__(self, transactions: Transactions, work: Work, answer: Callable[[Reply], None]) -> None:
        self._transactions = transactions
        self._work = work
        self._answer: Callable[[Reply], None] | None = answer

    def __call__(self, reply: Reply) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(reply)
            if isinstance(reply, list):
                self._transactions.say(self._work.said)


@dataclass(slots=True)
class Counters:
    """What has become of transactions over several slots."""

    committed: int = counter("transactions_committed", "transactions over several slots that have happened")
    aborted: int = counter("transactions_aborted", "attempts at one that came to nothing, and let go of their keys")
    retried: int = counter("transactions_begun_anew", "times that one was begun anew, as others were in its way")


class Transactions:
    """Of one node's clients."""

    def __init__(self, clock: Clock, view: View, operations: Operations, coordinator: Coordinator, home: Home) -> None:
        self.active: set[int] = set()
        """Tickets of the transactions under way; nobody else need settle those."""
        self.counters = Counters()
        self.under_way = 0
        self.publish: Callable[[int, bytes, bytes, Sink | None, int], None] = lambda *_: None
        """Sends a message to subscribers; set by the pipeline."""
        self.list_keys: Callable[[bytes, int], Asking[Sequence[bytes] | ReplyError]] | None = None
        """The keys of the cluster that match a pattern, in a database; set by the pipeline."""
        self._letting_go: set[int] = set()
        """Transactions that have happened, and of which some keys are still held."""
        self.over: list[int] = []
        """Those of which none is, and that those who are home of their decisions have not been told of."""
        self.jobs: list[Job] = []
        """For the node to take."""
        self.running = 0
        """Jobs that have not been handed back."""
        self._clock = clock
        self._view = view
        self._operations = operations
        self._coordinator = coordinator
        self._home = home
        self._queue: deque[tuple[Work, Callable[[Reply], None]]] = deque()
        self.turns = Turns(self._start, view.slot_of)

    @property
    def waiting(self) -> int:
        """How many have not been begun."""
        return len(self._queue)

    def start(self, work: Work, answer: Callable[[Reply], None]) -> None:
        """Have something take effect at one moment; `answer` is told its commands' replies, or one error."""
        if work.note is None and self._alone(work, answer):
            return
        by_slot = self._view.by_slot([*work.keys, *work.seen])
        if len(by_slot) == 1:
            ((number, keys),) = by_slot.items()
            request = asked.exec_request(keys, self._view.mask, work.seen, work.requests)
            work.noted(self._coordinator.write(number, request, _InOneSlot(self, work, answer), 0))
        else:
            self.begin(work, answer)

    def say(self, said: Sequence[tuple[int, bytes, bytes]]) -> None:
        """It has happened: publish what its commands have said."""
        for kind, channel, message in said:
            self.publish(kind, channel, message, None, 0)

    def all_shown(self) -> Operation:
        """Wait until what has happened by now is to be seen in every slot, for what counts or lists keys."""
        for ticket in list(self._letting_go):
            while ticket in self._letting_go:
                yield Pause(0.001)

    def begin(self, work: Work, answer: Callable[[Reply], None]) -> None:
        """Likewise, of what is not in one slot, or takes long."""
        if work.reads or work.at_leisure:
            self._start(work, answer)
        else:
            self.turns.take(work, answer, self._clock.now)

    def _start(self, work: Work, answer: Callable[[Reply], None]) -> None:
        if self.under_way >= UNDER_WAY_MAX:
            self._queue.append((work, answer))
            return
        self.under_way += 1
        self._operations.start(self._clock.now, self._run(work, answer))

    def _run(self, work: Work, answer: Callable[[Reply], None]) -> Operation:
        answer = _Once(self, work, answer)
        try:
            yield from self._transact(work, answer)
        except _Over as over:
            answer(over.reply)
        except Exception as error:  # a fault of ours; what is held is let go
            attempt = work.attempt
            text = f"internal fault in a transaction: {type(error).__name__}"
            if attempt is not None and work.happened:  # by the homes, when they find that we know nothing of it
                self.active.discard(attempt.id[1])
                self._letting_go.discard(attempt.id[1])
                answer(ReplyError(f"UNCERTAIN {text}"))
            else:
                if attempt is not None and attempt.id[1] in self.active:
                    self._abort(attempt)
                answer(ReplyError(f"ERR {text}"))
        finally:
            self.under_way -= 1
            self.turns.leave(work)
            if self._queue:
                self._start(*self._queue.popleft())

    def _transact(self, work: Work, answer: Callable[[Reply], None]) -> Operation:
        work.until = self._clock.now + PATIENCE_S
        work.observed, work.classes = self._home.notices.on, self._home.notices.classes
        if not (work.keys or work.seen or work.at_leisure) and self._without_keys(work, answer):
            return
        own, waits, holds_first = not work.at_leisure, False, False
        for _ in range(ATTEMPTS_MAX):
            if self._clock.now > work.until:
                break
            if len(work.keys) > KEYS_MAX:
                raise _Over(TOO_MANY_KEYS)
            try:
                if work.reads and not work.seen and not holds_first:
                    yield from self._read(work, answer, own=own)
                elif work.apart:
                    yield from self._hold_and_run(work, answer, waits=waits)
                elif holds_first:
                    yield from self._hold_first(work, answer)
                else:
                    yield from self._look_first(work, answer, own=own)
            except Elsewhere as elsewhere:
                work.keys[elsewhere.key] = None
                work.apart = False
            except Unlisted as unlisted:
                yield from self._list(work, unlisted)
            except _Again as again:
                self.counters.retried += 1
                waits = True
                holds_first = holds_first or again.holds_first or not own
                own = False
            else:
                return
        raise _Over(TRY_AGAIN)

    def _list(self, work: Work, unlisted: Unlisted) -> Operation:
        """List keys for its commands, before they are run anew."""
        assert self.list_keys is not None, "the pipeline has set it"
        found = yield from self.list_keys(unlisted.pattern, unlisted.database)
        if isinstance(found, ReplyError):
            raise _Over(found)
        work.listed[unlisted.pattern, unlisted.database] = found

    # -- where nobody else is to be asked

    def _alone(self, work: Work, answer: Callable[[Reply], None]) -> bool:
        """Do it at once, if we are the only owner of all that it looks at; whether that was done."""
        alone, view = self._home.alone, self._view
        if not all(alone[view.slot_of(key)] for key in (*work.keys, *work.seen)) or not (work.keys or work.seen):
            return False
        now = self._clock.cluster_ms
        looking = _Looking(view, now, {}, own=True)
        if not all(asked.is_as_seen(seen, looking.get(key), now) for key, seen in work.seen.items()):
            answer(NULL_ARRAY)
            return True
        try:
            replies, changes = _run_on(looking, work, now)
        except (Stopped, Unlisted):
            return False
        except Exception as error:
            answer(fault(work.requests[0], error))
            return True
        if looking.unknown or not all(alone[view.slot_of(key)] for key in looking.seen):
            return False
        by_slot: dict[int, list[Change]] = {}
        for change in changes:
            by_slot.setdefault(view.slot_of(change[0]), []).append(change)
        if not all(alone[number] for number in by_slot):
            return False
        for number, of_slot in by_slot.items():
            self._home.change_alone(number, of_slot)
        answer(replies)
        self.say(work.said)
        return True

    def _without_keys(self, work: Work, answer: Callable[[Reply], None]) -> bool:
        """Commands that name no key; they may yet look at some."""
        now = self._clock.cluster_ms
        looking = _Looking(self._view, now, {}, own=False)
        try:
            replies, _ = _run_on(looking, work, now)
        except Stopped:
            work.at_leisure, work.apart = True, False
            return False
        except Unlisted:
            return False
        if looking.unknown:
            self._learn(work, list(looking.unknown))
            work.apart = False
            return False
        answer(replies)
        return True

    # -- reads of one moment

    def _read(self, work: Work, answer: Callable[[Reply], None], *, own: bool) -> Operation:
        """Look at everything, and then twice whether it is still as it was seen, by majorities: between the two of
        them all of it was so."""
        looking, replies, changes = yield from self._run_here(work, own=own)
        if changes:  # something has expired
            raise _Again(holds_first=True)
        yield from self._confirm(looking, own=own)
        if work.events:  # keys that are not there
            self._home.notices.say(list(chain.from_iterable(work.events.values())))
        answer(replies)

    def _confirm(self, looking: _Looking, *, own: bool) -> Operation:
        """Raises _Again unless all that was looked at was as it was seen at one moment."""
        by_slot = self._view.by_slot(looking.seen)
        for _ in range(2 if own else 1):
            found = yield from self._look(by_slot)
            for number, keys in by_slot.items():
                if found[number] != [looking.seen[key] for key in keys]:
                    raise _Again(holds_first=False)

    def _look(self, by_slot: Mapping[int, Sequence[bytes]]) -> Asking[dict[int, Any]]:
        replies = yield from self._read_all([(n, asked.look_request(keys), keys) for n, keys in by_slot.items()])
        return dict(zip(by_slot, replies, strict=True))

    def _run_here(self, work: Work, *, own: bool) -> Asking[tuple[_Looking, list[Reply], list[Change]]]:
        """Run the commands on what our copies hold (`own`), and on what owners of others hand out."""
        handed: dict[bytes, tuple[int, Cell]] = {}
        view = self._view
        wanted = [key for key in work.keys if not own or view.slots[view.slot_of(key)] is None]
        for _ in range(ATTEMPTS_MAX):
            if wanted:
                yield from self._fetch(wanted, handed)
            now = self._clock.cluster_ms
            looking = _Looking(view, now, handed, own=own)
            replies, changes = yield from self._run_commands(looking, work, now)
            if not looking.unknown:
                return looking, replies, changes
            wanted = list(looking.unknown)
            self._learn(work, wanted)
        raise _Again(holds_first=True)

    def _run_commands(self, looking: _Looking, work: Work, now: int) -> Asking[tuple[list[Reply], list[Change]]]:
        """See `_run_on`. What takes long goes to a thread, and sees nothing but what was handed out."""
        if not work.at_leisure:
            try:
                return _run_on(looking, work, now)
            except Stopped:
                work.at_leisure = True
                raise _Again(holds_first=False) from None
        self.turns.leave(work)
        job = Job(partial(_run_on, looking, work, now))
        self.jobs.append(job)
        self.running += 1
        yield job.event
        self.running -= 1
        if isinstance(job.error, Stopped):
            raise _Over(KILLED if isinstance(job.error, Killed) else TOO_LONG)
        if job.error is not None:
            raise job.error
        found: tuple[list[Reply], list[Change]] = job.result
        return found

    def _learn(self, work: Work, keys: Collection[bytes]) -> None:
        """The commands look at these, too."""
        work.keys.update(dict.fromkeys(keys))
        if len(work.keys) > KEYS_MAX:
            raise _Over(TOO_MANY_KEYS)

    def _fetch(self, keys: Collection[bytes], handed: dict[bytes, tuple[int, Cell]]) -> Operation:
        by_slot = self._view.by_slot(keys)
        replies = yield from self._read_all(
            [(n, asked.hand_out_request(of_slot), of_slot) for n, of_slot in by_slot.items()]
        )
        for of_slot, items in zip(by_slot.values(), replies, strict=True):
            handed.update(asked.cells_from(of_slot, items))

    def _read_all(self, requests: Sequence[tuple[int, list[bytes], Sequence[bytes]]]) -> Asking[list[Any]]:
        """What majorities answer: (slot, request, keys) each."""
        gathered = Gathered(len(requests))
        for index, (number, request, keys) in enumerate(requests):
            row = find_part(request[0])
            assert row is not None, "it is one of ours"
            assert row.run is not None, "it is one of ours"
            now = self._clock.cluster_ms
            self._coordinator.reads.read(number, request, row.run, now, gathered, index, keys)
        yield gathered.event
        for reply in gathered.replies:
            if isinstance(reply, ReplyError):
                raise _Over(reply)
        return gathered.replies

    # -- writes

    def _look_first(self, work: Work, answer: Callable[[Reply], None], *, own: bool) -> Operation:
        """Run the commands here, and hold what they have looked at if it is as it was."""
        looking, replies, changes = yield from self._run_here(work, own=own)
        if not (changes or work.events or work.seen):
            yield from self._confirm(looking, own=own)
            answer(replies)
            return
        then = _by_key(changes)
        seen = {**looking.seen, **work.seen}
        if not seen:  # they are wrong in themselves
            answer(replies)
            return
        by_slot = self._view.by_slot([*seen, *then])
        attempt = self._begin(work, by_slot)
        wanted = {
            number: (
                keys,
                attempt.id,
                {key: seen[key] for key in keys if key in seen},
                {key: then.get(key, ()) for key in keys if key in then or key in work.events},
            )
            for number, keys in by_slot.items()
        }
        keys, _, seen_there, then_there = wanted.pop(attempt.anchor)
        asks = {
            number: (parts[0], asked.hold_request(*parts, waits=False, events=work.events))
            for number, parts in wanted.items()
        }
        self._give_way(attempt, (yield from self._hold(attempt, asks)), work)
        others = attempt.others
        request = asked.commit_with_request(
            keys, attempt.id, seen_there, others, then_there, waits=False, events=work.events
        )
        yield from self._decide(attempt, work, request)
        yield from self._happened(attempt, work, answer, replies)

    def _hold_and_run(self, work: Work, answer: Callable[[Reply], None], *, waits: bool) -> Operation:
        """Have each home run the commands of its slot when it holds their keys, and the last one when it decides. That
        one may be waited for, as only lower ones are held then; and of two so may the first (protocol rule L2)."""
        places: dict[int, list[int]] = {}
        for index, request in enumerate(work.requests):
            row = find_part(request[0])
            assert row is not None, "commands are of the table"
            places.setdefault(self._view.slot_of(keys_of(row, request)[0]), []).append(index)
        by_slot = self._view.by_slot([*work.keys, *work.seen])
        attempt = self._begin(work, by_slot)
        wanted = {
            number: (
                keys,
                attempt.id,
                {key: work.seen[key] for key in keys if key in work.seen},
                [work.requests[index] for index in places.get(number, ())],
            )
            for number, keys in by_slot.items()
        }
        keys, _, seen_there, requests = wanted.pop(attempt.anchor)
        waits = waits or len(wanted) == 1
        asks = {n: (parts[0], asked.hold_and_run_request(*parts, waits=waits)) for n, parts in wanted.items()}
        outcomes = yield from self._hold(attempt, asks, one_by_one=waits)
        self._give_way(attempt, outcomes, work)
        request = asked.commit_and_run_request(keys, attempt.id, seen_there, attempt.others, requests, waits=True)
        outcomes[attempt.anchor] = yield from self._decide(attempt, work, request)
        replies: list[Reply] = [None] * len(work.requests)
        work.said = [message for outcome in outcomes.values() for message in asked.messages_of(outcome[2])]
        for number, outcome in outcomes.items():
            for index, reply in zip(places.get(number, ()), outcome[1], strict=True):
                replies[index] = reply
        yield from self._happened(attempt, work, answer, replies)

    def _hold_first(self, work: Work, answer: Callable[[Reply], None]) -> Operation:
        """Hold every key, one slot after the other, and run the commands on what they hold then."""
        attempt = self._begin(work, self._view.by_slot([*work.keys, *work.seen]))
        handed: dict[bytes, tuple[int, Cell]] = {}
        yield from self._hold_more(attempt, work, [*work.keys, *work.seen], handed, waits=True)
        while True:
            now = self._clock.cluster_ms
            looking = _Looking(self._view, now, handed, own=False)
            try:
                replies, changes = yield from self._run_commands(looking, work, now)
            except (_Again, _Over, Unlisted):
                self._abort(attempt)
                raise
            if not looking.unknown:
                break
            if len(work.keys) + len(looking.unknown) > KEYS_MAX:
                self._abort(attempt)
                raise _Over(TOO_MANY_KEYS)
            self._learn(work, list(looking.unknown))
            yield from self._hold_more(attempt, work, list(looking.unknown), handed, waits=False)
        then = _by_key(changes)
        asks: dict[int, _Wish] = {}
        for number, keys in self._view.by_slot([*then, *work.events]).items():
            coming = {key: then.get(key, ()) for key in keys}
            asks[number] = keys, asked.hold_request(keys, attempt.id, {}, coming, waits=False, events=work.events)
        outcomes = yield from self._hold(attempt, asks)
        self._give_way(attempt, outcomes, work)
        request = asked.commit_request([*attempt.keys[attempt.anchor]], attempt.id, attempt.others)
        yield from self._decide(attempt, work, request)
        yield from self._happened(attempt, work, answer, replies)

    def _hold_more(
        self,
        attempt: _Attempt,
        work: Work,
        keys: Collection[bytes],
        handed: dict[bytes, tuple[int, Cell]],
        *,
        waits: bool,
    ) -> Operation:
        by_slot = self._view.by_slot(keys)
        asks: dict[int, _Wish] = {}
        for number, of_slot in by_slot.items():
            seen = {key: work.seen[key] for key in of_slot if key in work.seen}
            asks[number] = of_slot, asked.hold_request(of_slot, attempt.id, seen, {}, waits=waits)
        outcomes = yield from self._hold(attempt, asks, one_by_one=waits)
        self._give_way(attempt, outcomes, work, holds_first=True)
        gathered = Gathered(len(by_slot))
        for index, (number, of_slot) in enumerate(by_slot.items()):
            request = asked.hand_out_request(of_slot, attempt.id)
            self._coordinator.write(number, request, gathered, index, attempt.asked[number], reads=True)
        yield gathered.event
        for of_slot, items in zip(by_slot.values(), gathered.replies, strict=True):
            if isinstance(items, ReplyError) or not isinstance(items, list) or len(items) != 3 * len(of_slot):
                self._abort(attempt)
                raise _Again(holds_first=True)
            handed.update(asked.cells_from(of_slot, items))

    # -- holding, deciding, letting go

    def _begin(self, work: Work, numbers: Collection[int]) -> _Attempt:
        """A new attempt; its decision will be in the last one of its slots."""
        ticket = self._coordinator.reserve(max(numbers))
        self.active.add(ticket)
        work.attempt = _Attempt(ticket, self._view.me.process)
        return work.attempt

    def _hold(
        self, attempt: _Attempt, asks: Mapping[int, _Wish], *, one_by_one: bool = False
    ) -> Asking[dict[int, Any]]:
        """Ask homes to hold keys; what each has answered. One by one it ends with the first that does not."""
        outcomes: dict[int, Any] = {}
        groups = [[number] for number in sorted(asks)] if one_by_one else [list(asks)]
        for numbers in groups:
            gathered = Gathered(len(numbers))
            for index, number in enumerate(numbers):
                keys, request = asks[number]
                attempt.keys.setdefault(number, {}).update(dict.fromkeys(keys))
                before = attempt.asked.get(number, 0)
                attempt.asked[number] = self._coordinator.write(number, request, gathered, index, before)
            yield gathered.event
            outcomes.update(zip(numbers, gathered.replies, strict=True))
            if any(_outcome(reply) is not Outcome.DONE for reply in gathered.replies):
                break
        return outcomes

    def _give_way(
        self, attempt: _Attempt, outcomes: Mapping[int, Any], work: Work, *, holds_first: bool = False
    ) -> None:
        """Unless all is held, let go of it. Raises what is to be done instead."""
        found = {_outcome(reply) for reply in outcomes.values()}
        if found == {Outcome.DONE} or not found:
            return
        for number, reply in outcomes.items():
            if (
                _outcome(reply) not in (Outcome.DONE, Outcome.ABORTED, None)
                and number in attempt.keys
                and not holds_first
            ):
                del attempt.keys[number]  # it holds nothing there
        self._abort(attempt)
        if Outcome.TOO_LONG in found:
            work.at_leisure, work.apart = True, False
        error = next((reply for reply in outcomes.values() if isinstance(reply, ReplyError)), None)
        if error is not None:
            code = error.text.split(" ", 1)[0]
            raise _Over(error if code != "UNCERTAIN" else NOT_HELD)
        away = next((reply[1] for reply in outcomes.values() if _outcome(reply) is Outcome.ELSEWHERE), None)
        if away is not None:
            raise Elsewhere(away)
        if Outcome.CHANGED in found and work.seen and (work.apart or holds_first):
            raise _Over(NULL_ARRAY)
        raise _Again(holds_first=Outcome.BUSY in found or holds_first)

    def _abort(self, attempt: _Attempt) -> None:
        """It never happens: nobody will write that it has."""
        self.counters.aborted += 1
        self._coordinator.release(attempt.id[1])
        self._operations.start(self._clock.now, self._undo(attempt))

    def _decide(self, attempt: _Attempt, work: Work, request: list[bytes]) -> Asking[list[Any]]:
        """All else is held: write that it has happened; what that has answered. Raises what is to be done instead."""
        if self._clock.now > work.until:  # we have stood still: others may have settled it, and forgotten that
            self._abort(attempt)
            raise _Over(TRY_AGAIN)
        ticket = attempt.id[1]
        gathered = Gathered(1)
        work.noted(ticket)
        self._coordinator.write_reserved(ticket, request, gathered, 0, attempt.asked.get(attempt.anchor, 0))
        yield gathered.event
        outcome: Any = gathered.replies[0]
        if isinstance(outcome, ReplyError) and outcome.text.startswith("UNCERTAIN"):
            self.active.discard(ticket)
            raise _Over(outcome)
        self._give_way(attempt, {attempt.anchor: outcome}, work)
        work.happened = True
        found: list[Any] = outcome
        return found

    def _happened(self, attempt: _Attempt, work: Work, answer: Callable[[Reply], None], replies: Reply) -> Operation:
        """Answer, and have everybody let go."""
        ticket = attempt.id[1]
        self.counters.committed += work.count
        self._letting_go.add(ticket)
        answer(replies)
        others = attempt.others
        gathered = self._let_go(attempt, others, work.noted)
        self.turns.leave(work)  # what is asked for next comes behind that at each home
        yield gathered.event
        self.active.discard(ticket)
        self._letting_go.discard(ticket)
        if others and not any(isinstance(reply, ReplyError) for reply in gathered.replies):
            self.over.append(ticket)

    def _undo(self, attempt: _Attempt) -> Operation:
        yield self._let_go(attempt, attempt.keys).event
        self.active.discard(attempt.id[1])

    def _let_go(
        self,
        attempt: _Attempt,
        keys: Mapping[int, Collection[bytes]],
        committed: Callable[[int], None] | None = None,
    ) -> Gathered:
        """Ask for it; what is answered. `committed`: it has happened; told the tickets of that."""
        gathered = Gathered(len(keys))
        for index, (number, of_slot) in enumerate(keys.items()):
            request = asked.release_request(attempt.id, list(of_slot), commits=committed is not None)
            write = self._coordinator.write_later if committed is not None else self._coordinator.write
            ticket = write(number, request, gathered, index, attempt.asked.get(number, 0))
            if committed is not None:
                committed(ticket)
        return gathered


def _run_on(looking: _Looking, work: Work, now: int) -> tuple[list[Reply], list[Change]]:
    """What the commands answer and change; nothing of that counts where `looking.unknown` says so. Raises Stopped."""
    scratch = Scratch(looking, now, at_leisure=work.at_leisure, listed=work.listed, observed=work.observed)
    try:
        replies = [run_on(scratch, request, now) for request in work.requests]
        work.said = scratch.said
        work.events = asked.by_key([event for event in scratch.events or () if event[0] & work.classes])
        return replies, [] if looking.unknown else scratch.travelling()
    except Exception:
        if not looking.unknown:
            raise
        return [], []


def _outcome(reply: Any) -> Outcome | None:
    """None: it is no answer."""
    try:
        return Outcome(reply[0])
    except (TypeError, ValueError, IndexError):
        return None


def _by_key(changes: Sequence[Change]) -> dict[bytes, Tentative]:
    found: dict[bytes, list[Any]] = {}
    for key, body, deadline in changes:
        found.setdefault(key, []).append((body, deadline))
    return dict(found)
