"""The envelope that tells friend from stranger, and what the fields within it may be.

    'p' 'k' | wire version | kind | CBOR [cluster name, ...]
    'p' 'k' | wire version | VERSIONS | oldest | newest

Whatever comes in, opening it returns either a message or a `Refusal` that says what is wrong; it never raises. Lists
may grow at their end: what an older version does not know there, it ignores. Kinds and codes are only ever added. What
is asked in a version that is not spoken here is answered by VERSIONS, which is the same in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeVar

from peerkv.cbor import dump, load_one
from peerkv.wire.limits import DEPTH_MAX, NAME_CHARACTERS_MAX, NUMBER_MAX

MAGIC: Final = b"pk"
ENVELOPE_BYTES: Final = len(MAGIC) + 2


class Kind(IntEnum):
    DATAGRAM = 1
    EXCHANGE_REQUEST = 2
    EXCHANGE_ANSWER = 3
    HELLO = 4
    WELCOME = 5
    VERSIONS = 6
    """I do not speak the version of that; I speak these."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """These bytes are not for us."""

    reason: str
    """Completes the sentence 'refused 10.0.0.7:16379, which ...'."""
    unspoken: bool = False
    """It is of a version that is not spoken here: whoever waits for an answer is to be told so."""
    versions: tuple[int, int] | None = None
    """It says that ours is of a version that is not spoken there; these are."""


def kind_of(payload: bytes) -> int:
    """The kind of message, without a look inside; 0 for what is no message of peerkv at all."""
    return payload[3] if len(payload) >= ENVELOPE_BYTES and payload.startswith(MAGIC) else 0


def version_of(payload: bytes) -> int:
    """The wire version of a message of peerkv."""
    return payload[2]


def encode_versions(versions: tuple[int, int]) -> bytes:
    """To whoever has asked in a version that is not spoken here: which ones are."""
    return MAGIC + bytes((versions[1], Kind.VERSIONS, *versions))


Message = TypeVar("Message")


def seal(kind: Kind, version: int, fields: list[Any]) -> bytes:
    """A message's bytes."""
    return MAGIC + bytes((version, kind)) + dump(fields)


def open_envelope(
    kind: Kind, cluster: str, versions: tuple[int, int], payload: bytes, read: Callable[[list[Any]], Message]
) -> Message | Refusal:
    """What `read` makes of the fields of a message of that kind, or why not. `versions`: those that we speak."""
    if not kind_of(payload):
        return Refusal("sent something that is not peerkv's")
    oldest, newest = versions
    if payload[3] == Kind.VERSIONS and len(payload) == ENVELOPE_BYTES + 2:
        theirs = payload[ENVELOPE_BYTES], payload[ENVELOPE_BYTES + 1]
        return Refusal(f"speaks wire versions {theirs[0]} to {theirs[1]} only", versions=theirs)
    if not oldest <= payload[2] <= newest:
        return Refusal(f"speaks wire version {payload[2]}; this node speaks {oldest} to {newest}", unspoken=True)
    try:
        fields = load_one(payload, ENVELOPE_BYTES, DEPTH_MAX)
        name = text(fields[0], NAME_CHARACTERS_MAX)
        if name != cluster:
            return Refusal(f"belongs to cluster {name!r}; this node belongs to {cluster!r}")
        if payload[3] != kind:
            return Refusal(f"sent a message of kind {payload[3]} where {kind.name} was due")
        return read(fields)
    except Exception as error:
        return Refusal(f"sent what cannot be read ({type(error).__name__}: {str(error)[:80]!r})")


# What fields may be


def integer(value: Any, most: int = NUMBER_MAX) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"not a number from 0 to {most}")
    return value


def text(value: Any, longest: int) -> str:
    if type(value) is not str or len(value) > longest or not value.isprintable():  # as it may be printed in a log
        raise ValueError(f"not a printable text of at most {longest} characters")
    return value


def name_of(value: Any) -> str:
    if not value:
        raise ValueError("a name is not empty")
    return text(value, NAME_CHARACTERS_MAX)
