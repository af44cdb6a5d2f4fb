"""Clients that keep what they have read until they are told to forget it, and what they must have been told.

Every value is one of its own. Where a read at any node finds another one than a client keeps, that client must be told
to forget it, however late: within some seconds in which its node runs, whatever fails, and its connection stands (C1 to
C6). In the end nobody keeps anything that is not so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from peerkv.resp import Reply, ReplyError
from tests.sim.jobs import Caller, Job, Worker, asked, transaction
from tests.sim.requests import Request
from tests.sim.world import Connection, Host

if TYPE_CHECKING:
    from tests.sim.scenario import Scenario

KEYS: Final = tuple(b"ca:%d" % number for number in range(14))
MODES: Final[tuple[tuple[bytes, ...], ...]] = ((), (b"NOLOOP",), (b"BCAST", b"PREFIX", b"ca:"))
"""A client of each at every node."""
WORKERS: Final = 5
THINK_S: Final = 0.05
FIRST: Final = 800
"""Numbers of these clients begin here."""
AGAIN_S: Final = 0.5
TOLD_WITHIN_S: Final = 12
"""Much more than links, homes and epochs take to be doubted."""
LIFETIMES: Final = (b"50", b"500", b"2000")
BOTH: Final = b"return redis.call('MGET', KEYS[1], KEYS[2])"


@dataclass(slots=True, eq=False)
class Kept:
    """What a client has read."""

    reply: Reply


class Caching:
    """A load of such clients, and what came of it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.refusals: list[str] = []
        self.fresh = 0
        """How often what was kept was what is there, ..."""
        self.stale = 0
        """... and how often it was not, and was to be told."""
        self._caches: list[Cache] = []

    def begin(self, scenario: Scenario) -> None:
        """Have all clients begin."""
        for host in scenario.world.hosts.values():
            for mode in MODES:
                cache = Cache(scenario, self, host, mode)
                self._caches.append(cache)
                cache.act()
        for number in range(WORKERS):
            scenario.world.after(0.5, Worker(scenario, self, FIRST + number, THINK_S).act)

    def job(self, caller: Caller) -> Job:
        """What a client does next that keeps nothing."""
        yield from (self._look(caller) if caller.rng.random() < 0.5 else self._write(caller))

    def _write(self, caller: Caller) -> Job:
        rng = caller.rng
        one, other = rng.sample(KEYS, 2)
        value = caller.name()
        chance = rng.random()
        request: Request = (b"SET", one, value)
        if chance < 0.15:
            request = (b"SET", one, value, b"PX", rng.choice(LIFETIMES))
        elif chance < 0.3:
            request = (b"DEL", one)
        elif chance < 0.4:
            request = (b"MSET", one, value, other, caller.name())
        elif chance < 0.5:
            request = (b"COPY", one, other, b"REPLACE")
        elif chance < 0.6:
            request = (b"MOVE", one, b"3")
        elif chance < 0.7:
            yield from transaction(caller, [(b"SET", one, value), (b"APPEND", other, value)])
            return
        yield from asked(caller, request)

    def _look(self, caller: Caller) -> Job:
        """Whether what somebody keeps is what is there."""
        caches = [cache for cache in self._caches if cache.held]
        if not caches:
            return
        cache = caller.rng.choice(caches)
        key, kept = caller.rng.choice(list(cache.held.items()))
        outcome = yield from asked(caller, (b"GET", key))
        if not outcome.done or cache.held.get(key) is not kept:
            return
        if outcome.replies[0] == kept.reply:
            self.fresh += 1
            return
        self.stale += 1
        now = caller.now()
        cache.must_forget(key, kept, f"what {cache} keeps of {key!r}, {kept.reply!r}, was another at {now:.4f} s")

    def judge(self, scenario: Scenario) -> None:
        """After all."""
        world = scenario.world
        for name in world.hosts:
            connection = world.connect(name)
            if connection is None:
                continue
            found: list[Reply] = []
            connection.on_reply = found.append
            connection.send(*((b"GET", key) for key in KEYS))
            world.run(world.now + 2.0)
            there = dict(zip(KEYS, found, strict=False))
            if len(there) < len(KEYS):
                self.problems.append(f"{name} has not answered what there is in the end")
            self.problems += [
                f"in the end {cache} keeps {kept.reply!r} of {key!r}, and {name} says {there[key]!r}"
                for cache in self._caches
                for key, kept in cache.held.items()
                if key in there and there[key] != kept.reply
            ]
        if not self.fresh:
            self.problems.append("nothing was kept that could have been another")


class Cache:
    """A client at one node; it comes again when that is back."""

    def __init__(self, scenario: Scenario, load: Caching, host: Host, mode: tuple[bytes, ...]) -> None:
        self.held: dict[bytes, Kept] = {}
        self._scenario = scenario
        self._load = load
        self._host = host
        self._mode = mode
        self._rng = Random(scenario.world.rng.getrandbits(64))
        self._connection: Connection | None = None
        self._awaited: deque[Sequence[bytes]] = deque()
        """Of each reply to come the keys that it is of."""
        self._writes: dict[bytes, int] = {}
        """Its own that are under way."""
        self._count = 0

    def __str__(self) -> str:
        return f"a client of {self._host.settings.name} ({b' '.join(self._mode).decode() or 'read'})"

    def act(self) -> None:
        """Read something, now and then."""
        world = self._scenario.world
        if self._scenario.over:
            return
        if self._connection is None:
            self._connect()
        if self._connection is not None and len(self._awaited) < len(KEYS):
            self._ask(self._connection)
        world.after(self._rng.expovariate(1 / THINK_S), self.act)

    def _connect(self) -> None:
        connection = self._connection = self._scenario.world.connect(self._host.settings.name)
        if connection is None:
            return
        connection.on_reply = self._take
        connection.on_lost = self._lose
        self._awaited.clear()
        self._writes.clear()
        self._send([(b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON", *self._mode)], [(), ()])

    def _send(self, requests: list[Request], awaited: list[Sequence[bytes]]) -> None:
        assert self._connection is not None
        self._awaited += awaited
        self._connection.send(*requests)

    def _ask(self, _connection: Connection) -> None:
        rng = self._rng
        one, other = rng.sample(KEYS, 2)
        chance = rng.random()
        if b"NOLOOP" in self._mode and chance < 0.1:
            self._set(one, other, several=chance < 0.05)
        elif chance < 0.7:
            self._send([(b"GET", one)], [(one,)])
        elif chance < 0.8:
            self._send([(b"MGET", one, other)], [(one, other)])
        elif chance < 0.9:
            self._send([(b"MULTI",), (b"GET", one), (b"GET", other), (b"EXEC",)], [(), (), (), (one, other)])
        else:
            self._send([(b"EVAL", BOTH, b"2", one, other)], [(one, other)])

    def _set(self, one: bytes, other: bytes, *, several: bool) -> None:
        """It knows of its own changes, and keeps nothing of what it changes."""
        self._count += 1
        value = b"%b.%d.%d" % (self._host.settings.name.encode(), self._rng.getrandbits(32), self._count)
        keys = (one, other) if several else (one,)
        for key in keys:
            self._writes[key] = self._writes.get(key, 0) + 1
            self.held.pop(key, None)
        sets: list[Request] = [(b"SET", key, value) for key in keys]
        if several:
            self._send([(b"MULTI",), *sets, (b"EXEC",)], [(), (), (), (b"", *keys)])
        else:
            self._send(sets, [(b"", one)])

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, list) and reply[:1] == [b"invalidate"]:
            keys = reply[1]
            for key in list(self.held) if keys is None else keys:  # type: ignore[union-attr]
                self.held.pop(key, None)  # type: ignore[arg-type]
            return
        keys = self._awaited.popleft()
        if keys[:1] == (b"",):
            for key in keys[1:]:
                self._writes[key] -= 1
                self.held.pop(key, None)
        elif keys and not isinstance(reply, ReplyError):
            for key, value in zip(keys, reply if isinstance(reply, list) else [reply], strict=True):
                if not self._writes.get(key) and (value is None or isinstance(value, bytes)):
                    self.held[key] = Kept(value)

    def _lose(self) -> None:
        self._connection = None
        self.held.clear()

    def must_forget(self, key: bytes, kept: Kept, problem: str, left: int = TOLD_WITHIN_S) -> None:
        """It is to be told so in so many seconds in which its node runs."""
        if self.held.get(key) is not kept:
            return
        if not left:
            self._load.problems.append(f"{problem}; it was not told in {TOLD_WITHIN_S} s")
            return
        left -= not self._host.paused
        self._scenario.world.after(1.0, self.must_forget, key, kept, problem, left)
