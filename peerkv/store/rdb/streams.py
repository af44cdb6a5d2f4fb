"""Streams in Redis's serialisation: nodes of entries, each a listpack, and groups. All three forms are read (of Redis
5, 7.0 and 7.2), and the second is written, which any Redis since 7.0 reads.

A node begins with an id and a **master entry**: (entries, deleted ones, number of fields, the fields, 0). Every entry
is (flags, how much later than the node's its milliseconds are, likewise its sequence number; the number of fields and
the fields, unless they are the master entry's; the values; how many elements this were), and may be marked as deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Final

from peerkv.store.rdb.compact import listpack_of, of_listpack
from peerkv.store.rdb.writing import each_of, length_of

if TYPE_CHECKING:
    from peerkv.store.rdb.payload import Reader

_ID: Final = Struct(">QQ")
_TIME_BYTES: Final = 8
_TIME_MAX: Final = (1 << 63) - 1
_DELETED: Final = 1
_SAME_FIELDS: Final = 2
_MASK: Final = (1 << 64) - 1
NODE_ENTRIES: Final = 100
NODE_BYTES: Final = 4096
"""Of fields and values, of a node that is written."""
UNKNOWN: Final = -1
_NONE: Final = bytes(_ID.size)


@dataclass(slots=True)
class ConsumerContent:
    """One of a group. Times are milliseconds."""

    name: bytes
    seen: int
    active: int
    """UNKNOWN: never."""
    ids: list[bytes]
    """What is pending with it."""


@dataclass(slots=True)
class GroupContent:
    """What a group of a stream is."""

    name: bytes
    last: bytes
    read: int | None
    """Entries; UNKNOWN; None: the form does not say."""
    pending: dict[bytes, tuple[int, int]]
    """By id, when it was delivered last, in milliseconds, and how often."""
    consumers: list[ConsumerContent] = field(default_factory=list)


@dataclass(slots=True)
class StreamContent:
    """What a stream is. Ids are of 16 bytes."""

    entries: list[tuple[bytes, list[bytes]]]
    """Ids, each with fields and values in turns."""
    last: bytes
    added: int
    deleted: bytes
    groups: list[GroupContent] = field(default_factory=list)

    def moved(self, milliseconds: int) -> StreamContent:
        """With all times so much later."""
        return replace(self, groups=[_moved(group, milliseconds) for group in self.groups])


def _later(time: int, by: int) -> int:
    return min(max(0, time + by), _TIME_MAX)


def _moved(group: GroupContent, by: int) -> GroupContent:
    pending = {id_: (_later(time, by), count) for id_, (time, count) in group.pending.items()}
    consumers = [
        replace(
            consumer,
            seen=_later(consumer.seen, by),
            active=_later(consumer.active, by) if consumer.active != UNKNOWN else UNKNOWN,
        )
        for consumer in group.consumers
    ]
    return replace(group, pending=pending, consumers=consumers)


# -- reading


def read_stream(reader: Reader, form: int) -> StreamContent:
    """What stands behind the byte for the type. Raises ValueError or the like for what is none."""
    entries: list[tuple[bytes, list[bytes]]] = []
    for _ in range(reader.count()):
        begin = reader.string()
        node = reader.compact(of_listpack)
        entries += _entries(begin, node)
    if reader.length() != len(entries):
        raise ValueError("not as many entries as it says")
    last = _id(reader)
    ids = [id_ for id_, _ in entries]
    if any(one >= other for one, other in pairwise(ids)) or (ids and (ids[0] == _NONE or ids[-1] > last)):
        raise ValueError("ids that do not ascend")
    added, deleted = len(entries), _NONE
    if form > 1:
        _id(reader)
        deleted, added = _id(reader), _number(reader.length())
    groups = [_group(reader, form) for _ in range(reader.count())]
    if added < len(entries) or len({group.name for group in groups}) < len(groups):
        raise ValueError("entries that were not added, or groups of one name")
    return StreamContent(entries, last, added, deleted, groups)


def _id(reader: Reader) -> bytes:
    return _ID.pack(reader.length(), reader.length())


def _number(length: int) -> int:
    """Signed, as it was before it was written."""
    return length - (1 << 64) if length >> 63 else length


def _entries(begin: bytes, node: Sequence[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    first, second = _ID.unpack(begin)
    items = iter(node)

    def number() -> int:
        return int(next(items))

    def several(count: int) -> list[bytes]:
        if not 0 < count <= len(node):
            raise ValueError("more fields than elements")
        return [next(items) for _ in range(count)]

    try:
        count = number() + number()
        master = several(number())
        next(items)
        for _ in range(count):
            flags = number()
            id_ = _ID.pack(first + number() & _MASK, second + number() & _MASK)
            names = master if flags & _SAME_FIELDS else several(number())
            values = several(len(names))
            next(items)
            if not flags & _DELETED:
                yield id_, [word for pair in zip(names, values, strict=True) for word in pair]
    except StopIteration:
        raise ValueError("a node that is cut off") from None
    if next(items, None) is not None or count < 1:
        raise ValueError("a node with something behind its entries, or without any")


def _time(reader: Reader) -> int:
    return int.from_bytes(reader.take(_TIME_BYTES), "little", signed=True)


def _group(reader: Reader, form: int) -> GroupContent:
    name, last = reader.string(), _id(reader)
    found = GroupContent(name, last, _number(reader.length()) if form > 1 else None, {})
    for _ in range(reader.count()):
        id_ = reader.take(_ID.size)
        found.pending[id_] = max(0, _time(reader)), _number(reader.length())
    owned: list[bytes] = []
    for _ in range(reader.count()):
        consumer = ConsumerContent(reader.string(), max(0, _time(reader)), UNKNOWN, [])
        consumer.active = max(UNKNOWN, _time(reader)) if form > 2 else consumer.seen
        consumer.ids = [reader.take(_ID.size) for _ in range(reader.count())]
        owned += consumer.ids
        found.consumers.append(consumer)
    if len(owned) != len(found.pending) or set(owned) != set(found.pending):
        raise ValueError("what is pending is not with one consumer each")
    if len({consumer.name for consumer in found.consumers}) < len(found.consumers):
        raise ValueError("consumers of one name")
    if (found.read or 0) < UNKNOWN or any(count < 0 for _, count in found.pending.values()):
        raise ValueError("less than nothing was read, or delivered")
    return found


# -- writing


def written_stream(stream: StreamContent) -> bytes:
    """What stands behind the byte for the type of the second form."""
    nodes = list(_nodes(stream.entries))
    first = stream.entries[0][0] if stream.entries else _NONE
    pieces = [length_of(len(nodes))]
    pieces += [each_of((entries[0][0],), (_node(entries),)) for entries in nodes]
    pieces += [length_of(len(stream.entries)), *map(_written_id, (stream.last, first, stream.deleted))]
    pieces += [length_of(stream.added), length_of(len(stream.groups))]
    for group in stream.groups:
        assert group.read is not None, "it is known of what is held"
        pieces += [each_of((group.name,)), _written_id(group.last), length_of(group.read & _MASK)]
        pieces.append(length_of(len(group.pending)))
        for id_, (time, count) in sorted(group.pending.items()):
            pieces += [id_, time.to_bytes(_TIME_BYTES, "little"), length_of(count)]
        pieces.append(length_of(len(group.consumers)))
        for consumer in group.consumers:
            pieces += [each_of((consumer.name,)), consumer.seen.to_bytes(_TIME_BYTES, "little")]
            pieces += [length_of(len(consumer.ids)), *consumer.ids]
    return b"".join(pieces)


def _written_id(id_: bytes) -> bytes:
    return b"".join(map(length_of, _ID.unpack(id_)))


def _nodes(entries: Sequence[tuple[bytes, list[bytes]]]) -> Iterator[Sequence[tuple[bytes, list[bytes]]]]:
    begin = size = 0
    for at, (_, fields) in enumerate(entries):
        size += sum(map(len, fields))
        if at > begin and (at - begin == NODE_ENTRIES or size > NODE_BYTES):
            yield entries[begin:at]
            begin, size = at, sum(map(len, fields))
    if begin < len(entries):
        yield entries[begin:]


def _node(entries: Sequence[tuple[bytes, list[bytes]]]) -> bytes:
    begin, first_fields = entries[0]
    first, second = _ID.unpack(begin)
    master = first_fields[::2]
    items: list[bytes | int] = [len(entries), 0, len(master), *master, 0]
    for id_, fields in entries:
        milliseconds, sequence = _ID.unpack(id_)
        later = [_number(milliseconds - first & _MASK), _number(sequence - second & _MASK)]
        if fields[::2] == master:
            items += (_SAME_FIELDS, *later, *fields[1::2], len(master) + 3)
        else:
            items += (0, *later, len(fields) // 2, *fields, len(fields) + 4)
    return listpack_of(items)
