"""The time of one node: its own, and that which it shares with its cluster. One object, read by all, written by the
node alone; hot loops take what they need of it into a local.

Cluster time is each node's monotonic clock plus an offset that it learns with the topology. Whoever is ahead leads; the
others approach, slowly enough for any deadline. A stepped wall clock changes nothing.
"""

from __future__ import annotations

from math import inf
from typing import Final

SLEW: Final = 0.001
"""The share of a passing second by which cluster time may be moved towards a peer's that is ahead."""

STALL_S: Final = 0.1
"""A node that has not run for so long has to read what came meanwhile before it can say who is silent."""


class Clock:
    """`at` says what time it is; between two calls time stands still, so that all of a turn happens at once."""

    __slots__ = ("_offset", "_slewed_at", "awake", "cluster_ms", "now")

    def __init__(self, now: float = 0.0, wall: float = 0.0) -> None:
        """`wall`: seconds since 1970, for cluster time until a cluster has been met."""
        self.now = -inf
        """Seconds of any clock that does not jump."""
        self.awake = now
        """When the node last began to run again after it had stood still."""
        self.cluster_ms = 0
        """Cluster time in milliseconds: like Unix time, but the same on all nodes."""
        self._offset = int((wall - now) * 1000)
        """Cluster time less `now`, in milliseconds."""
        self._slewed_at = now
        self.at(now)

    def at(self, now: float) -> None:
        """It is now so late."""
        if now != self.now:
            if now - self.now > STALL_S:
                self.awake = now
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
