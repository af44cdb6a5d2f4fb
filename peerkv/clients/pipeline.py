"""A client's commands at this node: which way each goes, in what order, and one reply for each, in its place.

Commands of one client run as if one after another, although all that a buffer held are under way at once. Only where
the order would show does one wait: for what `underway` says of its slot, or, if it concerns several slots or none,
until all that came before has ended. How much is run in a turn is a matter of `shares`, when it is answered one of
`outgoing`.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home, fault, reply_of
from peerkv.agreement.operation import Operations
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.clients.blocking import Blocking
from peerkv.clients.channels import VERBS, Channels
from peerkv.clients.connection import NO_REPLY
from peerkv.clients.connection import run as run_session
from peerkv.clients.monitoring import Monitors
from peerkv.clients.notifications import Notifications
from peerkv.clients.noting import Noting
from peerkv.clients.observed import Observed
from peerkv.clients.operating import Operating
from peerkv.clients.outgoing import Batch, Outgoing
from peerkv.clients.pausing import Pausing
from peerkv.clients.queueing import Queueing
from peerkv.clients.session import CHANNELS, PATTERNS, SHARDS, Services, Session, Voice
from peerkv.clients.shares import Shares
from peerkv.clients.spreading import PIECE_ARGUMENTS, Spreading
from peerkv.clients.tracking import SUBCOMMANDS, Tracking
from peerkv.clients.underway import UnderWay
from peerkv.clients.whole import Whole
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
    fits,
    help_of,
    keys_of,
    placed,
    subcommand_of,
    unknown,
)
from peerkv.commands.transactions import RESERVED
from peerkv.databases import RECORD
from peerkv.kernel.batches import run_alone
from peerkv.resp import OK, CommandError, Reply, ReplyError, as_said, size_of_reply
from peerkv.ring.keys import slot_of
from peerkv.transactions import Transactions

if TYPE_CHECKING:
    from random import Random

CHANGED_BYTES_MAX: Final = 8 << 20
"""Values that one client's commands write in a turn of a node by itself: APPEND to 60 MiB copies 60 MiB."""
COSTS: Final = {"info": 96, "command": 32, "client": 8, "cluster": 8, "config": 8, "hello": 4}
"""Units, beside one for every argument; of other commands of the connection it is one."""
SESSIONS_PER_UNIT: Final = 4
BYTES_PER_UNIT: Final = 1 << 13
"""Of what commands of the connection answer."""

READ, WRITE, SESSION = Kind.READ, Kind.WRITE, Kind.SESSION
UNVERBS: Final = {"unsubscribe": CHANNELS, "punsubscribe": PATTERNS, "sunsubscribe": SHARDS}
LISTENING: Final = frozenset({*VERBS, *UNVERBS})
BY_ITSELF: Final = LISTENING | {"monitor"}
"""What is answered once all before it is, as it is followed by what was not asked for."""
LISTENS: Final = (
    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)
NO_REPLICA: Final = ReplyError("ERR Replica can't interact with the keyspace")
"""What Redis says to who monitors, and is a kind of replica to it."""
OF_KEYS: Final = frozenset(("readonly", "write", "may_replicate"))
NO_COMMANDS: Final = (b"post", b"host:")
"""A browser was tricked into sending commands in the body of an HTTP request: it is cut off, as by Redis."""
GOES_ON, ANSWERED, WAITS = range(3)
"""What has become of a command before it was run."""


class Dispatcher:
    """Runs clients' requests. Its engines are for the node, too."""

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
        self.commands = 0
        self.observed = Observed()
        self._services = services
        self._view = view
        self._operations = operations
        self._home = home
        self._coordinator = coordinator
        self._clock = services.clock
        self._rng = rng
        self._showing = False
        """What is run is shown to those who monitor."""
        self._under_way = UnderWay(services.clock, view, home, coordinator)
        self.outgoing = Outgoing(services, self._under_way)
        self.shares = Shares(coordinator, self.outgoing, self._run_some)
        self.outgoing.on_room = self.shares.go_on
        self.pausing = Pausing(services, operations, self.shares.go_on)
        self.queueing = Queueing(services, view, coordinator, transactions, rng, operations, self._run_queued)
        self.blocking = Blocking(services, view, home, coordinator, transactions)
        home.on_woken = self.blocking.woken
        home.on_astray = self.blocking.astray
        self.channels = Channels(services, view, self.outgoing)
        self.notifications = Notifications(services, view, home, self.channels.publish)
        self.queueing.publish = transactions.publish = self.channels.publish
        self.monitors = Monitors(services, view, self.outgoing)
        self.tracking = Tracking(services, view, home, coordinator, self.outgoing)
        self.outgoing.on_answered = self.tracking.replied
        self._noting = Noting(view, coordinator, self.outgoing, self._under_way, self.tracking)
        self._spreading = Spreading(services.clock, view, home, self._under_way, self._noting, self.shares)
        self._whole = Whole(
            services,
            view,
            replica,
            coordinator,
            rng,
            self.queueing.scripts,
            self.channels,
            Operating(services, view, replica, self.monitors),
            transactions.all_shown,
            self.tracking.flush,
        )
        transactions.list_keys = self._whole.matching

    # -- turns

    @property
    def waits(self) -> bool:
        """Whether there is something to run in the next turn."""
        return (self.shares.waits or bool(self.blocking.queue)) and not self._coordinator.crowded

    def resume(self) -> bool:
        """Go on with what waits, as far as this turn allows; whether anything was run."""
        woken = bool(self.blocking.queue) and self.blocking.go_on()
        return (self.shares.waits and self.shares.resume()) or woken

    def end_turn(self) -> None:
        """What is to be done once in a turn."""
        self.shares.end_turn()
        self.blocking.asked = 0
        if self.monitors.lines:
            self.monitors.end_turn()
        if self.tracking.at_hand:
            self.tracking.end_turn()

    # -- a client's buffer

    def _run_some(self, session: Session, requests: list[list[bytes]]) -> list[list[bytes]] | None:
        """Run requests up to a change of the protocol, or until the session's share is used up; what is left then."""
        if self.monitors.watched and not self._showing:
            return self._run_shown(session, requests)
        batch = Batch(self.outgoing, session, requests)
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
                    self.shares.charge(session)
                    return self._break_here(batch, done)
                if not batch.left:
                    self.outgoing.answer(session)
                    return None
        alone, timed = home.alone, home.timed
        cells_of, mask = self._view.copies.cells, self._view.mask
        written, reading = session.written, session.reading
        now, skew = self._clock.cluster_ms, self._clock.skew_ms
        ordinary = session.ordinary
        command = session.last
        under_way, write = self._under_way, self._coordinator.write
        tracks = aside = False
        """Its client is to be told of changes; the home runs what it asks for, whoever that is."""
        for index, request in enumerate(requests):
            if at_once:
                if index < done:
                    continue
                if index > done and ordinary and not written and not reading:
                    done, changed = self._run_alone(batch, index, changed)
                    if changed > CHANGED_BYTES_MAX:
                        return self._break_here(batch, done)
                    if done > index:
                        command = session.last
                        continue
            if not ordinary:
                became = self._look_at(batch, index)
                if became is WAITS:
                    return None
                if became is ANSWERED:
                    continue
                ordinary = session.ordinary
                if session.tracker is not None:
                    aside, write = not session.tracker.bcast, partial(self._noting.write, session)
                    tracks = session.tracker.tracks
                if session.database:
                    request = placed(request, session.database)
            command = SPELLED.get(request[0]) or find(request[0])
            if command is None:
                if request[0].lower() in NO_COMMANDS:
                    self._services.kill(session)
                    self._break_here(batch, index)
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
                    if not _is_of_one_slot(command, request, keys, mask):
                        goes_on, rest = self._run_across(command, request, keys, batch, index)
                        if not goes_on:
                            return rest
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
                        self.shares.charge(session)
                        return self._break_here(batch, index + 1)
                elif kind is READ:
                    if number in reading and under_way.cuts_in(session, number, by_home=tracks):
                        self._call_later(command, batch, index)
                        return None
                    if tracks:
                        self._noting.read(session, number, command, request, batch, batch, index)
                    else:
                        under_way.read(session, number, command, request, batch, batch, index)
                elif number in reading and under_way.is_read(session, number):
                    self._call_later(command, batch, index)
                    return None
                else:
                    before = written.get(number, 0)
                    written[number] = write(number, request, batch, index, before)
                    session.last_slot = number
            else:
                run = self._run_own if kind is SESSION else self._run_other
                goes_on, rest = run(command, request, batch, index)
                if not goes_on:
                    return rest
                ordinary = session.ordinary
        session.last = command
        if not batch.left:
            self.outgoing.answer(session)
        return None

    def _run_shown(self, session: Session, requests: list[list[bytes]]) -> list[list[bytes]] | None:
        """As `_run_some`, one by one: what was run is shown to those who monitor, and what could not be run is not."""
        self._showing = True
        for index, request in enumerate(requests):
            queue, closing = session.queue, session.closing
            left = self._run_some(session, [request])
            waits = bool(left) or (session.held and bool(session.backlog) and session.backlog[0] is request)
            if not waits and not closing:
                self.monitors.show(session, request, queue)
            rest = requests[index if left else index + 1 :]
            if session.held:
                session.backlog += rest
                rest = []
            if left is not None or session.held or session.closing:
                self._showing = False
                return rest or None
        self._showing = False
        return None

    def _run_alone(self, batch: Batch, first: int, changed: int) -> tuple[int, int]:
        """Run requests from the `first` one on up to one that is not usual, on slots of which we are the only owner.
        Returns its place, and how many bytes of values the batch has written by then, `changed` with them."""
        clock = self._clock
        rows = UNDATED if clock.skew_ms else AT_ONCE
        room = CHANGED_BYTES_MAX - changed
        done, last, written = run_alone(
            self._view.copies, self._home, rows, batch.requests, first, batch.replies, clock.cluster_ms, room
        )
        if last is not None:
            batch.session.last = last
            batch.left -= done - first
            if written > room:
                self.shares.charge(batch.session)
        return done, changed + written

    # -- what has to wait

    def _barrier(self, command: Command, batch: Batch, index: int) -> bool:
        """Whether a command must wait until all before it has ended."""
        if not self._follows(batch, index):
            return False
        self._call_later(command, batch, index)
        return True

    def _follows(self, batch: Batch, index: int) -> bool:
        """Whether something that came before this is under way."""
        return batch.session.batches[0] is not batch or batch.left > len(batch.replies) - index

    def _stands(self, batch: Batch, index: int) -> bool:
        """Whether what is behind a command must wait, as that has not ended."""
        if not batch.left or batch.left <= len(batch.replies) - index - 1:
            return False
        self._stall(batch, index + 1)
        return True

    def _call_later(self, command: Command, batch: Batch, index: int) -> None:
        """A command has to wait until all before it has ended."""
        command.calls -= 1
        self._stall(batch, index)

    def _stall(self, batch: Batch, index: int) -> None:
        """... and with it the rest of its batch."""
        session = batch.session
        session.held = session.ordered = True
        if session.voice is Voice.SPEAKS and index < len(batch.requests) and batch.is_hushed(index):
            session.become(voice=Voice.SKIPS)
        session.backlog = self._break_here(batch, index)

    def _break_here(self, batch: Batch, index: int) -> list[list[bytes]]:
        """A batch ends before its end; what is left."""
        rest = batch.requests[index:]
        self.commands -= len(rest)
        if batch.told is not None and batch.session.tracker is not None:
            self._noting.detach(batch, index)
        batch.end_at(index)
        return rest

    # -- one command

    def _look_at(self, batch: Batch, index: int) -> int:
        """What becomes of the next command of a connection that is no ordinary one, before it is run."""
        session, request = batch.session, batch.requests[index]
        if session.gated and self.pausing.holds_up(session, request):
            session.stopped = True
            self._stall(batch, index)
            return WAITS
        if session.voice is not Voice.SPEAKS:
            batch.hush(index)
        if session.voice is Voice.SKIPS:
            session.become(voice=Voice.SPEAKS)
        answer: Reply = None
        if session.monitors and _of_keys(request):
            if session.queue is not None:
                session.queue.failed = True
            answer = NO_REPLICA
        elif session.queue is not None:
            answer = self.queueing.take(session, request)
        if answer is None and session.listens and not _may_listen(request):
            answer = ReplyError(LISTENS.format(as_said(request[0][:128]).lower()))
        if answer is not None:
            batch.deliver(index, answer)
            return ANSWERED
        if session.tracker is not None:
            session.tracker.tracks = self._noting.reads(session, request)
            if session.tracker.tracks and self._note_first(batch, index):
                return WAITS
        return GOES_ON

    def _note_first(self, batch: Batch, index: int) -> bool:
        """Have homes note the keys that a request reads otherwise than as operations; whether it must wait for that."""
        session, request = batch.session, batch.requests[index]
        if self._noting.attach(session, batch, index):
            return False
        row = find(request[0])
        assert row is not None, "it reads"
        if not fits(row, request):
            return False
        slots = self._noting.keys_read(session, row, request)
        if row.kind is READ:
            wanders = row.wanders is not None and row.wanders(request)
            if len(slots) == 1 and not wanders and row.blocks is None:
                return False
        elif row.kind is Kind.SPREAD:
            atomic = self._services.settings.atomic_multi_key and len(slots) > 1
            if len(request) <= PIECE_ARGUMENTS and not atomic:
                return False
        if not slots:
            return False
        self._stall(batch, index)
        self._noting.note(session, request, slots)
        return True

    def _run_across(
        self, command: Command, request: list[bytes], keys: Sequence[bytes], batch: Batch, index: int
    ) -> tuple[bool, list[list[bytes]] | None]:
        """Run a command that is no operation of one slot; returns as `_run_other`."""
        if not keys:
            batch.deliver(index, self._without_keys(command, request))
            return True, None
        if _are_reserved(keys):
            batch.deliver(index, RESERVED)
            return True, None
        if self._barrier(command, batch, index):
            return False, None
        waits = _waits_for(command, request) if command.blocks is not None else None
        if waits is not None:
            return False, self._wait(waits, batch, index)
        self.queueing.across(batch.session, command, request, keys, batch, index)
        return not self._stands(batch, index), None

    def _wait(self, waits: Waits, batch: Batch, index: int) -> list[list[bytes]] | None:
        """Run a command that may wait: what was asked for before it is answered now. Returns what is behind it, if it
        does not wait."""
        session = batch.session
        silent = batch.is_hushed(index)
        request, *rest = self._break_here(batch, index)
        answer = self.outgoing.begin(session, [request], silent=silent)
        self.commands += 1
        if session.tracker is not None:
            self._noting.attach(session, answer, 0)
        self._operations.start(self._clock.now, self.blocking.run(session, waits, answer, 0))
        if not answer.left:
            return rest
        session.held = session.ordered = True
        session.backlog = rest
        return None

    def _run_other(
        self, command: Command, request: list[bytes], batch: Batch, index: int
    ) -> tuple[bool, list[list[bytes]] | None]:
        """Run a command of many slots, or of all of them, or what is for others to wait for. Returns whether the batch
        goes on, and, if it does not, what is left to be run."""
        kind = command.kind
        if kind is Kind.SPREAD:
            return self._run_spread(command, request, batch, index)
        if self._barrier(command, batch, index):
            return False, None
        session = batch.session
        if command.name == "exec":
            self.queueing.execute(session, batch, index)
        elif command.name == "watch":
            self.queueing.watch(session, request, batch, index)
        elif kind is Kind.SCRIPT:
            if session.database:
                request = batch.requests[index]  # its keys are put in their place when it is known
            running = self.queueing.run_script(session, command, request, batch, index)
            self._operations.start(self._clock.now, running)
        else:
            self.shares.charge(session)
            self._operations.start(self._clock.now, self._whole.run(command.name, session, request, batch, index))
        return not self._stands(batch, index), None

    def _run_spread(
        self, command: Command, request: list[bytes], batch: Batch, index: int
    ) -> tuple[bool, list[list[bytes]] | None]:
        session, keys = batch.session, keys_of(command, request)
        atomic = self._services.settings.atomic_multi_key
        if _are_reserved(keys) or (atomic and len(set(map(self._view.slot_of, keys))) > 1):
            return self._run_across(command, request, keys, batch, index)
        if len(request) > PIECE_ARGUMENTS and not (len(request) - 1) % command.keys[2]:
            if session.reading or ("write" in command.flags and self._follows(batch, index)):
                self._call_later(command, batch, index)
                return False, None
            self._spreading.begin(session, command, request, batch, index)
            self._stall(batch, index + 1)
            session.ordered = False
            self.shares.go_on(session)
            return False, None
        if not self._spreading.run(session, command, request, batch, index):
            self._call_later(command, batch, index)
            return False, None
        return True, None

    def _run_own(
        self, command: Command, request: list[bytes], batch: Batch, index: int
    ) -> tuple[bool, list[list[bytes]] | None]:
        """Likewise, a command of the connection."""
        if command.name == "cluster" and _asks_cluster(request):
            return self._run_other(command, request, batch, index)
        session = batch.session
        protocol = session.protocol
        by_itself = command.name in BY_ITSELF
        if by_itself and self._barrier(command, batch, index):
            return False, None
        if command.name in ("publish", "spublish"):
            kind = CHANNELS if command.name == "publish" else SHARDS
            self.channels.publish(kind, request[1], request[2], batch, index)
            return True, None
        reply = self._run_session(session, command, request, batch, index)
        if session.protocol != protocol or by_itself:  # in the new one; and before any message that follows
            session.become()
            silent, rest = batch.is_hushed(index), batch.requests[index + 1 :]
            batch.end_at(index)
            self.outgoing.begin(session, [request], silent=silent).deliver(0, reply)
            return False, rest
        batch.deliver(index, reply)
        if session.closing:
            self._break_here(batch, index + 1)
            return False, None
        if self.shares.charge(session, self._cost(command, request) + size_of_reply(reply) // BYTES_PER_UNIT):
            return False, self._break_here(batch, index + 1)
        return True, None

    def _without_keys(self, command: Command, request: Sequence[bytes]) -> Reply:
        """A request that should have keys, and has none, is wrong, or asks for help: it is run for that."""
        if command.subcommands:
            subcommand = subcommand_of(command, request)
            if isinstance(subcommand, ReplyError):
                return subcommand
        assert command.run is not None, "READ and WRITE commands can be run"
        return reply_of(command.run, {}, request, self._clock.cluster_ms)

    def _cost(self, command: Command, request: Sequence[bytes]) -> int:
        """What a command of the connection costs, in units; see `TURN_UNITS`."""
        units = COSTS.get(command.name, 1) + len(request)
        if command.name == "client" and request[1].upper() in (b"LIST", b"KILL"):
            units += len(self._services.sessions) // SESSIONS_PER_UNIT
        return units

    def _run_queued(self, session: Session, command: Command, request: list[bytes]) -> Reply:
        """A command of the connection that was queued."""
        return self._run_session(session, command, request, Batch(self.outgoing, session, [request]), 0)

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
                batch.hush(index)
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
            batch.hush(index)
        elif session.aloud:
            session.aloud = False
            if batch.silent:
                batch.silent.discard(index)
        return reply


def _is_of_one_slot(command: Command, request: Sequence[bytes], keys: Sequence[bytes], mask: int) -> bool:
    """Whether a command whose keys must be looked for is one operation, and is to be run now."""
    if not keys or (len(keys) > 1 and len({slot_of(key, mask) for key in keys}) > 1) or _are_reserved(keys):
        return False
    if command.blocks is not None and _waits_for(command, request) is not None:
        return False
    return command.wanders is None or not command.wanders(request)


def _are_reserved(keys: Iterable[bytes]) -> bool:
    """Whether one of them is the cluster's own."""
    for key in keys:  # noqa: SIM110  # `any` takes twice as long
        if key.startswith(RECORD):
            return True
    return False


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


def _of_keys(request: Sequence[bytes]) -> bool:
    """Whether a request is for keys."""
    row = find(request[0])
    return row is not None and not row.flags.isdisjoint(OF_KEYS)


def _asks_cluster(request: Sequence[bytes]) -> bool:
    """Whether this CLUSTER command is a question to the owners of a slot."""
    if len(request) < 3:
        return False
    subcommand = request[1].upper()
    return (subcommand == b"COUNTKEYSINSLOT" and len(request) == 3) or (
        subcommand == b"GETKEYSINSLOT" and len(request) == 4
    )
