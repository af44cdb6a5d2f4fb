"""kombu: messages that are put in at one node, and taken and acknowledged at another."""

import sys
import threading
import time
from queue import Empty

from kombu import Connection

UNTIL = time.monotonic() + float(sys.argv[3])
here, there = (f"redis://127.0.0.1:{port}/0" for port in sys.argv[1:3])
taken: list[int] = []
over = threading.Event()
faults: list[BaseException] = []


def take() -> None:
    try:
        with Connection(there) as connection, connection.SimpleQueue("kombu") as queue:
            while not over.is_set():
                try:
                    message = queue.get(timeout=0.5)
                except Empty:
                    continue
                taken.append(message.payload)
                message.ack()
    except BaseException as fault:
        faults.append(fault)
        raise


taking = threading.Thread(target=take)
taking.start()
print("going", flush=True)
count = 0
try:
    with Connection(here) as connection, connection.SimpleQueue("kombu") as queue:
        while time.monotonic() < UNTIL:
            queue.put(count)
            count += 1
            time.sleep(0.01)
        patience = time.monotonic() + 20
        while len(taken) < count and not faults and time.monotonic() < patience:
            time.sleep(0.05)
finally:
    over.set()
    taking.join()
assert not faults, faults
assert taken == list(range(count)), (count, len(taken))
assert count > 8
