"""Replies as they were written, byte by byte: a simple string is no bulk string, and a set no array."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

from peerkv.resp import Replies

Tree: TypeAlias = tuple[bytes, Any]
"""(the type's byte, its text, its elements, or None)"""


class Trees(Replies):
    """A server's answers as trees."""

    def _read(self) -> Generator[None, None, Any]:
        line = yield from self._take_line()
        kind, rest = line[:1], line[1:]
        if kind in (b"$", b"=", b"!"):
            length = int(rest)
            if length < 0:
                return kind, None
            return kind, (yield from self._take(length + 2))[:-2]
        if kind in (b"*", b"~", b">", b"%"):
            length = int(rest)
            if length < 0:
                return kind, None
            elements: list[Tree] = []
            for _ in range(2 * length if kind == b"%" else length):
                elements.append((yield from self._read()))  # noqa: PERF401 - a comprehension cannot yield
            return kind, elements
        assert kind in (b"+", b"-", b":", b"_", b"#", b",", b"("), f"not a reply: {line!r}"
        return kind, None if kind == b"_" else rest


def is_error(tree: Tree) -> bool:
    return tree[0] in (b"-", b"!")


def is_null(tree: Tree) -> bool:
    return tree[1] is None


def shown(tree: Tree) -> str:
    """A reply for people to read."""
    kind, content = tree
    if not isinstance(content, list):
        return kind.decode() + ("nil" if content is None else repr(content)[1:])
    return f"{kind.decode()}[{' '.join(map(shown, content))}]"


def shape(tree: Tree) -> Any:
    """The types alone."""
    kind, content = tree
    if isinstance(content, list):
        return kind, tuple(map(shape, content))
    return kind, content is None


def leaves(tree: Tree) -> list[Any]:
    """The texts alone, in order."""
    content = tree[1]
    return [leaf for part in content for leaf in leaves(part)] if isinstance(content, list) else [content]
