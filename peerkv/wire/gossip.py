"""What gossip engines say to each other, as bytes: datagrams, exchanges on a stream, and the claims in both."""

from __future__ import annotations

from typing import Any, Final

import cbor2

from peerkv.gossip.member import Claim, Liveness, Member
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
from peerkv.ring.placement import WEIGHT_MAX
from peerkv.ring.topology import SUCCEEDED_MAX
from peerkv.settings import Role
from peerkv.wire.envelope import Kind, Refusal, integer, name_of, open_envelope, seal, text
from peerkv.wire.limits import CLAIMS_MAX, HOST_CHARACTERS_MAX, NAME_CHARACTERS_MAX, REASON_CHARACTERS_MAX

# Gossip: datagrams


def encode_datagram(cluster: str, version: int, datagram: Datagram) -> bytes:
    return seal(
        Kind.DATAGRAM,
        version,
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


def decode_datagram(cluster: str, versions: tuple[int, int], payload: bytes) -> Datagram | Refusal:
    return open_envelope(Kind.DATAGRAM, cluster, versions, payload, _read_datagram)


def _read_datagram(fields: list[Any]) -> Datagram:
    _, name, process, cluster_id, view, to, body, claims = fields[:8]
    return Datagram(
        name_of(name),
        integer(process),
        integer(cluster_id),
        integer(view),
        integer(to),
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
        case PingRequest(number, process):
            return [3, number, process]
        case Nack(number):
            return [4, number]
        case Contest():
            return [5]


def _body_from_wire(fields: list[Any]) -> Body:
    match fields:
        case [0, *_]:
            return Gossip()
        case [1, number, *_]:
            return Ping(integer(number))
        case [2, number, seen, *_]:
            return Ack(integer(number), text(seen, HOST_CHARACTERS_MAX))
        case [3, number, process, *_]:
            return PingRequest(integer(number), integer(process))
        case [4, number, *_]:
            return Nack(integer(number))
        case [5, *_]:
            return Contest()
        case _:
            raise ValueError("a datagram of a kind that is not known here")


# Gossip: exchanges on a stream


def encode_request(cluster: str, version: int, request: ExchangeRequest) -> bytes:
    claims = [_claim_to_wire(claim) for claim in request.claims]
    fields = [cluster, int(request.purpose), _claim_to_wire(request.me), request.view, claims]
    return seal(Kind.EXCHANGE_REQUEST, version, fields)


def decode_request(cluster: str, versions: tuple[int, int], payload: bytes) -> ExchangeRequest | Refusal:
    return open_envelope(Kind.EXCHANGE_REQUEST, cluster, versions, payload, _read_request)


def _read_request(fields: list[Any]) -> ExchangeRequest:
    _, purpose, me, view, claims = fields[:5]
    return ExchangeRequest(Purpose(purpose), _claim_from_wire(me), integer(view), _claims_from_wire(claims))


def encode_answer(cluster: str, version: int, answer: ExchangeAnswer) -> bytes:
    claims = [_claim_to_wire(claim) for claim in answer.claims]
    me = _claim_to_wire(answer.me)
    fields = [cluster, me, answer.view, answer.seen, claims, int(answer.admission), answer.reason]
    return seal(Kind.EXCHANGE_ANSWER, version, fields)


def decode_answer(cluster: str, versions: tuple[int, int], payload: bytes) -> ExchangeAnswer | Refusal:
    return open_envelope(Kind.EXCHANGE_ANSWER, cluster, versions, payload, _read_answer)


def _read_answer(fields: list[Any]) -> ExchangeAnswer:
    _, me, view, seen, claims, admission, reason = fields[:7]
    return ExchangeAnswer(
        _claim_from_wire(me),
        integer(view),
        text(seen, HOST_CHARACTERS_MAX),
        _claims_from_wire(claims),
        Admission(admission),
        text(reason, REASON_CHARACTERS_MAX),
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
        list(member.succeeds),
    ]


def _claim_from_wire(fields: list[Any]) -> Claim:
    if not isinstance(fields, list) or len(fields) < 19:
        raise ValueError("a claim has 19 fields")
    host = text(fields[6], HOST_CHARACTERS_MAX)
    weight = integer(fields[11], WEIGHT_MAX)
    if not weight:
        raise ValueError("a weight is 1 at least")
    member = Member(
        name=name_of(fields[0]),
        process=integer(fields[1]),
        generation=integer(fields[2]),
        incarnation=integer(fields[3]),
        liveness=Liveness(integer(fields[4])),
        role=_ROLES[integer(fields[5])],
        host=host,
        peer_port=integer(fields[7], 65535),
        client_host=text(fields[8], HOST_CHARACTERS_MAX) or host,
        client_port=integer(fields[9], 65535),
        zone=text(fields[10], NAME_CHARACTERS_MAX),
        weight=weight,
        epoch=integer(fields[12]),
        cluster_id=integer(fields[13]),
        load=integer(fields[14]),
        versions=(integer(fields[15], 255), integer(fields[16], 255)),
        leaving=len(fields) > 19 and fields[19] is True,
        succeeds=tuple([integer(number) for number in fields[20][:SUCCEEDED_MAX]]) if len(fields) > 20 else (),
    )
    return Claim(member, text(fields[17], NAME_CHARACTERS_MAX), integer(fields[18], 1 << 32))


def _claims_from_wire(fields: list[Any]) -> tuple[Claim, ...]:
    if not isinstance(fields, list) or len(fields) > CLAIMS_MAX:
        raise ValueError(f"claims are a list of at most {CLAIMS_MAX}")
    return tuple([_claim_from_wire(claim) for claim in fields])
