"""Messages to subscribers: what each protocol allows, what comes in which order, and what a node counts."""

from __future__ import annotations

import pytest

from peerkv.clients.channels import ANEW, BEGINS, ENDS
from peerkv.clients.session import CHANNELS, PATTERNS, SHARDS
from peerkv.commands.patterns import PATTERN_BYTES_MAX
from peerkv.resp import ReplyError, encode_request
from tests.clients.alone import Alone, Client

OUTPUT_BYTES_MAX = 20_000


class Raw(Client):
    """It keeps what it reads as it comes."""

    data = b""
    sent = 0
    """How often it was sent something."""

    def write(self, data: bytes) -> None:
        self.data += data
        self.sent += 1
        super().write(data)


def _subscriber(alone: Alone, *names: bytes, patterns: tuple[bytes, ...] = ()) -> Client:
    client = Client(alone)
    if names:
        client.ask((b"SUBSCRIBE", *names))
    if patterns:
        client.ask((b"PSUBSCRIBE", *patterns))
    client.replies = []
    return client


def encode_push(message: list[bytes]) -> bytes:
    return b">" + encode_request(message)[1:]


def test_a_subscriber_of_resp2_may_ask_little() -> None:
    alone = Alone()
    client = _subscriber(alone, b"c")
    (reply,) = client.ask((b"GET", b"k"))
    assert isinstance(reply, ReplyError)
    assert "GET" in reply.text.upper()
    assert client.ask((b"PING",), (b"PING", b"x")) == [[b"pong", b""], [b"pong", b"x"]]
    client.ask((b"UNSUBSCRIBE",))
    assert client.ask((b"GET", b"k")) == [None]


def test_a_subscriber_of_resp3_may_ask_anything_and_messages_are_pushes() -> None:
    alone = Alone()
    client, publisher = Raw(alone), Client(alone)
    client.ask((b"HELLO", b"3"))
    client.ask((b"SUBSCRIBE", b"c"))
    assert client.ask((b"GET", b"k"), (b"SET", b"k", b"v")) == [None, "OK"]
    client.data = b""
    assert publisher.ask((b"PUBLISH", b"c", b"m")) == [1]
    assert client.data == b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"


def test_counts_of_subscriptions_and_unsubscribing_from_nothing() -> None:
    client = Client(Alone())
    assert client.ask((b"UNSUBSCRIBE",), (b"PUNSUBSCRIBE", b"p")) == [
        [b"unsubscribe", None, 0],
        [b"punsubscribe", b"p", 0],
    ]
    assert client.ask((b"SUBSCRIBE", b"a", b"b", b"a"), (b"PSUBSCRIBE", b"p*"), (b"SSUBSCRIBE", b"s")) == [
        [b"subscribe", b"a", 1],
        [b"subscribe", b"b", 2],
        [b"subscribe", b"a", 2],
        [b"psubscribe", b"p*", 3],
        [b"ssubscribe", b"s", 1],
    ]
    assert client.ask((b"UNSUBSCRIBE", b"b", b"x")) == [[b"unsubscribe", b"b", 2], [b"unsubscribe", b"x", 2]]


def test_messages_come_in_order_and_once_for_each_that_matches() -> None:
    alone = Alone()
    client = _subscriber(alone, b"news", patterns=(b"n*", b"x*"))
    publisher = Client(alone)
    assert publisher.ask(*((b"PUBLISH", b"news", b"%d" % number) for number in range(3))) == [2, 2, 2]
    assert client.replies == [
        message
        for number in (b"0", b"1", b"2")
        for message in ([b"message", b"news", number], [b"pmessage", b"n*", b"news", number])
    ]
    assert publisher.ask((b"PUBLISH", b"other", b"m")) == [0]


def test_messages_of_a_turn_are_sent_together_with_what_was_asked_for() -> None:
    """Each that is sent is a call of the system: one by one they took ten times as long."""
    alone = Alone()
    client, other, publisher = Raw(alone), Raw(alone), Client(alone)
    client.ask((b"HELLO", b"3"), (b"SUBSCRIBE", b"c"))
    other.ask((b"SUBSCRIBE", b"c"))
    client.data, client.sent, other.sent = b"", 0, 0
    client.send((b"GET", b"k"))
    publisher.send(*((b"PUBLISH", b"c", b"%d" % number) for number in range(16)))
    client.send((b"ECHO", b"e"))
    alone.turns()
    messages = b"".join([encode_push([b"message", b"c", b"%d" % number]) for number in range(16)])
    assert client.data == b"_\r\n" + messages + b"$1\r\ne\r\n"
    assert (client.sent, other.sent) == (1, 1)
    assert other.replies[-16:] == [[b"message", b"c", b"%d" % number] for number in range(16)]


def test_pubsub_says_who_listens() -> None:
    alone = Alone()
    clients = [_subscriber(alone, b"a"), _subscriber(alone, b"a", b"b", patterns=(b"p*",))]
    asker = Client(alone)
    assert asker.ask((b"PUBSUB", b"NUMSUB", b"a", b"b", b"c"), (b"PUBSUB", b"NUMPAT")) == [
        [b"a", 2, b"b", 1, b"c", 0],
        1,
    ]
    (found,) = asker.ask((b"PUBSUB", b"CHANNELS"))
    assert isinstance(found, list)
    assert sorted(found, key=repr) == [b"a", b"b"]
    assert asker.ask((b"PUBSUB", b"CHANNELS", b"b*")) == [[b"b"]]
    for client in clients:
        del alone.clients[client.session.id]
        alone.node.close(alone.now, client.session)
    assert asker.ask((b"PUBSUB", b"CHANNELS"), (b"PUBSUB", b"NUMPAT")) == [[], 0]


def test_transactions_and_scripts_publish() -> None:
    alone = Alone()
    client, publisher = _subscriber(alone, b"c"), Client(alone)
    replies = publisher.ask((b"MULTI",), (b"PUBLISH", b"c", b"1"), (b"SET", b"k", b"v"), (b"EXEC",))
    assert replies[-1] == [1, "OK"]
    publisher.ask((b"EVAL", b"return redis.call('PUBLISH', 'c', '2')", b"0"))
    publisher.ask((b"MULTI",), (b"PUBLISH", b"c", b"never"), (b"DISCARD",))
    assert client.replies == [[b"message", b"c", b"1"], [b"message", b"c", b"2"]]


def test_database_numbers_do_not_matter() -> None:
    alone = Alone()
    client, publisher = Client(alone), Client(alone)
    client.ask((b"SELECT", b"3"), (b"SUBSCRIBE", b"c"))
    client.replies = []
    publisher.ask((b"SELECT", b"5"))
    assert publisher.ask((b"PUBLISH", b"c", b"m")) == [1]
    assert client.replies == [[b"message", b"c", b"m"]]


def test_reset_ends_all_subscriptions() -> None:
    alone = Alone()
    client = _subscriber(alone, b"c", patterns=(b"*",))
    assert client.ask((b"RESET",)) == ["RESET"]
    assert Client(alone).ask((b"PUBLISH", b"c", b"m")) == [0]
    assert client.ask((b"GET", b"k")) == [None]


def test_a_subscriber_that_does_not_read_is_cut_off() -> None:
    alone = Alone(pubsub_output_bytes_max=OUTPUT_BYTES_MAX)
    slow, reader = _subscriber(alone, b"c"), _subscriber(alone, b"c")
    slow.reads = False
    publisher = Client(alone)
    for _ in range(100):
        publisher.ask((b"PUBLISH", b"c", bytes(1000)))
    assert slow.cut_off
    assert slow.unread <= OUTPUT_BYTES_MAX
    assert not reader.cut_off
    assert len(reader.replies) == 100


# -- what other nodes say


def test_a_count_of_a_node_that_was_not_asked_is_none() -> None:
    """PUBLISH would answer what anybody says."""
    alone = Alone()
    channels, view = alone.node.dispatcher.channels, alone.node.view
    wants, other = view.peer(7, "wants"), view.peer(8, "other")
    wants.up = other.up = True
    channels.hear(wants, CHANNELS, [b"c"], BEGINS)
    publisher = Client(alone)
    assert publisher.ask((b"PUBLISH", b"c", b"m")) == []
    channels.heard(other, [1, 2], [9, 9])
    channels.heard(wants, [2, 0], [9, 9])
    alone.turns()
    assert publisher.replies == []
    channels.heard(wants, [1, 1], [3, 9])
    alone.turns()
    assert publisher.replies == [3]


def test_what_another_node_has_subscribers_of_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerkv.clients.channels.ELSEWHERE_MAX", 3)
    node = Alone().node
    channels, peer = node.dispatcher.channels, node.view.peer(7, "other")
    peer.up = True
    channels.hear(peer, PATTERNS, [b"x" * (PATTERN_BYTES_MAX + 1)], BEGINS)
    assert channels.names(PATTERNS) == set()
    for kind in (CHANNELS, PATTERNS, SHARDS):
        for number in range(10):
            channels.hear(peer, kind, [b"%d" % number, b"%d." % number], BEGINS)
        assert len(channels.names(kind)) == 3
        channels.hear(peer, kind, [b"0"], ENDS)
        channels.hear(peer, kind, [b"new"], BEGINS)
        assert b"new" in channels.names(kind)
        channels.hear(peer, kind, [], ANEW)
        assert channels.names(kind) == set()
