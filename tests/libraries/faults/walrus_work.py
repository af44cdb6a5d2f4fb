"""walrus: a list, a stream's consumer group, a counter and a lock: filled and taken at two nodes."""

import sys
import threading
import time

from walrus import Walrus

UNTIL = time.monotonic() + float(sys.argv[3])
here, there = (Walrus(port=int(port)) for port in sys.argv[1:3])
here.flushdb()
popped: list[int] = []
read: list[int] = []
locked = {0: 0, 1: 0}
over = threading.Event()
faults: list[BaseException] = []
group = here.consumer_group("group", ["stream"])
group.create()
group.set_id("$")


def pop() -> None:
    items = there.List("items")
    while not over.is_set():
        found = items.bpopleft(timeout=1)
        if found:
            popped.append(int(found[1] if isinstance(found, (list, tuple)) else found))


def consume() -> None:
    entries = there.consumer_group("group", ["stream"], consumer="one")
    while not over.is_set():
        for _, messages in entries.read(count=10, block=500):
            for number, fields in messages:
                read.append(int(fields[b"n"]))
                entries.stream.ack(number)


def hold(number: int) -> None:
    """Nobody else adds meanwhile."""
    db = (here, there)[number]
    while time.monotonic() < UNTIL:
        with db.lock("lock", ttl=30_000):
            db.set("locked", int(db.get("locked") or 0) + 1)
            locked[number] += 1
        time.sleep(0.002)


def guarded(work, *arguments) -> None:
    try:
        work(*arguments)
    except BaseException as fault:
        faults.append(fault)
        raise


threads = [threading.Thread(target=guarded, args=what) for what in ((pop,), (consume,), (hold, 0), (hold, 1))]
for thread in threads:
    thread.start()
print("going", flush=True)
items, stream, counter = here.List("items"), here.Stream("stream"), here.counter("counter")
count = 0
try:
    while time.monotonic() < UNTIL:
        items.append(count)
        stream.add({"n": count})
        counter.incr()
        count += 1
        time.sleep(0.01)
    patience = time.monotonic() + 20
    while min(len(popped), len(read)) < count and not faults and time.monotonic() < patience:
        time.sleep(0.05)
finally:
    over.set()
    for thread in threads:
        thread.join()
assert not faults, faults
assert popped == read == list(range(count)), (count, len(popped), len(read))
assert there.counter("counter").value() == count > 8
assert int(there.get("locked")) == sum(locked.values()) > 8
assert there.xpending("stream", "group")["pending"] == 0
