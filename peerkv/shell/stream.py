"""Buffers of sockets: what a socket has not taken yet, and what is waited for of it."""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from peerkv.node import Node
from peerkv.settings import Settings
from peerkv.shell.names import plain

log = logging.getLogger("peerkv")

READ_BYTES: Final = 1 << 16
"""Read from one connection per turn, a peer's, too: none keeps the others waiting. (A read of a megabyte would map and
unmap memory each time: SET of three nodes 18 % slower at -P 1.)"""
ACCEPTS_MAX: Final = 64
"""New connections per turn."""


class Loop:
    """What all sockets of a node share: the epoll, who handles what comes of it, and the time of the turn."""

    def __init__(self, node: Node, settings: Settings, turn: Callable[[], None]) -> None:
        self.node = node
        self.receive = node.receive
        """Hands bytes of clients to the node; now and then what takes the time of that."""
        self.settings = settings
        self.turn = turn
        """To be called by who has told the node something outside of a turn."""
        self.now = trio.current_time()
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.handled = 0
        """Events in this turn."""
        self.input_bytes = 0
        """Read from clients in this turn."""
        self.full = False
        """Somebody has had its share of this turn, and has more: the turn ends with what is at hand."""

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call the handler when there is something to do."""
        self.handlers[fd] = handler
        self.epoll.register(fd, mask)

    def forget(self, fd: int) -> None:
        """A descriptor is about to be closed."""
        self.handlers.pop(fd, None)
        with contextlib.suppress(OSError):
            self.epoll.unregister(fd)

    def handle(self, fd: int, mask: int) -> None:
        """Something has happened to a descriptor."""
        handler = self.handlers.get(fd)
        if handler is not None:
            try:
                handler(mask)
            except Exception:
                owner = getattr(handler, "__self__", None)
                if isinstance(owner, Stream):
                    owner.faulty()
                else:
                    log.exception("what has come in could not be worked on, and is dropped")


class Listener:
    """A listening socket in the loop."""

    def __init__(
        self, loop: Loop, listener: socket.socket, opened: Callable[[socket.socket, tuple[str, int]], None]
    ) -> None:
        self._loop = loop
        self._socket = listener
        self._opened = opened
        self._deaf = False
        """Not listened to for a moment, as there are no descriptors left."""
        loop.watch(listener.fileno(), select.EPOLLIN, self._accept)

    def listen_again(self) -> None:
        """A moment has passed."""
        if self._deaf:
            self._deaf = False
            self._loop.watch(self._socket.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, _mask: int) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.warning("no connection can be accepted for a moment: %s", error)
                    self._loop.forget(self._socket.fileno())
                    self._deaf = True
                return
            with contextlib.suppress(OSError):  # it is gone already: found out when it is read
                prepare(connection, self._loop.settings)
            self._opened(connection, (plain(address[0]), address[1]))


def prepare(connection: socket.socket, settings: Settings) -> None:
    """What holds for every connection: no waiting, no delay, and whether the other side is still there is asked after
    a silence (a host that vanished says no goodbye)."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    idle = settings.tcp_keepalive
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 3))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


@dataclass(slots=True, eq=False)
class Stream:
    """A connected socket in the loop, and what it has not taken yet."""

    loop: Loop
    socket: socket.socket
    fd: int
    unsent: bytearray = field(default_factory=bytearray)
    mask: int = select.EPOLLIN
    reads: bool = True
    closed: bool = False

    def send(self, data: bytes) -> None:
        """Write what can be written now; the rest when the socket takes it."""
        if self.unsent:
            self.unsent += data
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.broken()
            return
        if sent < len(data):
            self.unsent += data[sent:]
            self.update()

    def drain(self) -> None:
        """The socket takes more."""
        try:
            sent = self.socket.send(self.unsent)
        except BlockingIOError:
            return
        except OSError:
            self.broken()
            return
        del self.unsent[:sent]
        self.update()

    def update(self) -> None:
        """Wait for what there is to wait for."""
        mask = (select.EPOLLIN if self.reads else 0) | (select.EPOLLOUT if self.unsent else 0)
        if mask != self.mask and not self.closed:
            self.mask = mask
            self.loop.epoll.modify(self.fd, mask)

    def broken(self) -> None:
        """The other side is gone."""
        self.close()

    def faulty(self) -> None:
        """A fault of ours, or a peer that sends what is no frame: it costs the connection, not the node."""
        log.exception("a connection is closed, as its input could not be worked on")
        self.broken()

    def close(self) -> None:
        """Close it, whatever is unsent; more than once is once."""
        if not self.closed:
            self.closed = True
            self.loop.forget(self.fd)
            self.socket.close()
