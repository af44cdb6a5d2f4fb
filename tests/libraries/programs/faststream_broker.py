"""A broker's subscribers of a channel, of a list and of a stream's group; requests and their answers"""

import asyncio
import sys

from faststream.redis import RedisBroker, StreamSub

broker = RedisBroker(f"redis://127.0.0.1:{sys.argv[1]}", logger=None)
heard: list[tuple[str, int]] = []


@broker.subscriber("channel")
async def of_channel(number: int) -> int:
    heard.append(("channel", number))
    return 2 * number


@broker.subscriber(list="list")
async def of_list(number: int) -> None:
    heard.append(("list", number))


@broker.subscriber(stream=StreamSub("stream", group="group", consumer="one", polling_interval=100))
async def of_stream(number: int) -> None:
    heard.append(("stream", number))


async def main() -> None:
    async with broker:
        await broker.start()
        await broker.publish(1, list="list")
        await broker.publish(2, stream="stream")
        answer = await broker.request(3, "channel", timeout=5)
        assert await answer.decode() == 6
        for _ in range(200):
            if len(heard) == 3:
                break
            await asyncio.sleep(0.05)
    assert sorted(heard) == [("channel", 3), ("list", 1), ("stream", 2)]


asyncio.run(main())
