"""Django's Channels: what is sent to a group at one node is received at another, by both of channels_redis's layers."""

import asyncio
import sys
import time

from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

UNTIL = time.monotonic() + float(sys.argv[3])
urls = [f"redis://127.0.0.1:{port}" for port in sys.argv[1:3]]
Layer = RedisChannelLayer | RedisPubSubChannelLayer


async def hear(layer: Layer, channel: str) -> list[int]:
    heard = []
    while (message := await asyncio.wait_for(layer.receive(channel), 20))["n"] is not None:
        heard.append(message["n"])
    return heard


async def work(here: Layer, there: Layer) -> None:
    channel = await there.new_channel()
    await there.group_add("group", channel)
    hearing = asyncio.create_task(hear(there, channel))
    count = 0
    while time.monotonic() < UNTIL:
        await here.group_send("group", {"type": "hello", "n": count})
        count += 1
        await asyncio.sleep(0.02)
    await here.group_send("group", {"type": "hello", "n": None})
    assert await hearing == list(range(count))
    assert count > 8


async def main() -> None:
    print("going", flush=True)
    await asyncio.gather(
        work(*(RedisChannelLayer(hosts=[url], capacity=10_000) for url in urls)),
        work(*(RedisPubSubChannelLayer(hosts=[url], prefix="pubsub") for url in urls)),
    )


asyncio.run(main())
