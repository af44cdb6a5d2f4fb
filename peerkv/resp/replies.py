"""Replies as Python values, and their RESP2 and RESP3 bytes, both ways.

| Python | RESP2 | RESP3 |
|---|---|---|
| None | null bulk | null |
| NullArray | null array | null |
| int | integer | integer |
| bytes | bulk string | bulk string |
| str | simple string | simple string |
| float | bulk string | double |
| bool | integer | boolean |
| list | array | array |
| dict | flat array | map |
| Map | flat array | map |
| Pairs | flat array | array of arrays of two |
| Named | array of arrays of two | map |
| Set | array | set |
| Verbatim | bulk string | verbatim text |
| Prepared | as what it holds | as what it holds |
| ReplyError | error | error |

Text in simple strings and errors is UTF-8; bytes that are none are kept as lone surrogates (`surrogateescape`), so that
an error can repeat what a client sent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from math import copysign, isfinite
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class ReplyError:
    """An error reply: its text begins with the code, e.g. `ERR syntax error`."""

    text: str


def as_said(argument: bytes) -> str:
    """What a client has sent, within an error's text: as C's %s has it, up to a zero byte."""
    return argument.partition(b"\0")[0].decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text for people (INFO): a verbatim string where the protocol has such."""

    text: bytes


class CommandError(Exception):
    """Raised by commands in place of a result: nothing is changed, and this is the reply."""

    def __init__(self, reply: ReplyError) -> None:
        super().__init__(reply.text)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Map:
    """Fields and values in turns."""

    items: list[Reply]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Elements and what belongs to each, in turns (WITHSCORES, WITHVALUES)."""

    items: list[Reply]


@dataclass(frozen=True, slots=True)
class Named:
    """Names and what is found under each, in turns (XREAD)."""

    items: list[Reply]

    @property
    def pairs(self) -> list[Reply]:
        """As clients of RESP2 see it."""
        return [self.items[at : at + 2] for at in range(0, len(self.items), 2)]


@dataclass(frozen=True, slots=True)
class Set:
    """Elements of no order."""

    items: list[Reply]


@dataclass(frozen=True, slots=True)
class NullArray:
    """Nothing, where there might have been an array: RESP2 knows two kinds of null."""

    items: list[Reply] = field(default_factory=list)
    """None; as other replies travel."""


def size_of_reply(reply: Reply) -> int:
    """Bytes of what it holds, about."""
    kind = type(reply)
    if kind is int:
        return 16
    if kind is bytes or kind is str:
        return len(reply)  # type: ignore[arg-type]
    if kind is list:
        return size_of_replies(reply)  # type: ignore[arg-type]
    if isinstance(reply, (Map, Pairs, Named, Set)):
        return size_of_replies(reply.items)
    if kind is Verbatim:
        return len(reply.text)  # type: ignore[union-attr]
    if kind is Prepared:
        return len(reply.encoded(2))  # type: ignore[union-attr]
    return 16


def size_of_replies(replies: Sequence[Reply]) -> int:
    """Bytes of what replies hold, about."""
    return sum([len(reply) if type(reply) is bytes else size_of_reply(reply) for reply in replies])


class Prepared:
    """A reply that is asked for often and does not change: its bytes are made once."""

    __slots__ = ("_encoded", "reply")

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self._encoded: dict[int, bytes] = {}

    @classmethod
    def of(cls, encoded: bytes) -> Prepared:
        """A reply whose bytes are the same in both protocols, and are made already."""
        prepared = cls(None)
        prepared._encoded = {2: encoded, 3: encoded}
        return prepared

    def encoded(self, protocol: int) -> bytes:
        """For a client of RESP 2 or 3."""
        found = self._encoded.get(protocol)
        if found is None:
            found = self._encoded[protocol] = encode(self.reply, protocol)
        return found


Reply: TypeAlias = (
    "int | float | bool | bytes | str | list[Reply] | dict[Reply, Reply] | Map | Pairs | Named | Set | Verbatim"
    " | Prepared | NullArray | ReplyError | None"
)

OK = "OK"
NULL_ARRAY: Final = NullArray()


# -- replies to bytes

_SIMPLE: Final = {text: b"+%b\r\n" % text.encode() for text in (OK, "PONG", "QUEUED", "string", "none")}
_INTEGERS: Final = {number: b":%d\r\n" % number for number in range(-2, 1024)}
_BULK_HEADS: Final = [b"$%d\r\n" % length for length in range(1024)]
_END: Final = b"\r\n"
_BYTES: Final = {bytes}
_LINE_ENDS: Final = str.maketrans("\r\n", "  ")


def encode_all(replies: Sequence[Reply], protocol: int) -> bytes:
    """A batch's replies, one after another, for a client of RESP 2 or 3. Hot: what is usual is put together from what
    is encoded already, at two thirds of the time of formatting it."""
    if len(replies) > 1:
        if replies[0] is OK and replies.count(OK) == len(replies):
            return _SIMPLE[OK] * len(replies)
        if set(map(type, replies)) == _BYTES:
            lengths = list(map(len, replies))  # type: ignore[arg-type]
            if max(lengths) < len(_BULK_HEADS):
                heads = map(_BULK_HEADS.__getitem__, lengths)
                return b"".join(chain.from_iterable(zip(heads, replies, repeat(_END))))  # type: ignore[arg-type]
    parts: list[bytes] = []
    add = parts.append
    for reply in replies:
        kind = type(reply)
        if kind is bytes:
            length = len(reply)  # type: ignore[arg-type]
            if length < len(_BULK_HEADS):
                parts += (_BULK_HEADS[length], reply, _END)  # type: ignore[arg-type]
            else:
                _encode_into(add, reply, protocol)
        elif kind is str and reply in _SIMPLE:
            add(_SIMPLE[reply])
        elif kind is int:
            add(_INTEGERS.get(reply) or b":%d\r\n" % reply)  # type: ignore[arg-type, str-format]
        else:
            _encode_into(add, reply, protocol)
    return b"".join(parts)


def encode(reply: Reply, protocol: int) -> bytes:
    """One reply for a client of RESP 2 or 3."""
    return encode_all((reply,), protocol)


def _encode_into(add: Callable[[bytes], None], reply: Reply, protocol: int) -> None:
    """One reply of any kind. `bool` is asked for before `int`, whose subclass it is."""
    match reply:
        case None:
            add(b"_\r\n" if protocol == 3 else b"$-1\r\n")
        case bytes():
            add(b"$%d\r\n%b\r\n" % (len(reply), reply))
        case NullArray():
            add(b"_\r\n" if protocol == 3 else b"*-1\r\n")
        case str():
            add(b"+%b\r\n" % _one_line(reply))
        case bool():
            add((b"#t\r\n" if reply else b"#f\r\n") if protocol == 3 else b":%d\r\n" % reply)
        case int():
            add(b":%d\r\n" % reply)
        case float():
            text = text_of_double(reply)
            add(b",%b\r\n" % text if protocol == 3 else b"$%d\r\n%b\r\n" % (len(text), text))
        case list():
            add(b"*%d\r\n" % len(reply))
            add(encode_all(reply, protocol))
        case dict():
            add(b"%%%d\r\n" % len(reply) if protocol == 3 else b"*%d\r\n" % (2 * len(reply)))
            for key, value in reply.items():
                _encode_into(add, key, protocol)
                _encode_into(add, value, protocol)
        case Map(items):
            add(b"%%%d\r\n" % (len(items) // 2) if protocol == 3 else b"*%d\r\n" % len(items))
            add(encode_all(items, protocol))
        case Pairs(items):
            if protocol == 3:
                add(b"*%d\r\n" % (len(items) // 2))
                for at in range(0, len(items), 2):
                    add(b"*2\r\n")
                    add(encode_all(items[at : at + 2], protocol))
            else:
                add(b"*%d\r\n" % len(items))
                add(encode_all(items, protocol))
        case Named(items):
            _encode_into(add, Map(items) if protocol == 3 else reply.pairs, protocol)
        case Set(items):
            add(b"~%d\r\n" % len(items) if protocol == 3 else b"*%d\r\n" % len(items))
            add(encode_all(items, protocol))
        case Verbatim():
            text = reply.text
            add(b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if protocol == 3 else b"$%d\r\n%b\r\n" % (len(text), text))
        case Prepared():
            add(reply.encoded(protocol))
        case ReplyError():
            add(b"-%b\r\n" % _one_line(reply.text.rstrip("\r\n")))


_INTEGRAL_MAX: Final = float(1 << 62)


def text_of_double(number: float) -> bytes:
    """As Redis 7.2 prints one: the shortest text that means this number, integers of less than 63 bits without an
    exponent, others where there are few zeros or digits behind the point."""
    if -_INTEGRAL_MAX <= number <= _INTEGRAL_MAX and number.is_integer():
        return b"%d" % int(number) if number or copysign(1, number) > 0 else b"-0"
    text = repr(number)
    if not isfinite(number) or ("e" not in text and len(text) - text.index(".") <= 7):
        return text.encode()
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = text.removeprefix("-").partition("e")
    whole, _, decimals = mantissa.partition(".")
    written = (whole + decimals).lstrip("0")
    digits = written.rstrip("0")
    power = int(exponent or 0) - len(decimals) + len(written) - len(digits)
    count = len(digits)
    magnitude = power + count - 1
    if power >= 0 and magnitude < count + 7:
        text = digits + "0" * power
    elif power < 0 and (power > -7 or abs(magnitude) < 4):
        point = count + power
        text = f"{digits[:point]}.{digits[point:]}" if point > 0 else "0." + "0" * -point + digits
    else:
        text = f"{digits[0]}{'.' if count > 1 else ''}{digits[1:]}e{magnitude:+d}"
    return f"{sign}{text}".encode()


def _one_line(text: str) -> bytes:
    """A line of the protocol must not hold line ends; Redis writes blanks for them, too."""
    return text.translate(_LINE_ENDS).encode("utf-8", "surrogateescape")


# -- replies from bytes


class Replies:
    """A server's answers as a client reads them: fed bytes as they come, returns complete replies.

    In Python and not by hiredis, which cannot tell a simple string from a bulk string. Sets and pushes become lists,
    attributes are dropped. The server is trusted: what it announces is awaited without a limit.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._reading = self._read()

    def feed(self, data: bytes) -> list[Reply]:
        """Take what a server sent; the replies that are complete now. ValueError: it does not speak RESP."""
        self._buffer += data
        replies: list[Reply] = []
        while self._at < len(self._buffer):
            try:
                next(self._reading)
                break
            except StopIteration as finished:
                replies.append(finished.value)
                self._reading = self._read()
        del self._buffer[: self._at]
        self._at = 0
        return replies

    def _read(self) -> Generator[None, None, Reply]:
        """One reply; yields whenever more bytes must come first."""
        line = yield from self._take_line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return _text(rest)
            case b"-":
                return ReplyError(_text(rest))
            case b":" | b"(":
                return int(rest)
            case b"_":
                return None
            case b"#":
                return rest == b"t"
            case b",":
                return float(rest)
            case b"$" | b"=" | b"!":
                length = int(rest)
                if length < 0:
                    return None
                content = yield from self._take(length + 2)
                if kind == b"$":
                    return content[:-2]
                return Verbatim(content[4:-2]) if kind == b"=" else ReplyError(_text(content[:-2]))
            case b"*" | b"~" | b">":
                length = int(rest)
                if length < 0:
                    return None
                elements: list[Reply] = []
                for _ in range(length):
                    elements.append((yield from self._read()))  # noqa: PERF401 - a comprehension cannot yield
                return elements
            case b"%" | b"|":
                pairs: dict[Reply, Reply] = {}
                for _ in range(int(rest)):
                    key = yield from self._read()
                    pairs[key] = yield from self._read()
                if kind == b"%":
                    return pairs
                return (yield from self._read())
            case _:
                raise ValueError(f"not a reply of the Redis protocol: {line[:64]!r}")

    def _take_line(self) -> Generator[None, None, bytes]:
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            yield
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    def _take(self, length: int) -> Generator[None, None, bytes]:
        while len(self._buffer) - self._at < length:
            yield
        taken = bytes(self._buffer[self._at : self._at + length])
        self._at += length
        return taken


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
