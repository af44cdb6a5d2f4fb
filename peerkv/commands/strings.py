"""Commands on strings: GET and SET in all their forms, counters, ranges."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final

from peerkv.commands.access import (
    INTEGER_MAX,
    NOT_A_FLOAT,
    NOT_AN_INTEGER,
    SYNTAX,
    WRONG_TYPE,
    deadline_of,
    integer,
    string_of,
    value_of,
)
from peerkv.commands.table import ONE_KEY, Effect, Kind, Part, Spread, command, known, part
from peerkv.resp import OK, CommandError, Map, Reply, ReplyError, parse_integer
from peerkv.store.cell import Cells, Change, is_live
from peerkv.store.values.held import HELD
from peerkv.store.values.strings import Common, kept, splicing

READ, WRITE = Kind.READ, Kind.WRITE

STRING_BYTES_MAX: Final = 64 << 20
"""As much as a SET can bring (`request_bytes_max`): what a home has made must fit into a frame to the other owners."""
NOT_FINITE: Final = ReplyError("ERR increment would produce NaN or Infinity")
TOO_LONG: Final = ReplyError("ERR string exceeds maximum allowed size (proto-max-bulk-len)")

_RELATIVE: Final = {b"EX": 1000, b"PX": 1}
_ABSOLUTE: Final = {b"EXAT": 1000, b"PXAT": 1}
_TIMES: Final = frozenset((*_RELATIVE, *_ABSOLUTE))
_WITH_ARGUMENT: Final = _TIMES | {b"IFEQ"}


def deadline_from(option: bytes, argument: bytes, now: int, name: str) -> int:
    """The deadline that an option like EX 10 means, in cluster milliseconds. Raises CommandError."""
    amount = integer(argument)
    unit = _RELATIVE.get(option) or _ABSOLUTE[option]
    base = now if option in _RELATIVE else 0
    if amount <= 0 or amount * unit + base > INTEGER_MAX:
        raise CommandError(ReplyError(f"ERR invalid expire time in '{name}' command"))
    return max(amount * unit + base, HELD + 1)  # a deadline of the first millisecond means something else


def in_cluster_time(argument: bytes, unit: int, skew: int, least: int) -> bytes | None:
    """A time on the wall clock as cluster milliseconds; None for what is none, which is left to be answered for as it
    is."""
    amount = parse_integer(argument)
    if amount is None or not least <= amount * unit <= INTEGER_MAX:
        return None
    return b"%d" % min(max(amount * unit - skew, least), INTEGER_MAX)


def _dated_options(request: Sequence[bytes], skew: int, first: int) -> list[bytes]:
    """EXAT or PXAT among options, which may be said several times, as PXAT."""
    places = []
    at = first
    while at < len(request) - 1:
        option = request[at].upper()
        if option in _ABSOLUTE:
            places.append(at)
        at += 2 if option in _WITH_ARGUMENT else 1
    dated = list(request)
    if len({request[at].upper() for at in places}) == 1:  # both are an error, and are to remain one
        for at in places:
            deadline = in_cluster_time(request[at + 1], _ABSOLUTE[request[at].upper()], skew, 1)
            if deadline is None and parse_integer(request[at + 1]) is not None:
                deadline = b"0"  # no time in any unit
            dated[at : at + 2] = [b"PXAT", deadline if deadline is not None else request[at + 1]]
    return dated


@command("get", READ, "Returns the string at a key.")
def get(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    cell = cells.get(request[1])
    if cell is None or 0 < cell[2] <= now:
        return (), None
    value = cell[1]
    if value is not None and type(value) is not bytes:
        raise CommandError(WRONG_TYPE)
    return (), value


@command(
    "set",
    WRITE,
    "Puts a string at a key, whatever is there; with conditions, a lifetime, or the old string as the reply.",
    usage="key value [NX | XX | IFEQ comparison-value] [GET]"
    " [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
    dated=lambda request, skew: _dated_options(request, skew, 3),
)
def set_(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key, value = request[1], request[2]
    if len(request) == 3:
        return ((key, value, 0),), OK
    condition = lifetime = amount = expected = b""
    wants_old = False
    options = iter(request[3:])
    for argument in options:
        option = argument.upper()
        if (option == b"NX" or option == b"XX") and condition in (b"", option):
            condition = option
        elif option == b"IFEQ" and not condition:
            condition = option
            expected = argument_of(options)
        elif option == b"GET":
            wants_old = True
        elif option == b"KEEPTTL" and lifetime in (b"", option):
            lifetime = option
        elif option in _TIMES and lifetime in (b"", option):
            lifetime = option
            amount = argument_of(options)
        else:
            return (), SYNTAX
    deadline = deadline_from(lifetime, amount, now, "set") if lifetime in _TIMES else 0
    old = string_of(cells, key, now) if wants_old or condition == b"IFEQ" else value_of(cells, key, now)
    if (
        (condition == b"NX" and old is not None)
        or (condition == b"XX" and old is None)
        or (condition == b"IFEQ" and old != expected)
    ):
        return (), old if wants_old else None  # type: ignore[return-value]
    if lifetime == b"KEEPTTL":
        deadline = deadline_of(cells, key, now)
    return ((key, value, deadline),), old if wants_old else OK  # type: ignore[return-value]


def argument_of(options: Iterator[bytes]) -> bytes:
    """What follows an option. Raises CommandError if nothing does."""
    argument = next(options, None)
    if argument is None:
        raise CommandError(SYNTAX)
    return argument


@command("setnx", WRITE, "Puts a string at a key if there is none.")
def setnx(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    if value_of(cells, request[1], now) is not None:
        return (), 0
    return ((request[1], request[2], 0),), 1


def _set_with_lifetime(option: bytes, name: str, request: Sequence[bytes], now: int) -> Effect:
    return ((request[1], request[3], deadline_from(option, request[2], now, name)),), OK


@command("setex", WRITE, "Puts a string at a key, for so many seconds.")
def setex(_cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _set_with_lifetime(b"EX", "setex", request, now)


@command("psetex", WRITE, "Puts a string at a key, for so many milliseconds.")
def psetex(_cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _set_with_lifetime(b"PX", "psetex", request, now)


@command("getset", WRITE, "Puts a string at a key, and returns the one that was there.")
def getset(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return ((request[1], request[2], 0),), string_of(cells, request[1], now)


@command("getdel", WRITE, "Returns the string at a key, and deletes the key.")
def getdel(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    old = string_of(cells, request[1], now)
    return (((request[1], None, 0),) if old is not None else ()), old


@command("delifeq", WRITE, summary="Deletes a key if it holds this string (Valkey's).")
def delifeq(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    return (((key, None, 0),), 1) if string_of(cells, key, now) == request[2] else ((), 0)


@command(
    "getex",
    WRITE,
    "Returns the string at a key, and changes how long it lives.",
    dated=lambda request, skew: _dated_options(request, skew, 2),
)
def getex(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    lifetime = amount = b""
    options = iter(request[2:])
    for argument in options:
        option = argument.upper()
        if (option != b"PERSIST" and option not in _TIMES) or lifetime not in (b"", option):
            return (), SYNTAX
        lifetime = option
        if option != b"PERSIST":
            amount = argument_of(options)
    value = string_of(cells, key, now)
    if value is None or not lifetime:
        return (), value
    if lifetime == b"PERSIST":
        return (((key, kept(value), 0),) if deadline_of(cells, key, now) else ()), value
    deadline = deadline_from(lifetime, amount, now, "getex")
    return ((key, kept(value), deadline) if deadline > now else (key, None, 0),), value


@command("append", WRITE, "Adds to the end of the string at a key, which is made if there is none.")
def append(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    value = string_of(cells, key, now) or b""
    length = len(value) + len(request[2])
    if length > STRING_BYTES_MAX:
        return (), TOO_LONG
    return ((key, splicing(value, len(value), request[2]), deadline_of(cells, key, now)),), length


@command("strlen", READ, "Returns how many bytes the string at a key has.")
def strlen(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), len(string_of(cells, request[1], now) or b"")


@command("getrange", READ, "Returns a part of the string at a key.")
def getrange(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    start, end = parse_integer(request[2]), parse_integer(request[3])
    if start is None or end is None:
        return (), NOT_AN_INTEGER
    value = string_of(cells, request[1], now) or b""
    if start < 0 and end < 0 and start > end:
        return (), b""
    start = max(0, start + len(value)) if start < 0 else start
    end = max(0, end + len(value)) if end < 0 else end
    return (), value[start : end + 1]


command("substr", READ, summary="The same as GETRANGE.")(getrange)


@command(
    "setrange", WRITE, "Overwrites a part of the string at a key; what is missing before it is filled with zero bytes."
)
def setrange(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key, text = request[1], request[3]
    offset = parse_integer(request[2])
    if offset is None:
        return (), NOT_AN_INTEGER
    if offset < 0:
        return (), ReplyError("ERR offset is out of range")
    value = string_of(cells, key, now) or b""
    if not text:
        return (), len(value)
    if offset + len(text) > STRING_BYTES_MAX:
        return (), TOO_LONG
    length = max(len(value), offset + len(text))
    return ((key, splicing(value, offset, text), deadline_of(cells, key, now)),), length


# -- the longest common subsequence

_LCS_BYTES_MAX: Final = 512 << 20
"""Redis's proto-max-bulk-len, and ...."""
_LCS_CELL_BYTES: Final = 4
"""... what its table of the lengths of all pairs of beginnings has for each. Here it is a bit, and the most that is
allowed takes 70 ms."""


@command("lcs", READ, summary="Finds the longest common subsequence of two strings.")
def lcs(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    try:
        one, other = (string_of(cells, key, now) or b"" for key in request[1:3])
    except CommandError:
        return (), ReplyError("ERR The specified keys must contain string values")
    wants_length = wants_places = with_lengths = False
    least = 0
    options = iter(request[3:])
    for argument in options:
        match argument.upper():
            case b"LEN":
                wants_length = True
            case b"IDX":
                wants_places = True
            case b"WITHMATCHLEN":
                with_lengths = True
            case b"MINMATCHLEN":
                least = integer(argument_of(options))
            case _:
                return (), SYNTAX
    if wants_length and wants_places:
        return (), ReplyError("ERR If you want both the length and indexes, please just use IDX.")
    if (len(one) + 1) * (len(other) + 1) * _LCS_CELL_BYTES > _LCS_BYTES_MAX:
        return (), ReplyError("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    common = Common(one, other)
    if wants_length:
        return (), common.length
    runs = common.runs()
    if not wants_places:
        return (), b"".join([one[first : first + length] for first, _, length in reversed(runs)])
    matches: list[Reply] = []
    for first, second, length in runs:
        if length >= least:
            places: list[Reply] = [[first, first + length - 1], [second, second + length - 1]]
            matches.append([*places, length] if with_lengths else places)
    return (), Map([b"matches", matches, b"len", common.length])


# -- counters


def _add(cells: Cells, key: bytes, amount: int, now: int) -> Effect:
    cell = cells.get(key)
    if cell is None or not is_live(cell, now):
        return ((key, b"%d" % amount, 0),), amount
    value = cell[1]
    if type(value) is not bytes:
        raise CommandError(WRONG_TYPE)
    old = parse_integer(value)
    if old is None:
        return (), NOT_AN_INTEGER
    new = old + amount
    if not -INTEGER_MAX - 1 <= new <= INTEGER_MAX:
        return (), ReplyError("ERR increment or decrement would overflow")
    return ((key, b"%d" % new, cell[2]),), new


@command("incr", WRITE, "Adds one to the integer at a key; none counts as 0.")
def incr(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _add(cells, request[1], 1, now)


@command("decr", WRITE, "Takes one from the integer at a key; none counts as 0.")
def decr(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _add(cells, request[1], -1, now)


@command("incrby", WRITE, "Adds to the integer at a key; none counts as 0.")
def incrby(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    amount = parse_integer(request[2])
    return ((), NOT_AN_INTEGER) if amount is None else _add(cells, request[1], amount, now)


@command("decrby", WRITE, "Takes from the integer at a key; none counts as 0.")
def decrby(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    amount = parse_integer(request[2])
    if amount is None:
        return (), NOT_AN_INTEGER
    if amount == -INTEGER_MAX - 1:
        return (), ReplyError("ERR decrement would overflow")
    return _add(cells, request[1], -amount, now)


_EXPONENTS: Final = (-5000, 5000)
"""Of decimal numbers that are looked at at all. Without a bound a short text is a number of a million digits."""
_LONG_DOUBLES: Final = (Fraction(1, 1 << 16446), Fraction(1 << 16384))
"""What rounds to a long double that is neither 0 nor infinite lies between."""
_HEXADECIMAL: Final = re.compile(
    rb"(?P<sign>[+-]?)0[xX](?P<whole>[0-9a-fA-F]*)(?:\.(?P<rest>[0-9a-fA-F]*))?(?:[pP](?P<exponent>[+-]?[0-9]+))?"
)
_BINARY_EXPONENT_MAX: Final = 40_000
"""More than the longest text with the largest number can take back."""
_FLOAT_BYTES_MAX: Final = 5119
"""Redis's MAX_LONG_DOUBLE_CHARS, less the end of the string."""
_DECIMALS: Final = 10**17


def _long_double(exact: Fraction) -> Fraction:
    """The nearest number with 64 bits of precision: Redis counts in x86's long doubles."""
    if not exact:
        return exact
    shift = 64 - exact.numerator.bit_length() + exact.denominator.bit_length()
    while abs(exact) * Fraction(2) ** shift >= 1 << 64:
        shift -= 1
    return round(exact * Fraction(2) ** shift) / Fraction(2) ** shift


def _printed(number: Fraction) -> bytes:
    """With at most 17 decimals, and none that say nothing."""
    whole, decimals = divmod(abs(round(number * _DECIMALS)), _DECIMALS)
    text = f"{Decimal(whole):f}.{decimals:017}".rstrip("0").rstrip(".")
    return f"-{text}".encode() if number < 0 and text != "0" else text.encode()


def long_double(text: bytes) -> Fraction | float | None:
    """What C reads as a long double, exactly; None for what is none or overflows. A float is infinite."""
    if len(text) > _FLOAT_BYTES_MAX or b"_" in text or text != text.strip():
        return None
    hexadecimal = _HEXADECIMAL.fullmatch(text)
    if hexadecimal is not None:
        number = _hexadecimal(hexadecimal)
    else:
        try:
            decimal = Decimal(text.decode("ascii"))
        except (InvalidOperation, ValueError):
            return None
        if decimal.is_infinite():
            return float(decimal)
        fits = not decimal.is_nan() and (not decimal or _EXPONENTS[0] <= decimal.adjusted() <= _EXPONENTS[1])
        number = Fraction(decimal) if fits else None
    return number if not number or _LONG_DOUBLES[0] < abs(_long_double(number)) < _LONG_DOUBLES[1] else None


def _hexadecimal(text: re.Match[bytes]) -> Fraction | None:
    rest = text["rest"] or b""
    digits, exponent = text["whole"] + rest, text["exponent"] or b"0"
    if not digits:
        return None
    mantissa = int(digits, 16)
    if not mantissa:
        return Fraction(0)
    power = int(exponent) if len(exponent) < 10 else _BINARY_EXPONENT_MAX + 1
    if abs(power) > _BINARY_EXPONENT_MAX:
        return None
    return (-mantissa if text["sign"] == b"-" else mantissa) * Fraction(2) ** (power - 4 * len(rest))


def sum_of_long_doubles(one: Fraction | float, other: Fraction | float) -> bytes:
    """As Redis prints it. Raises CommandError if it is none."""
    if isinstance(one, float) or isinstance(other, float):
        raise CommandError(NOT_FINITE)
    exact = _long_double(_long_double(one) + _long_double(other))
    if abs(exact) >= _LONG_DOUBLES[1]:
        raise CommandError(NOT_FINITE)
    return _printed(exact)


@command("incrbyfloat", WRITE, "Adds a number with decimals to the number at a key; none counts as 0.")
def incrbyfloat(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    value = string_of(cells, key, now)
    old = long_double(value) if value is not None else Fraction(0)
    amount = long_double(request[2])
    if old is None or amount is None:
        return (), NOT_A_FLOAT
    total = sum_of_long_doubles(old, amount)
    return ((key, total, deadline_of(cells, key, now)),), total


# -- many keys


@command(
    "msetnx",
    WRITE,
    "Puts strings at several keys if none of them exists.",
    keys_at=lambda request: range(1, len(request), 2) if len(request) % 2 else (1,),
)
def msetnx(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    if len(request) % 2 == 0:
        return (), ReplyError("ERR wrong number of arguments for 'msetnx' command")
    if any(value_of(cells, key, now) is not None for key in request[1::2]):
        return (), 0
    return _pairs(request), 1


@part(b"PEERKV.GET", READ, ONE_KEY)
def _mget_part(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """As GET, but what is no string is nothing."""
    value = value_of(cells, request[1], now)
    return (), value if type(value) is bytes else None


@part(b"PEERKV.MSET", WRITE, (1, -1, 2))
def _mset_part(_cells: Cells, request: Sequence[bytes], _now: int) -> Effect:
    return _pairs(request), OK


def _pairs(request: Sequence[bytes]) -> list[Change]:
    """One change a key: of a key that is there twice the last one holds."""
    return [(key, value, 0) for key, value in dict(zip(request[1::2], request[2::2], strict=True)).items()]


def _split_mset(request: Sequence[bytes]) -> list[Part] | ReplyError:
    if len(request) % 2 == 0:
        return ReplyError("ERR wrong number of arguments for 'mset' command")
    pairs = zip(request[1::2], request[2::2], strict=True)
    return [(key, [b"PEERKV.MSET", key, value]) for key, value in pairs]


def merge_parts(requests: list[list[bytes]]) -> list[bytes]:
    """Parts of one slot as one: the name once, and all their arguments."""
    return [requests[0][0], *(argument for request in requests for argument in request[1:])]


def _all_ok(_replies: list[Reply]) -> Reply:
    return OK


def _in_order(replies: list[Reply]) -> Reply:
    return replies


known(
    "mget",
    Kind.SPREAD,
    "Returns the strings at keys. Each is linearizable; together they are no snapshot.",
    spread=Spread(lambda request: [(key, [b"PEERKV.GET", key]) for key in request[1:]], _in_order),
)
known(
    "mset",
    Kind.SPREAD,
    "Puts strings at keys. Atomic per slot.",
    spread=Spread(_split_mset, _all_ok, merge_parts),
)
