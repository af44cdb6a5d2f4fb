"""The simulator's clients: pipelines of all sorts of commands on a few keys, and a scan of all keys over and over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from peerkv.commands.table import Kind, find
from peerkv.resp import Reply, ReplyError
from tests.sim.history import ANY, CLEAR, Operation
from tests.sim.world import Connection

if TYPE_CHECKING:
    from tests.sim.scenario import Scenario

THINK_S: Final = (0.02, 0.1, 0.3)
"""A client waits about one of these between what it sends."""
PATIENCE_S: Final = 8.0
"""A client gives up what it waits for after this long, and its connection; what was done is not known then."""
PIPELINES: Final = (1, 1, 1, 2, 4, 8)
"""So many requests a client sends at a time, ..."""
AWAITED_MAX: Final = 16
"""... also while it waits for replies, unless it waits for so many."""
ERA_S: Final = 3.0
"""Keys go out of use, so that operations of unknown outcome do not pile up on one."""
LARGE_BYTES: Final = 50_000
SLOW_BYTES_PER_S: Final = 20_000
"""What a slow client reads of its replies."""
KINDS: Final = (
    *(b"n:%d", b"a:%d", b"{t0}:%d", b"{t1}:%d", b"{t2}:%d", b"{t2}:%d."),
    *(b"{l}:%d", b"{l}:%d.", b"{h}:%d", b"{s}:%d", b"{s}:%d.", b"{z}:%d", b"{z}:%d."),
)
"""Keys by what they hold: numbers, texts that grow, strings, lists, hashes, sets, sorted sets; those in braces are of
one slot."""
STREAMS: Final = (b"{x}:%d", b"{x}:%d.")
"""Those that hold streams, of seeds that have such."""
WHOLE: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"{l": (b"LRANGE", b"0", b"-1"),
    b"{h": (b"HGETALL",),
    b"{s": (b"SMEMBERS",),
    b"{z": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    b"{x": (b"XRANGE", b"-", b"+"),
}
"""How all of what such a key holds is read."""
STABLE: Final = tuple(b"stable:%d" % number for number in range(24))
"""Keys that are there all the time."""

OF_OTHERS: Final = b"tx:", b"{tx}", b"bl:"
"""Keys that begin so are those of other clients (`transactions`, `waiting`)."""

Request: TypeAlias = tuple[bytes, ...]


def whole_of(key: bytes) -> Request:
    """A request for all that a key holds."""
    name, *rest = WHOLE.get(key[:2], (b"GET",))
    return name, key, *rest


NOTHING_DONE: Final = ("NOQUORUM", "CLUSTERDOWN")


def operations_of(
    request: Request, invoked: float, returned: float, reply: Reply, place: tuple[int, int]
) -> list[Operation]:
    """What a client has asked for, and what came of it, as operations of one slot each. `place`: connection, order."""
    if request[0] == b"FLUSHALL":
        parts: list[Request] = [CLEAR]
    else:
        row = find(request[0])
        assert row is not None, "clients ask for what there is"
        if row.kind is not Kind.SPREAD:
            return [Operation(invoked, returned, request, reply, *place)]
        assert row.spread is not None, "SPREAD commands can be split"
        split = row.spread.split(request)
        assert not isinstance(split, ReplyError), "clients ask for what is right"
        parts = [tuple(part) for _, part in split]
    replies: Sequence[object] = [ANY] * len(parts)
    if isinstance(reply, list):
        replies = reply
    elif len(parts) == 1 and parts[0] != CLEAR:
        replies = [reply]
    return [Operation(invoked, returned, part, answer, *place) for part, answer in zip(parts, replies, strict=True)]


class Client:
    """One client on whatever node lives: pipelines, which it goes on sending while replies are awaited."""

    def __init__(self, scenario: Scenario, number: int) -> None:
        self.scenario = scenario
        self.number = number
        self.rng = Random(scenario.world.rng.getrandbits(64))
        self.connection: Connection | None = None
        self.connections = 0
        self.waiting: deque[tuple[float, Request, int]] = deque()
        """What was asked and not answered: when, request, its place in the order of the connection."""
        self.sent = 0
        self.think = self.rng.choice(THINK_S)
        self.favourite = ""
        self.kinds = (*KINDS, *STREAMS) if scenario.streams else KINDS

    def act(self) -> None:
        """Send something, unless too much is awaited."""
        scenario, world = self.scenario, self.scenario.world
        if scenario.over:
            return
        if self.favourite != scenario.favourite and not self.waiting:
            self.favourite = scenario.favourite
            self._close()
        if self.connection is None and not self._connect():
            world.after(0.1, self.act)
            return
        assert self.connection is not None, "connected above"
        if len(self.waiting) < AWAITED_MAX:
            self.connection.send(*self._pipeline())
            world.after(PATIENCE_S, self._lose_patience, self.waiting[-1])
        world.after(self.rng.expovariate(1 / self.think), self.act)

    def _connect(self) -> bool:
        self.connection = connection = self.scenario.connect(self.rng, self.favourite)
        if connection is None:
            return False
        self.connections += 1
        connection.on_reply = partial(self._replied, connection)
        connection.on_lost = partial(self._lost, connection)
        if self.rng.random() < 0.1:
            connection.reads_per_s = SLOW_BYTES_PER_S
        return True

    def _pipeline(self) -> list[Request]:
        """Some requests, all of one key or of any, entered into what is awaited."""
        rng = self.rng
        requests = []
        same = self._key() if rng.random() < 0.5 else None
        for _ in range(rng.choice(PIPELINES)):
            self.sent += 1
            request = self._rare() if rng.random() < 0.002 else self._usual(same or self._key())
            requests.append(request)
            self.scenario.named(request)
            self.waiting.append((self.scenario.world.now, request, self.sent))
        return requests

    def _key(self) -> bytes:
        rng = self.rng
        era = int(self.scenario.world.now / ERA_S)
        return rng.choice(self.kinds) % era

    def _usual(self, key: bytes) -> Request:
        rng = self.rng
        token = b"%d.%d;" % (self.number, self.sent)
        if rng.random() < 0.01:
            token += bytes(LARGE_BYTES)
        milliseconds = b"%d" % (1000 * rng.choice((0.05, 0.3, 2.0)))
        reads: tuple[Request, ...] = ((b"GET", key), (b"GET", key), (b"GET", key), (b"STRLEN", key), (b"EXISTS", key))
        of: Callable[..., Request] = rng.choice
        if key.startswith(b"n:"):
            return of((reads[0], reads[3], (b"INCR", key), (b"INCR", key), (b"INCRBY", key, b"3"), (b"DECR", key)))
        if key.startswith(b"a:"):
            return of(
                (reads[0], reads[3], (b"APPEND", key, token), (b"APPEND", key, token), (b"GETRANGE", key, b"-9", b"-1"))
            )
        beside = key[:-1] if key.endswith(b".") else key + b"."
        if key[:2] in WHOLE:
            return self._of_collection(key, beside, token, milliseconds)
        other = self._key()
        return of(
            (
                *reads,
                (b"SET", key, token),
                (b"SET", key, token),
                (b"SET", key, token),
                (b"SET", key, token, b"PX", milliseconds),
                (b"SET", key, token, b"NX"),
                (b"SET", key, token, b"XX", b"GET", b"KEEPTTL"),
                (b"SETNX", key, token),
                (b"GETSET", key, token),
                (b"GETDEL", key),
                (b"GETEX", key, b"PX", milliseconds),
                (b"PEXPIRE", key, milliseconds),
                (b"PEXPIRE", key, milliseconds, b"NX"),
                (b"PERSIST", key),
                (b"DEL", key),
                (b"DEL", key, other),
                (b"MGET", key, other, self._key()),
                (b"MSET", key, token, beside, token),
                (b"MSETNX", key, token, beside, token),
                (b"COPY", key, beside, b"REPLACE"),
                (b"RENAME", key, beside),
            )
        )

    def _of_collection(self, key: bytes, beside: bytes, token: bytes, milliseconds: bytes) -> Request:
        rng = self.rng
        member, another = b"m%d" % rng.randrange(12), b"m%d" % rng.randrange(12)
        amount = b"%d" % rng.randrange(-5, 6)
        entry = b"7-%d" % (self.sent % 30)
        if rng.random() < 0.15:
            of_any: tuple[Request, ...] = (
                (b"DEL", key),
                (b"PEXPIRE", key, milliseconds),
                (b"PERSIST", key),
                (b"RENAME", key, beside),
                (b"COPY", key, beside, b"REPLACE"),
                (b"GET", key),
                (b"APPEND", key, member),
                (b"TYPE", key),
            )
            return rng.choice(of_any)
        of: dict[bytes, tuple[Request, ...]] = {
            b"{l": (
                (b"RPUSH", key, token),
                (b"LPUSH", key, token, member),
                (b"RPUSHX", key, member),
                (b"LPOP", key),
                (b"RPOP", key, b"2"),
                (b"LSET", key, b"1", token),
                (b"LREM", key, b"1", member),
                (b"LINSERT", key, b"BEFORE", member, another),
                (b"LTRIM", key, b"0", b"30"),
                (b"LMOVE", key, beside, b"LEFT", b"RIGHT"),
                (b"LRANGE", key, b"0", b"3"),
                (b"LLEN", key),
            ),
            b"{h": (
                (b"HSET", key, member, token),
                (b"HSET", key, member, amount, another, amount),
                (b"HSETNX", key, member, token),
                (b"HINCRBY", key, member, amount),
                (b"HDEL", key, member, another),
                (b"HGET", key, member),
                (b"HMGET", key, member, another),
                (b"HLEN", key),
            ),
            b"{s": (
                (b"SADD", key, member, another),
                (b"SADD", key, token),
                (b"SREM", key, member),
                (b"SMOVE", key, beside, member),
                (b"SUNIONSTORE", key, key, beside),
                (b"SDIFFSTORE", beside, key, beside),
                (b"SINTERCARD", b"2", key, beside),
                (b"SISMEMBER", key, member),
                (b"SCARD", key),
            ),
            b"{z": (
                (b"ZADD", key, amount, member),
                (b"ZADD", key, b"GT", b"CH", amount, member, amount, another),
                (b"ZINCRBY", key, amount, member),
                (b"ZADD", key, amount, token),
                (b"ZREM", key, member),
                (b"ZPOPMIN", key),
                (b"ZPOPMAX", key, b"2"),
                (b"ZREMRANGEBYSCORE", key, b"-2", b"0"),
                (b"ZUNIONSTORE", key, b"2", key, beside),
                (b"ZRANGE", key, b"0", b"2"),
                (b"ZSCORE", key, member),
                (b"ZCARD", key),
            ),
            b"{x": (
                (b"XADD", key, b"7-*", b"token", token),
                (b"XADD", key, b"7-*", b"token", token),
                (b"XADD", key, b"MAXLEN", b"5", b"7-*", member, token, another, member),
                (b"XADD", key, b"NOMKSTREAM", b"8-%d" % (self.sent % 200), b"token", token),
                (b"XDEL", key, entry, b"7-1"),
                (b"XTRIM", key, b"MINID", entry),
                (b"XLEN", key),
                (b"XREVRANGE", key, b"+", b"-", b"COUNT", b"2"),
                (b"XGROUP", b"CREATE", key, b"g", b"0"),
                (b"XREADGROUP", b"GROUP", b"g", member[:2], b"COUNT", b"2", b"STREAMS", key, b">"),
                (b"XREADGROUP", b"GROUP", b"g", member[:2], b"STREAMS", key, beside, b">", b"0"),
                (b"XACK", key, b"g", entry, b"7-0", b"7-1"),
                (b"XPENDING", key, b"g"),
                (b"XCLAIM", key, b"g", another[:2], b"0", entry, b"7-2", b"JUSTID"),
            ),
        }
        return rng.choice((*of[key[:2]], whole_of(key)))

    def _rare(self) -> Request:
        if self.scenario.flushes:
            return (b"FLUSHALL",)
        if self.rng.random() < 0.3:
            return (b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", self.rng.choice((b"yes", b"no")))
        return (b"QUIT",)

    def _replied(self, connection: Connection, reply: Reply) -> None:
        if connection is self.connection:
            self._record(self.waiting.popleft(), reply)

    def _record(self, asked: tuple[float, Request, int], reply: Reply) -> None:
        invoked, request, order = asked
        if request[0] not in (b"CLIENT", b"QUIT"):
            self.scenario.record(request, invoked, reply, (self.connections * 100 + self.number + 1, order))

    def _lost(self, connection: Connection) -> None:
        if connection is self.connection:
            self._close()

    def _lose_patience(self, last: tuple[float, Request, int]) -> None:
        if any(asked is last for asked in self.waiting):
            self._close()

    def _close(self) -> None:
        """Give up the connection, and what is awaited there."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        waiting, self.waiting = self.waiting, deque()
        for asked in waiting:
            self._record(asked, ReplyError("UNCERTAIN the connection is lost"))


class Scanner:
    """Goes through all keys again and again: what is there all the time is found, what never was is not."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = Random(scenario.world.rng.getrandbits(64))
        self.connection: Connection | None = None
        self.found: set[bytes] = set()

    def begin(self) -> None:
        """Write what is to be found; then scan."""
        if self.scenario.over:
            return
        written: list[Reply] = []

        def reply(reply: Reply) -> None:
            written.append(reply)
            if len(written) == len(STABLE):
                self.scenario.world.after(0.1, self._again if set(written) == {"OK"} else self.begin)

        self.connection = self.scenario.connect(self.rng)
        if self.connection is None:
            self.scenario.world.after(1.0, self.begin)
            return
        self.connection.on_reply = reply
        self.connection.on_lost = self.begin
        self.connection.send(*((b"SET", key, b"there") for key in STABLE))

    def _again(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.found = set()
        if self.scenario.over:
            return
        connection = self.connection = self.scenario.connect(self.rng)
        if connection is None:
            self.scenario.world.after(1.0, self._again)
            return
        connection.on_reply = partial(self._page, connection)
        connection.on_lost = self._again
        self._ask(connection, b"0")

    def _ask(self, connection: Connection, cursor: bytes) -> None:
        if connection is self.connection:
            connection.send((b"SCAN", cursor, b"COUNT", b"%d" % self.rng.choice((10, 100))))

    def _page(self, connection: Connection, reply: Reply) -> None:
        world, problems = self.scenario.world, self.scenario.result.problems
        if not isinstance(reply, list):
            assert isinstance(reply, ReplyError), "a page, or an error"
            if not reply.text.startswith(NOTHING_DONE):
                problems.append(f"SCAN answered {reply.text}")
            world.after(1.0, self._again)
            return
        cursor, keys = reply
        assert isinstance(cursor, bytes), "as Redis has it"
        assert isinstance(keys, list), "as Redis has it"
        self.found.update(key for key in keys if isinstance(key, bytes))
        if cursor != b"0":
            world.after(self.rng.uniform(0, 0.05), self._ask, connection, cursor)
            return
        if missing := sorted(set(STABLE) - self.found):
            problems.append(f"at {world.now:.3f} s SCAN has not found {missing}")
        others = {key for key in self.found if key.startswith(OF_OTHERS)}
        if unknown := sorted(self.found - self.scenario.keys - set(STABLE) - others):
            problems.append(f"at {world.now:.3f} s SCAN has found {unknown}")
        world.after(self.rng.uniform(1, 4), self._again)
