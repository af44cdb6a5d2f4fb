"""What commands see of a slot's cells, and the errors that many of them share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf, isinf
from typing import Final, TypeVar

from peerkv.databases import DATABASES
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


def database(argument: bytes) -> int:
    """The number of a database. Raises CommandError."""
    number = integer_between(argument, -(1 << 31), (1 << 31) - 1)
    if not 0 <= number < DATABASES:
        raise CommandError(ReplyError("ERR DB index is out of range"))
    return number


_NUMBER: Final = re.compile(
    rb"""
      (?P<blank> [ \t\n\v\f\r]* )
      [+-]?
      (?: (?P<infinite> inf (?: inity )? )
        | (?P<hexadecimal> 0x (?: (?P<nibbles> [0-9a-f]+ \.? [0-9a-f]* | \. [0-9a-f]+ ) (?: p [+-]? [0-9]+ )? ) )
        | (?P<digits> [0-9]+ \.? [0-9]* | \. [0-9]+ ) (?: e [+-]? [0-9]+ )?
      )
    """,
    re.IGNORECASE | re.VERBOSE,
)


def read_double(text: bytes) -> tuple[float, bool] | None:
    """All of a text as C's strtod reads it: the number, and whether a double can hold it (what is too large becomes
    infinite, what is too small 0). None: it is no number."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    if not found["hexadecimal"]:
        number = float(text)
    else:
        try:
            number = float.fromhex(text.decode("ascii"))
        except OverflowError:
            number = -inf if text.lstrip().startswith(b"-") else inf
    if found["infinite"]:
        return number, True
    zero = not (found["nibbles"] or found["digits"]).strip(b"0.")
    return number, zero if number == 0 else not isinf(number)


def double(argument: bytes, error: ReplyError = NOT_A_FLOAT) -> float:
    """An argument that is to be a number, infinite ones among them. Raises CommandError."""
    found = read_double(argument)
    if found is None or not found[1] or argument[:1].isspace():
        raise CommandError(error)
    return found[0]


def span(start: int, stop: int, length: int) -> tuple[int, int]:
    """Indexes as LRANGE and its like mean them (negative: from the end; `stop` is one of them), as a slice of so many
    elements; an empty one is (0, 0)."""
    first = max(0, start + length if start < 0 else start)
    last = min(length - 1, stop + length if stop < 0 else stop)
    return (first, last + 1) if first <= last else (0, 0)


def count_option(options: Sequence[bytes]) -> int:
    """What COUNT says at the end of LMPOP and ZMPOP, once at most."""
    if not options:
        return 1
    if len(options) < 2 or options[0].upper() != b"COUNT":
        raise CommandError(SYNTAX)
    count = integer_between(options[1], 1, INTEGER_MAX, "count should be greater than 0")
    if len(options) > 2:
        raise CommandError(SYNTAX)
    return count
