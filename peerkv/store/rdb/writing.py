"""How lengths and strings are written in Redis's serialisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final


def length_of(count: int) -> bytes:
    """A length of 64 bits at most, as it stands before what is so long."""
    if count < 0x40:
        return bytes((count,))
    if count < 0x4000:
        return bytes((0x40 | count >> 8, count & 0xFF))
    if count < 1 << 32:
        return b"\x80" + count.to_bytes(4)
    return b"\x81" + count.to_bytes(8)


_LENGTHS: Final = list(map(length_of, range(0x4000)))


def lengths_of(strings: Iterable[bytes]) -> list[bytes]:
    """Those of strings."""
    return [_LENGTHS[count] if count < 0x4000 else length_of(count) for count in map(len, strings)]


def each_of(*columns: Sequence[bytes]) -> bytes:
    """Rows of strings: the first of every column, then the second, ..."""
    pieces: list[Iterable[bytes]] = []
    for column in columns:
        pieces += (lengths_of(column), column)
    return b"".join(chain.from_iterable(zip(*pieces, strict=True)))
