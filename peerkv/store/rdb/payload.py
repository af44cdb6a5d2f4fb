"""Payloads of DUMP, and what they hold."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from math import inf, isnan
from typing import Any, Final, TypeAlias

from anycrc import CRC

from peerkv.store.rdb.compact import of_intset, of_listpack, of_ziplist, of_zipmap
from peerkv.store.rdb.lzf import decompressed
from peerkv.store.rdb.streams import StreamContent, read_stream, written_stream
from peerkv.store.rdb.writing import each_of, length_of, lengths_of

VALUE_BYTES_MAX: Final = 64 << 20
"""Of strings that are read. A compressed one can be 88 times as long as what it is read from."""

COMPACT_ITEMS_MAX: Final = 4 << 20
"""Elements that are read from compact encodings: each may be two bytes there, and 50 in memory."""

VERSION: Final = 9
"""Redis 5's, which is the first that has all that is written here, but for ..."""
VERSION_OF_STREAMS: Final = 10
"""... streams, of which Redis 5 knows less than is written, and fields with deadlines, which are ..."""
VERSION_OF_DEADLINES: Final = 12
"""... Redis 7.4's; that is also the last that is read."""
_FOOT: Final = struct.Struct("<HQ")
_FOOT_BYTES: Final = _FOOT.size

_crc64: Final[Callable[[bytes], int]] = CRC(
    width=64, poly=0xAD93D23594C935A9, init=0, refin=True, refout=True, xorout=0
).calc
"""Jones's, as Redis has it: 0xE9C6D914C4B8D9CA for `123456789`."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a value is: its type, as TYPE answers, and its elements."""

    kind: str
    items: list[Any]
    """Of a string itself; of a list its elements; of a set its members; of a hash fields and values in turns; of a
    sorted set members and scores (floats) in turns; of a stream a `StreamContent`."""
    deadlines: list[Any]
    """Of a hash, fields and milliseconds in turns, for those that have one."""


def is_intact(payload: bytes) -> bool:
    """Whether a payload is of a version that is known here, and as it was written."""
    if len(payload) < _FOOT_BYTES:
        return False
    version, crc = _FOOT.unpack(payload[-_FOOT_BYTES:])
    return bool(version <= VERSION_OF_DEADLINES and crc == _crc64(payload[:-8]))


def content_of(payload: bytes) -> Content:
    """What an intact payload holds. Raises ValueError for what is nothing."""
    reader = Reader(payload[:-_FOOT_BYTES])
    try:
        kind, read = _READ[reader.byte()]
        content = Content(kind, *read(reader))
    except (IndexError, KeyError, OverflowError, struct.error) as error:
        raise ValueError(f"cannot be read: {error}") from error
    if kind != "string" and not content.items:
        raise ValueError("an empty collection")
    names = content.items[::2] if kind in ("hash", "zset") else content.items
    if kind not in ("string", "list", "stream") and len(set(names)) < len(names):
        raise ValueError("elements of the same name")
    return content


_Compact: TypeAlias = Callable[[bytes, int], list[bytes]]


class Reader:
    """Takes a value from its bytes, one piece after another. Raises ValueError or IndexError where they end before."""

    __slots__ = ("_at", "_bytes", "_items_left", "_room")

    def __init__(self, value: bytes) -> None:
        self._bytes = value
        self._at = 0
        self._room = VALUE_BYTES_MAX
        self._items_left = COMPACT_ITEMS_MAX

    def byte(self) -> int:
        self._at += 1
        return self._bytes[self._at - 1]

    def take(self, count: int) -> bytes:
        """The next so many bytes."""
        end = self._at + count
        if end > len(self._bytes):
            raise ValueError("cut off")
        taken = self._bytes[self._at : end]
        self._at = end
        return taken

    def length(self) -> int:
        head = self.byte()
        if head >= 0xC0:
            raise ValueError("a string where a length is due")
        return self._length(head)

    def _length(self, head: int) -> int:
        if head < 0x40:
            return head
        if head < 0x80:
            return (head & 0x3F) << 8 | self.byte()
        if head not in (0x80, 0x81):
            raise ValueError("an unknown kind of length")
        return int.from_bytes(self.take(4 if head == 0x80 else 8))

    def count(self) -> int:
        """How many elements follow, each of a byte at least."""
        count = self.length()
        if count > len(self._bytes) - self._at:
            raise ValueError("more elements than bytes")
        return count

    def string(self) -> bytes:
        head = self.byte()
        if head < 0xC0:
            return self.take(head if head < 0x40 else self._length(head))
        if head <= 0xC2:
            return b"%d" % int.from_bytes(self.take(1 << (head & 3)), "little", signed=True)
        if head != 0xC3:
            raise ValueError("an unknown kind of string")
        packed, length = self.length(), self.length()
        self._room -= length
        if self._room < 0:
            raise ValueError(f"more than {VALUE_BYTES_MAX} bytes")
        return decompressed(self.take(packed), length)

    def compact(self, of: _Compact) -> list[bytes]:
        """The elements within a string."""
        found = of(self.string(), self._items_left)
        self._items_left -= len(found)
        return found

    def strings(self, count: int) -> list[bytes]:
        return [self.string() for _ in range(count)]

    def double(self) -> float:
        return _number(struct.unpack("<d", self.take(8))[0])

    def spelled_double(self) -> float:
        """As digits, with their number before them (Redis 3 and before)."""
        count = self.byte()
        if count >= 0xFD:
            return _number((inf, -inf)[count - 0xFE]) if count > 0xFD else _number(float("nan"))
        return _number(float(self.take(count)))


def _number(score: float) -> float:
    if isnan(score):
        raise ValueError("a score that is not a number")
    return score


# -- the encodings: of each the elements, and deadlines

_Elements: TypeAlias = tuple[list[Any], list[Any]]


def _string(reader: Reader) -> _Elements:
    return [reader.string()], []


def _strings(each: int) -> Callable[[Reader], _Elements]:
    """A number, and so many times `each` strings."""
    return lambda reader: (reader.strings(each * reader.count()), [])


def _scored(score: Callable[[Reader], float]) -> Callable[[Reader], _Elements]:
    def read(reader: Reader) -> _Elements:
        items: list[Any] = []
        for _ in range(reader.count()):
            items += (reader.string(), score(reader))
        return items, []

    return read


def _compact(of: _Compact, each: int = 1) -> Callable[[Reader], _Elements]:
    """A string that holds all elements, each of so many strings."""

    def read(reader: Reader) -> _Elements:
        items = reader.compact(of)
        if len(items) % each:
            raise ValueError("half an element")
        return items, []

    return read


def _compact_scores(of: _Compact) -> Callable[[Reader], _Elements]:
    def read(reader: Reader) -> _Elements:
        items, _ = _compact(of, 2)(reader)
        return list(chain.from_iterable(zip(items[::2], map(_score, items[1::2]), strict=True))), []

    return read


def _score(digits: bytes) -> float:
    return _number(float(digits))


def _quicklist(reader: Reader) -> _Elements:
    return [item for _ in range(reader.count()) for item in reader.compact(of_ziplist)], []


def _second_quicklist(reader: Reader) -> _Elements:
    items: list[Any] = []
    for _ in range(reader.count()):
        match reader.length():
            case 1:
                items.append(reader.string())
            case 2:
                items += reader.compact(of_listpack)
            case _:
                raise ValueError("an unknown kind of node")
    return items, []


def _with_deadlines(reader: Reader) -> _Elements:
    """The first deadline, and with each field how much later its own is (0: it has none; 1: not at all)."""
    first = int.from_bytes(reader.take(8), "little")
    items: list[Any] = []
    deadlines: list[Any] = []
    for _ in range(reader.count()):
        later = reader.length()
        field = reader.string()
        items += (field, reader.string())
        if later:
            deadlines += (field, first + later - 1)
    return items, deadlines


def _compact_with_deadlines(reader: Reader) -> _Elements:
    reader.take(8)
    found, _ = _compact(of_listpack, 3)(reader)
    items = list(chain.from_iterable(zip(found[::3], found[1::3], strict=True)))
    deadlines = [
        part
        for field, deadline in zip(found[::3], map(int, found[2::3]), strict=True)
        if deadline
        for part in (field, deadline)
    ]
    return items, deadlines


def _stream(form: int) -> Callable[[Reader], _Elements]:
    return lambda reader: ([read_stream(reader, form)], [])


_READ: Final[dict[int, tuple[str, Callable[[Reader], _Elements]]]] = {
    0: ("string", _string),
    1: ("list", _strings(1)),
    2: ("set", _strings(1)),
    3: ("zset", _scored(Reader.spelled_double)),
    4: ("hash", _strings(2)),
    5: ("zset", _scored(Reader.double)),
    9: ("hash", _compact(of_zipmap, 2)),
    10: ("list", _compact(of_ziplist)),
    11: ("set", _compact(of_intset)),
    12: ("zset", _compact_scores(of_ziplist)),
    13: ("hash", _compact(of_ziplist, 2)),
    14: ("list", _quicklist),
    15: ("stream", _stream(1)),
    16: ("hash", _compact(of_listpack, 2)),
    17: ("zset", _compact_scores(of_listpack)),
    18: ("list", _second_quicklist),
    19: ("stream", _stream(2)),
    20: ("set", _compact(of_listpack)),
    21: ("stream", _stream(3)),
    24: ("hash", _with_deadlines),
    25: ("hash", _compact_with_deadlines),
}
"""Redis's RDB_TYPE_..., less modules."""
_PLAIN: Final = {"string": 0, "list": 1, "set": 2, "hash": 4, "zset": 5}
_PLAIN_WITH_DEADLINES: Final = 24
_STREAM: Final = 19


# -- writing


def payload_of(content: Content) -> bytes:
    """A payload that holds this."""
    kind, items, deadlines = content.kind, content.items, content.deadlines
    if kind == "string":
        value = each_of(items)
    elif kind == "stream":
        (stream,) = items
        assert isinstance(stream, StreamContent), "what a stream holds is one item"
        return _with_foot(bytes((_STREAM,)) + written_stream(stream), VERSION_OF_STREAMS)
    elif kind == "hash":
        fields = items[::2]
        value = length_of(len(fields))
        if deadlines:
            return _with_foot(_dated(fields, items[1::2], deadlines), VERSION_OF_DEADLINES)
        value += each_of(fields, items[1::2])
    elif kind == "zset":
        members = items[::2]
        scores = map(struct.Struct("<d").pack, items[1::2])
        value = length_of(len(members)) + b"".join(
            chain.from_iterable(zip(lengths_of(members), members, scores, strict=True))
        )
    else:
        value = length_of(len(items)) + each_of(items)
    return _with_foot(bytes((_PLAIN[kind],)) + value, VERSION)


def _dated(fields: list[bytes], values: list[bytes], deadlines: list[Any]) -> bytes:
    first = min(deadlines[1::2])
    later = dict(zip(deadlines[::2], deadlines[1::2], strict=True))
    pieces = [bytes((_PLAIN_WITH_DEADLINES,)), first.to_bytes(8, "little"), length_of(len(fields))]
    for field, value in zip(fields, values, strict=True):
        deadline = later.get(field)
        pieces += (length_of(deadline - first + 1 if deadline is not None else 0), each_of((field,), (value,)))
    return b"".join(pieces)


def _with_foot(value: bytes, version: int) -> bytes:
    value += version.to_bytes(2, "little")
    return value + _crc64(value).to_bytes(8, "little")
