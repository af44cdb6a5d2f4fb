"""The only loop that runs: sockets, timers and life time around a `Node`.

The hot path is one trio task over an epoll of its own: what is readable is read, all of it goes through the node, and
every client and every peer is written once. No task, event or cancel scope per connection or operation; what is rare
(dialling, gossip's exchanges, names to look up) is ordinary trio.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import random
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from math import inf
from pathlib import Path
from typing import Final

import trio

from peerkv.clients.session import Session
from peerkv.node import Node, Outbox
from peerkv.reports import Usage
from peerkv.settings import Settings
from peerkv.shell.hugepages import HugePages

log = logging.getLogger("peerkv")

READ_BYTES: Final = 1 << 16
"""Read from one client per turn: no client keeps the others waiting."""
READ_PEER_BYTES: Final = 1 << 20
PAUSE_OUTPUT_BYTES: Final = 1 << 20
"""A client that has so much to read is not read from until it has."""
EVENTS_MAX: Final = 1024
EVENTS_PER_TURN: Final = 64
COMMANDS_PER_TURN: Final = 160
"""A turn reads again what has come while it read, until there is nothing, or so much. Larger turns cost less per
command (of three nodes a fifth at -P 1); with still larger ones the other nodes have nothing to do meanwhile."""
LINGER_S: Final = 0.001
"""After a turn that had something to do the next one is waited for so long right here: a way through trio's scheduler
and its own epoll costs as much as a small turn."""
TURNS_PER_CHECKPOINT: Final = 8
LEAVE_POLL_S: Final = 0.05
LOOK_AFTER_S: Final = 1.0
ACCEPTS_MAX: Final = 64
"""New connections per turn."""
DATAGRAMS_MAX: Final = 64
FIRST_FRAME_BYTES_MAX: Final = 1 << 20
FIRST_FRAME_WITHIN_S: Final = 5.0
DIAL_WITHIN_S: Final = 2.0
GC_THRESHOLDS: Final = (100_000, 50, 1_000)
"""A full collection over a million cells takes 150 ms; nearly all of our garbage is freed by reference counts."""

_LENGTH: Final = struct.Struct(">I")
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class PortTaken(Exception):
    """A port that this node is to listen on is in use, or its host is not ours to listen on; the text says which."""


class NameInUse(Exception):
    """Another process of the cluster holds this node's name."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A node that serves."""

    node: Node
    port: int
    peer_port: int

    def leave(self) -> None:
        """Hand the node's share back; `serve` returns when that is done, or when `leave_grace` is over."""
        self.node.drain(trio.current_time())


async def serve(settings: Settings, *, task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled, or told to leave and done with it.

    Raises PortTaken before it has started, NameInUse at any time.
    """
    rng = random.Random(os.urandom(32))
    with listening(settings) as (clients, peers, gossip):
        node = Node(settings, rng, trio.current_time(), time.time())
        server = _Server(settings, node, clients, peers, gossip)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        async with trio.open_nursery() as nursery:
            server.nursery = nursery
            try:
                nursery.start_soon(server.tick)
                nursery.start_soon(server.look_after)
                nursery.start_soon(server.await_leave, nursery.cancel_scope)
                task_status.started(Serving(node, settings.port, settings.peer_port))
                await server.run()
            finally:
                server.leave()
                server.close()


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """The sockets of clients, peers and gossip, closed at the end. Raises PortTaken."""
    with contextlib.ExitStack() as sockets:
        yield (
            sockets.enter_context(_listener(settings, settings.port, "clients", socket.SOCK_STREAM)),
            sockets.enter_context(_listener(settings, settings.peer_port, "peers", socket.SOCK_STREAM)),
            sockets.enter_context(_listener(settings, settings.peer_port, "gossip", socket.SOCK_DGRAM)),
        )


def _listener(settings: Settings, port: int, what: str, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, kind)
    try:
        if kind is socket.SOCK_STREAM:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, port))
        if kind is socket.SOCK_STREAM:
            listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        text = f"port {port} ({what} of {settings.name}) on {settings.host}: {error.strerror}"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            text += "; the host must be a name or an address of this machine, or 0.0.0.0 for all of them"
        raise PortTaken(text) from error
    return listener


@dataclass(slots=True, eq=False)
class _Stream:
    """A connected socket in the epoll, and what it has not taken yet."""

    server: _Server
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
            self.server.epoll.modify(self.fd, mask)

    def broken(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.server.forget(self.fd)
            self.socket.close()


@dataclass(slots=True, eq=False)
class _Client(_Stream):
    """A client's connection."""

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
                self.server.node.receive(self.server.now, self.session, data)
            else:
                self.ended = True
                self.reads = False
                self.update()
                self.server.ending.add(self)
        elif mask & (select.EPOLLHUP | select.EPOLLERR):
            self.close()

    def reply(self, data: bytes) -> None:
        self.send(data)
        if self.unsent and not self.closed:
            settings = self.server.settings
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

    @property
    def done(self) -> bool:
        """Whether nothing is owed to it any more."""
        return not self.unsent and not self.session.batches and not self.session.backlog

    def close(self) -> None:
        if not self.closed:
            _Stream.close(self)
            self.server.clients.pop(self.session.id, None)
            self.server.ending.discard(self)
            self.server.node.close(self.server.now, self.session)


@dataclass(slots=True, eq=False)
class _Inbound(_Stream):
    """A connection that came in at the peer port: an exchange of gossip, or a peer's link."""

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
            data = self.socket.recv(READ_PEER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or self.last:
            self.close()
            return
        buffer = self.buffer
        buffer += data
        while len(buffer) >= _LENGTH.size and not self.closed:
            (length,) = _LENGTH.unpack_from(buffer)
            most = FIRST_FRAME_BYTES_MAX if self.process is None else self.server.settings.frame_bytes_max
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
        node, now = self.server.node, self.server.now
        if self.process is not None:
            node.frame(now, self.process, payload)
            return
        answer, self.process = node.accept(now, self.source, payload)
        if not answer:
            self.close()
            return
        self.send(_framed(answer))
        self.last = self.process is None
        self.close_if_done()

    def close_if_done(self) -> None:
        if self.last and not self.unsent:
            self.close()


@dataclass(slots=True, eq=False)
class _Link(_Stream):
    """The connection that we dialled to a peer: we only send on it."""

    process: int = 0

    def on_event(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self.drain()
        if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not self.closed:
            with contextlib.suppress(BlockingIOError, OSError):
                if self.socket.recv(READ_BYTES):
                    return  # of no meaning
            self.broken()

    def frame(self, payload: bytes) -> None:
        if len(self.unsent) > self.server.settings.link_backlog_bytes_max:
            log.warning("a peer does not read: its link is closed with %d bytes unread", len(self.unsent))
            self.broken()
        else:
            self.send(_framed(payload))

    def broken(self) -> None:
        if not self.closed:
            self.close()
            self.server.lost.append(self.process)

    def drop(self) -> None:
        """Close without a wait for what is unsent: it must not arrive later."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        if not self.closed:
            _Stream.close(self)
            if self.server.links.get(self.process) is self:
                del self.server.links[self.process]


def _run_in_batches() -> None:
    """Have the scheduler not interrupt whoever runs when something comes in for us (SCHED_BATCH, sched(7)). Nodes and
    clients that share processors otherwise interrupt each other at every frame and reply, and wait for a processor
    while another one is idle; so what comes in meanwhile is one turn (SET of three nodes on two processors: 8 % more at
    -P 16, 10 to 25 % at -P 1). A node by itself has no frames, and would lose a tenth."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:  # the operator wants nothing else
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _usage() -> Usage:
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss * 1024
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # where there is no /proc
        resident = peak
    return Usage(resident, peak, used.ru_utime, used.ru_stime)


def _framed(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


class _Server:
    """The sockets of one node."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        clients: socket.socket,
        peers: socket.socket,
        gossip: socket.socket,
    ) -> None:
        self.settings = settings
        self.node = node
        self.now = trio.current_time()
        self.epoll = select.epoll()
        self.clients: dict[int, _Client] = {}
        self.links: dict[int, _Link] = {}
        self.ending: set[_Client] = set()
        """Clients that have sent everything and still wait for replies."""
        self.lost: list[int] = []
        """Processes whose links broke in this turn."""
        self.nursery: trio.Nursery
        self._gossip = gossip
        self._listeners: dict[socket.socket, Callable[[int], None]] = {
            clients: lambda _mask: self._accept(clients, self._open_client),
            peers: lambda _mask: self._accept(peers, self._open_inbound),
        }
        self._deaf: list[socket.socket] = []
        """Listeners that are not listened to for a moment, as there are no descriptors left."""
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._inbound: set[_Inbound] = set()
        self._dialling: dict[int, trio.CancelScope] = {}
        self._alarm = trio.CancelScope()
        self._wake_at = -inf
        for listener in self._listeners:
            self._listen(listener)
        self._watch(gossip.fileno(), select.EPOLLIN, self._read_datagrams)

    # -- turns

    async def run(self) -> None:
        """Turns, one after another; waits only when there is nothing to do."""
        poll = self.epoll.poll
        handlers = self._handlers
        dispatcher = self.node.dispatcher
        self._turn()
        turns = 0
        busy = False
        while True:
            events = poll(0, EVENTS_MAX) or (busy and poll(LINGER_S, EVENTS_MAX))
            if not events:
                busy = False
                if self._alarm.deadline != self._wake_at:
                    self._alarm.deadline = self._wake_at
                await trio.lowlevel.wait_readable(self.epoll.fileno())
                continue
            self.now = trio.current_time()
            handled = 0
            enough = dispatcher.commands + COMMANDS_PER_TURN
            while events:
                handled += len(events)
                for fd, mask in events:
                    handler = handlers.get(fd)
                    if handler is not None:
                        try:
                            handler(mask)
                        except Exception:
                            self._faulty(fd)
                if handled >= EVENTS_PER_TURN or dispatcher.commands >= enough:
                    break
                events = poll(0, EVENTS_MAX)
            self._turn()
            busy = True
            turns += 1
            if turns % TURNS_PER_CHECKPOINT == 0:
                await trio.lowlevel.checkpoint()

    async def tick(self) -> None:
        """Turns that time makes necessary while nothing comes in."""
        while True:
            with trio.CancelScope(deadline=self._wake_at) as self._alarm:
                await trio.sleep_forever()
            self._turn()

    def _turn(self) -> None:
        """Everything that has come in has been handed over: take what is to be done, and do it."""
        node = self.node
        self.now = now = trio.current_time()
        if now >= self._wake_at:
            node.wake(now)
        self._apply(node.take(now))
        while self.lost:
            lost, self.lost = self.lost, []
            for process in lost:
                node.link_down(now, process)
            self._apply(node.take(now))
        for client in [client for client in self.ending if client.done]:
            client.close()

    def _apply(self, outbox: Outbox) -> None:
        clients = self.clients
        for session, data in outbox.replies:
            client = clients.get(session.id)
            if client is not None:
                client.reply(data)
        for process, payload in outbox.frames:
            link = self.links.get(process)
            if link is not None:
                link.frame(payload)
        for session, held in outbox.holds:
            client = clients.get(session.id)
            if client is not None:
                client.hold(held)
        for session in outbox.closing:
            client = clients.get(session.id)
            if client is not None:
                client.ended = True
                client.reads = False
                client.update()
                self.ending.add(client)
        for session in outbox.kills:
            client = clients.get(session.id)
            if client is not None:
                client.close()
        for address, payload in outbox.datagrams:
            self._send_datagram(address, payload)
        for process in outbox.drops:
            self._drop(process)
        for process, address in outbox.dials:
            self._drop_older(process)
            self.nursery.start_soon(self._dial, process, address)
        for ticket, address, payload in outbox.exchanges:
            self.nursery.start_soon(self._exchange, ticket, address, payload)
        for level, text in outbox.log:
            log.log(_LEVELS[level], "%s", text)
        self._wake_at = outbox.wake_at
        if outbox.stop:
            raise NameInUse(outbox.stop)

    def _faulty(self, fd: int) -> None:
        """A fault of ours, or a peer that sends what is no frame: it costs the connection, not the node."""
        log.exception("a connection is closed, as its input could not be worked on")
        owner = getattr(self._handlers.get(fd), "__self__", None)
        if isinstance(owner, _Stream):
            owner.broken()

    # -- connections

    def _watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self.epoll.register(fd, mask)

    def forget(self, fd: int) -> None:
        """A descriptor is about to be closed."""
        self._handlers.pop(fd, None)
        with contextlib.suppress(OSError):
            self.epoll.unregister(fd)

    def _listen(self, listener: socket.socket) -> None:
        self._watch(listener.fileno(), select.EPOLLIN, self._listeners[listener])

    def _accept(self, listener: socket.socket, opened: Callable[[socket.socket, tuple[str, int]], None]) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                connection, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.warning("no connection can be accepted for a moment: %s", error)
                    self.forget(listener.fileno())
                    self._deaf.append(listener)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened(connection, address[:2])

    def _open_client(self, connection: socket.socket, address: tuple[str, int]) -> None:
        if len(self.clients) >= self.settings.clients_max:
            with contextlib.suppress(OSError):
                connection.send(b"-ERR max number of clients reached\r\n")
            connection.close()
            self.node.refused_client()
            return
        local = connection.getsockname()
        session = self.node.open(self.now, f"{address[0]}:{address[1]}", f"{local[0]}:{local[1]}")
        client = _Client(self, connection, connection.fileno(), session=session)
        self.clients[session.id] = client
        self._watch(client.fd, client.mask, client.on_event)

    def _open_inbound(self, connection: socket.socket, address: tuple[str, int]) -> None:
        inbound = _Inbound(self, connection, connection.fileno(), source=address, opened=self.now)
        self._inbound.add(inbound)
        self._watch(inbound.fd, inbound.mask, inbound.on_event)

    async def look_after(self) -> None:
        """Close connections to the peer port that say nothing; listen again where descriptors had run out; see what
        this process uses, and have it use that well."""
        pages = HugePages()
        while True:
            self.node.usage = _usage()
            with contextlib.suppress(OSError, RuntimeError):  # no descriptor, or no thread, is left for a moment
                await trio.to_thread.run_sync(pages.step)
            await trio.sleep(LOOK_AFTER_S)
            now = trio.current_time()
            self._inbound = {inbound for inbound in self._inbound if not inbound.closed}
            for inbound in list(self._inbound):
                if inbound.process is None and now - inbound.opened > FIRST_FRAME_WITHIN_S:
                    inbound.close()
            deaf, self._deaf = self._deaf, []
            for listener in deaf:
                self._listen(listener)

    async def await_leave(self, scope: trio.CancelScope) -> None:
        """End the node that was told to leave once its share is handed back, or its time is up."""
        node = self.node
        while not node.leaving:
            await trio.sleep(LEAVE_POLL_S)
        began = trio.current_time()
        await trio.sleep(min(2 * self.settings.gossip.gossip_interval, self.settings.leave_grace))
        while not node.steward.drained and trio.current_time() - began < self.settings.leave_grace:
            await trio.sleep(LEAVE_POLL_S)
        if node.steward.drained:
            log.info("the share is handed back, in %.1f s", trio.current_time() - began)
        else:
            log.warning("the grace of %g s is over: going with copies that nobody has taken", self.settings.leave_grace)
        scope.cancel()

    # -- peers

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
        answer = None
        stream = None
        with trio.move_on_after(DIAL_WITHIN_S) as scope:
            self._dialling[process] = scope
            try:
                stream = await trio.open_tcp_stream(address[0], address[1])
                answer = await _ask(stream, self.node.hello(process))
            except (OSError, trio.BrokenResourceError):
                pass
        superseded = self._dialling.get(process) is not scope
        if not superseded:
            del self._dialling[process]
        self.now = trio.current_time()
        if stream is not None and answer is not None and not superseded:
            if self.node.welcome(self.now, process, answer):
                self._open_link(process, stream)
            else:
                await trio.aclose_forcefully(stream)
        else:
            if stream is not None:
                await trio.aclose_forcefully(stream)
            if not superseded:
                self.node.link_down(self.now, process)
        self._turn()

    def _open_link(self, process: int, stream: trio.SocketStream) -> None:
        connection = socket.socket(fileno=stream.socket.detach())
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(self, connection, connection.fileno(), process=process)
        self.links[process] = link
        _run_in_batches()
        self._watch(link.fd, link.mask, link.on_event)

    async def _exchange(self, ticket: int, address: tuple[str, int], payload: bytes) -> None:
        answer = None
        with trio.move_on_after(DIAL_WITHIN_S):
            try:
                stream = await trio.open_tcp_stream(address[0], address[1])
                async with stream:
                    answer = await _ask(stream, payload)
            except (OSError, trio.BrokenResourceError):
                pass
        self.now = trio.current_time()
        self.node.exchange_answer(self.now, ticket, answer)
        self._turn()

    # -- gossip

    def _read_datagrams(self, _mask: int) -> None:
        for _ in range(DATAGRAMS_MAX):
            try:
                payload, address = self._gossip.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError:
                continue  # what came back for an earlier one of ours: nobody listens there
            self.node.datagram(self.now, address[:2], payload)

    def _send_datagram(self, address: tuple[str, int], payload: bytes) -> None:
        if _is_literal(address[0]):
            with contextlib.suppress(OSError):  # gossip repeats itself
                self._gossip.sendto(payload, address)
        elif address[0]:
            self.nursery.start_soon(self._resolve_and_send, address, payload)

    async def _resolve_and_send(self, address: tuple[str, int], payload: bytes) -> None:
        with contextlib.suppress(OSError), trio.move_on_after(DIAL_WITHIN_S):
            found = await trio.socket.getaddrinfo(*address, family=self._gossip.family, type=socket.SOCK_DGRAM)
            self._gossip.sendto(payload, found[0][4])

    # -- the end

    def leave(self) -> None:
        """Say goodbye, as far as that takes no time."""
        now = trio.current_time()
        self.node.leave(now)
        for address, payload in self.node.take(now).datagrams:
            if _is_literal(address[0]):
                with contextlib.suppress(OSError):
                    self._gossip.sendto(payload, address)

    def close(self) -> None:
        """Close every connection."""
        for stream in [*self.clients.values(), *self.links.values(), *self._inbound]:
            stream.close()
        self.epoll.close()


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


@lru_cache(maxsize=1024)
def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
