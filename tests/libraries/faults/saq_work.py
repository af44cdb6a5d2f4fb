"""SAQ: jobs that are put in at one node while a worker at another does them, four at a time."""

import asyncio
import sys
import time

from saq import Queue, Worker

UNTIL = time.monotonic() + float(sys.argv[3])
done: list[int] = []


async def work(_context: dict, *, number: int) -> int:
    done.append(number)
    return 2 * number


async def main() -> None:
    here, there = (Queue.from_url(f"redis://127.0.0.1:{port}") for port in sys.argv[1:3])
    await here.connect()
    await there.connect()
    await there.sweep()  # or the worker does when it begins, and takes the job that it was just given for a lost one
    worker = Worker(there, functions=[work], concurrency=4)
    working = asyncio.create_task(worker.start())
    print("going", flush=True)
    jobs = []
    while time.monotonic() < UNTIL:
        jobs.append(await here.enqueue("work", number=len(jobs), ttl=300))
        await asyncio.sleep(0.01)
    for job in jobs:
        await asyncio.wait_for(job.refresh(until_complete=20), 20)
    wrong = [(job.kwargs, job.status, job.result, job.error) for job in jobs if job.result != 2 * job.kwargs["number"]]
    assert not wrong, (len(jobs), wrong)
    assert sorted(done) == list(range(len(jobs))), (len(jobs), len(done))
    assert len(jobs) > 8
    await worker.stop()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await here.disconnect()


asyncio.run(main())
