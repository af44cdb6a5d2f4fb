"""Glob patterns as Redis understands them: `*`, `?`, `[a-z]`, `[^a-z]`, and backslash for the character itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from peerkv.resp import ReplyError

PATTERN_BYTES_MAX: Final = 4096
"""A longer pattern takes more than 10 ms to read."""
PATTERN_TOO_LONG: Final = ReplyError(f"ERR pattern is too long: at most {PATTERN_BYTES_MAX} bytes are allowed")


@lru_cache(maxsize=256)
def matcher(pattern: bytes, *, ignore_case: bool = False) -> Callable[[bytes], object]:
    """A function that says (by truth) whether the whole of some bytes matches."""
    if pattern == b"*":
        return lambda _text: True
    return re.compile(_translate(pattern), re.DOTALL | (re.IGNORECASE if ignore_case else 0)).fullmatch


def _translate(pattern: bytes) -> bytes:
    """What lies between two stars is found where it comes first and never looked for again (an atomic group): as it is
    of fixed length, a later place could not help. Otherwise every star would multiply the time."""
    segments: list[bytes] = []
    parts: list[bytes] = []
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        at += 1
        if char == b"*":
            segments.append(b"".join(parts))
            parts = []
        elif char == b"?":
            parts.append(b".")
        elif char == b"[":
            part, at = _set(pattern, at)
            parts.append(part)
        elif char == b"\\" and at < len(pattern):
            parts.append(re.escape(pattern[at : at + 1]))
            at += 1
        else:
            parts.append(re.escape(char))
    last = b"".join(parts)
    if not segments:
        return last
    between = [b"(?>.*?%b)" % segment for segment in segments[1:] if segment]
    return segments[0] + b"".join(between) + b".*" + last


def _set(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The set that begins at `at`, and where it ends. An unclosed one ends with the pattern, as in Redis."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: list[bytes] = []
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
            members.append(re.escape(pattern[at : at + 1]))
            at += 1
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.append(b"\\x%02x-\\x%02x" % (low, high))
            at += 3
        else:
            members.append(re.escape(pattern[at : at + 1]))
            at += 1
    at += 1
    if not members:
        return (b"." if negated else b"(?!)"), at
    return b"[" + (b"^" if negated else b"") + b"".join(members) + b"]", at
