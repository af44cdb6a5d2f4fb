"""Bursts on a healthy cluster: busy is not dead. Turns take time here, so that queues become longer than any hedge.

gentle ... one request at a time ..> every node          all of them are answered, and nobody is taken for dead
heavy  === deep pipelines, many ===> one node, or all
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from peerkv.resp import Reply, ReplyError
from tests.sim.world import SLOTS, Connection, World

UNIT_S: Final = 50e-6
"""Twelve times as slow as a real node, so that a twelfth of the load does."""
LOAD_S: Final = 5.0
CLIENTS: Final = (40, 80, 300)
KEYS: Final = 20_000
CALM_S: Final = 10.0
"""After the load: what is left of it is worked off, and gentle clients are served as if it had never been."""
WELL_AFTER_S: Final = 5.0
GENTLE_S: Final = 1.0
"""A gentle client waits no longer for its reply once the load has been over for WELL_AFTER_S."""
SHARE: Final = 0.1
"""What is sent again, and slots that are taken over, as a share of the operations, at most."""
MOVED: Final = 2
"""So often a slot may be handed over as homes follow the load: there and back."""


@dataclass
class Burst:
    """What a burst has shown."""

    seed: int
    text: str = ""
    operations: int = 0
    hedges: int = 0
    takeovers: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    longest_turn: float = 0.0
    gentle_s: list[float] = field(default_factory=list)
    """How long gentle clients waited, under load."""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        waits = sorted(self.gentle_s)
        p99 = waits[len(waits) * 99 // 100] if waits else 0.0
        return (
            f"seed {self.seed}: {self.text}: {self.operations} operations, {self.hedges} hedges, {self.takeovers}"
            f" takeovers, {sum(self.errors.values())} errors, longest turn {self.longest_turn * 1000:.0f} ms,"
            f" gentle p99 {p99 * 1000:.0f} ms, at most {max(waits, default=0.0) * 1000:.0f} ms"
        )


class _Client:
    """Sends so many requests at a time, and again once they are answered."""

    def __init__(self, load: Load, connection: Connection, number: int, depth: int, pause: float) -> None:
        self.load = load
        self.rng = random.Random(load.rng.getrandbits(64))
        self.connection = connection
        self.number = number
        self.depth = depth
        self.pause = pause
        self.awaited = 0
        self.sent_at = 0.0
        connection.on_reply = self._replied
        connection.on_lost = partial(load.failed, "connection lost")

    def send(self) -> None:
        if self.load.over if self.depth > 1 else self.load.ended:
            return
        self.awaited = self.depth
        self.sent_at = self.load.world.now
        self.connection.send(*(self._request() for _ in range(self.depth)))

    def _request(self) -> tuple[bytes, ...]:
        rng, load = self.rng, self.load
        key = b"burst:gentle:%d" % self.number if self.depth == 1 else b"burst:%d" % rng.randrange(load.keys)
        match rng.choice(load.commands):
            case "SET":
                return (b"SET", key, b"%064d" % rng.randrange(1 << 30))
            case "GET":
                return (b"GET", key)
            case _:
                return (b"INCR", key + b":n")

    def _replied(self, reply: Reply) -> None:
        load = self.load
        load.result.operations += 1
        if isinstance(reply, ReplyError):
            load.failed(reply.text.split(" ", 1)[0])
        self.awaited -= 1
        if self.awaited:
            return
        if self.depth == 1:
            load.waited(load.world.now - self.sent_at)
        load.world.after(self.rng.uniform(0.5, 1.5) * self.pause, self.send)


class Load:
    """A burst on a world whose nodes are all well."""

    def __init__(self, world: World, rng: random.Random, clients: Sequence[int], keys: int) -> None:
        """`clients`: so many, one of these."""
        self.world = world
        self.rng = rng
        self.keys = keys
        self.result = Burst(world.seed)
        self.names = [name for name in world.hosts if name != "master"]
        self.through = rng.choice(("one node", "all nodes"))
        self.clients = rng.choice(clients)
        self.depth = rng.choice((32, 64))
        self.commands = rng.choice((("SET",), ("SET", "GET", "INCR")))
        self.load_ended = 0.0
        self.over = self.ended = False
        self.text = (
            f"{self.clients} x {self.depth} {'/'.join(self.commands)} through {self.through} of {len(self.names)}"
        )
        self.result.text = self.text

    def failed(self, code: str) -> None:
        errors = self.result.errors
        errors[code] = errors.get(code, 0) + 1

    def waited(self, seconds: float) -> None:
        """A gentle client has its reply."""
        if not self.over:
            self.result.gentle_s.append(seconds)
        elif self.world.now > self.load_ended + WELL_AFTER_S and seconds > GENTLE_S:
            self.result.problems.append(f"{seconds:.3f} s for a reply although the load is over")

    def run(self, seconds: float) -> Burst:
        """So long; then what is left is worked off."""
        world, result, names = self.world, self.result, self.names
        for name in names:
            world.hosts[name].unit_s = UNIT_S
        before = self._counts()
        clients = [self._client(name, number, 1, 0.03) for number, name in enumerate(names)]
        for number in range(self.clients):
            name = names[0] if self.through == "one node" else names[number % len(names)]
            clients.append(self._client(name, number, self.depth, 0.0001))
        for client in clients:
            world.after(self.rng.uniform(0, 0.1), client.send)
        world.run(world.now + seconds)
        self.over, self.load_ended = True, world.now
        world.run(world.now + CALM_S)
        self.ended = True
        world.run(world.now + GENTLE_S)
        result.hedges, result.takeovers = (now - then for now, then in zip(self._counts(), before, strict=True))
        result.longest_turn = max(world.hosts[name].longest_turn for name in names)
        most = SHARE * result.operations
        if result.hedges > most:
            result.problems.append(f"{result.hedges} hedges for {result.operations} operations")
        if result.takeovers > most + MOVED * world.slots:
            result.problems.append(f"{result.takeovers} takeovers for {result.operations} operations")
        if result.errors:
            result.problems.append(f"a healthy cluster answered {result.errors}")
        if unanswered := sum([client.awaited for client in clients]):
            result.problems.append(f"{unanswered} requests unanswered {CALM_S:g} s after the load")
        for client in clients:
            client.connection.close()
        for name in names:
            world.hosts[name].unit_s = 0.0
        return result

    def _client(self, name: str, number: int, depth: int, pause: float) -> _Client:
        connection = self.world.connect(name)
        assert connection is not None, "every node is well"
        return _Client(self, connection, number, depth, pause)

    def _counts(self) -> tuple[int, int]:
        nodes = [host.node for host in self.world.hosts.values() if host.node is not None]
        return (
            sum([node.coordinator.counters.hedges for node in nodes]),
            sum([node.replica.counters.takeovers for node in nodes]),
        )


def run_burst(seed: int, slots: int = SLOTS, *, tracing: bool = False) -> Burst:
    """One burst on a cluster of its own."""
    world = World(seed, slots, tracing=tracing)
    world.cluster(world.rng.choice((3, 3, 4, 5)))
    world.run(4.0)
    return Load(world, world.rng, CLIENTS, KEYS).run(LOAD_S)
