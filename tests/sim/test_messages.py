"""Messages to subscribers while a third node is killed: who lives misses none, and has none twice or out of order.

db1: subscribers      db2: publishers      db3: another subscriber, killed in the middle
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Final

import pytest

from peerkv.resp import Reply
from tests.sim.world import Connection, World

EVERY_S: Final = 0.003
"""A publisher sends one message each."""
KILLED_AFTER_S: Final = 0.5
LASTS_S: Final = 4.0
CHANNELS: Final = (b"news", b"weather")
SHARDS: Final = (b"orders", b"bills")
COUNTED_WITHIN_S: Final = 3.0
"""The dead node's subscribers are counted no more: its link has broken, or what was sent there is given up (B4)."""


class Listener:
    """A connection, and what it was sent."""

    def __init__(self, world: World, host: str) -> None:
        connection = world.connect(host)
        assert connection is not None, "it runs"
        self.connection: Connection = connection
        self.got: list[Reply] = []
        connection.on_reply = self.got.append

    def messages(self) -> list[tuple[bytes, bytes, bytes]]:
        """(kind, channel, message), in the order in which they came."""
        return [
            (reply[0], reply[-2], reply[-1])  # type: ignore[misc]
            for reply in self.got
            if isinstance(reply, list) and isinstance(reply[0], bytes) and reply[0].endswith(b"message")
        ]


class Publisher:
    """Sends numbered messages on all channels, one at a time, and keeps what it was answered."""

    def __init__(self, world: World, host: str, name: bytes) -> None:
        self.world = world
        self.name = name
        self.sent: list[tuple[bytes, bytes]] = []
        self.counts: list[Reply] = []
        """In order, one for each that was sent."""
        self.until = 0.0
        connection = world.connect(host)
        assert connection is not None, "it runs"
        self.connection = connection
        connection.on_reply = self.counts.append

    def begin(self, until: float) -> None:
        self.until = until
        self._next()

    def _next(self) -> None:
        if self.world.now >= self.until:
            return
        number = len(self.sent)
        channel = (*CHANNELS, *SHARDS)[number % 4]
        message = b"%s %d" % (self.name, number)
        self.sent.append((channel, message))
        self.connection.send((b"SPUBLISH" if channel in SHARDS else b"PUBLISH", channel, message))
        self.world.after(EVERY_S, self._next)


def _born(seed: int) -> World:
    world = World(seed, 256)
    world.cluster(3, master=False)
    world.run(5.0)
    return world


def _listener(world: World, host: str, *requests: tuple[bytes, ...]) -> Listener:
    listener = Listener(world, host)
    for request in requests:
        listener.connection.send(request)
    world.run(world.now + 0.2)
    listener.got.clear()
    return listener


def _asked(world: World, host: str, *request: bytes) -> Reply:
    asks = Listener(world, host)
    asks.connection.send(request)
    world.run(world.now + 1.5)
    (reply,) = asks.got
    return reply


@pytest.mark.parametrize("seed", range(1, 9))
def test_who_lives_hears_everything_once_and_in_order_while_another_node_is_killed(seed: int) -> None:
    world = _born(seed)
    chance = Random(seed)
    channels = _listener(world, "db1", (b"SUBSCRIBE", *CHANNELS))
    patterns = _listener(world, "db1", (b"PSUBSCRIBE", b"n*s", b"*eather"))
    shards = _listener(world, "db1", (b"SSUBSCRIBE", *SHARDS))
    _listener(world, "db3", (b"SUBSCRIBE", *CHANNELS), (b"PSUBSCRIBE", b"*"), (b"SSUBSCRIBE", *SHARDS))
    publishers = [Publisher(world, "db2", name) for name in (b"one", b"other")]
    began = world.now
    for publisher in publishers:
        publisher.begin(began + LASTS_S)
    host = world.hosts["db3"]
    world.after(KILLED_AFTER_S + chance.random() * 0.2, partial(host.after_frames, chance.randint(1, 20), host.kill))
    world.run(began + LASTS_S + COUNTED_WITHIN_S)
    assert host.node is None
    for listener, kind, heard in (
        (channels, b"message", CHANNELS),
        (patterns, b"pmessage", CHANNELS),
        (shards, b"smessage", SHARDS),
    ):
        for publisher in publishers:
            own = [found for found in listener.messages() if found[2].startswith(publisher.name + b" ")]
            assert own == [(kind, *sent) for sent in publisher.sent if sent[0] in heard]
    for publisher in publishers:
        assert len(publisher.counts) == len(publisher.sent), "each is answered"
        before, after = publisher.counts[:80], publisher.counts[-80:]
        assert before == [4, 4, 2, 2] * 20, "a channel, a pattern here, and both at db3; a shard channel, and one there"
        assert set(after) <= {2, 1}
        assert [count for count, (channel, _) in zip(publisher.counts, publisher.sent, strict=True)][-4:] == [
            1 if channel in SHARDS else 2 for channel, _ in publisher.sent[-4:]
        ]
        assert all(count in (1, 2, 4) for count in publisher.counts)
    for name in ("db1", "db2"):
        assert _asked(world, name, b"PUBSUB", b"NUMSUB", *CHANNELS) == [CHANNELS[0], 1, CHANNELS[1], 1]
        assert _asked(world, name, b"PUBSUB", b"SHARDNUMSUB", *SHARDS) == [SHARDS[0], 1, SHARDS[1], 1]
        assert sorted(_asked(world, name, b"PUBSUB", b"CHANNELS")) == sorted(CHANNELS)  # type: ignore[type-var, arg-type]
        assert _asked(world, name, b"PUBSUB", b"NUMPAT") == 2


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_node_that_is_back_empty_hears_and_is_heard(seed: int) -> None:
    """What its former life had subscribers of is forgotten; what it has now is known."""
    world = _born(seed)
    subscriber = _listener(world, "db1", (b"SUBSCRIBE", b"news"), (b"PSUBSCRIBE", b"n*"), (b"SSUBSCRIBE", b"orders"))
    _listener(world, "db3", (b"SUBSCRIBE", b"old"), (b"SSUBSCRIBE", b"old"))
    host = world.hosts["db3"]
    host.kill()
    world.run(world.now + 1.0)
    host.start()
    world.run(world.now + 8.0)
    anew = _listener(world, "db3", (b"SUBSCRIBE", b"news"), (b"PSUBSCRIBE", b"ne?s"), (b"SSUBSCRIBE", b"orders"))
    subscriber.got.clear()
    for host_name in world.hosts:
        assert _asked(world, host_name, b"PUBLISH", b"news", host_name.encode()) == 4
        assert _asked(world, host_name, b"SPUBLISH", b"orders", host_name.encode()) == 2
        assert _asked(world, host_name, b"PUBLISH", b"old", b"x") == 0
        assert _asked(world, host_name, b"SPUBLISH", b"old", b"x") == 0
    wanted = [name.encode() for name in world.hosts for _ in range(3)]
    assert [message for _, _, message in subscriber.messages()] == wanted
    assert [message for _, _, message in anew.messages()] == wanted
