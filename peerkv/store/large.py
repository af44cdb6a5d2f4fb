"""Work on all cells of a slot too large for one turn, bit by bit while the slot goes on changing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from struct import Struct
from typing import Final

from peerkv.store.cell import Cell

LARGE_FROM: Final = 16_384
"""Cells of a slot from which on it is large; fewer are digested, or sorted by version, in one go (15 ms)."""
STEP_CELLS: Final = 8192
"""Cells looked at at a time: 8 ms."""

_entry_head = Struct(">QI").pack


def digest_entry(key: bytes, version: int) -> int:
    """What a key with a value contributes to the digest of its slot."""
    return int.from_bytes(blake2b(_entry_head(version, len(key)) + key, digest_size=8).digest(), "big")


def digest_of(cells: dict[bytes, Cell]) -> int:
    """64 bits over the (key, version) of every cell with a value; tombstones are purged at different moments."""
    total = 0
    for key, cell in cells.items():
        if cell[1] is not None:
            total ^= digest_entry(key, cell[0])
    return total


def newer_than(cells: dict[bytes, Cell], position: int) -> list[tuple[int, bytes]]:
    """(version, key) of every cell written after `position`, oldest first."""
    return sorted((cell[0], key) for key, cell in cells.items() if cell[0] > position)


class Digesting:
    """The digest of a slot as it was at a position, and at the end as it is."""

    __slots__ = ("_at", "_keys", "_position", "_total", "_values", "cells")

    def __init__(self, cells: dict[bytes, Cell], position: int) -> None:
        self.cells = cells
        """Of the slot; another dict is another history."""
        self._position = position
        self._keys = list(cells)
        self._values = list(cells.values())
        self._at = 0
        self._total = 0

    def step(self, position: int) -> int | None:
        """Go on a bit; the digest of the cells as they are now, at this position, once all have been looked at."""
        upto = self._at + STEP_CELLS
        total = self._total
        for key, cell in zip(self._keys[self._at : upto], self._values[self._at : upto], strict=True):
            if cell[1] is not None:
                total ^= digest_entry(key, cell[0])
        self._at, self._total = upto, total
        if upto < len(self._keys):
            return None
        if position != self._position:
            cells = self.cells
            for version, key in newer_than(cells, self._position):
                if cells[key][1] is not None:
                    total ^= digest_entry(key, version)
            for key, former in zip(self._keys, self._values, strict=True):
                if former[1] is not None and cells.get(key) is not former:  # written again, or removed
                    total ^= digest_entry(key, former[0])
        return total


class Newer:
    """The cells of a slot that were written after `since`, up to the position at which this was begun, oldest first."""

    __slots__ = ("_at", "_keys", "_merged", "_next", "_runs", "_since", "upto")

    def __init__(self, cells: dict[bytes, Cell], since: int, upto: int) -> None:
        self._keys = list(cells)
        self._at = 0
        self._since = since
        self.upto = upto
        self._runs: list[list[tuple[int, bytes]]] = []
        self._merged: Iterator[tuple[int, bytes]] = iter(())
        self._next: tuple[int, bytes] | None = None

    def sorted_further(self, cells: dict[bytes, Cell]) -> bool:
        """Look at some more cells; whether all are sorted."""
        if self._at < len(self._keys):
            run: list[tuple[int, bytes]] = []
            for key in islice(self._keys, self._at, self._at + STEP_CELLS):
                cell = cells.get(key)
                if cell is not None and self._since < cell[0] <= self.upto:
                    run.append((cell[0], key))
            self._runs.append(sorted(run))
            self._at += STEP_CELLS
            if self._at < len(self._keys):
                return False
            self._merged = heapq.merge(*self._runs)
            self._next = next(self._merged, None)
        return True

    @property
    def first(self) -> tuple[int, bytes] | None:
        """(version, key) of the next one; None: there is no more. It may have been written again since."""
        return self._next

    def take(self) -> None:
        """Go on to the one behind it."""
        self._next = next(self._merged, None)
