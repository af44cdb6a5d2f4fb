"""The time of one node: its own, and that which it shares with its cluster. One object, read by all, written by the
node alone; hot loops take what they need of it into a local.

Cluster time is each node's monotonic clock plus an offset that it learns with the topology. Whoever is ahead leads; the
others approach, slowly enough for any deadline. All deadlines are in cluster time, so a wall clock that is stepped
leaves times to live alone.

What clients say and ask in wall time (EXPIREAT, TIME) is translated where they say it, by the **skew**: how far wall
clocks are ahead of cluster time. Each node tells its own, the middle one holds, and a wall clock counts only after it
has gone steadily for some seconds. A cluster that was born before its clocks were set stays in its own past for ever,
and nobody notices.
"""

from __future__ import annotations

from math import inf
from typing import Final

SLEW: Final = 0.001
"""The share of a passing second by which cluster time may be moved towards a peer's that is ahead."""
STEADY_S: Final = 5.0
"""A wall clock that was stepped is believed after so long."""
STEADY_MS: Final = 250
"""It is steady as long as it is not off by more than that."""
SKEW_LEAST_MS: Final = 500
"""Less is none: wall clocks differ."""
SKEW_MOST_MS: Final = 10**15
"""30,000 years."""

STALL_S: Final = 0.05
"""A node that has run so much later than it meant to has to read what came meanwhile, before anybody is silent."""
HALVED_S: Final = 2.0
NOTED_S: Final = 0.01
"""What is faster says nothing."""


class Slowness:
    """The longest of some times, of late: what was long ago counts half as much every HALVED_S."""

    __slots__ = ("_at", "most")

    def __init__(self) -> None:
        self.most = 0.0
        """Seconds, not yet halved."""
        self._at = 0.0

    def note(self, now: float, seconds: float) -> None:
        """Something has taken so long."""
        if seconds > NOTED_S and (seconds > self.most or seconds > self.at(now)):
            self.most = seconds
            self._at = now

    def at(self, now: float) -> float:
        """Seconds."""
        return self.most * 0.5 ** ((now - self._at) / HALVED_S) if self.most else 0.0


class Clock:
    """`at` says what time it is; between two calls time stands still, so that all of a turn happens at once."""

    __slots__ = (
        "_offset",
        "_seen_at",
        "_seen_ms",
        "_slewed_at",
        "awake",
        "cluster_ms",
        "due",
        "now",
        "own_skew_ms",
        "skew_ms",
        "slow",
    )

    def __init__(self, now: float = 0.0, wall: float = 0.0) -> None:
        """`wall`: seconds since 1970, for cluster time until a cluster has been met."""
        self.now = -inf
        """Seconds of any clock that does not jump."""
        self.due = inf
        """When it is to run next at the latest."""
        self.slow = Slowness()
        """By how much it has run later than that, of late."""
        self.awake = now
        """When the node last began to run again after it had stood still."""
        self.cluster_ms = 0
        """Cluster time in milliseconds: like Unix time, but the same on all nodes."""
        self._offset = int((wall - now) * 1000)
        """Cluster time less `now`, in milliseconds."""
        self._slewed_at = now
        self.own_skew_ms = 0
        """How far this node's wall clock is ahead of cluster time, as far as it has been steady, and ..."""
        self.skew_ms = 0
        """... that of most members: wall time less cluster time."""
        self._seen_ms = 0
        """How far the wall clock was ahead when it was stepped last, and ..."""
        self._seen_at = now
        """... when that was."""
        self.at(now)

    def at(self, now: float) -> None:
        """It is now so late."""
        if now != self.now:
            late = now - (self.due if self.due > self.now else self.now)
            if late > STALL_S and self.due < now:
                self.awake = now
                self.slow.note(now, late)
            self.now = now
            self.cluster_ms = int(now * 1000) + self._offset

    def adopt(self, theirs: int) -> None:
        """We have met a cluster: its time is ours."""
        self._offset += theirs - self.cluster_ms
        self.cluster_ms = theirs

    def follow(self, theirs: int) -> None:
        """A peer's cluster time; if it is ahead of ours, ours goes a little faster."""
        elapsed = (self.now - self._slewed_at) * 1000
        if elapsed * SLEW >= 1:
            self._slewed_at = self.now
            ahead = theirs - self.cluster_ms
            if ahead > 0:
                self._offset += min(ahead, int(elapsed * SLEW))

    def when(self, cluster_ms: int) -> float:
        """At what `now` it will be so late in the cluster, as far as can be told."""
        return (cluster_ms - self._offset) / 1000

    def look(self, wall: float) -> None:
        """This node's wall clock says so many seconds since 1970."""
        ahead = int(wall * 1000) - self.cluster_ms
        if abs(ahead) > SKEW_MOST_MS:
            return
        if abs(ahead - self._seen_ms) > STEADY_MS:
            self._seen_ms, self._seen_at = ahead, self.now
        elif self.now - self._seen_at >= STEADY_S:
            self.own_skew_ms = self._seen_ms if abs(self._seen_ms) >= SKEW_LEAST_MS else 0

    def agree(self, others: list[int]) -> bool:
        """What the members in reach have told of their own wall clocks; whether the skew has changed by that. One
        clock of three that is wrong does not count; of two the later one does, as clocks start in the past."""
        known = sorted([self.own_skew_ms, *others])
        before, self.skew_ms = self.skew_ms, known[len(known) // 2]
        return self.skew_ms != before
