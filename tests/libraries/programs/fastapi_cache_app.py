"""Cached coroutines in Redis"""

import asyncio
import sys

import redis.asyncio
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend


async def main() -> None:
    client = redis.asyncio.Redis(port=int(sys.argv[1]))
    FastAPICache.init(RedisBackend(client), prefix="fastapi-cache")
    backend = FastAPICache.get_backend()
    await backend.set("a", b"1", expire=30)
    assert (await backend.get_with_ttl("a"))[1] == b"1"
    assert await backend.clear(key="a") == 1
    await client.aclose()


asyncio.run(main())
