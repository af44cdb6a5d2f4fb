"""Hashes: values by field, in the order in which the fields came, and the deadlines of fields that have one.

A field whose deadline has passed is not there for whoever reads, and stays in memory until somebody writes. Every
change of a hash says first how many of its deadlines are **due**, as the command alone knows what time it is: so many
fields are no more, and then it is done to the others. Which those are is the same on every owner, since deadlines, and
fields of one deadline, are ordered.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection as Elements
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from sortedcontainers import SortedList

from peerkv.store.values import Patch, Value, each_of, patch
from peerkv.store.values.keyed import Keyed, Large, Small, fits, marshalled, size_of_dict

PUT: Final = "hset"
CHANGE: Final = "hchange"
REMOVE: Final = "hdel"
EXPIRE: Final = "hexpire"
ANEW: Final = -1
"""In place of how many are due: nothing is left of what was there."""

_NONE: Final[Mapping[bytes, int]] = {}
_DEADLINE_BYTES: Final = 150
"""Of a field that has a deadline, for that."""


class Hash(Keyed):
    """What a key of the type hash holds."""

    __slots__ = ()

    TYPE = "hash"

    @property
    @abstractmethod
    def deadlines(self) -> Mapping[bytes, int]:
        """In cluster milliseconds, of the fields that have one; not to be changed."""

    @abstractmethod
    def due(self, now: int) -> int:
        """How many fields have expired."""

    @abstractmethod
    def live(self, now: int) -> dict[bytes, bytes]:
        """What has not, in order; not to be changed."""

    @abstractmethod
    def values_of(self, fields: Sequence[bytes], now: int) -> list[bytes | None]:
        """None: there is no such field."""

    def deadlines_of(self, fields: Sequence[bytes], now: int) -> dict[bytes, int | None]:
        """0: it has none; None: there is no such field."""
        values, deadlines = self.values_of(fields, now), self.deadlines
        return {
            field: deadlines.get(field, 0) if value is not None else None
            for field, value in zip(fields, values, strict=True)
        }

    def parts(self) -> Iterator[Patch]:
        held = self._all()
        fields, values, deadlines = list(held), list(held.values()), list(self.deadlines.items())
        parts = chain(each_of(PUT, zip(fields, values, strict=True)), each_of(EXPIRE, deadlines))
        return ((name, 0, *arguments) for name, *arguments in parts)

    @abstractmethod
    def _all(self) -> dict[bytes, bytes]:
        """With what has expired."""


class SmallHash(Small, Hash):
    """A few fields without deadlines; never changed."""

    __slots__ = ()

    deadlines = _NONE

    def names(self) -> Elements[bytes]:
        return self.unpacked()  # type: ignore[no-any-return]

    def due(self, _now: int) -> int:
        return 0

    def live(self, _now: int) -> dict[bytes, bytes]:
        return self.unpacked()  # type: ignore[no-any-return]

    def values_of(self, fields: Sequence[bytes], _now: int) -> list[bytes | None]:
        return list(map(self.unpacked().get, fields))

    def _all(self) -> dict[bytes, bytes]:
        return self.unpacked()  # type: ignore[no-any-return]


class LargeHash(Large, Hash):
    """Many fields, or some with deadlines."""

    __slots__ = ("_deadlines", "_order")

    def __init__(self, held: dict[bytes, bytes]) -> None:
        super().__init__(held)
        self._deadlines: dict[bytes, int] = {}
        self._order: SortedList | None = None
        """(deadline, field) of all that have one; None: none ever had."""

    @property
    def deadlines(self) -> Mapping[bytes, int]:
        return self._deadlines

    def due(self, now: int) -> int:
        order = self._order
        return order.bisect_left((now + 1,)) if order else 0

    def live(self, now: int) -> dict[bytes, bytes]:
        due = self.due(now)
        if not due:
            return self.held
        assert self._order is not None
        expired = {field for _, field in self._order.islice(0, due)}
        return {field: value for field, value in self.held.items() if field not in expired}

    def values_of(self, fields: Sequence[bytes], now: int) -> list[bytes | None]:
        found = list(map(self.held.get, fields))
        if self.due(now):
            deadlines = self._deadlines
            return [
                None if 0 < deadlines.get(field, 0) <= now else value
                for field, value in zip(fields, found, strict=True)
            ]
        return found

    def copy(self) -> LargeHash:
        copied = LargeHash(dict(self.held))
        copied._deadlines = dict(self._deadlines)
        copied._order = SortedList(self._order) if self._order is not None else None
        return copied

    @property
    def size(self) -> int:
        return size_of_dict(self.held) + _DEADLINE_BYTES * len(self._deadlines)

    def _all(self) -> dict[bytes, bytes]:
        return self.held

    # -- what patches do

    def set_deadline(self, field: bytes, deadline: int) -> None:
        """Of a field that is here; 0: none."""
        if self._order is None:
            self._order = SortedList()
        former = self._deadlines.pop(field, 0)
        if former:
            self._order.remove((former, field))
        if deadline:
            self._deadlines[field] = deadline
            self._order.add((deadline, field))

    def remove(self, fields: Sequence[bytes]) -> None:
        """Of fields that are here."""
        self.about_to_remove(fields)
        if self._deadlines:
            for field in fields:
                self.set_deadline(field, 0)
        for field in fields:
            del self.held[field]

    def first_due(self, count: int) -> list[bytes]:
        """So many fields, those whose deadlines come first. Raises ValueError if there are not as many."""
        if self._order is None or not 0 < count <= len(self._order):
            raise ValueError("there are not as many deadlines")
        return [field for _, field in self._order.islice(0, count)]


def _made(fields: dict[bytes, bytes]) -> Hash:
    found = marshalled(fields)
    return SmallHash(found) if found is not None else LargeHash(fields)


def _large(value: Value | None) -> LargeHash:
    if isinstance(value, SmallHash):
        return LargeHash(value.unpacked())
    if not isinstance(value, LargeHash):
        raise TypeError("not a hash")
    return value


def _without_due(value: Value | None, due: int) -> Value | None:
    """Before anything else is done."""
    if due == ANEW:
        return None
    if due:
        found = _large(value)
        found.remove(found.first_due(due))
    return value


@patch(PUT, int, each=(bytes, bytes))
def _put(value: Value | None, arguments: Sequence[Any]) -> Hash:
    """These fields have these values, and no deadlines."""
    due, *pairs = arguments
    value = _without_due(value, due)
    new = dict(zip(pairs[::2], pairs[1::2], strict=True))
    if isinstance(value, LargeHash):
        if value.deadlines:
            for field in new:
                value.set_deadline(field, 0)
        value.held.update(new)
        return value
    if value is not None and not isinstance(value, SmallHash):
        raise TypeError("not a hash")
    fields = value.unpacked() if value is not None else {}
    fields.update(new)
    return _made(fields) if fits(pairs) else LargeHash(fields)


@patch(CHANGE, int, bytes, bytes)
def _change(value: Value | None, arguments: Sequence[Any]) -> Value | None:
    """A field that is there has another value, and the deadline that it had."""
    due, field, new = arguments
    value = _without_due(value, due)
    if isinstance(value, LargeHash):
        if field not in value.held:
            raise ValueError("there is no such field")
        value.held[field] = new
        return value
    return _put(value, (0, field, new))


@patch(REMOVE, int, each=(bytes,))
def _remove(value: Value | None, arguments: Sequence[Any]) -> Hash | None:
    """These fields, which are there, are no more."""
    due, *gone = arguments
    value = _without_due(value, due)
    if isinstance(value, LargeHash):
        value.remove(gone)
        return value
    if not isinstance(value, SmallHash):
        raise TypeError("not a hash")
    fields = value.unpacked()
    for field in gone:
        del fields[field]
    return _made(fields) if fields else None


@patch(EXPIRE, int, each=(bytes, int))
def _expire(value: Value | None, arguments: Sequence[Any]) -> Hash:
    """These fields, which are there, have these deadlines; 0: none."""
    due, *pairs = arguments
    found = _large(_without_due(value, due))
    if not all(map(found.held.__contains__, pairs[::2])):
        raise ValueError("there is no such field")
    for field, deadline in zip(pairs[::2], pairs[1::2], strict=True):
        found.set_deadline(field, deadline)
    return found
