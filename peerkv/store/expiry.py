"""What is due: deadlines of the slots that a node is home of. Cells stay the truth; this only says where to look."""

from __future__ import annotations

import heapq
from typing import Final

SPAN_BITS: Final = 6
"""Deadlines within 64 ms of each other are due together, once the last of them has passed."""
SPANS_LEAST: Final = 64


class Expiry:
    """The deadline of each key that has one, and by spans of time the keys whose deadlines are in them.

    One entry a key, however often its deadline is changed: it leaves the span of the old one. What is left in a span of
    slots that were handed over goes when the span is due.
    """

    def __init__(self) -> None:
        self._of_slot: dict[int, dict[bytes, int]] = {}
        """Per slot: key -> deadline."""
        self._count = 0
        self._spans: dict[int, dict[bytes, int]] = {}
        """Per span: key -> slot. None is empty."""
        self._order: list[int] = []
        """A heap of spans; of some that are no more, too."""

    def __len__(self) -> int:
        """Keys that have a deadline."""
        return self._count

    def has(self, slot: int) -> bool:
        """Whether a key of that slot has one."""
        return bool(self._of_slot.get(slot))

    @property
    def entries(self) -> int:
        """What is kept for that."""
        return sum(map(len, self._spans.values())) + len(self._order)

    def add(self, deadline: int, slot: int, key: bytes) -> None:
        """A key has this deadline now."""
        keys = self._of_slot.get(slot)
        if keys is None:
            keys = self._of_slot[slot] = {}
        known = keys.get(key)
        if known == deadline:
            return
        if known is None:
            self._count += 1
        else:
            self._leave(known, key)
        keys[key] = deadline
        number = deadline >> SPAN_BITS
        span = self._spans.get(number)
        if span is None:
            span = self._spans[number] = {}
            heapq.heappush(self._order, number)
        span[key] = slot

    def discard(self, slot: int, key: bytes) -> None:
        """A key has none any more."""
        known = self._of_slot.get(slot, {}).pop(key, None)
        if known is not None:
            self._count -= 1
            self._leave(known, key)

    def forget(self, slot: int) -> None:
        """Another node looks after that slot."""
        self._count -= len(self._of_slot.pop(slot, ()))

    def _leave(self, deadline: int, key: bytes) -> None:
        number = deadline >> SPAN_BITS
        span = self._spans.get(number)
        if span is None:
            return
        span.pop(key, None)
        if not span:
            del self._spans[number]
            if len(self._order) > 2 * len(self._spans) + SPANS_LEAST:
                self._order = sorted(self._spans)

    @property
    def next_deadline(self) -> int | None:
        """Cluster milliseconds at which something is due."""
        order = self._order
        while order and order[0] not in self._spans:
            heapq.heappop(order)
        return (order[0] + 1) << SPAN_BITS if order else None

    def due(self, now: int, count: int) -> list[tuple[int, bytes]]:
        """Take up to `count` keys whose deadline has passed: (slot, key)."""
        taken: list[tuple[int, bytes]] = []
        while len(taken) < count:
            first = self.next_deadline
            if first is None or first > now:
                break
            number = self._order[0]
            span = self._spans[number]
            key, slot = span.popitem()
            if not span:
                del self._spans[number]
            keys = self._of_slot.get(slot, {})
            if keys.get(key, -1) >> SPAN_BITS == number:
                del keys[key]
                self._count -= 1
                taken.append((slot, key))
        return taken
