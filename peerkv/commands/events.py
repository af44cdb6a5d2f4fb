"""What there is to tell of commands that have been run: keyspace events, as redis-server tells them, in its order.

Each is a pure function of a request, the cells before it, its changes, and its reply: one row of `_TELLS` by command.
Which classes are wanted is asked for elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from peerkv.commands.access import deadline_of, value_of
from peerkv.commands.table import Command, Kind, find_part, keys_of
from peerkv.commands.tracking import TRACKED
from peerkv.resp import Reply, ReplyError
from peerkv.store.cell import Cells, Change
from peerkv.store.events import (
    ALL,
    EVICTED,
    EXPIRED,
    GENERIC,
    HASH,
    LIST,
    MISSED,
    MODULE,
    NEW,
    SET,
    SORTED_SET,
    STREAM,
    STRING,
    KeyEvent,
    deleted,
    made,
)
from peerkv.store.values.streams import ADD, PENDING, Stream

Tell: TypeAlias = Callable[[Cells, Sequence[bytes], Sequence[Change], Reply, int], Iterable[KeyEvent]]
"""`(cells before, request, changes, reply, now)` -> events."""

# -- classes as they are written

KEYSPACE: Final = 1 << 0
"""Not a class, but where events are told: on a channel named for the key, ..."""
KEYEVENT: Final = 1 << 1
"""... or for the event."""
_LETTERS: Final = {
    "g": GENERIC,
    "$": STRING,
    "l": LIST,
    "s": SET,
    "h": HASH,
    "z": SORTED_SET,
    "x": EXPIRED,
    "e": EVICTED,
    "t": STREAM,
    "d": MODULE,
    "n": NEW,
}
_ALWAYS: Final = {"K": KEYSPACE, "E": KEYEVENT, "m": MISSED}
_ALL_LETTERS: Final = {"A": ALL} | _LETTERS | _ALWAYS


def flags_of(letters: str) -> int | None:
    """What notify-keyspace-events says; None: it says something else, too."""
    flags = 0
    for letter in letters:
        if letter not in _ALL_LETTERS:
            return None
        flags |= _ALL_LETTERS[letter]
    return flags


def letters_of(flags: int) -> str:
    """As CONFIG GET tells it. (That `n` is not told beside `A` is Redis's.)"""
    classes = "A" if flags & ALL == ALL else "".join([letter for letter, bit in _LETTERS.items() if flags & bit])
    return classes + "".join([letter for letter, bit in _ALWAYS.items() if flags & bit])


# -- what commands do to keys


def events_of(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], reply: Reply, now: int
) -> Sequence[KeyEvent]:
    """What there is to tell of a command that has been run on these cells; its changes are not made yet."""
    if request[0] == TRACKED:
        request = request[1:]
    row = find_part(request[0])
    if row is None or (type(reply) is ReplyError and not reply.text.startswith(_ARE_MISSED)):
        return ()
    missed = [(MISSED, b"keymiss", key) for key in _looked_at(row, request) if value_of(cells, key, now) is None]
    tell = _TELLS.get(row.name) if type(reply) is not ReplyError else None
    return [*missed, *tell(cells, request, changes, reply, now)] if tell is not None else missed


def _looked_at(row: Command, request: Sequence[bytes]) -> Sequence[bytes]:
    """Keys that a command reads, so that their absence is told, whatever comes of it."""
    if row.kind is Kind.READ:
        keys = () if row.name in _LOOKS_ASIDE else keys_of(row, request)
        return [*keys, *keys] if row.name == "xread" else keys
    looks = _LOOKS.get(row.name)
    return looks(keys_of(row, request), request) if looks is not None else ()


def _value(cells: Cells, key: bytes) -> Any:
    cell = cells.get(key)
    return cell[1] if cell is not None else None


def _is_new(cells: Cells, change: Change, now: int) -> bool:
    return change[1] is not None and value_of(cells, change[0], now) is None


def _changed(
    class_: int,
    name: bytes,
    cells: Cells,
    _request: Sequence[bytes],
    changes: Sequence[Change],
    _reply: Reply,
    now: int,
    *,
    stores: bool = False,
) -> Iterator[KeyEvent]:
    """One key is changed, perhaps to nothing. `stores`: a result is put there, and nothing is one that is not told."""
    for change in changes:
        key, body, _ = change
        if _is_new(cells, change, now):
            yield made(key)
        if body is not None or not stores:
            yield class_, name, key
        if body is None:
            yield deleted(key)


_stored: Final = partial(_changed, stores=True)


def _deleted(
    _cells: Cells, _request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, _now: int
) -> Iterator[KeyEvent]:
    return (deleted(key) for key, _, _ in changes)


def _set_with_deadline(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], reply: Reply, now: int
) -> Iterator[KeyEvent]:
    yield from _stored(STRING, b"set", cells, request, changes, reply, now)
    for key, _, deadline in changes:
        if deadline:
            yield GENERIC, b"expire", key


def _set(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], reply: Reply, now: int
) -> Iterator[KeyEvent]:
    """A deadline that is kept is not told of."""
    keeps = b"KEEPTTL" in map(bytes.upper, request[3:])
    if keeps and changes and changes[0][2] == deadline_of(cells, changes[0][0], now):
        return _stored(STRING, b"set", cells, request, changes, reply, now)
    return _set_with_deadline(cells, request, changes, reply, now)


def _set_pairs(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, now: int
) -> Iterator[KeyEvent]:
    """Every pair is told of, also those of a key that is there twice."""
    seen: set[bytes] = set()
    for key in request[1::2] if changes else ():
        if key not in seen and value_of(cells, key, now) is None:
            yield made(key)
        seen.add(key)
        yield STRING, b"set", key


def _expiring(
    _cells: Cells, _request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, _now: int
) -> Iterator[KeyEvent]:
    """Another deadline, or none, or one that has passed."""
    for key, body, deadline in changes:
        yield deleted(key) if body is None else (GENERIC, b"expire" if deadline else b"persist", key)


def _merged(
    cells: Cells, request: Sequence[bytes], _changes: Sequence[Change], _reply: Reply, now: int
) -> Iterator[KeyEvent]:
    """PFMERGE tells of its key also where it has not changed."""
    if value_of(cells, request[1], now) is None:
        yield made(request[1])
    yield STRING, b"pfadd", request[1]


# of lists and sets


def _trimmed(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, now: int
) -> Iterator[KeyEvent]:
    """LTRIM likewise, if there is a list."""
    key = request[1]
    if value_of(cells, key, now) is not None:
        yield LIST, b"ltrim", key
        if changes and changes[0][1] is None:
            yield deleted(key)


def _list_moved(
    cells: Cells,
    request: Sequence[bytes],
    changes: Sequence[Change],
    reply: Reply,
    now: int,
) -> Iterator[KeyEvent]:
    """An element goes from a list to another, or within one, though that may remain the same."""
    if reply is None:
        return
    source, target = request[1], request[2]
    ends = [word.upper() for word in request[3:5]] if request[0][-4:].upper() == b"MOVE" else [b"RIGHT", b"LEFT"]
    if source != target and value_of(cells, target, now) is None:
        yield made(target)
    yield LIST, b"lpush" if ends[1] == b"LEFT" else b"rpush", target
    yield LIST, b"lpop" if ends[0] == b"LEFT" else b"rpop", source
    if any(key == source and body is None for key, body, _ in changes):
        yield deleted(source)


def _popped(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], reply: Reply, now: int
) -> Iterator[KeyEvent]:
    """Of commands that say among the words behind their keys from which end."""
    name = request[0].upper()
    at = 1 if name.startswith(b"B") else 0
    end = request[at + 2 + int(request[at + 1])].upper()
    if b"ZMPOP" in name:
        return _changed(SORTED_SET, b"zpopmin" if end == b"MIN" else b"zpopmax", cells, request, changes, reply, now)
    return _changed(LIST, b"lpop" if end == b"LEFT" else b"rpop", cells, request, changes, reply, now)


def _member_moved(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, now: int
) -> Iterator[KeyEvent]:
    for change in changes:
        key = change[0]
        if key == request[1]:
            yield SET, b"srem", key
            if change[1] is None:
                yield deleted(key)
        else:
            if _is_new(cells, change, now):
                yield made(key)
            yield SET, b"sadd", key


# of hashes and sorted sets


def _fields_expiring(
    _cells: Cells, _request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, _now: int
) -> Iterator[KeyEvent]:
    """HEXPIRE and its like, whose fields are gone where the deadline has passed."""
    for key, body, _ in changes:
        gone = body is None or (type(body) is tuple and body[0] == "hdel")
        yield HASH, b"hdel" if gone else b"hexpire", key
        if body is None:
            yield deleted(key)


def _scored(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], reply: Reply, now: int
) -> Iterator[KeyEvent]:
    """ZADD, which may be ZINCRBY."""
    increments = b"INCR" in [word.upper() for word in request[2:-2]]
    return _changed(SORTED_SET, b"zincr" if increments else b"zadd", cells, request, changes, reply, now)


# of streams


def _added(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], reply: Reply, now: int
) -> Iterator[KeyEvent]:
    yield from _changed(STREAM, b"xadd", cells, request, changes, reply, now)
    for key, body, _ in changes:
        if type(body) is tuple and body[0] == ADD and body[1]:
            yield STREAM, b"xtrim", key


def _grouped(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], reply: Reply, now: int
) -> Iterator[KeyEvent]:
    """XGROUP, whose subcommands are named in the event."""
    return _changed(STREAM, b"xgroup-" + request[1].lower(), cells, request, changes, reply, now)


def _delivered(
    cells: Cells, _request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, _now: int
) -> Iterator[KeyEvent]:
    """What gives entries to a consumer may have made it."""
    for key, body, _ in changes:
        stream = _value(cells, key)
        if type(body) is tuple and body[0] == PENDING and isinstance(stream, Stream):
            group = stream.groups.get(body[1])
            if group is not None and body[4] not in group.consumers:
                yield STREAM, b"xgroup-createconsumer", key


# of keys whatever they hold


def _twofold(source_name: bytes, target_name: bytes) -> Tell:
    """A key is put where something else may have been, which Redis deletes first, without telling; so it is new."""

    def tell(
        _cells: Cells, request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, _now: int
    ) -> Iterator[KeyEvent]:
        if changes:
            target = changes[0][0]
            yield made(target)
            if source_name:
                yield GENERIC, source_name, request[1]
            yield GENERIC, target_name, target

    return tell


def _restored(
    _cells: Cells, _request: Sequence[bytes], changes: Sequence[Change], _reply: Reply, _now: int
) -> Iterator[KeyEvent]:
    for key, body, _ in changes:
        if body is None:
            yield deleted(key)
        else:
            yield made(key)
            yield GENERIC, b"restore", key


_ARE_MISSED: Final = ("NOGROUP", "ERR no such key")
"""Errors of commands that have looked for a key."""
_LOOKS_ASIDE: Final = frozenset(
    ("object", "memory", "PEERKV.LOOK", "PEERKV.HANDOUT", "PEERKV.HELDOUT", "PEERKV.XLAST", "PEERKV.TYPES")
)
"""They tell of a key without reading it, or nobody has asked for that."""


def _sources(keys: Sequence[bytes], _request: Sequence[bytes]) -> Sequence[bytes]:
    return keys[1:]


def _source(keys: Sequence[bytes], _request: Sequence[bytes]) -> Sequence[bytes]:
    return keys[:1]


def _former(keys: Sequence[bytes], request: Sequence[bytes]) -> Sequence[bytes]:
    """SET, if it answers what was there."""
    return keys if b"GET" in map(bytes.upper, request[3:]) else ()


def _fields_read(keys: Sequence[bytes], request: Sequence[bytes]) -> Sequence[bytes]:
    """BITFIELD, if it only reads."""
    return () if {b"SET", b"INCRBY"} & {word.upper() for word in request[2:]} else keys


_LOOKS: Final[dict[str, Callable[[Sequence[bytes], Sequence[bytes]], Sequence[bytes]]]] = {
    **dict.fromkeys(
        (
            *("bitop", "sdiffstore", "sinterstore", "sunionstore", "zdiffstore", "zinterstore", "zunionstore"),
            *("zrangestore", "geosearchstore"),
        ),
        _sources,
    ),
    **dict.fromkeys(("copy", "sort", "sort_ro", "georadius", "georadiusbymember"), _source),
    **dict.fromkeys(("getset", "getdel", "getex", "xack", "xclaim", "xautoclaim"), _source),
    **dict.fromkeys(("pfmerge", "xreadgroup"), lambda keys, _request: keys),
    "set": _former,
    "bitfield": _fields_read,
}
"""Of commands that may change something, which of their keys they read."""


def _rows(tell: Callable[..., Iterable[KeyEvent]], class_: int, names: dict[str, str]) -> dict[str, Tell]:
    """Commands that differ in the event's name alone."""
    return {
        command: partial(tell, class_, name.encode())
        for commands, name in names.items()
        for command in commands.split()
    }


_TELLS: Final[dict[str, Tell]] = {
    **_rows(
        _changed,
        STRING,
        {
            "append": "append",
            "bitfield setbit": "setbit",
            "decr decrby incr incrby": "incrby",
            "incrbyfloat": "incrbyfloat",
            "pfadd": "pfadd",
            "setrange": "setrange",
        },
    ),
    **_rows(_stored, STRING, {"bitop getset setnx": "set"}),
    **dict.fromkeys(("setex", "psetex"), _set_with_deadline),
    "set": _set,
    **dict.fromkeys(("PEERKV.MSET", "msetnx"), _set_pairs),
    "pfmerge": _merged,
    **_rows(
        _changed,
        LIST,
        {
            "linsert": "linsert",
            "lpush lpushx": "lpush",
            "lpop blpop": "lpop",
            "lrem": "lrem",
            "lset": "lset",
            "rpush rpushx": "rpush",
            "rpop brpop": "rpop",
        },
    ),
    **_rows(_stored, LIST, {"sort": "sortstore"}),
    **dict.fromkeys(("lmove", "blmove", "rpoplpush", "brpoplpush"), _list_moved),
    **dict.fromkeys(("lmpop", "blmpop", "zmpop", "bzmpop"), _popped),
    "ltrim": _trimmed,
    **_rows(_changed, SET, {"sadd": "sadd", "spop": "spop", "srem": "srem"}),
    **_rows(_stored, SET, {"sdiffstore": "sdiffstore", "sinterstore": "sinterstore", "sunionstore": "sunionstore"}),
    "smove": _member_moved,
    **_rows(
        _changed,
        HASH,
        {
            "hdel": "hdel",
            "hincrby": "hincrby",
            "hincrbyfloat": "hincrbyfloat",
            "hmset hset hsetnx": "hset",
            "hpersist": "hpersist",
        },
    ),
    **dict.fromkeys(("hexpire", "hexpireat", "hpexpire", "hpexpireat"), _fields_expiring),
    **_rows(
        _changed,
        SORTED_SET,
        {
            "geoadd": "zadd",
            "zincrby": "zincr",
            "zpopmax bzpopmax": "zpopmax",
            "zpopmin bzpopmin": "zpopmin",
            "zrem": "zrem",
            "zremrangebylex": "zremrangebylex",
            "zremrangebyrank": "zremrangebyrank",
            "zremrangebyscore": "zremrangebyscore",
        },
    ),
    **_rows(
        _stored,
        SORTED_SET,
        {
            "georadius georadiusbymember": "georadiusstore",
            "geosearchstore": "geosearchstore",
            "zdiffstore": "zdiffstore",
            "zinterstore": "zinterstore",
            "zrangestore": "zrangestore",
            "zunionstore": "zunionstore",
        },
    ),
    "zadd": _scored,
    **_rows(_changed, STREAM, {"xdel": "xdel", "xsetid": "xsetid", "xtrim": "xtrim"}),
    **dict.fromkeys(("xadd", "PEERKV.XADD"), _added),
    "xgroup": _grouped,
    **dict.fromkeys(("xautoclaim", "xclaim", "xreadgroup"), _delivered),
    **dict.fromkeys(("PEERKV.DEL", "delifeq", "getdel"), _deleted),
    **dict.fromkeys(("expire", "expireat", "pexpire", "pexpireat", "persist", "getex"), _expiring),
    **dict.fromkeys(("rename", "renamenx"), _twofold(b"rename_from", b"rename_to")),
    "copy": _twofold(b"", b"copy_to"),
    "move": _twofold(b"move_from", b"move_to"),
    "restore": _restored,
}
"""By the names of commands and of parts of them."""
