"""What clients are sent: replies, each client's in the order of what it asked for, and what they have not asked for.

A client that has more than `UNREAD_MAX` bytes to read gets no more replies until it has. What it has not asked for it
gets all the same, as that is of now or never; who has too much of it to read is cut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from peerkv.agreement.reads import Sink
from peerkv.clients.session import Services, Session
from peerkv.clients.underway import SLOTS_MAX, UnderWay
from peerkv.commands.table import find
from peerkv.resp import (
    Map,
    Named,
    Pairs,
    Prepared,
    Reply,
    ReplyError,
    Set,
    Verbatim,
    encode_all,
    size_of_replies,
    size_of_reply,
)

WINDOW_MAX: Final = 512
WINDOW_FROM: Final = 8
"""A batch of fewer says little of how many fit."""
WINDOW_BYTES: Final = 4 << 20
UNREAD_MAX: Final = 1 << 20
PORTION_BYTES: Final = 1 << 20
"""Replies that are encoded at a time: copies of what is in memory already."""
MEASURED_REPLIES: Final = 4
"""So many replies are measured before they are encoded."""
SHORT_OR_BYTES: Final = {bytes, str, int, type(None), ReplyError}
MEASURED: Final = {bytes, list, Map, Pairs, Named, Set, Verbatim, Prepared}
LISTS: Final = {list, Map, Pairs, Named, Set}


class Batch(Sink):
    """What one buffer of a client asked for, and the replies so far."""

    __slots__ = ("outgoing", "protocol", "requests", "session", "silent", "told")

    def __init__(self, outgoing: Outgoing, session: Session, requests: list[list[bytes]]) -> None:
        count = len(requests)
        self.replies = [None] * count  # `Sink.__init__` in line: a batch is made per buffer
        self.left = count
        self.requests = requests
        self.outgoing = outgoing
        self.session = session
        self.protocol = session.protocol
        self.silent: set[int] | None = None
        """Commands whose replies are not wanted (CLIENT REPLY)."""
        self.told: list[Any] | None = None
        """What is to be seen to once the client is answered; see `Outgoing.on_answered`."""

    def complete(self) -> None:
        self.outgoing.answer(self.session)

    def hush(self, index: int) -> None:
        """That reply is not wanted."""
        self.silent = {*(self.silent or ()), index}

    def is_hushed(self, index: int) -> bool:
        """Whether that reply is not wanted."""
        return self.silent is not None and index in self.silent

    def encoded(self) -> bytes:
        """The replies that are wanted."""
        silent = self.silent or ()
        return encode_all([reply for index, reply in enumerate(self.replies) if index not in silent], self.protocol)

    def end_at(self, count: int) -> None:
        """What is behind that is not asked for with this batch; the client is answered, if that was all."""
        if self.left:  # or nothing is behind that, and some of it may be sent
            self.left -= len(self.replies) - count
            del self.replies[count:]
        if not self.left:
            self.complete()


class Outgoing:
    """Of a node, which takes `replies` and `closing`; `errors` are the error replies by their codes (NOQUORUM, ...)."""

    def __init__(self, services: Services, under_way: UnderWay) -> None:
        self.errors: Counter[str] = Counter()
        self.on_answered: Callable[[Session, Sequence[Any]], None] = lambda *_: None
        """Is told what was in `Batch.told` of a batch that a client has been answered."""
        self.on_room: Callable[[Session], None] = lambda _: None
        """Is told of clients that have a backlog, when one has been answered or has read."""
        self._services = services
        self._under_way = under_way
        self.replies: list[tuple[Session, bytes]] = []
        self._pushed = False
        """Among these is what was not asked for: there may be many for one client."""
        self.closing: list[Session] = []
        """Clients that are to be closed once what they were sent is written."""

    def take(self) -> list[tuple[Session, bytes]]:
        """What is to be sent now."""
        replies, self.replies = self.replies, []
        if self._pushed:
            replies, self._pushed = _joined(replies), False
        return replies

    def begin(self, session: Session, requests: list[list[bytes]], *, silent: bool = False) -> Batch:
        """A batch behind those that a client has; `silent`: no reply of it is wanted."""
        batch = Batch(self, session, requests)
        if silent:
            batch.silent = set(range(len(requests)))
        session.batches.append(batch)
        return batch

    def answer(self, session: Session) -> None:
        """A batch has all its replies, or the client has read: send what is in order."""
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
                self._count_errors(replies, requests)
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
                self.on_answered(session, told)
        if not batches:
            session.written.clear()
            session.reading.clear()
            if session.closing:
                self.closing.append(session)
        elif len(session.reading) > SLOTS_MAX or len(session.written) > SLOTS_MAX:
            self._under_way.trim(session)
        if session.held:
            self.on_room(session)

    def _count_errors(self, replies: Sequence[Reply], requests: Sequence[Sequence[bytes]]) -> None:
        for reply, request in zip(replies, requests, strict=False):
            if type(reply) is ReplyError:
                self.errors[reply.text.split(" ", 1)[0]] += 1
                row = find(request[0])
                if row is not None:
                    row.errors += 1

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

    def push(self, session: Session, data: bytes, what: str) -> bool:
        """Send a client what it has not asked for. One that has too much to read is cut off, and the log says of
        `what`; whether it is sent."""
        most = self._services.settings.pubsub_output_bytes_max
        if session.unread + len(data) > most:
            if not session.killed:
                self._services.tell(
                    "warning", f"client {session.address} is closed: it has more than {most} bytes of {what} to read"
                )
                self._services.kill(session)
            return False
        self.replies.append((session, data))
        self._pushed = True
        session.unread += len(data)
        return True


def _joined(replies: list[tuple[Session, bytes]]) -> list[tuple[Session, bytes]]:
    """All that is for one client as one: each is a call of the system to send it."""
    parts: dict[Session, list[bytes]] = {}
    for session, data in replies:
        own = parts.get(session)
        if own is None:
            parts[session] = [data]
        else:
            own.append(data)
    return [(session, b"".join(own)) for session, own in parts.items()]
