"""INFO commandstats and its like: what was asked for, and what it took."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from peerkv.commands.table import COMMANDS
from peerkv.resp import Reply
from tests.clients.alone import Alone, Client
from tests.sim.world import World
from tests.test_dispatch import Talk


@pytest.fixture
def alone() -> Alone:
    alone = Alone()
    Client(alone).ask((b"CONFIG", b"RESETSTAT"))
    return alone


def timed(client: Client, *requests: Sequence[bytes]) -> None:
    """As the shell does it now and then: of these requests it is known that they took 2 us."""
    client.ask(*requests)
    client.alone.node.took(requests, 2000)


def told(client: Client, section: bytes) -> dict[str, str]:
    (reply,) = client.ask((b"INFO", section))
    assert isinstance(reply, bytes)
    return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)  # type: ignore[misc]


def of(line: str) -> dict[str, float]:
    return {key: float(value) for key, value in (part.split("=") for part in line.split(","))}


def test_commands_are_counted_and_timed(alone: Alone) -> None:
    client = Client(alone)
    for _ in range(5):
        timed(client, *[(b"GET", b"a")] * 4)
    timed(client, (b"gEt", b"a"), (b"GET",), (b"GET", b"a", b"b"), (b"SET", b"list", b"1"), (b"LPUSH", b"list", b"1"))
    timed(client)
    stats = of(told(client, b"commandstats")["cmdstat_get"])
    assert stats == {"calls": 21, "usec": 10, "usec_per_call": 0.5, "rejected_calls": 2, "failed_calls": 0}
    for _ in range(2):
        timed(client, (b"LPUSH", b"list", b"1"))
    failed = of(told(client, b"commandstats")["cmdstat_lpush"])
    assert [failed["calls"], failed["rejected_calls"], failed["failed_calls"]] == [3, 0, 3]
    assert "cmdstat_set" not in told(client, b"commandstats"), "nobody knows how long it takes"
    client.ask((b"CONFIG", b"RESETSTAT"))
    assert "cmdstat_get" not in told(client, b"commandstats")
    assert COMMANDS["get"].calls == 0


def test_subcommands_are_counted_by_themselves(alone: Alone) -> None:
    client = Client(alone)
    for _ in range(3):
        timed(client, (b"CLIENT", b"ID"))
    client.ask((b"CLIENT", b"GETNAME"))
    stats = told(client, b"commandstats")
    assert of(stats["cmdstat_client|id"])["calls"] == 3
    assert "cmdstat_client" not in stats


def test_errors_are_counted_for_the_commands_that_answered_them(alone: Alone) -> None:
    """Also where replies are not wanted, and where many MiB of them go in portions."""
    client = Client(alone)
    client.ask((b"SET", b"s", b"x" * 600_000), (b"SADD", b"members", b"a"), (b"CONFIG", b"RESETSTAT"))
    client.ask(
        (b"CLIENT", b"REPLY", b"SKIP"),
        (b"SADD", b"s", b"1"),
        *[(b"GET", b"s")] * 5,
        (b"HGET", b"s", b"f"),
        (b"GET", b"members"),
        *[(b"GET", b"s")] * 5,
        (b"NOTHING",),
        (b"HGET", b"members", b"f"),
    )
    assert {name: COMMANDS[name].errors for name in ("sadd", "hget", "get")} == {"sadd": 0, "hget": 2, "get": 1}
    assert told(client, b"errorstats") == {"errorstat_WRONGTYPE": "count=3", "errorstat_ERR": "count=1"}


def test_what_waits_for_its_turn_is_counted_once() -> None:
    """Of three nodes a write waits for a read of the same slot, and is run again when that has ended."""
    world = World(3)
    world.cluster(3)
    world.run(8.0)
    talk = Talk(world, "db1")
    requests = [(b"GET", b"k%d" % (n % 7)) if n % 3 else (b"SET", b"k%d" % (n % 7), b"x") for n in range(90)]
    requests += [(b"MSET", b"k1", b"1", b"k2", b"2"), (b"DBSIZE",), (b"MGET", b"k1", b"k2"), (b"DBSIZE",)] * 3
    talk.ask((b"CONFIG", b"RESETSTAT"))
    replies: list[Reply] = talk.ask(*requests)
    assert len(replies) == len(requests)
    counted = {name: COMMANDS[name].calls for name in ("get", "set", "mset", "mget", "dbsize")}
    assert counted == {"get": 60, "set": 30, "mset": 3, "mget": 3, "dbsize": 6}


def test_info_tells_what_is_asked_for(alone: Alone) -> None:
    client = Client(alone)
    (everything,) = client.ask((b"INFO", b"all"))
    (usual,) = client.ask((b"INFO",))
    (two,) = client.ask((b"INFO", b"Keyspace", b"stats"))
    assert isinstance(everything, bytes)
    assert isinstance(usual, bytes)
    assert isinstance(two, bytes)
    assert b"# Commandstats\r\n" in everything
    assert b"# Latencystats\r\n" in everything
    assert b"# Commandstats\r\n" not in usual
    assert b"# Server\r\n" in usual
    assert [line for line in two.split(b"\r\n") if line.startswith(b"#")] == [b"# Keyspace", b"# Stats"]


def test_the_rate_is_that_of_the_last_seconds(alone: Alone) -> None:
    client = Client(alone)
    for _ in range(100):
        alone.now += 0.1
        client.ask(*[(b"PING",)] * 50)
    assert 400 <= int(told(client, b"stats")["instantaneous_ops_per_sec"]) <= 600
    for _ in range(100):
        alone.now += 0.1
        alone.turns()
    assert int(told(client, b"stats")["instantaneous_ops_per_sec"]) < 10


def test_who_waits_is_counted(alone: Alone) -> None:
    client, other = Client(alone), Client(alone)
    other.send((b"WAIT", b"9", b"0"))
    assert told(client, b"clients")["blocked_clients"] == "1"
