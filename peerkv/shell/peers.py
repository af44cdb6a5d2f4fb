"""Connections to other nodes: links, dialling, gossip's exchanges and datagrams."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

import trio

from peerkv.node import Outbox
from peerkv.settings import peer_address, seed_text
from peerkv.shell.names import Names, plain
from peerkv.shell.stream import READ_BYTES, Listener, Loop, Stream, prepare

log = logging.getLogger("peerkv")

DATAGRAMS_MAX: Final = 64
FIRST_FRAME_BYTES_MAX: Final = 1 << 20
FIRST_FRAME_WITHIN_S: Final = 5.0
STRANGERS_MAX: Final = 64
"""Connections at a time that have not said yet whose they are; the oldest goes first."""
DIAL_WITHIN_S: Final = 2.0
SEED_AGAIN_S: Final = 300.0
"""How often it is said that a seed cannot be reached."""

_LENGTH: Final = struct.Struct(">I")


def _framed(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


class Peers:
    """All connections to other nodes, and the socket of gossip."""

    def __init__(self, loop: Loop, listener: socket.socket, gossip: socket.socket, nursery: trio.Nursery) -> None:
        self.loop = loop
        self.links: dict[int, Link] = {}
        self.lost: list[int] = []
        """Processes whose links broke in this turn."""
        self.listener = Listener(loop, listener, self._open_inbound)
        self._gossip = gossip
        self._nursery = nursery
        self.inbound: set[Inbound] = set()
        self.strangers: dict[Inbound, None] = {}
        """Those of `inbound` that have not said yet whose they are, oldest first."""
        self._dialling: dict[int, trio.CancelScope] = {}
        self._names = Names(nursery)
        self._seeds = {peer_address(seed): seed_text(seed) for seed in loop.settings.seeds}
        self._unreachable: dict[tuple[str, int], float] = {}
        """Seeds, and when that was said."""
        loop.watch(gossip.fileno(), select.EPOLLIN, self._read_datagrams)

    def apply(self, outbox: Outbox) -> None:
        """Send, dial and drop, as the node wants it."""
        for process, payload in outbox.frames:
            link = self.links.get(process)
            if link is not None:
                link.frame(payload)
        for address, payload in outbox.datagrams:
            self._send_datagram(address, payload)
        for process in outbox.drops:
            self._drop(process)
        for process, address in outbox.dials:
            self._drop_older(process)
            self._nursery.start_soon(self._dial, process, address)
        for ticket, address, payload in outbox.exchanges:
            self._nursery.start_soon(self._exchange, ticket, address, payload)

    def close_silent(self) -> None:
        """Close connections to the peer port that have not said who they are."""
        now = trio.current_time()
        for inbound in list(self.strangers):
            if now - inbound.opened > FIRST_FRAME_WITHIN_S:
                inbound.close()

    def say_goodbye(self, outbox: Outbox) -> None:
        """Send the datagrams that can be sent at once."""
        for address, payload in outbox.datagrams:
            self._send_datagram(address, payload)

    def close(self) -> None:
        """Close every connection."""
        for stream in [*self.links.values(), *self.inbound]:
            stream.close()

    # -- links

    def _open_inbound(self, connection: socket.socket, address: tuple[str, int]) -> None:
        loop = self.loop
        inbound = Inbound(loop, connection, connection.fileno(), peers=self, source=address, opened=loop.now)
        self.inbound.add(inbound)
        self.strangers[inbound] = None
        if len(self.strangers) > STRANGERS_MAX:
            next(iter(self.strangers)).close()
        self.loop.watch(inbound.fd, inbound.mask, inbound.on_event)

    def _drop(self, process: int) -> None:
        self._drop_older(process)
        self.lost.append(process)

    def _drop_older(self, process: int) -> None:
        link = self.links.get(process)
        if link is not None:
            link.drop()
        scope = self._dialling.get(process)
        if scope is not None:
            scope.cancel()

    async def _dial(self, process: int, address: tuple[str, int]) -> None:
        loop = self.loop
        answer = None
        stream = None
        with trio.move_on_after(DIAL_WITHIN_S) as scope:
            self._dialling[process] = scope
            try:
                stream = await self._connect(address)
                answer = await _ask(stream, loop.node.hello(process))
            except (OSError, trio.BrokenResourceError):
                pass
        superseded = self._dialling.get(process) is not scope
        if not superseded:
            del self._dialling[process]
        loop.now = trio.current_time()
        if stream is not None and answer is not None and not superseded:
            try:
                welcome = loop.node.welcome(loop.now, process, answer)
            except Exception:
                log.exception("the answer to a hello could not be worked on")
                loop.node.link_down(loop.now, process)
                welcome = False
            if welcome:
                self._open_link(process, stream)
            else:
                await trio.aclose_forcefully(stream)
        else:
            if stream is not None:
                await trio.aclose_forcefully(stream)
            if not superseded:
                loop.node.link_down(loop.now, process)
        loop.turn()

    async def _connect(self, address: tuple[str, int]) -> trio.SocketStream:
        """Raises OSError that says why not."""
        host, port = address
        found = await self._names.find(host)
        last = OSError("nothing answers there in time")
        for there in found:
            with trio.move_on_after(DIAL_WITHIN_S / len(found)):
                try:
                    return await trio.open_tcp_stream(there, port)
                except OSError as error:
                    last = error
            self._names.unreachable(host, there)
        raise last

    def _open_link(self, process: int, stream: trio.SocketStream) -> None:
        connection = socket.socket(fileno=stream.socket.detach())
        prepare(connection, self.loop.settings)
        link = Link(self.loop, connection, connection.fileno(), peers=self, process=process)
        self.links[process] = link
        self.loop.watch(link.fd, link.mask, link.on_event)

    # -- gossip

    async def _exchange(self, ticket: int, address: tuple[str, int], payload: bytes) -> None:
        answer = None
        why = f"nothing answers within {DIAL_WITHIN_S:g} s"
        with trio.move_on_after(DIAL_WITHIN_S):
            try:
                stream = await self._connect(address)
                async with stream:
                    answer = await _ask(stream, payload)
                    why = "the connection was closed without an answer"
            except (OSError, trio.BrokenResourceError) as error:
                why = _reason(error)
        if address in self._seeds:
            self._tell_seed(address, "" if answer is not None else why)
        loop = self.loop
        loop.now = trio.current_time()
        try:
            loop.node.exchange_answer(loop.now, ticket, answer)
        except Exception:
            log.exception("the answer to an exchange could not be worked on")
            loop.node.exchange_answer(loop.now, ticket, None)
        loop.turn()

    def _tell_seed(self, address: tuple[str, int], why: str) -> None:
        """Say that a seed cannot be reached, once and then rarely; and that it can be again."""
        now = trio.current_time()
        told = self._unreachable.get(address)
        if not why:
            if self._unreachable.pop(address, None) is not None:
                log.info("seed %s is reached", self._seeds[address])
        elif told is None or now - told >= SEED_AGAIN_S:
            self._unreachable[address] = now
            log.warning("seed %s cannot be reached, and is tried on: %s", self._seeds[address], why)

    def _read_datagrams(self, _mask: int) -> None:
        for _ in range(DATAGRAMS_MAX):
            try:
                payload, address = self._gossip.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError:
                continue  # what came back for an earlier one of ours: nobody listens there
            self.loop.node.datagram(self.loop.now, (plain(address[0]), address[1]), payload)

    def _send_datagram(self, address: tuple[str, int], payload: bytes) -> None:
        host = self._names.at_once(address[0]) if address[0] else ""
        if host:
            if self._gossip.family == socket.AF_INET6 and ":" not in host:
                host = f"::ffff:{host}"
            with contextlib.suppress(OSError):  # gossip repeats itself
                self._gossip.sendto(payload, (host, address[1]))


@dataclass(slots=True, eq=False)
class Inbound(Stream):
    """A connection that came in at the peer port: an exchange of gossip, or a peer's link."""

    peers: Peers = field(default=None)  # type: ignore[assignment]
    source: tuple[str, int] = ("", 0)
    opened: float = 0.0
    process: int | None = None
    buffer: bytearray = field(default_factory=bytearray)
    last: bool = False
    """Closed once the answer is written."""

    def on_event(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self.drain()
            self.close_if_done()
        if self.closed or not mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or self.last:
            self.close()
            return
        if len(data) == READ_BYTES:
            self.loop.full = True
        buffer = self.buffer
        buffer += data
        while len(buffer) >= _LENGTH.size and not self.closed:
            (length,) = _LENGTH.unpack_from(buffer)
            most = FIRST_FRAME_BYTES_MAX if self.process is None else self.loop.settings.frame_bytes_max
            if length > most:
                log.warning("%s:%d announces a frame of %d bytes, %d are allowed: closed", *self.source, length, most)
                self.close()
                return
            end = _LENGTH.size + length
            if len(buffer) < end:
                return
            payload = bytes(memoryview(buffer)[_LENGTH.size : end])
            del buffer[:end]
            self.take_in(payload)

    def take_in(self, payload: bytes) -> None:
        node, now = self.loop.node, self.loop.now
        if self.process is not None:
            try:
                node.frame(now, self.process, payload)
            except ValueError as error:
                log.warning("%s:%d sent what is no frame (%s): its connection is closed", *self.source, error)
                self.close()
            return
        answer, self.process = node.accept(now, self.source, payload)
        if not answer:
            self.close()
            return
        self.send(_framed(answer))
        self.last = self.process is None
        if not self.last:
            self.peers.strangers.pop(self, None)
        self.close_if_done()

    def close_if_done(self) -> None:
        if self.last and not self.unsent:
            self.close()

    def close(self) -> None:
        if not self.closed:
            Stream.close(self)
            self.peers.inbound.discard(self)
            self.peers.strangers.pop(self, None)


@dataclass(slots=True, eq=False)
class Link(Stream):
    """The connection that we dialled to a peer: we only send on it."""

    peers: Peers = field(default=None)  # type: ignore[assignment]
    process: int = 0

    def on_event(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            unsent = len(self.unsent)
            self.drain()
            if len(self.unsent) < unsent and not self.closed:
                self.loop.node.link_moves(self.loop.now, self.process)
        if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not self.closed:
            with contextlib.suppress(BlockingIOError, OSError):
                if self.socket.recv(READ_BYTES):
                    return  # of no meaning
            self.broken()

    def frame(self, payload: bytes) -> None:
        if len(self.unsent) > self.loop.settings.link_backlog_bytes_max:
            log.warning("a peer does not read: its link is closed with %d bytes unread", len(self.unsent))
            self.broken()
        else:
            self.send(_framed(payload))

    def broken(self) -> None:
        if not self.closed:
            self.close()
            self.peers.lost.append(self.process)

    def drop(self) -> None:
        """Close without a wait for what is unsent: it must not arrive later."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        if not self.closed:
            Stream.close(self)
            if self.peers.links.get(self.process) is self:
                del self.peers.links[self.process]


def _reason(error: BaseException) -> str:
    """What the system says; trio says of several attempts only that they have failed."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    for failed in (cause, error):
        if isinstance(failed, OSError) and failed.errno:
            return os.strerror(failed.errno)
    return str(error)


async def _ask(stream: trio.SocketStream, payload: bytes) -> bytes | None:
    """Send one frame, read one; None if the other side closes or announces too much."""
    await stream.send_all(_framed(payload))
    buffer = bytearray()
    while True:
        data = await stream.receive_some(READ_BYTES)
        if not data:
            return None
        buffer += data
        if len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if length > FIRST_FRAME_BYTES_MAX:
                return None
            if len(buffer) >= _LENGTH.size + length:
                return bytes(buffer[_LENGTH.size : _LENGTH.size + length])
