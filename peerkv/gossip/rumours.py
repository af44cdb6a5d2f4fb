"""What is still worth telling: one claim per name, each told a limited number of times.

Newer news of a name replaces what is queued of it, so the queue is never longer than the list of members. Whoever
sends a datagram anyway fills it up from here: first what was told least, as that is what others know least.
(SWIM, section 4.1; memberlist's TransmitLimitedQueue.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log10

from peerkv.gossip.member import Claim


@dataclass(slots=True)
class _Rumour:
    claim: Claim
    size: int
    told: int = 0


class Rumours:
    """The claims that this node still spreads. `measure` gives a claim's bytes on the wire.

    A claim of more than `longest` bytes fits no datagram and is left to the exchanges.
    """

    def __init__(self, measure: Callable[[Claim], int], longest: int) -> None:
        self._measure = measure
        self._longest = longest
        self._queue: dict[str, _Rumour] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, claim: Claim) -> None:
        """Tell this from now on, and no longer what was queued of the same member."""
        name = claim.member.name
        self._queue.pop(name, None)  # so that the newest comes last, where `pick` begins
        size = self._measure(claim)
        if size <= self._longest:
            self._queue[name] = _Rumour(claim, size)

    def discard(self, name: str) -> None:
        self._queue.pop(name, None)

    def pick(self, space: int, times: int) -> tuple[Claim, ...]:
        """Claims of together at most `space` bytes; each is forgotten once it was picked `times` times."""
        if not self._queue:
            return ()
        picked = []
        newest_first = list(self._queue.values())[::-1]
        for rumour in sorted(newest_first, key=lambda rumour: rumour.told):
            if rumour.size <= space:
                space -= rumour.size
                picked.append(rumour.claim)
                rumour.told += 1
                if rumour.told >= times:
                    del self._queue[rumour.claim.member.name]
        return tuple(picked)


def retransmissions(multiplier: int, members: int) -> int:
    """How often a rumour is told so that, in all likelihood, everybody hears it."""
    return multiplier * ceil(log10(members + 1))
