"""Connections of clients: who may connect, what is read of them, and when not.

They are read through an epoll of their own, which is nested in the loop's: so reading from all of them can be stopped
and taken up again at the cost of one call. What a client has not taken yet is written through the loop's, and goes on
meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from dataclasses import dataclass, field
from typing import Final

from peerkv.clients.outgoing import UNREAD_MAX
from peerkv.clients.session import Session
from peerkv.node import Outbox
from peerkv.settings import address_text
from peerkv.shell.names import plain
from peerkv.shell.stream import READ_BYTES, Listener, Loop, Stream

log = logging.getLogger("peerkv")

COMMANDS_AT_ONCE: Final = 1000
"""Clients at hand beyond so many commands have their turn in the next one: 20 ms."""
BYTES_AT_ONCE: Final = 4 << 20
"""And beyond so many bytes."""
EVENTS_MAX: Final = 1024
PAUSE_OUTPUT_BYTES: Final = UNREAD_MAX
"""A client that has so much to read is not read from until it has."""


class Clients:
    """All connections of clients."""

    def __init__(self, loop: Loop, listener: socket.socket) -> None:
        self.loop = loop
        self.connected: dict[int, Client] = {}
        """By the session's id."""
        self.ending: set[Client] = set()
        """Those that have sent everything and still wait for replies."""
        self._reading: dict[int, Client] = {}
        """By descriptor."""
        self._epoll = select.epoll()
        self._at_hand: list[tuple[Client, int]] = []
        """Events that the turn before had no room for: whoever is read late would come late again."""
        self._paused = False
        loop.watch(self._epoll.fileno(), select.EPOLLIN, self._on_ready)
        self.listener = Listener(loop, listener, self._open)

    def _open(self, connection: socket.socket, address: tuple[str, int]) -> None:
        loop = self.loop
        if len(self.connected) >= loop.settings.clients_max:
            with contextlib.suppress(OSError):
                connection.send(b"-ERR max number of clients reached\r\n")
            connection.close()
            loop.node.refused_client()
            return
        local = connection.getsockname()
        here = address_text(plain(local[0]), local[1])
        session = loop.node.open(loop.now, address_text(*address), here, connection.fileno())
        client = Client(loop, connection, connection.fileno(), clients=self, session=session)
        self.connected[session.id] = client
        self._reading[client.fd] = client
        self._epoll.register(client.fd, client.mask)

    def pause(self, paused: bool) -> None:
        """Read from no client, until told otherwise; what they are owed is written all the same."""
        if paused != self._paused:
            self._paused = paused
            self.loop.epoll.modify(self._epoll.fileno(), 0 if paused else select.EPOLLIN)

    def _on_ready(self, _mask: int) -> None:
        loop = self.loop
        dispatcher = loop.node.dispatcher
        enough = dispatcher.commands + COMMANDS_AT_ONCE
        events = self._at_hand
        if events:
            self._at_hand = []
        else:
            reading = self._reading
            events = [(reading[fd], mask) for fd, mask in self._epoll.poll(0, EVENTS_MAX)]
        loop.handled += len(events)
        for count, (client, mask) in enumerate(events, 1):
            if client.closed or not (client.reads or mask & (select.EPOLLHUP | select.EPOLLERR)):
                continue
            try:
                client.on_event(mask)
            except Exception:
                client.faulty()
            if dispatcher.commands >= enough or loop.input_bytes >= BYTES_AT_ONCE:
                self._at_hand = events[count:]
                loop.full = True
                return

    def forget(self, client: Client) -> None:
        """It is about to be closed."""
        del self._reading[client.fd]
        self._epoll.unregister(client.fd)
        self.connected.pop(client.session.id, None)
        self.ending.discard(client)

    def wait(self, client: Client, mask: int) -> None:
        """Read from a client when there is something (EPOLLIN), or not (0)."""
        self._epoll.modify(client.fd, mask)

    def apply(self, outbox: Outbox) -> None:
        """Reply, hold, and close, as the node wants it."""
        connected = self.connected
        for session, data in outbox.replies:
            client = connected.get(session.id)
            if client is not None:
                client.reply(data)
        for session, held in outbox.holds:
            client = connected.get(session.id)
            if client is not None:
                client.hold(held)
        for session in outbox.closing:
            client = connected.get(session.id)
            if client is not None:
                client.end()
        for session in outbox.kills:
            client = connected.get(session.id)
            if client is not None:
                client.close()

    def close_done(self) -> None:
        """Close those that nothing is owed to any more."""
        for client in [client for client in self.ending if client.done]:
            client.close()

    def close(self) -> None:
        """Close every connection."""
        for client in list(self.connected.values()):
            client.close()
        self._epoll.close()


@dataclass(slots=True, eq=False)
class Client(Stream):
    """A client's connection."""

    clients: Clients = field(default=None)  # type: ignore[assignment]
    session: Session = field(default=None)  # type: ignore[assignment]
    held: bool = False
    """The node wants nothing more of it for now."""
    ended: bool = False
    """It has sent all that it will; it may still read."""

    writes: bool = False
    """The loop waits until the socket takes more."""

    def on_event(self, mask: int) -> None:
        """There is something to read, or the connection is gone."""
        if mask & select.EPOLLIN and self.reads:
            try:
                data = self.socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
                self.unsent.clear()
            if data:
                loop = self.loop
                loop.input_bytes += len(data)
                if len(data) == READ_BYTES:
                    loop.full = True
                loop.receive(loop.now, self.session, data)
            else:
                self.end()
        elif mask & (select.EPOLLHUP | select.EPOLLERR):
            self.close()

    def on_writable(self, _mask: int) -> None:
        """The socket takes more, or the connection is gone."""
        self.drain()
        self.loop.node.wrote(self.loop.now, self.session, len(self.unsent))
        if not self.reads and len(self.unsent) < PAUSE_OUTPUT_BYTES:
            self.read_again()

    def update(self) -> None:
        if self.closed:
            return
        mask = select.EPOLLIN if self.reads else 0
        if mask != self.mask:
            self.mask = mask
            self.clients.wait(self, mask)
        writes = bool(self.unsent)
        if writes != self.writes:
            self.writes = writes
            if writes:
                self.loop.watch(self.fd, select.EPOLLOUT, self.on_writable)
            else:
                self.loop.forget(self.fd)

    def reply(self, data: bytes) -> None:
        self.send(data)
        session = self.session
        if session.unread > PAUSE_OUTPUT_BYTES:
            self.loop.node.wrote(self.loop.now, session, len(self.unsent))
        else:
            session.unread = len(self.unsent)
        if self.unsent and not self.closed:
            settings = self.loop.settings
            if len(self.unsent) > settings.client_output_bytes_max:
                log.warning(
                    "client %s does not read: closed with %d bytes unread", self.session.address, len(self.unsent)
                )
                self.close()
            elif len(self.unsent) > PAUSE_OUTPUT_BYTES and self.reads:
                self.reads = False
                self.update()

    def hold(self, held: bool) -> None:
        self.held = held
        if held:
            self.reads = False
            self.update()
        elif len(self.unsent) < PAUSE_OUTPUT_BYTES:
            self.read_again()

    def read_again(self) -> None:
        if not self.held and not self.ended:
            self.reads = True
            self.update()

    def end(self) -> None:
        """Nothing more is read of it; it is closed once it has its replies."""
        self.ended = True
        self.reads = False
        self.update()
        self.clients.ending.add(self)
        self.loop.node.hung_up(self.loop.now, self.session)

    @property
    def done(self) -> bool:
        """Whether nothing is owed to it any more."""
        return not self.unsent and not self.session.batches and not self.session.backlog

    def close(self) -> None:
        if not self.closed:
            self.clients.forget(self)
            Stream.close(self)
            self.loop.node.close(self.loop.now, self.session)
