"""`python -m bench.shares`: how evenly slots spread over equal nodes, and how much a join or a leave moves."""

from __future__ import annotations

from collections import Counter

from peerkv.ring.keys import SLOTS
from peerkv.ring.placement import Place, owners

REPLICAS = 3
SIZES = (3, 4, 5, 6, 8, 10, 16, 25, 50)


def main() -> None:
    print(f"{SLOTS} slots, {REPLICAS} copies of each; deviations from the mean, in percent\n")
    print(
        "| nodes | copies per node | homes per node | a join moves | of what must move | a leave moves | of what must |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for size in SIZES:
        before = owners(_places(size), REPLICAS)
        after = owners(_places(size + 1), REPLICAS)
        copies = Counter(member for row in before for member in row)
        homes = Counter(row[0] for row in before)
        moved = sum(len(set(new) - set(old)) for old, new in zip(before, after, strict=True))
        left = sum(len(set(old) - set(new)) for old, new in zip(before, after, strict=True))
        copied = min(REPLICAS, size)
        must = SLOTS * min(REPLICAS, size + 1) / (size + 1)
        print(
            f"| {size} | {_worst(copies, SLOTS * copied / size):.1f} | {_worst(homes, SLOTS / size):.1f} "
            f"| {moved} copies | {moved / must:.2f} | {left} copies | {left / must:.2f} |"
        )


def _places(count: int) -> list[Place]:
    return [Place(f"db{number}") for number in range(1, count + 1)]


def _worst(counts: Counter[int], mean: float) -> float:
    return 100 * max(abs(count - mean) for count in counts.values()) / mean


main()
