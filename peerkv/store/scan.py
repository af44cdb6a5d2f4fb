"""The order in which keys of a slot and elements of a collection are listed, and an index of what is too large to be
looked at for every page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

ORDER_BITS: Final = 30
INDEX_FROM: Final = 1024
"""Keys from which on they are listed by an index: without one a page takes 1 us a key."""
BUILD_KEYS: Final = 4096
"""Keys that are put into an index at a time: 5 ms."""
BUCKET_KEYS: Final = 32
OUTGROWN: Final = 16
"""Times as many keys in a bucket: 0.5 ms a page."""
IDLE_MAX: Final = 60
"""An index that nobody has asked for so long is dropped, in rounds of `Copies.age_indexes`."""


def scan_order(key: bytes) -> int:
    """Where a key stands in a scan: 30 bits of a hash, 1 or more, the same on every owner."""
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
    """A large dict's keys in buckets of neighbouring orders, built bit by bit.

    Who writes the dict need not know of it: keys that are new stand at its end. Only what is about to be removed must
    be told; it stays in the buckets, and a page is checked against the dict.
    """

    __slots__ = ("_buckets", "_known", "_placed", "_removed", "_shift", "_to_place", "idle")

    def __init__(self, keys: dict[bytes, Any]) -> None:
        bits = max(1, (len(keys) // BUCKET_KEYS).bit_length())
        self._shift = ORDER_BITS - bits
        self._buckets: list[list[bytes]] = [[] for _ in range((1 << bits) + 1)]
        self._known = 0
        """So many of the dict's keys, the first ones, are in buckets or about to be."""
        self._to_place: list[bytes] = []
        self._placed = 0
        """How many of those are in buckets."""
        self._removed = 0
        self.idle = 0

    def _note_new(self, keys: dict[bytes, Any]) -> None:
        new = len(keys) - self._known
        if new:
            self._to_place += reversed(list(islice(reversed(keys), new)))
            self._known = len(keys)

    def built(self, keys: dict[bytes, Any]) -> bool:
        """Build on; whether all keys are in it."""
        self.idle = 0
        self._note_new(keys)
        upto = min(len(self._to_place), self._placed + BUILD_KEYS)
        for key in islice(self._to_place, self._placed, upto):
            self._buckets[scan_order(key) >> self._shift].append(key)
        self._placed = upto
        if upto < len(self._to_place):
            return False
        self._to_place = []
        self._placed = 0
        return True

    def outgrown(self, keys: dict[bytes, Any]) -> bool:
        """Whether the buckets have become so long that another index is better."""
        return len(keys) > OUTGROWN * BUCKET_KEYS * len(self._buckets)

    def about_to_remove(self, keys: dict[bytes, Any], count: int) -> bool:
        """So many keys that are in the dict now will not be; False: the index is of no use any more."""
        self._note_new(keys)
        self._known -= count
        self._removed += count
        return self._removed <= self._known + INDEX_FROM

    def page(self, is_there: Callable[[bytes], bool], start: int, count: int) -> tuple[list[bytes], int]:
        """As `page_of`, of the keys that are there."""
        page: list[bytes] = []
        for number in range(start >> self._shift, len(self._buckets)):
            keys, resume = page_of(set(filter(is_there, self._buckets[number])), start, count - len(page))
            page += keys
            if resume:
                return page, resume
            if len(page) >= count and number + 1 < len(self._buckets):
                return page, (number + 1) << self._shift
        return page, 0
