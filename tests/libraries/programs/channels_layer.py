"""Groups and messages of Django's Channels"""

import asyncio
import sys

from channels_redis.core import RedisChannelLayer


async def main() -> None:
    layer = RedisChannelLayer(hosts=[("127.0.0.1", int(sys.argv[1]))])
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_send("group", {"type": "hello", "n": 1})
    assert (await asyncio.wait_for(layer.receive(channel), 5))["n"] == 1


asyncio.run(main())
