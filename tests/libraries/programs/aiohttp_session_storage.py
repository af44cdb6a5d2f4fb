"""Sessions of aiohttp in Redis"""

import asyncio
import sys

import redis.asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session import get_session, setup
from aiohttp_session.redis_storage import RedisStorage


async def visit(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.Response(text=str(session["visits"]))


async def main() -> None:
    client = redis.asyncio.Redis(port=int(sys.argv[1]))
    app = web.Application()
    setup(app, RedisStorage(client))
    app.router.add_get("/", visit)
    async with TestClient(TestServer(app)) as browser:
        texts = [await (await browser.get("/")).text() for _ in range(3)]
    assert texts == ["1", "2", "3"]
    await client.aclose()


asyncio.run(main())
