"""What the simulator's clients ask for of a key, by what keys of its name hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final, TypeAlias

LARGE_BYTES: Final = 50_000
DENSE: Final = 2000
"""So many elements make a HyperLogLog that is kept densely."""
KINDS: Final = (
    *(b"n:%d", b"a:%d", b"{t0}:%d", b"{t1}:%d", b"{t2}:%d", b"{t2}:%d."),
    *(b"{l}:%d", b"{l}:%d.", b"{h}:%d", b"{s}:%d", b"{s}:%d.", b"{z}:%d", b"{z}:%d."),
    *(b"{b}:%d", b"{b}:%d.", b"{p}:%d", b"{p}:%d.", b"{g}:%d", b"{g}:%d."),
)
"""Keys by what they hold: numbers, texts that grow, strings, lists, hashes, sets, sorted sets, bits, HyperLogLogs,
places; those in braces are of one slot."""
STREAMS: Final = (b"{x}:%d", b"{x}:%d.")
"""Those that hold streams, of seeds that have such."""
WHOLE: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"{l": (b"LRANGE", b"0", b"-1"),
    b"{h": (b"HGETALL",),
    b"{s": (b"SMEMBERS",),
    b"{z": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    b"{g": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    b"{x": (b"XRANGE", b"-", b"+"),
}
"""How all of what such a key holds is read."""
DATED: Final = b"{h", b"{x"
"""In whose payloads may be wall time, which the checker does not know."""

Request: TypeAlias = tuple[bytes, ...]


def whole_of(key: bytes) -> Request:
    """A request for all that a key holds."""
    name, *rest = WHOLE.get(key[:2], (b"GET",))
    return name, key, *rest


def usual(
    rng: Random, key: bytes, other: Callable[[], bytes], token: bytes, number: int, dumped: Mapping[bytes, bytes]
) -> Request:
    """Something that is asked for of a key. `other`: any key; `token`: what nobody else writes; `number`: of the
    request; `dumped`: payloads, by the first two bytes of the keys that they are of."""
    if rng.random() < 0.01:
        token += bytes(LARGE_BYTES)
    milliseconds = b"%d" % (1000 * rng.choice((0.05, 0.3, 2.0)))
    beside = key[:-1] if key.endswith(b".") else key + b"."
    match key[:2]:
        case b"n:":
            of = _of_numbers(key)
        case b"a:":
            of = _of_texts(key, token)
        case b"{t":
            if rng.random() < 0.04:
                return _whole(rng, key, milliseconds, dumped)
            of = _of_strings(rng, key, beside, other, token, milliseconds)
        case kind:
            if rng.random() < 0.15:
                return _of_any(rng, key, beside, milliseconds, dumped)
            of = (*_OF[kind](rng, key, beside, token, number), whole_of(key))
    return rng.choice(of)


def _of_numbers(key: bytes) -> tuple[Request, ...]:
    return (
        (b"GET", key),
        (b"STRLEN", key),
        (b"INCR", key),
        (b"INCR", key),
        (b"INCRBY", key, b"3"),
        (b"DECR", key),
    )


def _of_texts(key: bytes, token: bytes) -> tuple[Request, ...]:
    return (
        (b"GET", key),
        (b"STRLEN", key),
        (b"APPEND", key, token),
        (b"APPEND", key, token),
        (b"GETRANGE", key, b"-9", b"-1"),
    )


def _of_strings(
    rng: Random, key: bytes, beside: bytes, other: Callable[[], bytes], token: bytes, milliseconds: bytes
) -> tuple[Request, ...]:
    another = other()
    return (
        (b"GET", key),
        (b"GET", key),
        (b"GET", key),
        (b"STRLEN", key),
        (b"EXISTS", key),
        (b"SET", key, token),
        (b"SET", key, token),
        (b"SET", key, token),
        (b"SET", key, token, b"PX", milliseconds),
        (b"SET", key, token, b"NX"),
        (b"SET", key, token, b"XX", b"GET", b"KEEPTTL"),
        (b"SETNX", key, token),
        (b"PSETEX", key, milliseconds, token),
        (b"SETRANGE", key, b"%d" % rng.randrange(60), token),
        (b"GETSET", key, token),
        (b"GETDEL", key),
        (b"GETEX", key, b"PX", milliseconds),
        (b"PEXPIRE", key, milliseconds),
        (b"PEXPIRE", key, milliseconds, b"NX"),
        (b"PERSIST", key),
        (b"DEL", key),
        (b"DEL", key, another),
        (b"UNLINK", key, another),
        (b"MGET", key, another, other()),
        (b"MSET", key, token, beside, token),
        (b"MSETNX", key, token, beside, token),
        (b"COPY", key, beside, b"REPLACE"),
        (b"RENAME", key, beside),
    )


def _of_any(rng: Random, key: bytes, beside: bytes, milliseconds: bytes, dumped: Mapping[bytes, bytes]) -> Request:
    """What may be asked for whatever a key holds, or of what it does not hold."""
    if rng.random() < 0.3:
        return _whole(rng, key, milliseconds, dumped)
    of: tuple[Request, ...] = (
        (b"DEL", key),
        (b"PEXPIRE", key, milliseconds),
        (b"PERSIST", key),
        (b"RENAME", key, beside),
        (b"COPY", key, beside, b"REPLACE"),
        (b"GET", key),
        (b"LPUSH" if key.startswith((b"{b", b"{p")) else b"APPEND", key, b"m%d" % rng.randrange(12)),
        (b"TYPE", key),
    )
    return rng.choice(of)


def _whole(rng: Random, key: bytes, milliseconds: bytes, dumped: Mapping[bytes, bytes]) -> Request:
    """DUMP, or RESTORE of what was dumped: nearly always of its own kind, so that keys hold what their names say."""
    kinds = [*dumped] if rng.random() < 0.05 else [kind for kind in (key[:2],) if kind in dumped]
    if not kinds or rng.random() < 0.5:
        return (b"DUMP", key)
    payload = dumped[rng.choice(kinds)]
    of: tuple[Request, ...] = (
        (b"RESTORE", key, b"0", payload),
        (b"RESTORE", key, b"0", payload, b"REPLACE"),
        (b"RESTORE", key, milliseconds, payload, b"REPLACE"),
    )
    return rng.choice(of)


# -- collections: (chance, key, one beside it in its slot, what nobody else writes, number of the request)


def _member(rng: Random) -> bytes:
    return b"m%d" % rng.randrange(12)


def _amount(rng: Random) -> bytes:
    return b"%d" % rng.randrange(-5, 6)


def _of_lists(rng: Random, key: bytes, beside: bytes, token: bytes, _number: int) -> tuple[Request, ...]:
    member, another = _member(rng), _member(rng)
    return (
        (b"RPUSH", key, token),
        (b"LPUSH", key, token, member),
        (b"RPUSHX", key, member),
        (b"LPOP", key),
        (b"RPOP", key, b"2"),
        (b"LSET", key, b"1", token),
        (b"LREM", key, b"1", member),
        (b"LINSERT", key, b"BEFORE", member, another),
        (b"LTRIM", key, b"0", b"30"),
        (b"LMOVE", key, beside, b"LEFT", b"RIGHT"),
        (b"LMPOP", b"2", key, beside, b"RIGHT", b"COUNT", b"2"),
        (b"SORT", key, b"ALPHA", b"LIMIT", b"0", b"9", b"STORE", beside),
        (b"LRANGE", key, b"0", b"3"),
        (b"LPOS", key, member),
        (b"LLEN", key),
    )


def _of_hashes(rng: Random, key: bytes, _beside: bytes, token: bytes, _number: int) -> tuple[Request, ...]:
    member, another, amount = _member(rng), _member(rng), _amount(rng)
    return (
        (b"HSET", key, member, token),
        (b"HSET", key, member, amount, another, amount),
        (b"HSETNX", key, member, token),
        (b"HINCRBY", key, member, amount),
        (b"HINCRBYFLOAT", key, member, b"0.5"),
        (b"HDEL", key, member, another),
        (b"HPEXPIRE", key, b"1000000", b"FIELDS", b"2", member, another),
        (b"HPERSIST", key, b"FIELDS", b"1", member),
        (b"HGET", key, member),
        (b"HMGET", key, member, another),
        (b"HLEN", key),
    )


def _of_sets(rng: Random, key: bytes, beside: bytes, token: bytes, _number: int) -> tuple[Request, ...]:
    member, another = _member(rng), _member(rng)
    return (
        (b"SADD", key, member, another),
        (b"SADD", key, token),
        (b"SREM", key, member),
        (b"SMOVE", key, beside, member),
        (b"SUNIONSTORE", key, key, beside),
        (b"SDIFFSTORE", beside, key, beside),
        (b"SINTERCARD", b"2", key, beside),
        (b"SISMEMBER", key, member),
        (b"SCARD", key),
    )


def _of_sorted_sets(rng: Random, key: bytes, beside: bytes, token: bytes, _number: int) -> tuple[Request, ...]:
    member, another, amount = _member(rng), _member(rng), _amount(rng)
    return (
        (b"ZADD", key, amount, member),
        (b"ZADD", key, b"GT", b"CH", amount, member, amount, another),
        (b"ZINCRBY", key, amount, member),
        (b"ZADD", key, amount, token),
        (b"ZREM", key, member),
        (b"ZPOPMIN", key),
        (b"ZPOPMAX", key, b"2"),
        (b"ZMPOP", b"2", key, beside, b"MAX"),
        (b"ZREMRANGEBYSCORE", key, b"-2", b"0"),
        (b"ZREMRANGEBYRANK", key, b"5", b"7"),
        (b"ZUNIONSTORE", key, b"2", key, beside),
        (b"ZINTERSTORE", beside, b"2", key, beside, b"AGGREGATE", b"MIN"),
        (b"ZDIFFSTORE", beside, b"2", beside, key),
        (b"ZRANGESTORE", beside, key, b"1", b"4"),
        (b"ZRANGE", key, b"0", b"2"),
        (b"ZRANK", key, member),
        (b"ZSCORE", key, member),
        (b"ZCARD", key),
    )


def _of_bits(rng: Random, key: bytes, beside: bytes, token: bytes, _number: int) -> tuple[Request, ...]:
    offset = b"%d" % rng.randrange(200 if rng.random() < 0.95 else 100_000)
    field = rng.choice((b"u8", b"i5", b"i64"))
    return (
        (b"SETBIT", key, offset, b"1"),
        (b"SETBIT", key, offset, b"1"),
        (b"SETBIT", key, offset, b"0"),
        (b"BITFIELD", key, b"INCRBY", field, offset, _amount(rng), b"GET", b"u8", b"#1"),
        (b"BITFIELD", key, b"OVERFLOW", b"FAIL", b"SET", b"u4", b"#3", b"9", b"INCRBY", b"u4", b"#3", b"4"),
        (b"BITOP", rng.choice((b"AND", b"OR", b"XOR")), beside, key, beside),
        (b"BITOP", b"NOT", beside, key),
        (b"SETRANGE", key, b"%d" % rng.randrange(30), token[:6]),
        (b"GETBIT", key, offset),
        (b"BITCOUNT", key),
        (b"BITPOS", key, b"1"),
    )


def _of_hyperloglogs(rng: Random, key: bytes, beside: bytes, token: bytes, number: int) -> tuple[Request, ...]:
    if rng.random() < 0.01:
        return ((b"PFADD", key, *[b"%d" % (number + element) for element in range(DENSE)]),)
    return (
        (b"PFADD", key, _member(rng), _member(rng)),
        (b"PFADD", key, token),
        (b"PFADD", key, token, b"%d" % number),
        (b"PFADD", key),
        (b"PFMERGE", key, beside),
        (b"PFCOUNT", key),
        (b"PFCOUNT", key, beside),
    )


def _of_places(rng: Random, key: bytes, beside: bytes, token: bytes, _number: int) -> tuple[Request, ...]:
    member, another = _member(rng), _member(rng)
    longitude, latitude = b"%d" % rng.randrange(-20, 20), b"%d" % rng.randrange(40, 60)
    circle = b"FROMLONLAT", longitude, latitude, b"BYRADIUS", b"900", b"km"
    return (
        (b"GEOADD", key, longitude, latitude, member),
        (b"GEOADD", key, longitude, latitude, member),
        (b"GEOADD", key, b"CH", longitude, latitude, member, latitude, longitude, another),
        (b"GEOADD", key, b"NX", longitude, latitude, token),
        (b"ZREM", key, member),
        (b"GEOSEARCHSTORE", beside, key, *circle),
        (b"GEORADIUS", key, *circle[1:3], *circle[4:], b"COUNT", b"3", b"STOREDIST", beside),
        (b"GEOSEARCH", key, *circle, b"ASC", b"COUNT", b"2", b"WITHDIST"),
        (b"GEODIST", key, member, another),
        (b"GEOPOS", key, member, another),
    )


def _of_streams(rng: Random, key: bytes, beside: bytes, token: bytes, number: int) -> tuple[Request, ...]:
    member, another = _member(rng), _member(rng)
    entry = b"7-%d" % (number % 30)
    return (
        (b"XADD", key, b"7-*", b"token", token),
        (b"XADD", key, b"7-*", b"token", token),
        (b"XADD", key, b"MAXLEN", b"5", b"7-*", member, token, another, member),
        (b"XADD", key, b"NOMKSTREAM", b"8-%d" % (number % 200), b"token", token),
        (b"XDEL", key, entry, b"7-1"),
        (b"XTRIM", key, b"MINID", entry),
        (b"XLEN", key),
        (b"XREVRANGE", key, b"+", b"-", b"COUNT", b"2"),
        (b"XGROUP", b"CREATE", key, b"g", b"0"),
        (b"XGROUP", b"DELCONSUMER", key, b"g", another[:2]),
        (b"XREADGROUP", b"GROUP", b"g", member[:2], b"COUNT", b"2", b"STREAMS", key, b">"),
        (b"XREADGROUP", b"GROUP", b"g", member[:2], b"STREAMS", key, beside, b">", b"0"),
        (b"XACK", key, b"g", entry, b"7-0", b"7-1"),
        (b"XPENDING", key, b"g"),
        (b"XCLAIM", key, b"g", another[:2], b"0", entry, b"7-2", b"JUSTID"),
        (b"XAUTOCLAIM", key, b"g", another[:2], b"0", b"0", b"COUNT", b"3", b"JUSTID"),
    )


_OF: Final[dict[bytes, Callable[[Random, bytes, bytes, bytes, int], tuple[Request, ...]]]] = {
    b"{l": _of_lists,
    b"{h": _of_hashes,
    b"{s": _of_sets,
    b"{z": _of_sorted_sets,
    b"{b": _of_bits,
    b"{p": _of_hyperloglogs,
    b"{g": _of_places,
    b"{x": _of_streams,
}
