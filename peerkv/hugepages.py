"""Puts this process's memory on huge pages, a little at a time.

A request touches a dozen objects that lie anywhere in memory. On pages of 4 KiB nearly each of them first costs a walk
through the page table; on pages of 2 MiB the processor knows where they are. Linux gives such pages only to those who
ask, and Python's allocator does not. Where the kernel cannot (before 6.1, or no Linux at all) nothing happens.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Final

HUGE: Final = 1 << 21
PER_STEP: Final = 8
"""Huge pages made in one step."""
RESIDENT: Final = 0.9
"""Of what becomes a huge page so much must be in use: the rest would be memory for nothing."""

_MADV_COLLAPSE: Final = 25
_MAPS: Final = Path("/proc/self/maps")


class HugePages:
    """What has been put on huge pages so far."""

    def __init__(self) -> None:
        self._made: set[int] = set()
        """Addresses."""
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" and _MAPS.exists() else None
        self._resident = ctypes.create_string_buffer(HUGE // mmap.PAGESIZE)

    def step(self) -> int:
        """Make some more; how many were made. Takes some milliseconds, nearly all of them in the kernel and without
        Python's lock: to be called in a thread of its own."""
        libc = self._libc
        if libc is None:
            return 0
        candidates = list(_anonymous())
        self._made.intersection_update(candidates)
        wanted = (address for address in candidates if address not in self._made and self._is_full(libc, address))
        made = list(islice(wanted, PER_STEP))
        for start, count in _runs(made):
            if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(count * HUGE), _MADV_COLLAPSE) != 0:
                self._libc = None  # the kernel does not know how, or has no huge page left
                return 0
        self._made.update(made)
        return len(made)

    def _is_full(self, libc: ctypes.CDLL, address: int) -> bool:
        known = libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(HUGE), self._resident) == 0
        return known and sum(page & 1 for page in self._resident.raw) >= RESIDENT * len(self._resident)


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
