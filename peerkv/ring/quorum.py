"""Is it decided? Majorities of one set of owners, or of two at once while a topology change is under way.

A quorum is asked two pure questions: who of the owners said yes (and no) -> is it won, lost or pending; and how far is
each owner -> which position has a quorum reached. It knows nothing of what is being decided. (After etcd's
quorum/majority.go and joint.go: a joint quorum is won when both majorities are.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Quorum:
    """A majority of `members`, and, where `joint` is not empty, of `joint` too. Members are member numbers."""

    members: tuple[int, ...]
    joint: tuple[int, ...] = ()

    @property
    def need(self) -> int:
        """How many of `members` are a majority."""
        return len(self.members) // 2 + 1

    def verdict(self, yes: Collection[int], no: Collection[int] = ()) -> Verdict:
        """WON once a majority said yes; LOST once so many said no that a majority no longer can."""
        verdict = _majority(self.members, yes, no)
        if not self.joint or verdict is Verdict.LOST:
            return verdict
        other = _majority(self.joint, yes, no)
        if other is Verdict.LOST:
            return other
        return Verdict.WON if verdict is other is Verdict.WON else Verdict.PENDING

    def won(self, yes: Collection[int]) -> bool:
        return self.verdict(yes) is Verdict.WON

    def reached(self, positions: Mapping[int, int]) -> int:
        """The furthest position that a quorum has reached; an owner that is not in `positions` is at 0."""
        reached = _reached(self.members, positions)
        return min(reached, _reached(self.joint, positions)) if self.joint else reached


def _majority(members: tuple[int, ...], yes: Collection[int], no: Collection[int]) -> Verdict:
    need = len(members) // 2 + 1
    if sum(member in yes for member in members) >= need:
        return Verdict.WON
    if len(members) - sum(member in no for member in members) < need:
        return Verdict.LOST
    return Verdict.PENDING


def _reached(members: tuple[int, ...], positions: Mapping[int, int]) -> int:
    return sorted((positions.get(member, 0) for member in members), reverse=True)[len(members) // 2]
