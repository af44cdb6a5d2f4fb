"""`python -m bench.overload`: busy is not dead. What a cluster of three does from little load to ten times too much.

Per row: so many connections of redis-benchmark with so many commands each under way, through one node or through all
three at once; goodput (what the nodes serve while all of it runs), the load's p99, and beside it what a gentle client
of each node sees, that asks one thing at a time: its p99 and its longest wait. Every error reply and every broken
connection counts as failed.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import astuple, dataclass, field

import redis

from bench.processes import Cluster, cluster

VALUE_BYTES = 64
KEYS = 100_000
LOADS = ((5, 1), (20, 1), (50, 1), (50, 16), (200, 16), (200, 64), (600, 64), (1000, 64), (200, 256))
"""(connections, commands under way on each)"""
FILLS = 20
"""How often a load fills what is under way, at the least: fewer, and its beginning and end are what is measured."""
SAMPLE_S = 0.2
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


@dataclass
class Row:
    """What was seen of one load: commands per second of all nodes while every door was loaded, and milliseconds."""

    goodput: float
    p99: float
    gentle_p99: float
    longest: float
    failed: int


def measure(members: Cluster, doors: list[tuple[int, str]], clients: int, pipeline: int, requests: int) -> Row:
    """One load, from its beginning to its end."""
    gentle = [Gentle(members.ports[name]) for name in members.names]
    ended = threading.Event()
    threads = [threading.Thread(target=client.run, args=(ended,)) for client in gentle]
    for thread in threads:
        thread.start()
    share = max(1, clients // len(doors))
    began = time.monotonic()
    loads = [burst(port, test, share, pipeline, requests // len(doors)) for port, test in doors]
    goodput = served(members, loads)
    failed: list[str] = []
    p99 = 0.0
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
        p99 = max(p99, float(row["p99_latency_ms"]))
    ended.set()
    for thread in threads:
        thread.join()
    waits = sorted([wait for client in gentle for wait in client.waits])
    failed += [text for client in gentle for text in client.failed]
    if failed:
        print(f"    {len(failed)} failed, first: {failed[0]}", file=sys.stderr)
    return Row(goodput, p99, waits[len(waits) * 99 // 100] * 1000, waits[-1] * 1000, len(failed))


def served(members: Cluster, loads: list[subprocess.Popen[str]]) -> float:
    """Commands per second of all nodes until the first load ends, without how they begin: once one door is free, its
    share of the machine, and soon the homes, are the others'."""
    nodes = [redis.Redis(port=members.ports[name], socket_timeout=SECONDS) for name in members.names]
    samples: list[tuple[float, int]] = []
    until = time.monotonic() + SECONDS
    while all(load.poll() is None for load in loads) and time.monotonic() < until:
        done = sum(int(node.info("stats")["total_commands_processed"]) for node in nodes)
        samples.append((time.monotonic(), done))
        time.sleep(SAMPLE_S)
    samples = samples[len(samples) // 5 : -1] or samples
    (first, before), (last, after) = samples[0], samples[-1]
    return (after - before) / max(last - first, SAMPLE_S)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--requests", type=int, default=400_000, help="per row; a quarter of it without pipelines")
    parser.add_argument("--rounds", type=int, default=1, help="the medians of so many are printed, the worst of waits")
    options = parser.parse_args()
    if shutil.which("redis-benchmark") is None:
        sys.exit("bench: redis-benchmark is not installed (apt install redis-tools)")
    with cluster(3) as members:
        ports = [members.ports[name] for name in members.names]
        throughs = {
            "one node, SET": [(ports[0], "set")],
            "all, SET GET INCR": list(zip(ports, ("set", "get", "incr"), strict=True)),
        }
        seen: dict[tuple[str, int, int], list[Row]] = {}
        for _ in range(options.rounds):
            for (through, doors), (clients, pipeline) in itertools.product(throughs.items(), LOADS):
                requests = max(options.requests // (1 if pipeline > 1 else 4), FILLS * clients * pipeline)
                row = measure(members, doors, clients, pipeline, requests)
                seen.setdefault((through, clients, pipeline), []).append(row)
    print("| through | connections | in flight each | goodput /s | of the best | p99 ms | gentle p99 ms | ", end="")
    print("longest ms | failed |\n" + "|---" + "|---:" * 8 + "|")
    for (through, clients, pipeline), rows in seen.items():
        bests = [
            max(others[number].goodput for key, others in seen.items() if key[0] == through)
            for number in range(len(rows))
        ]
        of_best = statistics.median(row.goodput / best for row, best in zip(rows, bests, strict=True))
        middle = [statistics.median(values) for values in zip(*map(astuple, rows), strict=True)]
        print(
            f"| {through} | {clients} | {pipeline} | {middle[0]:,.0f} | {of_best:.2f} | {middle[1]:,.0f} | "
            f"{middle[2]:,.0f} | {max(row.longest for row in rows):,.0f} | {sum(row.failed for row in rows)} |"
        )


if __name__ == "__main__":
    main()
