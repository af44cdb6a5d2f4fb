"""redis-py's PubSub in a thread: what is published at each of two nodes is heard at the other, once and in order."""

import sys
import threading
import time

import redis

UNTIL = time.monotonic() + float(sys.argv[3])
clients = [redis.Redis(port=int(port)) for port in sys.argv[1:3]]
heard: list[list[int]] = [[], []]
faults: list[BaseException] = []
threads = []
ready = [threading.Event(), threading.Event()]


def failed(fault: BaseException, subscriber: redis.client.PubSub, thread: threading.Thread) -> None:
    faults.append(fault)
    raise fault


for number, client in enumerate(clients):
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(**{f"to{number}": lambda message, number=number: heard[number].append(int(message["data"]))})
    subscriber.psubscribe(**{f"ready{number}*": lambda _, number=number: ready[number].set()})
    threads.append(subscriber.run_in_thread(sleep_time=0.1, exception_handler=failed))
for number, event in enumerate(ready):
    while not event.wait(0.1):
        assert time.monotonic() < UNTIL
        clients[1 - number].publish(f"ready{number}?", "")
print("going", flush=True)
count = 0
while time.monotonic() < UNTIL:
    for number in (0, 1):
        clients[1 - number].publish(f"to{number}", count)
    count += 1
    time.sleep(0.01)
patience = time.monotonic() + 10
while min(map(len, heard)) < count and not faults and time.monotonic() < patience:
    time.sleep(0.05)
for thread in threads:
    thread.stop()
    thread.join()
assert not faults, faults
assert heard == [list(range(count))] * 2, (count, *map(len, heard))
assert count > 8
