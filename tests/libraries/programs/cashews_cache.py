"""Cached coroutines, counters, patterns"""

import asyncio
import sys

from cashews import cache

cache.setup(f"redis://127.0.0.1:{sys.argv[1]}", client_side=False)
calls = []


@cache(ttl="1m", key="double:{number}")
async def double(number: int) -> int:
    calls.append(number)
    return 2 * number


async def main() -> None:
    await cache.clear()
    assert await double(4) == await double(4) == 8
    assert calls == [4]
    await cache.set("a", {"x": 1}, expire="1m")
    assert await cache.get("a") == {"x": 1}
    assert await cache.get_many("a", "b") == ({"x": 1}, None)
    assert await cache.exists("a")
    await cache.delete_match("double:*")
    assert await double(4) == 8
    assert len(calls) == 2
    await cache.close()


asyncio.run(main())
