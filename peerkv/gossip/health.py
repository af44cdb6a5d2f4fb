"""Lifeguard: a node that is slow itself should doubt itself before it accuses others. (arXiv 1707.00788)"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, log10
from typing import Final

SCORE_MAX: Final = 7


class Health:
    """How far this node trusts its own view: 0 is well; the worse, the slower it probes. (Lifeguard's LHA-Probe)"""

    __slots__ = ("score",)

    def __init__(self) -> None:
        self.score = 0

    def better(self) -> None:
        self.score = max(0, self.score - 1)

    def worse(self, by: int = 1) -> None:
        self.score = min(SCORE_MAX, self.score + by)


@dataclass(slots=True)
class Suspicion:
    """How long a suspect has to contradict. (Lifeguard's LHA-Suspicion)

    Long while only one node accuses, which may itself be the one that is ill; `confirmations` further accusers shorten
    it to the shortest.
    """

    began: float
    shortest: float
    longest: float
    confirmations: int
    accusers: set[str] = field(default_factory=set)

    def confirm(self, by: str) -> bool:
        """Whether this accuser is new and still counts, and so is worth telling others about."""
        if by in self.accusers or len(self.accusers) > self.confirmations:
            return False
        self.accusers.add(by)
        return True

    @property
    def ends_at(self) -> float:
        if self.confirmations == 0:
            return self.began + self.shortest
        confirmed = min(max(len(self.accusers) - 1, 0), self.confirmations)
        share = log(confirmed + 1) / log(self.confirmations + 1)
        return self.began + self.longest - share * (self.longest - self.shortest)

    def postpone(self, seconds: float) -> None:
        """This node did not run for a while: time in which it could not hear a contradiction does not count."""
        self.began += seconds


def suspicion(
    now: float, members: int, probe_interval: float, multiplier: int, longest_multiplier: int, accuser: str
) -> Suspicion:
    """A suspicion that begins now among so many live members.

    As memberlist's, but that two confirmations are asked for only where there are two others to give them: memberlist
    asks for none among three members, so that one whose I/O is blocked declares both others dead.
    """
    shortest = multiplier * max(1.0, log10(max(1, members))) * probe_interval
    confirmations = max(0, min(multiplier - 2, members - 2))
    return Suspicion(now, shortest, shortest * longest_multiplier, confirmations, {accuser})
