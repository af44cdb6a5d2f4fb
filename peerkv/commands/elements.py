"""What commands on the elements of collections share: what is drawn at random, and what is listed page by page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple

from peerkv.commands.access import INTEGER_MAX, NOT_AN_INTEGER, SYNTAX, integer_between
from peerkv.commands.patterns import PATTERN_BYTES_MAX, PATTERN_TOO_LONG, matcher
from peerkv.resp import CommandError, Reply, ReplyError, parse_integer
from peerkv.resp.replies import size_of_replies

DRAWS_MAX: Final = 1 << 20
"""Of one command, with repetitions: 0.3 s. Without them there are no more than elements."""
DRAWN_BYTES_MAX: Final = 256 << 20
"""As much as a reply may be."""
TOO_MANY_DRAWS: Final = ReplyError(
    f"ERR at most {DRAWS_MAX} elements of {DRAWN_BYTES_MAX} bytes in all are drawn at a time"
)
COUNT_MAX: Final = 4096
"""Elements of a page, whatever COUNT says: 8 ms."""
COUNT_USUAL: Final = 10
_CURSOR: Final = re.compile(rb"([+-]?[0-9]+)?")
_CURSOR_END: Final = 1 << 64
_EIGHT: Final = Struct(">8Q")


def numbers_from(chance: bytes) -> Iterator[int]:
    """Random numbers of 64 bits without an end, made from the first one."""
    yield int.from_bytes(chance, "big")
    block = 0
    while True:
        yield from _EIGHT.unpack(blake2b(block.to_bytes(8, "big"), key=chance).digest())
        block += 1


def draw_count(argument: bytes) -> int:
    """How many elements are to be drawn; negative: with repetitions. Raises CommandError."""
    return integer_between(argument, -INTEGER_MAX, INTEGER_MAX)


def check_draws(count: int) -> None:
    """Raises CommandError if so many draws with repetitions take too long."""
    if count > DRAWS_MAX:
        raise CommandError(TOO_MANY_DRAWS)


def check_size(drawn: list[Reply]) -> list[Reply]:
    """What was drawn. Raises CommandError if it is too long for a reply."""
    if size_of_replies(drawn) > DRAWN_BYTES_MAX:
        raise CommandError(TOO_MANY_DRAWS)
    return drawn


class Listing(NamedTuple):
    """The options of a SCAN of elements."""

    most: int
    """Of a page."""
    matches: Callable[[bytes], object] | None
    """None: all."""
    with_values: bool


def cursor_from(argument: bytes) -> int:
    """A cursor as C reads it. Raises CommandError."""
    if not _CURSOR.fullmatch(argument):
        raise CommandError(ReplyError("ERR invalid cursor"))
    cursor = int(argument or b"0")
    if abs(cursor) >= _CURSOR_END:
        raise CommandError(ReplyError("ERR invalid cursor"))
    return cursor % _CURSOR_END


def listing(options: Sequence[bytes], *, may_leave_values: bool = False) -> Listing:
    """`[MATCH pattern] [COUNT count] [NOVALUES]`. Raises CommandError."""
    count, pattern, with_values = COUNT_USUAL, b"*", True
    words = iter(options)
    for word in words:
        option = word.upper()
        if option == b"NOVALUES" and may_leave_values:
            with_values = False
            continue
        argument = next(words, None)
        if argument is None or option not in (b"COUNT", b"MATCH"):
            raise CommandError(SYNTAX)
        if option == b"COUNT":
            number = parse_integer(argument)
            if number is None:
                raise CommandError(NOT_AN_INTEGER)
            if number < 1:
                raise CommandError(SYNTAX)
            count = min(number, COUNT_MAX)
        elif len(argument) > PATTERN_BYTES_MAX:
            raise CommandError(PATTERN_TOO_LONG)
        else:
            pattern = argument
    return Listing(count, matcher(pattern) if pattern != b"*" else None, with_values)
