"""Commands on lists that do not wait for an element."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Final

from peerkv.commands.access import (
    INTEGER_MAX,
    NO_SUCH_KEY,
    SYNTAX,
    collection_of,
    count_option,
    deadline_of,
    integer,
    integer_between,
    span,
)
from peerkv.commands.table import COMMANDS, Effect, Kind, arity_error, command
from peerkv.databases import bare_key
from peerkv.resp import NULL_ARRAY, OK, CommandError, Reply, ReplyError
from peerkv.store.cell import Cells, Change
from peerkv.store.values.lists import List

READ, WRITE = Kind.READ, Kind.WRITE

NOT_POSITIVE: Final = "value is out of range, must be positive"


def _list_of(cells: Cells, key: bytes, now: int) -> List | None:
    return collection_of(List, cells, key, now)  # type: ignore[type-abstract]


def _is_left(argument: bytes) -> bool:
    side = argument.upper()
    if side not in (b"LEFT", b"RIGHT"):
        raise CommandError(SYNTAX)
    return side == b"LEFT"


# -- pushes and pops


def _push(cells: Cells, request: Sequence[bytes], now: int, *, only_existing: bool = False) -> Effect:
    key = request[1]
    found = _list_of(cells, key, now)
    if found is None and only_existing:
        return (), 0
    patch = "lpush" if request[0][:1] in b"lL" else "rpush"
    length = (len(found) if found is not None else 0) + len(request) - 2
    return ((key, (patch, *request[2:]), deadline_of(cells, key, now)),), length


@command(
    "lpush",
    WRITE,
    summary="Puts elements before the first of a list, which is made if there is none.",
)
def lpush(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _push(cells, request, now)


@command("rpush", WRITE, summary="Puts elements behind the last of a list, which is made if there is none.")
def rpush(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _push(cells, request, now)


@command("lpushx", WRITE, summary="Puts elements before the first of a list that exists.")
def lpushx(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _push(cells, request, now, only_existing=True)


@command("rpushx", WRITE, summary="Puts elements behind the last of a list that exists.")
def rpushx(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _push(cells, request, now, only_existing=True)


def _taken(cells: Cells, key: bytes, found: List, count: int, now: int, *, left: bool) -> tuple[Change, list[Reply]]:
    """The first or last elements, in the order in which they are popped, and the change that removes them."""
    length = len(found)
    if count >= length:
        change: Change = (key, None, 0)
    else:
        change = (key, ("lcut", count, 0) if left else ("lcut", 0, count), deadline_of(cells, key, now))
    elements: list[Reply] = [
        *(found.between(0, min(count, length)) if left else found.between(max(0, length - count), length))
    ]
    return change, elements if left else elements[::-1]


def _pop(cells: Cells, request: Sequence[bytes], now: int, *, left: bool) -> Effect:
    if len(request) > 3:
        return (), arity_error(COMMANDS["lpop" if left else "rpop"])
    count = integer_between(request[2], 0, INTEGER_MAX, NOT_POSITIVE) if len(request) == 3 else None
    found = _list_of(cells, request[1], now)
    if found is None:
        return (), None if count is None else NULL_ARRAY
    if count == 0:
        return (), []
    change, elements = _taken(cells, request[1], found, 1 if count is None else count, now, left=left)
    return (change,), elements[0] if count is None else elements


@command("lpop", WRITE, summary="Removes the first elements of a list and returns them.")
def lpop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _pop(cells, request, now, left=True)


@command("rpop", WRITE, summary="Removes the last elements of a list and returns them, the last one first.")
def rpop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _pop(cells, request, now, left=False)


@command(
    "lmpop",
    WRITE,
    summary="Pops elements of the first list that is there.",
)
def lmpop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    behind = 2 + integer_between(request[1], 1, INTEGER_MAX, "numkeys should be greater than 0")
    if behind >= len(request):
        return (), SYNTAX
    left = _is_left(request[behind])
    count = count_option(request[behind + 1 :])
    for key in request[2:behind]:
        found = _list_of(cells, key, now)
        if found is not None:
            change, elements = _taken(cells, key, found, count, now, left=left)
            return (change,), [bare_key(key), elements]
    return (), NULL_ARRAY


def _move(cells: Cells, request: Sequence[bytes], now: int, *, from_left: bool, to_left: bool) -> Effect:
    source, target = request[1], request[2]
    found = _list_of(cells, source, now)
    if found is None:
        return (), None
    _list_of(cells, target, now)
    element = found.at(0 if from_left else len(found) - 1)
    if source == target:
        if from_left == to_left or len(found) == 1:
            return (), element
        return ((source, ("lturn", -1 if from_left else 1), deadline_of(cells, source, now)),), element
    change, _ = _taken(cells, source, found, 1, now, left=from_left)
    return (change, (target, ("lpush" if to_left else "rpush", element), deadline_of(cells, target, now))), element


@command(
    "lmove",
    WRITE,
    summary="Moves an element from an end of a list to an end of another.",
)
def lmove(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _move(cells, request, now, from_left=_is_left(request[3]), to_left=_is_left(request[4]))


@command(
    "rpoplpush",
    WRITE,
    summary="Moves the last element of a list before the first of another.",
)
def rpoplpush(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _move(cells, request, now, from_left=False, to_left=True)


# -- looking at a list


@command("llen", READ, summary="Returns how many elements a list has.")
def llen(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), len(_list_of(cells, request[1], now) or ())


@command("lrange", READ, summary="Returns a range of the elements of a list.")
def lrange(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    start, stop = integer(request[2]), integer(request[3])
    found = _list_of(cells, request[1], now)
    return (), [*found.between(*span(start, stop, len(found)))] if found is not None else []


@command("lindex", READ, summary="Returns the element of a list at an index.")
def lindex(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    found = _list_of(cells, request[1], now)
    if found is None:
        return (), None
    index = integer(request[2])
    index = index + len(found) if index < 0 else index
    return (), found.at(index) if 0 <= index < len(found) else None


@command("lpos", READ, summary="Returns at which indexes of a list an element stands.")
def lpos(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    rank, count, most = 1, -1, 0
    options = iter(request[3:])
    for option in options:
        argument = next(options, None)
        if argument is None:
            return (), SYNTAX
        match option.upper():
            case b"RANK":
                rank = integer_between(argument, -INTEGER_MAX, INTEGER_MAX)
                if rank == 0:
                    return (), ReplyError(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use"
                        " negative to start from the end of the list"
                    )
            case b"COUNT":
                count = integer_between(argument, 0, INTEGER_MAX, "COUNT can't be negative")
            case b"MAXLEN":
                most = integer_between(argument, 0, INTEGER_MAX, "MAXLEN can't be negative")
            case _:
                return (), SYNTAX
    found = _list_of(cells, request[1], now)
    if found is None:
        return (), [] if count >= 0 else None
    most = min(most, len(found)) or len(found)
    places = found.places(request[2], backwards=rank < 0)
    near = takewhile(lambda place: (place if rank > 0 else len(found) - 1 - place) < most, places)
    matches = islice(near, min(abs(rank) - 1, len(found)), None)
    if count < 0:
        return (), next(matches, None)
    return (), [*islice(matches, min(count, len(found)) or None)]


# -- changes within a list


@command("lset", WRITE, summary="Puts another element in the place of one of a list.")
def lset(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    found = _list_of(cells, key, now)
    if found is None:
        return (), NO_SUCH_KEY
    index = integer(request[2])
    index = index + len(found) if index < 0 else index
    if not 0 <= index < len(found):
        return (), ReplyError("ERR index out of range")
    return ((key, ("lset", index, request[3]), deadline_of(cells, key, now)),), OK


@command("linsert", WRITE, summary="Puts an element before or behind another of a list.")
def linsert(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key, where = request[1], request[2].upper()
    if where not in (b"BEFORE", b"AFTER"):
        return (), SYNTAX
    found = _list_of(cells, key, now)
    if found is None:
        return (), 0
    place = next(found.places(request[3]), None)
    if place is None:
        return (), -1
    index = place + (where == b"AFTER")
    patch = ("linsert", index, request[4]) if index < len(found) else ("rpush", request[4])
    return ((key, patch, deadline_of(cells, key, now)),), len(found) + 1


@command(
    "lrem",
    WRITE,
    summary="Removes elements that are equal to one from a list.",
)
def lrem(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key, element = request[1], request[3]
    wanted = integer(request[2])
    found = _list_of(cells, key, now)
    if found is None:
        return (), 0
    count = found.often(element, abs(wanted) or len(found))
    if not count:
        return (), 0
    if count == len(found):
        return ((key, None, 0),), count
    return ((key, ("lrem", -count if wanted < 0 else count, element), deadline_of(cells, key, now)),), count


@command("ltrim", WRITE, summary="Removes all elements of a list but those of a range.")
def ltrim(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    start, stop = integer(request[2]), integer(request[3])
    found = _list_of(cells, key, now)
    if found is None:
        return (), OK
    first, last = span(start, stop, len(found))
    if first == last:
        return ((key, None, 0),), OK
    if last - first == len(found):
        return (), OK
    return ((key, ("lcut", first, len(found) - last), deadline_of(cells, key, now)),), OK
