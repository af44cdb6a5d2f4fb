"""Broker and result backend, a worker in a thread"""

import sys

from celery import Celery
from celery.contrib.testing.worker import start_worker

url = f"redis://127.0.0.1:{sys.argv[1]}/0"
app = Celery("app", broker=url, backend=url)
app.conf.update(broker_connection_retry_on_startup=False, broker_connection_max_retries=0)


@app.task
def add(one: int, other: int) -> int:
    return one + other


with start_worker(app, perform_ping_check=False, shutdown_timeout=5):
    assert add.delay(1, 2).get(timeout=8) == 3
