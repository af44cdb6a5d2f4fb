"""Connections and their commands: beside a real redis-server, what one is answered, and what it is not."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence

import pytest

from peerkv.resp import Replies, Reply, ReplyError, Verbatim, encode_request
from tests.clients.alone import Alone, Client

END = (b"CLIENT", b"REPLY", b"ON"), (b"ECHO", b"<end>")


@pytest.fixture
def alone() -> Alone:
    return Alone()


class Wire:
    """A connection to a real redis-server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._parser = Replies()

    def ask(self, *requests: Sequence[bytes]) -> list[Reply]:
        """The replies to them, the last of which is known."""
        self._socket.sendall(b"".join(map(encode_request, requests)))
        replies: list[Reply] = []
        while not replies or replies[-1] != b"<end>":
            data = self._socket.recv(1 << 16)
            if not data:
                return replies
            replies += self._parser.feed(data)
        return replies

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def wire(redis_port: int) -> Iterator[Wire]:
    connection = Wire(redis_port)
    yield connection
    connection.close()


def requests_of(conversation: str) -> list[list[bytes]]:
    return [[b"" if word == "''" else word.encode() for word in line.split(" ")] for line in conversation.split("|")]


def shown(replies: list[Reply]) -> list[Reply]:
    """Texts for people are bytes in both protocols, and numbers of connections are anything."""
    return [reply.text if isinstance(reply, Verbatim) else reply for reply in replies]


CONVERSATIONS = [
    "client reply skip|client reply on|ping",
    "client reply skip|ping|ping",
    "client reply skip|client reply skip|ping|ping",
    "client reply off|ping|client reply on|ping",
    "client reply off|client reply skip|ping|client reply on|ping",
    "client reply skip|client reply off|ping|client reply on|ping",
    "client reply skip|nothing|ping|client reply skip|get|ping|client reply skip|client nothing|ping",
    "client reply nothing|ping|client reply skip|client reply nothing|ping|client reply|ping",
    "client reply off|reset|ping|client reply skip|reset|ping",
    "client reply skip|set a 1|get a|client reply off|set a 2|client reply on|get a",
    "client reply skip|mget a b|mget a b|client reply skip|dbsize|ping",
    "client setname x|client getname|client setname ''|client getname|client setname x|reset|client getname",
    "client setname \x01|client setname a\x7f|client getname|client getname a|client setname",
    "client pause|client pause x|client pause -1|client pause 1 x|client pause x x",
    "client pause 1 all x|client pause 0|client pause 0 write|client unpause|client unpause x",
    "client unblock|client unblock x|client unblock 999999|client unblock 999999 timeout|client unblock 999999 error",
    "client unblock 999999 x|client unblock x x|client unblock 1 error x",
    "client kill|client kill x|client kill 1.2.3.4:5|client kill id|client kill id x|client kill id 0",
    "client kill id -1",
    "client kill id 999999|client kill id 999999 skipme|client kill skipme x|client kill type x|client kill user x",
    "client kill type pubsub|client kill type master|client kill addr x|client kill laddr x|client kill id 1 x",
    "client kill x y|client kill id 999999 addr x laddr x type normal user default skipme no",
    "client list x|client list id|client list id x|client list id -1 0 999999|client list type|client list type x",
    "client list type pubsub|client list type master id 1",
    "client no-evict|client no-evict x|client no-evict on|client no-evict off|client no-evict ON",
    "client getredir|client trackinginfo|client tracking off|client tracking x|client caching|client caching yes",
    "client|client nothing|client id x|client getredir x|client help x|client info x",
    "ping|ping a|ping a b|echo a|echo|echo a b|time x",
    "select 0|select x|select|select -1|select 16|select 9999999999|select 3|select 0",
    "auth|auth x|auth default x|auth x y|auth a b c",
    "hello x|hello 1|hello 4|hello 2 nothing|hello 2 auth a|hello 2 setname|hello 2 auth x y|hello 2 setname \x01",
    "readonly x|reset x",
    "quit|ping",
    "slowlog|slowlog nothing|slowlog get x|slowlog get -2|slowlog len x|slowlog reset x|slowlog reset|slowlog len",
    "latency|latency nothing|latency latest|latency latest x|latency history x|latency reset|latency reset x y",
    "latency graph x|latency histogram nothing|latency history",
    "config|config nothing|config get|config set|config set a|config set a 1|config set maxmemory|config resetstat x",
    "config set save x appendonly|config set databases 5|config set slowlog-max-len x",
    "config set timeout -1|config set timeout x|config set tcp-keepalive x|config set maxclients 0",
    "config set slowlog-max-len 10 slowlog-max-len 11|config set slowlog-log-slower-than x|config get nothing",
    "config set client-output-buffer-limit x",
    "config get slowlog-max-len|config set slowlog-max-len 77|config get slowlog-max-len",
    "config set slowlog-max-len 128|config get SLOWLOG-max-len|config get slowlog-max-len slowlog-max-len",
    "config set timeout 100 slowlog-log-slower-than 5 loglevel warning|config get timeout|config get loglevel",
    "config set timeout 0 slowlog-log-slower-than 10000 loglevel notice|config get timeout|config get loglevel",
    "config rewrite x|config rewrite|config get maxmemory-policy|config set maxmemory-policy noeviction",
    "config set appendonly no|config set save ''|config set maxmemory 0|config set notify-keyspace-events ''",
    "config set notify-keyspace-events AKE|config get notify-keyspace-events|config set notify-keyspace-events q",
    "config set notify-keyspace-events Kxzm|config get notify-keyspace-events|config set notify-keyspace-events EKn$",
    "config set notify-keyspace-events mnA|config get notify-keyspace-events",
    "config set notify-keyspace-events ''|config get notify-keyspace-events",
    "role x|role|module list|module list x|module nothing|module",
    "acl whoami|acl users|acl cat string x|acl cat nothing|acl whoami x|acl nothing|acl",
    "scan ''|scan -1|scan x|scan 1x|scan +0|scan 0 count 0|scan 0 count x|scan 0 match|scan 0 type|scan 0 type nothing",
    "scan 99999999999999999999999|scan 0 type string count 10|scan 0 nothing x|scan",
    "command count x|command nothing",
]


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda conversation: conversation[:60])
def test_conversations_are_those_of_redis(alone: Alone, wire: Wire, conversation: str) -> None:
    requests = [*requests_of(conversation), *END]
    ours, theirs = Client(alone).ask(*requests), wire.ask((b"FLUSHALL",), *requests)[1:]
    assert shown(ours) == shown(theirs)


WORDS = [
    "ping",
    "echo x",
    "nothing",
    "get",
    "get a",
    "set a 1",
    "mget a b",
    "dbsize",
    "reset",
    "client getname",
    "client nothing",
    "client setname x",
    *["client reply off", "client reply skip", "client reply on", "client reply x"] * 2,
]


@pytest.mark.parametrize("seed", range(5))
def test_whose_replies_are_wanted_is_as_in_redis(alone: Alone, wire: Wire, seed: int) -> None:
    """Whatever comes in one buffer, and whatever in the next."""
    rng = random.Random(seed)
    wire.ask((b"FLUSHALL",), *END)
    client = Client(alone)
    for _ in range(100):
        requests = requests_of("|".join(rng.choices(WORDS, k=rng.randrange(1, 12))))
        client.replies = []
        for request in requests:
            client.send(request)
            if rng.random() < 0.5:
                alone.turn()
        client.send(*END)
        alone.turns()
        assert client.replies == wire.ask(*requests, *END), requests


def test_what_7_2_answers_otherwise_than_7_0(alone: Alone) -> None:
    ask = Client(alone).ask
    assert ask((b"CLIENT", b"PAUSE", b"9223372036854775807")) == [ReplyError("ERR timeout is out of range")]
    (bad_name,) = ask((b"HELLO", b"2", b"AUTH", b"x", b"y", b"SETNAME", b"\x01"))
    assert bad_name == ReplyError("ERR Client names cannot contain spaces, newlines or special characters.")


def test_what_a_library_says_of_itself_is_shown(alone: Alone) -> None:
    """CLIENT SETINFO is of 7.2."""
    client = Client(alone)
    assert client.ask(
        (b"CLIENT", b"SETINFO", b"LIB-NAME", b"some-py"),
        (b"CLIENT", b"SETINFO", b"lib-ver", b"1.2"),
        (b"CLIENT", b"SETINFO", b"Lib-Ver", b"1 2"),
        (b"CLIENT", b"SETINFO", b"colour", b"red"),
    ) == [
        "OK",
        "OK",
        ReplyError("ERR Lib-Ver cannot contain spaces, newlines or special characters."),
        ReplyError("ERR Unrecognized option 'colour'"),
    ]
    assert {"lib-name": "some-py", "lib-ver": "1.2"}.items() <= described(client).items()


def described(client: Client) -> dict[str, str]:
    """What CLIENT INFO tells."""
    (reply,) = client.ask((b"CLIENT", b"INFO"))
    assert isinstance(reply, bytes)
    return dict(field.split("=") for field in reply.decode().split())  # type: ignore[misc]


def test_what_client_list_tells_of_a_connection_is_so(alone: Alone) -> None:
    client, other = Client(alone), Client(alone)
    assert described(client)["flags"] == "N"
    switches = [(b"CLIENT", b"NO-EVICT", b"ON"), (b"CLIENT", b"NO-TOUCH", b"ON"), (b"READONLY",)]
    assert client.ask(*switches) == ["OK"] * 3
    assert set(described(client)["flags"]) == {"r", "e", "T"}
    client.ask((b"RESET",))
    assert described(client)["flags"] == "N"
    assert described(client)["cmd"] == "client|info"
    for request, name in (
        ((b"GeT", b"a"), "get"),
        ((b"MGET", b"a", b"b"), "mget"),
        ((b"CONFIG", b"GET", b"x"), "config|get"),
        ((b"NOTHING",), "NULL"),
    ):
        client.ask(request)
        (listed,) = other.ask((b"CLIENT", b"LIST", b"ID", b"%d" % client.session.id))
        assert f" cmd={name} ".encode() in listed  # type: ignore[operator]
    assert b" cmd=client|list " in other.ask((b"CLIENT", b"LIST"))[0]  # type: ignore[operator]


def test_who_speaks_http_is_cut_off_without_a_word(alone: Alone) -> None:
    """What a browser was tricked into sending must do nothing, in whatever form."""
    for data in (b"SET a 1\r\nPOST / HTTP/1.1\r\nSET a 2\r\n", b"SET a 1\r\nHost: x\r\nSET a 2\r\n"):
        client = Client(alone)
        alone.node.receive(alone.now, client.session, data)
        alone.turns()
        assert client.cut_off
        assert client.replies in ([], ["OK"])
        assert Client(alone).ask((b"GET", b"a")) == [b"1"]
    client = Client(alone)
    assert client.ask((b"post", b"/"), (b"SET", b"a", b"3")) == []
    assert client.cut_off


# -- CLIENT UNBLOCK


def test_who_waits_can_be_told_not_to(alone: Alone) -> None:
    client, other = Client(alone), Client(alone)
    client.ask((b"SET", b"a", b"1"))
    number = b"%d" % client.session.id
    for reason, reply in (((), 0), ((b"TIMEOUT",), 0), ((b"ERROR",), None)):
        assert client.ask((b"WAIT", b"2", b"0"), (b"PING",)) == []
        (listed,) = other.ask((b"CLIENT", b"LIST", b"ID", number))
        assert b" flags=b " in listed  # type: ignore[operator]
        assert other.ask((b"CLIENT", b"UNBLOCK", number, *reason)) == [1]
        alone.now += 1
        alone.turns()
        expected = ReplyError("UNBLOCKED client unblocked via CLIENT UNBLOCK") if reply is None else reply
        assert client.replies == [expected, "PONG"]
        assert other.ask((b"CLIENT", b"UNBLOCK", number)) == [0]
