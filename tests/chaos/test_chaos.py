"""Real processes, real signals: any one node dies, stops or comes back, and nobody's request fails or is lost."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
import trio

from bench.processes import Cluster, cluster

pytestmark = pytest.mark.few

LOAD_S = 1.0
"""Load before the fault, and so long again after it."""


class Client:
    """One connection to one node; one request at a time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.reader = hiredis.Reader()

    @classmethod
    async def connect(cls, port: int) -> Client:
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def ask(self, *arguments: bytes) -> Any:
        """The reply; error replies come as exceptions that are returned, a lost connection raises."""
        await self.stream.send_all(hiredis.pack_command(arguments))
        while (reply := self.reader.gets()) is False:
            data = await self.stream.receive_some(65536)
            if not data:
                raise ConnectionResetError
            self.reader.feed(data)
        return reply


class Load:
    """What the clients of a cluster did, and what was promised to them."""

    def __init__(self, members: Cluster) -> None:
        self.members = members
        self.acknowledged: dict[bytes, bytes] = {}
        self.counted = 0
        self.uncertain = 0
        """INCRs whose connection broke before the reply: done or not."""
        self.failures: list[tuple[str, object]] = []
        self.successes: dict[str, int] = {}
        self.dying: set[str] = set()
        """Nodes whose own clients may lose their connections."""

    async def client(self, name: str, number: int, until: float) -> None:
        """Write keys of our own and count one counter together, through one node."""
        rng = random.Random(number)
        try:
            client = await Client.connect(self.members.ports[name])
        except OSError as error:
            if name not in self.dying:
                self.failures.append((name, error))
            return
        async with client.stream:
            turn = 0
            while trio.current_time() < until:
                turn += 1
                key = b"key:%d:%d" % (number, rng.randrange(200))
                value = b"%d:%d" % (number, turn)
                asking = b"SET"
                try:
                    reply = await client.ask(b"SET", key, value)
                    if reply != "OK" and reply != b"OK":
                        self.failures.append((name, reply))
                        continue
                    self.acknowledged[key] = value
                    asking = b"GET"
                    reply = await client.ask(b"GET", key)
                    if reply != value:
                        self.failures.append((name, (key, value, reply)))
                    asking = b"INCR"
                    reply = await client.ask(b"INCR", b"counter")
                    if isinstance(reply, int):
                        self.counted += 1
                    else:
                        self.failures.append((name, reply))
                    self.successes[name] = self.successes.get(name, 0) + 1
                except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    if asking == b"SET":
                        self.acknowledged.pop(key, None)  # this value or the one before
                    self.uncertain += asking == b"INCR"
                    if name not in self.dying:
                        self.failures.append((name, error))
                    return


async def under_load(members: Cluster, fault: Any, *, dying: set[str]) -> Load:
    """Run a fault in the middle of a load through every node."""
    load = Load(members)
    load.dying = dying
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            until = trio.current_time() + 2 * LOAD_S + 1
            for number in range(9):
                nursery.start_soon(load.client, members.names[number % 3], number, until)
            await trio.sleep(LOAD_S)
            await fault()
    return load


async def check(load: Load, through: list[str]) -> None:
    """Everything acknowledged is there, through every node named, and the counter is exact."""
    assert load.failures == []
    assert load.acknowledged
    for name in through:
        client = await Client.connect(load.members.ports[name])
        async with client.stream:
            for key, value in load.acknowledged.items():
                assert await client.ask(b"GET", key) == value, f"{key!r} through {name}"
            count = int(await client.ask(b"GET", b"counter"))
            assert load.counted <= count <= load.counted + load.uncertain


@pytest.fixture
def members() -> Iterator[Cluster]:
    with cluster(3) as running:
        yield running


@pytest.mark.parametrize("victim", ["db1", "db2", "db3", "master"])
async def test_kill_9_of_any_node(members: Cluster, victim: str) -> None:
    async def fault() -> None:
        members.kill(victim)

    load = await under_load(members, fault, dying={victim})
    rest = [name for name in ("master", *members.names) if name != victim]
    await check(load, rest)
    assert all(load.successes[name] > 0 for name in rest if name != "master")


async def test_a_stopped_node_goes_on_where_it_was(members: Cluster) -> None:
    async def fault() -> None:
        members.send("db2", signal.SIGSTOP)
        await trio.sleep(1.0)
        members.send("db2", signal.SIGCONT)

    load = await under_load(members, fault, dying=set())
    await check(load, ["master", *members.names])


async def test_two_of_three_dead_is_a_clear_no(members: Cluster) -> None:
    client = await Client.connect(members.ports["db1"])
    async with client.stream:
        assert await client.ask(b"SET", b"k", b"v") == b"OK"
        members.kill("db2")
        members.kill("db3")
        await trio.sleep(0.5)
        reply = await client.ask(b"SET", b"k", b"w")
        assert isinstance(reply, hiredis.ReplyError)
        assert str(reply).startswith(("NOQUORUM", "UNCERTAIN"))
        assert await client.ask(b"PING") == b"PONG"
