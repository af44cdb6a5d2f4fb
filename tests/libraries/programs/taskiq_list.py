"""A broker over a list, results"""

import asyncio
import sys

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

url = f"redis://127.0.0.1:{sys.argv[1]}"
broker = ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url))


@broker.task
async def add(one: int, other: int) -> int:
    return one + other


async def main() -> None:
    await broker.startup()
    receiver = asyncio.create_task(run_receiver_task(broker))
    try:
        task = await add.kiq(1, 2)
        assert (await task.wait_result(timeout=5)).return_value == 3
    finally:
        receiver.cancel()
        await broker.shutdown()


asyncio.run(main())
