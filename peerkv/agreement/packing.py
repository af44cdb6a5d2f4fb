"""Numbers in a row, and what a turn has changed, as they travel."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

from peerkv.agreement.checks import (
    POSITION_MAX,
    are_bytes,
    bodies_of,
    flat,
    keys_of,
    marks_of,
    natural,
    numbers,
    replies_of,
    slots_of,
)
from peerkv.agreement.turn import ROW, Accepts
from peerkv.store.recent import TICKET_SLOT

# Numbers: 8 bytes each, at a fifth of the cost of CBOR's


def pack_numbers(values: Sequence[int]) -> bytes:
    """Integers of 63 bits and a sign."""
    try:
        packed = array("Q", values)  # takes half the time of "q"; what is not negative is the same in both
    except OverflowError:
        packed = array("q", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_signed(packed: Any) -> list[int]:
    """Integers that may be negative."""
    if type(packed) is not bytes:
        raise ValueError("not packed numbers")
    values = array("q", packed)  # a ValueError if their length is no multiple of 8
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def unpack_numbers(packed: Any) -> list[int]:
    """Integers that are not negative: the highest byte of each is below 128, which costs 3 ns a number to see."""
    if type(packed) is not bytes or not packed[7::8].isascii():
        raise ValueError("not packed numbers")
    return unpack_signed(packed)


def unpack_positions(packed: Any) -> list[int]:
    """Positions have 62 bits."""
    if type(packed) is not bytes or packed[7::8].translate(None, _BELOW_64):
        raise ValueError("not packed positions")
    return unpack_signed(packed)


_BELOW_64: Final = bytes(range(64))


def tickets_of(values: list[int], slots: int) -> None:
    """A ticket names a slot; where there are as many as it can name, each does."""
    if slots <= TICKET_SLOT and any(value & TICKET_SLOT >= slots for value in values):
        raise ValueError("a ticket of no slot")


# What a turn has changed


def pack_accepts(accepts: Accepts) -> list[Any]:
    """As plain lists: the same for all owners of a group, so made and encoded once."""
    segments: list[Any] = []
    for process, columns in accepts.segments:
        tickets, positions, keys, values, deadlines = columns[: ROW - 1]
        segments += (
            process,
            pack_numbers(tickets),
            pack_numbers(positions),
            keys,
            values,
            pack_numbers(deadlines) if any(deadlines) else b"",
            pack_replies(columns[ROW - 1]) if process else [],
        )
    return [segments, _flat(accepts.starts), accepts.awaited, _flat(accepts.marks)]


def _flat(items: Mapping[int, int]) -> list[int]:
    return list(chain.from_iterable(items.items())) if items else []


def unpack_accepts(content: Any, slots: int) -> Accepts:
    if type(content) is not list or len(content) < 4:
        raise ValueError("not what a turn has changed")
    segments, starts, awaited, marks = content[:4]
    if type(segments) is not list or type(awaited) is not bool:
        raise ValueError("not what a turn has changed")
    began: dict[int, int] = {}
    if starts:
        starting, positions = flat(starts, 2)
        began.update(zip(slots_of(starting, slots), numbers(positions, most=POSITION_MAX), strict=True))
    items = iter(segments)
    recipes: dict[int, list[int]] = {}
    found: list[tuple[int, list[Sequence[Any]]]] = []
    for columns in zip(*[items] * 7, strict=True):
        process, unpacked, places = _unpack_segment(slots, *columns)
        if places:
            recipes[len(found)] = places
        found.append((process, unpacked))
    return Accepts(found, began, marks_of(marks), recipes, awaited=awaited)


def _unpack_segment(
    slots: int, process: Any, tickets: Any, positions: Any, keys: Any, values: Any, deadlines: Any, replies: Any
) -> tuple[int, list[Sequence[Any]], list[int]]:
    natural(process)
    tickets, positions = unpack_numbers(tickets), unpack_positions(positions)
    count = len(tickets)
    deadlines = unpack_numbers(deadlines) if deadlines else [0] * count
    if (
        type(keys) is not list
        or type(values) is not list
        or not count == len(positions) == len(keys) == len(values) == len(deadlines)
    ):
        raise ValueError("changes of different lengths")
    tickets_of(tickets, slots)
    values = bodies_of(values)
    if not are_bytes(keys):
        for key, value in zip(keys, values, strict=True):
            if type(key) is list:
                changed, bodies, until = flat(key, 3)
                keys_of(changed)
                key[1::3] = bodies_of(bodies)
                numbers(until)
            elif key is not None and type(key) is not bytes:
                raise ValueError("not a key")
            if type(key) is not bytes and value is not None:
                raise ValueError("a value of no key")
    columns: list[Sequence[Any]] = [tickets, positions, keys, values, deadlines]
    recipes: list[int] = []
    if process:
        columns.append(unpack_replies(replies, count, recipes))
        for place in recipes:
            if type(keys[place]) is not bytes:
                raise ValueError("a recipe for a reply to no change of one key")
    return process, columns, recipes


def pack_replies(replies: Sequence[Any]) -> Sequence[Any]:
    """If all are the same simple string, as OK is, then one is enough."""
    first = replies[0]
    return [first] if type(first) is str and replies.count(first) == len(replies) else replies


def unpack_replies(replies: Any, count: int, recipes: list[int] | None = None) -> list[Any]:
    """As many replies as that. `recipes`: as `replies_of` has it."""
    found = replies_of(replies, recipes=recipes)
    if len(found) == count:
        return found
    if len(found) != 1 or recipes:
        raise ValueError("not as many replies as operations")
    return found * count
