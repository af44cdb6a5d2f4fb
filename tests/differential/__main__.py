"""`python -m tests.differential`: many sequences beside a real redis-server; what differs is shown, cut short."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator

from bench.processes import cluster
from bench.processes import redis as redis_server
from tests.differential.differences import OPTIONS, ORACLE
from tests.differential.sequences import LENGTH, Comparison, Difference, made, payloads_of, served, shortened
from tests.differential.servers import ByItself, InProcess, Server, Sockets

SIDES = ("alone", "cluster", "sockets")


@contextlib.contextmanager
def side(name: str) -> Iterator[Server]:
    """Our side of a comparison."""
    if name == "sockets":
        with cluster(3) as members:
            yield Sockets([members.ports[member] for member in members.names])
    else:
        yield ByItself() if name == "alone" else InProcess()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--length", type=int, default=LENGTH, help="requests of a sequence, about")
    parser.add_argument("--over", choices=(*SIDES, "all"), default="all", help="one node, three, or three by sockets")
    parser.add_argument("--only", nargs="*", default=(), help="commands and groups of commands")
    parser.add_argument("--differences", type=int, default=20, help="end after so many")
    options = parser.parse_args()
    names = SIDES if options.over == "all" else (options.over,)
    with contextlib.ExitStack() as stack:
        theirs = Sockets([stack.enter_context(redis_server(*OPTIONS))])
        theirs.connect()
        if ORACLE not in theirs.ask(0, b"INFO server\r\n", 1)[0][1]:
            sys.exit(f"redis-server is none of {ORACLE.decode()}: tests/differential/differences.py is about that one")
        payloads = payloads_of(theirs)
        comparisons = {name: Comparison(stack.enter_context(side(name)), theirs) for name in names}
        kinds: dict[tuple[str, str, str], int] = {}
        began = time.monotonic()
        for number in range(options.sequences):
            seed = options.first + number
            # By sockets it takes longer, and shows what a buffer's borders show: one in ten.
            chosen = names[number % len(names)] if len(names) < 3 else names[2 if number % 10 == 9 else number % 2]
            found = comparisons[chosen].run(made(seed, payloads, options.length, options.only))
            if found is not None:
                kinds[found.kind] = kinds.get(found.kind, 0) + 1
                if kinds[found.kind] == 1:
                    _show(shortened(comparisons[chosen], found), seed, chosen, options)
                if len(kinds) >= options.differences:
                    break
            if number % 500 == 499:
                print(
                    f"{number + 1} sequences, {sum(kinds.values())} differ, {time.monotonic() - began:.0f} s",
                    flush=True,
                )
        requests = sum([comparison.requests for comparison in comparisons.values()])
        asked = {name for comparison in comparisons.values() for name in comparison.names}
        print(
            f"{number + 1} sequences, {requests} requests, {time.monotonic() - began:.0f} s: {len(kinds)} differences"
        )
        for kind, count in kinds.items():
            print(f"    {count} times: {kind}")
        reasons: Counter[str] = sum([comparison.reasons for comparison in comparisons.values()], Counter())
        print("alike: " + ", ".join([f"{why} {count}" for why, count in reasons.most_common()]))
        print(f"never answered but by errors: {' '.join(sorted(served() - asked))}")
    sys.exit(1 if kinds else 0)


def _show(found: Difference, seed: int, over: str, options: argparse.Namespace) -> None:
    only = f" --only {' '.join(options.only)}" if options.only else ""
    print(found)
    print(
        f"    replay: python -m tests.differential --first {seed} --sequences 1 --over {over}"
        f" --length {options.length}{only}",
        flush=True,
    )


if __name__ == "__main__":
    main()
