"""MULTI, EXEC, DISCARD, WATCH, UNWATCH: what a connection queues and watches, and that it happens at one moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.operation import Operation, Operations
from peerkv.agreement.reads import Sink
from peerkv.agreement.view import View
from peerkv.clients.scripts import Scripts
from peerkv.clients.session import CHANNELS, SHARDS, Queue, Services, Session
from peerkv.commands.access import database
from peerkv.commands.running import is_runnable, prepared, row_of
from peerkv.commands.table import CHANCE_BYTES, Command, Kind, find, find_part, keys_of, subcommand_of
from peerkv.commands.transactions import look_request
from peerkv.resp import OK, CommandError, Reply, ReplyError
from peerkv.transactions import Transactions, Work

if TYPE_CHECKING:
    from random import Random

QUEUED: Final = "QUEUED"
COMMANDS_MAX: Final = 1 << 16
BYTES_MAX: Final = 64 << 20
WATCHED_MAX: Final = 1 << 14
ABORTED: Final = ReplyError("EXECABORT Transaction discarded because of previous errors.")
PUBLISHING: Final = {"publish": CHANNELS, "spublish": SHARDS}
NOT_QUEUED: Final = frozenset({"exec", "discard", "multi", "watch", "quit", "reset"})
"""What is run at once all the same."""


class Queueing:
    """Of all connections of a node."""

    def __init__(
        self,
        services: Services,
        view: View,
        coordinator: Coordinator,
        transactions: Transactions,
        rng: Random,
        operations: Operations,
        run_session: Callable[[Session, Command, list[bytes]], Reply],
    ) -> None:
        """`run_session` runs a command of a connection."""
        self.publish: Callable[[int, bytes, bytes, Sink | None, int], None] = lambda *_: None
        """Sends a message to subscribers (`Channels.publish`); set by the pipeline."""
        self.scripts = Scripts(services, view, coordinator, transactions, rng)
        self._operations = operations
        self._services = services
        self._view = view
        self._coordinator = coordinator
        self._transactions = transactions
        self._rng = rng
        self._run_session = run_session

    # -- queueing

    def take(self, session: Session, request: list[bytes]) -> Reply:
        """Queue a command of a connection that is queueing; what is answered. None: it is to be run at once."""
        queue = session.queue
        assert queue is not None, "the connection is queueing"
        row = row_of(request)
        if isinstance(row, Command) and row.kind is Kind.SESSION and row.subcommands and len(request) > 1:
            subcommand = subcommand_of(row, request)
            row = subcommand if isinstance(subcommand, ReplyError) else row
        if isinstance(row, ReplyError):
            queue.failed = True
            if find(request[0]) is find(b"EXEC"):
                self.forget(session)
                return ReplyError(f"EXECABORT Transaction discarded because of: {row.text.removeprefix('ERR ')}")
            return row
        if row.name in NOT_QUEUED:
            return None
        wrong = self._refused(queue, row, request)
        if wrong is not None:
            queue.failed = True
            return wrong
        queue.size += sum(map(len, request)) + 8 * len(request)
        if not queue.failed:
            queue.commands.append((row, request, queue.database))
        if row.name == "select":
            try:
                queue.database = database(request[1])
            except CommandError:
                pass  # that is what it answers when it is run
        return QUEUED

    def _refused(self, queue: Queue, row: Command, request: Sequence[bytes]) -> ReplyError | None:
        if "no_multi" in row.flags:
            return ReplyError("ERR Command not allowed inside a transaction")
        if row.group == "pubsub" and row.name not in PUBLISHING:
            return ReplyError(f"ERR '{row.name}' cannot be part of a transaction")
        if row.kind is Kind.CLUSTER and not is_runnable(row):
            return ReplyError(f"ERR '{row.name}' concerns every slot and cannot be part of a transaction")
        if len(queue.commands) >= COMMANDS_MAX or queue.size + sum(map(len, request)) > BYTES_MAX:
            return ReplyError(f"ERR a transaction has at most {COMMANDS_MAX} commands of {BYTES_MAX} bytes in all")
        return None

    def run_at_once(self, session: Session, name: str) -> Reply:
        """MULTI, DISCARD, UNWATCH."""
        if name == "multi":
            if session.queue is not None:
                return ReplyError("ERR MULTI calls can not be nested")
            session.become(queue=Queue(session.database))
        elif name == "discard":
            if session.queue is None:
                return ReplyError("ERR DISCARD without MULTI")
            self.forget(session)
        else:
            session.watched = {}
        return OK

    def forget(self, session: Session) -> None:
        """Drop what is queued and watched."""
        session.become(queue=None)
        session.watched = {}

    # -- watching

    def watch(self, session: Session, request: Sequence[bytes], sink: Sink, index: int) -> None:
        """Remember what keys hold, before the reply is given; they are said as they are held."""
        if session.queue is not None:
            sink.deliver(index, ReplyError("ERR WATCH inside MULTI is not allowed"))
            return
        keys = request[1:]
        if len(session.watched) + len(keys) > WATCHED_MAX:
            sink.deliver(index, ReplyError(f"ERR a connection watches at most {WATCHED_MAX} keys"))
            return
        by_slot = self._view.by_slot([key for key in keys if key not in session.watched])
        if not by_slot:
            sink.deliver(index, OK)
            return
        seen = _Seen(session, list(by_slot.values()), sink, index)
        row = find_part(b"PEERKV.LOOK")
        assert row is not None, "it is a part"
        assert row.run is not None, "it is a part"
        now = self._services.clock.cluster_ms
        for place, (number, of_slot) in enumerate(by_slot.items()):
            self._coordinator.reads.read(number, look_request(of_slot), row.run, now, seen, place, of_slot)

    # -- running

    def execute(self, session: Session, sink: Sink, index: int) -> None:
        """EXEC: have all that is queued take effect at one moment."""
        queue, watched = session.queue, session.watched
        if queue is None:
            sink.deliver(index, ReplyError("ERR EXEC without MULTI"))
            return
        self.forget(session)
        if queue.failed:
            sink.deliver(index, ABORTED)
            return
        if any(row.kind is Kind.SCRIPT for row, _, _ in queue.commands):
            now = self._services.clock.now
            self._operations.start(now, self._execute_scripts(session, queue, watched, sink, index))
            return
        ready = [self.prepared(*entry) for entry in queue.commands if is_runnable(entry[0])]
        self._execute(session, queue, ready, watched, sink, index)

    def _execute_scripts(
        self, session: Session, queue: Queue, watched: dict[bytes, int], sink: Sink, index: int
    ) -> Operation:
        ready: list[list[bytes]] = []
        for row, request, number in queue.commands:
            if row.kind is Kind.SCRIPT:
                try:
                    ready.append((yield from self.scripts.ready(row, request, number)))
                except CommandError as error:
                    sink.deliver(index, error.reply)
                    return
            elif is_runnable(row):
                ready.append(self.prepared(row, request, number))
        self._execute(session, queue, ready, watched, sink, index)

    def _execute(
        self,
        session: Session,
        queue: Queue,
        requests: list[list[bytes]],
        watched: dict[bytes, int],
        sink: Sink,
        index: int,
    ) -> None:
        keys: dict[bytes, None] = {}
        reads = apart = True
        for row, _, _ in queue.commands:
            row.calls += 1
        for request in requests:
            command = find_part(request[0])
            assert command is not None, "it was queued"
            own = keys_of(command, request)
            keys.update(dict.fromkeys(own))
            reads = reads and is_read(command)
            wanders = command.wanders is not None and command.wanders(request)
            apart = apart and not wanders and len({self._view.slot_of(key) for key in own}) == 1

        def answer(replies: Reply) -> None:
            if isinstance(replies, list):
                self._answer_with_others(session, queue, replies, sink, index)
            else:
                sink.deliver(index, replies)

        if requests or watched:
            work = Work(requests, keys, watched, reads=reads, apart=apart, note=noting(session))
            self._transactions.start(work, answer)
        else:
            answer([])

    def prepared(self, row: Command, request: list[bytes], number: int) -> list[bytes]:
        """A command of a database as it is run."""
        skew = self._services.clock.skew_ms
        return prepared(row, request, skew=skew, database=number, chance=lambda: self._rng.randbytes(CHANCE_BYTES))

    def _answer_with_others(self, session: Session, queue: Queue, replies: list[Reply], sink: Sink, index: int) -> None:
        """Answer, with the replies of commands that are no functions of cells, which are run now, in their places."""
        of_cells = iter(replies)
        said: list[tuple[int, list[bytes]]] = []
        found: list[Reply] = []
        for row, request, _ in queue.commands:
            if row.name in PUBLISHING:
                said.append((len(found), request))
                found.append(None)
            else:
                found.append(next(of_cells) if is_runnable(row) else self._run_session(session, row, request))
        if not said:
            sink.deliver(index, found)
            return
        heard = _Heard(found, [place for place, _ in said], sink, index)
        for at, (_, request) in enumerate(said):
            self.publish(PUBLISHING[request[0].decode("ascii").lower()], request[1], request[2], heard, at)

    def across(
        self, session: Session, row: Command, request: list[bytes], keys: Sequence[bytes], sink: Sink, index: int
    ) -> None:
        """Run one prepared command whose keys are in several slots, or not all known."""

        def answer(replies: Reply) -> None:
            sink.deliver(index, replies[0] if isinstance(replies, list) else replies)

        work = Work([request], dict.fromkeys(keys), reads=is_read(row), note=noting(session))
        self._transactions.start(work, answer)

    def run_script(self, session: Session, row: Command, request: list[bytes], sink: Sink, index: int) -> Operation:
        """EVAL and FCALL."""
        try:
            ready = yield from self.scripts.ready(row, request, session.database)
        except CommandError as error:
            sink.deliver(index, error.reply)
            return
        command = find_part(ready[0])
        assert command is not None, "it is of the table"
        self.across(session, command, ready, keys_of(command, ready), sink, index)


def noting(session: Session) -> Callable[[int], None] | None:
    """Who is to know which operations are a client's, if it tracks."""
    return session.tracker.note if session.tracker is not None else None


def is_read(row: Command) -> bool:
    """Whether a command changes nothing, whatever it finds."""
    return row.kind is Kind.READ or "readonly" in row.flags


class _Heard(Sink):
    """How many subscribers have got the messages of a transaction."""

    __slots__ = ("found", "index", "places", "sink")

    def __init__(self, found: list[Reply], places: list[int], sink: Sink, index: int) -> None:
        super().__init__(len(places))
        self.found = found
        self.places = places
        self.sink = sink
        self.index = index

    def complete(self) -> None:
        for place, reply in zip(self.places, self.replies, strict=True):
            self.found[place] = reply
        self.sink.deliver(self.index, self.found)


class _Seen(Sink):
    """What owners say of keys that a connection is to watch."""

    __slots__ = ("groups", "index", "session", "sink")

    def __init__(self, session: Session, groups: list[list[bytes]], sink: Sink, index: int) -> None:
        super().__init__(len(groups))
        self.session = session
        self.groups = groups
        self.sink = sink
        self.index = index

    def complete(self) -> None:
        error = next((reply for reply in self.replies if isinstance(reply, ReplyError)), None)
        if error is None:
            for keys, reply in zip(self.groups, self.replies, strict=True):
                assert isinstance(reply, list), "so it is answered"
                self.session.watched.update(zip(keys, reply, strict=True))  # type: ignore[arg-type]
        self.sink.deliver(self.index, error or OK)
