"""Requests out of a client's bytes (hiredis), and their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import hiredis


def encode_request(arguments: Iterable[bytes]) -> bytes:
    """A request as clients send it: an array of bulk strings."""
    parts = [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


ARGUMENTS_MAX: Final = 1 << 20
"""Elements of one request, as in Redis before 7 (which takes 2^31): what is announced is allocated at once."""
BULK_BYTES_MAX: Final = 512 << 20
"""One argument: Redis's proto-max-bulk-len."""
ARGUMENT_BYTES: Final = 56
"""What a `bytes` takes beside what it holds."""
_SENTINEL: Final = b"*0\r\n"
"""An empty request behind what a client sent: that it is read as one proves that the client's last one is complete."""

_ARRAY: Final = ord("*")
_RETURN: Final = ord("\r")
_JOIN: Final = b"".join
_TRAPS: Final = re.compile(rb"\n(?:[+=(>~|%]|\*[0-9]{7})").search
"""What hiredis must not see: sizes of arrays (*, >, ~, |) that it would allocate before their elements have come, and
types that it returns as if they were arrays or bulk strings. Values that happen to hold the same bytes are found, too:
they are read the slow way."""
_PLUS, _EQUALS, _PARENTHESIS, _GREATER, _TILDE, _BAR, _PERCENT = b"+=(>~|%"
_LONG_SIZES: Final = re.compile(rb"\*[0-9]{7}").search


def _holds_traps(data: bytes) -> bool:
    """Most data has none of the bytes that these begin with, which is known in half the time."""
    return (
        _PLUS in data
        or _EQUALS in data
        or _PARENTHESIS in data
        or _GREATER in data
        or _TILDE in data
        or _BAR in data
        or _PERCENT in data
        or _LONG_SIZES(data) is not None
    ) and _TRAPS(data) is not None


class Requests:
    """One client's input: fed bytes as they come, returns complete requests.

    Three ways, all with Redis's rules and texts. Command arrays that are complete go through hiredis, at a quarter of
    the cost of Python: what it would accept and Redis would not, or would spend memory on, is looked for before and
    after. What hiredis refuses, and inline commands, are read in Python, which is exact. So is a request of which only
    a part has come: of it nothing is read twice, however long it is.

    Memory: a request that announces more than `request_bytes_max`, and an unfinished line beyond `inline_bytes_max`,
    are refused at once.
    """

    __slots__ = (
        "_arguments",
        "_at",
        "_buffer",
        "_bytes",
        "_inline_max",
        "_missing",
        "_reader",
        "_request_max",
        "error",
    )

    def __init__(self, request_bytes_max: int, inline_bytes_max: int) -> None:
        self.error: str | None = None
        """Why nothing more is read: an error reply's text. Requests before the fault were returned."""
        self._request_max = request_bytes_max
        self._inline_max = inline_bytes_max
        self._reader = hiredis.Reader()
        self._buffer = bytearray()
        """From the first request that is not complete; empty between requests."""
        self._at = 0
        """How much of the buffer has been read."""
        self._arguments: list[bytes] = []
        self._missing = 0
        """Arguments of the request under way that have not come."""
        self._bytes = 0
        """Bytes of the arguments of that request that have come."""

    @property
    def unfinished(self) -> int:
        """Bytes of memory that a request takes that has not come as a whole."""
        if not self._missing:
            return len(self._buffer)
        return len(self._buffer) + self._bytes + ARGUMENT_BYTES * len(self._arguments)

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take what a client sent; the requests that are complete now. Empty ones are dropped."""
        requests: list[list[bytes]] = []
        if self.error is not None:
            return requests
        if self._buffer or self._missing:
            self._buffer += data
            request = self._read_one()
            if request is None:
                self._forget_read()
                return requests
            if request:
                requests.append(request)
            data = bytes(self._buffer[self._at :])
            self._buffer.clear()
            self._at = 0
        if data and data[0] == _ARRAY and len(data) <= self._request_max:
            # What was cut somewhere is whole up to its last header, if that is one and not part of a value.
            end = len(data) if data.endswith(b"\r\n") else data.rfind(b"\r\n*") + 2
            whole = self._read_whole(data[:end]) if end > 1 else None
            if whole is not None:
                if not requests and end == len(data):
                    return whole
                requests += whole
                data = data[end:]
        self._read_slowly(data, requests)
        return requests

    def _read_whole(self, data: bytes) -> list[list[bytes]] | None:
        """The requests in these bytes if they are nothing but complete, faultless command arrays; otherwise None."""
        if (data[2] != _RETURN and data[1:8].isdigit()) or _holds_traps(data):
            return None
        reader = self._reader
        requests: list[list[bytes]] = []
        next_request = reader.gets
        try:
            reader.feed(data + _SENTINEL)
            request = next_request()
            while request:
                _JOIN(request)  # a TypeError unless all are bytes
                requests.append(request)
                request = next_request()
            if request == [] and not reader.has_data():
                return requests
        except (hiredis.ProtocolError, TypeError):
            pass
        self._reader = hiredis.Reader()
        return None

    def _read_slowly(self, data: bytes, requests: list[list[bytes]]) -> None:
        """Read what begins with a request by Redis's own rules; keep what is not complete."""
        buffer = self._buffer
        buffer += data
        while self._at < len(buffer):
            request = self._read_one()
            if request is None:
                break
            if request:
                requests.append(request)
        self._forget_read()

    def _forget_read(self) -> None:
        if self.error is not None:
            self._buffer.clear()
            self._arguments.clear()
        else:
            del self._buffer[: self._at]
        self._at = 0

    def _read_one(self) -> list[bytes] | None:
        """The next request of the buffer; None: it is not complete, or malformed (`error` says so)."""
        buffer = self._buffer
        if not self._missing:
            if buffer[self._at] != ord("*"):
                return self._read_inline()
            count = self._read_length("mbulk count string", "multibulk length", -(1 << 63), ARGUMENTS_MAX)
            if count is None:
                return None
            if count <= 0:
                return []
            self._missing = count
            self._bytes = 0
        while self._missing:
            start = self._at
            longest = min(BULK_BYTES_MAX, self._request_max - self._bytes)
            length = self._read_length("bulk count string", "bulk length", 0, longest)
            if length is None:
                return None
            end = self._at + length
            if len(buffer) < end + 2:
                self._at = start
                return None
            self._arguments.append(bytes(buffer[self._at : end]))
            self._bytes += length
            self._missing -= 1
            self._at = end + 2
        arguments = self._arguments
        self._arguments = []
        return arguments

    def _read_length(self, line: str, number: str, least: int, most: int) -> int | None:
        """A header's number, read past its line end; None if the line is not complete or the number not allowed."""
        buffer = self._buffer
        end = buffer.find(b"\r", self._at)
        if end < 0 or end + 2 > len(buffer):
            if end < 0 and len(buffer) - self._at > self._inline_max:
                self._fail(f"too big {line}")
                return None
            return None
        if self._missing and buffer[self._at] != ord("$"):
            self._fail(f"expected '$', got '{chr(buffer[self._at])}'")
            return None
        length = parse_integer(bytes(buffer[self._at + 1 : end]))
        if length is None or not least <= length <= most:
            self._fail(f"invalid {number}")
            return None
        self._at = end + 2
        return length

    def _read_inline(self) -> list[bytes] | None:
        """A command as a person types it: words on a line, in quotes where they hold blanks."""
        end = self._buffer.find(b"\n", self._at)
        if (len(self._buffer) if end < 0 else end) - self._at > self._inline_max:
            self._fail("too big inline request")
            return None
        if end < 0:
            return None
        line = bytes(self._buffer[self._at : end])
        self._at = end + 1
        words = line.split() if _SPECIAL(line) is None else split_words(line)
        if words is None:
            self._fail("unbalanced quotes in request")
            return None
        return words

    def _fail(self, reason: str) -> None:
        self.error = f"ERR Protocol error: {reason}"
        self._buffer = bytearray()
        self._arguments = []


def parse_integer(digits: bytes) -> int | None:
    """A signed 64-bit integer as Redis reads numbers: no blanks, plus sign or leading zeros, nor `-0`."""
    if len(digits) > 20:
        return None
    try:
        number = int(digits)
    except ValueError:
        return None
    return number if -(1 << 63) <= number < 1 << 63 and b"%d" % number == digits else None


_SPECIAL: Final = re.compile(rb"[\"'\0\v\f]").search
"""Bytes in an inline command that need more than splitting at blanks."""
_PIECE: Final = re.compile(
    rb"""
      " (?P<double> (?: \\. | [^"\\] )*+ ) "
    | ' (?P<single> (?: \\' | [^'] )*+ ) '
    | (?P<plain> [^\ \n\r\t"']+ )
    """,
    re.DOTALL | re.VERBOSE,
).match
_BLANKS: Final = re.compile(rb"\s*").match
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_words(line: bytes) -> list[bytes] | None:
    """Words of a line by Redis's rules (`sdssplitargs`); None: a quote is not closed, or not followed by a blank."""
    line = line.partition(b"\0")[0]
    words: list[bytes] = []
    at = _BLANKS(line).end()  # type: ignore[union-attr]
    while at < len(line):
        word = b""
        kind: str | None = "plain"
        while kind == "plain" and at < len(line) and line[at] not in b" \n\r\t":
            piece = _PIECE(line, at)
            if piece is None:
                return None
            kind = piece.lastgroup
            text = piece["plain"] or b""
            if kind == "double":
                text = _ESCAPE.sub(_unescape, piece["double"])
            elif kind == "single":
                text = piece["single"].replace(b"\\'", b"'")
            word += text
            at = piece.end()
        words.append(word)
        blanks = _BLANKS(line, at).end()  # type: ignore[union-attr]
        if kind != "plain" and blanks == at < len(line):
            return None
        at = blanks
    return words


def _unescape(escape: re.Match[bytes]) -> bytes:
    code, char = escape.groups()
    return bytes.fromhex(code.decode()) if code is not None else _ESCAPED.get(char, char)
