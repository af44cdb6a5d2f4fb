"""What is due: deadlines of the slots that a node is home of. Cells stay the truth; this only says where to look."""

from __future__ import annotations

import heapq


class Expiry:
    """A heap of (deadline, slot, key). Nothing is ever taken out early: an entry may be out of date when it is due."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, bytes]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: int, slot: int, key: bytes) -> None:
        heapq.heappush(self._heap, (deadline, slot, key))

    @property
    def next_deadline(self) -> int | None:
        """Cluster milliseconds of the earliest entry."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: int, count: int) -> list[tuple[int, int, bytes]]:
        """Take up to `count` entries whose deadline has passed."""
        heap = self._heap
        taken: list[tuple[int, int, bytes]] = []
        while heap and heap[0][0] <= now and len(taken) < count:
            taken.append(heapq.heappop(heap))
        return taken
