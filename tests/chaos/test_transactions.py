"""Real processes move money between accounts of many slots, and one of them dies: none is lost, made or held up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
import trio

from bench.processes import Cluster, cluster
from tests.chaos.test_chaos import Client

pytestmark = pytest.mark.few

ACCOUNTS = [b"account:%d" % number for number in range(60)]
OPENING = 1000
CLIENTS = 16
LOAD_S = 1.5
"""Before the fault, and so long again after it."""


class Bank:
    """Clients that move money, each through one node; each counts in the same transaction what it has moved."""

    def __init__(self, members: Cluster, dying: str) -> None:
        self.members = members
        self.dying = dying
        self.failures: list[tuple[str, object]] = []
        self.done: dict[int, int] = {}
        """Per client, transfers that were acknowledged."""
        self.unknown: set[int] = set()
        """Clients whose last EXEC was on a connection that broke."""
        self.changed = 0
        """EXECs that were answered by nil: somebody was faster."""
        self.seen_whole = 0

    async def client(self, number: int, until: float) -> None:
        name = self.members.names[number % len(self.members.names)]
        rng = random.Random(number)
        client = await Client.connect(self.members.ports[name])
        self.done[number] = 0
        asked = b""
        async with client.stream:
            try:
                while trio.current_time() < until:
                    source, target = rng.sample(ACCOUNTS, 2)
                    amount = rng.randrange(1, 20)
                    if rng.random() < 0.5:
                        requests = [(b"DECRBY", source, b"%d" % amount), (b"INCRBY", target, b"%d" % amount)]
                    else:
                        await self._ask(client, b"WATCH", source, target)
                        balances = [int(await self._ask(client, b"GET", key)) for key in (source, target)]
                        requests = [
                            (b"SET", source, b"%d" % (balances[0] - amount)),
                            (b"SET", target, b"%d" % (balances[1] + amount)),
                        ]
                    await self._ask(client, b"MULTI")
                    for request in (*requests, (b"INCR", b"done:%d" % number)):
                        await self._ask(client, *request)
                    asked = b"EXEC"
                    replies = await self._ask(client, asked)
                    asked = b""
                    if replies is None:
                        self.changed += 1
                    else:
                        self.done[number] += 1
                        assert replies[2] == self.done[number], "one was done twice, or not at all"
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                if asked:
                    self.unknown.add(number)
                if name != self.dying:
                    self.failures.append((name, error))
            except hiredis.HiredisError as error:
                if asked and str(error).startswith("UNCERTAIN"):
                    self.unknown.add(number)
                self.failures.append((name, error))

    async def auditor(self, name: str, until: float) -> None:
        """Sees all accounts at one moment, again and again."""
        client = await Client.connect(self.members.ports[name])
        async with client.stream:
            while trio.current_time() < until:
                await self._ask(client, b"MULTI")
                await self._ask(client, b"MGET", *ACCOUNTS)
                try:
                    replies = await self._ask(client, b"EXEC")
                except hiredis.HiredisError as error:
                    if not str(error).startswith("TRYAGAIN"):  # sixty accounts are rarely left alone
                        self.failures.append((name, error))
                    continue
                assert sum(map(int, replies[0])) == OPENING * len(ACCOUNTS), "money is on its way"
                self.seen_whole += 1

    @staticmethod
    async def _ask(client: Client, *arguments: bytes) -> Any:
        reply = await client.ask(*arguments)
        if isinstance(reply, hiredis.HiredisError):
            raise reply
        return reply


@pytest.fixture
def members() -> Iterator[Cluster]:
    with cluster(3) as running:
        yield running


async def info(client: Client) -> dict[str, str]:
    text = (await client.ask(b"INFO", b"everything")).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


@pytest.mark.parametrize("victim", ["db1", "db2", "db3"])
async def test_transfers_through_a_node_that_is_killed(members: Cluster, victim: str) -> None:
    rest = [name for name in members.names if name != victim]
    bank = Bank(members, victim)
    client = await Client.connect(members.ports[rest[0]])
    async with client.stream:
        await client.ask(b"MSET", *[word for key in ACCOUNTS for word in (key, b"%d" % OPENING)])
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            until = trio.current_time() + 2 * LOAD_S + 1
            for number in range(CLIENTS):
                nursery.start_soon(bank.client, number, until)
            nursery.start_soon(bank.auditor, rest[1], until)
            await trio.sleep(LOAD_S)
            members.kill(victim)
    assert bank.failures == []
    assert bank.seen_whole
    assert all(bank.done.values())
    for name in rest:
        client = await Client.connect(members.ports[name])
        async with client.stream:
            balances = await client.ask(b"MGET", *ACCOUNTS)
            assert sum(map(int, balances)) == OPENING * len(ACCOUNTS)
            for number, done in bank.done.items():
                counted = int(await client.ask(b"GET", b"done:%d" % number))
                assert done <= counted <= done + (number in bank.unknown)
            # Nothing is held, and whoever writes need not wait.
            for key in ACCOUNTS:
                assert isinstance(await client.ask(b"INCRBY", key, b"0"), int)
            with trio.fail_after(30):
                while (found := await info(client))["keys_held"] != "0" or found["transactions_under_way"] != "0":
                    await trio.sleep(0.1)
            assert int(found["transactions_committed"]) > 0
            assert await client.ask(b"DBSIZE") == len(ACCOUNTS) + CLIENTS
