"""Commands that wait until there is something to take: what they do when there is, and what they wait for otherwise.

None of these functions waits: where there is nothing the reply is nil, which is what MULTI and scripts get. Whoever
asks by itself is made to wait by `clients.blocking`, which asks again when one of the keys has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

from peerkv.commands.access import read_double, value_of
from peerkv.commands.table import RUNS, Effect, Kind, Waits, command, keys_of
from peerkv.commands.table import find as row_named
from peerkv.databases import bare_key
from peerkv.resp import NULL_ARRAY, CommandError, NullArray, Reply, ReplyError
from peerkv.store.cell import Cells

WRITE = Kind.WRITE
NOT_A_TIMEOUT: Final = ReplyError("ERR timeout is not a float or out of range")
NEGATIVE: Final = ReplyError("ERR timeout is negative")
OUT_OF_RANGE: Final = ReplyError("ERR timeout is out of range")
TIMEOUT_MAX_MS: Final = (1 << 63) - (1 << 42)
"""A deadline that is later than 2^63 ms after 1970 is none."""
TIMEOUT_MAX: Final = float(1 << 31)
"""68 years; who wants to wait longer waits so long."""


def timeout_from(argument: bytes) -> float:
    """Seconds, of whole milliseconds; 0: for ever. Raises CommandError."""
    found = read_double(argument)
    if found is None or argument[:1].isspace():
        raise CommandError(NOT_A_TIMEOUT)
    milliseconds = max(-1e30, min(found[0] * 1000, 1e30))  # infinite ones are too large like others
    return in_seconds(ceil(milliseconds))


def in_seconds(milliseconds: int) -> float:
    """A timeout; 0: for ever. Raises CommandError."""
    if milliseconds < 0:
        raise CommandError(NEGATIVE)
    if milliseconds > TIMEOUT_MAX_MS:
        raise CommandError(OUT_OF_RANGE)
    return min(milliseconds / 1000, TIMEOUT_MAX)


def is_nothing(reply: Reply) -> bool:
    """Whether a command has found nothing to take."""
    return reply is None or isinstance(reply, NullArray)


def one_by_one(request: Sequence[bytes], keys: Sequence[bytes]) -> list[list[bytes]]:
    """The same of each of the keys that it waits for, alone; empty: there is one only."""
    count = len(keys)
    if count == 1:
        return []
    name = request[0].upper()
    if name == b"XREAD":
        head, ids = request[: -2 * count], request[-count:]
        return [[*head, key, id_] for key, id_ in zip(keys, ids, strict=True)]
    if name in (b"BLMPOP", b"BZMPOP"):
        return [[*request[:2], b"1", key, *request[3 + count :]] for key in keys]
    return [[request[0], key, request[-1]] for key in keys]


def _waits(at: int, request: Sequence[bytes]) -> Waits:
    row = row_named(request[0])
    assert row is not None, "it is of the table"
    keys = keys_of(row, request)
    timeout = timeout_from(request[at])
    if row.name in ("blmove", "brpoplpush"):
        return Waits(timeout, keys[:1], request, source=[b"LLEN", keys[0]])
    return Waits(timeout, keys, request)


def _waits_at_end(request: Sequence[bytes]) -> Waits:
    return _waits(len(request) - 1, request)


def _waits_at_first(request: Sequence[bytes]) -> Waits:
    return _waits(1, request)


def _first_of(name: bytes, cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """Take from the first key that has something, by a command on one key."""
    timeout_from(request[-1])
    for key in request[1:-1]:
        if value_of(cells, key, now) is not None:
            changes, reply = RUNS[name](cells, [name, key], now)
            if isinstance(reply, ReplyError):
                return (), reply
            taken = reply if isinstance(reply, list) else [reply]
            return changes or (), [bare_key(key), *taken]
    return (), NULL_ARRAY


@command("blpop", WRITE, "Removes the first element of the first list that has one, or waits.", blocks=_waits_at_end)
def blpop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _first_of(b"LPOP", cells, request, now)


@command("brpop", WRITE, "Removes the last element of the first list that has one, or waits.", blocks=_waits_at_end)
def brpop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _first_of(b"RPOP", cells, request, now)


@command("bzpopmin", WRITE, "Removes the lowest of the first sorted set there is, or waits.", blocks=_waits_at_end)
def bzpopmin(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _first_of(b"ZPOPMIN", cells, request, now)


@command("bzpopmax", WRITE, "Removes the highest of the first sorted set there is, or waits.", blocks=_waits_at_end)
def bzpopmax(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _first_of(b"ZPOPMAX", cells, request, now)


def _as(request: Sequence[bytes], timeout: bytes, cells: Cells, now: int) -> Effect:
    """Do as another command does. What is wrong with that is said first, and before what keys hold what the timeout
    is."""
    run = RUNS[request[0]]
    _, wrong = run({}, request, now)
    if isinstance(wrong, ReplyError):
        return (), wrong
    timeout_from(timeout)
    changes, reply = run(cells, request, now)
    return changes or (), reply


@command("blmove", WRITE, "Moves an element from one list to another, or waits for one.", blocks=_waits_at_end)
def blmove(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _as([b"LMOVE", *request[1:5]], request[5], cells, now)


@command("brpoplpush", WRITE, "Moves the last element of a list before another's, or waits.", blocks=_waits_at_end)
def brpoplpush(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _as([b"RPOPLPUSH", *request[1:3]], request[3], cells, now)


@command("blmpop", WRITE, "Pops elements of the first list that is there, or waits.", blocks=_waits_at_first)
def blmpop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _as([b"LMPOP", *request[2:]], request[1], cells, now)


@command("bzmpop", WRITE, "Pops members of the first sorted set that is there, or waits.", blocks=_waits_at_first)
def bzmpop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _as([b"ZMPOP", *request[2:]], request[1], cells, now)


def put_back(request: Sequence[bytes], reply: Reply) -> list[bytes] | None:
    """What undoes that a command has taken something whose client was gone by then; None: nothing is to be done."""
    if not isinstance(reply, list) or not request:
        return None
    name = request[0].upper()
    key = _key_of(request, reply)
    if key is None:
        return None
    if name in (b"BLPOP", b"BRPOP"):
        return [b"LPUSH" if name == b"BLPOP" else b"RPUSH", key, *_texts(reply[1:2])]
    if name == b"BLMPOP":
        left = b"LEFT" in [word.upper() for word in request[4:]]
        elements = _texts(reply[1] if isinstance(reply[1], list) else [])
        return [b"LPUSH" if left else b"RPUSH", key, *elements[::-1]]
    if name in (b"BZPOPMIN", b"BZPOPMAX"):
        return [b"ZADD", key, b"NX", _score(reply[2]), *_texts(reply[1:2])]
    if name == b"BZMPOP" and isinstance(reply[1], list):
        pairs = [pair for pair in reply[1] if isinstance(pair, list)]
        return [b"ZADD", key, b"NX", *[item for pair in pairs for item in (_score(pair[1]), *_texts(pair[:1]))]]
    return None


def _key_of(request: Sequence[bytes], reply: list[Reply]) -> bytes | None:
    """As it is held: that of the request whose bare name the reply has."""
    row = row_named(request[0])
    keys = keys_of(row, request) if row is not None else ()
    return next((key for key in keys if bare_key(key) == reply[0]), None)


def _texts(items: Sequence[Reply]) -> list[bytes]:
    return [item for item in items if isinstance(item, bytes)]


def _score(score: Reply) -> bytes:
    if isinstance(score, bytes):
        return score
    assert isinstance(score, (int, float)), "so scores are answered"
    return repr(float(score)).encode()
