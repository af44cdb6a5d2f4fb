"""MONITOR: the lines are those of a redis-server, of this node or of all, and nobody else pays for them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
import redis

from peerkv.agreement.columns import TELLS
from peerkv.clients.monitoring import LINE_BYTES_MAX, LINES_BYTES_MAX
from peerkv.resp import Replies, Reply, ReplyError, encode_request
from peerkv.ring.keys import SLOTS
from peerkv.settings import Settings
from tests.clients.alone import Alone, Client
from tests.sim.world import World
from tests.test_dispatch import Talk

OUTPUT_BYTES_MAX = 20_000
LINE = re.compile(r"\d+\.\d{6} \[(\d+) \S+\] (.*)")

CONVERSATIONS = [
    "set a 1|GeT a|nothing|get|get a b|ping|mget a b",
    "select 3|set a 1|select 0|select x|dbsize",
    "auth x|auth default x|hello 2 setname n auth default x|hello 2",
    "client setname x|client list|client getname|client nothing|client kill id 99999|config get port|slowlog len",
    "multi|set a 1|incr a|nothing|discard|multi|set a 1|select 2|get a|exec|select 0|multi|get|exec",
    "watch a|multi|ping|exec|unwatch|multi|watch a|exec",
    "info server|command count|debug sleep 0|keys *|time|lolwut",
    "client reply skip|set a 1|client reply off|set b 1|client reply on",
    "eval return\\x20redis.call('get',KEYS[1]) 1 a",
    "blpop nothing 0.01|publish c m|object encoding a|object nothing a",
]
ARGUMENTS = [bytes(range(256)), b"\x00", b"'\"\\", b"\r\n\t\a\b\v\f", b"\x7f\x80\xff", b"", " é".encode()]


class Wire:
    """A connection to a redis-server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._parser = Replies()

    def send(self, *requests: list[bytes]) -> None:
        self._socket.sendall(b"".join(map(encode_request, requests)))

    def until(self, last: object) -> list[Reply]:
        replies: list[Reply] = []
        while not any(last == reply or str(last) in str(reply) for reply in replies):
            replies += self._parser.feed(self._socket.recv(1 << 16))
        return replies

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def theirs(redis_port: int) -> Iterator[tuple[Wire, Wire]]:
    monitor, asker = Wire(redis_port), Wire(redis_port)
    monitor.send([b"MONITOR"])
    monitor.until("OK")
    yield monitor, asker
    monitor.close()
    asker.close()


def lines(replies: list[Reply]) -> list[tuple[str, str]]:
    found = [LINE.fullmatch(str(reply)) for reply in replies]
    return [(match[1], match[2]) for match in found if match is not None and match[2] != '"echo" "<end>"']


def compare(requests: list[list[bytes]], theirs: tuple[Wire, Wire]) -> None:
    monitor, asker = theirs
    asker.send([b"FLUSHALL"], *requests, [b"client", b"reply", b"on"], [b"echo", b"<end>"])
    shown = monitor.until('"echo" "<end>"')
    expected = lines([line for line in shown if " lua] " not in str(line)])
    alone = Alone()
    ours, client = Client(alone), Client(alone)
    assert ours.ask((b"MONITOR",)) == ["OK"]
    client.ask((b"FLUSHALL",), *requests, (b"client", b"reply", b"on"), (b"echo", b"<end>"))
    for _ in range(100):
        alone.turns()
    assert lines(ours.replies) == expected


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda conversation: conversation[:40])
def test_lines_are_those_of_redis(theirs: tuple[Wire, Wire], conversation: str) -> None:
    words = [[word.replace("\\x20", " ").encode() for word in line.split(" ")] for line in conversation.split("|")]
    compare(words, theirs)


def test_arguments_are_quoted_as_by_redis(theirs: tuple[Wire, Wire]) -> None:
    compare([[b"set", argument, argument] for argument in ARGUMENTS], theirs)


def test_who_monitors_may_ask_for_little_until_it_resets() -> None:
    alone = Alone()
    monitor, client = Client(alone), Client(alone)
    refused = ReplyError("ERR Replica can't interact with the keyspace")
    assert monitor.ask((b"MONITOR",), (b"MONITOR",), (b"GET", b"k"))[:2] == ["OK", refused]
    assert "flags=O" in str(client.ask((b"CLIENT", b"LIST"))[0])
    monitor.ask((b"RESET",))
    assert monitor.ask((b"GET", b"k")) == [None]
    client.ask((b"SET", b"k", b"v"))
    assert monitor.replies == [None]
    assert not alone.node.dispatcher.monitors.watched


def test_what_must_wait_is_shown_once_and_in_order() -> None:
    """A command that waits for what is before it is run in a later turn."""
    alone = Alone()
    monitor, client = Client(alone), Client(alone)
    monitor.ask((b"MONITOR",))
    client.ask(*((b"SET", b"k%d" % number, b"v") for number in range(500)), (b"DBSIZE",), (b"GET", b"k1"))
    shown = [line for _, line in lines(monitor.replies)]
    assert shown == [*(f'"SET" "k{number}" "v"' for number in range(500)), '"DBSIZE"', '"GET" "k1"']
    assert client.replies[-2:] == [500, b"v"]


def test_who_monitors_and_does_not_read_is_cut_off() -> None:
    alone = Alone(pubsub_output_bytes_max=OUTPUT_BYTES_MAX)
    slow, client = Client(alone), Client(alone)
    slow.ask((b"MONITOR",))
    slow.reads = False
    for _ in range(50):
        client.ask((b"SET", b"k", bytes(200)))
    assert slow.cut_off
    assert slow.unread <= OUTPUT_BYTES_MAX
    assert not alone.node.dispatcher.monitors.watched


@pytest.fixture(scope="module")
def world() -> World:
    running = World(5, 256)
    running.cluster(3)
    running.run(8.0)
    return running


def test_peerkv_monitor_shows_the_commands_of_every_node(world: World) -> None:
    monitor, near = Talk(world, "db1"), Talk(world, "db1")
    others = {name: Talk(world, name) for name in ("db2", "db3")}
    assert monitor.ask((b"PEERKV", b"MONITOR")) == ["OK"]
    near.ask((b"SET", b"k", b"near"))
    for name, talk in others.items():
        talk.ask((b"SET", b"k", name.encode()))
    shown = [str(line) for line in monitor.replies[1:]]
    assert [line.split(" ")[2] for line in shown] == ["db1", "db2", "db3"]
    assert shown[1].endswith('"SET" "k" "db2"')
    assert monitor.ask((b"RESET",)) == ["RESET"]
    others["db2"].ask((b"SET", b"k", b"v"))
    assert monitor.replies == ["RESET"]
    assert not any(host.node.dispatcher.monitors.watched for host in world.hosts.values() if host.node is not None)


def test_peers_are_sent_no_more_than_so_much_a_turn(world: World) -> None:
    """Large values, and many commands, would fill the links between nodes."""
    monitor, far = Talk(world, "db1"), Talk(world, "db2")
    monitor.ask((b"PEERKV", b"MONITOR"))
    node = world.hosts["db2"].node
    assert node is not None
    for _ in range(200):
        node.dispatcher.monitors.show(far.connection.session, [b"ECHO", b"x" * 9_000])
    far.ask((b"ECHO", b"x"))
    far.ask((b"ECHO", b"x" * LINE_BYTES_MAX))
    sizes = [len(str(line)) for line in monitor.replies]
    assert max(sizes) == LINE_BYTES_MAX
    assert sum(sizes) < LINES_BYTES_MAX + 2 * LINE_BYTES_MAX
    assert "left out" in str(monitor.replies)
    monitor.ask((b"RESET",))


def test_who_monitors_all_nodes_still_does_when_a_link_to_it_has_been_lost(world: World) -> None:
    """Its own links stand: it has no reason to say so again."""
    monitor, far = Talk(world, "db1"), Talk(world, "db2")
    monitor.ask((b"PEERKV", b"MONITOR"))
    here, there = world.hosts["db1"].node, world.hosts["db2"]
    assert here is not None
    there.links[here.process].break_()
    world.run(world.now + 2.0)
    far.ask((b"SET", b"k", b"v"))
    assert '"SET" "k" "v"' in str(monitor.replies[-1])
    monitor.ask((b"RESET",))


def test_nodes_do_not_go_on_for_who_was_cut_off(world: World) -> None:
    """Every node would make lines of all that it is asked, and send them, for nobody."""
    monitor, far = Talk(world, "db1"), Talk(world, "db2")
    monitor.ask((b"PEERKV", b"MONITOR"))
    here, there = world.hosts["db1"].node, world.hosts["db2"].node
    assert here is not None
    assert there is not None
    here.settings.change("pubsub_output_bytes_max", 100)
    far.ask((b"SET", b"k", bytes(200)))
    here.settings.change("pubsub_output_bytes_max", Settings().pubsub_output_bytes_max)
    assert not there.dispatcher.monitors.watched


def test_who_is_cut_off_is_cut_off_once() -> None:
    """A turn may bring thousands of lines for it, each of which was a line in the log."""
    alone = Alone(pubsub_output_bytes_max=OUTPUT_BYTES_MAX)
    slow, client = Client(alone), Client(alone)
    slow.ask((b"SUBSCRIBE", b"c"))
    slow.reads = False
    client.send(*[(b"PUBLISH", b"c", bytes(200))] * 300)
    logged = [text for _ in range(50) for _, text in alone.turned().log]
    assert len([text for text in logged if "is closed" in text]) == 1


def test_who_listens_is_not_closed_for_its_silence() -> None:
    """It has nothing to say; as in Redis."""
    alone = Alone(client_timeout=1)
    idle, monitor, listener = (Client(alone) for _ in range(3))
    idle.ask((b"PING",))
    monitor.ask((b"MONITOR",))
    listener.ask((b"SUBSCRIBE", b"c"))
    alone.now += 3.0
    alone.turns()
    assert [client.cut_off for client in (idle, monitor, listener)] == [True, False, False]


@pytest.mark.parametrize("values", [[2], ["1"], [None]])
def test_what_no_peer_says_of_monitors_is_refused(values: list[object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        [check(value, SLOTS) for check, value in zip(TELLS["monitors"].checks, values, strict=True)]


def test_redis_py_monitors(port: int) -> None:
    """It takes a line apart."""
    with redis.Redis(port=port) as client, redis.Redis(port=port).monitor() as monitor:
        client.set("k", b'a "quoted" one\n')
        found = monitor.next_command()
        while not found["command"].startswith("SET k"):  # it says first who it is
            found = monitor.next_command()
    assert found["db"] == 0
    assert found["client_type"] == "tcp"
