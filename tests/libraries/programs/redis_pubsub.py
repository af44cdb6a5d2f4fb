"""redis-py's PubSub: publisher and subscriber at different nodes, patterns"""

import sys
import time

import redis

with redis.Redis(port=int(sys.argv[1])) as client, redis.Redis(port=int(sys.argv[-1])) as other:
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe("channel")
    subscriber.psubscribe("pat*")
    until = time.monotonic() + 5
    while len(subscriber.channels) + len(subscriber.patterns) < 2 or subscriber.get_message() is not None:
        assert time.monotonic() < until
    other.publish("channel", "one")
    other.publish("pattern", "two")
    found = []
    while len(found) < 2 and time.monotonic() < until:
        message = subscriber.get_message(timeout=1)
        if message is not None:
            found.append(message["data"])
    assert found == [b"one", b"two"]
