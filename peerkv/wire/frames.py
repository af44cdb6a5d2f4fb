"""Links between peers, as bytes: the first frame each way, then frames that hold all that one peer says in a turn."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from operator import attrgetter
from typing import Any, Final, NamedTuple

import cbor2

from peerkv.agreement.operation import (
    CellAnswers,
    Count,
    Counts,
    EpochAccept,
    EpochPrepare,
    EpochPromise,
    Fetch,
    KeyPage,
    ListKeys,
    Page,
    Prepare,
    Progress,
    Progressed,
    Promises,
    ReadCells,
    Refused,
)
from peerkv.agreement.operation import Message as RareMessage
from peerkv.agreement.peer import Peer
from peerkv.agreement.turn import ROW, Accepts
from peerkv.resp import ReplyError
from peerkv.ring.keys import SLOTS
from peerkv.store.cell import BALLOT_MAX
from peerkv.wire.envelope import Kind, Refusal, integer, name_of, open_envelope, seal


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame on a link, and (as the answer) the first back: who I am. Nothing else goes back on that link."""

    name: str
    process: int
    cluster_id: int
    epoch: int
    to: int
    """The process that is meant; another one at that address must refuse."""


def encode_hello(cluster: str, hello: Hello, *, welcome: bool = False) -> bytes:
    fields = [cluster, hello.name, hello.process, hello.cluster_id, hello.epoch, hello.to]
    return seal(Kind.WELCOME if welcome else Kind.HELLO, fields)


def decode_hello(cluster: str, payload: bytes, *, welcome: bool = False) -> Hello | Refusal:
    return open_envelope(Kind.WELCOME if welcome else Kind.HELLO, cluster, payload, _read_hello)


def _read_hello(fields: list[Any]) -> Hello:
    _, name, process, cluster_id, epoch, to = fields[:6]
    return Hello(name_of(name), integer(process), integer(cluster_id), integer(epoch), integer(to))


class Frame(NamedTuple):
    """All that one process had to say to another in one turn."""

    epoch: int
    mark: int
    """The oldest ticket that the sender, as coordinator, may still repeat."""
    clock: int
    """Cluster time in milliseconds as the sender has it."""
    number: int
    """It is the sender's so many-th to us."""
    read: int
    """The number of the last one of ours that the sender has read: whoever gets on with that is alive, however busy."""
    parts: list[tuple[int, list[Any]]]
    """(code, content): the columns of `Peer` that have something in them, in the order in which they are to be taken
    in; a code that is not known here is of a newer version."""


ANSWERS, CHANGES, PROBES, ACKS, SETTLED, INSISTS, FORWARDS, READS, CONFIRMS, DONE, OUTCOMES, ASKS, TELLS = range(13)
"""Codes of a frame's parts, in the order in which they are taken in: a page before the changes that continue it,
changes before reads that must see them."""

_MESSAGES: Final = (
    Prepare,
    Promises,
    Fetch,
    Page,
    ReadCells,
    CellAnswers,
    Count,
    Counts,
    ListKeys,
    KeyPage,
    Refused,
    EpochPrepare,
    EpochPromise,
    EpochAccept,
    Progress,
    Progressed,
)
"""A message's number on the wire is its place here."""
_MESSAGE_CODES: Final = {kind: code for code, kind in enumerate(_MESSAGES)}
_MESSAGE_FIELDS: Final = [
    attrgetter(*kind.__dataclass_fields__) if kind.__dataclass_fields__ else lambda _message: () for kind in _MESSAGES
]
_ERROR_TAG: Final = 40_001
"""CBOR tag (of the first-come range) for an error reply among replies."""


def encode_frame(epoch: int, mark: int, clock: int, peer: Peer, encoded: dict[int, bytes]) -> bytes:
    """What stands in the peer's columns, as one frame.

    `encoded` keeps, through all frames of one turn, the bytes of what several peers are to accept, by identity.
    """
    fields: list[Any] = [epoch, mark, clock, peer.frames_sent, peer.frames_read]
    if peer.answers:
        fields += (ANSWERS, [_message_to_wire(number, message) for number, message in peer.answers])
    if peer.changes:
        changes: list[Any] = []
        items = iter(peer.changes)
        for turn, accepts in zip(items, items, strict=True):
            chunk = encoded.get(id(accepts))
            if chunk is None:
                chunk = encoded[id(accepts)] = _encode_accepts(accepts)
            changes += (turn, chunk)
        fields += (CHANGES, changes)
    if peer.probes:
        fields += (PROBES, peer.probes)
    if peer.acks:
        fields += (ACKS, peer.acks)
    if peer.settled:
        fields += (SETTLED, peer.settled)
    if peer.insists:
        fields += (INSISTS, peer.insists)
    if peer.forwards:
        tickets, befores, requests = peer.forwards[::3], peer.forwards[1::3], peer.forwards[2::3]
        counts, arguments = list(map(len, requests)), list(chain.from_iterable(requests))
        fields += (FORWARDS, [_pack(tickets), befores if any(befores) else [], _pack(counts), arguments])
    if peer.reads:
        fields += (READS, [peer.sequence, peer.reads[::2], _pack(peer.reads[1::2])])
    if peer.confirms:
        fields += (CONFIRMS, peer.confirms)
    if peer.done:
        fields += (DONE, [_pack(peer.done), peer.replies])
    if peer.outcomes:
        fields += (OUTCOMES, peer.outcomes)
    if peer.asks:
        fields += (ASKS, [_message_to_wire(number, message) for number, message in peer.asks])
    if peer.tells:
        fields += (TELLS, peer.tells)
    return cbor2.dumps(fields, default=_encode_error)


def decode_frame(payload: bytes) -> Frame:
    """Raises ValueError for bytes that are no frame. What its parts hold is checked by who reads them."""
    try:
        fields = cbor2.loads(payload, tag_hook=_decode_tag)
    except Exception as error:
        raise ValueError(f"not a frame: {str(error)[:80]}") from error
    if type(fields) is not list or len(fields) < 5 or len(fields) % 2 != 1:
        raise ValueError("not a frame: wrong fields")
    head = fields[:5]
    if set(map(type, head)) != {int} or not {list}.issuperset(map(type, fields[6::2])):
        raise ValueError("not a frame: wrong fields")
    epoch, mark, clock, number, read = head
    return Frame(epoch, mark, clock, number, read, list(zip(fields[5::2], fields[6::2], strict=True)))


def _encode_accepts(accepts: Accepts) -> bytes:
    segments: list[Any] = []
    for process, columns in accepts.segments:
        tickets, positions, keys, values, deadlines = columns[: ROW - 1]
        segments += (process, _pack(tickets), _pack(positions), keys, values, deadlines if any(deadlines) else [])
        if process:
            replies = columns[ROW - 1]
            first = replies[0]
            alike = type(first) is str and replies.count(first) == len(replies)  # OK
            segments.append([first] if alike else replies)
        else:
            segments.append([])
    return cbor2.dumps([segments, accepts.starts, accepts.awaited, accepts.marks], default=_encode_error)


def changes(content: list[Any]) -> list[tuple[int, Accepts]]:
    """The turns of a frame's CHANGES, and what is to be accepted of each. Raises ValueError or TypeError for what is
    none."""
    items = iter(content)
    return [(turn, _decode_accepts(chunk)) for turn, chunk in zip(items, items, strict=True)]


def _decode_accepts(chunk: bytes) -> Accepts:
    flat, starts, awaited, marks = cbor2.loads(chunk, tag_hook=_decode_tag)
    segments: list[tuple[int, list[Sequence[Any]]]] = []
    items = iter(flat)
    for process, tickets, positions, keys, values, deadlines, replies in zip(*[items] * 7, strict=True):
        count = len(keys)
        columns = [_unpack(tickets), _unpack(positions), keys, values, deadlines or [0] * count]
        if process:
            columns.append(replies if len(replies) == count else replies * count)
        segments.append((process, columns))
    return Accepts(segments, starts, marks, awaited=awaited)


def forwards(content: list[Any]) -> tuple[list[int], list[int], Sequence[Sequence[bytes]]]:
    """A frame's FORWARDS: tickets, tickets of those to be run before, requests."""
    packed, befores, packed_counts, arguments = content
    tickets, counts = _unpack(packed), _unpack(packed_counts)
    requests: Sequence[Sequence[bytes]]
    if min(counts, default=1) < 1 or sum(counts) != len(arguments):
        raise ValueError("requests of other lengths than announced")
    if counts and counts.count(counts[0]) == len(counts):
        requests = list(zip(*[iter(arguments)] * counts[0], strict=True))  # a third of the time of slices
    else:
        requests = [arguments[start:end] for start, end in pairwise(accumulate(counts, initial=0))]
    return tickets, befores or [0] * len(tickets), requests


def reads(content: list[Any]) -> tuple[int, list[bytes], Sequence[int]]:
    """A frame's READS: its number, keys, versions."""
    sequence, keys, versions = content
    return sequence, keys, _unpack(versions)


def slots(numbers: list[Any]) -> list[int]:
    """Numbers of slots in a message. Raises ValueError for what is none."""
    if not all(type(number) is int and 0 <= number < SLOTS for number in numbers):
        raise ValueError("not numbers of slots")
    return numbers


def ballot(number: int) -> int:
    """A ballot in a message. Raises ValueError for what is none."""
    if not 0 <= number <= BALLOT_MAX:
        raise ValueError("not a ballot")
    return number


def done(content: list[Any]) -> tuple[Sequence[int], list[Any]]:
    """A frame's DONE: tickets, replies."""
    tickets, replies = content
    return _unpack(tickets), replies


def _pack(numbers: Sequence[int]) -> bytes | Sequence[int]:
    """Integers as 8 bytes each, at a fifth of the cost of CBOR's; where one has no place in that, as they are."""
    try:
        packed = array("Q", numbers)
    except OverflowError:
        return numbers
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpack(packed: bytes | list[int]) -> list[int]:
    if type(packed) is not bytes:
        return list(packed)
    numbers = array("Q", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def messages(column: list[Any]) -> list[tuple[int, RareMessage]]:
    """The numbered messages of a frame's `asks` or `answers`. Raises ValueError or TypeError for what is none."""
    return [(number, _MESSAGES[code](*fields)) for number, code, fields in column]


def _message_to_wire(number: int, message: RareMessage) -> list[Any]:
    code = _MESSAGE_CODES[type(message)]
    fields = _MESSAGE_FIELDS[code](message)
    return [number, code, fields if type(fields) is tuple else (fields,)]


def _encode_error(encoder: cbor2.CBOREncoder, value: Any) -> None:
    if not isinstance(value, ReplyError):
        raise TypeError(f"{type(value).__name__} does not travel")
    encoder.encode(cbor2.CBORTag(_ERROR_TAG, value.text.encode("utf-8", "surrogateescape")))


def _decode_tag(tag: cbor2.CBORTag, _immutable: bool = False) -> Any:
    if tag.tag != _ERROR_TAG:
        raise ValueError(f"tag {tag.tag} is not known here")
    return ReplyError(tag.value.decode("utf-8", "surrogateescape"))
