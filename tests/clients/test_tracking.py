"""CLIENT TRACKING on one node: replies, errors and what is pushed are those of a redis-server."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest

from peerkv.agreement.columns import TELLS
from peerkv.clients.broadcasting import PREFIXES_MAX as NODE_MAX
from peerkv.clients.broadcasting import _Prefixes
from peerkv.clients.tracker import PREFIXES_MAX
from peerkv.resp import Replies, Reply, ReplyError, Verbatim, encode_request
from peerkv.ring.keys import SLOTS
from tests.clients.alone import Alone, Client

OUTPUT_BYTES_MAX = 20_000
ENDS = (b"<end>", [b"pong", b"<end>"])


class Servers:
    """Connections to a redis-server."""

    def __init__(self, port: int, count: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(count)]
        self._parsers = [Replies() for _ in range(count)]

    def ask(self, which: int, *requests: Sequence[bytes], queues: bool = False) -> list[Reply]:
        end = () if queues else ((b"PING", b"<end>"),)
        self._sockets[which].sendall(b"".join(map(encode_request, [*requests, *end])))
        replies: list[Reply] = []
        while not replies or not (queues or replies[-1] in ENDS):
            replies += self._parsers[which].feed(self._sockets[which].recv(1 << 16))
        return replies if queues else replies[:-1]

    def close(self) -> None:
        for each in self._sockets:
            each.close()


class Ours:
    """Clients of a node."""

    def __init__(self, count: int) -> None:
        self.alone = Alone()
        self.clients = [Client(self.alone) for _ in range(count)]

    def ask(self, which: int, *requests: Sequence[bytes], queues: bool = False) -> list[Reply]:
        client = self.clients[which]
        client.send(*requests, *(() if queues else ((b"PING", b"<end>"),)))
        self.alone.turns()
        found, client.replies = client.replies, []
        return [reply for reply in found if reply not in ENDS]


@pytest.fixture
def theirs(redis_port: int) -> Iterator[Servers]:
    servers = Servers(redis_port, 3)
    servers.ask(0, [b"FLUSHALL"])
    yield servers
    servers.close()


def shown(replies: Sequence[Reply]) -> list[Reply]:
    found: list[Reply] = []
    for reply in replies:
        text = reply.text if isinstance(reply, Verbatim) else reply
        found.append(list(text) if isinstance(text, list) else text)
    return found


STEPS = [
    "0 client tracking on bcast|0 get a|1 set a 1|0 ping|1 set b 1|0 ping|1 mset a 1 b 2|0 ping",
    "0 client tracking on bcast prefix a prefix b:|1 set ab 1|0 ping|1 set b 1|0 ping|1 set b:1 1|0 ping|1 del nothing",
    "0 client tracking on bcast noloop|0 set a 1|0 ping|1 set a 2|0 ping|0 client trackinginfo",
    "0 client tracking on bcast prefix a|1 flushall|0 ping",
    "0 client tracking on bcast prefix x|1 multi|1 set xa 1|1 incr xb|1 set y 1|1 exec|0 ping",
    "2 hello 3|0 client tracking on bcast redirect OTHER prefix a|1 set ab 1|2 ping|0 ping|0 client trackinginfo",
    (
        "0 client tracking|0 client tracking x|0 client tracking on x|0 client tracking on redirect"
        "|0 client tracking off x"
    ),
    (
        "0 client tracking on redirect x|0 client tracking on redirect 99999"
        "|0 client tracking on redirect ME redirect ME"
    ),
    (
        "0 client tracking on prefix a|0 client tracking on bcast optin|0 client tracking on optin optout"
        "|0 client getredir"
    ),
    "0 client tracking on|0 client tracking on bcast|0 client caching yes|0 client caching no|0 client caching x",
    (
        "0 client tracking on optin|0 client tracking on optout|0 client caching no|0 client caching yes"
        "|0 client trackinginfo"
    ),
    (
        "0 client tracking on optout|0 client caching yes|0 client caching no|0 client trackinginfo|0 ping"
        "|0 client trackinginfo"
    ),
    (
        "0 client tracking on bcast prefix a prefix ab|0 client tracking on bcast prefix a prefix b"
        "|0 client trackinginfo"
    ),
    (
        "0 client tracking on bcast prefix ab|0 client tracking on bcast prefix a|0 client tracking on bcast prefix c"
        "|0 client trackinginfo|0 client tracking on|0 client tracking off|0 client trackinginfo"
    ),
    (
        "0 client caching yes|0 client getredir|0 client tracking on noloop|0 client getredir|0 client trackinginfo"
        "|0 reset|0 client trackinginfo"
    ),
    "0 client tracking on|0 get a|1 set a 1|0 ping|1 set a 2|0 get a|1 set a 3|0 ping",
    "0 client tracking on|0 get a|0 set a 1|0 get a|1 get a|0 ping",
    "0 client tracking on|0 mget a b c|1 set c 1|0 ping|1 del a b c|0 ping|1 mset a 1 b 2|0 ping",
    "0 client tracking on|0 exists a|0 hget h f|0 strlen s|1 hset h f v|1 set s v|1 append s v|0 ping",
    "0 client tracking on noloop|0 get a|0 set a 1|0 ping",
    "0 client tracking on noloop|0 get a|1 set a 1|0 ping",
    "0 client tracking on optin|0 get a|1 set a 1|0 client caching yes|0 get a|0 get b|1 set a 2|1 set b 2|0 ping",
    (
        "0 client tracking on optin|0 client caching yes|0 multi|0 get a|0 get b|0 exec|0 get c|1 mset a 1 b 1 c 1"
        "|0 ping"
    ),
    "0 client tracking on optout|0 client caching no|0 get a|0 get b|1 set a 1|1 set b 1|0 ping",
    "0 client tracking on|0 multi|0 get a|0 set b 1|0 exec|1 set a 1|1 set b 2|0 ping",
    "0 client tracking on|0 get a|1 multi|1 set a 1|1 set a 2|1 exec|0 ping|1 set a 3|0 ping",
    "0 client tracking on|0 get a|0 client tracking off|1 set a 1|0 ping|0 client tracking on|1 set a 1|0 ping",
    "0 client tracking on|0 set a 1|0 incr a|0 getset a 1|1 set a 1|0 ping",
    "0 client tracking on|0 sinter a b|1 sadd a x|0 ping|1 sadd b x|0 ping|0 sinter a b|1 srem b x|0 ping",
    "0 client tracking on|0 get a|1 flushall|0 ping",
    "0 client tracking on|1 flushdb|0 ping|0 flushall|0 ping",
    "0 client tracking on|0 select 3|0 get a|1 select 3|1 set a 1|0 ping",
    "0 set a 1|0 client tracking on|0 get a|1 set a 2 px 1|0 ping",
    "0 client tracking on|0 set s 1|0 hget s f|0 get nothing extra|0 ping",
    (
        "2 hello 3|0 client tracking on redirect OTHER|0 get a|1 set a 1|2 ping|0 ping|0 client getredir"
        "|0 client trackinginfo"
    ),
    ("2 subscribe __redis__:invalidate|0 client tracking on redirect OTHER|0 get a|1 set a 1|2 ping|1 flushall|2 ping"),
    "2 hello 2|0 client tracking on redirect OTHER|0 get a|1 set a 1|2 ping",
    (
        "0 client tracking on redirect OTHER|0 get a|2 quit|1 set a 1|0 ping|0 client trackinginfo"
        "|0 client tracking on|0 client trackinginfo"
    ),
]


def told(asker: Servers | Ours, conversation: str, protocol: bytes) -> list[object]:
    """The replies of every step, and what comes unasked for; numbers of connections are anything."""
    names = {}
    for which, name in ((0, b"ME"), (2, b"OTHER")):
        (number,) = asker.ask(which, (b"CLIENT", b"ID"))
        names[name] = str(number).encode()
    found: list[object] = [asker.ask(0, (b"HELLO", protocol))[0] is not None]
    queues = False
    for step in conversation.split("|"):
        which, *words = step.split(" ")
        request = [names.get(word.encode(), word.encode()) for word in words]
        if request == [b"quit"]:
            quit_by(asker, int(which), names[b"OTHER"])
            continue
        queues = request[0] == b"multi" or (queues and request[0] != b"exec")
        replies = asker.ask(int(which), request, queues=queues)
        if request[0] == b"hello":
            continue
        text = repr(shown(replies))
        for name, number in names.items():
            if request[-1] in (b"getredir", b"trackinginfo") and f"-{number.decode()}" not in text:
                text = text.replace(number.decode(), name.decode())
            text = text.replace(f"redir-broken', {number.decode()}]", f"redir-broken', {name.decode()}]")
        found.append((step, text))
    return found


def quit_by(asker: Servers | Ours, which: int, number: bytes) -> None:
    asker.ask(1, (b"CLIENT", b"KILL", b"ID", number))
    if isinstance(asker, Ours):
        client = asker.clients[which]
        del asker.alone.clients[client.session.id]
        asker.alone.node.close(asker.alone.now, client.session)


@pytest.mark.parametrize("protocol", [b"3", b"2"])
@pytest.mark.parametrize("conversation", STEPS, ids=lambda conversation: conversation[:60])
def test_clients_are_told_what_redis_tells_them(theirs: Servers, conversation: str, protocol: bytes) -> None:
    expected = told(theirs, conversation, protocol)
    assert told(Ours(3), conversation, protocol) == expected


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("changed", [[b"k"], [1], ["1"]]),
        ("changed", [["k"], [1], [1]]),
        ("changed", [[b"k"], [-1], [1]]),
        ("untracked", [[SLOTS]]),
        ("untracked", [["1"]]),
        ("tracks_no_more", [[b"k"], [b"1"]]),
        ("prefixes", [[b"k"], 3, 0]),
        ("prefixes", [["k"], 0, 0]),
        ("broadcast", [[b"k"], [1], [-1]]),
    ],
)
def test_what_no_peer_says_of_tracked_keys_is_refused(name: str, values: list[object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        [check(value, SLOTS) for check, value in zip(TELLS[name].checks, values, strict=True)]


def test_who_does_not_read_what_it_is_to_forget_is_cut_off() -> None:
    alone = Alone(pubsub_output_bytes_max=OUTPUT_BYTES_MAX)
    reader, writer = Client(alone), Client(alone)
    reader.ask((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"))
    for number in range(1000):
        reader.ask((b"GET", b"%0100d" % number))
    reader.reads = False
    for number in range(1000):
        writer.ask((b"SET", b"%0100d" % number, b"v"))
    assert reader.cut_off
    assert reader.unread <= OUTPUT_BYTES_MAX


def test_a_million_keys_that_are_lost_at_once_are_told_as_all() -> None:
    """Each of them would be a message, in one turn."""
    alone = Alone()
    reader = Client(alone)
    reader.ask((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"))
    for number in range(20):
        reader.ask((b"MGET", *(b"%d:%d" % (number, key) for key in range(300))))
    assert alone.node.dispatcher.tracking.keys == 6000
    alone.node.dispatcher.tracking.enter_epoch()
    reader.replies = []
    alone.turns()
    assert reader.replies == [[b"invalidate", None]]
    assert alone.node.dispatcher.tracking.keys == 0


def test_clients_that_do_not_track_pay_nothing() -> None:
    alone = Alone()
    client = Client(alone)
    client.ask((b"CLIENT", b"TRACKING", b"ON"), (b"CLIENT", b"TRACKING", b"OFF"))
    assert client.session.ordinary
    assert client.ask((b"SET", b"k", b"v"), (b"GET", b"k")) == ["OK", b"v"]
    assert not alone.node.home.tracked.slots


def test_prefixes_have_a_limit() -> None:
    client = Client(Alone())
    prefixes = [word for number in range(PREFIXES_MAX + 1) for word in (b"PREFIX", b"%05d:" % number)]
    (refused,) = client.ask((b"CLIENT", b"TRACKING", b"ON", b"BCAST", *prefixes))
    assert isinstance(refused, ReplyError)
    assert "at most" in refused.text
    assert client.ask((b"CLIENT", b"TRACKING", b"ON", b"BCAST", *prefixes[:-2])) == ["OK"]
    (refused,) = client.ask((b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", b"another"))
    assert isinstance(refused, ReplyError)


def test_info_tells_of_those_who_track() -> None:
    alone = Alone()
    reader, other = Client(alone), Client(alone)
    reader.ask((b"CLIENT", b"TRACKING", b"ON"), (b"MGET", b"a", b"b"))
    other.ask((b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", b"a", b"PREFIX", b"b"))
    (told,) = other.ask((b"INFO", b"clients", b"stats"))
    for line in ("tracking_clients:2", "tracking_total_keys:2", "tracking_total_prefixes:2"):
        assert line in str(told)


def test_a_home_keeps_no_more_keys_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose keys are forgotten is told, as if they had changed."""
    monkeypatch.setattr("peerkv.agreement.tracked.TRACKED_MAX", 100)
    alone = Alone()
    reader = Client(alone)
    reader.ask((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"))
    reader.replies = []
    reader.send(*((b"GET", b"%d" % number) for number in range(150)))
    alone.turns()
    assert alone.node.home.tracked.keys == alone.node.dispatcher.tracking.keys == 100
    assert sum(isinstance(reply, list) for reply in reader.replies) == 50


def test_a_node_with_too_many_prefixes_is_told_of_everything() -> None:
    known = _Prefixes()
    known.add(b"%d:" % number for number in range(NODE_MAX + 10))
    assert len(known.known) == NODE_MAX + 1
    assert known.of(b"anything") == [b""]
