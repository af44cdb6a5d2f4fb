"""BullMQ: jobs that are put in at one node while a worker at another does them, four at a time."""

import asyncio
import sys
import time

from bullmq import Job, Queue, Worker

UNTIL = time.monotonic() + float(sys.argv[3])
here, there = ({"connection": f"redis://127.0.0.1:{port}"} for port in sys.argv[1:3])
done: list[int] = []


async def work(job: Job, _token: str) -> int:
    done.append(job.data["number"])
    return 2 * job.data["number"]


async def main() -> None:
    queue = Queue("jobs", here)
    worker = Worker("jobs", work, there | {"concurrency": 4})
    print("going", flush=True)
    names: list[str] = []
    while time.monotonic() < UNTIL:
        job = await queue.add("job", {"number": len(names)})
        names.append(job.id)
        await asyncio.sleep(0.01)
    patience = time.monotonic() + 20
    while await queue.getJobCountByTypes("completed") < len(names) and time.monotonic() < patience:
        await asyncio.sleep(0.05)
    assert sorted(done) == list(range(len(names))), (len(names), len(done))
    found = [(await Job.fromId(queue, name)).returnvalue for name in names]
    assert [int(value) for value in found] == [2 * number for number in range(len(names))]
    assert len(names) > 8
    await worker.close(force=True)
    await queue.close()


asyncio.run(main())
