"""The load of transactions on a real redis-server: there is nothing to find, unless something in between breaks it."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from math import inf
from random import Random

import pytest

from peerkv.resp import Replies, Reply, encode_request
from tests.sim.jobs import DISCARD, EXEC, LOST, MULTI, WRONG, Answer, Job
from tests.sim.requests import Request
from tests.sim.transactions import Transactions

CLIENTS = 6
STEPS = 4000
BETWEEN = 5


class Terminal:
    """A client of a server that is there; its job is gone on with step by step."""

    def __init__(self, load: Transactions, port: int, number: int) -> None:
        self.load, self.port, self.number = load, port, number
        self.rng = Random(load.rng.getrandbits(64))
        self.problems = load.problems
        self.refusals = load.refusals
        self.waits_until = 0.0
        self.loses = 0.01
        """Of what it sends so much has no answer, as the connection is lost."""
        self._sent = self._connections = 0
        self._job: Job | None = None
        self._step: list[Request] = []
        self._connect()

    def _connect(self) -> None:
        self._connections += 1
        self._socket: socket.socket | None = socket.create_connection(("127.0.0.1", self.port))
        self._replies = Replies()
        self.queues = False

    def now(self) -> float:
        return time.monotonic()

    def name(self) -> bytes:
        self._sent += 1
        return b"%d.%d" % (self.number, self._sent)

    def place(self) -> tuple[int, int]:
        self._sent += 1
        return self._connections * 1000 + self.number, self._sent

    def commits(self) -> None:
        """Nothing befalls this server."""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def step(self) -> int:
        """Send what the job wants, and have it go on, to what it wants next; 0: it still waits."""
        if self.now() < self.waits_until:
            return 0
        if self._socket is None:
            self._connect()
        try:
            if self._job is None:
                self._job = self.load.job(self)
                wanted = next(self._job)
            elif self._step:
                wanted = self._job.send(self.exchange(self._step))
            else:
                wanted = next(self._job)
        except StopIteration:
            self._job, self._step = None, []
            return 1
        if self._socket is None:
            self._job.close()
            self._job, self._step = None, []
        elif isinstance(wanted, float):
            self.waits_until, self._step = self.now() + wanted, []
        else:
            self._step = wanted
        return 1

    def alone(self, requests: list[Request]) -> bool:
        """One, which is run as soon as it is there."""
        return len(requests) == 1 and not self.queues

    def exchange(self, requests: list[Request]) -> list[Answer]:
        assert self._socket is not None, "connected"
        if self.rng.random() < self.loses:
            self._socket.sendall(b"".join(map(encode_request, requests)))
            self.close()
            return [Answer(LOST, inf)] * len(requests)
        for request in requests:
            self.queues = request == MULTI or (self.queues and request not in (EXEC, DISCARD))
        self._socket.sendall(b"".join(map(encode_request, requests)))
        replies: list[Reply] = []
        while len(replies) < len(requests):
            replies += self._replies.feed(self._socket.recv(1 << 20))
        return [Answer(reply, self.now()) for reply in replies]


class Torn(Terminal):
    """Between the halves of its transactions others are run."""

    others: Sequence[Terminal] = ()
    busy = False

    def step(self) -> int:
        return 0 if self.busy else super().step()

    def exchange(self, requests: list[Request]) -> list[Answer]:
        one = requests.count(MULTI) == requests.count(EXEC) == 1 and requests[0] == MULTI and requests[-1] == EXEC
        if not one or len(requests) < 4 or WRONG in requests:
            return super().exchange(requests)
        middle = len(requests) // 2
        first = super().exchange([*requests[:middle], EXEC])
        if self._socket is None:
            return [Answer(LOST, inf)] * len(requests)
        self.busy = True
        for _ in range(BETWEEN):
            self.rng.choice(self.others).step()
        self.busy = False
        second = super().exchange([MULTI, *requests[middle:]])
        whole: list[Reply] = []
        for reply, _ in (first[-1], second[-1]):
            if not isinstance(reply, list):
                return [*first[:-1], *second[1:-1], Answer(reply, self.now())]
            whole += reply
        return [*first[:-1], *second[1:-1], Answer(whole, self.now())]


class Blind(Terminal):
    """What it watches is not watched."""

    def exchange(self, requests: list[Request]) -> list[Answer]:
        return super().exchange([(b"UNWATCH",) if request[0] == b"WATCH" else request for request in requests])


class Twice(Terminal):
    """A transaction may arrive twice."""

    def exchange(self, requests: list[Request]) -> list[Answer]:
        answers = super().exchange(requests)
        if requests[-1] == EXEC and len(requests) > 1 and self._socket is not None and self.rng.random() < 0.1:
            super().exchange(requests)
        return answers


class Hasty(Terminal):
    """It acknowledges what is not done."""

    def exchange(self, requests: list[Request]) -> list[Answer]:
        if self.alone(requests) and requests[0][0] == b"RPUSH" and self.rng.random() < 0.1:
            return [Answer(1, self.now())]
        return super().exchange(requests)


class Stale(Terminal):
    """A read may be answered as it was before."""

    def __init__(self, load: Transactions, port: int, number: int) -> None:
        super().__init__(load, port, number)
        self._before: dict[Request, Answer] = {}

    def exchange(self, requests: list[Request]) -> list[Answer]:
        request = requests[0]
        if not self.alone(requests) or request[0] != b"LRANGE":
            return super().exchange(requests)
        (answer,) = super().exchange(requests)
        return [Answer(self._before.setdefault(request, answer).reply, answer.at)]


def run(port: int, terminal: type[Terminal], seed: int = 1) -> Transactions:
    rng = Random(seed)
    load = Transactions(rng, few=True, atomic=True)
    clients = [terminal(load, port, number) for number in range(CLIENTS)]
    clients[0].exchange([(b"FLUSHALL",)])
    for client in clients:
        if isinstance(client, Torn):
            client.others = [other for other in clients if other is not client]
    steps = 0
    while steps < STEPS:
        steps += rng.choice(clients).step()
    ends = []
    for client in clients[:2]:
        client.close()
        client.loses = 0.0
        client._connect()
        final = load.final(client)
        step = next(final)
        while True:
            assert isinstance(step, list)
            try:
                step = final.send(Terminal.exchange(client, step))
            except StopIteration as end:
                ends.append(end.value)
                break
    load.judge(ends)
    for client in clients:
        client.close()
    return load


def test_a_real_server_does_nothing_wrong(redis_port: int) -> None:
    load = run(redis_port, Terminal)
    assert load.problems == load.refusals == []
    assert load.outcomes[True] > 500
    assert load.aborted > 20
    assert load.outcomes[None] > 0


@pytest.mark.parametrize(
    ("terminal", "words"),
    [
        (Torn, "is answered"),
        (Blind, "when watched"),
        (Twice, "2 times"),
        (Hasty, "acknowledged is missing"),
        (Stale, "one after another"),
    ],
)
def test_what_is_done_wrong_is_found(redis_port: int, terminal: type[Terminal], words: str) -> None:
    assert words in "; ".join(run(redis_port, terminal).problems)
