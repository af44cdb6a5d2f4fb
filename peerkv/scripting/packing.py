"""What scripts call and C does: bits of 32, structures of C, and numbers of MessagePack.

Functions of `struct` and `bit` return `(False, result, ...)`, or what is wrong with an argument, and which (0: none).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial, reduce
from math import copysign, inf, isfinite, isnan
from operator import and_, or_, xor
from typing import Any, Final, TypeAlias

Answer: TypeAlias = tuple[Any, ...]

SIZE_MAX: Final = 64 << 20
"""Bytes of a structure."""
VALUES_MAX: Final = 4096
"""That are unpacked at once."""
_ALIGN_MAX: Final = 16
_NATIVE_ALIGN: Final = 8
_ROUND: Final = float((1 << 52) + (1 << 51))


class _Wrong(Exception):
    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.answer = text.encode(), number


def _name_of(arguments: Answer, at: int) -> str:
    if at >= len(arguments):
        return "no value"
    value = arguments[at]
    if value is None:
        return "nil"
    if type(value) is bool:
        return "boolean"
    if type(value) is bytes:
        return "string"
    return {"_LuaTable": "table", "_LuaFunction": "function", "_LuaThread": "thread"}.get(
        type(value).__name__, "userdata"
    )


def _number(arguments: Answer, at: int) -> float:
    value = arguments[at] if at < len(arguments) else None
    kind = type(value)
    if kind is int or kind is float:
        return value  # type: ignore[return-value]
    if kind is bytes:
        text = value.strip(b" \t\n\v\f\r").decode("latin-1")  # type: ignore[union-attr]
        try:
            if "_" not in text and text.isascii():
                return float.fromhex(text) if "x" in text.lower() else float(text)
        except (ValueError, OverflowError):
            pass
    raise _Wrong(f"number expected, got {_name_of(arguments, at)}", at + 1)


def _text(arguments: Answer, at: int) -> bytes:
    value = arguments[at] if at < len(arguments) else None
    if type(value) is bytes:
        return value
    if type(value) is int or type(value) is float:
        return b"-nan" if isnan(value) and copysign(1, value) < 0 else b"%.14g" % value
    raise _Wrong(f"string expected, got {_name_of(arguments, at)}", at + 1)


def _answering(function: Callable[[Answer], Answer]) -> Callable[..., Answer]:
    def answered(*arguments: Any) -> Answer:
        try:
            return (False, *function(arguments))
        except _Wrong as wrong:
            return wrong.answer

    return answered


# -- bit


def _bits(arguments: Answer, at: int) -> int:
    """A number as 32 bits, of an integer that is rounded as a double is."""
    number = _number(arguments, at)
    if type(number) is int and -(1 << 51) <= number < 1 << 51:
        return number & 0xFFFFFFFF
    biased = number + _ROUND
    return int.from_bytes(struct.pack("<d", biased)[:4], "little")


def _signed(bits: int) -> int:
    return bits - (1 << 32) if bits & 0x80000000 else bits


def _folded(operation: Callable[[int, int], int], arguments: Answer) -> Answer:
    places = (0, *range(len(arguments) - 1, 0, -1))  # in this order, which shows where several are wrong
    return (_signed(reduce(operation, [_bits(arguments, at) for at in places])),)


def _shifted(shift: Callable[[int, int], int], arguments: Answer) -> Answer:
    return (_signed(shift(_bits(arguments, 0), _bits(arguments, 1) & 31) & 0xFFFFFFFF),)


def _tohex(arguments: Answer) -> Answer:
    bits = _bits(arguments, 0)
    count = _signed(_bits(arguments, 1)) if len(arguments) > 1 else 8
    digits = b"%08X" % bits if count < 0 else b"%08x" % bits
    return (digits[8 - min(abs(count), 8) :],)


BIT: Final[dict[str, Callable[..., Answer]]] = {
    "tobit": _answering(lambda arguments: (_signed(_bits(arguments, 0)),)),
    "bnot": _answering(lambda arguments: (_signed(_bits(arguments, 0) ^ 0xFFFFFFFF),)),
    "band": _answering(partial(_folded, and_)),
    "bor": _answering(partial(_folded, or_)),
    "bxor": _answering(partial(_folded, xor)),
    "lshift": _answering(partial(_shifted, lambda bits, by: bits << by)),
    "rshift": _answering(partial(_shifted, lambda bits, by: bits >> by)),
    "arshift": _answering(partial(_shifted, lambda bits, by: _signed(bits) >> by)),
    "rol": _answering(partial(_shifted, lambda bits, by: bits << by | bits >> (32 - by))),
    "ror": _answering(partial(_shifted, lambda bits, by: bits >> by | bits << (32 - by))),
    "bswap": _answering(lambda arguments: (_signed(int.from_bytes(_bits(arguments, 0).to_bytes(4, "little"), "big")),)),
    "tohex": _answering(_tohex),
}


# -- struct

_SIZES: Final = {"b": 1, "B": 1, "h": 2, "H": 2, "l": 8, "L": 8, "T": 8, "f": 4, "d": 8}
_CONTROL: Final = " "
_FLOATS: Final = {"f": "f", "d": "d", "n": "d"}


def _steps(form: bytes, *, is_lenient: bool = False) -> Iterator[tuple[str, int, int, str]]:
    """(option, size, alignment, byte order) of a format. An option that only sets something does so after it has been
    looked at. `is_lenient`: letters that mean nothing are passed over."""
    order, align, at = "little", 1, 0
    text = form.decode("latin-1")

    def digits(default: int | None) -> int | None:
        nonlocal at
        begin = at
        while at < len(text) and text[at] in "0123456789":
            at += 1
            if at - begin > 9:
                raise _Wrong("integral size overflow", 0)
        return int(text[begin:at]) if at > begin else default

    while at < len(text):
        option = text[at]
        at += 1
        if option in _SIZES:
            yield option, _SIZES[option], align, order
        elif option in "iI":
            size = digits(4)
            assert size is not None
            if size > 32:
                raise _Wrong(f"integral size {size} is larger than limit of 32", 0)
            yield option, size, align, order
        elif option == "c":
            yield option, digits(1) or 0, align, order
        elif option in "xs":
            yield option, int(option == "x"), align, order
        else:
            yield _CONTROL, 0, align, order
            if option in "<>":
                order = "little" if option == "<" else "big"
            elif option == "!":
                wanted = digits(_NATIVE_ALIGN) or 0
                if wanted == 0 or wanted & (wanted - 1):
                    raise _Wrong(f"alignment {wanted} is not a power of 2", 0)
                align = wanted
            elif option != " " and not (is_lenient and option.isalnum() and option.isascii()):
                raise _Wrong(f"invalid format option '{option}'", 1)


def _padding(option: str, size: int, align: int, position: int) -> int:
    if not size or option in "csx ":
        return 0
    align = min(align, size)
    return (align - (position & (align - 1))) & (align - 1)  # as C has it, of sizes that are no powers of 2, too


def _as_integer(number: float, size: int, order: str) -> bytes:
    fits = -(2.0**63) <= number < 2.0**64
    whole = int(number) if fits else 0 if number > 0 else -(1 << 63)
    if size <= 8:
        return (whole & ((1 << 8 * size) - 1)).to_bytes(size, order)  # type: ignore[arg-type]
    low = (whole & ((1 << 64) - 1)).to_bytes(8, "little")
    filled = low + bytes(size - 8)
    return filled if order == "little" else filled[::-1]


def _pack(arguments: Answer) -> Answer:
    made = bytearray()
    at = 1
    form = _text(arguments, 0)
    arguments = (*arguments, None)
    for option, size, align, order in _steps(form):
        made += bytes(_padding(option, size, align, len(made)))
        if option == _CONTROL:
            continue
        if option == "x":
            made.append(0)
            continue
        if option in _FLOATS:
            number = float(_number(arguments, at))
            code = (">" if order == "big" else "<") + _FLOATS[option]
            try:
                made += struct.pack(code, number)
            except OverflowError:
                made += struct.pack(code, inf if number > 0 else -inf)
        elif option in "cs":
            text = _text(arguments, at)
            size = size or len(text)
            if len(text) < size:
                raise _Wrong("string too short", at + 2)
            made += text[:size]
            if option == "s":
                made.append(0)
        else:
            made += _as_integer(_number(arguments, at), size, order)
        at += 1
        if len(made) > SIZE_MAX:
            raise _Wrong(f"more than {SIZE_MAX} bytes", 0)
    return (bytes(made),)


def _unpack(arguments: Answer) -> Answer:
    form, text = _text(arguments, 0), _text(arguments, 1)
    position = 0
    if len(arguments) > 2 and arguments[2] is not None:
        begin = _number(arguments, 2)
        if not begin >= 1:
            raise _Wrong("offset must be 1 or greater", 3)
        position = int(min(begin, 1 << 53)) - 1
    found: list[Any] = []
    for option, size, align, order in _steps(form):
        position += _padding(option, size, align, position)
        if position > len(text) or size > len(text) - position:
            raise _Wrong("data string too short", 2)
        if len(found) >= VALUES_MAX:
            raise _Wrong("too many results", 0)
        if option in "x ":
            position += size
            continue
        if option in _FLOATS:
            found += struct.unpack_from((">" if order == "big" else "<") + _FLOATS[option], text, position)
        elif option == "c":
            if size == 0:
                last = found.pop() if found else None
                if type(last) not in (int, float) or last is None:
                    raise _Wrong("format 'c0' needs a previous size", 0)
                if not isfinite(last) or not 0 <= int(last) <= len(text) - position:
                    raise _Wrong("data string too short", 2)
                size = int(last)
            found.append(text[position : position + size])
        elif option == "s":
            end = text.find(b"\0", position)
            if end < 0:
                raise _Wrong("unfinished string in data", 0)
            found.append(text[position:end])
            size = end - position + 1
        else:
            part = text[position : position + size]
            number = int.from_bytes(part if order == "little" else part[::-1], "little")
            number &= (1 << 64) - 1
            width = 8 * min(size, 8)
            if option in "bhli" and width and number >= 1 << (width - 1):
                number -= 1 << width
            found.append(float(number))
        position += size
    return (*found, position + 1)


def _size(arguments: Answer) -> Answer:
    position = 0
    for option, size, align, _ in _steps(_text(arguments, 0), is_lenient=True):
        position += _padding(option, size, align, position)
        if option == "s":
            raise _Wrong("option 's' has no fixed size", 1)
        if option == "c" and not size:
            raise _Wrong("option 'c0' has no fixed size", 1)
        position += size
    return (position,)


STRUCT: Final[dict[str, Callable[..., Answer]]] = {
    "pack": _answering(_pack),
    "unpack": _answering(_unpack),
    "size": _answering(_size),
}


# -- numbers of MessagePack


def pack_float(number: float) -> bytes:
    """The short form where nothing is lost by it."""
    number = float(number)
    try:
        short = struct.pack(">f", number)
    except OverflowError:
        short = b""
    if short and struct.unpack(">f", short)[0] == number:
        return b"\xca" + short
    return b"\xcb" + struct.pack(">d", number)


def unpack_float(content: bytes) -> float:
    """Of four or eight bytes."""
    number: float = struct.unpack(">f" if len(content) == 4 else ">d", content)[0]
    return number
