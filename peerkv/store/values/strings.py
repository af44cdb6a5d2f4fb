"""Strings: bytes, and what is done to long ones without sending them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from peerkv.store.values import KEEP, Body, Value, patch

PATCH_FROM: Final = 512
"""A string that is shorter is put as a whole, in the hot paths: that costs less than a patch."""


def kept(value: Value) -> Body:
    """The body for what stays as it is, with another deadline."""
    return value if type(value) is bytes and len(value) < PATCH_FROM else KEEP


def spliced(value: bytes, offset: int, text: bytes) -> bytes:
    """A string with some bytes of it overwritten; what is missing before them is zeros."""
    return value[:offset].ljust(offset, b"\0") + text + value[offset + len(text) :]


def splicing(value: bytes, offset: int, text: bytes) -> Body:
    """The body for that."""
    return ("splice", offset, text) if len(value) >= PATCH_FROM else spliced(value, offset, text)


def splicing_all(value: bytes, pieces: Sequence[tuple[int, bytes]]) -> Body:
    """The body for several of them, one after another: (offset, text) each."""
    arguments = [argument for piece in pieces for argument in piece]
    return ("splice", *arguments) if len(value) >= PATCH_FROM else _all_spliced(value, arguments)


def _all_spliced(value: bytes, arguments: Sequence[Any]) -> bytes:
    changed = bytearray(value)
    for offset, text in zip(arguments[::2], arguments[1::2], strict=True):
        changed.extend(bytes(max(0, offset - len(changed))))
        changed[offset : offset + len(text)] = text
    return bytes(changed)


@patch("splice", each=(int, bytes))
def _splice(value: Any, arguments: Sequence[Any]) -> bytes:
    return spliced(value, *arguments) if len(arguments) == 2 else _all_spliced(value, arguments)
