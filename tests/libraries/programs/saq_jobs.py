"""Jobs with results, done by a worker in the same process"""

import asyncio
import sys

from saq import Queue, Worker


async def add(_context: dict, *, one: int, other: int) -> int:
    return one + other


async def main() -> None:
    queue = Queue.from_url(f"redis://127.0.0.1:{sys.argv[1]}")
    await queue.connect()
    worker = Worker(queue, functions=[add])
    task = asyncio.create_task(worker.start())
    try:
        assert await asyncio.wait_for(queue.apply("add", one=1, other=2), 8) == 3
    finally:
        await worker.stop()
        task.cancel()
        await queue.disconnect()


asyncio.run(main())
