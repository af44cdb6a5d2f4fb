"""Clients that wait for elements of lists, push them, or go away while they wait, and what must hold of the elements.

Every element is one of its own. What was acknowledged is popped exactly once or is still there in the end; what is of
unknown outcome, at most once. Who waits in a cluster that is well has what is pushed within a second (I1 to I4).

What nodes answer to clients that are gone is heard, too, and what comes of putting back what was taken for those. So an
element may only be missing if it is known that it was not put back, as its node died or nobody knows the outcome (I4);
or if there is a wait of unknown outcome, of a list in which it may have been, that nothing else is missing for.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from peerkv.clients.blocking import Blocking
from peerkv.clients.session import Session
from peerkv.resp import NullArray, Reply, ReplyError
from tests.sim.clients import NOTHING_DONE
from tests.sim.jobs import Caller, Job, Outcome, Worker, asked, transaction
from tests.sim.requests import Request
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
TAKEN_WITHIN_S: Final = 1.0
FIRST: Final = 500
"""Numbers of these clients begin here."""


def _name(era: int, number: int) -> bytes:
    return b"bl:%d:{%d}:%d" % (era, number // 2 if number < 2 else number, number)


def _is_nil(reply: Reply) -> bool:
    return reply is None or isinstance(reply, NullArray)


@dataclass(slots=True, eq=False)
class Answered:
    """What a node had to say to a wait, whether or not anybody was there to hear it."""

    node: object
    request: Request
    reply: Reply
    at: float
    gone: bool
    """Its client was, as far as the node knew."""


@dataclass(slots=True, eq=False)
class Unheard:
    """A wait whose client does not know what came of it."""

    session: Session | None
    node: object
    request: Request
    keys: Sequence[bytes]
    invoked: float
    most: int = 1
    """Elements that it may have taken."""
    found: Sequence[Reply] = ()
    """What its client has heard all the same."""


@dataclass(slots=True, eq=False)
class PuttingBack:
    """What is to be put back, and what came of that last; None: nothing yet."""

    node: object
    reply: Reply = None


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
        self._first_in: dict[bytes, bytes] = {}
        """The list that each was pushed into."""
        self._moves: list[tuple[bytes, bytes, bytes | None]] = []
        """From, to, and what: None, if it is not known whether something was moved, and what."""
        self.unheard: list[Unheard] = []
        self._answered: dict[int, list[Answered]] = {}
        """By `id` of the session, which is kept."""
        self._sessions: list[Session] = []
        self._putting_back: dict[bytes, PuttingBack] = {}
        self._now: Callable[[], float] = lambda: 0.0
        self._patient: list[Patient] = []

    def begin(self, scenario: Scenario) -> None:
        """Have all clients begin."""
        after = scenario.world.after
        self._now = lambda: scenario.world.now
        for number in range(WORKERS):
            after(0.01, Worker(scenario, self, FIRST + number, THINK_S).act)
        self._patient = [Patient(scenario, self, number) for number in range(PATIENT)]
        for patient in self._patient:
            after(0.01, patient.act)
        for _ in range(LEAVERS):
            after(0.01, Leaver(scenario, self).act)

    def some(self, rng: Random, now: float, least: int, most: int) -> list[bytes]:
        """Lists that are in use."""
        era = int(now / ERA_S)
        names = [_name(era, number) for number in rng.sample(range(LISTS), rng.randint(least, most))]
        self.lists.update(dict.fromkeys(names))
        return names

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Hear what nodes answer, also those who are gone, and what is put back."""
        deliver, put_back, has_put_back = Blocking._deliver, Blocking._put_back, Blocking._has_put_back

        def delivers(
            node: Blocking, session: Session, request: Sequence[bytes], reply: Reply, sink: Any, index: int
        ) -> None:
            gone = session.killed or session.id not in node._services.sessions
            self.answered(session, Answered(node._services, tuple(request), reply, self._now(), gone))
            deliver(node, session, request, reply, sink, index)

        def puts_back(node: Blocking, undo: list[bytes]) -> None:
            self._putting_back.update({element: PuttingBack(node._services) for element in undo[2:]})
            put_back(node, undo)

        def has(node: Blocking, undo: list[bytes], reply: Reply) -> None:
            self._putting_back.update({element: PuttingBack(node._services, reply) for element in undo[2:]})
            has_put_back(node, undo, reply)

        with (
            patch.object(Blocking, "_deliver", delivers),
            patch.object(Blocking, "_put_back", puts_back),
            patch.object(Blocking, "_has_put_back", has),
        ):
            yield

    def answered(self, session: Session, answer: Answered) -> None:
        """A node answers a wait."""
        if id(session) not in self._answered:
            self._sessions.append(session)
        self._answered.setdefault(id(session), []).append(answer)

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
        keys = self.some(rng, caller.now(), 1, 2)
        elements: list[bytes] = []
        requests: list[Request] = []
        for key in keys:
            own = [caller.name() for _ in range(rng.choice((1, 1, 2)))]
            requests.append((rng.choice((b"LPUSH", b"RPUSH")), key, *own))
            elements += own
            self._first_in.update(dict.fromkeys(own, key))
        self._pushed.update(dict.fromkeys(elements, None))
        outcome = yield from (transaction(caller, requests) if len(keys) > 1 else asked(caller, requests[0]))
        self._pushed.update(dict.fromkeys(elements, outcome.done))

    def _pop(self, caller: Caller) -> Job:
        rng = caller.rng
        keys = self.some(rng, caller.now(), 1, 3)
        timeout, most = rng.choice(TIMEOUTS), 1
        request: Request = (rng.choice((b"BLPOP", b"BRPOP")), *keys, timeout)
        if rng.random() < 0.2:
            most = 2
            request = (b"BLMPOP", timeout, b"%d" % len(keys), *keys, rng.choice((b"LEFT", b"RIGHT")), b"COUNT", b"2")
        session, invoked = caller.session(), caller.now()
        outcome = yield from asked(caller, request)
        if outcome.done:
            self.got(keys, outcome.replies[0], outcome.returned)
        elif outcome.done is None:
            self.unheard.append(Unheard(*session, request, keys, invoked, most))

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
        source, target = self.some(caller.rng, caller.now(), 2, 2)
        ends = caller.rng.choices((b"LEFT", b"RIGHT"), k=2)
        outcome = yield from asked(caller, (b"BLMOVE", source, target, *ends, caller.rng.choice(TIMEOUTS)))
        element = outcome.replies[0] if outcome.done else None
        if isinstance(element, bytes) and element in self._pushed:
            self._moves.append((source, target, element))
        elif outcome.done is None:
            self._moves.append((source, target, None))
        elif not _is_nil(element):
            self.problems.append(f"BLMOVE of {source!r} is answered {element!r}")

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

    def judge(self, scenario: Scenario, ends: Sequence[Outcome]) -> None:
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
        nodes = {id(host.node) for host in scenario.world.hosts.values() if host.node is not None}
        self.problems += self.wrong(there, nodes)

    def wrong(self, there: Counter[bytes], living: Collection[int]) -> list[str]:
        """What cannot be, if this is still there, and these nodes (by `id`) still live."""
        sent, unknown = self._resolved(living)
        seen = self.popped + there + sent
        problems = [f"{element!r} is there {count} times" for element, count in seen.items() if count > 1]
        problems += [f"{element!r} was never pushed" for element in seen if self._pushed.get(element) is False]
        problems += [f"{element!r} comes from nowhere" for element in seen if element not in self._pushed]
        missing = [
            element
            for element, pushed in self._pushed.items()
            if pushed and not seen[element] and not self._is_lost_in_putting_back(element, living)
        ]
        return problems + [
            f"{element!r}, pushed into {self._first_in[element]!r}, is neither popped nor there, and no wait of unknown"
            " outcome has taken it"
            for element in self._without_a_taker(missing, unknown)
        ]

    def _resolved(self, living: Collection[int]) -> tuple[Counter[bytes], list[Unheard]]:
        """What was sent to clients that had gone without the node's knowing, which is lost as anywhere; and waits of
        which even their nodes, or nobody who lives, know what they have taken."""
        sent: Counter[bytes] = Counter()
        unknown: list[Unheard] = []
        for wait in self.unheard:
            if any(not isinstance(reply, ReplyError) for reply in wait.found):
                continue
            answer = next(
                (
                    answer
                    for answer in self._answered.get(id(wait.session), ())
                    if answer.request == wait.request and answer.at >= wait.invoked
                ),
                None,
            )
            if answer is None:
                unknown += [wait] if id(wait.node) not in living else []
            elif isinstance(answer.reply, ReplyError):
                unknown += [wait] if answer.reply.text.startswith("UNCERTAIN") else []
            elif isinstance(answer.reply, list) and not answer.gone:
                found = answer.reply[1]
                elements = found if isinstance(found, list) else [found]
                sent.update(element for element in elements if isinstance(element, bytes))
        return sent, unknown

    def _is_lost_in_putting_back(self, element: bytes, living: Collection[int]) -> bool:
        last = self._putting_back.get(element)
        if last is None:
            return False
        if isinstance(last.reply, ReplyError) and last.reply.text.startswith("UNCERTAIN"):
            return True
        ended = last.reply is not None and not isinstance(last.reply, ReplyError)
        return not ended and id(last.node) not in living

    def _without_a_taker(self, missing: Sequence[bytes], unknown: Sequence[Unheard]) -> list[bytes]:
        """Elements for which there is no wait of their own that may have taken them (a matching of most elements with
        waits, by augmenting paths)."""
        places = [wait for wait in unknown for _ in range(wait.most)]
        takes: dict[int, bytes] = {}

        def find(element: bytes, tried: set[int]) -> bool:
            lists = self._may_be_in(element)
            for at, wait in enumerate(places):
                if at not in tried and not lists.isdisjoint(wait.keys):
                    tried.add(at)
                    if at not in takes or find(takes[at], tried):
                        takes[at] = element
                        return True
            return False

        return [element for element in missing if not find(element, set())]

    def _may_be_in(self, element: bytes) -> set[bytes]:
        lists = {self._first_in[element]}
        while True:
            more = {
                target
                for source, target, moved in self._moves
                if (moved == element or (moved is None and source in lists)) and target not in lists
            }
            if not more:
                return lists
            lists |= more


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
        keys = self.load.some(self.rng, world.now, 1, 2)
        found: list[Reply] = []
        connection.on_reply = partial(self._answered, keys, found)
        request = (self.rng.choice((b"BLPOP", b"BRPOP")), *keys, b"0")
        connection.send(request)
        self.load.unheard.append(Unheard(connection.session, connection.node, request, keys, world.now, found=found))
        world.after(self.rng.choice(LEAVES_AFTER_S), self._leave, connection, found)

    def _answered(self, keys: list[bytes], found: list[Reply], reply: Reply) -> None:
        found.append(reply)
        if not isinstance(reply, ReplyError):
            self.load.got(keys, reply, self.scenario.world.now)
        elif not reply.text.startswith(("UNCERTAIN", *NOTHING_DONE)):
            self.load.problems.append(f"a wait for {keys} is answered {reply.text}")

    def _leave(self, connection: Connection, found: list[Reply]) -> None:
        world = self.scenario.world
        on_reply = connection.on_reply
        connection.close()
        connection.on_reply = on_reply  # what its node had written by then is not put back
        self.load.left += not found
        world.after(self.rng.expovariate(1 / THINK_S), self.act)


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
