"""Commands on the bits of strings: single ones, ranges of them, fields of 1 to 64, and strings against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import and_, or_, xor
from typing import Final

from peerkv.commands.access import INTEGER_MAX, SYNTAX, deadline_of, integer, string_of, value_of
from peerkv.commands.strings import STRING_BYTES_MAX
from peerkv.commands.table import Effect, Kind, command
from peerkv.resp import CommandError, Reply, ReplyError, parse_integer
from peerkv.store.cell import Cells
from peerkv.store.values.strings import splicing, splicing_all

READ, WRITE = Kind.READ, Kind.WRITE

NOT_AN_OFFSET: Final = ReplyError("ERR bit offset is not an integer or out of range")
NOT_A_BIT: Final = ReplyError("ERR bit is not an integer or out of range")
_PIECE: Final = 1 << 18
"""Bytes that are made an integer at a time, to count or to look through them: what that takes of memory is bounded."""


def _offset(argument: bytes, width: int = 0) -> int:
    """Where a bit is; `#n`: the n-th field of that width. Raises CommandError."""
    numbered = bool(width) and argument[:1] == b"#"
    offset = parse_integer(argument[1:] if numbered else argument)
    if offset is None:
        raise CommandError(NOT_AN_OFFSET)
    if numbered:
        offset *= width
    if offset < 0 or offset >> 3 >= STRING_BYTES_MAX:
        raise CommandError(NOT_AN_OFFSET)
    return offset


@command(
    "setbit",
    WRITE,
    summary="Sets or clears one bit of a string, which is made longer where it must be, and returns what the bit was.",
)
def setbit(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    offset = _offset(request[2])
    if request[3] not in (b"0", b"1"):
        return (), NOT_A_BIT
    value = string_of(cells, key, now) or b""
    at, mask = offset >> 3, 0x80 >> (offset & 7)
    old = value[at] if at < len(value) else 0
    new = old | mask if request[3] == b"1" else old & ~mask
    was = int(old & mask > 0)
    if old == new and at < len(value):
        return (), was
    return ((key, splicing(value, at, bytes((new,))), deadline_of(cells, key, now)),), was


@command("getbit", READ, summary="Returns one bit of a string.")
def getbit(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    offset = _offset(request[2])
    value = string_of(cells, request[1], now) or b""
    at = offset >> 3
    return (), value[at] >> (7 - (offset & 7)) & 1 if at < len(value) else 0


# -- ranges


def _by_bits(unit: bytes) -> bool:
    match unit.upper():
        case b"BIT":
            return True
        case b"BYTE":
            return False
    raise CommandError(SYNTAX)


def _clamped(start: int, end: int, length: int) -> tuple[int, int]:
    """The first and the last place that are meant: negative ones are counted from the end, and what is in front of the
    beginning is the beginning, for the last place, too."""
    first = max(0, start + length) if start < 0 else start
    last = max(0, end + length) if end < 0 else end
    return first, min(last, length - 1)


def _bits_set(value: bytes, first: int, last: int) -> int:
    """How many of the bits from `first` to `last` are set."""
    begin, end = first >> 3, (last >> 3) + 1
    count = sum(
        [int.from_bytes(value[at : min(at + _PIECE, end)]).bit_count() for at in range(begin, end, _PIECE)],
    )
    before = value[begin] >> (8 - (first & 7))
    behind = value[end - 1] & (0x7F >> (last & 7))
    return count - before.bit_count() - behind.bit_count()


@command("bitcount", READ, summary="Counts the bits that are set in a string or in a range of it.")
def bitcount(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    value = string_of(cells, request[1], now)
    if value is None:  # whatever the arguments are, until 7.4
        return (), 0
    if len(request) == 2:
        return (), _bits_set(value, 0, 8 * len(value) - 1) if value else 0
    if len(request) not in (4, 5):
        return (), SYNTAX
    start, end = integer(request[2]), integer(request[3])
    if start < 0 and end < 0 and start > end:
        return (), 0
    by_bits = len(request) == 5 and _by_bits(request[4])
    if not value:
        return (), 0
    first, last = _clamped(start, end, 8 * len(value) if by_bits else len(value))
    if first > last:
        return (), 0
    return (), _bits_set(value, first, last) if by_bits else _bits_set(value, 8 * first, 8 * last + 7)


_NO_BITS: Final = (bytes(_PIECE), b"\xff" * _PIECE)
"""Long strings without a bit that is 1, and without one that is 0."""


def _first_bit(value: bytes, bit: int, first: int, last: int) -> int | None:
    """The first of the bits from `first` to `last` that is so."""
    begin, end = first >> 3, (last >> 3) + 1
    lacking = _NO_BITS[1 - bit]
    outside = 0xFF >> (first & 7)
    found = (value[begin] if bit else ~value[begin]) & outside  # a byte in which the bits that are wanted are set
    if not found:
        begin += 1
        while begin < end and value[begin : begin + _PIECE] == lacking:
            begin += _PIECE
        piece = value[begin : min(begin + _PIECE, end)]
        rest = piece.lstrip(lacking[:1])
        begin += len(piece) - len(rest)
        if not rest:
            return None
        found = rest[0] if bit else ~rest[0] & 0xFF
    at = 8 * begin + 8 - found.bit_length()
    return at if at <= last else None


@command("bitpos", READ, summary="Finds the first bit of a string, or of a range of it, that is set, or that is clear.")
def bitpos(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    bit = integer(request[2])
    if bit not in (0, 1):
        return (), ReplyError("ERR The bit argument must be 1 or 0.")
    value = string_of(cells, request[1], now)
    if value is None:  # likewise
        return (), -1 if bit else 0
    if len(request) > 6:
        return (), SYNTAX
    start = integer(request[3]) if len(request) > 3 else 0
    by_bits = len(request) == 6 and _by_bits(request[5])
    end = integer(request[4]) if len(request) > 4 else -1
    first, last = _clamped(start, end, 8 * len(value) if by_bits else len(value))
    if first > last:
        return (), -1
    if not by_bits:
        first, last = 8 * first, 8 * last + 7
    found = _first_bit(value, bit, first, last)
    if found is None:  # behind a string are zeros, where no end was given
        return (), 8 * len(value) if not bit and len(request) < 5 else -1
    return (), found


# -- strings against each other

_OPERATIONS: Final[dict[bytes, Callable[[int, int], int]]] = {b"AND": and_, b"OR": or_, b"XOR": xor}


@command(
    "bitop",
    WRITE,
    summary="Keeps at a key what a bitwise operation makes of strings, and returns its length.",
)
def bitop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    name, target = request[1].upper(), request[2]
    operation = _OPERATIONS.get(name)
    if operation is None and name != b"NOT":
        return (), SYNTAX
    if operation is None and len(request) != 4:
        return (), ReplyError("ERR BITOP NOT must be called with a single source key.")
    values = [string_of(cells, key, now) or b"" for key in request[3:]]
    length = max(map(len, values))
    if not length:
        return (((target, None, 0),) if value_of(cells, target, now) is not None else ()), 0
    made = int.from_bytes(values[0], "little")  # so that what shorter strings lack are zeros at their end
    if operation is None:
        made ^= (1 << 8 * length) - 1
    else:
        for value in values[1:]:
            made = operation(made, int.from_bytes(value, "little"))
    return ((target, made.to_bytes(length, "little"), 0),), length


# -- fields


class Overflow(Enum):
    """What becomes of a number that does not fit into its field."""

    WRAP = b"WRAP"
    """Its lowest bits."""
    SAT = b"SAT"
    """The nearest that fits."""
    FAIL = b"FAIL"
    """Nothing is changed."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One operation of BITFIELD."""

    name: bytes
    signed: bool
    width: int
    """Bits."""
    offset: int
    amount: int
    overflow: Overflow

    def fitting(self, number: int) -> int | None:
        """What is kept of a number; None: nothing."""
        most = (1 << self.width - self.signed) - 1
        least = -most - 1 if self.signed else 0
        if least <= number <= most:
            return number
        match self.overflow:
            case Overflow.WRAP:
                return (number - least) % (1 << self.width) + least
            case Overflow.SAT:
                return most if number > most or self._counts_as_large(number, most) else least
            case Overflow.FAIL:
                return None

    def _counts_as_large(self, number: int, most: int) -> bool:
        """Whether Redis takes a negative number that a field is to be set to for a large one: always if the field has
        no sign, and if it has one where the difference to the field's largest has no place in 63 bits."""
        return self.name == b"SET" and (not self.signed or most - number > INTEGER_MAX)


_TYPE_ERROR: Final = ReplyError(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
)
_ARGUMENTS: Final = {b"GET": 2, b"SET": 3, b"INCRBY": 3, b"OVERFLOW": 1}


def _field_type(argument: bytes) -> tuple[bool, int]:
    """(whether it has a sign, bits)"""
    signed = argument[:1] == b"i"
    width = parse_integer(argument[1:])
    if argument[:1] not in (b"i", b"u") or width is None or not 1 <= width <= 63 + signed:
        raise CommandError(_TYPE_ERROR)
    return signed, width


def _fields(arguments: Sequence[bytes]) -> list[_Field]:
    fields = []
    overflow = Overflow.WRAP
    at = 0
    while at < len(arguments):
        name = arguments[at].upper()
        count = _ARGUMENTS.get(name)
        given = arguments[at + 1 : at + 1 + count] if count is not None else ()
        if count is None or len(given) < count:
            raise CommandError(SYNTAX)
        at += 1 + count
        if name == b"OVERFLOW":
            try:
                overflow = Overflow(given[0].upper())
            except ValueError:
                raise CommandError(ReplyError("ERR Invalid OVERFLOW type specified")) from None
            continue
        signed, width = _field_type(given[0])
        offset = _offset(given[1], width)
        if (offset + width - 1) >> 3 >= STRING_BYTES_MAX:
            raise CommandError(NOT_AN_OFFSET)
        fields.append(_Field(name, signed, width, offset, integer(given[2]) if count == 3 else 0, overflow))
    return fields


class _Overlaid:
    """A string, and bytes of it that are to be changed."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._changed: dict[int, int] = {}

    def get(self, field: _Field) -> int:
        begin, end = field.offset >> 3, (field.offset + field.width + 7) >> 3
        window = bytearray(self._value[begin:end].ljust(end - begin, b"\0"))
        if self._changed:
            for at in range(begin, end):
                window[at - begin] = self._changed.get(at, window[at - begin])
        number = int.from_bytes(window) >> (8 * end - field.offset - field.width) & (1 << field.width) - 1
        return number - (1 << field.width) if field.signed and number >> field.width - 1 else number

    def set(self, field: _Field, number: int) -> None:
        begin, end = field.offset >> 3, (field.offset + field.width + 7) >> 3
        shift = 8 * end - field.offset - field.width
        mask = (1 << field.width) - 1
        around = [self._changed.get(at, self._value[at] if at < len(self._value) else 0) for at in range(begin, end)]
        window = int.from_bytes(bytes(around)) & ~(mask << shift) | (number & mask) << shift
        for at, byte in enumerate(window.to_bytes(end - begin), begin):
            self._changed[at] = byte

    def pieces(self, length: int) -> list[tuple[int, bytes]]:
        """(offset, text) of what is other than in the string, which becomes at least so long."""
        value = self._value
        if length > len(value):
            self._changed.setdefault(length - 1, 0)
        pieces: list[tuple[int, bytearray]] = []
        for at in sorted(self._changed):
            byte = self._changed[at]
            if at < len(value) and value[at] == byte:
                continue
            if pieces and pieces[-1][0] + len(pieces[-1][1]) == at:
                pieces[-1][1].append(byte)
            else:
                pieces.append((at, bytearray((byte,))))
        return [(at, bytes(text)) for at, text in pieces]


@command("bitfield", WRITE, summary="Reads, sets and increments integers of any width within a string.")
def bitfield(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    fields = _fields(request[2:])
    value = string_of(cells, key, now) or b""
    overlaid = _Overlaid(value)
    replies: list[Reply] = []
    length = 0
    for field in fields:
        old = overlaid.get(field)
        if field.name == b"GET":
            replies.append(old)
            continue
        length = max(length, (field.offset + field.width + 7) >> 3)
        new = field.fitting(field.amount + (old if field.name == b"INCRBY" else 0))
        if new is None:
            replies.append(None)
            continue
        overlaid.set(field, new)
        replies.append(old if field.name == b"SET" else new)
    pieces = overlaid.pieces(length)
    if not pieces:
        return (), replies
    return ((key, splicing_all(value, pieces), deadline_of(cells, key, now)),), replies


@command("bitfield_ro", READ, summary="Reads integers of any width within a string.")
def bitfield_ro(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    fields = _fields(request[2:])
    if any(field.name != b"GET" for field in fields):
        return (), ReplyError("ERR BITFIELD_RO only supports the GET subcommand")
    overlaid = _Overlaid(string_of(cells, request[1], now) or b"")
    return (), [overlaid.get(field) for field in fields]
