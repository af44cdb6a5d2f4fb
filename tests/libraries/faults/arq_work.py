"""arq: jobs that are put in at one node while a worker at another does them."""

import asyncio
import sys
import time

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

UNTIL = time.monotonic() + float(sys.argv[3])
here, there = (RedisSettings(port=int(port)) for port in sys.argv[1:3])
done: list[int] = []


async def work(_context: dict, number: int) -> int:
    done.append(number)
    return 2 * number


async def main() -> None:
    pool = await create_pool(here)
    await pool.flushdb()
    worker = Worker(functions=[work], redis_pool=await create_pool(there), poll_delay=0.02, handle_signals=False)
    running = asyncio.ensure_future(worker.async_run())
    print("going", flush=True)
    jobs = []
    while time.monotonic() < UNTIL:
        jobs.append(await pool.enqueue_job("work", len(jobs)))
        await asyncio.sleep(0.01)
    assert [await job.result(timeout=20, poll_delay=0.05) for job in jobs] == [2 * n for n in range(len(jobs))]
    assert sorted(done) == list(range(len(jobs)))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


asyncio.run(main())
