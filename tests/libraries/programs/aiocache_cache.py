"""Cached coroutines, many keys, counters"""

import asyncio
import sys

from aiocache import Cache, cached

port = int(sys.argv[1])
calls = []


@cached(cache=Cache.REDIS, endpoint="127.0.0.1", port=port, ttl=30)
async def double(number: int) -> int:
    calls.append(number)
    return 2 * number


async def main() -> None:
    cache = Cache(Cache.REDIS, endpoint="127.0.0.1", port=port, namespace="aiocache")
    await cache.clear()
    await cache.set("a", 1, ttl=30)
    assert await cache.get("a") == 1
    assert await cache.exists("a")
    assert await cache.increment("n", 2) == 2
    assert await cache.delete("a") == 1
    assert await double(4) == await double(4) == 8
    await cache.close()


asyncio.run(main())
