"""Commands on keys whatever they hold: deletion, existence, expiry, renaming."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from peerkv.commands.access import INTEGER_MAX, NO_SUCH_KEY, SYNTAX, database, deadline_of, integer, value_of
from peerkv.commands.strings import in_cluster_time, merge_parts
from peerkv.commands.table import WHOLE_SLOT, Effect, Kind, Spread, command, known, part
from peerkv.databases import DATABASES, bare_key, database_of, in_database
from peerkv.resp import OK, Reply, ReplyError, as_said
from peerkv.store.cell import Cells, Change
from peerkv.store.values import COPY, MOVE, Collection, Value
from peerkv.store.values.strings import kept

READ, WRITE = Kind.READ, Kind.WRITE


# -- deletion and existence, of keys of any slots


@part(b"PEERKV.DEL", WRITE)
def _del_part(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    deleted: list[Change] = [
        (key, None, 0) for key in dict.fromkeys(request[1:]) if value_of(cells, key, now) is not None
    ]
    return deleted, len(deleted)


@part(b"PEERKV.EXISTS", READ)
def _exists_part(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), int(value_of(cells, request[1], now) is not None)


@part(b"PEERKV.TYPES", READ)
def _types_part(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """SCAN TYPE, of keys of one slot."""
    return (), [_type(value_of(cells, key, now)) for key in request[1:]]


@part(WHOLE_SLOT.encode(), WRITE)
def _clear_part(cells: Cells, request: Sequence[bytes], _now: int) -> Effect:
    """FLUSHALL, or FLUSHDB of a database, of so many keys of one slot, or of all where no number is said; how many
    there were."""
    only = int(request[3]) if len(request) > 3 else None
    clients = (only,) if only is not None else range(DATABASES)
    live = (key for key, cell in cells.items() if cell[1] is not None and database_of(key) in clients)
    changes: list[Change] = [(key, None, 0) for key in islice(live, int(request[2]) if len(request) > 2 else None)]
    return changes, len(changes)


def _sum(replies: list[Reply]) -> Reply:
    return sum(reply for reply in replies if isinstance(reply, int))


_DELETE: Final = Spread(lambda request: [(key, [b"PEERKV.DEL", key]) for key in request[1:]], _sum, merge_parts)
_COUNT: Final = Spread(lambda request: [(key, [b"PEERKV.EXISTS", key]) for key in request[1:]], _sum)

known("del", Kind.SPREAD, "Deletes keys.", spread=_DELETE)
known("unlink", Kind.SPREAD, "Deletes keys; the same as DEL.", spread=_DELETE)
known("exists", Kind.SPREAD, "Tells how many of the keys exist.", spread=_COUNT)
known("touch", Kind.SPREAD, "Tells how many of the keys exist.", spread=_COUNT)


@command("type", READ, "Tells of which type the value at a key is.")
def type_(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), _type(value_of(cells, request[1], now))


def _type(value: Value | None) -> str:
    if value is None:
        return "none"
    return value.TYPE if isinstance(value, Collection) else "string"


# -- expiry


def _expire(cells: Cells, request: Sequence[bytes], now: int, unit: int, base: int) -> Effect:
    key, name = request[1], request[0].decode("ascii").lower()
    options = {argument.upper() for argument in request[3:]}
    for argument in request[3:]:
        if argument.upper() not in (b"NX", b"XX", b"GT", b"LT"):
            return (), ReplyError(f"ERR Unsupported option {as_said(argument)}")
    if b"NX" in options and len(options) > 1:
        return (), ReplyError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= options:
        return (), ReplyError("ERR GT and LT options at the same time are not compatible")
    amount = integer(request[2])
    deadline = amount * unit + base
    if amount * unit < -INTEGER_MAX - 1 or deadline > INTEGER_MAX:
        return (), ReplyError(f"ERR invalid expire time in '{name}' command")
    value = value_of(cells, key, now)
    if value is None:
        return (), 0
    old = deadline_of(cells, key, now)
    if (
        (b"NX" in options and old)
        or (b"XX" in options and not old)
        or (b"GT" in options and (not old or deadline <= old))
        or (b"LT" in options and old and deadline >= old)
    ):
        return (), 0
    return ((key, kept(value), deadline) if deadline > now else (key, None, 0),), 1


def _dated(request: Sequence[bytes], skew: int) -> list[bytes]:
    unit = 1000 if request[0].upper() == b"EXPIREAT" else 1
    deadline = in_cluster_time(request[2], unit, skew, -INTEGER_MAX)
    return [b"PEXPIREAT", request[1], deadline, *request[3:]] if deadline is not None else list(request)


def _asked_by_wall(request: Sequence[bytes], skew: int) -> list[bytes]:
    """How far its reply is to be moved is one argument more than a client may give."""
    return [*request, b"%d" % skew]


_OPTIONS: Final = "[NX | XX | GT | LT]"


@command("expire", WRITE, "Has a key expire in so many seconds.")
def expire(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _expire(cells, request, now, 1000, now)


@command("pexpire", WRITE, "Has a key expire in so many milliseconds.")
def pexpire(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _expire(cells, request, now, 1, now)


@command("expireat", WRITE, "Has a key expire at a time, in seconds since 1970.", dated=_dated)
def expireat(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _expire(cells, request, now, 1000, 0)


@command("pexpireat", WRITE, "Has a key expire at a time, in milliseconds since 1970.", dated=_dated)
def pexpireat(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _expire(cells, request, now, 1, 0)


def _when(cells: Cells, key: bytes, now: int) -> int:
    """The deadline; -1: none; -2: no such key. As TTL and its like answer."""
    if value_of(cells, key, now) is None:
        return -2
    return deadline_of(cells, key, now) or -1


def _when_by_wall(cells: Cells, request: Sequence[bytes], now: int) -> int:
    deadline = _when(cells, request[1], now)
    return max(deadline + int(request[2]), 0) if deadline >= 0 and len(request) == 3 else deadline


@command("ttl", READ, "Tells in how many seconds a key expires.")
def ttl(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    deadline = _when(cells, request[1], now)
    return (), deadline if deadline < 0 else (deadline - now + 500) // 1000


@command("pttl", READ, "Tells in how many milliseconds a key expires.")
def pttl(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    deadline = _when(cells, request[1], now)
    return (), deadline if deadline < 0 else deadline - now


@command("expiretime", READ, "Tells when a key expires, in seconds since 1970.", dated=_asked_by_wall)
def expiretime(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    deadline = _when_by_wall(cells, request, now)
    return (), deadline if deadline < 0 else (deadline + 500) // 1000


@command("pexpiretime", READ, "Tells when a key expires, in milliseconds since 1970.", dated=_asked_by_wall)
def pexpiretime(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), _when_by_wall(cells, request, now)


@command("persist", WRITE, "Has a key not expire.")
def persist(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    value = value_of(cells, key, now)
    if value is None or not deadline_of(cells, key, now):
        return (), 0
    return ((key, kept(value), 0),), 1


# -- keys of one slot


@command("rename", WRITE, "Gives a key another name, whatever had that.")
def rename(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _rename(cells, request, now, overwrites=True)


@command("renamenx", WRITE, "Gives a key another name, if nothing has that.")
def renamenx(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _rename(cells, request, now, overwrites=False)


def _rename(cells: Cells, request: Sequence[bytes], now: int, *, overwrites: bool) -> Effect:
    key, target = request[1], request[2]
    value = value_of(cells, key, now)
    if value is None:
        return (), NO_SUCH_KEY
    if not overwrites and value_of(cells, target, now) is not None:
        return (), 0
    reply: Reply = OK if overwrites else 1
    if key == target:
        return (), reply
    return ((target, (MOVE, key), deadline_of(cells, key, now)), (key, None, 0)), reply


@command("copy", WRITE, "Copies a value to another key.")
def copy(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    source, target = request[1], request[2]
    replaces = False
    options = iter(request[3:])
    for option in options:
        match option.upper():
            case b"REPLACE":
                replaces = True
            case b"DB":
                argument = next(options, None)
                if argument is None:
                    return (), SYNTAX
                target = in_database(bare_key(request[2]), database(argument))
            case _:
                return (), SYNTAX
    if source == target:
        return (), ReplyError("ERR source and destination objects are the same")
    value = value_of(cells, source, now)
    if value is None or (value_of(cells, target, now) is not None and not replaces):
        return (), 0
    return ((target, (COPY, source), deadline_of(cells, source, now)),), 1


@command("move", WRITE, summary="Moves a key to another database.")
def move(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    target = in_database(bare_key(key), database(request[2]))
    if target == key:
        return (), ReplyError("ERR source and destination objects are the same")
    if value_of(cells, key, now) is None or value_of(cells, target, now) is not None:
        return (), 0
    return ((target, (MOVE, key), deadline_of(cells, key, now)), (key, None, 0)), 1
