"""SORT and SORT_RO: the elements of a list, a set or a sorted set in order, or what other keys hold for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from itertools import islice, pairwise
from math import inf, isinf
from typing import Any, Final, TypeVar

from peerkv.commands.access import SYNTAX, WRONG_TYPE, integer, value_of
from peerkv.commands.table import Effect, Kind, command
from peerkv.resp import CommandError, ReplyError
from peerkv.store.cell import Cells
from peerkv.store.values.hashes import Hash
from peerkv.store.values.lists import List, putting
from peerkv.store.values.sets import Set
from peerkv.store.values.sortedsets import SortedSet

WRITE = Kind.WRITE

NO_NUMBER: Final = ReplyError("ERR One or more scores can't be converted into double")
_SELF: Final = b"#"
_HEAP_SHARE: Final = 8
"""If no more than this part of the elements is wanted, the others are not sorted."""


Sortable = TypeVar("Sortable")


@dataclass(slots=True)
class _Asked:
    """What a request says."""

    by: bytes = b""
    in_order: bool = True
    """Elements are to be sorted."""
    gets: list[bytes] = field(default_factory=list)
    descending: bool = False
    as_text: bool = False
    start: int = 0
    count: int = -1
    """Negative: all."""
    target: bytes | None = None


def _keys_at(request: Sequence[bytes]) -> list[int]:
    """The key, and where the result is kept; not what patterns make of elements."""
    at, target = 2, 0
    while at < len(request):
        match request[at].upper():
            case b"STORE" if request[0].upper() == b"SORT":
                target = at + 1
                at += 2
            case b"BY" | b"GET":
                at += 2
            case b"LIMIT":
                at += 3
            case _:
                at += 1
    return [1, target] if 0 < target < len(request) else [1]


def _wanders(request: Sequence[bytes]) -> bool:
    """Whether there are patterns that stand for keys."""
    options = pairwise(request)
    return any(option.upper() in (b"BY", b"GET") and b"*" in pattern for option, pattern in options)


def _asked(request: Sequence[bytes], *, stores: bool) -> _Asked:
    asked = _Asked()
    at = 2
    while at < len(request):
        left = len(request) - at - 1
        match request[at].upper():
            case b"ASC":
                asked.descending = False
            case b"DESC":
                asked.descending = True
            case b"ALPHA":
                asked.as_text = True
            case b"LIMIT" if left >= 2:
                asked.start, asked.count = integer(request[at + 1]), integer(request[at + 2])
                at += 2
            case b"STORE" if stores and left:
                at += 1
                asked.target = request[at]
            case b"BY" if left:
                at += 1
                asked.by = request[at]
                asked.in_order = asked.in_order and b"*" in asked.by
            case b"GET" if left:
                at += 1
                asked.gets.append(request[at])
            case _:
                raise CommandError(SYNTAX)
        at += 1
    return asked


def _looked_up(cells: Cells, pattern: bytes, now: int) -> Callable[[bytes], bytes | None]:
    """What a pattern stands for with an element: a key, or a field of a hash."""
    if pattern == _SELF:
        return lambda element: element
    before, star, rest = pattern.partition(b"*")
    if not star:
        return lambda _: None
    behind, arrow, name = rest.partition(b"->")
    if not name:
        behind, arrow = behind + arrow, b""

    def look_up(element: bytes) -> bytes | None:
        value = value_of(cells, before + element + behind, now)
        if arrow:
            return value.values_of((name,), now)[0] if isinstance(value, Hash) else None
        return value if type(value) is bytes else None

    return look_up


# -- order

_NUMBER: Final = re.compile(
    rb"[ \t\n\v\f\r]*(?P<sign>[+-]?)(?:(?P<hexadecimal>0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)"
    rb"(?:[pP][+-]?[0-9]+)?)|(?P<decimal>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)"
)
_USUAL_BYTES: Final = 300
"""Digits, without an exponent, that cannot be out of the range of a double."""
_LEAST: Final = 2.2250738585072014e-308
"""What is nearer to 0 and not 0 is out of range to strtod."""


def _number(text: bytes) -> float:
    """As C's strtod reads all of a text. Raises CommandError for what is none, or too large, or too small."""
    text = text.partition(b"\0")[0]
    if not text:
        return 0.0
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise CommandError(NO_NUMBER)
    digits = found["decimal"] or found["hexadecimal"]
    if digits is None:
        return -inf if found["sign"] == b"-" else inf
    try:
        number = float(digits) if found["decimal"] else float.fromhex(digits.decode())
    except OverflowError:
        raise CommandError(NO_NUMBER) from None
    zero = not any(digit in b"123456789abcdefABCDEF" for digit in re.split(rb"[eEpP]", digits)[0].removeprefix(b"0x"))
    if isinf(number) or (number < _LEAST and not zero):
        raise CommandError(NO_NUMBER)
    return -number if found["sign"] == b"-" else number


def _numbers(texts: Sequence[bytes]) -> list[float]:
    """Of all, at once if they are the usual ones. Raises CommandError."""
    if not b"".join(texts).translate(None, b"0123456789.+-") and max(map(len, texts), default=0) < _USUAL_BYTES:
        try:
            return list(map(float, texts))
        except ValueError:
            pass  # one is not; which, the others must tell, too
    return list(map(_number, texts))


def _sorted(elements: Sequence[bytes], cells: Cells, asked: _Asked, now: int, end: int) -> Sequence[bytes]:
    """The elements in order, up to `end` at least. Raises CommandError."""
    if not asked.by:
        return _first(elements, asked, end) if asked.as_text else _by_number(elements, _numbers(elements), asked, end)
    texts = list(map(_looked_up(cells, asked.by, now), elements))
    if asked.as_text:  # none at all is before all; of the same text, elements stay as they are
        weighed = [(text is not None, text or b"", place) for place, text in enumerate(texts)]
        return [elements[place] for _, _, place in _first(weighed, asked, end, key=lambda found: found[:2])]
    return _by_number(elements, _numbers([text if text is not None else b"0" for text in texts]), asked, end)


def _by_number(elements: Sequence[bytes], numbers: Sequence[float], asked: _Asked, end: int) -> Sequence[bytes]:
    """By numbers, and by themselves where these are the same."""
    weighed = zip(numbers, elements, strict=True)
    if 0 < end * _HEAP_SHARE <= len(elements):
        last = _first(numbers, asked, end)[-1]
        some = [pair for pair in weighed if (pair[0] >= last if asked.descending else pair[0] <= last)]
        return [element for _, element in sorted(some, reverse=asked.descending)]
    return [element for _, element in sorted(weighed, reverse=asked.descending)]


def _first(items: Sequence[Sortable], asked: _Asked, end: int, key: Any = None) -> Sequence[Sortable]:
    if end * _HEAP_SHARE <= len(items):
        return nlargest(end, items, key) if asked.descending else nsmallest(end, items, key)
    return sorted(items, key=key, reverse=asked.descending)


# -- the commands


def _sort(cells: Cells, request: Sequence[bytes], now: int, *, stores: bool) -> Effect:
    asked = _asked(request, stores=stores)
    value = value_of(cells, request[1], now)
    if value is not None and not isinstance(value, (List, Set, SortedSet)):
        raise CommandError(WRONG_TYPE)
    total = len(value) if value is not None else 0
    start = min(max(asked.start, 0), total)
    stop = total if asked.count < 0 else min(start + asked.count, total)
    if isinstance(value, Set) and asked.target is not None and not asked.in_order:
        asked.in_order, asked.as_text, asked.by = (
            True,
            True,
            b"",
        )  # what is kept is in some order, and in the same always
    if value is None:
        found: Sequence[bytes] = ()
    elif asked.in_order:
        found = _sorted(_between(value, 0, total), cells, asked, now, stop)[start:stop]
    elif asked.descending and not isinstance(value, Set):
        found = _between(value, total - stop, total - start)[::-1]
    else:
        found = _between(value, start, stop)
    items: list[bytes | None]
    if asked.gets:
        gets = [_looked_up(cells, pattern, now) for pattern in asked.gets]
        items = [get(element) for element in found for get in gets]
    else:
        items = list(found)
    if asked.target is None:
        return (), items  # type: ignore[return-value]
    body = putting([item or b"" for item in items]) if items else None
    changes = ((asked.target, body, 0),) if body is not None or value_of(cells, asked.target, now) is not None else ()
    return changes, len(items)


def _between(value: List | Set | SortedSet, start: int, stop: int) -> Sequence[bytes]:
    """Some elements, in the order that they have."""
    if isinstance(value, List):
        return value.between(start, stop)
    return value.between(start, stop)[0] if isinstance(value, SortedSet) else list(islice(value.names(), start, stop))


@command(
    "sort",
    WRITE,
    summary="Sorts the elements of a list, a set or a sorted set, and returns or keeps them, or what they stand for.",
    keys_at=_keys_at,
    wanders=_wanders,
)
def sort(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _sort(cells, request, now, stores=True)


@command(
    "sort_ro",
    WRITE,
    summary="Sorts the elements of a list, a set or a sorted set, and returns them, or what they stand for.",
    keys_at=_keys_at,
    wanders=_wanders,
)
def sort_ro(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _sort(cells, request, now, stores=False)
