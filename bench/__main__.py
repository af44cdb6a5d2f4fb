"""`python -m bench`: how fast peerkv is, as ratios to a redis-server measured in the same run.

Absolute numbers mean little on a shared machine. So every round measures each server once, one after the other, and
what is printed is the median of the rounds' ratios. redis-benchmark is the load: 50 clients, 64-byte values.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import platform
import shutil
import statistics
import subprocess
import sys

from bench import load
from bench.processes import alone, cluster, redis, redis_with_replicas

CLIENTS = 50
VALUE_BYTES = 64
KEYS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--requests", type=int, default=60_000, help="per measurement at -P 1; four times so many at 16"
    )
    parser.add_argument("--pipeline", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--tests", default="set,get,incr")
    parser.add_argument(
        "--collections",
        default="lpush,rpop,lrange_100,hset,sadd,spop,zadd,mset",
        help="likewise, with a quarter of the requests; of these all but MSET work on one key",
    )
    options = parser.parse_args()
    if shutil.which("redis-benchmark") is None:
        sys.exit("bench: redis-benchmark is not installed (apt install redis-tools)")

    with contextlib.ExitStack() as stack:
        servers = {
            "redis-server": stack.enter_context(redis()),
            "one node alone": stack.enter_context(alone()),
            "one node of three": stack.enter_context(cluster(3)).ports["db1"],
        }
        primary = stack.enter_context(redis_with_replicas(2))
        rows: dict[tuple[str, int], dict[str, list[float]]] = {}
        safe: dict[int, dict[str, list[float]]] = {}
        for _ in range(options.rounds):
            for pipeline in options.pipeline:
                requests = options.requests * (4 if pipeline > 1 else 1)
                for name, port in servers.items():
                    found = _redis_benchmark(port, options.tests, requests, pipeline)
                    if options.collections:
                        found |= _redis_benchmark(port, options.collections, requests // 4, pipeline)
                    for test, rate in found.items():
                        rows.setdefault((test, pipeline), {}).setdefault(name, []).append(rate)
                row = safe.setdefault(pipeline, {})
                row.setdefault("redis-server", []).append(_set(servers["redis-server"], pipeline))
                row.setdefault("redis 1+2, SET + WAIT 1", []).append(_set(primary, pipeline, wait=True))
                row.setdefault("one node of three", []).append(_set(servers["one node of three"], pipeline))

    print(f"\nratios to redis-server in the same run: medians of {options.rounds}, -c {CLIENTS}, {VALUE_BYTES} bytes")
    print(f"nodes: {platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}\n")
    print(f"{'':22}{'redis-server':>16}{'one node alone':>18}{'one node of three':>20}")
    for (test, pipeline), rates in sorted(rows.items(), key=lambda row: row[0][1]):
        print(f"{test.upper().split(' (')[0]:14} -P {pipeline:<4}" + _columns(rates, list(servers)))
    names = ["redis-server", "redis 1+2, SET + WAIT 1", "one node of three"]
    print("\nas safe as can be asked for (load of bench/load.py: SET, and for Redis each SET followed by WAIT 1 0)\n")
    print(f"{'':22}{names[0]:>16}{names[1]:>26}{names[2]:>20}")
    for pipeline, rates in safe.items():
        print(f"{'SET':14} -P {pipeline:<4}" + _columns(rates, names))


def _columns(rates: dict[str, list[float]], names: list[str]) -> str:
    base = rates[names[0]]
    text = f"{statistics.median(base):>12,.0f} /s"
    for name, width in zip(names[1:], (18, 20) if len(names[1]) < 20 else (26, 20), strict=True):
        ratios = [rate / reference for rate, reference in zip(rates[name], base, strict=True)]
        text += f"{statistics.median(ratios):>{width}.2f}"
    return text


def _redis_benchmark(port: int, tests: str, requests: int, pipeline: int) -> dict[str, float]:
    command = ["redis-benchmark", "-p", str(port), "-t", tests, "-n", str(requests), "-c", str(CLIENTS), "--csv"]
    command += ["-d", str(VALUE_BYTES), "-P", str(pipeline), "-r", str(KEYS)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    rows = csv.DictReader(io.StringIO(run.stdout[run.stdout.index('"test"') :]))
    return {row["test"].lower(): float(row["rps"]) for row in rows}


def _set(port: int, pipeline: int, *, wait: bool = False) -> float:
    one = load.encode(b"SET", b"key:000000000001", b"x" * VALUE_BYTES)
    reply = len(b"+OK\r\n")
    if wait:
        one += load.encode(b"WAIT", b"1", b"0")
        reply += len(b":1\r\n")
    request = one * pipeline
    return pipeline * load.rate(port, request, reply * pipeline, clients=CLIENTS, seconds=2.0)


main()
