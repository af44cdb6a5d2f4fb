"""channels_redis's layer over pub/sub"""

import asyncio
import sys

from channels_redis.pubsub import RedisPubSubChannelLayer


async def main() -> None:
    layer = RedisPubSubChannelLayer(hosts=[f"redis://127.0.0.1:{sys.argv[1]}"])
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_send("group", {"type": "hello", "n": 1})
    assert (await asyncio.wait_for(layer.receive(channel), 5))["n"] == 1


asyncio.run(main())
