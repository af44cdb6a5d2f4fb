"""RQ: jobs that are put in at one node while a worker at another does them."""

import sys
import threading
import time

import redis
from rq import Queue, SimpleWorker

UNTIL = time.monotonic() + float(sys.argv[3])
here, there = (redis.Redis(port=int(port)) for port in sys.argv[1:3])
done: list[int] = []
jobs = []
faults: list[BaseException] = []


def work(number: int) -> int:
    done.append(number)
    return 2 * number


def put() -> None:
    try:
        queue = Queue(connection=here)
        while time.monotonic() < UNTIL:
            jobs.append(queue.enqueue("rq_work.work", len(jobs)))
            time.sleep(0.01)
    except BaseException as fault:
        faults.append(fault)
        raise


sys.modules["rq_work"] = sys.modules["__main__"]  # RQ wants a function's module by a name that can be imported
here.flushdb()
worker = SimpleWorker([Queue(connection=there)], connection=there)
putting = threading.Thread(target=put)
putting.start()
print("going", flush=True)
patience = UNTIL + 20
while (putting.is_alive() or len(done) < len(jobs)) and time.monotonic() < patience:
    worker.work(max_idle_time=1, logging_level="WARNING")
putting.join()
assert not faults, faults
assert sorted(done) == list(range(len(jobs))), (len(jobs), len(done))
assert [job.return_value() for job in jobs] == [2 * number for number in range(len(jobs))]
assert len(jobs) > 8
