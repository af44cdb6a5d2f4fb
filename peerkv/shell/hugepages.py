"""Puts this process's memory on huge pages, a little at a time.

A request touches a dozen objects that lie anywhere in memory. On pages of 4 KiB nearly each of them first costs a walk
through the page table; on pages of 2 MiB the processor knows where they are. Linux gives such pages only to those who
ask, and Python's allocator does not. Where the kernel cannot (before 6.1, or no Linux at all) nothing happens.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from bisect import bisect_left
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

HUGE: Final = 1 << 21
PER_STEP: Final = 1
"""Huge pages made in one step. One can hold whoever touches that memory for 5 ms; eight in a row were seen at p99."""
LOOKS: Final = 256
"""Places looked at in one step: 3 ms."""
REFUSALS_MAX: Final = 8
"""After so many, and no success ever, the kernel is taken at its word."""
RESIDENT: Final = 0.9
"""Of what becomes a huge page so much must be in use: the rest would be memory for nothing."""

_MADV_COLLAPSE: Final = 25
_MAPS: Final = Path("/proc/self/maps")


class HugePages:
    """What has been put on huge pages so far."""

    def __init__(self) -> None:
        self._made: set[int] = set()
        """Addresses; those that the kernel would not have are among them."""
        self._looked_upto = 0
        """The address where the next step goes on."""
        self._succeeded = False
        self._refusals = 0
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" and _MAPS.exists() else None
        self._resident = ctypes.create_string_buffer(HUGE // mmap.PAGESIZE)

    def step(self) -> int:
        """Make some more; how many were made. Takes some milliseconds, nearly all of them in the kernel and without
        Python's lock: to be called in a thread of its own."""
        libc = self._libc
        if libc is None:
            return 0
        everything = list(_anonymous())
        self._made.intersection_update(everything)
        candidates = [address for address in everything if address not in self._made]
        first = bisect_left(candidates, self._looked_upto)
        wanted: list[int] = []
        for address in (candidates[first:] + candidates[:first])[:LOOKS]:
            self._looked_upto = address + HUGE
            if self._is_full(libc, address):
                wanted.append(address)
                if len(wanted) == PER_STEP:
                    break
        made = 0
        for start, count in _runs(sorted(wanted)):
            if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(count * HUGE), _MADV_COLLAPSE) == 0:
                self._succeeded = True
                made += count
            else:
                self._refusals += 1
        self._made.update(wanted)
        if self._refusals >= REFUSALS_MAX and not self._succeeded:
            self._libc = None
        return made

    def _is_full(self, libc: ctypes.CDLL, address: int) -> bool:
        known = libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(HUGE), self._resident) == 0
        return known and self._resident.raw.count(b"\1") >= RESIDENT * len(self._resident)


def _runs(addresses: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbours together: (first, how many). The kernel takes its time per call."""
    for _, group in groupby(enumerate(addresses), lambda entry: entry[1] - entry[0] * HUGE):
        run = [address for _, address in group]
        yield run[0], len(run)


def _anonymous() -> Iterator[int]:
    """Where a huge page would fit into the writable memory that belongs to no file."""
    for line in _MAPS.read_text().splitlines():
        span, rights, _, _, inode, *path = line.split(maxsplit=5)
        if not rights.startswith("rw-p") or inode != "0" or (path and path[0] != "[heap]"):
            continue
        start, end = (int(address, 16) for address in span.split("-"))
        yield from range((start + HUGE - 1) // HUGE * HUGE, end // HUGE * HUGE, HUGE)
