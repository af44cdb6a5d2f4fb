"""A client's commands at this node: which way each goes, in what order, and one reply for each, in its place.

Commands of one client run as if one after another, although all that a buffer held are under way at once. Only where
the order would show does one wait: a read behind a write of the same slot takes the write's way, through the home; a
write behind a read of the same slot, and a command that concerns every slot, wait until what came before has ended.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from peerkv.agreement.coordinator import Coordinator, Sink
from peerkv.agreement.home import Home
from peerkv.agreement.operation import Operations
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.clients.connection import NO_REPLY
from peerkv.clients.connection import run as run_session
from peerkv.clients.session import Services, Session
from peerkv.clients.whole import Whole
from peerkv.commands.table import ONE_KEY, SPELLED, Command, Kind, arity_error, find, find_part, keys_of, unknown
from peerkv.resp import Reply, ReplyError, encode_all
from peerkv.ring.keys import SLOT_MASK, slot_of

if TYPE_CHECKING:
    from random import Random

MEASURED_REPLIES: Final = 4
"""So many replies are measured before they are encoded: a buffer of GETs can ask for more than there is memory."""

READ, WRITE = Kind.READ, Kind.WRITE
BYTES: Final = {bytes}
CROSSSLOT: Final = ReplyError("CROSSSLOT Keys in request don't hash to the same slot")


class Batch(Sink):
    """What one buffer of a client asked for, and the replies so far."""

    __slots__ = ("dispatcher", "protocol", "session", "silent")

    def __init__(self, dispatcher: Dispatcher, session: Session, count: int) -> None:
        self.replies = [None] * count  # `Sink.__init__` in line: a batch is made per buffer
        self.left = count
        self.dispatcher = dispatcher
        self.session = session
        self.protocol = session.protocol
        self.silent: set[int] | None = None
        """Commands whose replies are not wanted (CLIENT REPLY)."""

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


def _size(replies: Sequence[Reply]) -> int:
    """Bytes of what replies hold, about."""
    return sum([len(r) if type(r) is bytes else _size(r) if type(r) is list else 0 for r in replies])


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
        rng: Random,
    ) -> None:
        self.replies: list[tuple[Session, bytes]] = []
        self.closing: list[Session] = []
        self.holds: list[tuple[Session, bool]] = []
        self.commands = 0
        self.errors: Counter[str] = Counter()
        """Error replies by their codes (ERR, NOQUORUM, ...)."""
        self._services = services
        self._view = view
        self._operations = operations
        self._home = home
        self._coordinator = coordinator
        self._clock = services.clock
        self._resumable: list[Session] = []
        self._whole = Whole(services, view, replica, coordinator, rng)

    # -- a client's buffer

    def receive(self, session: Session, requests: list[list[bytes]]) -> None:
        """Run requests of one client, behind those that it sent before."""
        if session.held:
            session.backlog += requests
        elif requests and not session.closing:
            self._run(session, requests)

    def _run(self, session: Session, requests: list[list[bytes]]) -> None:
        rest: list[list[bytes]] | None = requests
        while rest:
            rest = self._run_some(session, rest)

    def _run_some(self, session: Session, requests: list[list[bytes]]) -> list[list[bytes]] | None:
        """Run requests up to a change of the protocol; what is left then."""
        batch = Batch(self, session, len(requests))
        session.batches.append(batch)
        replies = batch.replies
        home = self._home
        alone, timed = home.alone, home.timed
        copies = self._view.copies
        plain, positions, cells_of = copies.plain, copies.positions, copies.cells
        written = session.written
        now = self._clock.cluster_ms
        quiet = session.muted or session.skips
        self.commands += len(requests)
        for index, request in enumerate(requests):
            if quiet:
                _silence(session, batch, index)
                quiet = session.muted
            command = SPELLED.get(request[0]) or find(request[0])
            if command is None:
                batch.deliver(index, unknown(request))
                continue
            arity = command.arity
            if len(request) != arity if arity > 0 else len(request) < -arity:
                batch.deliver(index, arity_error(command))
                continue
            kind = command.kind
            if kind is READ or kind is WRITE:
                key = request[1]
                number = slot_of(key) if b"{" in key else crc_hqx(key, 0) & SLOT_MASK  # `slot_of` in line
                if command.keys is not ONE_KEY and not _one_slot(command, request, number):
                    batch.deliver(index, CROSSSLOT)
                    continue
                if alone[number] and number not in written:
                    if timed[number]:
                        reply = home.apply_alone(number, command.run, request, now)  # type: ignore[arg-type]
                    else:
                        changes, reply = command.run(cells_of[number], request, now)  # type: ignore[misc]
                        if changes:  # `Home.apply_alone` in line
                            if len(changes) == 1 and plain[number] and changes[0][1] is not None and not changes[0][2]:
                                positions[number] = to = positions[number] + 1
                                cells_of[number][changes[0][0]] = (to, changes[0][1], 0)
                            else:
                                home.change_alone(number, changes)
                    replies[index] = reply
                    batch.left -= 1
                elif kind is READ:
                    self._read(session, number, command, request, batch, index)
                elif number in session.reading:
                    self._stall(session, batch, index, requests)
                    return None
                else:
                    before = written.get(number, 0)
                    written[number] = self._coordinator.write(number, request, batch, index, before)
                    session.last_slot = number
            elif kind is Kind.SESSION and not _asks_cluster(request):
                protocol = session.protocol
                reply = self._run_session(session, command, request, batch, index)
                quiet = session.muted or session.skips
                if session.protocol != protocol:  # the reply, too, is of the new one
                    self._truncate(batch, index)
                    if not batch.left:
                        self.finished(session)
                    answer = Batch(self, session, 1)
                    answer.silent = {0} if batch.silent and index in batch.silent else None
                    session.batches.append(answer)
                    answer.deliver(0, reply)
                    return requests[index + 1 :]
                batch.deliver(index, reply)
                if session.closing:
                    self._truncate(batch, index + 1)
                    break
            elif kind is Kind.SPREAD:
                if not self._spread(session, command, request, batch, index):
                    self._stall(session, batch, index, requests)
                    return None
            else:
                if session.batches[0] is not batch or batch.left > len(replies) - index:
                    self._stall(session, batch, index, requests)
                    return None
                self._operations.start(self._clock.now, self._whole.run(command.name, session, request, batch, index))
                if batch.left > len(replies) - index - 1:
                    self._stall(session, batch, index + 1, requests)
                    return None
        if not batch.left:
            self.finished(session)
        return None

    def break_off(self, session: Session, error: str) -> None:
        """Input of the client cannot be read any further: say so behind what was asked for before, and close."""
        if session.held:
            session.fault = error
        elif not session.closing:
            session.closing = True
            batch = Batch(self, session, 1)
            session.batches.append(batch)
            batch.deliver(0, ReplyError(error))

    def finished(self, session: Session) -> None:
        """A batch has all its replies: send what is in order."""
        batches = session.batches
        while batches and not batches[0].left:
            batch = batches.popleft()
            replies = batch.replies
            kinds = set(map(type, replies))
            if ReplyError in kinds:
                self.errors.update([reply.text.split(" ", 1)[0] for reply in replies if type(reply) is ReplyError])
            if list in kinds or (bytes in kinds and len(replies) >= MEASURED_REPLIES):
                size = sum(map(len, replies)) if kinds == BYTES else _size(replies)
                if size > self._services.settings.client_output_bytes_max:
                    self._services.cut_off(session, f"has asked for {size} bytes at a time")
                    return
            encoded = encode_all(replies, batch.protocol) if batch.silent is None else batch.encoded()
            if encoded:
                self.replies.append((session, encoded))
        if not batches:
            session.written.clear()
            session.reading.clear()
            if session.closing:
                self.closing.append(session)
            elif session.held:
                self._resumable.append(session)

    def resume(self) -> bool:
        """Go on with sessions that were waiting for their own earlier commands; whether there were any."""
        if not self._resumable:
            return False
        sessions, self._resumable = self._resumable, []
        for session in sessions:
            if session.held and not session.batches:
                session.held = False
                requests, session.backlog = session.backlog, []
                if requests:
                    self._run(session, requests)
                if not session.held:
                    self.holds.append((session, False))
                    if session.fault:
                        self.break_off(session, session.fault)
        return True

    def _stall(self, session: Session, batch: Batch, index: int, requests: list[list[bytes]]) -> None:
        session.held = True
        session.skips = session.skips or bool(index < len(requests) and batch.silent and index in batch.silent)
        session.backlog = requests[index:] + session.backlog
        self.commands -= len(requests) - index
        self.holds.append((session, True))
        self._truncate(batch, index)
        if not batch.left:
            self.finished(session)

    def _truncate(self, batch: Batch, count: int) -> None:
        batch.left -= len(batch.replies) - count
        del batch.replies[count:]

    # -- one command

    def _read(
        self, session: Session, number: int, command: Command, request: Sequence[bytes], sink: Sink, index: int
    ) -> None:
        coordinator = self._coordinator
        after = session.written.get(number, 0)
        if after and after in coordinator.pending:
            session.written[number] = coordinator.write(number, request, sink, index, after)
            return
        session.reading.add(number)
        assert command.run is not None, "READ commands can be run"
        coordinator.read(number, request, command.run, self._clock.cluster_ms, sink, index)

    def _spread(self, session: Session, command: Command, request: Sequence[bytes], batch: Batch, index: int) -> bool:
        """Send the parts of a command of many slots; False if one must wait for an earlier read of its slot."""
        spread = command.spread
        assert spread is not None, "SPREAD commands can be split"
        split = spread.split(request)
        if isinstance(split, ReplyError):
            batch.deliver(index, split)
            return True
        parts = [(slot_of(key), part) for key, part in split]
        part_command = find_part(parts[0][1][0])
        assert part_command is not None, "parts are requests of the table"
        if part_command.kind is WRITE:
            if any(number in session.reading for number, _ in parts):
                return False
            if spread.merge is not None:
                merged: dict[int, list[list[bytes]]] = {}
                for number, part in parts:
                    merged.setdefault(number, []).append(part)
                parts = [(number, spread.merge(group)) for number, group in merged.items()]
        gather = Gather(len(parts), spread.join, batch, index)
        for place, (number, part) in enumerate(parts):
            if self._home.alone[number] and number not in session.written:
                gather.deliver(place, self._home.apply_alone(number, part_command.run, part, self._clock.cluster_ms))  # type: ignore[arg-type]
            elif part_command.kind is READ:
                self._read(session, number, part_command, part, gather, place)
            else:
                before = session.written.get(number, 0)
                session.written[number] = self._coordinator.write(number, part, gather, place, before)
                session.last_slot = number
        return True

    def _run_session(
        self, session: Session, command: Command, request: Sequence[bytes], batch: Batch, index: int
    ) -> Reply:
        was_muted = session.muted
        session.last_command = command.name
        reply = run_session(self._services, session, command, request)
        if reply is NO_REPLY:
            batch.silent = {*(batch.silent or ()), index}
        elif was_muted and not session.muted and batch.silent:  # CLIENT REPLY ON is answered
            batch.silent.discard(index)
        return reply


def _silence(session: Session, batch: Batch, index: int) -> None:
    batch.silent = {*(batch.silent or ()), index}
    session.skips = False


def _one_slot(command: Command, request: Sequence[bytes], number: int) -> bool:
    return all(slot_of(key) == number for key in keys_of(command, request))


def _asks_cluster(request: Sequence[bytes]) -> bool:
    """Whether this CLUSTER command is a question to the owners of a slot."""
    if request[0].upper() != b"CLUSTER" or len(request) < 3:
        return False
    subcommand = request[1].upper()
    return (subcommand == b"COUNTKEYSINSLOT" and len(request) == 3) or (
        subcommand == b"GETKEYSINSLOT" and len(request) == 4
    )
