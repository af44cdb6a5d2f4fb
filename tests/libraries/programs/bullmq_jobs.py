"""Jobs in a queue"""

import asyncio
import sys

from bullmq import Queue, Worker


async def main() -> None:
    url = f"redis://127.0.0.1:{sys.argv[1]}"
    done = asyncio.get_running_loop().create_future()

    async def process(job: object, _token: str) -> str:
        done.set_result(job.data)
        return "ok"

    queue = Queue("jobs", {"connection": url})
    worker = Worker("jobs", process, {"connection": url})
    try:
        await queue.add("job", {"a": 1})
        assert await asyncio.wait_for(done, 8) == {"a": 1}
    finally:
        await worker.close(force=True)
        await queue.close()


asyncio.run(main())
