"""Real processes come and go under load: nothing fails on nodes that are up, nothing is lost, every count is exact."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import hiredis
import pytest
import trio

from bench.processes import Cluster, cluster
from tests.chaos.test_chaos import Client

pytestmark = pytest.mark.alone

CLIENTS = 6
WHOLE_WITHIN_S = 40.0


class Load:
    """Clients that write keys of their own and count together, on any node that is not about to go."""

    def __init__(self, members: Cluster) -> None:
        self.members = members
        self.up = set(members.names)
        """Nodes that clients may use."""
        self.acknowledged: dict[bytes, bytes] = {}
        self.unknown: set[bytes] = set()
        """Keys whose last SET was on a connection that broke."""
        self.counted = 0
        self.uncertain = 0
        self.failures: list[tuple[str, object]] = []
        self.over = False

    async def client(self, number: int) -> None:
        rng = random.Random(number)
        while not self.over:
            name = rng.choice(sorted(self.up))
            try:
                client = await Client.connect(self.members.ports[name])
            except OSError as error:
                if name in self.up:
                    self.failures.append((name, error))
                continue
            async with client.stream:
                await self._use(client, name, number, rng)

    async def _use(self, client: Client, name: str, number: int, rng: random.Random) -> None:
        asking = b""
        key = b""
        try:
            while not self.over and name in self.up:
                key = b"key:%d:%d" % (number, rng.randrange(300))
                value = b"%d" % rng.getrandbits(60)
                for asking, *arguments in ((b"SET", key, value), (b"GET", key), (b"INCR", b"counter")):
                    reply = await client.ask(asking, *arguments)
                    if isinstance(reply, hiredis.ReplyError):
                        self.failures.append((name, reply))
                        return
                    if asking == b"SET":
                        self.acknowledged[key] = value
                        self.unknown.discard(key)
                    elif asking == b"GET" and reply != value:
                        self.failures.append((name, (key, value, reply)))
                    elif asking == b"INCR":
                        self.counted += 1
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if name in self.up:
                self.failures.append((name, error))
            self.uncertain += asking == b"INCR"
            if asking == b"SET":
                self.unknown.add(key)


async def under_load(members: Cluster, story: Callable[[Load], Awaitable[None]]) -> Load:
    load = Load(members)
    with trio.fail_after(240):
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(load.client, number)
            await trio.sleep(0.5)
            await story(load)
            await trio.sleep(0.5)
            load.over = True
    return load


async def whole(load: Load) -> None:
    with trio.fail_after(WHOLE_WITHIN_S):
        while not await trio.to_thread.run_sync(lambda: load.members.whole(*load.up)):
            await trio.sleep(0.1)


async def leave(load: Load, name: str) -> None:
    load.up.discard(name)
    await trio.to_thread.run_sync(load.members.leave, name)


async def serves(load: Load, *names: str) -> None:
    """Once these nodes have met the cluster, clients may use them."""
    for name in names:
        with trio.fail_after(WHOLE_WITHIN_S):
            while True:
                try:
                    client = await Client.connect(load.members.ports[name])
                    async with client.stream:
                        if not isinstance(await client.ask(b"GET", b"counter"), hiredis.ReplyError):
                            break
                except OSError:
                    pass
                await trio.sleep(0.05)
        load.up.add(name)


async def check(load: Load) -> None:
    assert load.failures == []
    assert load.counted > 100
    for name in sorted(load.up):
        client = await Client.connect(load.members.ports[name])
        async with client.stream:
            for key, value in load.acknowledged.items():
                if key not in load.unknown:
                    assert await client.ask(b"GET", key) == value, f"{key!r} through {name}"
            count = int(await client.ask(b"GET", b"counter"))
            assert load.counted <= count <= load.counted + load.uncertain


async def test_a_rolling_restart() -> None:
    with cluster(3) as members:

        async def story(load: Load) -> None:
            for name in ("db1", "db2", "db3"):
                await leave(load, name)
                members.start(name)
                await serves(load, name)
                await whole(load)

        await check(await under_load(members, story))


async def test_a_killed_node_comes_back_and_is_filled() -> None:
    with cluster(3) as members:

        async def story(load: Load) -> None:
            load.up.discard("db2")
            members.kill("db2")
            members.start("db2")
            await serves(load, "db2")
            await whole(load)

        await check(await under_load(members, story))


async def test_three_become_six_become_three() -> None:
    with cluster(3) as members:

        async def story(load: Load) -> None:
            members.join("db4", "db5", "db6")
            await serves(load, "db4", "db5", "db6")
            await whole(load)
            for name in ("db2", "db4", "db6"):
                await leave(load, name)
            await whole(load)

        await check(await under_load(members, story))


async def test_two_of_five_die_one_after_the_other() -> None:
    with cluster(5, "forget_after = 2") as members:

        async def story(load: Load) -> None:
            for name in ("db2", "db4"):
                load.up.discard(name)
                members.kill(name)
                await trio.sleep(1.0)
                await whole(load)

        await check(await under_load(members, story))
