"""CBOR, but only what is used here: integers of 64 bits, bytes, text, lists, and the tags that replies have.

Everything else (maps, sets, big numbers, dates, patterns, references, what is of no fixed length, lists within lists
within lists) is refused before anything is made of it, by the decoder itself, at no cost: hashes that collide made a
frame of 720 KB take two minutes. No more is taken for a text or a list than bytes are there.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import cbor2

from peerkv.resp import Map, Named, NullArray, Pairs, ReplyError, Set

ERROR_TAG: Final = 40_001
"""Of the first-come range: the text of an error reply."""
COMPOUND_TAGS: Final = {Map: 40_002, Pairs: 40_003, Set: 40_004, NullArray: 40_005, Named: 40_007}
"""Likewise: the items of such a reply."""
FORMER_TAG: Final = 40_006
"""Likewise: `FORMER`, of an empty list."""
DEPTH_MAX: Final = 16
"""Lists within lists. A frame of replies that are lists has 8."""


class Former:
    """In place of a reply that need not travel: what the change's key held before it (protocol rule A7)."""

    __slots__ = ()


FORMER: Final = Former()


def dump(value: Any, default: Callable[[cbor2.CBOREncoder, Any], None] | None = None) -> bytes:
    """`default` writes what is of a type that is not known here. Raises TypeError for what does not travel."""
    return cbor2.dumps(value, default=default or encode_tagged)


def encode_tagged(encoder: cbor2.CBOREncoder, value: Any) -> None:
    """Write a reply that has a tag, or what stands in its place."""
    if isinstance(value, ReplyError):
        encoder.encode(cbor2.CBORTag(ERROR_TAG, value.text.encode("utf-8", "surrogateescape")))
        return
    if value is FORMER:
        encoder.encode(cbor2.CBORTag(FORMER_TAG, []))
        return
    tag = COMPOUND_TAGS.get(type(value))
    if tag is None:
        raise TypeError(f"{type(value).__name__} does not travel")
    encoder.encode(cbor2.CBORTag(tag, value.items))


def load(payload: bytes) -> Any:
    """What has been dumped. Raises ValueError for anything else."""
    try:
        return cbor2.loads(payload, max_depth=DEPTH_MAX, **_OPTIONS)
    except Exception as error:
        raise _unreadable(error) from None


def load_one(payload: bytes, start: int, depth: int) -> Any:
    """What has been dumped to the bytes from `start` on, to all of them, of lists in so many lists at most. Raises
    ValueError for anything else."""
    stream = BytesIO(payload)
    stream.seek(start)
    try:
        value = cbor2.CBORDecoder(stream, max_depth=depth, **_OPTIONS).decode()
    except Exception as error:
        raise _unreadable(error) from None
    if stream.tell() != len(payload):
        raise ValueError(f"{len(payload) - stream.tell()} bytes behind the end")
    return value


def _unreadable(error: Exception) -> ValueError:
    """Of whatever type the decoder has for it."""
    cause = error.__cause__ if isinstance(error.__cause__, ValueError) else error
    return ValueError(f"cannot be read: {str(cause)[:80]}")


def _refuse(_value: Any, _immutable: bool = False) -> Any:
    raise ValueError("holds what is not used here")


def _error(value: Any, _immutable: bool = False) -> ReplyError:
    if type(value) is not bytes:
        raise ValueError("an error reply without a text")
    return ReplyError(value.decode("utf-8", "surrogateescape"))


def _former(value: Any, _immutable: bool = False) -> Former:
    if value != []:
        raise ValueError("a recipe with something in it")
    return FORMER


def _compound(kind: Callable[[list[Any]], Any]) -> Callable[[Any, bool], Any]:
    def read(value: Any, _immutable: bool = False) -> Any:
        if type(value) is not list:
            raise ValueError("a reply without its items")
        return kind(value)

    return read


class _Tags(dict[int, Callable[[Any, bool], Any]]):
    """What becomes of each tag, also of those that the decoder knows by itself."""

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        return _refuse


_TAGS: Final = _Tags(
    {ERROR_TAG: _error, FORMER_TAG: _former, **{tag: _compound(kind) for kind, tag in COMPOUND_TAGS.items()}}
)
_OPTIONS: Final[dict[str, Any]] = {
    "tag_hook": _refuse,
    "object_hook": _refuse,
    "semantic_decoders": _TAGS,
    "allow_indefinite": False,
    "strict_hashable_types": True,  # as a map is refused only once it is read
}
