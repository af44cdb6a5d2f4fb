"""taskiq: tasks that are put in at one node while a receiver at another does them."""

import asyncio
import sys
import time

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

UNTIL = time.monotonic() + float(sys.argv[3])
urls = [f"redis://127.0.0.1:{port}" for port in sys.argv[1:3]]
here, there = (ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url)) for url in urls)
done: list[int] = []


async def work(number: int) -> int:
    done.append(number)
    return 2 * number


put = here.task(task_name="work")(work)
there.task(task_name="work")(work)


async def main() -> None:
    await here.startup()
    await there.startup()
    receiving = asyncio.create_task(run_receiver_task(there))
    print("going", flush=True)
    tasks = []
    while time.monotonic() < UNTIL:
        tasks.append(await put.kiq(len(tasks)))
        await asyncio.sleep(0.01)
    results = [await task.wait_result(check_interval=0.05, timeout=20) for task in tasks]
    assert [result.return_value for result in results] == [2 * number for number in range(len(tasks))]
    assert sorted(done) == list(range(len(tasks)))
    assert len(tasks) > 8
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    await here.shutdown()
    await there.shutdown()


asyncio.run(main())
