"""Jobs with results, done by a worker in the same process"""

import asyncio
import sys

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

settings = RedisSettings(port=int(sys.argv[1]))


async def add(_context: dict, one: int, other: int) -> int:
    return one + other


async def main() -> None:
    pool = await create_pool(settings)
    await pool.flushdb()
    job = await pool.enqueue_job("add", 1, 2)
    worker = Worker(functions=[add], redis_pool=pool, burst=True, poll_delay=0.05, handle_signals=False)
    await worker.async_run()
    assert await job.result(timeout=5) == 3


asyncio.run(main())
