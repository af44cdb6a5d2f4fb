"""Glob patterns: the same as a naive matcher, and never more than polynomial time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peerkv.commands.patterns import matcher


def naive(pattern: bytes, text: bytes) -> bool:
    """Of `*`, `?` and plain characters."""
    if not pattern:
        return not text
    if pattern[:1] == b"*":
        return naive(pattern[1:], text) or (bool(text) and naive(pattern, text[1:]))
    return bool(text) and pattern[:1] in (b"?", text[:1]) and naive(pattern[1:], text[1:])


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_stars_find_what_they_should(pattern: str, text: str) -> None:
    assert bool(matcher(pattern.encode())(text.encode())) == naive(pattern.encode(), text.encode())


def test_many_stars_do_not_multiply_the_time() -> None:
    """With backtracking this takes longer than the universe is old."""
    assert not matcher(b"a*" * 40 + b"b")(b"a" * 1000)


def test_sets_and_escapes_between_stars() -> None:
    assert matcher(b"*[b-d]\\*?")(b"xxc*y")
    assert not matcher(b"*[^b-d]*z*")(b"ccc")
