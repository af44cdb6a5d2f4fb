"""`python -m bench.failover`: what clients of the other nodes notice when one node is killed or stopped under load.

Of each fault: failed requests, the longest single request, and the longest time in which none of the clients had a
success.
"""

from __future__ import annotations

import argparse
import random
import signal
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import hiredis
import trio

from bench.processes import Cluster, cluster

CLIENTS_PER_NODE = 8
LOAD_S = 1.5


class Watch:
    """What clients saw."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.longest = 0.0
        self.failed: list[object] = []

    async def client(self, port: int, seed: int, until: float) -> None:
        rng = random.Random(seed)
        reader = hiredis.Reader()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            while (began := trio.current_time()) < until:
                key = b"key:%d" % rng.randrange(20_000)
                request = rng.choice([(b"SET", key, b"x" * 64), (b"GET", key), (b"INCR", b"n:" + key)])
                await stream.send_all(hiredis.pack_command(request))
                while (reply := reader.gets()) is False:
                    reader.feed(await stream.receive_some(65536))
                if isinstance(reply, hiredis.ReplyError):
                    self.failed.append(reply)
                now = trio.current_time()
                self.longest = max(self.longest, now - began)
                self.times.append(now)

    @property
    def gap(self) -> float:
        """Seconds of the longest time without a success."""
        times = sorted(self.times)
        return max((after - before for before, after in pairwise(times)), default=0.0)


async def measure(members: Cluster, victim: str, fault: Callable[[], None]) -> Watch:
    watch = Watch()
    async with trio.open_nursery() as nursery:
        until = trio.current_time() + 2 * LOAD_S
        for name in members.names:
            if name != victim:
                for seed in range(CLIENTS_PER_NODE):
                    nursery.start_soon(watch.client, members.ports[name], seed, until)
        await trio.sleep(LOAD_S)
        fault()
    return watch


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'fault':20}{'requests':>10}{'failed':>8}{'longest request':>18}{'longest gap':>14}")
    for _ in range(options.rounds):
        for victim in ("db1", "db2", "db3", "master"):
            with cluster(3) as members:
                watch = trio.run(measure, members, victim, partial(members.kill, victim))
            _report(f"kill -9 {victim}", watch)
        with cluster(3) as members:
            watch = trio.run(measure, members, "db2", partial(members.send, "db2", signal.SIGSTOP))
        _report("SIGSTOP db2", watch)


def _report(name: str, watch: Watch) -> None:
    counts = f"{name:20}{len(watch.times):>10}{len(watch.failed):>8}"
    print(f"{counts}{1000 * watch.longest:>15.0f} ms{1000 * watch.gap:>11.0f} ms", flush=True)


main()
