"""huey, which asks again and again: tasks that are put in at one node while another one's consumer does them."""

import sys
import threading
import time

from huey import RedisHuey

UNTIL = time.monotonic() + float(sys.argv[3])
huey = RedisHuey("app", port=int(sys.argv[1]), blocking=False)
consumer = RedisHuey("app", port=int(sys.argv[2]), blocking=False)
huey.flush()
done: list[int] = []
over = threading.Event()
faults: list[BaseException] = []


def work(number: int) -> int:
    done.append(number)
    return 2 * number


put = huey.task(name="work")(work)
consumer.task(name="work")(work)


def consume() -> None:
    try:
        while not over.is_set():
            task = consumer.dequeue()
            if task is None:
                time.sleep(0.01)
            else:
                consumer.execute(task)
    except BaseException as fault:
        faults.append(fault)
        raise


threads = [threading.Thread(target=consume) for _ in range(2)]
for thread in threads:
    thread.start()
print("going", flush=True)
results = []
try:
    while time.monotonic() < UNTIL:
        results.append(put(len(results)))
        time.sleep(0.01)
    assert [result(blocking=True, timeout=20) for result in results] == [2 * n for n in range(len(results))]
finally:
    over.set()
    for thread in threads:
        thread.join()
assert not faults, faults
assert sorted(done) == list(range(len(results)))
