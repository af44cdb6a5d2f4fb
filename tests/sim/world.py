"""A simulated network, clock and processes around the nodes that ship: one thread, virtual time, one seed."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from math import inf
from typing import Any, Final

from peerkv.clients.session import Session
from peerkv.node import Node
from peerkv.resp import Replies, Reply, encode_request
from peerkv.settings import Role, Settings

WALL: Final = 1_700_000_000.0
DIAL_WITHIN_S: Final = 2.0
LEAVE_LINGERS_S: Final = 0.3
FOLLOW_LEAST: Final = 2
"""Operations a second that homes follow: clients here send a few dozen in all."""
BREAK_AFTER_S: Final = (1.0, 15.0)
"""A TCP connection over a cut path breaks after some time in this range."""


class Connection:
    """A client's connection to a node."""

    def __init__(self, world: World, host: Host, session: Session) -> None:
        self.world = world
        self.host = host
        self.node = host.node
        self.session = session
        self.replies = Replies()
        self.on_reply: Callable[[Reply], None] = lambda _reply: None
        self.on_lost: Callable[[], None] = lambda: None
        self._sent = 0.0
        self._received = 0.0

    def send(self, *requests: tuple[bytes, ...]) -> None:
        data = b"".join(encode_request(request) for request in requests)
        self._sent = self.world.in_order(self._sent, self._deliver, data)

    def close(self) -> None:
        """The client goes; what it has sent arrives before that."""
        self._sent = self.world.in_order(self._sent, self._closed)

    def receive(self, data: bytes) -> None:
        """The node has written this."""
        for reply in self.replies.feed(data):
            self._received = self.world.in_order(self._received, self._reply, reply)

    def _reply(self, reply: Reply) -> None:
        self.on_reply(reply)

    def _deliver(self, data: bytes) -> None:
        node = self.node
        if node is not None and self.host.node is node:
            self.host.input(lambda now: node.receive(now, self.session, data))

    def _closed(self) -> None:
        node = self.node
        if node is not None and self.host.node is node:
            self.host.connections.remove(self)
            self.host.input(lambda now: node.close(now, self.session))


class Host:
    """A place where one node runs, is stopped, is killed and started again."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.settings = settings
        self.node: Node | None = None
        self.started = 0.0
        self.offset = 0.0
        self.rate = 1.0
        self.paused = False
        self.left = False
        """Its node has handed its share back and ended."""
        self._going = False
        self.links: dict[int, Link] = {}
        """Those that this node dialled, by process."""
        self.connections: list[Connection] = []
        self._inputs: list[Callable[[float], Any]] = []
        """What came while the process was stopped."""
        self._wakes_at = inf

    def local(self) -> float:
        """The node's own clock."""
        return self.offset + self.world.now * self.rate

    def start(self) -> None:
        world = self.world
        rng = world.rng
        self.offset = rng.uniform(0, 1e6)
        self.rate = 1 + rng.uniform(-1e-4, 1e-4)
        self.paused = self.left = self._going = False
        self._wakes_at = inf
        self._inputs.clear()
        wall = WALL + world.now + rng.uniform(-2, 2)
        self.node = Node(self.settings, random.Random(rng.getrandbits(64)), self.local(), wall)
        world.by_process[self.node.process] = self
        self.started = world.now
        self.turn()

    def kill(self) -> None:
        """Its peers and clients learn it from their connections, where these can tell."""
        node, self.node = self.node, None
        assert node is not None, "only what runs can be killed"
        self.links.clear()
        for other in self.world.hosts.values():
            link = other.links.get(node.process)
            if link is not None:
                self.world.after(self.world.delay(), link.break_)
        connections, self.connections = self.connections, []
        for connection in connections:
            self.world.after(self.world.delay(), connection.on_lost)

    def _go(self, node: Node) -> None:
        """Drained: the process ends, as `server` has it."""
        if self.node is node and node.steward.drained:
            if not self.paused:
                node.leave(self.local())
                self.turn()
            self.world.trace(f"{self.settings.name} has gone")
            self.kill()
            self.left = True
        self._going = False

    def input(self, deliver: Callable[[float], Any]) -> None:
        """Hand something to the node, or to the kernel's buffer while it is stopped."""
        if self.paused:
            self._inputs.append(deliver)
        elif self.node is not None:
            deliver(self.local())
            self.turn()

    def resume(self) -> None:
        self.paused = False
        inputs, self._inputs = self._inputs, []
        for deliver in inputs:
            if self.node is not None:
                deliver(self.local())
        self.turn()
        self._wakes_at = inf
        self._schedule(0.0)

    def turn(self) -> None:
        node = self.node
        if node is None:
            return
        world = self.world
        if node.leaving and node.steward.drained and not self._going:
            self._going = True
            world.after(LEAVE_LINGERS_S, self._go, node)
        outbox = node.take(self.local())
        for level, text in outbox.log:
            world.trace(f"{self.settings.name} {level}: {text}")
        for session, data in outbox.replies:
            for connection in self.connections:
                if connection.session is session:
                    connection.receive(data)
        for process, payload in outbox.frames:
            link = self.links.get(process)
            if link is not None:
                link.send(payload)
        for process in outbox.drops:
            link = self.links.pop(process, None)
            if link is not None:
                link.broken = True
            world.after(0.0, self._report_down, node, process)
        for process, address in outbox.dials:
            old = self.links.pop(process, None)
            if old is not None:
                old.broken = True
            world.after(world.delay(), self._dial, node, process, address)
        for address, payload in outbox.datagrams:
            world.datagram(self, address, payload)
        for ticket, address, payload in outbox.exchanges:
            world.after(world.delay(), self._exchange, node, ticket, address, payload)
        self._schedule(outbox.wake_at)

    def _schedule(self, wake_at: float) -> None:
        at = max(self.world.now, (wake_at - self.offset) / self.rate) if wake_at != inf else inf
        if at < self._wakes_at:
            self._wakes_at = at
            self.world.at(at + 1e-6, self._wake, self.node, at)

    def _wake(self, node: Node | None, at: float) -> None:
        if node is None or self.node is not node or self._wakes_at != at or self.paused:
            return
        self._wakes_at = inf
        node.wake(self.local())
        self.turn()

    def _report_down(self, node: Node, process: int) -> None:
        if self.node is node:
            self.input(lambda now: node.link_down(now, process))

    def _dial(self, node: Node, process: int, address: tuple[str, int]) -> None:
        world = self.world
        target = world.by_port.get(address[1])
        if self.node is not node:
            return
        if target is None or target.node is None:
            world.after(world.delay(), self._report_down, node, process)
        elif world.is_cut(self, target) or world.is_cut(target, self) or target.paused:
            world.after(DIAL_WITHIN_S, self._report_down, node, process)
        else:
            answer, caller = target.node.accept(target.local(), (self.settings.name, 1), node.hello(process))
            target.turn()
            world.after(world.delay(), self._welcome, node, process, target, answer if caller else b"")

    def _welcome(self, node: Node, process: int, target: Host, answer: bytes) -> None:
        def deliver(now: float) -> None:
            if answer and node.welcome(now, process, answer):
                self.links[process] = Link(self, target, process)
            elif not answer:
                node.link_down(now, process)

        if self.node is node:
            self.input(deliver)

    def _exchange(self, node: Node, ticket: int, address: tuple[str, int], payload: bytes) -> None:
        world = self.world
        target = world.by_port.get(address[1])
        if target is None or target.node is None:
            world.after(world.delay(), self._exchanged, node, ticket, None)
        elif world.is_cut(self, target) or world.is_cut(target, self) or target.paused:
            world.after(DIAL_WITHIN_S, self._exchanged, node, ticket, None)
        else:
            answer, _ = target.node.accept(target.local(), ("127.0.0.1", 1), payload)
            target.turn()
            world.after(world.delay(), self._exchanged, node, ticket, answer or None)

    def _exchanged(self, node: Node, ticket: int, answer: bytes | None) -> None:
        if self.node is node:
            self.input(lambda now: node.exchange_answer(now, ticket, answer))


class Link:
    """A TCP connection of one node to another: what arrives, arrives in order; or it breaks."""

    def __init__(self, source: Host, target: Host, process: int) -> None:
        self.source = source
        self.target = target
        self.process = process
        self.dialler = source.node
        self.broken = False
        self._arrives = 0.0
        self._stalled: list[bytes] = []

    def send(self, payload: bytes) -> None:
        world = self.source.world
        if world.is_cut(self.source, self.target) or self._stalled:
            if not self._stalled:
                world.after(world.rng.uniform(*BREAK_AFTER_S), self._break_if_stalled)
            self._stalled.append(payload)
            return
        self._arrives = max(self._arrives + 1e-9, world.now + world.delay())
        world.at(self._arrives, self._arrive, payload)

    def path_is_back(self) -> None:
        stalled, self._stalled = self._stalled, []
        for payload in stalled:
            self.send(payload)

    def _arrive(self, payload: bytes) -> None:
        node = self.target.node
        sender = self.dialler
        if not self.broken and node is not None and node.process == self.process and sender is not None:
            self.target.input(lambda now: node.frame(now, sender.process, payload))

    def _break_if_stalled(self) -> None:
        if self._stalled:
            self.break_()

    def break_(self) -> None:
        """The dialler learns of it; what was under way is lost."""
        source, dialler = self.source, self.dialler
        if self.broken or dialler is None or source.node is not dialler:
            return
        self.broken = True
        if source.links.get(self.process) is self:
            del source.links[self.process]
            source.input(lambda now: dialler.link_down(now, self.process))


class World:
    """Time, chance and the network."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.hosts: dict[str, Host] = {}
        self.by_port: dict[int, Host] = {}
        self.by_process: dict[int, Host] = {}
        self.cuts: set[tuple[str, str]] = set()
        """(from, to) of directions in which nothing gets through."""
        self.loss = 0.0
        self.duplication = 0.0
        self.latency = 0.0005
        self.forget_after = 60.0
        self._events: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = itertools.count()
        self._tracing = tracing

    def trace(self, text: str) -> None:
        if self._tracing:
            print(f"{self.now:9.4f} {text}")

    def at(self, time: float, run: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._count), run, arguments))

    def after(self, seconds: float, run: Callable[..., Any], *arguments: Any) -> None:
        self.at(self.now + seconds, run, *arguments)

    def in_order(self, last: float, run: Callable[..., Any], *arguments: Any) -> float:
        """Run something after a delay, but not before `last`; when that will be."""
        at = max(last + 1e-9, self.now + self.delay())
        self.at(at, run, *arguments)
        return at

    def delay(self) -> float:
        """Mostly the latency, sometimes much more."""
        rng = self.rng
        return self.latency * (rng.uniform(0.5, 1.5) if rng.random() < 0.98 else rng.uniform(2, 40))

    def run(self, until: float) -> None:
        events = self._events
        while events and events[0][0] <= until:
            time, _, run, arguments = heapq.heappop(events)
            self.now = max(self.now, time)
            run(*arguments)
        self.now = until

    def cluster(self, data: int, replicas: int = 3, *, master: bool = True) -> None:
        """A master and data nodes that join it; without it the first data node has the cluster born."""
        names = ["master", *(f"db{number}" for number in range(1, data + 1))]
        for number, name in enumerate(names):
            if name == "master" and not master:
                continue
            role = Role.MASTER if name == "master" else Role.DATA
            seeds = tuple(("127.0.0.1", 7000 + other) for other in range(len(names)) if other != number)
            settings = Settings(
                name=name,
                role=role,
                port=7000 + number,
                seeds=seeds,
                founds=number == 1 and not master,
                expect=data,
                follow_least=FOLLOW_LEAST,
                replicas=replicas,
                forget_after=self.forget_after,
            )
            self.add(settings)

    def add(self, settings: Settings) -> Host:
        """A node of its own."""
        host = self.hosts[settings.name] = self.by_port[settings.peer_port] = Host(self, settings)
        host.start()
        return host

    def datagram(self, source: Host, address: tuple[str, int], payload: bytes) -> None:
        target = self.by_port.get(address[1])
        if target is None or self.is_cut(source, target):
            return
        for _ in range(2 if self.rng.random() < self.duplication else 1):
            if self.rng.random() >= self.loss:
                self.after(self.delay() * self.rng.uniform(1, 3), self._arrived, source, target, payload)

    def _arrived(self, source: Host, target: Host, payload: bytes) -> None:
        node = target.node
        if node is not None:
            address = ("127.0.0.1", source.settings.peer_port)
            target.input(lambda now: node.datagram(now, address, payload))

    def is_cut(self, source: Host, target: Host) -> bool:
        return (source.settings.name, target.settings.name) in self.cuts

    def heal(self) -> None:
        self.cuts.clear()
        for host in self.hosts.values():
            for link in list(host.links.values()):
                link.path_is_back()

    def connect(self, name: str) -> Connection | None:
        """A client's connection; None: nobody listens there."""
        host = self.hosts[name]
        if host.node is None or host.paused:
            return None
        connection = Connection(self, host, host.node.open(host.local(), "client:1", "node:1"))
        host.connections.append(connection)
        return connection
