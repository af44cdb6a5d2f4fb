"""A simulated network, clock and processes around the nodes that ship: one thread, virtual time, one seed."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final
from unittest.mock import patch

from peerkv.clients.session import Session
from peerkv.gossip.member import PROTOCOL_VERSIONS
from peerkv.node import Node, Outbox
from peerkv.resp import Replies, Reply, encode_request
from peerkv.ring.topology import Topology
from peerkv.settings import Recover, Role, Settings
from tests.sim.checker import Checked, History

SLOTS: Final = 512
"""Of a simulated cluster: with the 16384 that ship two thirds of the time go into slots of no key."""
WALL: Final = 1_700_000_000.0
WALL_WRONG_S: Final = (2.0, 2.0, 2.0, 3600.0)
"""A node's wall clock is wrong by so much at its start, at most."""
DIAL_WITHIN_S: Final = 2.0
LEAVE_LINGERS_S: Final = 0.3
FOLLOW_LEAST: Final = 2
"""Operations a second that homes follow: clients here send a few dozen in all."""
RETRANSMITTED_S: Final = 0.2
"""TCP sends again after this long."""
LOOK_PERIOD_S: Final = 1.0
"""How often everything is looked at that must hold of a node's copies."""
READ_BYTES: Final = 1 << 16
"""Read from one client per turn, and ..."""
PAUSE_OUTPUT_BYTES: Final = 1 << 20
"""... nothing while it has so much to read; both as `shell` has it."""
BYTES_PER_UNIT: Final = 100
"""Bytes of a frame that cost as much as a command: about one change, or one forwarded operation."""
TAKEOVER_UNITS: Final = 4
"""A slot that is taken over costs as much as so many commands: of 512 prepared at a time 5 ms at either end."""
BREAK_AFTER_S: Final = (1.0, 15.0)
"""A TCP connection over a cut path breaks after some time in this range."""


class Connection:
    """A client's connection to a node, with what the kernels at both ends hold of it."""

    def __init__(self, world: World, host: Host, session: Session) -> None:
        self.world = world
        self.host = host
        self.node = host.node
        self.session = session
        self.replies = Replies()
        self.on_reply: Callable[[Reply], None] = lambda _reply: None
        self.on_lost: Callable[[], None] = lambda: None
        self.reads_per_s = inf
        """Bytes of replies that the client reads in a second."""
        self.unread = 0
        """Bytes of replies that it has not read yet."""
        self.held = False
        """The node wants nothing more of it for now."""
        self.arrived: deque[bytes] = deque()
        """What the node has not read yet."""
        self.ended = False
        """The client has sent all that it will."""
        self.closed = False
        self._sent = 0.0
        self._received = 0.0

    def send(self, *requests: tuple[bytes, ...]) -> None:
        data = b"".join(encode_request(request) for request in requests)
        self._sent = self.world.in_order(self._sent, self.arrive, data)

    def close(self) -> None:
        """The client goes; what it has sent arrives before that, and replies reach it no more."""
        self.on_reply = lambda _reply: None
        self.on_lost = lambda: None
        self._sent = self.world.in_order(self._sent, self._end)

    def arrive(self, data: bytes) -> None:
        """Bytes of the client reach the node's host."""
        if not self.closed:
            self.arrived.append(data)
            self.host.readable(self)

    def _end(self) -> None:
        if not self.closed:
            self.ended = True
            self.host.readable(self)

    @property
    def readable(self) -> bool:
        """Whether the node reads from it, and there is something."""
        return (bool(self.arrived) or self.ended) and not self.held and self.unread < PAUSE_OUTPUT_BYTES

    def read(self, now: float) -> None:
        """The node reads, at most so much in a turn; or finds that the client is gone."""
        node = self.node
        assert node is not None, "of a host that runs"
        size = 0
        while self.arrived and size < READ_BYTES:
            data = self.arrived.popleft()
            size += len(data)
            node.receive(now, self.session, data)
        if self.ended and not self.arrived:
            self.ended = False
            self.closed = True
            self.host.connections.pop(self.session.id, None)
            node.close(now, self.session)

    def write(self, data: bytes) -> None:
        """The node has written this."""
        self.unread += len(data)
        self._wrote(self.host.local())
        self._received = max(self._received, self.world.now) + len(data) / self.reads_per_s
        replies = self.replies.feed(data)
        self._received = self.world.in_order(self._received, self._take, len(data), replies)

    def _take(self, size: int, replies: list[Reply]) -> None:
        waits = self.unread >= PAUSE_OUTPUT_BYTES
        self.unread -= size
        if self.node is not None and self.node is self.host.node:
            if self.session.unread > PAUSE_OUTPUT_BYTES:
                self.host.input(self._wrote)
            else:
                self.session.unread = self.unread
        for reply in replies:
            self.on_reply(reply)
        if waits and not self.closed:
            self.host.readable(self)

    def _wrote(self, now: float) -> None:
        if self.node is not None and self.node is self.host.node:
            self.node.wrote(now, self.session, self.unread)

    def cut(self) -> None:
        """The node has closed it, or has died; what was written before arrives."""
        if not self.closed:
            self.closed = True
            self.host.connections.pop(self.session.id, None)
            self._received = self.world.in_order(self._received, self._lost)

    def _lost(self) -> None:
        self.on_lost()


class Host:
    """A place where one node runs, is stopped, is killed and started again."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.settings = settings
        self.node: Node | None = None
        self.versions = world.versions
        """Wire versions of the program that is started here next."""
        self.started = 0.0
        self.offset = 0.0
        self.rate = 1.0
        self.paused = False
        self.left = False
        """Its node has handed its share back and ended."""
        self.stopped = ""
        """Why its node has ended itself."""
        self.topology: Topology | None = None
        """That its node was in after its last turn."""
        self.unit_s = 0.0
        """How long it takes for a unit of work (see `_units`), in which nothing is read; 0: turns take no time."""
        self.longest_turn = 0.0
        self._busy = False
        """A turn is under way; what it wants done has not been done yet."""
        self._late: list[Callable[[], None]] = []
        """Ends of turns during which the process was stopped."""
        self._going = False
        self.links: dict[int, Link] = {}
        """Those that this node dialled, by process."""
        self.connections: dict[int, Connection] = {}
        """Clients', by session."""
        self._ending: list[Session] = []
        """Clients' that are to be closed once nothing is owed to them."""
        self._readable: dict[Connection, None] = {}
        """Those with something to read, perhaps."""
        self._clients_paused = False
        """The node reads from no client for now."""
        self._inputs: list[Callable[[float], Any]] = []
        """What came while the process was stopped or busy."""
        self._wakes_at = inf
        self._wake_due = inf
        self._frames_left = 0
        """So many more, and ..."""
        self._then: Callable[[], None] = lambda: None
        """... something happens; 0: nothing does."""
        self._checked: Checked
        """What watches its copies."""
        self._look_at = 0.0

    def local(self) -> float:
        """The node's own clock."""
        return self._local(self.world.now)

    def _local(self, time: float) -> float:
        return self.offset + time * self.rate

    def start(self) -> None:
        world = self.world
        rng = world.rng
        self.offset = rng.uniform(0, 1e6)
        self.rate = 1 + rng.uniform(-1e-4, 1e-4)
        self.paused = self.left = self._going = self._busy = self._clients_paused = False
        self.stopped = ""
        self.topology = None
        self._wakes_at = self._wake_due = inf
        self._frames_left = 0
        self._inputs.clear()
        self._late.clear()
        wrong = rng.choice(WALL_WRONG_S) * rng.uniform(-1, 1)
        wall = world.now + (WALL + wrong if world.wall is None else world.wall)
        checked = self._checked = Checked(world.history, f"{self.settings.name} (since {world.now:.3f} s)")
        with patch("peerkv.agreement.view.Copies", checked.copies):
            self.node = Node(self.settings, random.Random(rng.getrandbits(64)), self.local(), wall, self.versions)
        world.by_process[self.node.process] = self
        self.started = world.now
        self.turn()

    def kill(self) -> None:
        """Its peers and clients learn it from their connections, where these can tell."""
        node, self.node = self.node, None
        assert node is not None, "only what runs can be killed"
        for link in self.links.values():
            if link.stalled_at < inf:  # what waits to be sent is lost with it
                names = self.settings.name, link.target.settings.name
                self.world.outages.append((*names, link.stalled_at, self.world.now))
        self.links.clear()
        for other in self.world.hosts.values():
            link = other.links.get(node.process)
            if link is not None:
                self.world.after(self.world.delay(), link.break_)
        self._readable.clear()
        self._ending.clear()
        for connection in list(self.connections.values()):
            connection.cut()

    def _go_if_drained(self, node: Node) -> None:
        if self.node is node and node.steward.drained:
            self.go(node)
        self._going = False

    def go(self, node: Node) -> None:
        """The process ends after SIGTERM, as `shell` has it."""
        if not self.paused:
            node.leave(self.local())
            self.turn()
        self.world.trace(f"{self.settings.name} has gone")
        self.kill()
        self.left = True

    # -- turns

    def input(self, deliver: Callable[[float], Any]) -> None:
        """Hand something to the node, or to the kernel's buffer while it is stopped or busy."""
        if self.node is not None:
            self._inputs.append(deliver)
            self.turn()

    def readable(self, connection: Connection) -> None:
        """There is something to read from a client."""
        if self.node is not None:
            self._readable[connection] = None
            self.turn()

    def resume(self) -> None:
        self.paused = False
        late, self._late = self._late, []
        for end in late:
            end()
        self.turn()

    def turn(self) -> None:
        """All that has come in, and what follows from it, as `shell` has it; then the next turn, if more has come
        meanwhile."""
        node = self.node
        if node is None or self.paused or self._busy:
            return
        world = self.world
        began = world.now
        before = self._counts(node)
        now = self._local(began)
        inputs, self._inputs = self._inputs, []
        for deliver in inputs:
            deliver(now)
        if self._readable and not self._clients_paused:
            for connection in [connection for connection in self._readable if connection.readable]:
                connection.read(now)
            self._readable = {connection: None for connection in self._readable if connection.readable}
        if self.unit_s:
            now = self._local(began + self.unit_s * _units(before, self._counts(node), len(inputs)))
        if now >= self._wake_due:
            node.wake(now)
        outbox = node.take(now)
        self._checked.end_turn(node)
        if began >= self._look_at:
            self._look_at = began + LOOK_PERIOD_S
            self._checked.look(node)
        self._wakes_at = self._wake_due = inf
        if self.unit_s:
            took = self.unit_s * _units(before, self._counts(node), len(inputs), outbox)
            self.longest_turn = max(self.longest_turn, took)
            self._busy = True
            world.at(began + took, self._end_turn, node, outbox)
        else:
            self._apply(node, outbox)

    def _end_turn(self, node: Node, outbox: Outbox) -> None:
        if self.node is not node:
            return
        if self.paused:
            self._late.append(lambda: self._end_turn(node, outbox))
            return
        self._busy = False
        self._apply(node, outbox)
        if self._inputs or (self._readable and not self._clients_paused):
            self.turn()

    def after_frames(self, count: int, then: Callable[[], None]) -> None:
        """Do something as soon as the node has sent so many more frames; what a turn was to send behind that is not
        sent if it has ended the node."""
        if self.node is not None:
            self._frames_left, self._then = count, then

    def jump(self, seconds: float) -> None:
        """The node's clock goes forward."""
        self.offset += seconds
        self._wakes_at = inf
        self._schedule(self._wake_due)

    def _counts(self, node: Node) -> tuple[int, int, int]:
        return node.dispatcher.commands, node.replica.counters.takeovers, self.world.frame_bytes

    def _apply(self, node: Node, outbox: Outbox) -> None:
        """Do what a turn of the node wants done."""
        world = self.world
        if node.topology is not self.topology:
            self.topology = node.topology
            world.on_topology(self)
        if node.leaving and node.steward.drained and not self._going:
            self._going = True
            world.after(LEAVE_LINGERS_S, self._go_if_drained, node)
        for level, text in outbox.log:
            world.trace(f"{self.settings.name} {level}: {text}")
        for session, data in outbox.replies:
            connection = self.connections.get(session.id)
            if connection is not None:
                connection.write(data)
        for process, payload in outbox.frames:
            link = self.links.get(process)
            if link is not None:
                link.send(payload)
                if self._frames_left:
                    self._frames_left -= 1
                    if not self._frames_left:
                        self._then()
                        if self.node is not node:
                            return
        for job in outbox.jobs:
            job.run()
            world.after(0.0, self.input, partial(node.job_done, job=job))
        for session, held in outbox.holds:
            connection = self.connections.get(session.id)
            if connection is not None:
                connection.held = held
                if connection.readable:
                    self._readable[connection] = None
                    world.after(0.0, self.turn)
        if outbox.pause_clients is not None:
            self._clients_paused = outbox.pause_clients
        self._ending += [session for session in outbox.closing if session.id in self.connections]
        owed = [session for session in self._ending if session.batches or session.backlog or session.unread]
        for session in (*[session for session in self._ending if session not in owed], *outbox.kills):
            connection = self.connections.get(session.id)
            if connection is not None:
                connection.cut()
                self.input(partial(node.close, session=session))
        self._ending = owed
        for process in outbox.drops:
            link = self.links.pop(process, None)
            if link is not None:
                link.broken = True
                world.link_lost(self, link.target)
            world.after(0.0, self._report_down, node, process)
        for process, address in outbox.dials:
            old = self.links.pop(process, None)
            if old is not None:
                old.broken = True
                world.link_lost(self, old.target)
            world.after(world.delay(), self._dial, node, process, address)
        for address, payload in outbox.datagrams:
            world.datagram(self, address, payload)
        for ticket, address, payload in outbox.exchanges:
            world.after(world.delay(), self._exchange, node, ticket, address, payload)
        if outbox.stop:
            world.trace(f"{self.settings.name} ends: {outbox.stop}")
            self.stopped = outbox.stop
            self.kill()
            return
        self._schedule(self.local() if node.more else outbox.wake_at)

    def _schedule(self, wake_at: float) -> None:
        at = max(self.world.now, (wake_at - self.offset) / self.rate) if wake_at != inf else inf
        if at < self._wakes_at:
            self._wakes_at = at
            self._wake_due = wake_at
            self.world.at(at + 1e-6, self._wake, self.node, at)

    def _wake(self, node: Node | None, at: float) -> None:
        if node is not None and self.node is node and self._wakes_at == at:
            self.turn()

    # -- what takes two

    def _report_down(self, node: Node, process: int) -> None:
        if self.node is node:
            self.input(lambda now: node.link_down(now, process))

    def _dial(self, node: Node, process: int, address: tuple[str, int]) -> None:
        def answered(target: Host | None, answer: bytes | None) -> None:
            def deliver(now: float) -> None:
                if answer is None:
                    node.link_down(now, process)
                elif target is not None and node.welcome(now, process, answer):
                    self.links[process] = Link(self, target, process)
                    self.world.link_up(self, target)

            if self.node is node:
                self.input(deliver)

        if self.node is node:
            self._ask(address, (self.settings.name, 1), node.hello(process), answered, link=True)

    def _exchange(self, node: Node, ticket: int, address: tuple[str, int], payload: bytes) -> None:
        def answered(_target: Host | None, answer: bytes | None) -> None:
            if self.node is node:
                self.input(lambda now: node.exchange_answer(now, ticket, answer))

        if self.node is node:
            self._ask(address, ("127.0.0.1", 1), payload, answered)

    def _ask(
        self,
        address: tuple[str, int],
        source: tuple[str, int],
        payload: bytes,
        then: Callable[[Host | None, bytes | None], None],
        *,
        link: bool = False,
    ) -> None:
        """Connect, send a first frame and have its answer; None where there is none in time. `link`: only an answer to
        a caller counts."""
        world = self.world
        target = world.by_port.get(address[1])
        running = target.node if target is not None else None
        if target is None or running is None:
            world.after(world.delay(), then, target, None)
            return
        if world.is_cut(self, target) or world.is_cut(target, self):
            world.after(DIAL_WITHIN_S, then, target, None)
            return
        waiting = True

        def end(answer: bytes | None) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                then(target, answer)

        def deliver(now: float) -> None:
            if target.node is running:
                answer, caller = running.accept(now, source, payload)
                counts = bool(answer) and (caller is not None or not link)
                world.after(world.delay(), end, answer if counts else None)

        world.after(DIAL_WITHIN_S, end, None)
        target.input(deliver)


def _units(
    before: tuple[int, int, int], after: tuple[int, int, int], inputs: int, outbox: Outbox | None = None
) -> float:
    """The work of a turn, in commands of a client: what a GET of a short value costs in dispatch, about 4 us."""
    commands, takeovers, frame_bytes = (now - then for now, then in zip(after, before, strict=True))
    units = commands + TAKEOVER_UNITS * takeovers + inputs + frame_bytes / BYTES_PER_UNIT
    if outbox is not None:
        written = sum([len(payload) for _, payload in outbox.frames]) + sum([len(data) for _, data in outbox.replies])
        units += len(outbox.frames) + written / BYTES_PER_UNIT
    return units + 1


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
        self.stalled_at = inf
        """Since when nothing gets through, if so."""

    def send(self, payload: bytes) -> None:
        world = self.source.world
        if world.is_cut(self.source, self.target) or self._stalled:
            if not self._stalled:
                self.stalled_at = world.now
                world.after(world.rng.uniform(*BREAK_AFTER_S), self._break_if_stalled)
            self._stalled.append(payload)
            return
        delay = world.delay() + world.path_delay(self.source, self.target)
        self._arrives = max(self._arrives + 1e-9, world.now + delay)
        world.at(self._arrives, self._arrive, payload)

    def path_is_back(self) -> None:
        stalled, self._stalled = self._stalled, []
        self.stalled_at = inf
        for payload in stalled:
            self.send(payload)

    def _arrive(self, payload: bytes) -> None:
        node = self.target.node
        sender = self.dialler
        if not self.broken and node is not None and node.process == self.process and sender is not None:
            self.target.input(lambda now: self._deliver(node, now, sender.process, payload))

    def _deliver(self, node: Node, now: float, process: int, payload: bytes) -> None:
        self.source.world.frame_bytes += len(payload)
        node.frame(now, process, payload)

    def _break_if_stalled(self) -> None:
        if self._stalled:
            self.break_()

    def break_(self) -> None:
        """The dialler learns of it; what was under way is lost."""
        source, dialler = self.source, self.dialler
        if self.broken or dialler is None or source.node is not dialler:
            return
        self.broken = True
        source.world.link_lost(source, self.target)
        if source.links.get(self.process) is self:
            del source.links[self.process]
            source.input(lambda now: dialler.link_down(now, self.process))


class World:
    """Time, chance and the network."""

    def __init__(self, seed: int, slots: int = SLOTS, *, tracing: bool = False, wall: float | None = None) -> None:
        """`wall`: seconds since 1970 at the beginning, as all hosts know it; otherwise they differ."""
        self.seed = seed
        self.rng = random.Random(seed)
        self.wall = wall
        self.slots = slots
        self.now = 0.0
        self.hosts: dict[str, Host] = {}
        self.by_port: dict[int, Host] = {}
        self.by_process: dict[int, Host] = {}
        self.cuts: set[tuple[str, str]] = set()
        """(from, to) of directions in which nothing gets through."""
        self.paths: dict[tuple[str, str], tuple[float, float]] = {}
        """(from, to) of paths that are worse than others: loss, and latency beside the usual."""
        self.loss = 0.0
        self.duplication = 0.0
        self.latency = 0.0005
        self.forget_after = 60.0
        self.versions = PROTOCOL_VERSIONS
        """Wire versions of the hosts that are added."""
        self.history = History()
        """What all nodes have written."""
        self.recover = Recover.ASK
        self.on_topology: Callable[[Host], None] = lambda _host: None
        """Told when a node has entered another topology, or has none any more."""
        self.frame_bytes = 0
        """Of all frames that nodes have read."""
        self.outages: list[tuple[str, str, float, float]] = []
        """(from, to, since, until) of links that were lost between nodes that lived, and ..."""
        self._out: dict[tuple[str, str], float] = {}
        """... since when there is none."""
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
        while self._events and self._events[0][0] <= until:
            self.step()
        self.now = until

    def run_until(self, what: Callable[[], object], within: float) -> None:
        """Until something is so, or so many seconds have passed."""
        until = self.now + within
        while not what():
            if not self._events or self._events[0][0] > until:
                self.now = until
                return
            self.step()

    def step(self) -> None:
        """What comes next."""
        time, _, run, arguments = heapq.heappop(self._events)
        self.now = max(self.now, time)
        run(*arguments)

    def cluster(
        self, data: int, replicas: int = 3, *, master: bool = True, place: Callable[[], dict[str, Any]] = dict
    ) -> None:
        """A master and data nodes that join it; without it the first data node has the cluster born. `place`: zone and
        weight of the next node."""
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
                expect=data,
                follow_least=FOLLOW_LEAST,
                replicas=replicas,
                slots=self.slots,
                forget_after=self.forget_after,
                **place(),
                recover=self.recover,
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
            path_loss, path_latency = self.paths.get((source.settings.name, target.settings.name), (0.0, 0.0))
            if self.rng.random() >= max(self.loss, path_loss):
                delay = path_latency + self.delay() * self.rng.uniform(1, 3)
                self.after(delay, self._arrived, source, target, payload)

    def _arrived(self, source: Host, target: Host, payload: bytes) -> None:
        node = target.node
        if node is not None:
            address = ("127.0.0.1", source.settings.peer_port)
            target.input(lambda now: node.datagram(now, address, payload))

    def path_delay(self, source: Host, target: Host) -> float:
        """How much longer than usual TCP takes on a path: what is lost is sent again."""
        loss, latency = self.paths.get((source.settings.name, target.settings.name), (0.0, 0.0))
        while loss and self.rng.random() < loss:
            latency += RETRANSMITTED_S
        return latency

    def link_lost(self, source: Host, target: Host) -> None:
        """A link has ended whose dialler lives: what was under way on it does not arrive."""
        self._out.setdefault((source.settings.name, target.settings.name), self.now)

    def link_up(self, source: Host, target: Host) -> None:
        """There is one again."""
        pair = source.settings.name, target.settings.name
        since = self._out.pop(pair, None)
        if since is not None:
            self.outages.append((*pair, since, self.now))

    def was_out_of_reach(self, name: str, since: float, until: float) -> bool:
        """Whether some node that lived could not talk to that one in that time."""
        still = [(*pair, began, inf) for pair, began in self._out.items()]
        return any(
            target == name and began <= until and ended >= since for _, target, began, ended in (*self.outages, *still)
        )

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
        host.connections[connection.session.id] = connection
        return connection
