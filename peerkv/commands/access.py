"""What commands see of a slot's cells, and the errors that many of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from peerkv.commands.table import KeysAt
from peerkv.resp import CommandError, ReplyError, parse_integer
from peerkv.store.cell import Cells, is_live
from peerkv.store.values import Collection, Value

SYNTAX: Final = ReplyError("ERR syntax error")
NOT_AN_INTEGER: Final = ReplyError("ERR value is not an integer or out of range")
NOT_A_FLOAT: Final = ReplyError("ERR value is not a valid float")
NO_SUCH_KEY: Final = ReplyError("ERR no such key")
WRONG_TYPE: Final = ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
INTEGER_MAX: Final = (1 << 63) - 1

SomeCollection = TypeVar("SomeCollection", bound=Collection)


def value_of(cells: Cells, key: bytes, now: int) -> Value | None:
    """What a key that lives holds, of whatever type."""
    cell = cells.get(key)
    if cell is None or 0 < cell[2] <= now:
        return None
    return cell[1]


def string_of(cells: Cells, key: bytes, now: int) -> bytes | None:
    """The string that a key that lives holds. Raises CommandError if it is no string."""
    cell = cells.get(key)
    if cell is None or 0 < cell[2] <= now:
        return None
    value = cell[1]
    if type(value) is bytes or value is None:
        return value
    raise CommandError(WRONG_TYPE)


def collection_of(kind: type[SomeCollection], cells: Cells, key: bytes, now: int) -> SomeCollection | None:
    """The collection that a key that lives holds. Raises CommandError if it is of another type."""
    cell = cells.get(key)
    if cell is None or 0 < cell[2] <= now:
        return None
    value = cell[1]
    if value is None or isinstance(value, kind):
        return value
    raise CommandError(WRONG_TYPE)


def deadline_of(cells: Cells, key: bytes, now: int) -> int:
    """The deadline of a key that lives; 0: none."""
    cell = cells.get(key)
    return cell[2] if cell is not None and is_live(cell, now) else 0


def integer(argument: bytes) -> int:
    """An argument that is to be an integer of 64 bits. Raises CommandError."""
    value = parse_integer(argument)
    if value is None:
        raise CommandError(NOT_AN_INTEGER)
    return value


def integer_between(argument: bytes, least: int, most: int, error: str = "") -> int:
    """Likewise, within limits; with an error of its own, or Redis's. Raises CommandError."""
    value = parse_integer(argument)
    if value is not None and least <= value <= most:
        return value
    if error:
        raise CommandError(ReplyError(f"ERR {error}"))
    if value is None:
        raise CommandError(NOT_AN_INTEGER)
    raise CommandError(ReplyError(f"ERR value is out of range, value must between {least} and {most}"))


def span(start: int, stop: int, length: int) -> tuple[int, int]:
    """Indexes as LRANGE and its like mean them (negative: from the end; `stop` is one of them), as a slice of so many
    elements; an empty one is (0, 0)."""
    first = max(0, start + length if start < 0 else start)
    last = min(length - 1, stop + length if stop < 0 else stop)
    return (first, last + 1) if first <= last else (0, 0)


def keys_counted(place: int, *others: int) -> KeysAt:
    """Where the keys are of a command that says how many there are, at this place; single ones may be at others."""

    def places(request: Sequence[bytes]) -> Sequence[int]:
        count = parse_integer(request[place]) if place < len(request) else None
        return (*others, *range(place + 1, min(place + 1 + max(count or 0, 0), len(request))))

    return places
