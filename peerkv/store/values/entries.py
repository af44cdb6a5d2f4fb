"""The entries of a stream, in nodes: their ids, fields and values, as small as they get.

A node is a few strings: of every entry how much later than the node's beginning it is, its sequence number, the lengths
of its values and the values themselves; names of fields are there once for all entries that have the same. It is
replaced and never changed, so who holds one holds it for good. 100,000 entries are 1,000 objects to the garbage
collector.

An id is 16 bytes, so that the order of bytes is that of ids.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from struct import Struct
from sys import byteorder, getsizeof
from typing import Final, NamedTuple, TypeAlias

NODE_ENTRIES: Final = 100
NODE_BYTES: Final = 4096
"""Of values; more only if one entry has more. Both as Redis's stream-node-max-..., so `~` trims as much as there."""
NODE_SMALL: Final = NODE_ENTRIES // 8
"""A node that has become so small is joined to its neighbour."""
Id: TypeAlias = bytes
_ID: Final = Struct(">QQ")
ID_BYTES: Final = _ID.size
FIRST_ID: Final = bytes(ID_BYTES)
"""0-0, which no entry has."""
LAST_ID: Final = b"\xff" * ID_BYTES

id_of = _ID.pack
"""(milliseconds, sequence number) -> id."""
parts_of_id = _ID.unpack
"""The other way."""

Entry: TypeAlias = tuple[Id, list[bytes]]
"""(id, fields and values in turns)"""
Names: TypeAlias = tuple[bytes, ...]


def behind(id_: Id) -> Id | None:
    """The next id; None: there is none."""
    return (int.from_bytes(id_) + 1).to_bytes(ID_BYTES) if id_ != LAST_ID else None


def before(id_: Id) -> Id | None:
    """The last id that is lower; None: there is none."""
    return (int.from_bytes(id_) - 1).to_bytes(ID_BYTES) if id_ != FIRST_ID else None


# -- columns of numbers, each as wide as the largest needs


_CASTS: Final = {2: "H", 4: "I", 8: "Q"}


def _column(numbers: Sequence[int]) -> bytes:
    """Nothing at all if they are all 0."""
    most = max(numbers)
    if not most:
        return b""
    width = next(width for width in (1, 2, 4, 8) if most < 1 << 8 * width)
    return bytes(numbers) if width == 1 else b"".join([number.to_bytes(width, byteorder) for number in numbers])


def _numbers(column: bytes, count: int) -> Sequence[int]:
    width = len(column) // count
    if not width:
        return bytes(count)
    return column if width == 1 else memoryview(column).cast(_CASTS[width])  # type: ignore[call-overload]


def _with_number(column: bytes, count: int, number: int) -> bytes:
    """One more, behind `count`."""
    width = len(column) // count if count else 0
    if number < 1 << 8 * width:
        return column + number.to_bytes(width, byteorder)
    return _column([*(_numbers(column, count) if count else ()), number])


def _without_numbers(column: bytes, count: int, start: int, stop: int) -> bytes:
    width = len(column) // count
    return column[: start * width] + column[stop * width :]


# -- nodes


class Node(NamedTuple):
    """Some entries, one at least."""

    base: int
    """Milliseconds, from which those of the entries are counted."""
    total: int
    later: bytes
    """A column: milliseconds after `base`."""
    sequences: bytes
    """A column."""
    shapes: tuple[Names, ...]
    """The fields that some entry has, every such row of names once."""
    which: bytes
    """The shape of each entry; nothing if there is one shape only."""
    lengths: bytes
    """A column: of the values of all entries."""
    text: bytes

    def ids(self, start: int = 0, stop: int | None = None) -> list[Id]:
        later, sequences = _numbers(self.later, self.total), _numbers(self.sequences, self.total)
        base = self.base
        return [
            id_of(base + after, sequence)
            for after, sequence in zip(later[start:stop], sequences[start:stop], strict=True)
        ]

    @property
    def last(self) -> Id:
        return self.ids(self.total - 1)[0]

    def place(self, id_: Id) -> int:
        """How many entries have lower ids."""
        milliseconds, sequence = parts_of_id(id_)
        after = milliseconds - self.base
        if after < 0:
            return 0
        later = _numbers(self.later, self.total)
        first = bisect_left(later, after)
        if first == self.total or later[first] != after:
            return first
        return bisect_left(_numbers(self.sequences, self.total), sequence, first, bisect_right(later, after, first))

    def upto(self, id_: Id) -> int:
        """How many entries have this id or a lower one."""
        following = behind(id_)
        return self.place(following) if following is not None else self.total

    def values_before(self, place: int) -> int:
        """How many values the first so many entries have."""
        shapes = self.shapes
        if not self.which:
            return place * len(shapes[0])
        return sum([len(shapes[number]) for number in self.which[:place]])

    def entries(self, start: int, stop: int) -> list[Entry]:
        """Those from one place up to another."""
        first, last = self.values_before(start), self.values_before(stop)
        lengths = _numbers(self.lengths, self.values_before(self.total))
        ends = list(accumulate(lengths[first:last], initial=sum(lengths[:first])))
        text = self.text
        values = iter([text[begin:end] for begin, end in pairwise(ends)])
        shapes = self.shapes
        of_each = [shapes[number] for number in self.which[start:stop]] or [shapes[0]] * (stop - start)
        return [
            (id_, list(chain.from_iterable(zip(names, values, strict=False))))
            for id_, names in zip(self.ids(start, stop), of_each, strict=True)
        ]

    def takes(self, values: Sequence[bytes]) -> bool:
        """Whether there is room for one more entry."""
        return self.total < NODE_ENTRIES and len(self.text) + sum(map(len, values)) <= NODE_BYTES

    def with_entry(self, id_: Id, names: Names, values: Sequence[bytes]) -> Node:
        """With one more, behind the others."""
        milliseconds, sequence = parts_of_id(id_)
        base, count, later, sequences, shapes, which, lengths, text = self
        if names != shapes[which[-1] if which else 0] or which:
            which = which or bytes(count)
            if names not in shapes:
                shapes = (*shapes, names)
            which += bytes((shapes.index(names),))
        number = self.values_before(count)
        for length in map(len, values):
            lengths = _with_number(lengths, number, length)
            number += 1
        return Node(
            base,
            count + 1,
            _with_number(later, count, milliseconds - base),
            _with_number(sequences, count, sequence),
            shapes,
            which,
            lengths,
            text + b"".join(values),
        )

    def without(self, start: int, stop: int) -> Node:
        """Without those from one place up to another, which are not all."""
        base, count, later, sequences, shapes, which, lengths, text = self
        first, last, total = map(self.values_before, (start, stop, count))
        numbers = _numbers(lengths, total)
        begin = sum(numbers[:first])
        end = begin + sum(numbers[first:last])
        if which:
            which = which[:start] + which[stop:]
            used = sorted(set(which))
            if len(used) < len(shapes):  # so that there never are more shapes than entries
                shapes = tuple(shapes[number] for number in used)
                which = bytes(map(used.index, which)) if len(used) > 1 else b""
        return Node(
            base,
            count - stop + start,
            _without_numbers(later, count, start, stop),
            _without_numbers(sequences, count, start, stop),
            shapes,
            which,
            _without_numbers(lengths, total, first, last),
            text[:begin] + text[end:],
        )

    @property
    def memory(self) -> int:
        columns = (self.later, self.sequences, self.which, self.lengths, self.text)
        return getsizeof(self) + 32 + sum([getsizeof(column) for column in columns if column]) + 8


def node_of(id_: Id, names: Names, values: Sequence[bytes]) -> Node:
    milliseconds, sequence = parts_of_id(id_)
    lengths = _column(list(map(len, values)))
    return Node(milliseconds, 1, b"", _column([sequence]), (names,), b"", lengths, b"".join(values))
