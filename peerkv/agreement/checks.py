"""What fields of messages and columns may be: functions that return a value as engines have it, or raise ValueError.

Whatever has come over a wire goes through one of these before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from peerkv.cbor import FORMER
from peerkv.resp.replies import Map, Named, NullArray, Pairs, ReplyError, Set
from peerkv.store.cell import BALLOT_MAX, SEQUENCE_BITS
from peerkv.store.values import checked

Check: TypeAlias = Callable[[Any, int], Any]
"""(value, how many slots there are) -> the value as engines have it. Raises ValueError for what is none."""

NUMBER_MAX: Final = (1 << 63) - 1
POSITION_MAX: Final = (BALLOT_MAX + 1 << SEQUENCE_BITS) - 1
_BYTES: Final = frozenset({bytes})
_INTEGERS: Final = frozenset({int})
_ATOMS: Final = frozenset({type(None), int, bytes, str, bool, float, ReplyError})
_COMPOUND: Final = frozenset({Map, Named, NullArray, Pairs, Set})
REPLY_DEPTH_MAX: Final = 8
_FEW: Final = 32


# What fields may be


def natural(value: Any, _slots: int = 0) -> int:
    """An integer of 63 bits, not negative."""
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise ValueError("not a number")
    return value


def number(least: int = 0, most: int = NUMBER_MAX) -> Check:
    """An integer within bounds."""

    def check(value: Any, _slots: int = 0) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"not a number from {least} to {most}")
        return value

    return check


def numbers(values: Any, least: int = 0, most: int = NUMBER_MAX) -> list[int]:
    """A list of integers within bounds."""
    if type(values) is not list or not _INTEGERS.issuperset(map(type, values)):
        raise ValueError("not a list of numbers")
    if values and not least <= min(values) <= max(values) <= most:
        raise ValueError(f"numbers are from {least} to {most}")
    return values


def flat(values: Any, width: int) -> list[list[Any]]:
    """The columns of a flat list of rows."""
    if type(values) is not list or len(values) % width:
        raise ValueError(f"not a flat list of {width} each")
    return [values[column::width] for column in range(width)]


def slot(value: Any, slots: int) -> int:
    """The number of a slot."""
    if type(value) is not int or not 0 <= value < slots:
        raise ValueError("not the number of a slot")
    return value


def slots_of(values: Any, slots: int) -> list[int]:
    """A list of numbers of slots."""
    return numbers(values, most=slots - 1)


ballot: Final = number(most=BALLOT_MAX)
position: Final = number(most=POSITION_MAX)


def key(value: Any, _slots: int = 0) -> bytes:
    """Bytes."""
    if type(value) is not bytes:
        raise ValueError("not bytes")
    return value


def are_bytes(values: list[Any]) -> bool:
    """Whether all are bytes. To join them shows it in a third of the time of a look at each type; where they are few,
    and so may be large, nothing is copied."""
    if len(values) < _FEW:
        return _BYTES.issuperset(map(type, values))
    try:
        b"".join(values)
    except TypeError:
        return False
    return True


def keys_of(values: Any, _slots: int = 0) -> list[bytes]:
    """A list of keys."""
    if type(values) is not list or not are_bytes(values):
        raise ValueError("not a list of bytes")
    return values


def bodies_of(values: list[Any]) -> list[Any]:
    """A list of bodies: bytes, None, or patches, which come as lists and become what they are."""
    if are_bytes(values):
        return values
    return [checked(value) if type(value) is list else value_of(value) for value in values]


def value_of(value: Any) -> bytes | None:
    """Bytes, or None."""
    if value is not None and type(value) is not bytes:
        raise ValueError("not a value")
    return value


def replies_of(values: Any, depth: int = REPLY_DEPTH_MAX, recipes: list[int] | None = None) -> list[Any]:
    """A list of replies; a reply may be such a list. `recipes`: where the places are noted of those that are none but
    recipes (rule A7); without it there may not be any."""
    if type(values) is not list:
        raise ValueError("not a list of replies")
    if not _ATOMS.issuperset(map(type, values)):
        for place, value in enumerate(values):
            if type(value) is list and depth:
                replies_of(value, depth - 1)
            elif value is FORMER and recipes is not None:
                recipes.append(place)
            elif type(value) in _COMPOUND and depth:
                replies_of(value.items, depth - 1)
                if type(value) is not Set and len(value.items) % 2:
                    raise ValueError("a value without its field")
            elif type(value) not in _ATOMS:
                raise ValueError("not a reply")
    return values


def flag(value: Any, _slots: int = 0) -> bool:
    """True or False."""
    if type(value) is not bool:
        raise ValueError("not true or false")
    return value


def marks_of(values: Any) -> dict[int, int]:
    """Flat: process, mark."""
    processes, marks = flat(values, 2)
    return dict(zip(numbers(processes, 1), numbers(marks), strict=True))
