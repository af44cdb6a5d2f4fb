"""`python -m bench.elements`: bytes per element of collections, beside those that redis-server says (MEMORY USAGE)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from bench.processes import ask, redis, resident
from peerkv.commands.table import find
from peerkv.kernel.slot import Copies

KINDS: Final[dict[str, tuple[bytes, Callable[[int], list[bytes]]]]] = {
    "list of 10 bytes": (b"RPUSH", lambda number: [b"el%08d" % number]),
    "set of 10 bytes": (b"SADD", lambda number: [b"el%08d" % number]),
    "set of integers": (b"SADD", lambda number: [b"%d" % (1_000_000 + number)]),
    "sorted set of 10 bytes": (b"ZADD", lambda number: [b"%d" % number, b"el%08d" % number]),
    "hash, 10 and 10 bytes": (b"HSET", lambda number: [b"fi%08d" % number, b"va%08d" % number]),
    "stream, a field of 10 bytes": (
        b"XADD",
        lambda number: [b"%d-0" % (MILLISECONDS + 7 * number), b"field", b"va%08d" % number],
    ),
}
"""A command that adds elements, and what it takes of each."""
MILLISECONDS: Final = 1_700_000_000_000
ONE_EACH: Final = frozenset((b"XADD",))
"""They add one."""
ADD_SEVERAL: Final = "for at = 1, #ARGV, 3 do redis.call('XADD', KEYS[1], ARGV[at], ARGV[at + 1], ARGV[at + 2]) end"
SIZES: Final = (100, 100_000)
ELEMENTS: Final = 1_000_000
"""So many in all are measured: more than what a process takes for itself meanwhile."""
BATCH: Final = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.elements", description=__doc__)
    parser.add_argument("--only", default="", help="kinds whose names begin so")
    only = parser.parse_args().only
    print(f"{'':24}" + "".join(f"{f'{size:,}: redis':>16}{'peerkv':>8}" for size in SIZES))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool, redis() as port:
        for kind in [kind for kind in KINDS if kind.startswith(only)]:
            line = f"{kind:24}"
            for size in SIZES:
                line += f"{_theirs(port, kind, size):16.1f}{pool.submit(_ours, kind, size).result():8.1f}"
            print(line, flush=True)


def _requests(kind: str, key: bytes, size: int) -> Iterator[list[bytes]]:
    name, words = KINDS[kind]
    for first in range(0, size, BATCH):
        numbers = range(first, min(first + BATCH, size))
        yield [name, key, *(word for number in numbers for word in words(number))]


def _theirs(port: int, kind: str, size: int) -> float:
    for request in _requests(kind, b"key:000000000001", size):
        if request[0] in ONE_EACH:
            request = [b"EVAL", ADD_SEVERAL.encode(), b"1", *request[1:]]
        ask(port, *[word.decode() for word in request])
    usage = ask(port, "MEMORY", "USAGE", "key:000000000001", "SAMPLES", "0")
    ask(port, "FLUSHALL")
    return int(usage[1:]) / size


def _ours(kind: str, size: int) -> float:
    slot = Copies(1).add(0)
    row = find(KINDS[kind][0])
    assert row is not None
    assert row.run is not None
    before = resident(os.getpid())
    for number in range(ELEMENTS // size):
        for request in _requests(kind, b"key:%012d" % number, size):
            words = [bytes(bytearray(word)) for word in request]
            each = 3 if words[0] in ONE_EACH else len(words)
            for at in range(2, len(words), each):
                changes, _ = row.run(slot.cells, [*words[:2], *words[at : at + each]], 0)
                slot.apply(slot.position + 1, changes)
    return (resident(os.getpid()) - before) / ELEMENTS


if __name__ == "__main__":
    main()
