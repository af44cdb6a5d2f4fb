"""CLIENT TRACKING on one node: replies, errors and what is pushed are those of a redis-server."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from peerkv.agreement.columns import COLUMNS
from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.peer import Peer
from peerkv.clients.broadcasting import PREFIXES_MAX as NODE_MAX
from peerkv.clients.broadcasting import _Prefixes
from peerkv.clients.tracker import PREFIXES_MAX
from peerkv.clients.tracking import GONE_LEAST
from peerkv.commands.tracking import TRACKED
from peerkv.resp import Replies, Reply, ReplyError, Verbatim, encode_request
from peerkv.ring.keys import SLOTS
from tests.clients.alone import Alone, Client

OUTPUT_BYTES_MAX = 20_000
unpack = next(column.unpack for column in COLUMNS if column.name == "tells")
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
    "0 client tracking on bcast prefix x|1 multi|1 set x{t}a 1|1 incr x{t}b|1 set y 1|1 exec|0 ping",
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
    "0 client tracking on noloop|0 get a|0 multi|0 set a 1|0 exec|0 ping",
    "0 client tracking on noloop|0 get a|0 eval redis.call('set',KEYS[1],'1') 1 a|0 ping",
    "0 client tracking on noloop|0 get a|0 rpush a 1|0 blpop a 1|0 ping",
    "0 client tracking on bcast noloop|0 multi|0 set a 1|0 set b 1|0 exec|0 ping|1 set a 2|0 ping",
    "0 client tracking on|0 get a|0 multi|0 set a 1|0 exec|0 ping|0 get a|0 rename a b|0 ping",
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
        ("changed", [[b"k"], [1], [1, 2]]),
        ("tracks_no_more", [[b"k", b"l"], [1]]),
        ("broadcast", [[b"k"], [], [1]]),
    ],
)
def test_what_no_peer_says_of_tracked_keys_is_refused(name: str, values: list[object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        unpack([[name, *values]], SLOTS)


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


def test_a_client_whose_prefixes_would_be_too_many_for_its_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nobody would be told for it, whatever was changed."""
    monkeypatch.setattr("peerkv.clients.broadcasting.PREFIXES_MAX", 4)
    alone = Alone()
    first, second, third = (Client(alone) for _ in range(3))
    asks = [word for number in range(3) for word in (b"PREFIX", b"%d:" % number)]
    assert first.ask((b"CLIENT", b"TRACKING", b"ON", b"BCAST", *asks)) == ["OK"]
    (refused,) = second.ask((b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", b"a:", b"PREFIX", b"b:"))
    assert isinstance(refused, ReplyError)
    third.ask((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", b"0:", b"PREFIX", b"a:"))
    third.replies = []
    first.ask((b"SET", b"a:1", b"v"))
    assert third.replies == [[b"invalidate", [b"a:1"]]]


def test_keys_that_no_home_could_note_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no read of one slot has its keys noted before it is run. Where that fails, and it does not, its client
    would be told of nothing."""
    write = Coordinator.write

    def fails(
        self: Coordinator, number: int, request: Sequence[bytes], sink: Any, index: int, *more: Any, **also: Any
    ) -> int:
        if request[0] != TRACKED:
            return write(self, number, request, sink, index, *more, **also)
        sink.deliver(index, ReplyError("NOQUORUM nothing was done"))
        return 0

    monkeypatch.setattr(Coordinator, "write", fails)
    client = Client(Alone())
    client.ask((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"), (b"SET", b"a", b"v"))
    replies = client.ask((b"MULTI",), (b"GET", b"a"), (b"EXEC",))
    assert replies[-2:] == [[b"v"], [b"invalidate", [b"a"]]]


def test_a_hash_whose_fields_expire_is_not_kept() -> None:
    """That a field is gone is no change, and nobody could tell of it."""
    client = Client(Alone())
    client.ask((b"HELLO", b"3"), (b"HSET", b"h", b"f", b"v"), (b"CLIENT", b"TRACKING", b"ON"))
    assert len(client.ask((b"HGET", b"h", b"f"))) == 1
    client.ask((b"HPEXPIRE", b"h", b"100000", b"FIELDS", b"1", b"f"))
    assert client.ask((b"HGET", b"h", b"f")) == [b"v", [b"invalidate", [b"h"]]]


def test_readers_that_are_gone_are_not_kept() -> None:
    """A key that nobody changes is read by one short connection after another."""
    alone = Alone()
    for _ in range(3 * GONE_LEAST):
        client = Client(alone)
        client.ask((b"CLIENT", b"TRACKING", b"ON"), (b"GET", b"k"))
        del alone.clients[client.session.id]
        alone.node.close(alone.now, client.session)
    ((of_slot),) = alone.node.dispatcher.tracking._slots.values()
    assert len(of_slot.keys[b"k"]) <= GONE_LEAST + 2  # type: ignore[arg-type]


def test_no_limit_of_redis_is_a_high_one() -> None:
    alone = Alone()
    client = Client(alone)
    assert client.ask((b"CONFIG", b"SET", b"tracking-table-max-keys", b"0")) == ["OK"]
    client.ask((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"))
    assert client.ask((b"MGET", b"a", b"b")) == [[None, None]]
    alone.now += 1.0
    alone.turns()
    assert alone.node.dispatcher.tracking.keys == 2


def test_large_keys_are_told_in_parts() -> None:
    """A thousand in one message would be more than is ever sent."""
    peer = Peer(1, "other")
    keys = [bytes(300_000)] * 5
    peer.tell_rows("changed", keys, [1] * 5, [*range(5)])
    assert [len(tell[1]) for tell in peer.tells] == [3, 2]
    assert [ticket for tell in peer.tells for ticket in tell[3]] == [*range(5)]
    peer.tells.clear()
    peer.tell_rows("changed", [b"k"] * 2500, [1] * 2500, [1] * 2500)
    assert [len(tell[1]) for tell in peer.tells] == [1024, 1024, 452]
