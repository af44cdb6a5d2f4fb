"""Commands on sets: SADD and its like, draws, and what several sets have in common or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import filterfalse, islice
from typing import Final, TypeAlias

from peerkv.commands.access import INTEGER_MAX, SYNTAX, collection_of, deadline_of, integer_between, value_of
from peerkv.commands.elements import check_draws, check_size, cursor_from, draw_count, listing, numbers_from
from peerkv.commands.strings import STRING_BYTES_MAX
from peerkv.commands.table import Effect, Kind, command
from peerkv.resp import CommandError, Reply, ReplyError, Set
from peerkv.store.cell import Cells, Change
from peerkv.store.values import sets
from peerkv.store.values.keyed import SMALL_MAX
from peerkv.store.values.sets import ADD, REMOVE, STORE, UNITE, united

READ, WRITE = Kind.READ, Kind.WRITE

Members: TypeAlias = dict[bytes, None]

TOO_LARGE: Final = ReplyError(f"ERR the result would be larger than {STRING_BYTES_MAX} bytes, which cannot be stored")
_NOTHING: Final[Members] = {}


def _set_of(cells: Cells, key: bytes, now: int) -> sets.Set | None:
    return collection_of(sets.Set, cells, key, now)  # type: ignore[type-abstract]


def _members_of(cells: Cells, key: bytes, now: int) -> Members:
    found = _set_of(cells, key, now)
    return found.members if found is not None else _NOTHING


def _has(cells: Cells, key: bytes, wanted: Sequence[bytes], now: int) -> list[bool]:
    found = _set_of(cells, key, now)
    return found.has(wanted) if found is not None else [False] * len(wanted)


def _without(cells: Cells, key: bytes, members: Sequence[bytes], left: int, now: int) -> Change:
    """The change that removes these, after which so many are left."""
    return (key, (REMOVE, *members), deadline_of(cells, key, now)) if left else (key, None, 0)


# -- one set


@command("sadd", WRITE, summary="Adds members to a set, which is made if there is none.")
def sadd(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    asked = list(dict.fromkeys(request[2:]))
    new = [member for member, is_here in zip(asked, _has(cells, key, asked, now), strict=True) if not is_here]
    return (((key, (ADD, *new), deadline_of(cells, key, now)),) if new else ()), len(new)


@command("srem", WRITE, summary="Takes members out of a set; one without any is deleted.")
def srem(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    found = _set_of(cells, key, now)
    if found is None:
        return (), 0
    asked = list(dict.fromkeys(request[2:]))
    gone = [member for member, is_here in zip(asked, found.has(asked), strict=True) if is_here]
    return ((_without(cells, key, gone, len(found) - len(gone), now),) if gone else ()), len(gone)


@command("scard", READ, summary="Tells how many members a set has.")
def scard(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    found = _set_of(cells, request[1], now)
    return (), len(found) if found is not None else 0


@command("sismember", READ, summary="Tells whether something is in a set.")
def sismember(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), int(_has(cells, request[1], request[2:], now)[0])


@command("smismember", READ, summary="Tells of each of several things whether it is in a set.")
def smismember(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), list(map(int, _has(cells, request[1], request[2:], now)))


@command("smembers", READ, summary="Returns all members of a set.")
def smembers(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), Set(list(_members_of(cells, request[1], now)))


@command("smove", WRITE, summary="Takes a member out of one set and adds it to another.")
def smove(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    source, target, member = request[1:]
    found = _set_of(cells, source, now)
    if found is None:
        return (), 0
    is_there = _has(cells, target, (member,), now)[0]
    if not found.has((member,))[0]:
        return (), 0
    if source == target:
        return (), 1
    changes = [_without(cells, source, (member,), len(found) - 1, now)]
    if not is_there:
        changes.append((target, (ADD, member), deadline_of(cells, target, now)))
    return changes, 1


@command("sscan", READ, summary="Lists the members of a set page by page.")
def sscan(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    cursor = cursor_from(request[2])
    found = _set_of(cells, request[1], now)
    if found is None:
        return (), [b"0", []]
    options = listing(request[3:])
    members, cursor = found.page(cursor, options.most)
    if options.matches is not None:
        members = list(filter(options.matches, members))
    return (), [b"%d" % cursor, members]  # type: ignore[list-item]


# -- draws


@command("spop", WRITE, summary="Takes members that are drawn at random out of a set, and returns them.", chance=True)
def spop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    *request, chance = request
    key = request[1]
    if len(request) == 2:
        found = _set_of(cells, key, now)
        if found is None:
            return (), None
        member = found.drawn(numbers_from(chance))
        return (_without(cells, key, (member,), len(found) - 1, now),), member
    if len(request) > 3:
        return (), SYNTAX
    count = integer_between(request[2], 0, INTEGER_MAX, "value is out of range, must be positive")
    found = _set_of(cells, key, now)
    if found is None or not count:
        return (), Set([])
    members = found.sample(numbers_from(chance), count)
    return (_without(cells, key, members, len(found) - len(members), now),), Set(list(members))


@command(
    "srandmember",
    READ,
    summary="Returns members of a set that are drawn at random; with a negative count some of them several times.",
    chance=True,
)
def srandmember(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    *request, chance = request
    numbers = numbers_from(chance)
    if len(request) == 2:
        found = _set_of(cells, request[1], now)
        return (), found.drawn(numbers) if found is not None else None
    if len(request) > 3:
        return (), SYNTAX
    count = draw_count(request[2])
    found = _set_of(cells, request[1], now)
    if found is None or not count:
        return (), []
    if count > 0:
        return (), list(found.sample(numbers, count))
    check_draws(-count)
    return (), check_size(list(found.draws(numbers, -count)))


# -- several sets


def _all_of(cells: Cells, keys: Sequence[bytes], now: int) -> list[Members]:
    return [_members_of(cells, key, now) for key in keys]


def _inter(found: Sequence[Members]) -> Iterable[bytes]:
    """One by one, in the order of the smallest set."""
    first, *others = sorted(found, key=len)
    common: Iterable[bytes] = first
    for other in others:
        common = filter(other.__contains__, common)
    return common


def _diff(found: Sequence[Members]) -> Iterable[bytes]:
    first, *others = found
    rest: Iterable[bytes] = first
    for other in others:
        rest = filterfalse(other.__contains__, rest)
    return rest


Combine: TypeAlias = Callable[[Sequence[Members]], Iterable[bytes]]


def _combined(name: str, combine: Combine, summary: str) -> None:
    """The two commands that answer and that store what becomes of several sets. A large union does not travel: it is
    hardly smaller than the sets, which all owners have, and they unite them in less time than they would read it."""

    @command(name, READ, summary=f"Returns {summary}.")
    def read(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
        return (), Set(list(combine(_all_of(cells, request[1:], now))))

    @command(f"{name}store", WRITE, summary=f"Stores {summary} under a key.")
    def store(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
        target = request[1]
        found = combine(_all_of(cells, request[2:], now))
        members = found if isinstance(found, dict) else list(found)
        if combine is united and len(members) > SMALL_MAX:
            sources = [key for key in dict.fromkeys(request[2:]) if value_of(cells, key, now) is not None]
            return ((target, (UNITE, *sources), 0),), len(members)
        if sum(map(len, members)) > STRING_BYTES_MAX:
            raise CommandError(TOO_LARGE)
        if members:
            return ((target, (STORE, *members), 0),), len(members)
        return (((target, None, 0),) if value_of(cells, target, now) is not None else ()), 0


_combined("sinter", _inter, "the members that several sets have in common")
_combined("sunion", united, "the members that any of several sets has")
_combined("sdiff", _diff, "the members of the first set that none of the others has")


@command(
    "sintercard", READ, summary="Tells how many members several sets have in common, at most as many as the limit says."
)
def sintercard(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    count = integer_between(request[1], 1, INTEGER_MAX, "numkeys should be greater than 0")
    if count > len(request) - 2:
        return (), ReplyError("ERR Number of keys can't be greater than number of args")
    limit = 0
    options = iter(request[2 + count :])
    for option in options:
        argument = next(options, None)
        if option.upper() != b"LIMIT" or argument is None:
            return (), SYNTAX
        limit = integer_between(argument, 0, INTEGER_MAX, "LIMIT can't be negative")
    common = _inter(_all_of(cells, request[2 : 2 + count], now))
    reply: Reply = sum(1 for _ in islice(common, limit or INTEGER_MAX))
    return (), reply
