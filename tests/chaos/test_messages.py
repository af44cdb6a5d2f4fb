"""Real processes: subscribers at one node, publishers at others, and a third one is killed in the middle."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from bench.processes import Cluster, cluster

pytestmark = pytest.mark.few

MESSAGES = 600
"""Of each publisher; the node is killed when a third of them are sent."""
NOBODY_WAITS_S = 30.0
CHANNEL, PATTERN, SHARD = "news", "n?ws", "orders"


class Publisher(threading.Thread):
    """Sends numbered messages on a channel and on a shard channel in turn, one at a time."""

    def __init__(self, members: Cluster, name: str) -> None:
        super().__init__(daemon=True)
        self.name = name
        self.counts: list[object] = []
        self.third = threading.Event()
        self._port = members.ports[name]

    def run(self) -> None:
        with redis.Redis(port=self._port, socket_timeout=NOBODY_WAITS_S) as client:
            for number in range(MESSAGES):
                name, channel = ("SPUBLISH", SHARD) if number % 2 else ("PUBLISH", CHANNEL)
                self.counts.append(client.execute_command(name, channel, f"{self.name} {number}"))
                if number == MESSAGES // 3:
                    self.third.set()
            self.third.set()


def _read(subscribed: redis.client.PubSub, wanted: int) -> list[str]:
    """So many messages, and whatever has come behind them by then."""
    found: list[str] = []
    until = time.monotonic() + NOBODY_WAITS_S
    while time.monotonic() < until:
        message = subscribed.get_message(ignore_subscribe_messages=True, timeout=0.0 if len(found) >= wanted else 0.5)
        if message is not None and message["data"]:
            found.append(message["data"])
        elif message is None and len(found) >= wanted:
            return found
    return found


def _subscribed(client: redis.Redis) -> list[tuple[redis.client.PubSub, int]]:
    """Subscribers of the channel, of the pattern and of the shard channel, and the remainder of their numbers by 2."""
    channel, pattern, shard = client.pubsub(), client.pubsub(), client.pubsub()
    channel.subscribe(CHANNEL)
    pattern.psubscribe(PATTERN)
    shard.ssubscribe(SHARD)
    for subscriber in (channel, pattern, shard):
        assert subscriber.get_message(timeout=NOBODY_WAITS_S) is not None
    return [(channel, 0), (pattern, 0), (shard, 1)]


def test_a_node_that_is_killed_takes_no_message_of_others_with_it() -> None:
    with cluster(3) as members:
        clients = {
            name: redis.Redis(port=port, decode_responses=True, socket_timeout=NOBODY_WAITS_S)
            for name, port in members.ports.items()
        }
        subscribed = _subscribed(clients["db1"])
        dying = _subscribed(clients["db3"])
        for name in ("db2", "master"):
            _await_patterns(clients[name], 2)
        publishers = [Publisher(members, name) for name in ("db2", "master")]
        for publisher in publishers:
            publisher.start()
        publishers[0].third.wait(NOBODY_WAITS_S)
        members.kill("db3")
        for publisher in publishers:
            publisher.join(NOBODY_WAITS_S)
            assert len(publisher.counts) == MESSAGES, "each was answered"
        for subscriber, remainder in subscribed:
            found = _read(subscriber, MESSAGES)
            for publisher in publishers:
                own = [text for text in found if text.startswith(f"{publisher.name} ")]
                assert own == [f"{publisher.name} {number}" for number in range(remainder, MESSAGES, 2)]
        for name in ("db1", "db2", "master"):
            _await_patterns(clients[name], 1)
            assert clients[name].pubsub_numsub(CHANNEL) == [(CHANNEL, 1)]
            assert clients[name].pubsub_numpat() == 1
            assert clients[name].execute_command("PUBSUB", "SHARDNUMSUB", SHARD) == [SHARD, 1]
        for subscriber, _ in (*subscribed, *dying):
            subscriber.close()
        for client in clients.values():
            client.close()


def _await_patterns(client: redis.Redis, count: int) -> None:
    """Until so many get what the pattern alone matches."""
    until = time.monotonic() + NOBODY_WAITS_S
    while client.publish("nows", "") != count:
        assert time.monotonic() < until, "others hear it"
        time.sleep(0.02)
