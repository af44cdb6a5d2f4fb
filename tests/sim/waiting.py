"""Clients that wait for elements of lists, push them, or go away while they wait, and what must hold of the elements.

Every element is one of its own. What was acknowledged is popped exactly once or is still there in the end; what is of
unknown outcome, at most once. Who waits in a cluster that is well has what is pushed within a second (I1 to I4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from peerkv.resp import NullArray, Reply, ReplyError
from tests.sim.clients import NOTHING_DONE, Request
from tests.sim.jobs import Caller, Job, Outcome, Worker, asked, transaction
from tests.sim.world import Connection

if TYPE_CHECKING:
    from tests.sim.conserved import Steps
    from tests.sim.scenario import Scenario

ERA_S: Final = 4.0
"""Lists go out of use; an element stays among those of its time."""
LISTS: Final = 5
"""Of a time, each of another slot but two."""
WORKERS: Final = 4
LEAVERS: Final = 2
PATIENT: Final = 3
THINK_S: Final = 0.05
TIMEOUTS: Final = (b"0.01", b"0.1", b"0.5", b"2")
LEAVES_AFTER_S: Final = (0.0, 0.002, 0.02, 0.2, 1.0)
PUT_BACK_S: Final = 15.0
"""So long after a client has gone its node must live for what was taken for it to be back."""
TAKEN_WITHIN_S: Final = 1.0
FIRST: Final = 500
"""Numbers of these clients begin here."""


def _name(era: int, number: int) -> bytes:
    return b"bl:%d:{%d}:%d" % (era, number // 2 if number < 2 else number, number)


def _is_nil(reply: Reply) -> bool:
    return reply is None or isinstance(reply, NullArray)


class Waiting:
    """A load of such clients, and what came of it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.refusals: list[str] = []
        self.lists: dict[bytes, None] = {}
        """All that were ever named."""
        self.popped: Counter[bytes] = Counter()
        self.pops = self.nils = self.left = 0
        """Waits that got something, that got nothing, and clients that went away."""
        self._pushed: dict[bytes, bool | None] = {}
        """Elements, and whether they were; None: who knows."""
        self._era_of: dict[bytes, int] = {}
        self._taken: Counter[int] = Counter()
        """How many elements of each time may have been taken for clients that were never told."""
        self._patient: list[Patient] = []

    def begin(self, scenario: Scenario) -> None:
        """Have all clients begin."""
        after = scenario.world.after
        for number in range(WORKERS):
            after(0.01, Worker(scenario, self, FIRST + number, THINK_S).act)
        self._patient = [Patient(scenario, self, number) for number in range(PATIENT)]
        for patient in self._patient:
            after(0.01, patient.act)
        for _ in range(LEAVERS):
            after(0.01, Leaver(scenario, self).act)

    def some(self, rng: Random, now: float, least: int, most: int) -> tuple[int, list[bytes]]:
        """Lists that are in use."""
        era = int(now / ERA_S)
        names = [_name(era, number) for number in rng.sample(range(LISTS), rng.randint(least, most))]
        self.lists.update(dict.fromkeys(names))
        return era, names

    # -- what clients do

    def job(self, caller: Caller) -> Job:
        """What a client does next."""
        chance = caller.rng.random()
        if chance < 0.45:
            yield from self._push(caller)
        elif chance < 0.85:
            yield from self._pop(caller)
        else:
            yield from self._move(caller)

    def _push(self, caller: Caller) -> Job:
        rng = caller.rng
        era, keys = self.some(rng, caller.now(), 1, 2)
        elements: list[bytes] = []
        requests: list[Request] = []
        for key in keys:
            own = [caller.name() for _ in range(rng.choice((1, 1, 2)))]
            requests.append((rng.choice((b"LPUSH", b"RPUSH")), key, *own))
            elements += own
        self._pushed.update(dict.fromkeys(elements, None))
        self._era_of.update(dict.fromkeys(elements, era))
        outcome = yield from (transaction(caller, requests) if len(keys) > 1 else asked(caller, requests[0]))
        self._pushed.update(dict.fromkeys(elements, outcome.done))

    def _pop(self, caller: Caller) -> Job:
        rng = caller.rng
        era, keys = self.some(rng, caller.now(), 1, 3)
        timeout, most = rng.choice(TIMEOUTS), 1
        request: Request = (rng.choice((b"BLPOP", b"BRPOP")), *keys, timeout)
        if rng.random() < 0.2:
            most = 2
            request = (b"BLMPOP", timeout, b"%d" % len(keys), *keys, rng.choice((b"LEFT", b"RIGHT")), b"COUNT", b"2")
        outcome = yield from asked(caller, request)
        if outcome.done:
            self.got(keys, outcome.replies[0], outcome.returned)
        elif outcome.done is None:
            self._taken[era] += most

    def got(self, keys: Sequence[bytes], reply: Reply, at: float) -> None:
        """A wait for these has ended so."""
        if _is_nil(reply):
            self.nils += 1
            return
        key, found = reply if isinstance(reply, list) and len(reply) == 2 else (None, reply)
        elements = found if isinstance(found, list) else [found]
        if key not in keys or not elements or not all(isinstance(element, bytes) for element in elements):
            self.problems.append(f"at {at:.4f} s a wait for {keys} is answered {reply!r}")
            return
        self.pops += 1
        self.popped.update(element for element in elements if isinstance(element, bytes))

    def _move(self, caller: Caller) -> Job:
        _, (source, target) = self.some(caller.rng, caller.now(), 2, 2)
        ends = caller.rng.choices((b"LEFT", b"RIGHT"), k=2)
        outcome = yield from asked(caller, (b"BLMOVE", source, target, *ends, caller.rng.choice(TIMEOUTS)))
        if outcome.done and not _is_nil(outcome.replies[0]) and outcome.replies[0] not in self._pushed:
            self.problems.append(f"BLMOVE of {source!r} is answered {outcome.replies[0]!r}")

    def untold(self, era: int) -> None:
        """Something may have been taken for a client that was not told so."""
        self._taken[era] += 1

    # -- in the end

    def taken_in_the_end(self, scenario: Scenario) -> None:
        """All is calm: what is pushed is taken at once, whoever waits where, and however long; so is what waiters that
        go away leave."""
        world = scenario.world
        hosts = [host for host in world.hosts.values() if host.node is not None]
        waiting: list[tuple[str, list[Reply], Connection]] = []
        pushes: list[tuple[Connection, Request]] = []
        for number, host in enumerate(hosts):
            one, other = b"bl:end:%d" % number, b"bl:end:%d." % number
            found: list[Reply] = []
            waiter, pusher = world.connect(host.settings.name), world.connect(hosts[number - 1].settings.name)
            if waiter is None or pusher is None:
                self.problems.append(f"no connection to {host.settings.name} or to its neighbour in the end")
                continue
            leaver = world.connect(host.settings.name)
            if leaver is not None:  # it came first, and goes before there is anything
                leaver.send((b"BLPOP", other, one, b"0"))
                world.run(world.now + 0.1)
                leaver.close()
            waiter.on_reply = found.append
            waiter.send((b"BLPOP", one, other, b"0"))
            waiting.append((f"{host.settings.name}, calm", found, waiter))
            pushes.append((pusher, (b"RPUSH", other, b"end")))
        for patient in self._patient:
            if patient.connection is not None and pushes:
                waiting.append((f"{patient.host}, patient", patient.found, patient.connection))
                pushes.append((pushes[0][0], (b"RPUSH", patient.keys[-1], b"end")))
        world.run(world.now + 0.2)
        for connection, request in pushes:
            connection.send(request)
        world.run(world.now + TAKEN_WITHIN_S)
        for what, found, _ in waiting:
            if len(found) != 1 or not isinstance(found[0], list) or found[0][1] != b"end":
                self.problems.append(f"at {world.now:.4f} s a waiter of {what} has {found!r} a second after a push")

    def final(self, caller: Caller) -> Steps:
        """One node's word on all lists."""
        place, invoked = caller.place(), caller.now()
        answers = yield [(b"LRANGE", key, b"0", b"-1") for key in self.lists]
        return Outcome(invoked, place, caller.now(), True, [answer.reply for answer in answers])

    def judge(self, ends: Sequence[Outcome]) -> None:
        """After all; `ends`: what each node has said."""
        for end in ends[1:]:
            if end.replies != ends[0].replies:
                self.problems.append("nodes do not say the same of lists that are waited for")
        there: Counter[bytes] = Counter()
        for found in ends[0].replies if ends else ():
            if isinstance(found, list):
                there.update(element for element in found if isinstance(element, bytes))
            elif not _is_nil(found):
                self.problems.append(f"a list that is waited for is {found!r} in the end")
        self.problems += self.wrong(there)

    def wrong(self, there: Counter[bytes]) -> list[str]:
        """What cannot be, if this is still there."""
        seen = self.popped + there
        problems = [f"{element!r} is there {count} times" for element, count in seen.items() if count > 1]
        problems += [f"{element!r} was never pushed" for element in seen if self._pushed.get(element) is False]
        problems += [f"{element!r} comes from nowhere" for element in seen if element not in self._pushed]
        lost: dict[int, list[bytes]] = {}
        for element, pushed in self._pushed.items():
            if pushed and not seen[element]:
                lost.setdefault(self._era_of[element], []).append(element)
        return problems + [
            f"of time {era} are lost {elements}, at most {self._taken[era]} were taken for clients that do not know"
            for era, elements in lost.items()
            if len(elements) > self._taken[era]
        ]


class Leaver:
    """Waits, and goes without a word, again and again."""

    def __init__(self, scenario: Scenario, load: Waiting) -> None:
        self.scenario = scenario
        self.load = load
        self.rng = Random(scenario.world.rng.getrandbits(64))

    def act(self) -> None:
        scenario, world = self.scenario, self.scenario.world
        if scenario.over:
            return
        connection = scenario.connect(self.rng)
        if connection is None:
            world.after(0.2, self.act)
            return
        era, keys = self.load.some(self.rng, world.now, 1, 2)
        found: list[Reply] = []
        connection.on_reply = partial(self._answered, keys, found)
        connection.send((self.rng.choice((b"BLPOP", b"BRPOP")), *keys, b"0"))
        world.after(self.rng.choice(LEAVES_AFTER_S), self._leave, era, connection, found)

    def _answered(self, keys: list[bytes], found: list[Reply], reply: Reply) -> None:
        found.append(reply)
        if not isinstance(reply, ReplyError):
            self.load.got(keys, reply, self.scenario.world.now)
        elif not reply.text.startswith(("UNCERTAIN", *NOTHING_DONE)):
            self.load.problems.append(f"a wait for {keys} is answered {reply.text}")

    def _leave(self, era: int, connection: Connection, found: list[Reply]) -> None:
        world = self.scenario.world
        on_reply = connection.on_reply
        connection.close()
        connection.on_reply = on_reply  # what its node had written by then is not put back
        self.load.left += not found
        world.after(PUT_BACK_S, self._look, era, connection, found, connection.host.node)
        world.after(self.rng.expovariate(1 / THINK_S), self.act)

    def _look(self, era: int, connection: Connection, found: list[Reply], node: object) -> None:
        died = connection.node is not node or connection.host.node is not node
        uncertain = bool(found) and isinstance(found[0], ReplyError) and found[0].text.startswith("UNCERTAIN")
        struck = bool(
            self.scenario.result.faults
        )  # what was asked for it may be of unknown outcome, and nobody says so
        if uncertain or ((died or struck) and not found):
            self.load.untold(era)


class Patient:
    """Waits for what is only pushed in the end, wherever it can."""

    def __init__(self, scenario: Scenario, load: Waiting, number: int) -> None:
        self.scenario = scenario
        self.load = load
        self.rng = Random(scenario.world.rng.getrandbits(64))
        self.keys = [b"bl:patient:%d" % number, b"bl:patient:%d." % number]
        self.host = ""
        self.connection: Connection | None = None
        self.found: list[Reply] = []

    def act(self) -> None:
        scenario = self.scenario
        self.connection = connection = scenario.connect(self.rng)
        if connection is None:
            scenario.world.after(0.2, self.act)
            return
        self.host = connection.host.settings.name
        connection.on_reply = partial(self._answered, connection)
        connection.on_lost = partial(self._again, connection)
        connection.send((b"BLPOP", *self.keys, b"0"))

    def _answered(self, connection: Connection, reply: Reply) -> None:
        if not isinstance(reply, ReplyError):
            self.found.append(reply)
        elif reply.text.startswith(("UNCERTAIN", *NOTHING_DONE)):
            connection.close()
            self._again(connection)
        else:
            self.load.problems.append(f"a wait for {self.keys} is answered {reply.text}")

    def _again(self, connection: Connection) -> None:
        if connection is self.connection and not self.found:
            self.connection = None
            self.scenario.world.after(0.1, self.act)
