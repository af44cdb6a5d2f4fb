"""MULTI, EXEC, WATCH and their like as clients use them: over any keys, through any node."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from bench.processes import Cluster
from peerkv.clients import queueing
from peerkv.commands.transactions import is_record
from peerkv.resp import ReplyError, encode_request
from peerkv.transactions import coordination
from tests.clients.alone import Alone, Client
from tests.differential.servers import InProcess
from tests.differential.trees import Tree, Trees, shown

NAMES = ("db1", "db2", "db3", "master")


class Wire:
    """A connection, byte by byte."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._trees = Trees()

    def send(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def read(self, count: int) -> list[str]:
        replies: list[Tree] = []
        while len(replies) < count:
            received = self._socket.recv(1 << 16)
            assert received, "it has closed the connection"
            replies += self._trees.feed(received)  # type: ignore[arg-type]
        assert len(replies) == count
        return [shown(reply) for reply in replies]

    def ask(self, *lines: str) -> list[str]:
        """Each line is a request; what is answered, as people read it."""
        self.send(*lines)
        return self.read(len(lines))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def wires(members: Cluster, *names: str) -> Iterator[list[Wire]]:
    opened = [Wire(members.ports[name]) for name in names]
    try:
        opened[0].ask("FLUSHALL")
        yield opened
    finally:
        for name in set(names):
            with redis.Redis(port=members.ports[name]) as client:
                client.client_unpause()
        for wire in opened:
            wire.close()


@pytest.fixture(params=[2, 3])
def client(port: int, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with redis.Redis(port=port, protocol=request.param, decode_responses=True) as client:
        client.flushall()
        yield client


# -- redis-py


def test_a_default_pipeline_is_a_transaction(client: redis.Redis) -> None:
    """Of keys of as many slots as there are keys."""
    with client.pipeline() as pipeline:
        for number in range(50):
            pipeline.set(f"key:{number}", number)
        pipeline.incr("key:7").get("key:7").rename("key:7", "other").exists("key:7", "other")
        replies = pipeline.execute()
    assert replies == [True] * 50 + [8, "8", True, 1]
    assert client.exists(*[f"key:{number}" for number in range(50)], "other") == 50


def test_an_error_inside_undoes_nothing(client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        pipeline.set("text", "x").incr("text").lpush("text", 1).rpush("list", 1)
        replies = pipeline.execute(raise_on_error=False)
    assert (replies[0], replies[3]) == (True, 1)
    assert [str(reply).split(" ", 1)[0] for reply in replies[1:3]] == ["value", "WRONGTYPE"]
    assert (client.get("text"), client.llen("list")) == ("x", 1)


def test_what_cannot_be_queued_leaves_everything_as_it_was(client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        pipeline.set("a", 1).execute_command("NOSUCH", "a").set("b", 1)
        with pytest.raises(redis.ResponseError, match="unknown command"):
            pipeline.execute()
    assert client.exists("a", "b") == 0


def test_a_watched_key_that_somebody_changes_is_noticed(client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        pipeline.watch("a", "b")
        client.set("b", 1)
        pipeline.multi()
        pipeline.set("a", 1)
        with pytest.raises(redis.WatchError):
            pipeline.execute()
        pipeline.watch("a", "b")
        pipeline.multi()
        pipeline.set("a", 2)
        assert pipeline.execute() == [True]
    assert client.get("a") == "2"


def test_a_transaction_function_reads_and_writes_keys_of_several_slots(client: redis.Redis) -> None:
    client.mset({"from": 10, "to": 0})

    def move(pipeline: redis.client.Pipeline) -> None:
        amount = int(pipeline.get("from"))
        pipeline.multi()
        pipeline.decrby("from", amount)
        pipeline.incrby("to", amount)

    assert client.transaction(move, "from", "to") == [0, 10]
    assert client.mget("from", "to") == ["0", "10"]


def test_counts_that_many_watch_and_set_are_exact(members: Cluster) -> None:
    """The usual loop, by two clients of each node, on two keys of different slots."""
    turns, clients = 15, 6
    faults: list[BaseException] = []
    with redis.Redis(port=members.ports["db1"]) as first:
        first.flushall()
        first.mset({"one": 0, "two": 100})

    def count(port: int) -> None:
        def step(pipeline: redis.client.Pipeline) -> None:
            one, two = (int(value) for value in pipeline.mget("one", "two"))
            pipeline.multi()
            pipeline.set("one", one + 1)
            pipeline.set("two", two - 1)

        try:
            with redis.Redis(port=port) as client:
                for _ in range(turns):
                    client.transaction(step, "one", "two")
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=count, args=(members.ports[NAMES[n % 3]],)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    with redis.Redis(port=members.ports["db2"]) as last:
        assert [int(value) for value in last.mget("one", "two")] == [turns * clients, 100 - turns * clients]


# -- what is said, byte by byte


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_wrong_is_said_as_in_redis(members: Cluster, name: str) -> None:
    with wires(members, name) as (wire,):
        assert wire.ask("EXEC", "DISCARD", "UNWATCH") == [
            "-'ERR EXEC without MULTI'",
            "-'ERR DISCARD without MULTI'",
            "+'OK'",
        ]
        said = wire.ask("MULTI", "MULTI", "WATCH a", "SET a 1", "UNWATCH", "EXEC", "GET a")
        assert said[:3] == ["+'OK'", "-'ERR MULTI calls can not be nested'", "-'ERR WATCH inside MULTI is not allowed'"]
        assert said[3:] == ["+'QUEUED'", "+'QUEUED'", "*[+'OK' +'OK']", "$'1'"]
        assert wire.ask("MULTI", "SET a 2", "DISCARD", "GET a") == ["+'OK'", "+'QUEUED'", "+'OK'", "$'1'"]
        said = wire.ask("MULTI", "SET a 2", "GET", "SET b 2", "EXEC", "EXEC", "GET a")
        assert said[2].startswith("-\"ERR wrong number of arguments for 'get'")
        assert said[3:] == [
            "+'QUEUED'",
            "-'EXECABORT Transaction discarded because of previous errors.'",
            "-'ERR EXEC without MULTI'",
            "$'1'",
        ]
        said = wire.ask("MULTI", "SET a 2", "EXEC now", "DISCARD")
        assert said[2] == (
            "-\"EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\""
        )
        assert said[3] == "-'ERR DISCARD without MULTI'"
        assert wire.ask("MULTI", "SET a 2", "RESET", "EXEC", "GET a")[2:] == [
            "+'RESET'",
            "-'ERR EXEC without MULTI'",
            "$'1'",
        ]
        assert wire.ask("MULTI", "EXEC") == ["+'OK'", "*[]"]


@pytest.mark.parametrize("what", ["FLUSHALL", "SCAN 0", "DBSIZE", "RANDOMKEY", "WAIT 1 0", "SUBSCRIBE a"])
def test_what_cannot_be_queued_says_so_and_nothing_is_done(members: Cluster, what: str) -> None:
    with wires(members, "db1") as (wire,):
        said = wire.ask("MULTI", "SET a 1", what, "EXEC", "EXISTS a")
        assert said[2].startswith(("-'ERR", '-"ERR'))
        assert said[3:] == ["-'EXECABORT Transaction discarded because of previous errors.'", ":'0'"]


def test_nil_is_an_array_in_resp2_and_null_in_resp3(members: Cluster) -> None:
    with wires(members, "db1", "db2") as (wire, other):
        for hello, nil in (("HELLO 2", "*nil"), ("HELLO 3", "_nil")):
            wire.ask(hello, "WATCH a b")
            other.ask("SET b 1")
            assert wire.ask("MULTI", "SET a 1", "GET b", "EXEC")[3] == nil
            assert wire.ask("MULTI", "EXISTS a", "EXEC")[2] == "*[:'0']"


def test_replies_inside_are_of_the_protocol(members: Cluster) -> None:
    with wires(members, "db3") as (wire,):
        wire.ask("HSET h a 1", "ZADD z 1.5 a")
        commands = ("HGETALL h", "ZSCORE z a", "GET none", "SMISMEMBER none a", "LPOP none 2")
        assert wire.ask("MULTI", *commands, "EXEC")[-1] == "*[*[$'a' $'1'] $'1.5' $nil *[:'0'] *nil]"
        wire.ask("HELLO 3")
        assert wire.ask("MULTI", *commands, "EXEC")[-1] == "*[%[$'a' $'1'] ,'1.5' _nil *[:'0'] _nil]"


def test_databases_are_selected_inside_and_outside(members: Cluster) -> None:
    """SELECT inside takes effect for what is queued behind it, and for the connection if all of it happens."""
    with wires(members, "db1", "db2") as (wire, other):
        said = wire.ask("SELECT 3", "MULTI", "SET a 3", "SELECT 5", "SET a 5", "SELECT 99", "GET a", "EXEC", "GET a")
        assert said[-2] == "*[+'OK' +'OK' +'OK' -'ERR DB index is out of range' $'5']"
        assert said[-1] == "$'5'"
        assert other.ask("GET a", "SELECT 3", "GET a", "SELECT 5", "GET a")[::2] == ["$nil", "$'3'", "$'5'"]
        assert wire.ask("MULTI", "SELECT 7", "DISCARD", "GET a")[-1] == "$'5'"


@pytest.mark.parametrize("database", range(16))
def test_every_database_has_transactions(members: Cluster, database: int) -> None:
    with (
        redis.Redis(port=members.ports["db1"], db=database) as one,
        redis.Redis(port=members.ports["db2"], db=database) as two,
        redis.Redis(port=members.ports["db3"], db=(database + 1) % 16) as beside,
    ):
        one.flushall()
        with one.pipeline() as pipeline:
            pipeline.watch("a", "b")
            beside.set("a", 1)  # another key
            pipeline.multi()
            pipeline.set("a", 2).rename("a", "b").copy("b", "c", destination_db=(database + 1) % 16)
            assert pipeline.execute() == [True, True, 1]
            pipeline.watch("b")
            two.set("b", 3)
            pipeline.multi()
            pipeline.set("b", 4)
            with pytest.raises(redis.WatchError):
                pipeline.execute()
        assert (two.get("b"), beside.get("c"), beside.get("a")) == (b"3", b"2", b"1")


def test_silent_connections_do_what_they_queue(members: Cluster) -> None:
    with wires(members, "db1", "db2") as (wire, other):
        wire.send("CLIENT REPLY OFF", "MULTI", "SET a 1", "INCR b", "EXEC", "CLIENT REPLY ON")
        assert wire.read(1) == ["+'OK'"]
        wire.send("CLIENT REPLY SKIP", "MULTI", "INCR b", "EXEC")
        assert wire.read(2) == ["+'QUEUED'", "*[:'2']"]
        wire.send("MULTI", "CLIENT REPLY SKIP", "INCR b", "EXEC", "PING", "PING")
        assert wire.read(5)[-1] == "+'PONG'"
        assert other.ask("MGET a b") == ["*[$'1' $'3']"]


def test_a_pause_of_writes_holds_up_the_exec_of_some(members: Cluster) -> None:
    with wires(members, "db1", "db1", "db2") as (wire, reader, other):
        wire.ask("MULTI", "SET a 1", "GET b")
        reader.ask("MULTI", "GET a", "EXISTS b")
        other_of_node = Wire(members.ports["db1"])
        assert other_of_node.ask("CLIENT PAUSE 60000 WRITE") == ["+'OK'"]
        assert reader.ask("EXEC") == ["*[$nil :'0']"]
        wire.send("EXEC")
        assert reader.ask("GET a", "MULTI", "GET a", "EXEC")[-1] == "*[$nil]"
        assert other.ask("GET a") == ["$nil"]
        assert other_of_node.ask("CLIENT UNPAUSE") == ["+'OK'"]
        assert wire.read(1) == ["*[+'OK' $nil]"]
        other_of_node.close()


# -- what touches a watched key


@pytest.mark.parametrize(
    ("before", "change", "touches"),
    [
        ("SET w 1", "SET w 1", True),
        ("SET w 1", "GET w", False),
        ("SET w 1", "SET w 2 NX", False),
        ("SET w 1", "EXPIRE w 100", True),
        ("SET w 1", "PERSIST w", False),
        ("SET w 1", "RENAME w {w}other", True),
        ("SET other 1", "RENAME other w", True),
        ("SET w 1", "RENAME w other", True),
        ("SADD w a", "SADD w a", False),
        ("SADD w a", "SMOVE w other a", True),
        ("SADD w a", "SUNIONSTORE other w", None),
        ("PING", "DEL w", False),
        ("PING", "SET w 1", True),
        ("SET w 1", "DEL w", True),
        ("SET w 1", "FLUSHDB", True),
        ("SET w 1", "FLUSHALL", True),
        ("PING", "FLUSHALL", False),
        ("SET w 1", "MSET x 1 y 2", False),
        ("LPUSH other a", "LMOVE other w LEFT RIGHT", True),
        ("SET w 1", "MOVE w 3", True),
        ("SET other 1", "COPY other w REPLACE", True),
        ("HSET w f 1", "HDEL w g", False),
    ],
)
def test_what_touches_a_watched_key_and_what_does_not(
    members: Cluster, before: str, change: str, touches: bool | None
) -> None:
    """From another node. `None`: it is only read, but together with others, and may count as changed."""
    with wires(members, "db1", "db2") as (wire, other):
        wire.ask(before)
        other.ask("PING")
        wire.ask("WATCH w")
        other.ask(change)
        said = wire.ask("MULTI", "PING", "EXEC")[-1]
        if touches is not None:
            assert said == ("*nil" if touches else "*[+'PONG']")


def test_another_databases_flush_touches_nothing(members: Cluster) -> None:
    with wires(members, "db1", "db2") as (wire, other):
        wire.ask("SET w 1", "WATCH w")
        other.ask("SELECT 4", "SET w 1", "FLUSHDB", "SET w 2")
        assert wire.ask("MULTI", "SET w 2", "EXEC")[-1] == "*[+'OK']"


def test_a_watched_key_that_expires_has_changed(members: Cluster) -> None:
    with wires(members, "db1", "db2") as (wire, other):
        other.ask("SET w 1 PX 150", "SET v 1")
        wire.ask("WATCH w v")
        while other.ask("EXISTS w") != [":'0'"]:
            time.sleep(0.02)
        assert wire.ask("MULTI", "SET v 2", "EXEC")[-1] == "*nil"
        other.ask("SET w 1 PX 1")
        while other.ask("EXISTS w") != [":'0'"]:
            time.sleep(0.02)
        wire.ask("WATCH w v")  # it is gone already
        assert wire.ask("MULTI", "SET v 2", "EXEC")[-1] == "*[+'OK']"


def test_unwatch_and_discard_forget_what_was_watched(members: Cluster) -> None:
    for forget in (["UNWATCH"], ["MULTI", "DISCARD"], ["MULTI", "EXEC"], ["RESET"]):
        with wires(members, "db1", "db2") as (wire, other):
            wire.ask("WATCH w", *forget)
            other.ask("SET w 1")
            assert wire.ask("MULTI", "SET w 2", "EXEC")[-1] == "*[+'OK']", forget


def test_whoever_goes_in_the_middle_has_asked_for_nothing(members: Cluster) -> None:
    with wires(members, "db1", "db2") as (wire, other):
        wire.ask("WATCH w", "MULTI", "SET w 1", "SET v 1")
        wire.close()
        assert other.ask("EXISTS w v", "SET w 2", "SET v 2") == [":'0'", "+'OK'", "+'OK'"]


def test_a_transaction_sees_itself_and_is_behind_what_its_client_sent_before(members: Cluster) -> None:
    with wires(members, "db1") as (wire,):
        for turn in range(30):
            said = wire.ask(f"SET a {turn}", "MULTI", "GET a", "INCR a", "SET b x", "STRLEN b", "EXEC", "GET a")
            assert said[-2:] == [f"*[$'{turn}' :'{turn + 1}' +'OK' :'1']", f"$'{turn + 1}'"]


# -- one node by itself, and bounds


@pytest.fixture
def alone() -> Alone:
    return Alone()


def words(*lines: str) -> list[list[bytes]]:
    return [line.encode().split() for line in lines]


def test_a_node_by_itself_has_transactions(alone: Alone) -> None:
    one, two = Client(alone), Client(alone)
    assert one.ask(*words("MULTI", "SET a 1", "SET b 2", "RENAME a c", "EXEC"))[-1] == ["OK", "OK", "OK"]
    one.ask(*words("WATCH a c"))
    two.ask(*words("SET c 1"))
    assert one.ask(*words("MULTI", "SET b 3", "EXEC"))[-1] is None
    assert two.ask(*words("MGET a b c")) == [[None, b"2", b"1"]]
    assert not alone.node.home.holds.of_slot
    assert not [
        key for cells in alone.node.view.copies.cells for key, cell in cells.items() if is_record(key) and cell[1]
    ]


def test_a_key_that_expired_long_ago_is_not_held(alone: Alone) -> None:
    """The first millisecond in place of a deadline means that a transaction holds the key: whoever came was to wait."""
    client = Client(alone)
    for option in ("PXAT 1", "EXAT 1", "PXAT 2"):
        assert client.ask(*words(f"SET a x {option}", "APPEND a y", "GET a", "DEL a")) == ["OK", 1, b"y", 1]


def test_so_many_commands_are_queued_and_no_more(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "COMMANDS_MAX", 200)
    client = Client(alone)
    assert client.ask(*words("MULTI", *["INCR a"] * 200, "EXEC"))[-1] == list(range(1, 201))
    replies = client.ask(*words("MULTI", *["INCR a"] * 202, "EXEC", "GET a"))
    assert isinstance(replies[201], ReplyError)
    assert replies[202] in ("QUEUED", replies[201])
    assert replies[-2:] == [queueing.ABORTED, b"200"]


def test_so_many_bytes_are_queued_and_no_more(alone: Alone) -> None:
    client = Client(alone)
    large = b"x" * (8 << 20)
    client.ask([b"MULTI"])
    said = [client.ask([b"SET", b"k%d" % number, large])[0] for number in range(9)]
    assert said[:7] == ["QUEUED"] * 7
    assert isinstance(said[8], ReplyError)
    queue = client.session.queue
    assert queue is not None
    assert sum(len(request[2]) for _, request, _ in queue.commands) <= queueing.BYTES_MAX
    assert client.ask([b"EXEC"], [b"DBSIZE"]) == [queueing.ABORTED, 0]


def test_so_many_keys_are_watched_and_no_more(alone: Alone) -> None:
    client = Client(alone)
    keys = [b"k%d" % number for number in range(queueing.WATCHED_MAX)]
    assert client.ask([b"WATCH", *keys], [b"WATCH", b"k1"])[0] == "OK"
    (said,) = client.ask([b"WATCH", b"one more"])
    assert isinstance(said, ReplyError)
    assert len(client.session.watched) == queueing.WATCHED_MAX
    other = Client(alone)
    other.ask([b"SET", keys[-1], b"x"])
    assert client.ask(*words("MULTI", "PING", "EXEC"))[-1] is None
    assert not client.session.watched


def test_a_transaction_of_too_many_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several slots; it would be a decision of so many keys."""
    monkeypatch.setattr(coordination, "KEYS_MAX", 100)
    server = InProcess()
    server.connect()
    pairs = [word for number in range(101) for word in (b"k%d" % number, b"v")]
    requests = [[b"MULTI"], [b"MSET", *pairs], [b"EXEC"], *words("DBSIZE", "MULTI", "SET k1 1", "SET k2 1", "EXEC")]
    said = [shown(tree) for tree in server.ask(0, b"".join(map(encode_request, requests)), len(requests))]
    assert said[2].startswith("-'ERR nothing was done")
    assert said[3] == ":'0'"
    assert said[-1] == "*[+'OK' +'OK']"
    assert server.held() == []


def test_transactions_beyond_those_under_way_wait_and_all_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordination, "UNDER_WAY_MAX", 2)
    server = InProcess()
    server.connect()
    for name in list(server.world.hosts) * 20:
        connection = server.world.connect(name)
        assert connection is not None
        connection.arrive(b"".join(map(encode_request, words("MULTI", "INCR a", "INCR b", "EXEC"))))
    server.wait(5.0)
    assert shown(server.ask(0, b"MGET a b\r\n", 1)[0]) == "*[$'60' $'60']"
    assert server.held() == []


@pytest.mark.parametrize("times", [1, 40])
def test_a_node_by_itself_does_those_of_many_clients_one_after_another(alone: Alone, times: int) -> None:
    clients = [Client(alone) for _ in range(times)]
    for client in clients:
        client.send(*words("MULTI", "INCR a", "INCR b", "EXEC"))
    alone.turns()
    assert sorted(client.replies[-1] for client in clients) == [[n, n] for n in range(1, times + 1)]  # type: ignore[type-var]


def test_keys_inside_are_those_that_the_transaction_has_made(members: Cluster) -> None:
    with wires(members, "db1") as (wire,):
        wire.ask("MSET k1 1 k2 2 other 3", "SELECT 1", "SET k9 9", "SELECT 0")
        said = wire.ask(
            "MULTI", "SET k3 3", "RENAME k1 k4", "DEL k2", "COPY k3 k8 DB 1", "KEYS k*", "KEYS none", "EXEC"
        )
        assert sorted(said[-1].split("*[")[2].split("] ")[0].split()) == ["$'k3'", "$'k4'"]
        assert said[-1].endswith(" *[]]")
