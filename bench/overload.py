"""`python -m bench.overload`: busy is not dead. What a cluster of three does from little load to ten times too much.

Per row: so many connections of redis-benchmark with so many commands each under way, through one node or through all
three at once; goodput of all of them, their p99, and beside it what a gentle client of each node sees, that asks one
thing at a time: its p99 and its longest wait. Every error reply and every broken connection counts as failed.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import redis

from bench.processes import Cluster, cluster

VALUE_BYTES = 64
KEYS = 100_000
LOADS = ((5, 1), (20, 1), (50, 1), (50, 16), (200, 16), (200, 64), (600, 64), (1000, 64), (200, 256))
"""(connections, commands under way on each)"""
GENTLE_PAUSE_S = 0.01
SECONDS = 90.0


@dataclass
class Gentle:
    """A client that asks one thing at a time, and what it saw."""

    port: int
    waits: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def run(self, ended: threading.Event) -> None:
        client = redis.Redis(port=self.port, socket_timeout=30.0)
        for number in itertools.count():
            if ended.wait(GENTLE_PAUSE_S):
                return
            began = time.monotonic()
            try:
                if number % 2:
                    client.get(f"gentle:{self.port}")
                else:
                    client.set(f"gentle:{self.port}", number)
            except redis.RedisError as error:
                self.failed.append(str(error)[:80])
            self.waits.append(time.monotonic() - began)


def burst(port: int, test: str, clients: int, pipeline: int, requests: int) -> subprocess.Popen[str]:
    """A redis-benchmark under way."""
    command = ["redis-benchmark", "-p", str(port), "-t", test, "-n", str(requests), "-c", str(clients), "--csv"]
    command += ["-P", str(pipeline), "-d", str(VALUE_BYTES), "-r", str(KEYS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def measure(members: Cluster, doors: list[tuple[int, str]], clients: int, pipeline: int, requests: int) -> list[str]:
    """One row: goodput, the load's p99, the gentle clients' p99 and longest wait, failures."""
    gentle = [Gentle(members.ports[name]) for name in members.names]
    ended = threading.Event()
    threads = [threading.Thread(target=client.run, args=(ended,)) for client in gentle]
    for thread in threads:
        thread.start()
    share = max(1, clients // len(doors))
    began = time.monotonic()
    loads = [burst(port, test, share, pipeline, requests // len(doors)) for port, test in doors]
    failed: list[str] = []
    rates, p99 = 0.0, 0.0
    for load in loads:
        try:
            out, err = load.communicate(timeout=max(1.0, SECONDS - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            load.kill()
            out, err = load.communicate()
            failed.append(f"not done within {SECONDS:g} s")
            continue
        if load.returncode or "rror" in err or '"test"' not in out:
            failed.append((err or out).strip()[:80])
            continue
        row = next(csv.DictReader(io.StringIO(out[out.index('"test"') :])))
        rates += float(row["rps"])
        p99 = max(p99, float(row["p99_latency_ms"]))
    ended.set()
    for thread in threads:
        thread.join()
    waits = sorted([wait for client in gentle for wait in client.waits])
    failed += [text for client in gentle for text in client.failed]
    gentle_p99 = waits[len(waits) * 99 // 100] * 1000
    found = [f"{rates:,.0f}", f"{p99:,.0f}", f"{gentle_p99:,.0f}", f"{waits[-1] * 1000:,.0f}", str(len(failed))]
    if failed:
        print(f"    {len(failed)} failed, first: {failed[0]}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000, help="per row; a quarter of it without pipelines")
    options = parser.parse_args()
    if shutil.which("redis-benchmark") is None:
        sys.exit("bench: redis-benchmark is not installed (apt install redis-tools)")
    print("| through | connections | in flight each | goodput /s | p99 ms | gentle p99 ms | longest ms | failed |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with cluster(3) as members:
        ports = [members.ports[name] for name in members.names]
        for through, doors in (
            ("one node, SET", [(ports[0], "set")]),
            ("all, SET GET INCR", list(zip(ports, ("set", "get", "incr"), strict=True))),
        ):
            for clients, pipeline in LOADS:
                requests = max(options.requests // (1 if pipeline > 1 else 4), 4 * clients * pipeline)
                row = measure(members, doors, clients, pipeline, requests)
                print(f"| {through} | {clients} | {pipeline} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
