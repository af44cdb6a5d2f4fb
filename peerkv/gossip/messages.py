"""What gossip engines say to each other; `wire` turns it into bytes.

Datagrams carry probes and rumours and may be lost. An exchange is a request and its answer on a stream of its own; it
carries whole states, and reaches where datagrams do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from peerkv.gossip.member import Claim


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? Answered by an Ack of the same number."""

    number: int


@dataclass(frozen=True, slots=True)
class Ack:
    """It is there: from the one that was pinged, or from one that was asked to ping it."""

    number: int
    seen: str
    """The host under which the pinging node is seen: one that listens on every address learns its own from this."""


@dataclass(frozen=True, slots=True)
class PingRequest:
    """I do not reach it; ping it for me and pass its Ack on."""

    number: int
    process: int


@dataclass(frozen=True, slots=True)
class Nack:
    """I do not reach it either, but I am here: the fault is not on your side. (Lifeguard)"""

    number: int


@dataclass(frozen=True, slots=True)
class Contest:
    """Your name is mine: the claim that comes with it says who I am. How two of one name settle it: see `Names`."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """Nothing but the claims that come with every datagram. One about the receiver asks it to contradict."""


Body = Ping | Ack | PingRequest | Nack | Contest | Gossip


@dataclass(frozen=True, slots=True)
class Datagram:
    name: str
    process: int
    cluster_id: int
    view: int
    """The fingerprints of the sender's live members: another one than the receiver's means that they should talk."""
    to: int
    """The process that this is meant for, as addresses are used again."""
    body: Body
    claims: tuple[Claim, ...] = ()


class Purpose(IntEnum):
    PING = 1
    """Only to see who answers there."""
    SYNC = 2
    """To learn all that the other knows, if its view is another; to join, if it is the first."""


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    purpose: Purpose
    me: Claim
    view: int
    claims: tuple[Claim, ...] = ()
    """What the other one lacks, as an exchange just before this one has shown."""


@dataclass(frozen=True, slots=True)
class Unspoken:
    """In place of an answer: what we asked was of a wire version that the other one does not speak. Ask in another."""

    versions: tuple[int, int]
    """The oldest and the newest that it speaks."""


class Admission(IntEnum):
    WELCOME = 0
    WAIT = 1
    """Somebody else had your name until now, and is being asked whether it lives: try again in half a second."""
    NAME_TAKEN = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class ExchangeAnswer:
    me: Claim
    view: int
    seen: str
    claims: tuple[Claim, ...] = ()
    """All that is known here; nothing if the views are equal or if it was but a ping."""
    admission: Admission = Admission.WELCOME
    reason: str = ""
    """Why not, as text for people."""
