"""`python -m bench.turns`: how long a command on a collection of 100,000 elements keeps a node, run and applied."""

from __future__ import annotations

import argparse
import gc
import random
from statistics import median
from time import perf_counter
from typing import Final

from peerkv.commands.table import CHANCE_BYTES, find
from peerkv.kernel.slot import Copies, Slot
from peerkv.shell.process import GC_THRESHOLDS

ELEMENTS: Final = 100_000
TURNS: Final = 9
"""Of each command; the median, and the longest."""
CASES: Final = (
    ("LPUSH l el1", "1"),
    ("RPOP l", "1"),
    ("LINDEX l ?", "n"),
    ("LRANGE l 50000 50009", "n"),
    ("LSET l ? el1", "n"),
    ("LINSERT l BEFORE el50000 new", "n"),
    ("LREM l 1 el?", "n"),
    ("LPOS l none", "n"),
    ("ZADD z ? new", "log n"),
    ("ZINCRBY z 1 el?", "log n"),
    ("ZREM z el?", "log n"),
    ("ZRANK z el?", "log n"),
    ("ZRANGE z 50000 50009", "log n"),
    ("ZCOUNT z 100 900000", "log n"),
    ("ZRANDMEMBER z 10", "1"),
    ("ZPOPMIN z", "log n"),
    ("ZSCAN z 0", "1"),
    ("ZINTERCARD 2 z y", "n"),
    ("ZREMRANGEBYRANK z 40000 41000", "log n + 1,000"),
    ("GEOADD g 10 50 new", "log n"),
    ("GEOSEARCH g FROMLONLAT 10 50 BYRADIUS 1000 km COUNT 10", "n"),
    ("GEOSEARCH g FROMLONLAT 10 50 BYRADIUS 1000 km COUNT 10 DESC", "n"),
)
"""A command, `?` some number, and Redis's O()."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.turns", description=__doc__)
    parser.parse_args()
    rng = random.Random(1)
    slot = _filled(rng)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for line, order in CASES:
        turns = sorted([_turn(slot, rng, line) for _ in range(TURNS)])
        print(f"{line:64}O({order}){median(turns) * 1000:{24 - len(order)}.3f} ms{turns[-1] * 1000:9.3f}", flush=True)


def _filled(rng: random.Random) -> Slot:
    slot = Copies(1).add(0)
    elements = [b"el%d" % number for number in range(ELEMENTS)]
    _run(slot, rng, [b"RPUSH", b"l", *elements])
    for key in (b"z", b"y"):
        scores = [b"%d" % rng.randrange(1_000_000) for _ in elements]
        _run(slot, rng, [b"ZADD", key, *[word for pair in zip(scores, elements, strict=True) for word in pair]])
    places = [(b"%f" % rng.gauss(10, 5), b"%f" % rng.gauss(50, 5), element) for element in elements]
    _run(slot, rng, [b"GEOADD", b"g", *[word for place in places for word in place]])
    return slot


def _turn(slot: Slot, rng: random.Random, line: str) -> float:
    number = b"%d" % rng.randrange(ELEMENTS)
    return _run(slot, rng, [word.replace(b"?", number) for word in line.encode().split()])


def _run(slot: Slot, rng: random.Random, request: list[bytes]) -> float:
    """Seconds."""
    row = find(request[0])
    assert row is not None
    assert row.run is not None
    if row.chance:
        request = [*request, rng.randbytes(CHANCE_BYTES)]
    began = perf_counter()
    changes, _ = row.run(slot.cells, request, 1)
    if changes:
        slot.apply(slot.position + 1, changes)
    return perf_counter() - began


if __name__ == "__main__":
    main()
