"""The first line of a script or library, which says for what it is: `#!lua name=mylib flags=no-writes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peerkv.resp import CommandError, ReplyError, as_said

FLAGS: Final = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")
MARK: Final = b"#!"


@dataclass(frozen=True, slots=True)
class Shebang:
    """What it says, and the code without it (its line is left, so that lines are numbered as they are)."""

    code: bytes
    flags: frozenset[str] = frozenset()
    name: str = ""
    """Of a library."""


def of_script(source: bytes) -> Shebang:
    """Of a script, which may have none. Raises CommandError."""
    if not source.startswith(MARK):
        return Shebang(source)
    line, newline, rest = source.partition(b"\n")
    if not newline:
        raise _wrong("Invalid script shebang")
    words = line.split()
    if words[0] != b"#!lua":
        raise _wrong(f"Unexpected engine in script shebang: {as_said(words[0])}")
    flags: frozenset[str] = frozenset()
    for word in words[1:]:
        if not word.startswith(b"flags="):
            raise _wrong(f"Unknown lua shebang option: {as_said(word)}")
        named = [flag for flag in word.removeprefix(b"flags=").decode("utf-8", "surrogateescape").split(",") if flag]
        for flag in named:
            if flag not in FLAGS:
                raise _wrong(f"Unexpected flag in script shebang: {flag}")
        flags |= frozenset(named)
    return Shebang(b"\n" + rest, flags)


def of_library(source: bytes) -> Shebang:
    """Of a library, which must have one. Raises CommandError."""
    if not source.startswith(MARK):
        raise _wrong("Missing library metadata")
    line, newline, rest = source.partition(b"\n")
    if not newline:
        raise _wrong("Invalid library metadata")
    words = line.split()
    engine = as_said(words[0][len(MARK) :])
    name = None
    for word in words[1:]:
        if not word.lower().startswith(b"name="):
            raise _wrong(f"Invalid metadata value given: {as_said(word)}")
        if name is not None:
            raise _wrong("Invalid metadata value, name argument was given multiple times")
        name = word[len(b"name=") :]
    if name is None:
        raise _wrong("Library name was not given")
    if not is_name(name):
        raise _wrong(
            "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
        )
    if engine.lower() != "lua":
        raise _wrong(f"Engine '{engine}' not found")
    return Shebang(b"\n" + rest, name=name.decode())


def is_name(name: bytes) -> bool:
    """Whether a library or function may be called so."""
    return name.replace(b"_", b"a").isalnum()


def _wrong(text: str) -> CommandError:
    return CommandError(ReplyError(f"ERR {text}"))
