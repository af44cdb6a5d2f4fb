"""Replies as a terminal may show them, and as a pipe gets them.

Texts hold bytes that are no UTF-8 as lone surrogates (`surrogateescape`), so that nothing is lost on the way to a pipe.
Whoever may write a value, a client's name or a node's must not command the terminal of whoever reads it: what is shown
there has its control characters escaped, as redis-cli does it.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import Final

from peerkv.resp import Map, Named, NullArray, Pairs, Prepared, Reply, ReplyError, Set, Verbatim

_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}
_LACKED: Final = "peerkv.escaped"
"""The name, among Python's handlers of encoding errors, of ours."""
_LINES: Final = frozenset(
    {(b"INFO",), (b"CLIENT", b"INFO"), (b"CLIENT", b"LIST"), (b"CLUSTER", b"INFO"), (b"CLUSTER", b"NODES")}
)
"""Commands whose bulk strings are text for people, of many lines."""


def escaped(text: str) -> str:
    """The text in characters that a terminal only shows: others as \\n and the like, or as \\xHH of their UTF-8."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(char: str) -> str:
    return char if char.isprintable() else _SHORT.get(char) or _hex(char)


def _hex(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode("utf-8", "surrogateescape"))


def text_of(raw: bytes) -> str:
    """Bytes as a text that can be told from every other's."""
    return raw.decode("utf-8", "surrogateescape")


def quoted(raw: bytes) -> str:
    """A bulk string as redis-cli shows it on a terminal, but with letters of all languages."""
    return '"' + escaped(text_of(raw).replace("\\", "\\\\").replace('"', '\\"')) + '"'


def plain(raw: bytes, *, terminal: bool) -> str:
    """A value without quotes. On a terminal one that needs escapes is in quotes, so that its backslashes are none of
    its own."""
    text = text_of(raw)
    return quoted(raw) if terminal and not text.isprintable() else text


def render(reply: Reply, *, terminal: bool, lines: bool = False, indent: str = "") -> str:
    """A reply as redis-cli shows it on a terminal; into a pipe strings go as they are, and one element a line.

    `lines`: a bulk string is a text of many lines (see `has_lines`).
    """
    match reply:
        case Named():
            return render(reply.pairs, terminal=terminal, lines=lines, indent=indent)
        case Map(items) | Pairs(items) | Set(items):
            return render(items, terminal=terminal, lines=lines, indent=indent)
        case None | NullArray():
            return "(nil)"
        case bool():
            return f"({str(reply).lower()})"
        case int():
            return f"(integer) {reply}"
        case float():
            return f"(double) {reply:g}"
        case str():
            return escaped(reply) if terminal else reply
        case bytes() if lines:
            return _lines(reply, terminal)
        case bytes():
            return quoted(reply) if terminal else text_of(reply)
        case Verbatim(text):
            return _lines(text, terminal)
        case Prepared():
            return render(reply.reply, terminal=terminal, lines=lines, indent=indent)
        case ReplyError(text):
            return f"(error) {escaped(text) if terminal else text}"
        case list() | dict() if not reply:
            return "(empty array)"
        case list() if terminal:
            width = len(str(len(reply)))
            inner = indent + " " * (width + 2)
            return f"\n{indent}".join(
                f"{number:>{width}}) {render(element, terminal=True, indent=inner)}"
                for number, element in enumerate(reply, 1)
            )
        case list():
            return "\n".join(render(element, terminal=False) for element in reply)
        case dict():
            inner = indent + "   "
            return f"\n{indent}".join(
                f"{render(key, terminal=terminal)} => {render(value, terminal=terminal, indent=inner)}"
                for key, value in reply.items()
            )


def has_lines(words: list[bytes]) -> bool:
    """Whether what answers a command is a text of many lines."""
    upper = [word.upper() for word in words[:2]]
    return tuple(upper[:1]) in _LINES or tuple(upper) in _LINES


def _lines(raw: bytes, terminal: bool) -> str:
    text = text_of(raw).rstrip("\r\n")
    if not terminal:
        return text
    return "\n".join(escaped(line) for line in re.split("\r?\n", text))


def write(text: str, *, terminal: bool) -> None:
    """A line to stdout: bytes as they are into a pipe; on a terminal in its encoding, what that lacks as \\xHH."""
    out = sys.stdout
    if out is None:  # closed by whoever started us
        return
    raw = None if terminal else getattr(out, "buffer", None)
    if raw is None:
        print(text, flush=True)
        return
    out.flush()
    raw.write(text.encode("utf-8", "surrogateescape") + b"\n")
    raw.flush()


def dimmed(text: str) -> str:
    """For terminals that can: a remark."""
    bare = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return text if bare else f"\x1b[2m{text}\x1b[0m"


def escape_what_streams_lack() -> None:
    """From now on no character ends the program for being none of stdout's or stderr's encoding."""
    codecs.register_error(_LACKED, _on_lacked)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_LACKED)


def _on_lacked(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _hex(error.object[error.start : error.end]), error.end
