"""Clients that change keys, subscribers at every node that are to be told of it, and what they must have been told.

Every event is one of its own: no key is changed twice in the same way. Of a change that was acknowledged a subscriber
is told at least once, whoever has died, as long as its own node lives and every other one that lives can talk to it;
where there are no faults, exactly once; and of one that was refused never (N1 to N3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from peerkv.resp import Reply
from tests.sim.jobs import Caller, Job, Worker, asked, transaction
from tests.sim.requests import Request
from tests.sim.world import Connection, Host

if TYPE_CHECKING:
    from tests.sim.scenario import Scenario

SETTING: Final = "KA"
WORKERS: Final = 4
THINK_S: Final = 0.05
FIRST: Final = 700
"""Numbers of these clients begin here."""
HEARD_OF_S: Final = 1.0
"""Until all nodes know of the subscribers."""
AGAIN_S: Final = 0.5
TOLD_WITHIN_S: Final = 20.0
"""A home that stands still tells when it goes on; longer than the longest time for which one does, and expires."""
LIFETIMES: Final = (b"50", b"500", b"2000")

Event: TypeAlias = tuple[bytes, bytes]
"""(key, name)"""


@dataclass(slots=True)
class Change:
    """What should be told."""

    began: float
    done: bool | None = None


class Observing:
    """A load of such clients, and what came of it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.refusals: list[str] = []
        self.changes: dict[Event, Change] = {}
        self.excused = 0
        """Changes of which somebody was not told, as a link was lost."""
        self._left: list[bytes] = []
        """Keys that are there, without a deadline."""
        self._subscribers: list[Subscriber] = []

    def begin(self, scenario: Scenario) -> None:
        """Have all clients begin."""
        for host in scenario.world.hosts.values():
            self.subscribe(scenario, host)
        for number in range(WORKERS):
            scenario.world.after(HEARD_OF_S, Worker(scenario, self, FIRST + number, THINK_S).act)

    def subscribe(self, scenario: Scenario, host: Host) -> None:
        """At that node, and again when it has come back."""
        if scenario.over:
            return
        connection = scenario.world.connect(host.settings.name)
        if connection is not None:
            self._subscribers.append(Subscriber(connection, partial(self.subscribe, scenario, host)))
        else:
            scenario.world.after(AGAIN_S, self.subscribe, scenario, host)

    def job(self, caller: Caller) -> Job:
        """What a client does next."""
        chance = caller.rng.random()
        if chance < 0.4:
            yield from self._make(caller)
        elif chance < 0.5:
            yield from self._expire(caller)
        elif chance < 0.8 and self._left:
            yield from self._drop(caller)
        else:
            yield from self._several(caller)

    def _expects(self, caller: Caller, *events: Event) -> list[Change]:
        found = [Change(caller.now()) for _ in events]
        self.changes.update(zip(events, found, strict=True))
        return found

    def _make(self, caller: Caller) -> Job:
        key = b"ob:" + caller.name()
        (change,) = self._expects(caller, (key, b"set"))
        outcome = yield from asked(caller, (b"SET", key, b"x"))
        change.done = outcome.done
        if outcome.done:
            self._left.append(key)

    def _expire(self, caller: Caller) -> Job:
        key = b"ob:" + caller.name()
        changes = self._expects(caller, (key, b"set"), (key, b"expire"), (key, b"expired"))
        outcome = yield from asked(caller, (b"SET", key, b"x", b"PX", caller.rng.choice(LIFETIMES)))
        for change in changes:
            change.done = outcome.done

    def _drop(self, caller: Caller) -> Job:
        key = self._left.pop(caller.rng.randrange(len(self._left)))
        request: Request = (b"DEL", key)
        events = [(key, b"del")]
        if caller.rng.random() < 0.5:
            target = b"ob:" + caller.name()
            request = (b"RENAME", key, target)
            events = [(key, b"rename_from"), (target, b"rename_to")]
        changes = self._expects(caller, *events)
        outcome = yield from asked(caller, request)
        for change in changes:
            change.done = outcome.done
        if outcome.done and outcome.replies[0] not in (1, "OK"):
            self.problems.append(f"{key!r} was not there: {outcome.replies[0]!r}")

    def _several(self, caller: Caller) -> Job:
        keys = [b"ob:" + caller.name() for _ in range(caller.rng.randint(1, 3))]
        requests = [request for key in keys for request in ((b"RPUSH", key, b"x"), (b"LPOP", key))]
        events = [(key, name) for key in keys for name in (b"rpush", b"lpop", b"del")]
        changes = self._expects(caller, *events)
        outcome = yield from transaction(caller, requests)
        for change in changes:
            change.done = outcome.done

    def judge(self, scenario: Scenario) -> None:
        """After all."""
        for subscriber in self._subscribers:
            if not subscriber.lost:
                self.problems += self.wrong(scenario, subscriber.host, subscriber.heard, subscriber.since)

    def wrong(self, scenario: Scenario, host: Host, heard: Counter[Event], since: float = 0.0) -> list[str]:
        """What cannot be, if a subscriber at that node, of whom all know since then, was told this."""
        problems: list[str] = []
        name = host.settings.name
        for event, change in self.changes.items():
            count = heard[event]
            if change.done and not count and change.began >= since:
                if scenario.world.was_out_of_reach(name, change.began, change.began + TOLD_WITHIN_S):
                    self.excused += 1
                else:
                    problems.append(f"{name} was not told of {event}, which was asked for at {change.began:.4f} s")
            elif count and change.done is False:
                problems.append(f"{name} was told of {event}, which did not happen")
            elif count > 1 and not scenario.result.faults:
                problems.append(f"{name} was told {count} times of {event}")
        return problems + [f"{name} was told of {event} from nowhere" for event in heard if event not in self.changes]


class Subscriber:
    """At one node, as long as that lives."""

    def __init__(self, connection: Connection, again: Callable[[], None]) -> None:
        self.host = connection.host
        self.heard: Counter[Event] = Counter()
        self.lost = False
        self.since = self.host.world.now + HEARD_OF_S
        self._again = again
        connection.on_reply = self._take
        connection.on_lost = self._lose
        connection.send((b"PSUBSCRIBE", b"__keyspace@0__:ob:*"))

    def _lose(self) -> None:
        self.lost = True
        self.host.world.after(AGAIN_S, self._again)

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, list) and reply[0] == b"pmessage":
            channel, name = reply[2], reply[3]
            assert isinstance(channel, bytes)
            assert isinstance(name, bytes)
            self.heard[channel.partition(b":")[2], name] += 1
