"""Actors, done by a worker in the same process"""

import sys
import threading

import dramatiq
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(host="127.0.0.1", port=int(sys.argv[1]))
dramatiq.set_broker(broker)
broker.flush_all()
done = threading.Event()


@dramatiq.actor
def work(number: int) -> None:
    done.set()


worker = dramatiq.Worker(broker, worker_timeout=100)
work.send(1)
worker.start()
try:
    assert done.wait(5)
finally:
    worker.stop()
