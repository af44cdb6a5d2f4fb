"""Sessions of Starlette in Redis"""

import asyncio
import sys

from starsessions.stores.redis import RedisStore


async def main() -> None:
    store = RedisStore(f"redis://127.0.0.1:{sys.argv[1]}")
    await store.write("id", b"data", lifetime=60, ttl=60)
    assert await store.read("id", lifetime=60) == b"data"
    await store.remove("id")
    assert await store.read("id", lifetime=60) == b""


asyncio.run(main())
