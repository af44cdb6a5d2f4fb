"""All types of values, sync and asyncio"""

import asyncio
import sys

import valkey
import valkey.asyncio

port = int(sys.argv[1])
with valkey.Valkey(port=port, decode_responses=True) as client:
    client.flushdb()
    assert client.set("s", "1", ex=10)
    assert client.hset("h", "f", "1") == 1
    assert client.rpush("l", "a", "b") == 2
    assert client.sadd("t", "x") == 1
    assert client.zadd("z", {"m": 1.5}) == 1
    assert set(client.scan_iter()) == {"s", "h", "l", "t", "z"}


async def main() -> None:
    async with valkey.asyncio.Valkey(port=port) as client:
        assert await client.hget("h", "f") == b"1"


asyncio.run(main())
