"""Bursts on a healthy cluster: busy is not dead. Turns take time here, so that queues become longer than any hedge.

gentle ... one request at a time ..> every node          all of them are answered, and nobody is taken for dead
heavy  === deep pipelines, many ===> one node, or all
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from peerkv.resp import Reply, ReplyError
from tests.sim.world import SLOTS, Connection, World

UNIT_S: Final = 50e-6
"""Twelve times as slow as a real node, so that a twelfth of the load does."""
LOAD_S: Final = 5.0
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

    def __init__(self, run: _Run, connection: Connection, number: int, depth: int, pause: float) -> None:
        self.run = run
        self.rng = random.Random(run.world.rng.getrandbits(64))
        self.connection = connection
        self.number = number
        self.depth = depth
        self.pause = pause
        self.awaited = 0
        self.sent_at = 0.0
        connection.on_reply = self._replied
        connection.on_lost = partial(run.failed, "connection lost")

    def send(self) -> None:
        if self.run.over if self.depth > 1 else self.run.ended:
            return
        self.awaited = self.depth
        self.sent_at = self.run.world.now
        self.connection.send(*(self._request() for _ in range(self.depth)))

    def _request(self) -> tuple[bytes, ...]:
        rng = self.rng
        key = b"gentle:%d" % self.number if self.depth == 1 else b"key:%d" % rng.randrange(20_000)
        match rng.choice(self.run.commands):
            case "SET":
                return (b"SET", key, b"%064d" % rng.randrange(1 << 30))
            case "GET":
                return (b"GET", key)
            case _:
                return (b"INCR", b"n:" + key)

    def _replied(self, reply: Reply) -> None:
        run = self.run
        run.result.operations += 1
        if isinstance(reply, ReplyError):
            run.failed(reply.text.split(" ", 1)[0])
        self.awaited -= 1
        if self.awaited:
            return
        if self.depth == 1:
            run.waited(run.world.now - self.sent_at)
        run.world.after(self.rng.uniform(0.5, 1.5) * self.pause, self.send)


class _Run:
    def __init__(self, seed: int, slots: int, *, tracing: bool) -> None:
        self.world = World(seed, slots, tracing=tracing)
        rng = self.world.rng
        self.result = Burst(seed)
        self.data = rng.choice((3, 3, 4, 5))
        self.through = rng.choice(("one node", "all nodes"))
        self.clients = rng.choice((40, 80, 300))
        self.depth = rng.choice((32, 64))
        self.commands = rng.choice((("SET",), ("SET", "GET", "INCR")))
        self.unit_s = UNIT_S
        self.load_ended = 0.0
        self.over = self.ended = False
        self.result.text = (
            f"{self.clients} x {self.depth} {'/'.join(self.commands)} through {self.through} of {self.data}"
        )

    def failed(self, code: str) -> None:
        errors = self.result.errors
        errors[code] = errors.get(code, 0) + 1

    def waited(self, seconds: float) -> None:
        """A gentle client has its reply."""
        if not self.over:
            self.result.gentle_s.append(seconds)
        elif self.world.now > self.load_ended + WELL_AFTER_S and seconds > GENTLE_S:
            self.result.problems.append(f"{seconds:.3f} s for a reply although the load is over")

    def run(self) -> Burst:
        world, result = self.world, self.result
        world.cluster(self.data)
        world.run(4.0)
        names = [name for name in world.hosts if name != "master"]
        for name in names:
            world.hosts[name].unit_s = self.unit_s
        before = self._counts()
        clients = [self._client(name, number, 1, 0.03) for number, name in enumerate(names)]
        for number in range(self.clients):
            name = names[0] if self.through == "one node" else names[number % len(names)]
            clients.append(self._client(name, number, self.depth, 0.0001))
        for client in clients:
            world.after(world.rng.uniform(0, 0.1), client.send)
        world.run(world.now + LOAD_S)
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
    """One burst."""
    return _Run(seed, slots, tracing=tracing).run()
