"""Many keys at once, and locks against stampedes (MULTI, a script)"""

import asyncio
import sys

from aiocache import Cache
from aiocache.lock import RedLock


async def main() -> None:
    cache = Cache(Cache.REDIS, endpoint="127.0.0.1", port=int(sys.argv[1]), namespace="aiocache")
    await cache.clear()
    assert await cache.multi_set([("b", 2), ("c", 3)], ttl=30)
    assert await cache.multi_get(["b", "c", "d"]) == [2, 3, None]
    async with RedLock(cache, "b", lease=5):
        pass
    await cache.close()


asyncio.run(main())
