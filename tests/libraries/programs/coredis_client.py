"""A typed asyncio client, RESP3"""

import asyncio
import sys

import coredis


async def main() -> None:
    client = coredis.Redis(port=int(sys.argv[1]), decode_responses=True)
    async with client:
        await client.flushdb()
        assert await client.set("s", "1")
        assert await client.incr("s") == 2
        assert await client.hset("h", {"f": "1"}) == 1
        assert await client.hgetall("h") == {"f": "1"}
        assert await client.sadd("t", ["x", "y"]) == 2
        assert await client.smembers("t") == {"x", "y"}
        assert await client.zadd("z", {"m": 1.0}) == 1
        assert [score.score for score in await client.zrange("z", 0, -1, withscores=True)] == [1.0]
        assert {key async for key in client.scan_iter()} == {"s", "h", "t", "z"}


asyncio.run(main())
