"""Short byte strings in a row: their lengths, a byte each, and their text in one piece, as small as it gets.

A Python object takes 33 bytes and what it holds, rounded up to 16, and 8 for who refers to it; a string in a row takes
one. A row is never changed: what is made of it is another one, so who holds one holds it for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, TypeAlias

SHORT_MAX: Final = 255
"""Bytes of a string that may stand in a row."""
ROW_ITEMS: Final = 128
ROW_BYTES: Final = 4096
"""A row is copied whenever it grows: such a one in 0.1 us."""

Row: TypeAlias = tuple[bytes, bytes]
"""(lengths, text)"""

LENGTHS: Final = [bytes((length,)) for length in range(SHORT_MAX + 1)]


@lru_cache(maxsize=64)
def _layout(lengths: bytes) -> Struct:
    """How strings of such lengths stand in a row. What is of one kind is often of one length: a row of 100 strings is
    read in 1.4 us if its layout is known, else in 12."""
    return Struct("s".join(map(str, lengths)) + "s")


def row_of(items: Sequence[bytes]) -> Row:
    """Short strings in a row. Raises ValueError if one is too long."""
    return bytes(map(len, items)), b"".join(items)


def strings(row: Row) -> Sequence[bytes]:
    """All of a row."""
    lengths, text = row
    return _layout(lengths).unpack(text) if lengths else ()


def strings_between(row: Row, start: int, stop: int) -> Sequence[bytes]:
    """Some neighbours of a row."""
    lengths, text = row
    between = lengths[start:stop]
    return _layout(between).unpack_from(text, sum(lengths[:start])) if between else ()


def string_at(row: Row, index: int) -> bytes:
    """One of a row."""
    lengths, text = row
    begin = sum(lengths[:index])
    return text[begin : begin + lengths[index]]


def may_hold(row: Row, item: bytes) -> bool:
    """False: no string of the row is this one. Takes a tenth of the time of looking at each of them."""
    return len(item) <= SHORT_MAX and len(item) in row[0] and item in row[1]


def memory_of(row: Row) -> int:
    """Bytes of a row's objects."""
    return 56 + 33 + len(row[0]) + 33 + len(row[1])
