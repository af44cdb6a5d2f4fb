"""dramatiq: messages that are sent while workers do them."""

import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

UNTIL = time.monotonic() + float(sys.argv[3])
broker = RedisBroker(host="127.0.0.1", port=int(sys.argv[1]))
dramatiq.set_broker(broker)
broker.flush_all()
done: list[int] = []


@dramatiq.actor
def work(number: int) -> None:
    done.append(number)


worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=2)
worker.start()
print("going", flush=True)
count = 0
while time.monotonic() < UNTIL:
    work.send(count)
    count += 1
    time.sleep(0.01)
patience = time.monotonic() + 20
while len(done) < count and time.monotonic() < patience:
    time.sleep(0.05)
broker.join(work.queue_name, timeout=20_000)
worker.stop()
assert sorted(done) == list(range(count)), (count, len(done))
