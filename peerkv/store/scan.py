"""The order in which a slot's keys are listed, and an index of slots too large to be looked at for every page."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice
from typing import Final

from peerkv.store.cell import Cell

ORDER_BITS: Final = 30
INDEX_FROM: Final = 1024
"""Keys of a slot from which on it is listed by an index: without one a page takes 1 us a key."""
BUILD_KEYS: Final = 4096
"""Keys that are put into an index at a time: 5 ms."""
BUCKET_KEYS: Final = 32
IDLE_MAX: Final = 60
"""An index that nobody has asked for so long is dropped, in rounds of `Copies.age_indexes`."""


def scan_order(key: bytes) -> int:
    """Where a key stands in a scan of its slot: 30 bits of a hash, 1 or more, the same on every owner."""
    return (int.from_bytes(blake2b(key, digest_size=4).digest(), "big") >> 2) + 1


def page_of(keys: Iterable[bytes], start: int, count: int) -> tuple[list[bytes], int]:
    """Up to `count` of these keys in the order of `scan_order`, from `start` on; and where to go on (0: no more).

    Keys of equal order stay together, so that going on never skips one.
    """
    ordered = sorted((order, key) for key in keys if (order := scan_order(key)) >= start)
    if len(ordered) <= count:
        return [key for _, key in ordered], 0
    last = ordered[count - 1][0]
    page = [key for order, key in ordered if order <= last]
    return page, last + 1 if len(page) < len(ordered) else 0


class ScanIndex:
    """A slot's keys in buckets of neighbouring orders, built bit by bit.

    Who writes a slot need not know of it: keys that are new stand at the end of the slot's cells. Only what is
    about to be removed must be told; it stays in the buckets, and a page is checked against the cells.
    """

    __slots__ = ("_buckets", "_known", "_placed", "_removed", "_shift", "_to_place", "idle")

    def __init__(self, cells: dict[bytes, Cell]) -> None:
        bits = max(1, (len(cells) // BUCKET_KEYS).bit_length())
        self._shift = ORDER_BITS - bits
        self._buckets: list[list[bytes]] = [[] for _ in range((1 << bits) + 1)]
        self._known = 0
        """So many of the cells, the first ones, are in buckets or about to be."""
        self._to_place: list[bytes] = []
        self._placed = 0
        """How many of those are in buckets."""
        self._removed = 0
        self.idle = 0

    def _note_new(self, cells: dict[bytes, Cell]) -> None:
        new = len(cells) - self._known
        if new:
            self._to_place += reversed(list(islice(reversed(cells), new)))
            self._known = len(cells)

    def built(self, cells: dict[bytes, Cell]) -> bool:
        """Build on; whether all keys are in it."""
        self.idle = 0
        self._note_new(cells)
        upto = min(len(self._to_place), self._placed + BUILD_KEYS)
        for key in islice(self._to_place, self._placed, upto):
            self._buckets[scan_order(key) >> self._shift].append(key)
        self._placed = upto
        if upto < len(self._to_place):
            return False
        self._to_place = []
        self._placed = 0
        return True

    def about_to_remove(self, cells: dict[bytes, Cell], count: int) -> bool:
        """So many keys that are among the cells now will not be; False: the index is of no use any more."""
        self._note_new(cells)
        self._known -= count
        self._removed += count
        return self._removed <= self._known + INDEX_FROM

    def page(self, cells: dict[bytes, Cell], start: int, count: int) -> tuple[list[bytes], int]:
        """As `page_of`, of the cells with a value."""
        page: list[bytes] = []
        for number in range(start >> self._shift, len(self._buckets)):
            live = {key for key in self._buckets[number] if key in cells and cells[key][1] is not None}
            keys, resume = page_of(live, start, count - len(page))
            page += keys
            if resume:
                return page, resume
            if len(page) >= count and number + 1 < len(self._buckets):
                return page, (number + 1) << self._shift
        return page, 0
