"""Connections of clients: who may connect, what is read of them, and when not."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from dataclasses import dataclass, field
from typing import Final

from peerkv.clients.session import Session
from peerkv.node import Outbox
from peerkv.shell.stream import READ_BYTES, Listener, Loop, Stream

log = logging.getLogger("peerkv")

PAUSE_OUTPUT_BYTES: Final = 1 << 20
"""A client that has so much to read is not read from until it has."""


class Clients:
    """All connections of clients."""

    def __init__(self, loop: Loop, listener: socket.socket) -> None:
        self.loop = loop
        self.connected: dict[int, Client] = {}
        """By the session's id."""
        self.ending: set[Client] = set()
        """Those that have sent everything and still wait for replies."""
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
        session = loop.node.open(loop.now, f"{address[0]}:{address[1]}", f"{local[0]}:{local[1]}")
        client = Client(loop, connection, connection.fileno(), clients=self, session=session)
        self.connected[session.id] = client
        loop.watch(client.fd, client.mask, client.on_event)

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


@dataclass(slots=True, eq=False)
class Client(Stream):
    """A client's connection."""

    clients: Clients = field(default=None)  # type: ignore[assignment]
    session: Session = field(default=None)  # type: ignore[assignment]
    held: bool = False
    """The node wants nothing more of it for now."""
    ended: bool = False
    """It has sent all that it will; it may still read."""

    def on_event(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self.drain()
            if not self.reads and len(self.unsent) < PAUSE_OUTPUT_BYTES:
                self.read_again()
        if self.closed:
            return
        if mask & select.EPOLLIN:
            try:
                data = self.socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
                self.unsent.clear()
            if data:
                self.loop.node.receive(self.loop.now, self.session, data)
            else:
                self.end()
        elif mask & (select.EPOLLHUP | select.EPOLLERR):
            self.close()

    def reply(self, data: bytes) -> None:
        self.send(data)
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

    @property
    def done(self) -> bool:
        """Whether nothing is owed to it any more."""
        return not self.unsent and not self.session.batches and not self.session.backlog

    def close(self) -> None:
        if not self.closed:
            Stream.close(self)
            self.clients.connected.pop(self.session.id, None)
            self.clients.ending.discard(self)
            self.loop.node.close(self.loop.now, self.session)
