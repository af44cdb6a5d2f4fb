"""redis-py's asyncio client: a pool of connections, pipelines without MULTI, iterators"""

import asyncio
import sys

import redis.asyncio


async def main() -> None:
    async with redis.asyncio.Redis(port=int(sys.argv[1]), decode_responses=True) as client:
        await client.flushdb()
        counts = await asyncio.gather(*[client.hincrby("h", "n", 1) for _ in range(50)])
        assert sorted(counts) == list(range(1, 51))
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(50):
                pipeline.zadd("z", {f"m{number}": number})
            assert await pipeline.execute() == [1] * 50
        found = [member async for member, _ in client.zscan_iter("z")]
        assert len(set(found)) == 50


asyncio.run(main())
