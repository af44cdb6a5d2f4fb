"""Celery: tasks that are sent at one node, whose results are awaited there, while a worker at another does them."""

import sys
import time

from celery import Celery
from celery.contrib.testing.worker import start_worker

UNTIL = time.monotonic() + float(sys.argv[3])
urls = [f"redis://127.0.0.1:{port}/0" for port in sys.argv[1:3]]
here, there = (Celery("app", broker=url, backend=url, set_as_current=False) for url in urls)
there.conf.update(broker_connection_retry_on_startup=False, broker_connection_max_retries=0)
done: list[int] = []


@there.task(name="work")
def work(number: int) -> int:
    done.append(number)
    return 2 * number


with start_worker(there, perform_ping_check=False, shutdown_timeout=10):
    print("going", flush=True)
    results = []
    while time.monotonic() < UNTIL:
        results.append(here.send_task("work", [len(results)]))
        time.sleep(0.01)
    assert [result.get(timeout=20) for result in results] == [2 * number for number in range(len(results))]
assert sorted(done) == list(range(len(results)))
assert len(results) > 8
