"""FastStream: what is published at one node on a channel, to a list and to a stream is handled at another, once and in
order."""

import asyncio
import sys
import time

from faststream.redis import RedisBroker, StreamSub

UNTIL = time.monotonic() + float(sys.argv[3])
here, there = (RedisBroker(f"redis://127.0.0.1:{port}", logger=None) for port in sys.argv[1:3])
heard: dict[str, list[int]] = {"channel": [], "list": [], "stream": []}


@there.subscriber("channel")
async def of_channel(number: int) -> None:
    heard["channel"].append(number)


@there.subscriber(list="list")
async def of_list(number: int) -> None:
    heard["list"].append(number)


@there.subscriber(stream=StreamSub("stream", group="group", consumer="one", polling_interval=100))
async def of_stream(number: int) -> None:
    heard["stream"].append(number)


async def main() -> None:
    async with here, there:
        await there.start()
        while not heard["channel"]:
            assert time.monotonic() < UNTIL
            await here.publish(-1, "channel")
            await asyncio.sleep(0.1)
        print("going", flush=True)
        count = 0
        while time.monotonic() < UNTIL:
            await here.publish(count, "channel")
            await here.publish(count, list="list")
            await here.publish(count, stream="stream")
            count += 1
            await asyncio.sleep(0.01)
        patience = time.monotonic() + 20
        while any(own[-1:] != [count - 1] for own in heard.values()) and time.monotonic() < patience:
            await asyncio.sleep(0.05)
    found = {kind: [number for number in own if number >= 0] for kind, own in heard.items()}
    assert found == {kind: list(range(count)) for kind in heard}, (
        count,
        {kind: len(own) for kind, own in found.items()},
    )
    assert count > 8


asyncio.run(main())
