"""Is it decided? Majorities of one set of owners, or of two at once while a topology change is under way.

A quorum is asked two pure questions: who of the owners said yes (and no) -> is it won, lost or pending; and how far is
each owner -> which position has a quorum reached. It knows nothing of what is being decided. (After etcd's
quorum/majority.go and joint.go: a joint quorum is won when both majorities are.)

Owners whose memory is lost can say neither, and what they said is known to nobody. The rest can still be sure of
everything if as many of them answer as meet every majority that there may have been (`without`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Quorum:
    """A majority of `members`, or as many as are `needed`, and, where `joint` is not empty, a majority of `joint` too.
    Members are member numbers."""

    members: tuple[int, ...]
    joint: tuple[int, ...] = ()
    needed: int = 0
    """How many of `members`; 0: a majority; more than there are: it cannot be won."""

    @property
    def need(self) -> int:
        """How many of `members`."""
        return self.needed or _majority(self.members)

    @property
    def possible(self) -> bool:
        """Whether it can be won at all."""
        return self.need <= len(self.members)

    def verdict(self, yes: Collection[int], no: Collection[int] = ()) -> Verdict:
        """WON once enough said yes; LOST once so many said no that enough no longer can."""
        verdict = _verdict(self.members, self.need, yes, no)
        if not self.joint or verdict is Verdict.LOST:
            return verdict
        other = _verdict(self.joint, _majority(self.joint), yes, no)
        if other is Verdict.LOST:
            return other
        return Verdict.WON if verdict is other is Verdict.WON else Verdict.PENDING

    def won(self, yes: Collection[int]) -> bool:
        return self.verdict(yes) is Verdict.WON

    def won_by_members(self, yes: Collection[int]) -> bool:
        """Whether `members`, for their part, say yes."""
        return _verdict(self.members, self.need, yes, ()) is Verdict.WON

    def reached(self, positions: Mapping[int, int]) -> int:
        """The furthest position that a quorum has reached; an owner that is not in `positions` is at 0."""
        reached = _reached(self.members, self.need, positions)
        return min(reached, _reached(self.joint, _majority(self.joint), positions)) if self.joint else reached


def without(owners: Sequence[int], lost: Collection[int]) -> tuple[tuple[int, ...], int]:
    """Who is left of these owners, of whom some have lost their memory, and how many of those are `needed`.

    What any majority of the owners has acknowledged is known to one of them at least, and two such sets share a member.
    Of n owners, m of which are a majority: every set of n - m + 1 meets every majority; and sets of more than half of
    those that are left meet each other. The larger number does both, whoever was lost before: with fewer lost it is at
    least half of those left then, so sets of before and after meet. Once a majority is lost there may be something that
    only they had, and no set will do.
    """
    left = tuple([owner for owner in owners if owner not in lost])
    if len(left) == len(owners):
        return left, 0
    majority = _majority(owners)
    if len(owners) - len(left) >= majority:
        return left, len(left) + 1
    needed = max(len(owners) - majority + 1, _majority(left))
    return left, 0 if needed == _majority(left) else needed


def _majority(members: Sequence[int]) -> int:
    return len(members) // 2 + 1


def _verdict(members: tuple[int, ...], need: int, yes: Collection[int], no: Collection[int]) -> Verdict:
    if sum(member in yes for member in members) >= need:
        return Verdict.WON
    if len(members) - sum(member in no for member in members) < need:
        return Verdict.LOST
    return Verdict.PENDING


def _reached(members: tuple[int, ...], need: int, positions: Mapping[int, int]) -> int:
    if need > len(members):
        return 0
    return sorted((positions.get(member, 0) for member in members), reverse=True)[need - 1]
