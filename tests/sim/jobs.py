"""Clients that do one thing after another, each in steps: send some requests, have all replies, go on from there.

A job is a generator: it yields requests and is sent their answers, or yields seconds and is gone on with after these.
When its connection is lost, whatever was not answered is answered by LOST; a job that then asks for more is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from peerkv.resp import Reply, ReplyError
from tests.sim.clients import NOTHING_DONE, PATIENCE_S
from tests.sim.requests import Request

if TYPE_CHECKING:
    from peerkv.clients.session import Session
    from tests.sim.scenario import Scenario
    from tests.sim.world import Connection

REFUSALS: Final = "TRYAGAIN", *NOTHING_DONE
LOST: Final = ReplyError("UNCERTAIN the connection is lost")
MULTI: Final[Request] = (b"MULTI",)
EXEC: Final[Request] = (b"EXEC",)
DISCARD: Final[Request] = (b"DISCARD",)
WRONG: Final[Request] = (b"GET",)
"""Of too few arguments: EXEC refuses what it stands in."""


class Answer(NamedTuple):
    """A reply, and when it came."""

    reply: Reply
    at: float

    @property
    def lost(self) -> bool:
        return self.reply is LOST


Job: TypeAlias = Generator[list[Request] | float, list[Answer], None]


class Caller(Protocol):
    """What a job needs of the client whose it is."""

    rng: Random
    problems: list[str]
    """What cannot be, found by the way."""
    refusals: list[str]
    """What was not done, which is right only where there are faults."""

    def now(self) -> float: ...

    def name(self) -> bytes:
        """One that nothing else has."""

    def place(self) -> tuple[int, int]:
        """(connection, order) of what is sent next."""

    def session(self) -> tuple[Session | None, object]:
        """Of its connection, if it has one, and the node that it is at."""

    def commits(self) -> None:
        """What is sent next is, or ends, a transaction."""

    def close(self) -> None:
        """Give up the connection, without a word."""


@dataclass(slots=True)
class Outcome:
    """What came of a transaction, a script, or a command."""

    invoked: float
    place: tuple[int, int]
    returned: float = inf
    done: bool | None = None
    """False: it did not happen; None: nobody knows."""
    replies: Sequence[Reply] = ()
    aborted: bool = False
    """What it watched had changed."""


def asked(caller: Caller, request: Request) -> Generator[list[Request], list[Answer], Outcome]:
    """One request by itself; what it has answered is the only one of the replies."""
    outcome = Outcome(caller.now(), caller.place())
    caller.commits()
    (answer,) = yield [request]
    judge(caller, outcome, answer, request)
    return outcome


def judge(caller: Caller, outcome: Outcome, answer: Answer, request: Request) -> None:
    """Enter the reply to a single request."""
    reply, at = answer
    if not isinstance(reply, ReplyError):
        outcome.done, outcome.returned, outcome.replies = True, at, [reply]
    else:
        _fail(caller, outcome, reply, request)


def _fail(caller: Caller, outcome: Outcome, reply: ReplyError, request: Request) -> None:
    if reply.text.startswith("UNCERTAIN"):
        outcome.done = None
    elif reply.text.startswith(REFUSALS):
        outcome.done = False
        caller.refusals.append(f"at {caller.now():.4f} s {b' '.join(request)[:200]!r} is answered {reply.text}")
    else:
        caller.problems.append(f"at {caller.now():.4f} s {b' '.join(request)[:200]!r} is answered {reply.text}")


def transaction(
    caller: Caller,
    commands: Sequence[Request],
    *,
    watching: bool = False,
    last: Request = EXEC,
    spoiled: bool = False,
    at_once: bool = False,
) -> Generator[list[Request], list[Answer], Outcome]:
    """MULTI, the commands, and EXEC: in one go, or one by one. `watching`: it may be aborted; `last`: DISCARD in place
    of EXEC; `spoiled`: with a command that cannot be, for which it is refused; `at_once`: in one go."""
    inside = [*commands]
    if spoiled:
        inside.insert(caller.rng.randint(0, len(inside)), WRONG)
    outcome = Outcome(caller.now(), caller.place(), done=False)
    if at_once or caller.rng.random() < 0.6:
        caller.commits()
        answers = yield [MULTI, *inside, last]
    else:
        answers = []
        for request in (MULTI, *inside):
            answers += yield [request]
            if answers[-1].lost:
                return outcome
        if caller.rng.random() < 0.03:
            caller.close()
            return outcome
        outcome.invoked = caller.now()
        caller.commits()
        answers += yield [last]
    read_transaction(caller, outcome, commands, answers, watching=watching, last=last, spoiled=spoiled)
    return outcome


def read_transaction(
    caller: Caller,
    outcome: Outcome,
    commands: Sequence[Request],
    answers: Sequence[Answer],
    *,
    watching: bool = False,
    last: Request = EXEC,
    spoiled: bool = False,
) -> None:
    """Enter the answers to MULTI, commands and EXEC."""
    (first, *queued), (reply, at) = answers[:-1], answers[-1]
    outcome.done = False
    whole = not spoiled
    if not first.lost and first.reply != "OK":
        caller.problems.append(f"MULTI is answered {first.reply!r}")
    for answer in queued:
        if isinstance(answer.reply, ReplyError) and not answer.lost:
            whole = False
            if not spoiled and not answer.reply.text.startswith(NOTHING_DONE):
                caller.problems.append(f"within MULTI a command is answered {answer.reply.text}")
        elif not answer.lost and answer.reply != "QUEUED":
            caller.problems.append(f"within MULTI a command is answered {answer.reply!r}")
    if last == DISCARD:
        if reply not in ("OK", LOST):
            caller.problems.append(f"DISCARD is answered {reply!r}")
    elif isinstance(reply, ReplyError):
        if not whole and reply.text.startswith("EXECABORT"):
            return
        if whole or reply is not LOST:
            _fail(caller, outcome, reply, EXEC)
    elif not whole:
        caller.problems.append(f"EXEC of what was refused is answered {reply!r}")
    elif reply is None:
        outcome.aborted, outcome.returned = True, at
        if not watching:
            caller.problems.append("EXEC is answered nil although nothing is watched")
    elif not isinstance(reply, list) or len(reply) != len(commands):
        caller.problems.append(f"EXEC of {len(commands)} commands is answered {reply!r}")
    else:
        outcome.done, outcome.returned, outcome.replies = True, at, reply


class Load(Protocol):
    """Where clients' jobs come from."""

    problems: list[str]
    refusals: list[str]

    def job(self, caller: Caller) -> Job: ...


class Worker:
    """One client in the simulated world, on whatever node lives."""

    def __init__(self, scenario: Scenario, load: Load, number: int, think_s: float) -> None:
        self.scenario = scenario
        self.load = load
        self.number = number
        self.think_s = think_s
        self.rng = Random(scenario.world.rng.getrandbits(64))
        self.problems = load.problems
        self.refusals = load.refusals
        self._connection: Connection | None = None
        self._connections = 0
        self._sent = 0
        self._job: Job | None = None
        self._awaited = 0
        self._answers: list[Answer] = []

    # -- for jobs

    def now(self) -> float:
        return self.scenario.world.now

    def name(self) -> bytes:
        self._sent += 1
        return b"%d.%d" % (self.number, self._sent)

    def place(self) -> tuple[int, int]:
        self._sent += 1
        return self._connections * 1000 + self.number, self._sent

    def session(self) -> tuple[Session | None, object]:
        connection = self._connection
        return (connection.session, connection.node) if connection is not None else (None, None)

    def commits(self) -> None:
        if self._connection is not None:
            self.scenario.commits(self._connection.host)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def at_last(self, host: str, job: Generator[Any, list[Answer], Outcome], end: Callable[[Outcome], None]) -> None:
        """One job alone, at this node; the caller has what came of it."""

        def whole() -> Job:
            end((yield from job))

        self._use(self.scenario.world.connect(host))
        self._job = whole()
        self._go_on()

    # -- one after another

    def act(self) -> None:
        """Begin the next one."""
        scenario = self.scenario
        if scenario.over:
            self.close()
            return
        if self._connection is None:
            self._use(scenario.connect(self.rng, scenario.favourite))
        if self._connection is None:
            scenario.world.after(0.1, self.act)
            return
        self._job = self.load.job(self)
        self._go_on()

    def _use(self, connection: Connection | None) -> None:
        self._connection = connection
        if connection is not None:
            self._connections += 1
            connection.on_reply = partial(self._replied, connection)
            connection.on_lost = partial(self._lost, connection)

    def _go_on(self, answers: list[Answer] | None = None) -> None:
        """Have the job take its next step."""
        world, job = self.scenario.world, self._job
        if job is None:
            return
        try:
            step = next(job) if answers is None else job.send(answers)
        except StopIteration:
            self._end()
            return
        if self._connection is None:
            job.close()
            self._end()
        elif isinstance(step, float):
            world.after(step, self._go_on_with, job)
        elif not step:
            self._go_on([])
        else:
            self._awaited, self._answers = len(step), []
            world.after(PATIENCE_S, self._lose_patience, self._answers)
            self._connection.send(*step)

    def _go_on_with(self, job: Job) -> None:
        if self._job is job:
            self._go_on()

    def _end(self) -> None:
        self._job = None
        if self.think_s == inf:
            return
        self.scenario.world.after(self.rng.expovariate(1 / self.think_s), self.act)

    def _replied(self, connection: Connection, reply: Reply) -> None:
        if connection is self._connection and self._awaited:
            self._answers.append(Answer(reply, self.now()))
            if len(self._answers) == self._awaited:
                self._awaited = 0
                self._go_on(self._answers)

    def _lost(self, connection: Connection) -> None:
        if connection is self._connection:
            self._give_up()

    def _lose_patience(self, answers: list[Answer]) -> None:
        if answers is self._answers and self._awaited:
            self._give_up()

    def _give_up(self) -> None:
        self.close()
        if self._awaited:
            missing, self._awaited = self._awaited - len(self._answers), 0
            self._go_on([*self._answers, *[Answer(LOST, inf)] * missing])
