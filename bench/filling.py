"""`python -m bench.filling`: a node comes back empty while a load runs; how long until it is filled, and who notices.

Three nodes hold `--keys` keys of 64 bytes. Clients on two of them write and read at a fixed pace. The third is killed
and started again: it has to fetch every key.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import trio

from bench import load
from bench.processes import Cluster, cluster

VALUE = b"x" * 64
CLIENTS = 8
PAUSE_S = 0.01
BATCH = 500
REST_S = 5.0
WITHIN_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.filling", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    with cluster(3) as members:
        trio.run(_measure, members, options.keys)


async def _measure(members: Cluster, keys: int) -> None:
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(_write, members.ports["db1"], range(number, keys, 4))
    print(f"{keys:,} keys written in {time.monotonic() - began:.1f} s")
    latencies: list[float] = []
    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(_use, members.ports[("db1", "db2")[number % 2]], keys, latencies)
        await trio.sleep(REST_S)
        rest, latencies[:] = _percentiles(latencies), []
        members.kill("db3")
        members.start("db3")
        began = time.monotonic()
        with trio.fail_after(WITHIN_S):
            await trio.sleep(2.0)
            while not await trio.to_thread.run_sync(members.whole, "db1"):
                await trio.sleep(1.0)
        took = time.monotonic() - began
        filling = _percentiles(latencies)
        nursery.cancel_scope.cancel()
    size = keys * (len(VALUE) + 16) / 1e6
    print(f"filled in {took:.1f} s from its start: {size:.0f} MB of keys and values, {size / took:.1f} MB/s")
    print(f"{'':10}{'median':>10}{'p99':>10}{'worst':>10}   ms")
    for name, figures in (("at rest", rest), ("filling", filling)):
        print(f"{name:10}" + "".join(f"{1000 * value:>10.1f}" for value in figures))
    print(f"p99 while filling is {filling[1] / rest[1]:.1f} times that at rest")


def _percentiles(latencies: list[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(latencies, n=100)
    return cuts[49], cuts[98], max(latencies)


async def _write(port: int, numbers: range) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        for first in range(0, len(numbers), BATCH):
            part = numbers[first : first + BATCH]
            await stream.send_all(b"".join(load.encode(b"SET", b"key:%012d" % number, VALUE) for number in part))
            left = len(part) * len(b"+OK\r\n")
            while left > 0:
                left -= len(await stream.receive_some(65536))


async def _use(port: int, keys: int, latencies: list[float]) -> None:
    rng = random.Random(port)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        while True:
            key = b"key:%012d" % rng.randrange(keys)
            write = rng.random() < 0.5
            began = time.perf_counter()
            await stream.send_all(load.encode(b"SET", key, VALUE) if write else load.encode(b"GET", key))
            reply = await stream.receive_some(65536)
            latencies.append(time.perf_counter() - began)
            if reply != (b"+OK\r\n" if write else b"$64\r\n" + VALUE + b"\r\n"):
                raise SystemExit(f"bench: {reply!r} is not what was to be answered")
            await trio.sleep(PAUSE_S)


main()
