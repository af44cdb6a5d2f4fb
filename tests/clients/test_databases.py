"""Sixteen databases, as a redis-server has them: the same requests on connections to different nodes, the same
replies."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator

import pytest
import redis

from bench.processes import Cluster
from bench.processes import redis as redis_server
from peerkv.commands.table import find, placed
from peerkv.databases import DATABASES, bare_key, database_of, in_database
from peerkv.kernel.slot import Copies
from peerkv.ring.keys import slot_of


def test_a_key_of_a_database_is_in_the_slot_that_it_has_by_itself() -> None:
    for key in (b"", b"k", b"{tag}k", b"{}k", b"a{b}c{d}", b"\xff", b"}{", b"{", b"{db01}"):
        for database in range(DATABASES):
            held = in_database(key, database)
            assert slot_of(held) == slot_of(key)
            assert (database_of(held), bare_key(held)) == (database, key)
    assert len({in_database(b"k", database) for database in range(DATABASES)}) == DATABASES


def test_what_is_no_database_is_a_key() -> None:
    for key in (b"\xff{db", b"\xff{db16}k", b"\xff{db00}k", b"\xff{dbxx}k", b"\xff{db1}k"):
        assert (database_of(key), bare_key(key)) == (0, key)
        assert 0 <= slot_of(key) < 16384


@pytest.mark.parametrize(
    ("request_", "keys"),
    [
        (b"SET k v", [1]),
        (b"MSET a 1 b 2", [1, 3]),
        (b"ZUNION 2 a b WEIGHTS 1 2", [2, 3]),
        (b"ZUNIONSTORE d 2 a b", [1, 3, 4]),
        (b"OBJECT ENCODING k", [2]),
        (b"PING hello", []),
        (b"NONSENSE a", []),
        (b"SET k", [1]),
    ],
)
def test_the_keys_of_a_request_are_placed(request_: bytes, keys: list[int]) -> None:
    words = request_.split()
    expected = [in_database(word, 3) if at in keys else word for at, word in enumerate(words)]
    assert placed(words, 3) == expected


def test_a_slot_knows_how_many_keys_each_database_has() -> None:
    """Whatever is written, deleted, purged or replaced; beside a count of all of them."""
    rng = random.Random(1)
    copies = Copies(1)
    slot = copies.add(0)
    for position in range(1, 3000):
        key = in_database(b"%d" % rng.randrange(60), rng.choice((0, 0, 1, 15)))
        slot.apply(position, [(key, rng.choice((b"v", b"v", None)), 0)])
        if rng.random() < 0.02:
            slot.purge(position - rng.randrange(40))
        if rng.random() < 0.003:
            slot.replace(position, {}, {k: cell for k, cell in slot.cells.items() if rng.random() < 0.7})
        if rng.random() < 0.1:
            live = [database_of(k) for k, cell in slot.cells.items() if cell[1] is not None]
            assert [slot.live_in(database) for database in range(16)] == [live.count(n) for n in range(16)]
            copies.find_marked()
            assert sum(map(len, copies.marked.values())) == sum(1 for k in slot.cells if database_of(k))


@pytest.fixture(scope="module")
def theirs() -> Iterator[int]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with redis_server() as port:
        yield port


NUMBERS = (0, 1, 2, 15)


class Both:
    """A connection to each of our nodes and one to redis-server, for each database."""

    def __init__(self, members: Cluster, theirs: int) -> None:
        self._ours = [
            {n: redis.Redis(port=members.ports[name], db=n) for n in NUMBERS}
            for name in ("db1", "db2", "db3", "master")
        ]
        self._theirs = {n: redis.Redis(port=theirs, db=n) for n in NUMBERS}
        self._turn = 0

    def ask(self, database: int, *request: object) -> tuple[object, object]:
        self._turn += 1
        return tuple(self._said(clients[database], request) for clients in (self._ours[self._turn % 4], self._theirs))  # type: ignore[return-value]

    @staticmethod
    def _said(client: redis.Redis, request: tuple[object, ...]) -> object:
        try:
            reply = client.execute_command(*request)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            return str(error)
        return sorted(reply) if isinstance(reply, list) and request[0] in ("KEYS", "SMEMBERS") else reply

    def close(self) -> None:
        for clients in (*self._ours, self._theirs):
            for client in clients.values():
                client.close()


@pytest.fixture
def both(members: Cluster, theirs: int) -> Iterator[Both]:
    clients = Both(members, theirs)
    clients.ask(0, "FLUSHALL")
    yield clients
    clients.ask(0, "FLUSHALL")
    clients.close()


def test_databases_are_as_in_redis(both: Both) -> None:
    rng = random.Random(7)
    keys = ["a", "b", "{t}a", "{t}b", "list", "set"]
    for _ in range(300):
        key, other = rng.choice(keys), rng.choice(("{t}a", "{t}b"))
        request = rng.choice(
            [
                ("SET", key, rng.randrange(9)),
                ("GET", key),
                ("DEL", key, rng.choice(keys)),
                ("EXISTS", *keys),
                ("MSET", key, 1, rng.choice(keys), 2),
                ("MGET", *keys),
                ("INCR", key),
                ("RPUSH", "list", 1, 2, 3),
                ("LMPOP", 1, "list", "LEFT"),
                ("SORT", "list", "BY", "{list}*", "GET", "#"),
                ("SADD", "set", "x"),
                ("SUNIONSTORE", "{t}a", other, other),
                ("MOVE", key, rng.choice((0, 1, 2, 15, 16, "x"))),
                ("COPY", "{t}a", other, "DB", rng.choice((0, 1, 15, 16)), "REPLACE"),
                ("RENAME", "{t}a", other),
                ("EXPIRE", key, 1000),
                ("PERSIST", key),
                ("OBJECT", "ENCODING", key),
                ("TYPE", key),
                ("DBSIZE",),
                ("KEYS", "*"),
                ("FLUSHDB",),
                ("SELECT", "16"),
                ("SELECT", "x"),
            ]
        )
        if request == ("FLUSHDB",) and rng.random() < 0.8:
            continue
        database = rng.choice(NUMBERS)
        ours, theirs = both.ask(database, *request)
        assert ours == theirs, (database, request)
    for database in NUMBERS:
        ours, theirs = both.ask(database, "KEYS", "*")
        assert ours == theirs


def test_scan_and_randomkey_see_one_database(both: Both) -> None:
    for number in range(300):
        both.ask(number % 2, "SET", f"key:{number}", "v")
    client = both._ours[0][1]
    assert sorted(client.scan_iter(count=20)) == sorted(b"key:%d" % n for n in range(1, 300, 2))
    assert client.dbsize() == 150
    for _ in range(20):
        key = client.randomkey()
        assert isinstance(key, bytes)
        assert int(key[4:]) % 2 == 1
    assert both._ours[1][2].randomkey() is None


def test_info_and_client_list_tell_of_databases(both: Both) -> None:
    both.ask(0, "SET", "a", 1)
    both.ask(2, "SET", "a", 1)
    both.ask(2, "SET", "b", 1, "EX", 100)
    client = both._ours[0][2]
    keyspace = client.info("keyspace")
    assert keyspace["db0"]["keys"] == 1
    assert keyspace["db2"]["keys"] == 2
    assert set(keyspace) == {"db0", "db2"}
    assert any(entry["db"] == "2" for entry in client.client_list())


def test_reset_is_back_at_database_0(members: Cluster) -> None:
    connection = redis.Connection(port=members.ports["db1"], db=3)
    connection.connect()
    for request, expected in ((("RESET",), b"RESET"), (("CLIENT", "INFO"), b" db=0 ")):
        connection.send_command(*request)
        assert expected in connection.read_response()
    connection.disconnect()


def test_every_command_with_keys_says_where_they_are() -> None:
    """One that does not would act on database 0 from all of them."""
    for name in ("sort", "lmpop", "zmpop", "sintercard", "object", "memory", "bitop", "geosearchstore", "lcs", "copy"):
        row = find(name.encode())
        assert row is not None
        assert row.keys_at is not None or row.keys[0], name
