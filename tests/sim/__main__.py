"""`python -m tests.sim`: many seeds, in parallel; a failing one is printed with the command that replays it."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from typing import NoReturn

from tests.sim.burst import Burst, run_burst
from tests.sim.loss import run_loss
from tests.sim.scenario import Result, run_seed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="between seeds: every third has blocking pops, ...")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=60.0, help="virtual seconds under load and faults")
    parser.add_argument(
        "--slots",
        type=int,
        default=1024,
        help="slots of the cluster; the 16384 that ship take most of a seed's time",
    )
    parser.add_argument("--burst", action="store_true", help="bursts on a healthy cluster whose turns take time")
    parser.add_argument("--loss", action="store_true", help="any number of nodes is killed and restarted empty")
    parser.add_argument("--transactions", action="store_true", help="all clients ask for transactions, on few keys")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    if options.slots not in (1 << bits for bits in range(8, 15)):
        parser.error("--slots: a power of two from 256 to 16384")
    seeds = range(options.first, options.first + options.seeds * options.step, options.step)
    if options.burst:
        _bursts(seeds, options.jobs, options.slots, options.trace)
    began = time.monotonic()
    failed = operations = unknown = gave_up = transactions = aborted = waits = told = kept = outdated = done = 0
    work = [(seed, options.seconds, options.slots, options.trace, options.loss, options.transactions) for seed in seeds]
    with multiprocessing.Pool(1 if options.trace else options.jobs) as pool:
        for result in pool.imap_unordered(_run, work):
            done += 1
            operations += result.operations
            unknown += result.unknown
            gave_up += result.gave_up
            transactions += result.transactions
            aborted += result.aborted
            waits += result.waits
            told += result.told
            kept += result.kept
            outdated += result.outdated
            if result.problems:
                failed += 1
                print(f"seed {result.seed}: {len(result.problems)} problems, the first ones:")
                for problem in result.problems[:4]:
                    print(f"    {problem}")
                again = "--loss " * options.loss + "--transactions " * options.transactions
                again += (
                    f"--first {result.seed} --seeds 1 --slots {options.slots} --seconds {options.seconds:g} --trace"
                )
                print(f"    replay: python -m tests.sim {again}", flush=True)
            if done % 50 == 0:
                print(f"{done} seeds, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"{done} seeds of {options.seconds:g} virtual seconds with {options.slots} slots"
        f" in {time.monotonic() - began:.0f} s: {failed} failed;"
        f" {operations} operations, {unknown} of unknown outcome, {gave_up} histories too wide to judge;"
        f" {transactions} transactions, {aborted} aborted, {waits} waits, {told} changes to be told,"
        f" {kept + outdated} looks at what clients keep, {outdated} of them at what was another by then"
    )
    sys.exit(1 if failed else 0)


def _bursts(seeds: range, jobs: int, slots: int, tracing: bool) -> NoReturn:
    failed = 0
    with multiprocessing.Pool(1 if tracing else jobs) as pool:
        for burst in pool.imap(_run_burst, [(seed, slots, tracing) for seed in seeds]):
            print(burst, flush=True)
            for problem in burst.problems[:4]:
                print(f"    {problem}")
            failed += bool(burst.problems)
    print(f"{len(seeds)} bursts: {failed} failed")
    sys.exit(1 if failed else 0)


def _run_burst(work: tuple[int, int, bool]) -> Burst:
    seed, slots, tracing = work
    return run_burst(seed, slots, tracing=tracing)


def _run(work: tuple[int, float, int, bool, bool, bool]) -> Result:
    seed, seconds, slots, tracing, losing, crowded = work
    try:
        if losing:
            return run_loss(seed, seconds, slots, tracing=tracing)
        return run_seed(seed, seconds, slots, tracing=tracing, crowded=crowded)
    except Exception:
        return Result(seed, problems=[traceback.format_exc()])


if __name__ == "__main__":
    main()
