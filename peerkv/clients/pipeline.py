"""A client's commands at this node: which way each goes, in what order, and one reply for each, in its place.

Commands of one client run as if one after another, although all that a buffer held are under way at once. Only where
the order would show does one wait: a read behind a write of the same slot takes the write's way, through the home; a
write behind a read of the same slot, a read behind one that was sent in an earlier turn, and a command that concerns
every slot wait until what came before has ended. So what has to be asked again, because somebody died or is slow, is
never overtaken by what its client sent after it (protocol rules O3 and R4).

Nobody keeps the others waiting, and nobody fills the node:

- A client's share of a turn is `SHARE_UNITS`, all clients' that ask for much is `TURN_UNITS`; what is left waits in its
  backlog for the next turn, first come, first served. Who asks for little is not made to wait for those.
- A client has at most `window` requests under way: as many as have been answered with `WINDOW_BYTES` lately.
- A client that has more than `UNREAD_MAX` bytes to read gets no more, and nothing more is run for it, until it has.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home, fault, reply_of
from peerkv.agreement.operation import Operation, Operations, Pause
from peerkv.agreement.reads import Sink
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.clients.blocking import Blocking
from peerkv.clients.channels import VERBS, Channels
from peerkv.clients.connection import NO_REPLY
from peerkv.clients.connection import run as run_session
from peerkv.clients.monitoring import Monitors
from peerkv.clients.notifications import Notifications
from peerkv.clients.observed import Observed
from peerkv.clients.queueing import Queueing
from peerkv.clients.session import CHANNELS, PATTERNS, SHARDS, Queue, Services, Session, Voice
from peerkv.clients.tracking import SUBCOMMANDS, Reading, Told, Tracker, Tracking
from peerkv.clients.whole import Whole
from peerkv.commands.catalogue import named
from peerkv.commands.table import (
    AT_ONCE,
    CHANCE_BYTES,
    SPELLED,
    UNDATED,
    Command,
    Kind,
    Waits,
    arity_error,
    find,
    find_part,
    help_of,
    keys_of,
    placed,
    subcommand_of,
    unknown,
)
from peerkv.commands.tracking import tracked_request
from peerkv.commands.transactions import RESERVED, look_request
from peerkv.databases import RECORD
from peerkv.kernel.batches import run_alone
from peerkv.resp import (
    OK,
    CommandError,
    Map,
    Named,
    Pairs,
    Prepared,
    Reply,
    ReplyError,
    Set,
    Verbatim,
    as_said,
    encode_all,
    size_of_replies,
    size_of_reply,
)
from peerkv.ring.keys import slot_of
from peerkv.transactions import Transactions

if TYPE_CHECKING:
    from random import Random

TURN_UNITS: Final = 1024
"""What is done in a turn for clients that ask for much, in units of a GET or SET of little: about 10 ms."""
SHARE_UNITS: Final = 256
SMALL: Final = 16
"""So many requests of a client with nothing under way are run at once, whatever others ask for."""
WINDOW_MAX: Final = 512
WINDOW_FROM: Final = 8
"""A batch of fewer says little of how many fit."""
WINDOW_BYTES: Final = 4 << 20
UNREAD_MAX: Final = 1 << 20
PORTION_BYTES: Final = 1 << 20
"""Replies that are encoded at a time: copies of what is in memory already."""
MEASURED_REPLIES: Final = 4
"""So many replies are measured before they are encoded."""
CHANGED_BYTES_MAX: Final = 8 << 20
"""Values that one client's commands write in a turn of a node by itself: APPEND to 60 MiB copies 60 MiB."""
PIECE_ARGUMENTS: Final = 512
"""A command of more keys than that is run piece by piece."""
PIECES_OPEN_MAX: Final = 2
COSTS: Final = {"info": 96, "command": 32, "client": 8, "cluster": 8, "config": 8, "hello": 4}
"""Units, beside one for every argument; of other commands of the connection it is one."""
SESSIONS_PER_UNIT: Final = 4
BYTES_PER_UNIT: Final = 1 << 13
"""Of what commands of the connection answer."""

READ, WRITE = Kind.READ, Kind.WRITE
SHORT_OR_BYTES: Final = {bytes, str, int, type(None), ReplyError}
MEASURED: Final = {bytes, list, Map, Pairs, Named, Set, Verbatim, Prepared}
LISTS: Final = {list, Map, Pairs, Named, Set}
OPERATION: Final = -1
"""In place of the turn of a read: it has gone to the home, behind a write."""
ALONE: Final = -2
"""... or: no other one is answered together with it."""
UNVERBS: Final = {"unsubscribe": CHANNELS, "punsubscribe": PATTERNS, "sunsubscribe": SHARDS}
LISTENING: Final = frozenset({*VERBS, *UNVERBS})
BY_ITSELF: Final = LISTENING | {"monitor"}
"""What is answered once all before it is, as it is followed by what was not asked for."""
LISTENS: Final = (
    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)
NO_REPLICA: Final = ReplyError("ERR Replica can't interact with the keyspace")
"""What Redis says to who monitors, and is a kind of replica to it."""
NEVER_QUEUED: Final = frozenset(map(find, (b"WATCH", b"QUIT")))
OF_KEYS: Final = frozenset(("readonly", "write", "may_replicate"))
UNDER_WAY_MAX: Final = 1024
"""Slots remembered of a client that is never idle, before those are dropped of which nothing is under way."""
PAUSE_LOOK_S: Final = 0.1
"""How often it is seen whether clients are paused still, and until when."""
SCRIPTS: Final = frozenset(("eval", "evalsha", "fcall"))
"""Whatever these do, a pause of writes holds them up, as in Redis."""
NO_COMMANDS: Final = (b"post", b"host:")
"""A browser was tricked into sending commands in the body of an HTTP request: it is cut off, as by Redis."""


class Batch(Sink):
    """What one buffer of a client asked for, and the replies so far."""

    __slots__ = ("dispatcher", "protocol", "requests", "session", "silent", "told")

    def __init__(self, dispatcher: Dispatcher, session: Session, requests: Sequence[Sequence[bytes]]) -> None:
        count = len(requests)
        self.replies = [None] * count  # `Sink.__init__` in line: a batch is made per buffer
        self.left = count
        self.requests = requests
        self.dispatcher = dispatcher
        self.session = session
        self.protocol = session.protocol
        self.silent: set[int] | None = None
        """Commands whose replies are not wanted (CLIENT REPLY)."""
        self.told: list[Told] | None = None
        """For `tracking`, once the client is answered."""

    def complete(self) -> None:
        self.dispatcher.finished(self.session)

    def encoded(self) -> bytes:
        """The replies that are wanted."""
        silent = self.silent or ()
        return encode_all([reply for index, reply in enumerate(self.replies) if index not in silent], self.protocol)


class Gather(Sink):
    """The replies of a command that was split; joined, they are its reply."""

    __slots__ = ("index", "join", "sink")

    def __init__(self, count: int, join: Callable[[list[Reply]], Reply], sink: Sink, index: int) -> None:
        super().__init__(count)
        self.join = join
        self.sink = sink
        self.index = index

    def complete(self) -> None:
        error = next((part for part in self.replies if isinstance(part, ReplyError)), None)
        self.sink.deliver(self.index, error if error is not None else self.join(self.replies))


class Spreading(Sink):
    """A command of many keys that is run piece by piece: how far it is, and the pieces' replies."""

    __slots__ = ("at", "command", "dispatcher", "index", "opened", "request", "session", "sink", "step")

    def __init__(
        self,
        dispatcher: Dispatcher,
        session: Session,
        command: Command,
        request: Sequence[bytes],
        batch: Batch,
        index: int,
    ) -> None:
        self.step = command.keys[2] * (PIECE_ARGUMENTS // command.keys[2])
        super().__init__(-(-(len(request) - 1) // self.step))
        self.dispatcher = dispatcher
        self.session = session
        self.command = command
        self.request = request
        self.sink = batch
        self.index = index
        self.at = 1
        self.opened = 0

    @property
    def under_way(self) -> int:
        """Pieces that have not all their replies."""
        return self.opened - len(self.replies) + self.left

    def next_piece(self) -> tuple[list[bytes], int]:
        """The request of the next piece, and its place among them."""
        piece = [self.request[0], *self.request[self.at : self.at + self.step]]
        self.at += self.step
        self.opened += 1
        return piece, self.opened - 1

    def deliver(self, index: int, reply: Reply) -> None:
        super().deliver(index, reply)
        self.dispatcher.go_on(self.session)

    def complete(self) -> None:
        error = next((piece for piece in self.replies if isinstance(piece, ReplyError)), None)
        assert self.command.spread is not None, "SPREAD commands can be split"
        joined = error or self.command.spread.join(list(chain.from_iterable(self.replies)))  # type: ignore[arg-type]
        self.sink.deliver(self.index, joined)


class Dispatcher:
    """Runs clients' requests; `replies`, `closing` and `holds` are for the node to take."""

    def __init__(
        self,
        services: Services,
        view: View,
        operations: Operations,
        replica: Replica,
        home: Home,
        coordinator: Coordinator,
        transactions: Transactions,
        rng: Random,
    ) -> None:
        self.replies: list[tuple[Session, bytes]] = []
        self.pushed = False
        """Among these is what was not asked for: there may be many for one client."""
        self.closing: list[Session] = []
        self.holds: list[tuple[Session, bool]] = []
        self.commands = 0
        self.observed = Observed()
        self.errors: Counter[str] = Counter()
        """Error replies by their codes (ERR, NOQUORUM, ...)."""
        self._services = services
        self._view = view
        self._operations = operations
        self._home = home
        self._coordinator = coordinator
        self._clock = services.clock
        self._rng = rng
        self._resumable: list[Session] = []
        """Sessions with a backlog that can go on, in order, ..."""
        self._next: list[Session] = []
        """... and those that have had their share of this turn."""
        self._showing = False
        """What is run is shown to those who monitor."""
        self._turn = 0
        self._units = TURN_UNITS
        """Left in this turn."""
        self.queueing = Queueing(services, view, coordinator, transactions, rng, operations, self._run_queued)
        self._notices = home.notices
        self.blocking = Blocking(services, view, home, coordinator, transactions)
        home.on_woken = self.blocking.woken
        home.on_astray = self.blocking.astray
        self.channels = Channels(services, view, self._push, self._cut_off)
        self.notifications = Notifications(services, view, home, self.channels.publish)
        self.queueing.publish = transactions.publish = self.channels.publish
        self.monitors = Monitors(services, view, self._push, self._cut_off)
        self.tracking = Tracking(services, view, home, coordinator, self._push, self._cut_off)
        self._whole = Whole(
            services,
            view,
            replica,
            coordinator,
            rng,
            self.queueing.scripts,
            self.channels,
            self.monitors,
            transactions.all_shown,
            self.tracking.flush,
        )
        transactions.list_keys = self._whole.matching
        self._pause: tuple[float, bool] | None = None
        """Until when clients are paused, and whether only in what writes."""
        self._awaits_unpause = False

    # -- a client's buffer

    def receive(self, session: Session, requests: list[list[bytes]]) -> None:
        """Run requests of one client, behind those that it sent before."""
        if session.held:
            session.backlog += requests
            if not session.paused:
                session.paused = True
                self.holds.append((session, True))
        elif requests and not session.closing:
            if len(requests) > SMALL or session.batches:
                if self._resumable:
                    self._put_off(session, requests)
                else:
                    self._run(session, requests)
            else:
                rest = self._run_some(session, requests)
                if rest:
                    self._run(session, rest)

    def _run(self, session: Session, requests: list[list[bytes]]) -> None:
        """Run what the session has room for; the rest becomes its backlog."""
        rest = requests
        while rest and not session.closing:
            room = self._room(session, len(rest))
            if room <= 0:
                self._put_off(session, rest)
                return
            later = rest[room:]
            if later:
                rest = rest[:room]
            self._charge(session, len(rest))
            left = self._run_some(session, rest)
            if session.held:
                session.backlog += later
                return
            rest = left + later if left else later

    def _put_off(self, session: Session, requests: list[list[bytes]]) -> None:
        session.held = True
        session.backlog = requests
        self.go_on(session)

    def _room(self, session: Session, wanted: int) -> int:
        """How many of so many requests can be run now."""
        if session.turn != self._turn:
            session.turn = self._turn
            session.spent = 0
        if session.unread > UNREAD_MAX:
            return 0
        under_way: int = sum([batch.left for batch in session.batches])
        room = min(SHARE_UNITS - session.spent, session.window - under_way)
        return room if wanted <= SMALL else min(room, self._units)

    def _charge(self, session: Session, units: int) -> None:
        if session.turn != self._turn:
            session.turn = self._turn
            session.spent = 0
        session.spent += units
        self._units -= units

    def _run_some(self, session: Session, requests: list[list[bytes]]) -> list[list[bytes]] | None:
        """Run requests up to a change of the protocol, or until the session's share is used up; what is left then."""
        if self.monitors.watched and not self._showing:
            return self._run_shown(session, requests)
        batch = Batch(self, session, requests)
        session.batches.append(batch)
        self.commands += len(requests)
        replies = batch.replies
        home = self._home
        done = changed = 0
        at_once = home.somewhere_alone
        if at_once and session.ordinary and not session.written and not session.reading:
            clock = self._clock
            rows = UNDATED if clock.skew_ms else AT_ONCE
            done, last, changed = run_alone(
                self._view.copies, home, rows, requests, 0, replies, clock.cluster_ms, CHANGED_BYTES_MAX
            )
            if last is not None:
                session.last = last
                batch.left -= done
                if changed > CHANGED_BYTES_MAX:
                    self._charge(session, SHARE_UNITS)
                    return self._break_here(session, batch, done, requests)
                if not batch.left:
                    self.finished(session)
                    return None
        alone, timed = home.alone, home.timed
        cells_of, mask = self._view.copies.cells, self._view.mask
        written, reading = session.written, session.reading
        now, skew = self._clock.cluster_ms, self._clock.skew_ms
        ordinary = session.ordinary
        command = session.last
        write = self._coordinator.write
        tracks = aside = False
        """Its client is to be told of changes; the home runs what it asks for, whoever that is."""
        for index, request in enumerate(requests):
            if at_once:
                if index < done:
                    continue
                if index > done and ordinary and not written and not reading:
                    done, changed = self._run_alone(session, batch, requests, index, changed)
                    if changed > CHANGED_BYTES_MAX:
                        return self._break_here(session, batch, done, requests)
                    if done > index:
                        command = session.last
                        continue
            if not ordinary:
                if self._must_wait(session, batch, index, requests):
                    return None
                if session.monitors and _of_keys(request):
                    if session.queue is not None:
                        session.queue.failed = True
                    batch.deliver(index, NO_REPLICA)
                    continue
                if session.queue is not None:
                    answer = self.queueing.take(session, request)
                    if answer is not None:
                        batch.deliver(index, answer)
                        continue
                if session.listens and not _may_listen(request):
                    batch.deliver(index, ReplyError(LISTENS.format(as_said(request[0][:128]).lower())))
                    continue
                ordinary = session.ordinary
                if session.tracker is not None:
                    aside, write = not session.tracker.bcast, partial(self._write_noted, session)
                    tracks = session.tracker.tracks = self._tracks(session, request)
                    if tracks and self._notes_first(session, batch, index, requests):
                        return None
                if session.database:
                    request = placed(request, session.database)
            command = SPELLED.get(request[0]) or find(request[0])
            if command is None:
                if request[0].lower() in NO_COMMANDS:
                    self._services.kill(session)
                    self._break_here(session, batch, index, requests)
                    return None
                batch.deliver(index, unknown(request))
                continue
            arity = command.arity
            if len(request) != arity if arity > 0 else len(request) < -arity:
                command.rejected += 1
                batch.deliver(index, arity_error(command))
                continue
            command.calls += 1
            kind = command.kind
            if kind is READ or kind is WRITE:
                if command.chance:
                    request = [*request, self._rng.randbytes(CHANCE_BYTES)]
                elif skew and command.dated is not None:
                    request = command.dated(request, skew)
                    command = find(request[0]) or command  # EXPIREAT is PEXPIREAT then
                if command.one_key:
                    key = request[1]
                    if b"{" in key and key.startswith(RECORD):
                        batch.deliver(index, RESERVED)
                        continue
                else:
                    keys = keys_of(command, request)
                    if not keys:
                        batch.deliver(index, self._without_keys(command, request))
                        continue
                    if any(key.startswith(RECORD) for key in keys):
                        batch.deliver(index, RESERVED)
                        continue
                    waits = _waits_for(command, request) if command.blocks is not None else None
                    if waits is not None:
                        if self._barrier(session, command, batch, index, requests):
                            return None
                        return self._wait(session, waits, batch, index, requests)
                    if len({slot_of(key, mask) for key in keys}) > 1 or (
                        command.wanders is not None and command.wanders(request)
                    ):
                        if self._barrier(session, command, batch, index, requests):
                            return None
                        self.queueing.across(command, request, keys, batch, index)
                        if self._stands(session, batch, index, requests):
                            return None
                        continue
                    key = keys[0]
                number = slot_of(key, mask) if b"{" in key else crc_hqx(key, 0) & mask  # `slot_of` in line
                if alone[number] and not aside and number not in written and number not in reading:
                    if timed[number]:
                        reply = home.apply_alone(number, command.run, request, now)  # type: ignore[arg-type]
                    else:
                        try:
                            changes, reply = command.run(cells_of[number], request, now)  # type: ignore[misc]
                            if changes:
                                changed += home.change_alone(number, changes)
                        except Exception as error:
                            reply = fault(request, error)
                    replies[index] = reply
                    batch.left -= 1
                    if changed > CHANGED_BYTES_MAX:
                        self._charge(session, SHARE_UNITS)
                        return self._break_here(session, batch, index + 1, requests)
                elif kind is READ:
                    if number in reading and self._cuts_in(session, number, by_home=tracks or self._notices.misses):
                        command.calls -= 1
                        self._stall(session, batch, index, requests)
                        return None
                    if tracks:
                        self._read_tracked(session, number, command, request, batch, batch, index)
                    else:
                        self._read(session, number, command, request, batch, batch, index)
                elif number in reading and self._is_read(session, number):
                    command.calls -= 1
                    self._stall(session, batch, index, requests)
                    return None
                else:
                    before = written.get(number, 0)
                    written[number] = write(number, request, batch, index, before)
                    session.last_slot = number
            else:
                goes_on, rest = self._run_other(session, command, request, batch, index, requests)
                if not goes_on:
                    return rest
                ordinary = session.ordinary
        session.last = command
        if not batch.left:
            self.finished(session)
        return None

    def _run_shown(self, session: Session, requests: list[list[bytes]]) -> list[list[bytes]] | None:
        """As `_run_some`, one by one: what was run is shown to those who monitor, and what could not be run is not."""
        self._showing = True
        for index, request in enumerate(requests):
            queue, closing = session.queue, session.closing
            left = self._run_some(session, [request])
            waits = bool(left) or (session.held and bool(session.backlog) and session.backlog[0] is request)
            if not waits and not closing:
                self._show(session, request, queue)
            rest = requests[index if left else index + 1 :]
            if session.held:
                session.backlog += rest
                rest = []
            if left is not None or session.held or session.closing:
                self._showing = False
                return rest or None
        self._showing = False
        return None

    def _show(self, session: Session, request: list[bytes], queue: Queue | None) -> None:
        """A command was run, or queued in that."""
        if queue is None or queue is not session.queue:
            if queue is not None and not queue.failed and request[0].upper() == b"EXEC":
                self.monitors.show_all(session, queue)
            self.monitors.show(session, request)
        elif find(request[0]) in NEVER_QUEUED:
            self.monitors.show(session, request)

    def _run_alone(
        self, session: Session, batch: Batch, requests: list[list[bytes]], first: int, changed: int
    ) -> tuple[int, int]:
        """Run requests from the `first` one on up to one that is not usual, on slots of which we are the only owner.
        Returns its place, and how many bytes of values the batch has written by then, `changed` with them."""
        clock = self._clock
        rows = UNDATED if clock.skew_ms else AT_ONCE
        room = CHANGED_BYTES_MAX - changed
        done, last, written = run_alone(
            self._view.copies, self._home, rows, requests, first, batch.replies, clock.cluster_ms, room
        )
        if last is not None:
            session.last = last
            batch.left -= done - first
            if written > room:
                self._charge(session, SHARE_UNITS)
        return done, changed + written

    def _run_other(
        self,
        session: Session,
        command: Command,
        request: list[bytes],
        batch: Batch,
        index: int,
        requests: list[list[bytes]],
    ) -> tuple[bool, list[list[bytes]] | None]:
        """Run a command of the connection, of many slots, or of all of them. Returns whether the batch goes on, and, if
        it does not, what is left to be run."""
        kind = command.kind
        if kind is Kind.SESSION and not _asks_cluster(request):
            protocol = session.protocol
            by_itself = command.name in BY_ITSELF
            if by_itself and self._barrier(session, command, batch, index, requests):
                return False, None
            if command.name in ("publish", "spublish"):
                kind_ = CHANNELS if command.name == "publish" else SHARDS
                self.channels.publish(kind_, request[1], request[2], batch, index)
                return True, None
            reply = self._run_session(session, command, request, batch, index)
            if session.protocol != protocol or by_itself:  # in the new one; and before any message that follows
                session.become()
                self._truncate(batch, index)
                if not batch.left:
                    self.finished(session)
                answer = Batch(self, session, [request])
                answer.silent = {0} if batch.silent and index in batch.silent else None
                session.batches.append(answer)
                answer.deliver(0, reply)
                return False, requests[index + 1 :]
            batch.deliver(index, reply)
            if session.closing:
                self._break_here(session, batch, index + 1, requests)
                return False, None
            self._charge(session, self._cost(command, request) + size_of_reply(reply) // BYTES_PER_UNIT)
            if session.spent >= SHARE_UNITS:
                return False, self._break_here(session, batch, index + 1, requests)
        elif kind is Kind.SPREAD and any(key.startswith(RECORD) for key in keys_of(command, request)):
            batch.deliver(index, RESERVED)
        elif kind is Kind.SPREAD and self._is_atomic(request, command):
            if self._barrier(session, command, batch, index, requests):
                return False, None
            self.queueing.across(command, request, keys_of(command, request), batch, index)
            if self._stands(session, batch, index, requests):
                return False, None
        elif kind is Kind.SPREAD:
            if len(request) > PIECE_ARGUMENTS and not (len(request) - 1) % command.keys[2]:
                if session.reading or ("write" in command.flags and self._follows(session, batch, index)):
                    command.calls -= 1
                    self._stall(session, batch, index, requests)
                    return False, None
                session.spreading = Spreading(self, session, command, request, batch, index)
                self._stall(session, batch, index + 1, requests)
                session.ordered = False
                self.go_on(session)
                return False, None
            if not self._spread(session, command, request, batch, index):
                command.calls -= 1
                self._stall(session, batch, index, requests)
                return False, None
        else:
            if self._barrier(session, command, batch, index, requests):
                return False, None
            if command.name == "exec":
                self.queueing.execute(session, batch, index)
            elif command.name == "watch":
                self.queueing.watch(session, request, batch, index)
            elif kind is Kind.SCRIPT:
                if session.database:
                    request = requests[index]  # its keys are put in their place when it is known
                running = self.queueing.run_script(session, command, request, batch, index)
                self._operations.start(self._clock.now, running)
            else:
                self._charge(session, SHARE_UNITS)
                self._operations.start(self._clock.now, self._whole.run(command.name, session, request, batch, index))
            if self._stands(session, batch, index, requests):
                return False, None
        return True, None

    def _is_atomic(self, request: Sequence[bytes], command: Command) -> bool:
        """Whether a command of many slots is to take effect at one moment."""
        if not self._services.settings.atomic_multi_key:
            return False
        return len(set(map(self._view.slot_of, keys_of(command, request)))) > 1

    def _wait(
        self, session: Session, waits: Waits, batch: Batch, index: int, requests: list[list[bytes]]
    ) -> list[list[bytes]] | None:
        """Run a command that may wait: what was asked for before it is answered now. Returns what is behind it, if it
        does not wait."""
        rest = self._break_here(session, batch, index, requests)[1:]
        answer = Batch(self, session, requests[index : index + 1])
        answer.silent = {0} if batch.silent and index in batch.silent else None
        self.commands += 1
        session.batches.append(answer)
        if session.tracker is not None:
            self._attach(session, answer, 0)
        self._operations.start(self._clock.now, self.blocking.run(session, waits, answer, 0))
        if not answer.left:
            return rest
        session.held = session.ordered = True
        session.backlog = rest
        return None

    def _barrier(
        self, session: Session, command: Command, batch: Batch, index: int, requests: list[list[bytes]]
    ) -> bool:
        """Whether a command must wait until all before it has ended."""
        if not self._follows(session, batch, index):
            return False
        command.calls -= 1
        self._stall(session, batch, index, requests)
        return True

    def _stands(self, session: Session, batch: Batch, index: int, requests: list[list[bytes]]) -> bool:
        """Whether what is behind a command must wait, as that has not ended."""
        if batch.left <= len(batch.replies) - index - 1:
            return False
        self._stall(session, batch, index + 1, requests)
        return True

    def _run_queued(self, session: Session, command: Command, request: Sequence[bytes]) -> Reply:
        """A command of the connection that was queued."""
        batch = Batch(self, session, [request])
        return self._run_session(session, command, request, batch, 0)

    def break_off(self, session: Session, error: str) -> None:
        """Input of the client cannot be read any further: say so behind what was asked for before, and close."""
        if session.held:
            session.fault = error
        elif not session.closing:
            session.closing = True
            batch = Batch(self, session, [(b"",)])
            session.batches.append(batch)
            batch.deliver(0, ReplyError(error))

    def finished(self, session: Session) -> None:
        """A batch has all its replies: send what is in order."""
        batches = session.batches
        while batches and not batches[0].left and session.unread <= UNREAD_MAX:
            batch = batches[0]
            replies, requests = batch.replies, batch.requests
            kinds = set(map(type, replies))
            count = len(replies)
            if (count >= MEASURED_REPLIES and kinds & MEASURED) or kinds & LISTS:
                if kinds <= SHORT_OR_BYTES:
                    size = sum([len(reply) for reply in replies if type(reply) is bytes])
                else:
                    size = size_of_replies(replies)
                if size > PORTION_BYTES:
                    replies, requests = self._portion(batch)
                    count = len(replies)
            if ReplyError in kinds:
                for reply, request in zip(replies, requests, strict=False):
                    if type(reply) is ReplyError:
                        self.errors[reply.text.split(" ", 1)[0]] += 1
                        row = find(request[0])
                        if row is not None:
                            row.errors += 1
            encoded = encode_all(replies, batch.protocol) if batch.silent is None else batch.encoded()
            if replies is batch.replies or not batch.replies:
                batches.popleft()
            if encoded:
                self.replies.append((session, encoded))
                session.unread += len(encoded)
                if count >= WINDOW_FROM or session.unread > UNREAD_MAX:
                    fitting = WINDOW_BYTES * count // len(encoded)
                    session.window = max(1, min(2 * session.window, fitting, WINDOW_MAX))
            if batch.told is not None and (not batches or batches[0] is not batch):
                told, batch.told = batch.told, None
                self.tracking.replied(session, told)
        if not batches:
            session.written.clear()
            session.reading.clear()
            if session.closing:
                self.closing.append(session)
        elif len(session.reading) > UNDER_WAY_MAX or len(session.written) > UNDER_WAY_MAX:
            pending = self._coordinator.pending
            for number in [number for number, under in session.reading.items() if not under[0].left]:
                del session.reading[number]
            for number in [number for number, ticket in session.written.items() if ticket not in pending]:
                del session.written[number]
        if session.held:
            self.go_on(session)

    def _portion(self, batch: Batch) -> tuple[list[Reply], Sequence[Sequence[bytes]]]:
        """Take some MiB of a batch's replies out of it, with the requests that they are for. A reply that is too large
        for any client is an error."""
        if batch.silent is not None:
            heard = [index for index in range(len(batch.replies)) if index not in batch.silent]
            batch.replies = [batch.replies[index] for index in heard]
            batch.requests = [batch.requests[index] for index in heard]
            batch.silent = None
        most = self._services.settings.client_output_bytes_max
        portion: list[Reply] = []
        size = 0
        for reply in batch.replies:
            own = size_of_reply(reply)
            if own > most:
                reply = ReplyError(f"ERR the reply would be of {own} bytes, at most {most} are allowed")
                own = 0
            portion.append(reply)
            size += own
            if size > PORTION_BYTES:
                break
        del batch.replies[: len(portion)]
        requests, batch.requests = batch.requests[: len(portion)], batch.requests[len(portion) :]
        return portion, requests

    def _push(self, session: Session, data: bytes) -> None:
        """Send a client what it has not asked for."""
        self.replies.append((session, data))
        self.pushed = True
        session.unread += len(data)

    def joined(self) -> list[tuple[Session, bytes]]:
        """The replies, all that is for one client as one: each is a call of the system to send it."""
        parts: dict[Session, list[bytes]] = {}
        for session, data in self.replies:
            own = parts.get(session)
            if own is None:
                parts[session] = [data]
            else:
                own.append(data)
        return [(session, b"".join(own)) for session, own in parts.items()]

    def _cut_off(self, session: Session, why: str) -> None:
        self._services.tell("warning", f"client {session.address} is closed: {why}")
        self._services.kill(session)

    def wrote(self, session: Session) -> None:
        """The client has read of what it was sent: `session.unread` is no longer above `UNREAD_MAX`."""
        self.finished(session)

    # -- backlogs

    def go_on(self, session: Session) -> None:
        """See whether a session's backlog can be run further, now or in the next turn; whatever stands in its way
        comes here again when it has gone."""
        if session.queued or not session.held or session.stopped:
            return
        spreading = session.spreading
        if session.ordered:
            if session.batches:
                return
        elif session.unread > UNREAD_MAX or (
            spreading.under_way >= PIECES_OPEN_MAX
            if spreading is not None
            else sum([batch.left for batch in session.batches]) >= session.window
        ):
            return
        session.queued = True
        has_had_its_share = session.turn == self._turn and session.spent >= SHARE_UNITS
        (self._next if has_had_its_share else self._resumable).append(session)

    def end_turn(self) -> None:
        """Everybody has a share again, first those that have a backlog."""
        self._turn += 1
        self._units = TURN_UNITS
        self.blocking.asked = 0
        if self.monitors.has_lines:
            self.monitors.end_turn()
        if self.tracking.at_hand:
            self.tracking.end_turn()
        if self._next:
            self._resumable += self._next
            self._next = []

    @property
    def waits(self) -> bool:
        """Whether there is something to run in the next turn."""
        return bool(self._resumable or self._next or self.blocking.queue) and not self._coordinator.crowded

    def resume(self) -> bool:
        """Go on with sessions that have a backlog, as far as this turn allows; whether anything was run."""
        resumed = bool(self.blocking.queue) and self.blocking.go_on()
        if not self._resumable or self._coordinator.crowded:
            return resumed
        sessions, self._resumable = self._resumable, []
        for session in sessions:
            if self._units <= 0 and (len(session.backlog) > SMALL or session.spreading is not None):
                self._resumable.append(session)
                continue
            session.queued = False
            if session.closing:
                session.spreading = None
                continue
            if not session.held or (session.ordered and session.batches):
                continue
            resumed = True
            session.held = session.ordered = False
            if session.spreading is not None and not self._spread_on(session, session.spreading):
                session.held = True
                self.go_on(session)
                continue
            requests, session.backlog = session.backlog, []
            if requests:
                self._run(session, requests)
            if not session.held:
                if session.paused:
                    session.paused = False
                    self.holds.append((session, False))
                if session.fault:
                    self.break_off(session, session.fault)
        return resumed

    def _follows(self, session: Session, batch: Batch, index: int) -> bool:
        """Whether something that came before this is under way."""
        return session.batches[0] is not batch or batch.left > len(batch.replies) - index

    def _stall(self, session: Session, batch: Batch, index: int, requests: list[list[bytes]]) -> None:
        """The rest has to wait until all before it has ended."""
        session.held = session.ordered = True
        if session.voice is Voice.SPEAKS and index < len(requests) and batch.silent and index in batch.silent:
            session.become(voice=Voice.SKIPS)
        session.backlog = self._break_here(session, batch, index, requests)

    def _break_here(self, session: Session, batch: Batch, index: int, requests: list[list[bytes]]) -> list[list[bytes]]:
        """A batch ends before its end; what is left."""
        rest = requests[index:]
        self.commands -= len(rest)
        self._truncate(batch, index)
        if not batch.left:
            self.finished(session)
        return rest

    def _truncate(self, batch: Batch, count: int) -> None:
        if batch.told is not None and batch.session.tracker is not None:
            self._detach(batch, count)
        batch.left -= len(batch.replies) - count
        del batch.replies[count:]

    # -- clients that are paused

    def pause(self, milliseconds: int, writes_only: bool) -> None:
        """Have clients wait with what they ask for, or only with what writes, for so long. Of two pauses the longer and
        the stricter one holds."""
        until = self._clock.now + milliseconds / 1000
        if self._pause is not None:
            until, writes_only = max(until, self._pause[0]), writes_only and self._pause[1]
        self._pause = until, writes_only
        for session in self._services.sessions.values():
            session.become(gated=True)
        if not self._awaits_unpause:
            self._awaits_unpause = True
            self._operations.start(self._clock.now, self._await_unpause())

    def unpause(self) -> None:
        """Go on with what was held up."""
        self._pause = None
        for session in self._services.sessions.values():
            session.become(gated=False)
            if session.stopped:
                session.stopped = False
                self.go_on(session)

    def opened(self, session: Session) -> None:
        """A client has connected."""
        if self._pause is not None:
            session.become(gated=True)

    def _await_unpause(self) -> Operation:
        while self._pause is not None and self._clock.now < self._pause[0]:
            yield Pause(min(self._pause[0] - self._clock.now, PAUSE_LOOK_S))
        self._awaits_unpause = False
        self.unpause()

    # -- one command

    def _must_wait(self, session: Session, batch: Batch, index: int, requests: list[list[bytes]]) -> bool:
        """The next command of a connection that is no ordinary one: whether it must wait, with all behind it."""
        pause = self._pause
        if (
            session.gated
            and pause is not None
            and (_is_gated(requests[index], writes_only=pause[1]) or _executes_writes(session, requests[index]))
        ):
            session.stopped = True
            self._stall(session, batch, index, requests)
            return True
        if session.voice is not Voice.SPEAKS:
            batch.silent = {*(batch.silent or ()), index}
        if session.voice is Voice.SKIPS:
            session.become(voice=Voice.SPEAKS)
        return False

    def _without_keys(self, command: Command, request: Sequence[bytes]) -> Reply:
        """A request that should have keys, and has none, is wrong, or asks for help: it is run for that."""
        if command.subcommands:
            subcommand = subcommand_of(command, request)
            if isinstance(subcommand, ReplyError):
                return subcommand
        assert command.run is not None, "READ and WRITE commands can be run"
        return reply_of(command.run, {}, request, self._clock.cluster_ms)

    def _is_read(self, session: Session, number: int) -> bool:
        """Whether a read of that slot is under way for this client, as far as is remembered."""
        whole, turn = session.reading[number]
        return whole.left > 0 and (turn != OPERATION or session.written.get(number, 0) in self._coordinator.pending)

    def _cuts_in(self, session: Session, number: int, *, by_home: bool = False) -> bool:
        """Whether a read of that slot sent now could be answered before one that is under way, if that must be asked
        again (protocol rule R4): they are not of one bunch, and no write is before both of them. `by_home`: it would be
        an operation."""
        if not self._is_read(session, number):
            return False
        coordinator = self._coordinator
        turn = session.reading[number][1]
        if by_home:
            return turn != OPERATION
        return turn != OPERATION and (turn != coordinator.reads.turn or not coordinator.reads.bunches(number))

    def _read(
        self,
        session: Session,
        number: int,
        command: Command,
        request: Sequence[bytes],
        whole: Sink,
        sink: Sink,
        index: int,
    ) -> None:
        """`whole`: what the reply becomes a part of; the read is under way as long as something is left of that."""
        coordinator = self._coordinator
        after = session.written.get(number, 0)
        if (after and after in coordinator.pending) or self._notices.misses:
            session.written[number] = coordinator.write(number, request, sink, index, after, reads=True)
            session.reading[number] = whole, OPERATION
            return
        assert command.run is not None, "READ commands can be run"
        if session.any_copy and self._view.topology is not None and not self._view.reachable(number):
            coordinator.reads.read_any_copy(number, request, command.run, sink, index)
            session.reading[number] = whole, ALONE
            return
        keys = None if command.one_key else keys_of(command, request)
        together = coordinator.reads.read(number, request, command.run, self._clock.cluster_ms, sink, index, keys)
        session.reading[number] = whole, coordinator.reads.turn if together else ALONE

    # -- clients that track

    def _tracks(self, session: Session, request: list[bytes]) -> bool:
        """Whether the next command of a client that tracks reads what it is to be told of."""
        row = find(request[0])
        if row is None or row.name == "client":
            return False
        wants: bool = session.tracker.wants(session, request)
        if row.name == "exec" and session.queue is not None:
            return wants and any(_reads_keys(queued) for queued, _, _ in session.queue.commands)
        return wants and _reads_keys(row)

    def _write_noted(
        self, session: Session, number: int, request: Sequence[bytes], sink: Sink, index: int, after: int = 0
    ) -> int:
        """As `Coordinator.write`, for a client that is told of changes by others otherwise than of its own."""
        ticket = self._coordinator.write(number, request, sink, index, after)
        if session.tracker is not None:
            session.tracker.note(ticket)
        return ticket

    def _read_tracked(
        self,
        session: Session,
        number: int,
        command: Command,
        request: Sequence[bytes],
        batch: Batch,
        sink: Sink,
        index: int,
    ) -> None:
        """A read as an operation, whose keys the home notes when it runs it."""
        keys = request[1:2] if command.one_key else keys_of(command, request)
        noted = not session.any_copy or self._view.topology is None or self._view.reachable(number)
        reading = self.tracking.begin(session, number, keys, sink, index, noted=noted)
        batch.told = [*(batch.told or ()), reading]
        if noted:
            self._send_tracked(session, number, request, reading, batch)
        else:
            self._read(session, number, command, request, batch, reading, 0)

    def _send_tracked(
        self, session: Session, number: int, request: Sequence[bytes], reading: Reading, batch: Batch
    ) -> None:
        after = session.written.get(number, 0)
        asked = tracked_request(request)
        session.written[number] = self._coordinator.write(number, asked, reading, 0, after, reads=True)
        session.reading[number] = batch, OPERATION

    def _notes_first(self, session: Session, batch: Batch, index: int, requests: list[list[bytes]]) -> bool:
        """Have homes note the keys of a request that is no operation of one slot, before it is run: what changes in
        between is told of behind its reply. Whether it must wait for that."""
        request = requests[index]
        if self._attach(session, batch, index):
            return False
        row = find(request[0])
        assert row is not None, "it reads"
        if len(request) != row.arity if row.arity > 0 else len(request) < -row.arity:
            return False
        slots: dict[int, list[bytes]] = {}
        for key in self._keys_read(session, row, request):
            slots.setdefault(self._view.slot_of(key), []).append(key)
        if row.kind is READ:
            wanders = row.wanders is not None and row.wanders(request)
            if len(slots) == 1 and not wanders and row.blocks is None:
                return False
        elif row.kind is Kind.SPREAD and len(request) <= PIECE_ARGUMENTS and not self._is_atomic(request, row):
            return False
        if not slots:
            return False
        self._stall(session, batch, index, requests)
        ahead = Batch(self, session, [request] * len(slots))
        ahead.silent = set(range(len(slots)))
        session.batches.append(ahead)
        session.tracker.noted = request
        for place, (number, keys) in enumerate(slots.items()):
            reading = self.tracking.begin(session, number, keys, ahead, place)
            session.tracker.notes.append(reading)
            self._send_tracked(session, number, look_request(keys), reading, ahead)
        return True

    def _keys_read(self, session: Session, row: Command, request: list[bytes]) -> dict[bytes, None]:
        if row.name != "exec" or session.queue is None:
            return dict.fromkeys(keys_of(row, placed(request, session.database)))
        return {
            key: None
            for queued, asked, database in session.queue.commands
            if _reads_keys(queued)
            for key in keys_of(queued, placed(asked, database))
        }

    def _attach(self, session: Session, batch: Batch, index: int) -> bool:
        """Whether the keys of a request have been noted: what comes of that is seen to when it is answered."""
        tracker: Tracker = session.tracker
        if tracker.noted is not batch.requests[index]:
            return False
        for reading in tracker.notes:
            reading.ahead_of = index
        batch.told = [*(batch.told or ()), *tracker.notes]
        tracker.noted, tracker.notes = None, []
        return True

    def _detach(self, batch: Batch, count: int) -> None:
        """... and not with this batch, if it ends before that."""
        tracker: Tracker = batch.session.tracker
        kept: list[Told] = []
        for told in batch.told or ():
            if isinstance(told, Reading) and told.ahead_of >= count:
                tracker.noted = batch.requests[told.ahead_of]
                tracker.notes.append(told)
            else:
                kept.append(told)
        batch.told = kept or None

    def _cost(self, command: Command, request: Sequence[bytes]) -> int:
        """What a command of the connection costs, in units; see `TURN_UNITS`."""
        units = COSTS.get(command.name, 1) + len(request)
        if command.name == "client" and request[1].upper() in (b"LIST", b"KILL"):
            units += len(self._services.sessions) // SESSIONS_PER_UNIT
        return units

    def _spread_on(self, session: Session, spreading: Spreading) -> bool:
        """Run pieces of a command of many keys; whether all of it is under way."""
        while spreading.at < len(spreading.request):
            if spreading.under_way >= PIECES_OPEN_MAX or self._room(session, PIECE_ARGUMENTS) <= 0:
                return False
            self._charge(session, PIECE_ARGUMENTS // 2)
            piece, place = spreading.next_piece()
            begun = self._spread(session, spreading.command, piece, spreading, place, join=list)
            assert begun, "a command that writes is begun when no read is under way"
        session.spreading = None
        return True

    def _spread(
        self,
        session: Session,
        command: Command,
        request: Sequence[bytes],
        sink: Sink,
        index: int,
        join: Callable[[list[Reply]], Reply] | None = None,
    ) -> bool:
        """Send the parts of a command of many slots; False if one must wait for an earlier read of its slot. `join`: it
        is a piece of a command, which has waited already."""
        spread = command.spread
        assert spread is not None, "SPREAD commands can be split"
        aside = session.tracker is not None and not session.tracker.bcast
        tracks = aside and join is None and session.tracker.tracks
        split = spread.split(request)
        if isinstance(split, ReplyError):
            sink.deliver(index, split)
            return True
        parts = [(self._view.slot_of(key), part) for key, part in split]
        part_command = find_part(parts[0][1][0])
        assert part_command is not None, "parts are requests of the table"
        if part_command.kind is WRITE:
            if any(number in session.reading and self._is_read(session, number) for number, _ in parts):
                return False
            if spread.merge is not None:
                merged: dict[int, list[list[bytes]]] = {}
                for number, part in parts:
                    merged.setdefault(number, []).append(part)
                parts = [(number, spread.merge(group)) for number, group in merged.items()]
        elif join is None and any(
            number in session.reading and self._cuts_in(session, number, by_home=tracks or self._notices.misses)
            for number, _ in parts
        ):
            return False
        gather = Gather(len(parts), join or spread.join, sink, index)
        for place, (number, part) in enumerate(parts):
            if (
                self._home.alone[number]
                and not aside
                and number not in session.written
                and number not in session.reading
            ):
                gather.deliver(place, self._home.apply_alone(number, part_command.run, part, self._clock.cluster_ms))  # type: ignore[arg-type]
            elif part_command.kind is READ and tracks:
                assert isinstance(sink, Batch), "it is no piece of a command"
                self._read_tracked(session, number, part_command, part, sink, gather, place)
            elif part_command.kind is READ:
                self._read(session, number, part_command, part, sink, gather, place)
            else:
                before = session.written.get(number, 0)
                session.written[number] = self._write_noted(session, number, part, gather, place, before)
                session.last_slot = number
        return True

    def _run_session(
        self, session: Session, command: Command, request: Sequence[bytes], batch: Batch, index: int
    ) -> Reply:
        reply: Reply = None
        session.last = command
        if command.subcommands and len(request) > 1:
            subcommand = subcommand_of(command, request)
            if isinstance(subcommand, ReplyError):
                return subcommand
            if subcommand.name.endswith("|help"):
                return help_of(command)
            session.subcommand = subcommand.name
            self.observed.subcommands[subcommand.name] += 1
            if subcommand.name in SUBCOMMANDS:
                return self.tracking.run(session, request)
        if command.name in ("multi", "discard", "unwatch"):
            return self.queueing.run_at_once(session, command.name)
        if command.name in VERBS:
            return self.channels.subscribe(session, VERBS[command.name], request[1:])
        if command.name in UNVERBS:
            return self.channels.unsubscribe(session, UNVERBS[command.name], request[1:])
        if command.name == "monitor":
            if session.monitors:
                batch.silent = {*(batch.silent or ()), index}
                return OK
            self.monitors.begin(session, everywhere=False)
            return OK
        if command.name == "ping" and session.listens and len(request) <= 2:
            return [b"pong", request[1] if len(request) == 2 else b""]
        if command.name == "reset":
            self.queueing.forget(session)
            self.channels.forget(session)
            self.monitors.forget(session)
            self.tracking.forget(session)
        reply = run_session(self._services, session, command, request)
        if reply is NO_REPLY:
            batch.silent = {*(batch.silent or ()), index}
        elif session.aloud:
            session.aloud = False
            if batch.silent:
                batch.silent.discard(index)
        return reply


def _waits_for(command: Command, request: Sequence[bytes]) -> Waits | None:
    """What a request waits for as long as there is nothing; one that is wrong does not wait."""
    assert command.blocks is not None, "it is one that may wait"
    try:
        return command.blocks(request)
    except CommandError:
        return None


def _may_listen(request: Sequence[bytes]) -> bool:
    """Whether a connection that has subscribed, and speaks RESP2, may ask for that."""
    row = find(request[0])
    return row is None or row.name in LISTENING or row.name in ("ping", "quit", "reset")


def _reads_keys(row: Command) -> bool:
    """Whether a client that tracks is told of the keys of a command; a script may read those that it names."""
    return row.kind is Kind.SCRIPT or "readonly" in row.flags


def _of_keys(request: Sequence[bytes]) -> bool:
    """Whether a request is for keys."""
    row = find(request[0])
    return row is not None and not row.flags.isdisjoint(OF_KEYS)


def _is_gated(request: Sequence[bytes], *, writes_only: bool) -> bool:
    """Whether a pause holds a request up. Who looks after the cluster, or ends the pause, is let through."""
    row = find(request[0])
    if row is None:
        return not writes_only
    if row.name == "peerkv" or (row.name == "client" and len(request) > 1 and request[1].upper() == b"UNPAUSE"):
        return False
    if not writes_only:
        return True
    facts = named(b"|".join(request[:2])) if row.subcommands else row.facts
    return facts is not None and ("write" in facts.flags or row.name in SCRIPTS)


def _executes_writes(session: Session, request: Sequence[bytes]) -> bool:
    """Whether this is the EXEC of something that a pause of writes holds up."""
    return (
        session.queue is not None
        and request[0].upper() == b"EXEC"
        and any(_is_gated(queued, writes_only=True) for _, queued, _ in session.queue.commands)
    )


def _asks_cluster(request: Sequence[bytes]) -> bool:
    """Whether this CLUSTER command is a question to the owners of a slot."""
    if request[0].upper() != b"CLUSTER" or len(request) < 3:
        return False
    subcommand = request[1].upper()
    return (subcommand == b"COUNTKEYSINSLOT" and len(request) == 3) or (
        subcommand == b"GETKEYSINSLOT" and len(request) == 4
    )
