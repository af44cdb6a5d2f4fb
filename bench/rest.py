"""`python -m bench.rest`: what a cluster that has nothing to do costs: packets and processor time of each node.

Packets are those of the loopback interface, so nothing else may use it meanwhile. Under `unshare -rn` nothing does; the
interface is brought up then (`ip link set lo up`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench import processes

REST_S = 20.0
SETTLE_S = 30.0
"""Rounds of looking after slots that follow a birth."""


def packets() -> int:
    """Packets that the loopback interface has carried."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    counts = next(line for line in lines if line.strip().startswith("lo:")).split(":")[1].split()
    return int(counts[1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rest", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[3, 10, 30])
    options = parser.parse_args()
    processes.READY_WITHIN_S = 300.0
    print("| nodes | packets/s a node | of a core, a node |\n|---:|---:|---:|")
    for size in options.sizes:
        with processes.cluster(size) as members:
            time.sleep(SETTLE_S)
            nodes = [process.pid for process in members.processes.values()]
            began, before, used = time.monotonic(), packets(), sum(map(processes.processor_s, nodes))
            time.sleep(REST_S)
            rested = time.monotonic() - began
            sent = (packets() - before) / rested / len(nodes)
            busy = (sum(map(processes.processor_s, nodes)) - used) / rested / len(nodes)
            print(f"| {size} | {sent:.0f} | {100 * busy:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
