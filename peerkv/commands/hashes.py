"""Commands on hashes: HSET and its like, counters, draws, and the deadlines of fields (Redis 7.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from typing import Final

from peerkv.commands.access import (
    INTEGER_MAX,
    NOT_A_FLOAT,
    SYNTAX,
    collection_of,
    deadline_of,
    integer,
    integer_between,
)
from peerkv.commands.elements import check_draws, check_size, cursor_from, draw_count, listing, numbers_from
from peerkv.commands.strings import in_cluster_time, long_double, sum_of_long_doubles
from peerkv.commands.table import ONE_KEY, Effect, Kind, command, part
from peerkv.resp import OK, CommandError, Map, Pairs, Reply, ReplyError, parse_integer
from peerkv.store.cell import Cells, Change
from peerkv.store.values.hashes import ANEW, CHANGE, EXPIRE, PUT, REMOVE, Hash
from peerkv.store.values.keyed import below, shuffled

READ, WRITE = Kind.READ, Kind.WRITE

DUE_MAX: Final = 1024
"""Expired fields that one command removes: 3 ms. The others stay where they are, and nobody sees them."""
DEADLINE_MAX: Final = (1 << 46) - 1
"""Milliseconds; Redis's HFE_MAX_ABS_TIME_MSEC."""


def _hash_of(cells: Cells, key: bytes, now: int) -> Hash | None:
    """None, too, if all of its fields have expired."""
    found = collection_of(Hash, cells, key, now)  # type: ignore[type-abstract]
    return found if found is not None and found.due(now) < len(found) else None


def _live(cells: Cells, key: bytes, now: int) -> dict[bytes, bytes]:
    found = _hash_of(cells, key, now)
    return found.live(now) if found is not None else {}


def _values(cells: Cells, key: bytes, fields: Sequence[bytes], now: int) -> list[bytes | None]:
    found = _hash_of(cells, key, now)
    return found.values_of(fields, now) if found is not None else [None] * len(fields)


def _changed(
    cells: Cells, key: bytes, found: Hash | None, now: int, name: str, *arguments: bytes | int
) -> tuple[Change]:
    """The change of a hash by a patch, which removes what has expired, too."""
    if found is None:
        return ((key, (name, ANEW, *arguments), 0),)
    due = min(found.due(now), DUE_MAX)
    return ((key, (name, due, *arguments), deadline_of(cells, key, now)),)


# -- fields


@command("hset", WRITE, summary="Sets fields of a hash, which is made if there is none.")
def hset(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    if len(request) % 2:
        return (), ReplyError("ERR wrong number of arguments for 'hset' command")
    key = request[1]
    found = _hash_of(cells, key, now)
    fields = list(dict.fromkeys(request[2::2]))
    new = found.values_of(fields, now).count(None) if found is not None else len(fields)
    return _changed(cells, key, found, now, PUT, *request[2:]), new


@command("hmset", WRITE, summary="Sets fields of a hash; HSET of old.")
def hmset(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    if len(request) % 2:
        return (), ReplyError("ERR wrong number of arguments for 'hmset' command")
    key = request[1]
    return _changed(cells, key, _hash_of(cells, key, now), now, PUT, *request[2:]), OK


@command("hsetnx", WRITE, summary="Sets a field of a hash if there is no such field.")
def hsetnx(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    found = _hash_of(cells, key, now)
    if found is not None and found.values_of(request[2:3], now)[0] is not None:
        return (), 0
    return _changed(cells, key, found, now, PUT, *request[2:]), 1


@command("hget", READ, summary="Returns a field of a hash.")
def hget(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), _values(cells, request[1], request[2:], now)[0]


@command("hmget", READ, summary="Returns several fields of a hash.")
def hmget(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), list(_values(cells, request[1], request[2:], now))


@command("hdel", WRITE, summary="Takes fields out of a hash; one without any is deleted.")
def hdel(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    found = _hash_of(cells, key, now)
    if found is None:
        return (), 0
    asked = list(dict.fromkeys(request[2:]))
    values = found.values_of(asked, now)
    gone = [field for field, value in zip(asked, values, strict=True) if value is not None]
    if not gone:
        return (), 0
    if len(gone) == len(found) - found.due(now):
        return ((key, None, 0),), len(gone)
    return _changed(cells, key, found, now, REMOVE, *gone), len(gone)


@command("hlen", READ, summary="Tells how many fields a hash has.")
def hlen(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    found = _hash_of(cells, request[1], now)
    return (), len(found) - found.due(now) if found is not None else 0


@command("hstrlen", READ, summary="Tells how long the value of a field is.")
def hstrlen(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), len(_values(cells, request[1], request[2:], now)[0] or b"")


@command("hexists", READ, summary="Tells whether a hash has a field.")
def hexists(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), int(_values(cells, request[1], request[2:], now)[0] is not None)


@command("hkeys", READ, summary="Returns all names of fields of a hash.")
def hkeys(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), list(_live(cells, request[1], now))


@command("hvals", READ, summary="Returns all values of a hash.")
def hvals(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), list(_live(cells, request[1], now).values())


@command("hgetall", READ, summary="Returns all fields of a hash and their values.")
def hgetall(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), Map(list(chain.from_iterable(_live(cells, request[1], now).items())))


@command("hscan", READ, summary="Lists the fields of a hash page by page.")
def hscan(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    cursor = cursor_from(request[2])
    found = _hash_of(cells, request[1], now)
    if found is None:
        return (), [b"0", []]
    options = listing(request[3:], may_leave_values=True)
    fields, cursor = found.page(cursor, options.most)
    if options.matches is not None:
        fields = list(filter(options.matches, fields))
    page: list[Reply] = []
    for field, value in zip(fields, found.values_of(fields, now), strict=True):
        if value is not None:
            page.append(field)
            if options.with_values:
                page.append(value)
    return (), [b"%d" % cursor, page]


# -- counters


def _counted(cells: Cells, request: Sequence[bytes], now: int, count: Callable[[bytes | None], bytes]) -> tuple[Change]:
    """The change of a field to what is counted from its value; the deadline that it has stays."""
    key, field = request[1], request[2]
    found = _hash_of(cells, key, now)
    old = found.values_of((field,), now)[0] if found is not None else None
    return _changed(cells, key, found, now, CHANGE if old is not None else PUT, field, count(old))


@command("hincrby", WRITE, summary="Adds an integer to the value of a field, which is 0 if there is none.")
def hincrby(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    amount = integer(request[3])

    def count(old: bytes | None) -> bytes:
        number = parse_integer(old) if old is not None else 0
        if number is None:
            raise CommandError(ReplyError("ERR hash value is not an integer"))
        if not -INTEGER_MAX - 1 <= number + amount <= INTEGER_MAX:
            raise CommandError(ReplyError("ERR increment or decrement would overflow"))
        return b"%d" % (number + amount)

    changes = _counted(cells, request, now, count)
    return changes, int(changes[0][1][-1])  # type: ignore[index]


@command("hincrbyfloat", WRITE, summary="Adds a number to the value of a field, which is 0 if there is none.")
def hincrbyfloat(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    amount = long_double(request[3])
    if amount is None:
        return (), NOT_A_FLOAT
    if isinstance(amount, float):
        return (), ReplyError("ERR value is NaN or Infinity")

    def count(old: bytes | None) -> bytes:
        number = long_double(old) if old is not None else Fraction(0)
        if number is None:
            raise CommandError(ReplyError("ERR hash value is not a float"))
        return sum_of_long_doubles(number, amount)

    changes = _counted(cells, request, now, count)
    return changes, changes[0][1][-1]  # type: ignore[index]


# -- draws


@command(
    "hrandfield",
    READ,
    summary="Returns fields of a hash that are drawn at random; with a negative count some of them several times.",
    chance=True,
)
def hrandfield(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    *request, chance = request
    numbers = numbers_from(chance)
    if len(request) == 2:
        found = _hash_of(cells, request[1], now)
        return (), _drawn(found, now, numbers, -1)[0] if found is not None else None
    count = draw_count(request[2])
    with_values = len(request) == 4 and request[3].upper() == b"WITHVALUES"
    if len(request) > 3 and not with_values:
        return (), SYNTAX
    if with_values and abs(count) > INTEGER_MAX // 2:
        return (), ReplyError("ERR value is out of range")
    found = _hash_of(cells, request[1], now)
    if found is None or not count:
        return (), []
    check_draws(-count)
    fields: list[Reply] = list(_drawn(found, now, numbers, count))
    if not with_values:
        return (), check_size(fields)
    pairs = zip(fields, found.values_of(fields, now), strict=True)  # type: ignore[arg-type]
    return (), Pairs(check_size(list(chain.from_iterable(pairs))))


def _drawn(found: Hash, now: int, numbers: Iterator[int], count: int) -> list[bytes]:
    """Names of so many fields; negative: with repetitions."""
    if found.due(now):
        pool = list(found.live(now))
        if count < 0:
            return [pool[below(len(pool), numbers)] for _ in range(-count)]
        return shuffled(pool, numbers, count) if count < len(pool) else pool
    return found.draws(numbers, -count) if count < 0 else found.sample(numbers, count)


# -- deadlines of fields

_NOT_POSITIVE: Final = "Number of fields must be a positive integer"
_CONDITIONS: Final = (b"NX", b"XX", b"GT", b"LT")


def _fields(request: Sequence[bytes], at: int, not_positive: str) -> Sequence[bytes]:
    """What stands behind FIELDS and their number. Raises CommandError."""
    if request[at].upper() != b"FIELDS":
        raise CommandError(ReplyError("ERR Mandatory argument FIELDS is missing or not at the right position"))
    count = integer_between(request[at + 1], 1, INTEGER_MAX, not_positive)
    fields = request[at + 2 :]
    if count != len(fields):
        raise CommandError(ReplyError("ERR The `numfields` parameter must match the number of arguments"))
    return fields


def _deadline_from(request: Sequence[bytes], unit: int, base: int) -> int:
    """In cluster milliseconds. Raises CommandError."""
    amount = integer(request[2])
    if amount < 0:
        raise CommandError(ReplyError("ERR invalid expire time, must be >= 0"))
    if amount * unit > DEADLINE_MAX - base:
        name = request[0].decode("ascii").lower()
        raise CommandError(ReplyError(f"ERR invalid expire time in '{name}' command"))
    return amount * unit + base


def _meets(condition: bytes, old: int, deadline: int) -> bool:
    """Whether a field with this deadline (0: none) may get another one."""
    match condition:
        case b"NX":
            return not old
        case b"XX":
            return old > 0
        case b"GT":
            return 0 < old < deadline
        case b"LT":
            return not old or deadline < old
    return True


def _flat(deadlines: Iterable[tuple[bytes, int]]) -> list[bytes | int]:
    return [item for pair in deadlines for item in pair]


def _expire(cells: Cells, request: Sequence[bytes], now: int, unit: int, base: int) -> Effect:
    key = request[1]
    found = _hash_of(cells, key, now)
    deadline = _deadline_from(request, unit, base)
    condition = request[3].upper()
    at = 3 if condition not in _CONDITIONS else 4
    fields = _fields(request, at, "Parameter `numFields` should be greater than 0")
    if found is None:
        return (), [-2] * len(fields)
    replies: list[Reply] = []
    known = found.deadlines_of(fields, now)
    changed: dict[bytes, int] = {}
    gone: list[bytes] = []
    for field in fields:
        old = known[field]
        if old is None:
            replies.append(-2)
        elif not _meets(condition, old, deadline):
            replies.append(0)
        elif deadline <= now:
            known[field] = None
            gone.append(field)
            replies.append(2)
        else:
            known[field] = changed[field] = deadline
            replies.append(1)
    if len(gone) == len(found) - found.due(now):
        return ((key, None, 0),), replies
    if gone:
        return _changed(cells, key, found, now, REMOVE, *gone), replies
    if changed:
        return _changed(cells, key, found, now, EXPIRE, *_flat(changed.items())), replies
    return (), replies


def _dated(request: Sequence[bytes], skew: int) -> list[bytes]:
    """HEXPIREAT and HPEXPIREAT, both as HPEXPIREAT."""
    unit = 1000 if request[0].upper() == b"HEXPIREAT" else 1
    deadline = in_cluster_time(request[2], unit, skew, 0)
    if deadline is None or int(deadline) > DEADLINE_MAX:
        return list(request)
    return [b"HPEXPIREAT", request[1], deadline, *request[3:]]


@command("hexpire", WRITE, summary="Has fields of a hash expire in so many seconds.")
def hexpire(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _expire(cells, request, now, 1000, now)


@command("hpexpire", WRITE, summary="Has fields of a hash expire in so many milliseconds.")
def hpexpire(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _expire(cells, request, now, 1, now)


@command("hexpireat", WRITE, summary="Has fields of a hash expire at a Unix time in seconds.", dated=_dated)
def hexpireat(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _expire(cells, request, now, 1000, 0)


@command("hpexpireat", WRITE, summary="Has fields of a hash expire at a Unix time in milliseconds.", dated=_dated)
def hpexpireat(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _expire(cells, request, now, 1, 0)


@command("hpersist", WRITE, summary="Has fields of a hash not expire.")
def hpersist(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    found = _hash_of(cells, key, now)
    fields = _fields(request, 2, _NOT_POSITIVE)
    if found is None:
        return (), [-2] * len(fields)
    known = found.deadlines_of(fields, now)
    kept = [field for field in known if known[field]]
    replies: list[Reply] = []
    for field in fields:
        old = known[field]
        replies.append(-2 if old is None else 1 if old else -1)
        known[field] = None if old is None else 0
    if not kept:
        return (), replies
    return _changed(cells, key, found, now, EXPIRE, *_flat((field, 0) for field in kept)), replies


def _when(cells: Cells, request: Sequence[bytes], now: int, answer: Callable[[int], int]) -> Effect:
    """Of each field the deadline; -1: none; -2: no such field."""
    found = _hash_of(cells, request[1], now)
    fields = _fields(request, 2, _NOT_POSITIVE)
    if found is None:
        return (), [-2] * len(fields)
    known = found.deadlines_of(fields, now)
    deadlines = map(known.__getitem__, fields)
    return (), [-2 if deadline is None else answer(deadline) if deadline else -1 for deadline in deadlines]


def _seconds(milliseconds: int) -> int:
    """Those that have begun."""
    return (milliseconds + 999) // 1000


@command("httl", READ, summary="Tells in how many seconds fields of a hash expire.")
def httl(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _when(cells, request, now, lambda deadline: _seconds(deadline - now))


@command("hpttl", READ, summary="Tells in how many milliseconds fields of a hash expire.")
def hpttl(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _when(cells, request, now, lambda deadline: deadline - now)


_BY_WALL: Final = b"PEERKV."


def _asked_by_wall(request: Sequence[bytes], skew: int) -> list[bytes]:
    """By a name that a client cannot say, with how far the reply is to be moved before the fields."""
    return [_BY_WALL + request[0].upper(), request[1], b"%d" % skew, *request[2:]]


def _when_by_wall(cells: Cells, request: Sequence[bytes], now: int, answer: Callable[[int], int]) -> Effect:
    if not request[0].startswith(_BY_WALL):
        return _when(cells, request, now, answer)
    skew = int(request[2])
    return _when(cells, [*request[:2], *request[3:]], now, lambda deadline: answer(max(deadline + skew, 0)))


@part(_BY_WALL + b"HEXPIRETIME", READ, ONE_KEY)
@command(
    "hexpiretime", READ, summary="Tells at which Unix time in seconds fields of a hash expire.", dated=_asked_by_wall
)
def hexpiretime(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _when_by_wall(cells, request, now, _seconds)


@part(_BY_WALL + b"HPEXPIRETIME", READ, ONE_KEY)
@command(
    "hpexpiretime",
    READ,
    summary="Tells at which Unix time in milliseconds fields of a hash expire.",
    dated=_asked_by_wall,
)
def hpexpiretime(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _when_by_wall(cells, request, now, lambda deadline: deadline)
