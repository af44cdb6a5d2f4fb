"""The simulator's clients: pipelines of all sorts of commands on a few keys, and a scan of all keys over and over."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from peerkv.commands.table import Kind, find
from peerkv.resp import Reply, ReplyError
from tests.sim.history import ANY, CLEAR, Operation
from tests.sim.requests import DATED, KINDS, STREAMS, Request, usual
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
SLOW_BYTES_PER_S: Final = 20_000
"""What a slow client reads of its replies."""
STABLE: Final = tuple(b"stable:%d" % number for number in range(24))
"""Keys that are there all the time."""

OF_OTHERS: Final = b"tx:", b"{tx}", b"bl:", b"burst:", b"ob:", b"ca:"
"""Keys that begin so are those of other clients (`transactions`, `waiting`, `burst`, `observing`, `caching`)."""

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
            says: object = ANY if request[0] == b"DUMP" and request[1][:2] in DATED and reply is not None else reply
            return [Operation(invoked, returned, request, says, *place)]
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
        token = b"%d.%d;" % (self.number, self.sent)
        return usual(self.rng, key, self._key, token, self.sent, self.scenario.dumped)

    def _rare(self) -> Request:
        if self.scenario.flushes:
            return (b"FLUSHALL",)
        if self.rng.random() < 0.3 and not self.scenario.bursting:
            return (b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", self.rng.choice((b"yes", b"no")))
        return (b"QUIT",)

    def _replied(self, connection: Connection, reply: Reply) -> None:
        if connection is self.connection:
            self._record(self.waiting.popleft(), reply)

    def _record(self, asked: tuple[float, Request, int], reply: Reply) -> None:
        invoked, request, order = asked
        if request[0] not in (b"CLIENT", b"QUIT"):
            self.scenario.record(request, invoked, reply, (self.connections * 100 + self.number + 1, order))
        if request[0] == b"DUMP" and isinstance(reply, bytes):
            self.scenario.dumped[request[1][:2]] = reply

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
