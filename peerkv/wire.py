"""Every byte between nodes: an envelope that tells friend from stranger, and CBOR within.

    'p' 'k' | wire version | kind | CBOR [cluster name, ...]

Whatever comes in, decoding returns either a message or a `Refusal` that says what is wrong; it never raises. Lists may
grow at their end: what an older version does not know there, it ignores. Kinds and codes are only ever added.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, chain, pairwise
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

import cbor2

from peerkv.agreement.operation import (
    CellAnswer,
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
    ReadCell,
    Refused,
)
from peerkv.agreement.operation import Message as RareMessage
from peerkv.agreement.peer import Peer
from peerkv.agreement.turn import ROW, Accepts
from peerkv.gossip.member import PROTOCOL_VERSIONS, Claim, Liveness, Member
from peerkv.gossip.messages import (
    Ack,
    Admission,
    Body,
    Contest,
    Datagram,
    ExchangeAnswer,
    ExchangeRequest,
    Gossip,
    Nack,
    Ping,
    PingRequest,
    Purpose,
)
from peerkv.resp import ReplyError
from peerkv.ring.keys import SLOTS
from peerkv.settings import Role
from peerkv.store.cell import SEQUENCE_BITS

MAGIC: Final = b"pk"
ENVELOPE_BYTES: Final = len(MAGIC) + 2

NAME_CHARACTERS_MAX: Final = 64
HOST_CHARACTERS_MAX: Final = 255
"""The longest name that DNS knows."""
REASON_CHARACTERS_MAX: Final = 500
CLAIMS_MAX: Final = 8192
"""Claims in one message. A state exchange of so many fits into the 1 MiB that a first frame may have."""


class Kind(IntEnum):
    DATAGRAM = 1
    EXCHANGE_REQUEST = 2
    EXCHANGE_ANSWER = 3
    HELLO = 4
    WELCOME = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """These bytes are not for us."""

    reason: str
    """Completes the sentence 'refused 10.0.0.7:16379, which ...'."""


def kind_of(payload: bytes) -> int:
    """The kind of message, without a look inside; 0 for what is no message of peerkv at all."""
    return payload[3] if len(payload) >= ENVELOPE_BYTES and payload.startswith(MAGIC) else 0


Message = TypeVar("Message")


def _seal(kind: Kind, fields: list[Any]) -> bytes:
    return MAGIC + bytes((PROTOCOL_VERSIONS[1], kind)) + cbor2.dumps(fields)


def _open(kind: Kind, cluster: str, payload: bytes, read: Callable[[list[Any]], Message]) -> Message | Refusal:
    if not kind_of(payload):
        return Refusal("sent something that is not peerkv's")
    oldest, newest = PROTOCOL_VERSIONS
    if not oldest <= payload[2] <= newest:
        return Refusal(f"speaks wire version {payload[2]}; this node speaks {oldest} to {newest}")
    try:
        fields = cbor2.loads(payload[ENVELOPE_BYTES:])
        theirs = _text(fields[0], NAME_CHARACTERS_MAX)
        if theirs != cluster:
            return Refusal(f"belongs to cluster {theirs!r}; this node belongs to {cluster!r}")
        if payload[3] != kind:
            return Refusal(f"sent a message of kind {payload[3]} where {kind.name} was due")
        return read(fields)
    except Exception as error:  # cbor2 decodes tags into any type of Python and lets that type's errors through
        return Refusal(f"sent what cannot be read ({type(error).__name__}: {str(error)[:80]!r})")


# Gossip: datagrams


def encode_datagram(cluster: str, datagram: Datagram) -> bytes:
    return _seal(
        Kind.DATAGRAM,
        [
            cluster,
            datagram.name,
            datagram.process,
            datagram.cluster_id,
            datagram.view,
            datagram.to,
            _body_to_wire(datagram.body),
            [_claim_to_wire(claim) for claim in datagram.claims],
        ],
    )


def decode_datagram(cluster: str, payload: bytes) -> Datagram | Refusal:
    return _open(Kind.DATAGRAM, cluster, payload, _read_datagram)


def _read_datagram(fields: list[Any]) -> Datagram:
    _, name, process, cluster_id, view, to, body, claims = fields[:8]
    return Datagram(
        _name(name),
        _integer(process),
        _integer(cluster_id),
        _integer(view),
        _integer(to),
        _body_from_wire(body),
        _claims_from_wire(claims),
    )


def _body_to_wire(body: Body) -> list[Any]:
    match body:
        case Gossip():
            return [0]
        case Ping(number):
            return [1, number]
        case Ack(number, seen):
            return [2, number, seen]
        case PingRequest(number, process, (host, port)):
            return [3, number, process, host, port]
        case Nack(number):
            return [4, number]
        case Contest(generation):
            return [5, generation]


def _body_from_wire(fields: list[Any]) -> Body:
    match fields:
        case [0, *_]:
            return Gossip()
        case [1, number, *_]:
            return Ping(_integer(number))
        case [2, number, seen, *_]:
            return Ack(_integer(number), _text(seen, HOST_CHARACTERS_MAX))
        case [3, number, process, host, port, *_]:
            address = _text(host, HOST_CHARACTERS_MAX), _integer(port, 65535)
            return PingRequest(_integer(number), _integer(process), address)
        case [4, number, *_]:
            return Nack(_integer(number))
        case [5, generation, *_]:
            return Contest(_integer(generation))
        case _:
            raise ValueError("a datagram of a kind that is not known here")


# Gossip: exchanges on a stream


def encode_request(cluster: str, request: ExchangeRequest) -> bytes:
    claims = [_claim_to_wire(claim) for claim in request.claims]
    fields = [cluster, int(request.purpose), _claim_to_wire(request.me), request.view, claims]
    return _seal(Kind.EXCHANGE_REQUEST, fields)


def decode_request(cluster: str, payload: bytes) -> ExchangeRequest | Refusal:
    return _open(Kind.EXCHANGE_REQUEST, cluster, payload, _read_request)


def _read_request(fields: list[Any]) -> ExchangeRequest:
    _, purpose, me, view, claims = fields[:5]
    return ExchangeRequest(Purpose(purpose), _claim_from_wire(me), _integer(view), _claims_from_wire(claims))


def encode_answer(cluster: str, answer: ExchangeAnswer) -> bytes:
    claims = [_claim_to_wire(claim) for claim in answer.claims]
    me = _claim_to_wire(answer.me)
    fields = [cluster, me, answer.view, answer.seen, claims, int(answer.admission), answer.reason]
    return _seal(Kind.EXCHANGE_ANSWER, fields)


def decode_answer(cluster: str, payload: bytes) -> ExchangeAnswer | Refusal:
    return _open(Kind.EXCHANGE_ANSWER, cluster, payload, _read_answer)


def _read_answer(fields: list[Any]) -> ExchangeAnswer:
    _, me, view, seen, claims, admission, reason = fields[:7]
    return ExchangeAnswer(
        _claim_from_wire(me),
        _integer(view),
        _text(seen, HOST_CHARACTERS_MAX),
        _claims_from_wire(claims),
        Admission(admission),
        _text(reason, REASON_CHARACTERS_MAX),
    )


# Gossip: claims

_ROLES: Final = (Role.DATA, Role.MASTER)
"""A role's number on the wire is its place here."""


def measure(claim: Claim) -> int:
    """Bytes that the claim takes in a datagram."""
    return len(cbor2.dumps(_claim_to_wire(claim)))


def _claim_to_wire(claim: Claim) -> list[Any]:
    member = claim.member
    return [
        member.name,
        member.process,
        member.generation,
        member.incarnation,
        int(member.liveness),
        _ROLES.index(member.role),
        member.host,
        member.peer_port,
        "" if member.client_host == member.host else member.client_host,
        member.client_port,
        member.zone,
        member.weight,
        member.epoch,
        member.cluster_id,
        member.load,
        *member.versions,
        claim.by,
        claim.age,
        member.leaving,
    ]


def _claim_from_wire(fields: list[Any]) -> Claim:
    if not isinstance(fields, list) or len(fields) < 19:
        raise ValueError("a claim has 19 fields")
    host = _text(fields[6], HOST_CHARACTERS_MAX)
    member = Member(
        name=_name(fields[0]),
        process=_integer(fields[1]),
        generation=_integer(fields[2]),
        incarnation=_integer(fields[3]),
        liveness=Liveness(_integer(fields[4])),
        role=_ROLES[_integer(fields[5])],
        host=host,
        peer_port=_integer(fields[7], 65535),
        client_host=_text(fields[8], HOST_CHARACTERS_MAX) or host,
        client_port=_integer(fields[9], 65535),
        zone=_text(fields[10], NAME_CHARACTERS_MAX),
        weight=_integer(fields[11], 1 << 16),
        epoch=_integer(fields[12]),
        cluster_id=_integer(fields[13]),
        load=_integer(fields[14]),
        versions=(_integer(fields[15], 255), _integer(fields[16], 255)),
        leaving=len(fields) > 19 and fields[19] is True,
    )
    return Claim(member, _text(fields[17], NAME_CHARACTERS_MAX), _integer(fields[18], 1 << 32))


def _claims_from_wire(fields: list[Any]) -> tuple[Claim, ...]:
    if not isinstance(fields, list) or len(fields) > CLAIMS_MAX:
        raise ValueError(f"claims are a list of at most {CLAIMS_MAX}")
    return tuple([_claim_from_wire(claim) for claim in fields])


# What fields may be


def _integer(value: Any, most: int = (1 << 64) - 1) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"not a number from 0 to {most}")
    return value


def _text(value: Any, longest: int) -> str:
    if type(value) is not str or len(value) > longest or not value.isprintable():  # as it may be printed in a log
        raise ValueError(f"not a printable text of at most {longest} characters")
    return value


def _name(value: Any) -> str:
    if not value:
        raise ValueError("a name is not empty")
    return _text(value, NAME_CHARACTERS_MAX)


# Links between peers: the first frame each way, then frames


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
    return _seal(Kind.WELCOME if welcome else Kind.HELLO, fields)


def decode_hello(cluster: str, payload: bytes, *, welcome: bool = False) -> Hello | Refusal:
    return _open(Kind.WELCOME if welcome else Kind.HELLO, cluster, payload, _read_hello)


def _read_hello(fields: list[Any]) -> Hello:
    _, name, process, cluster_id, epoch, to = fields[:6]
    return Hello(_name(name), _integer(process), _integer(cluster_id), _integer(epoch), _integer(to))


class Frame(NamedTuple):
    """All that one process had to say to another in one turn."""

    epoch: int
    mark: int
    """The oldest ticket that the sender, as coordinator, may still repeat."""
    clock: int
    """Cluster time in milliseconds as the sender has it."""
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
    ReadCell,
    CellAnswer,
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
    fields: list[Any] = [epoch, mark, clock]
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
    epoch, mark, clock = fields[:3]
    if not type(epoch) is type(mark) is type(clock) is int or not {list}.issuperset(map(type, fields[4::2])):
        raise ValueError("not a frame: wrong fields")
    return Frame(epoch, mark, clock, list(zip(fields[3::2], fields[4::2], strict=True)))


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
    return cbor2.dumps([segments, accepts.starts, accepts.awaited], default=_encode_error)


def changes(content: list[Any]) -> list[tuple[int, Accepts]]:
    """The turns of a frame's CHANGES, and what is to be accepted of each. Raises ValueError or TypeError for what is
    none."""
    items = iter(content)
    return [(turn, _decode_accepts(chunk)) for turn, chunk in zip(items, items, strict=True)]


def _decode_accepts(chunk: bytes) -> Accepts:
    flat, starts, awaited = cbor2.loads(chunk, tag_hook=_decode_tag)
    segments: list[tuple[int, list[Sequence[Any]]]] = []
    items = iter(flat)
    for process, tickets, positions, keys, values, deadlines, replies in zip(*[items] * 7, strict=True):
        count = len(keys)
        columns = [_unpack(tickets), _unpack(positions), keys, values, deadlines or [0] * count]
        if process:
            columns.append(replies if len(replies) == count else replies * count)
        segments.append((process, columns))
    return Accepts(segments, starts, awaited=awaited)


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
    if not 0 <= number < 1 << (64 - SEQUENCE_BITS):
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
