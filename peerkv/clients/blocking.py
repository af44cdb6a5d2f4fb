"""Connections that wait until there is something to take (BLPOP and its like).

Nothing stays under way meanwhile: a waiter tells the homes of its keys that it waits, asks by an ordinary operation
with an id of its own when it is woken, and says so when it waits no more. What it has told may be lost, and so may be
who was told: it is told again, to whoever is home then. What was taken for a client that was gone by then is put back:
by one operation, or by another as long as nothing was done.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home
from peerkv.agreement.operation import Event, Operation
from peerkv.agreement.peer import Peer
from peerkv.agreement.reads import Sink
from peerkv.agreement.survey import Asking
from peerkv.agreement.view import View
from peerkv.clients.queueing import is_read, noting
from peerkv.clients.session import Services, Session
from peerkv.commands.blocking import is_nothing, one_by_one, put_back
from peerkv.commands.table import Waits, find_part, keys_of
from peerkv.commands.transactions import look_request
from peerkv.databases import bare_key
from peerkv.resp import NULL_ARRAY, Reply, ReplyError
from peerkv.transactions import Gathered, Transactions, Work

ROUNDS: Final = 20
"""Looks in which all waiters have told homes again that they wait: 5 s."""
ASTRAY_AT_ONCE: Final = 256
"""Of those who have told somebody who is not home so many ask again in one look: 20 ms."""
ASKS_PER_TURN: Final = 256
"""Waiters that ask in one turn of the node, about 10 ms; others that are woken do so in the next ones."""
ENDED_PER_TURN: Final = 1024
"""Waiters whose time is up that are let go in one turn."""
OWED_MAX: Final = 1 << 12
"""What was to be put back and could not be yet; more than that is lost."""
OWED_AT_ONCE: Final = 64
"""Of that tried again in one look."""
NOTHING_DONE: Final = "NOQUORUM", "TRYAGAIN", "CLUSTERDOWN"
"""What is answered so may be asked for again."""
UNBLOCKED: Final = ReplyError("UNBLOCKED client unblocked via CLIENT UNBLOCK")


def _is_wrong_type(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and reply.text.startswith("WRONGTYPE")


class Waiter:
    """A connection that waits."""

    __slots__ = ("deadline", "ended", "event", "news", "number", "session", "told", "waits")

    def __init__(self, number: int, session: Session, waits: Waits, deadline: float) -> None:
        self.number = number
        self.session = session
        self.waits = waits
        self.deadline = deadline
        self.event = Event()
        self.told: list[Peer | None] = [None] * len(waits.keys)
        """Of each key, whom it has told last."""
        self.news: dict[bytes, None] = {}
        """Keys of which a home has said that there may be something, or somebody that it is none."""
        self.ended: Reply | str = ""
        """What it is answered although it has got nothing; empty: it still waits."""


class Blocking:
    """Of a node."""

    def __init__(
        self, services: Services, view: View, home: Home, coordinator: Coordinator, transactions: Transactions
    ) -> None:
        self.asked = 0
        """Waiters that have asked in this turn."""
        self.queue: deque[Event] = deque()
        """Those that are to ask when there is room, as whatever else is not begun while too much is under way."""
        self._coordinator = coordinator
        self._services = services
        self._view = view
        self._home = home
        self._transactions = transactions
        self._number = 0
        self._waiters: dict[int, Waiter] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._round: list[int] = []
        """Waiters that are to tell homes again, in this round."""
        self._astray: set[int] = set()
        """Waiters that have told somebody who is not home, or no more."""
        self._aimed: list[Peer | None] = []
        """Who was home of each slot at the last look: where none is another since then nobody need be looked at."""
        self._owed: deque[list[bytes]] = deque()
        """What is to be put back, and could not be."""

    def run(self, session: Session, waits: Waits, sink: Sink, index: int) -> Operation:
        """Ask for what a command takes until it has got it, or must not wait any longer."""
        if waits.asks and waits.begun is not None:
            reply = yield from self._ask(session, waits.asks)
            if isinstance(reply, ReplyError):
                sink.deliver(index, reply)
                return
            waits = waits.begun(reply)
        request = waits.request
        yield from self._room()
        reply = yield from self._ask(session, request)
        if not is_nothing(reply):
            self._deliver(session, request, reply, sink, index)
            return
        now = self._services.clock.now
        self._number += 1
        waiter = Waiter(self._number, session, waits, now + waits.timeout if waits.timeout else inf)
        session.waiter, session.blocked, session.unblock = waiter, True, ""
        self._waiters[waiter.number] = waiter
        if waits.timeout:
            self._note_deadline(waiter)
        if session.closing or session.hung_up:
            waiter.ended = NULL_ARRAY
        while waiter.ended == "":
            self._tell([waiter])
            yield waiter.event
            yield from self._room()
            if waiter.ended != "":
                break
            waiter.event = Event()  # woken while it asks, it asks once more
            yield from self._see(waiter)
            reply = yield from self._ask(session, request)
            if _is_wrong_type(reply) and waits.of_its_type:
                reply = yield from self._ask_past(session, waits, reply)
            if not is_nothing(reply):
                break
        self._end(waiter)
        if is_nothing(reply) and waiter.ended != "":
            reply = waiter.ended
        self._deliver(session, request, reply, sink, index)

    def _note_deadline(self, waiter: Waiter) -> None:
        """Of those that have ended no more are kept than there are waiters: a worker may wait for an hour, over and
        over."""
        if len(self._deadlines) > 2 * len(self._waiters) + ENDED_PER_TURN:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._waiters]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (waiter.deadline, waiter.number))

    def _room(self) -> Operation:
        """Wait for one's turn to ask: ten thousand may be woken at a time."""
        if self.queue or self.asked >= ASKS_PER_TURN or self._coordinator.crowded:
            event = Event()
            self.queue.append(event)
            yield event
        self.asked += 1

    def go_on(self) -> bool:
        """Let those ask that there is room for in this turn; whether there are any."""
        count = 0 if self._coordinator.crowded else min(len(self.queue), ASKS_PER_TURN - self.asked)
        for _ in range(count):
            self.queue.popleft().set()
        return count > 0

    def _ask_past(self, session: Session, waits: Waits, wrong: Reply) -> Asking[Reply]:
        """A key is of another type than is waited for, which is waited out: what do the others hold? The target of a
        move must be of its type."""
        if waits.source and not _is_wrong_type((yield from self._ask(session, waits.source))):
            return wrong
        for request in one_by_one(waits.request, waits.keys):
            reply = yield from self._ask(session, request)
            if not is_nothing(reply) and not _is_wrong_type(reply):
                return reply
        return NULL_ARRAY

    def _ask(self, session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        row = find_part(request[0])
        assert row is not None, "it is of the table"
        event = Event()
        found: list[Reply] = []

        def answer(replies: Reply) -> None:
            found.append(replies[0] if isinstance(replies, list) else replies)
            event.set()

        work = Work([request], dict.fromkeys(keys_of(row, request)), reads=is_read(row), note=noting(session))
        self._transactions.start(work, answer)
        yield event
        return found[0]

    def _see(self, waiter: Waiter) -> Operation:
        """Wait until what it was woken for is to be seen by whoever asks a majority, as one does who asks for keys of
        several slots: homes wake before a change is chosen, and once. So one learns, too, who is home."""
        news, waiter.news = waiter.news, {}
        slot_of, request = self._view.slot_of, waiter.waits.request
        row = find_part(request[0])
        assert row is not None, "it is of the table"
        if len(set(map(slot_of, keys_of(row, request)))) > 1:
            seen = Gathered(len(news))
            for index, key in enumerate(news):
                self._coordinator.write(slot_of(key), look_request([key]), seen, index, reads=True)
            yield seen.event

    def _deliver(self, session: Session, request: Sequence[bytes], reply: Reply, sink: Sink, index: int) -> None:
        gone = session.killed or session.id not in self._services.sessions
        undo = put_back(request, reply) if gone else None
        if undo is not None:
            self._put_back(undo)
        sink.deliver(index, reply)

    def _put_back(self, undo: list[bytes]) -> None:
        def ended(reply: Reply) -> None:
            self._has_put_back(undo, reply[0] if isinstance(reply, list) else reply)

        self._transactions.start(Work([undo], {undo[1]: None}), ended)

    def _has_put_back(self, undo: list[bytes], reply: Reply) -> None:
        """It was, or nothing was done and it is tried again; but not if nobody knows: it would be there twice."""
        if not isinstance(reply, ReplyError):
            return
        if reply.text.startswith(NOTHING_DONE) and len(self._owed) < OWED_MAX:
            self._owed.append(undo)
        else:
            what = "what was taken for a client that was gone is perhaps not put back"
            self._services.tell("warning", f"{what} into {bare_key(undo[1])[:100]!r}: {reply.text}")

    # -- what ends it

    def woken(self, peer: Peer, keys: Sequence[bytes], numbers: Sequence[int]) -> None:
        """A home says that there may be something for these at those keys; those that have gone were in the way of
        others, as what they said in the end was lost."""
        for key, number in zip(keys, numbers, strict=True):
            waiter = self._waiters.get(number)
            if waiter is None:
                self._tell_end(peer, key, number)
            elif key in waiter.waits.keys:
                waiter.news[key] = None
                waiter.event.set()

    def astray(self, peer: Peer, numbers: Iterable[int]) -> None:
        """Somebody is not home of what these wait for: they ask again soon, which finds out who is."""
        for number in numbers:
            waiter = self._waiters.get(number)
            if waiter is not None:
                self._astray.add(number)
                told = zip(waiter.waits.keys, waiter.told, strict=True)
                waiter.news.update([(key, None) for key, home in told if home is peer])

    def stop(self, session: Session, reply: Reply) -> None:
        """A connection waits no longer (CLIENT UNBLOCK; or it is gone)."""
        waiter = session.waiter
        if waiter is not None:
            waiter.ended = reply
            waiter.event.set()

    def unblocked(self, session: Session) -> None:
        """CLIENT UNBLOCK, as `session.unblock` says."""
        self.stop(session, UNBLOCKED if session.unblock == "error" else NULL_ARRAY)

    def _end(self, waiter: Waiter) -> None:
        del self._waiters[waiter.number]
        waiter.session.waiter, waiter.session.blocked = None, False
        self._astray.discard(waiter.number)
        for key, peer in zip(waiter.waits.keys, waiter.told, strict=True):
            if peer is not None:
                self._tell_end(peer, key, waiter.number)

    def _tell_end(self, peer: Peer, key: bytes, number: int) -> None:
        if peer is self._view.me:
            self._home.end_interest(peer, [key], [number])
        elif peer.up:
            peer.tell("awaits_no_more", [key], [number])

    # -- telling homes

    def _tell(self, waiters: Iterable[Waiter]) -> None:
        """Tell the homes of their keys that these wait."""
        targets, view = self._view.targets, self._view
        rows: dict[Peer, tuple[list[bytes], list[int], list[int]]] = {}
        for waiter in waiters:
            for at, key in enumerate(waiter.waits.keys):
                slot = view.slot_of(key)
                before, target = waiter.told[at], targets[slot]
                if self._aimed and self._aimed[slot] is not target:
                    self._aimed = []
                if before is not None and before is not target:
                    self._tell_end(before, key, waiter.number)
                waiter.told[at] = target
                if target is not None:
                    keys, numbers, everyone = rows.setdefault(target, ([], [], []))
                    keys.append(key)
                    numbers.append(waiter.number)
                    everyone.append(int(waiter.waits.everyone))
        for peer, row in rows.items():
            if peer is view.me:
                self._home.take_interest(peer, *row)
            elif peer.up:
                peer.tell("awaits", *row)

    def link_up(self, peer: Peer) -> None:
        """A peer can be talked to, again or for the first time: what it was told may be lost."""
        self._aimed = []
        for waiter in self._waiters.values():
            if peer in waiter.told:
                waiter.told = [None if told is peer else told for told in waiter.told]

    def look(self) -> None:
        """Tell homes again, several times a second a few: those that are others now, and each every few seconds. Those
        who told somebody else ask again: here, so that they do not do so over and over while nobody is home."""
        for _ in range(min(len(self._owed), OWED_AT_ONCE)):
            self._put_back(self._owed.popleft())
        if not self._waiters:
            return
        for number in heapq.nsmallest(ASTRAY_AT_ONCE, self._astray):
            self._astray.discard(number)
            self._waiters[number].event.set()
        targets, slot_of = self._view.targets, self._view.slot_of
        if not self._round:
            self._round = list(self._waiters)
        count = len(self._waiters) // ROUNDS + 1
        due = {number: self._waiters[number] for number in self._round[-count:] if number in self._waiters}
        del self._round[-count:]
        if targets != self._aimed:
            self._aimed = targets.copy()
            due |= {
                number: waiter
                for number, waiter in self._waiters.items()
                if any(at is not targets[slot_of(key)] for at, key in zip(waiter.told, waiter.waits.keys, strict=True))
            }
        self._tell([due[number] for number in sorted(due) if not due[number].event.set_])

    def wake(self, now: float) -> None:
        """Let go of those whose time is up."""
        deadlines = self._deadlines
        for _ in range(ENDED_PER_TURN):
            if not deadlines or deadlines[0][0] > now:
                break
            waiter = self._waiters.get(heapq.heappop(deadlines)[1])
            if waiter is not None:
                waiter.ended = NULL_ARRAY
                waiter.event.set()

    @property
    def wake_at(self) -> float:
        """When somebody's time is up."""
        return self._deadlines[0][0] if self._deadlines else inf
