"""The only loop that runs: turns and life time around a `Node`.

The hot path is one trio task over an epoll of its own: what is readable is read, all of it goes through the node, and
every client and every peer is written once. No task, event or cancel scope per connection or operation; what is rare
(dialling, gossip's exchanges, names to look up) is ordinary trio.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Final

import trio

from peerkv import __version__
from peerkv.clients.session import Session
from peerkv.commands.slowlog import SLOWLOG
from peerkv.node import Node, Outbox
from peerkv.settings import Settings, address_text, seed_text
from peerkv.shell.clients import Clients
from peerkv.shell.log import escaped
from peerkv.shell.peers import Peers
from peerkv.shell.process import clients_possible, is_outgoing, usage
from peerkv.shell.stream import Loop
from peerkv.steward import Steward
from peerkv.transactions import Job

log = logging.getLogger("peerkv")

EVENTS_MAX: Final = 1024
EVENTS_PER_TURN: Final = 64
COMMANDS_PER_TURN: Final = 160
"""A turn reads again what has come while it read, until there is nothing, or so much. Larger turns cost less per
command (of three nodes a fifth at -P 1); with still larger ones the other nodes have nothing to do meanwhile."""
LINGER_S: Final = 0.001
"""After a turn that had something to do the next one is waited for so long right here: a way through trio's scheduler
and its own epoll costs as much as a small turn."""
TURNS_PER_CHECKPOINT: Final = 8
TIME_EVERY_S: Final = 0.005
"""A buffer of a client is timed so often at most."""
LEAVE_POLL_S: Final = 0.05
LOOK_AFTER_S: Final = 1.0

FREE_PORT_ATTEMPTS: Final = 20
_OUTGOING: Final = (
    "the system gives such ports to outgoing connections (net.ipv4.ip_local_port_range), and one of them may hold it"
    " when this node starts: choose another, or add it to net.ipv4.ip_local_reserved_ports"
)
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
    possible = clients_possible()
    if possible < settings.clients_max:
        log.warning(
            "clients_max is %d, but with the files that this process may open %d clients are possible: raise the limit"
            " (ulimit -n, LimitNOFILE=)",
            settings.clients_max,
            possible,
        )
        settings = replace(settings, clients_max=possible)
    with listening(settings) as (clients, peers, gossip):
        settings = replace(settings, port=clients.getsockname()[1], peer_port=peers.getsockname()[1])
        for port, key in ((settings.port, "port"), (settings.peer_port, "peer_port")):
            if is_outgoing(port):
                log.warning("%s %d: %s", key, port, _OUTGOING)
        node = Node(settings, rng, trio.current_time(), time.time())
        SLOWLOG.stopwatch = time.perf_counter_ns
        settings = node.settings
        for text in _introduction(settings):
            log.info("%s", escaped(text))
        async with trio.open_nursery() as nursery:
            server = _Server(settings, node, clients, peers, gossip, nursery)
            try:
                nursery.start_soon(server.tick)
                nursery.start_soon(server.look_after)
                nursery.start_soon(server.await_leave, nursery.cancel_scope)
                task_status.started(Serving(node, settings.port, settings.peer_port))
                await server.run()
            finally:
                server.close()


def _introduction(settings: Settings) -> Iterator[str]:
    """Who this node is."""
    clients, peers = address_text(settings.host, settings.port), address_text(settings.host, settings.peer_port)
    yield (
        f"peerkv {__version__}, {settings.role.value} node {settings.name} of cluster {settings.cluster}:"
        f" clients at {clients}, peers at {peers}"
    )
    default = Settings()
    shown = ("name", "cluster", "role", "host", "port", "peer_port", "seeds")
    different = [
        f"{entry.name} = {getattr(settings, entry.name)}"
        for entry in fields(settings)
        if entry.name not in shown and getattr(settings, entry.name) != getattr(default, entry.name)
    ]
    if different:
        yield "not by default: " + ", ".join(different)
    if settings.seeds:
        yield "to meet first: " + ", ".join(seed_text(seed) for seed in settings.seeds)


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """The sockets of clients, peers and gossip, closed at the end. Raises PortTaken."""
    with contextlib.ExitStack() as sockets:
        clients = sockets.enter_context(_listener(settings, settings.port, "clients", socket.SOCK_STREAM))
        attempts = 1 if settings.peer_port else FREE_PORT_ATTEMPTS
        while True:
            peers = _listener(settings, settings.peer_port, "peers", socket.SOCK_STREAM)
            attempts -= 1
            try:
                gossip = _listener(settings, peers.getsockname()[1], "gossip", socket.SOCK_DGRAM)
                break
            except PortTaken:
                peers.close()  # free for TCP only
                if not attempts:
                    raise
        yield clients, sockets.enter_context(peers), sockets.enter_context(gossip)


def _last(steward: Steward) -> tuple[int, int]:
    slots, keys = steward.last_copies()
    return keys, slots


def _listener(settings: Settings, port: int, what: str, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:  # :: is IPv4, too
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind is socket.SOCK_STREAM:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, port))
        except OverflowError:
            raise OSError(errno.EINVAL, "there is no such port") from None
        if kind is socket.SOCK_STREAM:
            listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        text = f"port {port} ({what} of {settings.name}) on {settings.host}: {error.strerror}"
        if error.errno == errno.EADDRINUSE and is_outgoing(port):
            text += f"; {_OUTGOING}"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            text += "; the host must be a name or an address of this machine, or 0.0.0.0 for all of them"
        raise PortTaken(text) from error
    return listener


class _Server:
    """The sockets of one node, and its turns."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        clients: socket.socket,
        peers: socket.socket,
        gossip: socket.socket,
        nursery: trio.Nursery,
    ) -> None:
        self._loop = Loop(node, settings, self._turn)
        self._clients = Clients(self._loop, clients)
        self._peers = Peers(self._loop, peers, gossip, nursery)
        self._was_ready: bool | None = None
        """Whether requests could be served when that was looked at last; None: never yet."""
        self._nursery = nursery
        self._one_job = trio.CapacityLimiter(1)
        """Scripts of a process run in one machine."""
        self._alarm = trio.CancelScope()
        self._wake_at = -inf
        self._time_at = -inf
        """When the next buffer of a client is timed."""

    # -- turns

    async def run(self) -> None:
        """Turns, one after another; waits only when there is nothing to do."""
        loop = self._loop
        poll = loop.epoll.poll
        handle = loop.handle
        dispatcher = loop.node.dispatcher
        self._turn()
        turns = 0
        busy = False
        while True:
            again = self._wake_at <= loop.now
            events = poll(0, EVENTS_MAX) or (busy and not again and poll(LINGER_S, EVENTS_MAX))
            if not events and not again:
                busy = False
                if self._alarm.deadline != self._wake_at:
                    self._alarm.deadline = self._wake_at
                await trio.lowlevel.wait_readable(loop.epoll.fileno())
                continue
            loop.now = trio.current_time()
            loop.handled = 0
            loop.full = False
            loop.input_bytes = 0
            enough = dispatcher.commands + COMMANDS_PER_TURN
            while events:
                loop.handled += len(events)
                for fd, mask in events:
                    handle(fd, mask)
                if loop.full or loop.handled >= EVENTS_PER_TURN or dispatcher.commands >= enough:
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
        loop = self._loop
        node = loop.node
        loop.now = now = trio.current_time()
        if now >= self._wake_at:
            node.wake(now)
        self._apply(node.take(now))
        while self._peers.lost:
            lost, self._peers.lost = self._peers.lost, []
            for process in lost:
                node.link_down(now, process)
            self._apply(node.take(now))
        self._clients.close_done()
        if node.more:
            self._wake_at = now
        if now >= self._time_at:
            self._time_at = now + TIME_EVERY_S
            loop.receive = self._receive_timed

    def _receive_timed(self, now: float, session: Session, data: bytes) -> list[list[bytes]]:
        node = self._loop.node
        self._loop.receive = node.receive
        began = time.perf_counter_ns()
        requests = node.receive(now, session, data)
        node.took(requests, time.perf_counter_ns() - began)
        return requests

    def _apply(self, outbox: Outbox) -> None:
        if outbox.pause_clients is not None:
            self._clients.pause(outbox.pause_clients)
        self._clients.apply(outbox)
        self._peers.apply(outbox)
        for job in outbox.jobs:
            self._nursery.start_soon(self._do, job)
        for level, text in outbox.log:
            log.log(_LEVELS[level], "%s", escaped(text))
        self._wake_at = outbox.wake_at
        if outbox.stop:
            raise NameInUse(outbox.stop)

    async def _do(self, job: Job) -> None:
        """Run a job in a thread, when those before it have been run, and hand it back."""
        await trio.to_thread.run_sync(job.run, limiter=self._one_job, abandon_on_cancel=True)
        self._loop.node.job_done(trio.current_time(), job)
        self._turn()

    # -- life time

    async def look_after(self) -> None:
        """Close connections to the peer port that say nothing; listen again where descriptors had run out; see what
        this process uses, and what the wall clock says."""
        node = self._loop.node
        level = node.settings.log_level
        while True:
            node.usage = usage()
            if node.settings.log_level != level:
                level = node.settings.log_level
                log.setLevel(_LEVELS[level])
            node.wall(trio.current_time(), time.time())
            self._tell_ready()
            self._turn()
            await trio.sleep(LOOK_AFTER_S)
            self._peers.close_silent()
            self._clients.listener.listen_again()
            self._peers.listener.listen_again()

    def _tell_ready(self) -> None:
        """Say whether requests can be served, when that changes."""
        ready = self._loop.node.ready
        if ready and not self._was_ready:
            log.info("ready" if self._was_ready is None else "ready again: of every slot a majority can be reached")
        elif self._was_ready and not ready:
            log.warning("of some slots no majority of owners can be reached: requests for them will answer NOQUORUM")
        if ready or self._was_ready:
            self._was_ready = ready

    async def await_leave(self, scope: trio.CancelScope) -> None:
        """End the node that was told to leave once its share is handed back, or its time is up. Where nobody is there
        who could take it, somebody may come."""
        node, settings = self._loop.node, self._loop.settings
        steward = node.steward
        while not node.leaving:
            await trio.sleep(LEAVE_POLL_S)
        began = trio.current_time()
        had_share = steward.has_share
        await trio.sleep(min(2 * settings.gossip.gossip_interval, settings.leave_grace))
        said = False
        while not steward.drained and not steward.is_alone and trio.current_time() - began < settings.leave_grace:
            if not said and not steward.heirs:
                said = True
                log.warning("nobody is here who could take the last copies of %d keys of %d slots", *_last(steward))
            await trio.sleep(LEAVE_POLL_S)
        took = trio.current_time() - began
        if not steward.has_share:
            log.info(
                "the share is handed back, in %.1f s" if had_share else "going, without a share, after %.1f s", took
            )
        elif steward.drained:
            log.info("going: nothing is lost with this node")
        else:
            log.warning("going after %.1f s: nobody has taken the share", took)
            log.warning("with this node go the last copies of %d keys of %d slots", *_last(steward))
        scope.cancel()

    def close(self) -> None:
        """Say goodbye, as far as that takes no time, and close every connection."""
        now = trio.current_time()
        node = self._loop.node
        node.leave(now)
        self._peers.say_goodbye(node.take(now))
        self._clients.close()
        self._peers.close()
        self._loop.epoll.close()
