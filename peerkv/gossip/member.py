"""What is claimed of a node, which of two claims wins, and what a change means to the rest of the house.

A node is known under its **name**. One life of its process is (generation, process): a later life replaces an earlier
one whatever was said of that. Within a life only the node itself raises its **incarnation**, with every change of what
it says of itself and whenever it has to contradict an accusation; so everything but the liveness is a function of
(name, process, generation, incarnation), and claims are totally ordered: merging is taking the greater one. LEFT is
the end of a life. (SWIM, section 4.2; foca's `can_change`.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from hashlib import blake2b
from typing import Final

from peerkv.settings import Role

Address = tuple[str, int]

PROTOCOL_VERSIONS: Final = (5, 5)
"""The oldest and the newest wire version that this program speaks."""


class Liveness(IntEnum):
    """In order of precedence within one incarnation. SUSPECT may contradict for a while; DOWN may still return."""

    ALIVE = 0
    SUSPECT = 1
    DOWN = 2
    LEFT = 3


@dataclass(frozen=True, slots=True)
class Member:
    """A node as it describes itself, and whether it is believed to live."""

    name: str
    process: int
    """Random id of one life of its process."""
    generation: int
    """Milliseconds of the wall clock when that life began: orders the lives of one name."""
    incarnation: int = 0
    liveness: Liveness = Liveness.ALIVE
    role: Role = Role.DATA
    host: str = ""
    """Where peers reach it. Empty: it does not know; whoever hears from it directly fills in where from."""
    peer_port: int = 0
    client_host: str = ""
    client_port: int = 0
    zone: str = ""
    weight: int = 1
    epoch: int = 0
    """The newest topology that it knows; 0: none."""
    cluster_id: int = 0
    """The cluster that it was born into or has joined; 0: none yet."""
    load: int = 0
    leaving: bool = False
    """It hands its share back and will go then."""
    succeeds: tuple[int, ...] = ()
    """Ids of clusters in whose place its own was founded, as nobody had any of their data any more."""
    versions: tuple[int, int] = PROTOCOL_VERSIONS
    """The oldest and the newest wire version that it speaks."""

    @property
    def address(self) -> Address:
        """Where peers reach it: gossip by UDP, frames by TCP."""
        return self.host, self.peer_port

    @property
    def live(self) -> bool:
        """Alive as far as anybody knows; a suspect is, until its time to contradict is up."""
        return self.liveness <= Liveness.SUSPECT

    @property
    def gone(self) -> bool:
        """It has said goodbye, or was given up."""
        return self.liveness is Liveness.LEFT

    @property
    def life(self) -> tuple[int, int]:
        """Orders the lives of one name."""
        return self.generation, self.process


@dataclass(frozen=True, slots=True)
class Claim:
    """What one node tells another about a member."""

    member: Member
    by: str = ""
    """Who accuses, if the member is SUSPECT or DOWN: a suspicion shared by several ends sooner."""
    age: int = 0
    """Seconds since the member became DOWN or LEFT, so that all forget it at about the same time."""


def supersedes(old: Member | None, new: Member) -> bool:
    """Whether `new` is news to someone who holds `old` of the same name."""
    return old is None or _rank(new) > _rank(old)


def _rank(member: Member) -> tuple[int, int, bool, int, int]:
    left = member.liveness is Liveness.LEFT
    return member.generation, member.process, left, member.incarnation, member.liveness


def common_version(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """The newest wire version that both speak; 0: there is none."""
    newest = min(ours[1], theirs[1])
    return newest if newest >= max(ours[0], theirs[0]) else 0


def located(member: Member, host: str) -> Member:
    """The member with what it does not know of itself: the host where it was seen."""
    if member.host and member.client_host:
        return member
    return replace(member, host=member.host or host, client_host=member.client_host or member.host or host)


def fingerprint(member: Member) -> int:
    """63 bits, the same on every node. Those of all live members, XORed, tell whether two nodes see the same cluster.

    Suspicion is left out, as it is news of a few seconds, and so are addresses, which may be filled in differently.
    """
    text = f"{member.name}\0{member.process}\0{member.generation}\0{member.incarnation}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class MemberUp:
    """Met for the first time, or alive again, or another life of that name (the earlier one was MemberDown before)."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberSuspect:
    """Did not answer; may still contradict: ask it last."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberDown:
    """Believed dead. Only a preference in routing: nothing about ownership follows from it."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberLeft:
    """Said goodbye, or was given up by agreement."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """Says something else of itself than before; also of this node itself when it has learnt its own address."""

    member: Member


@dataclass(frozen=True, slots=True)
class NameTaken:
    """Another process holds this node's name: this one must not go on. The engine is silent from here on."""

    name: str
    holder: str
    """Where the other one is, as text for people."""


@dataclass(frozen=True, slots=True)
class Missed:
    """This member's cluster is not ours, but holds an earlier life of this node for one of its own."""

    member: Member


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The cluster of this member was founded in the place of ours, which is no more."""

    member: Member


Event = MemberUp | MemberSuspect | MemberDown | MemberLeft | MemberChanged | NameTaken | Missed | Succeeded


def events_of(old: Member | None, new: Member) -> list[Event]:
    """What it means that `new` replaces `old`; between a MemberUp of a life and the next there is a Down or Left."""
    if old is not None and old.life != new.life:
        ended: list[Event] = [MemberDown(replace(old, liveness=Liveness.DOWN))] if old.live else []
        return ended + events_of(None, new)
    match new.liveness:
        case Liveness.LEFT:
            return [MemberLeft(new)]
        case Liveness.DOWN:
            return [] if old is not None and old.liveness is Liveness.DOWN else [MemberDown(new)]
        case Liveness.SUSPECT:
            appeared: list[Event] = [] if old is not None and old.live else [MemberUp(new)]
            return [*appeared, MemberSuspect(new)]
        case Liveness.ALIVE:
            if old is None or old.liveness is not Liveness.ALIVE:
                return [MemberUp(new)]
            same = replace(old, incarnation=new.incarnation) == new
            return [] if same else [MemberChanged(new)]
