"""How a cluster begins: once the data members that are expected have met, and none of them knows of any cluster.

The master has it born, or, where there is none, the first data member by name of those that know how many are expected;
should several think so, agreement decides between them. Until then a node says what it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.gossip.member import Liveness, Member
from peerkv.ring.topology import Owner, Topology
from peerkv.settings import Role, Settings

if TYPE_CHECKING:
    from random import Random

BIRTH_TURN_S: Final = 2.0
"""Without a master the first data node by name has a cluster born, and if it does not, after so long the next one."""
MISSING_AFTER_S: Final = 5.0
"""A node without a cluster says what is missing once it has waited for so long, and then ..."""
MISSING_AGAIN_S: Final = 600.0
"""... so often."""
HEARD_HOLDS_S: Final = 10.0
"""Who belongs to a cluster and looks for this node will have met it within so long."""
ALONE_AGAIN_S: Final = 30.0
"""A node that has dropped its cluster of one for another cluster, which then does not take it in, begins anew."""


@dataclass(frozen=True, slots=True)
class Void:
    """A cluster of which nobody has any data left."""

    cluster_id: int
    at: int
    """When that was seen, in milliseconds of cluster time."""
    data_nodes: int
    """How many it had."""
    since: float
    succeeds: tuple[int, ...]
    """Clusters in whose place it was."""


class Birth:
    """This node's part in it."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        process: int,
        members: Mapping[str, Member],
        view: View,
        rng: Random,
        propose: Callable[[list[Peer], Topology, list[Owner]], None],
        enter: Callable[[Topology], None],
        log: Callable[[str, str], None],
    ) -> None:
        """`members`: everybody that gossip knows, by name. `propose`: have these peers decide that this is the first
        topology, of these members. `enter`: install one that need not be decided."""
        self._settings = settings
        self._clock = clock
        self._process = process
        self._members = members
        self._view = view
        self._rng = rng
        self._propose = propose
        self._enter = enter
        self._log = log
        self.void: Void | None = None
        """The last cluster that this node has seen lose all its data."""
        self.waits_for = ""
        """Without a cluster: what is missing for one, as text for people."""
        self._started = clock.now
        self._heard_of = "", -inf
        """Who of a cluster has looked for us last, and when."""
        self._dissolved_at = inf
        """When a cluster of one was dropped in favour of another."""
        self._said_missing = -inf
        self._can_be_born_since = inf

    # -- what becomes of the cluster that there is

    def entered(self) -> None:
        """This node belongs to a cluster."""
        self.waits_for = ""
        self._can_be_born_since = inf

    def dissolved(self) -> None:
        """The cluster of one that this node has begun is dropped in favour of another."""
        self._dissolved_at = self._clock.now

    def begin_anew(self) -> None:
        """It belongs to none any more."""
        self._started = self._clock.now
        self._said_missing = -inf

    def may_say(self) -> bool:
        """Whether it may be said again that this node is not where it is wanted."""
        if self._clock.now - self._said_missing < MISSING_AGAIN_S:
            return False
        self._said_missing = self._clock.now
        return True

    # -- what becomes of none

    def found(self) -> None:
        """Be born as a cluster of one."""
        settings = self._settings
        alone = owner_of(self._members[settings.name])
        self._enter(Topology.birth(self._new_id(), settings.replicas, [alone], settings.slots))

    def _new_id(self) -> int:
        return self._rng.getrandbits(62) | 1

    def consider(self) -> None:
        """Have a cluster born once the data members that are expected have met and none knows of any: as master, or,
        where there is none, as the first data member by name of those that know how many are expected."""
        settings, now = self._settings, self._clock.now
        if now - self._dissolved_at >= ALONE_AGAIN_S and not any(member.epoch for member in self._members.values()):
            self._dissolved_at = inf
            self.found()
            return
        live = [member for member in self._members.values() if member.live]
        found = [m for m in live if m.role is Role.DATA and m.liveness is Liveness.ALIVE and not m.leaving]
        masters = [m.name for m in live if m.role is Role.MASTER and m.liveness is Liveness.ALIVE]
        expected = self._expected()
        self.waits_for = self._what_is_missing(live, found, masters, expected)
        if self.waits_for:
            self._can_be_born_since = inf
            self._say_missing()
            return
        self._can_be_born_since = min(self._can_be_born_since, now)
        names = masters or sorted(member.name for member in found)
        if masters and settings.name != min(masters):
            return
        if not masters and now - self._can_be_born_since < BIRTH_TURN_S * names.index(settings.name):
            return
        others = [member.process for member in found if member.process != self._process]
        known = self._view.peers
        peers = [peer for process in others if (peer := known.get(process)) is not None and peer.up]
        if len(peers) < len(others):
            return
        members = [owner_of(member) for member in found]
        void = self.void
        succeeds = (void.cluster_id, *void.succeeds) if void is not None else ()
        topology = Topology.birth(self._new_id(), settings.replicas, members, settings.slots, succeeds)
        self._propose(peers, topology, members)

    def hear_of_cluster(self, name: str) -> None:
        """Somebody who belongs to a cluster looks for us, or for who was here before: it may hold what we have lost."""
        self._heard_of = name, self._clock.now

    def _expected(self) -> int:
        """How many data members begin a cluster; 0: it is not for this node to know."""
        settings, void = self._settings, self.void
        if settings.expect:
            return settings.expect
        if void is not None:
            late = self._clock.now - void.since >= settings.forget_after
            return 1 if late else void.data_nodes
        return 1 if settings.role is Role.MASTER else 0

    def _what_is_missing(self, live: list[Member], found: list[Member], masters: list[str], expected: int) -> str:
        settings = self._settings
        knowing = [member.name for member in live if member.epoch]
        if not knowing and self._clock.now - self._heard_of[1] < HEARD_HOLDS_S:
            knowing = [self._heard_of[0]]
        met = ", ".join(sorted(member.name for member in found if member.process != self._process)) or "nobody"
        if knowing:
            return f"waiting to be taken in by the cluster of {', '.join(sorted(knowing))}"
        if masters and settings.role is Role.DATA:
            return f"waiting for the master {min(masters)} to have a cluster born; data nodes met: {met}"
        if not expected:
            return (
                f"no master and nobody who knows of a cluster has been met, but {met}. Nodes that are to begin one"
                " together are told how many they are (--expect N, the same for all of them); one that begins it alone"
                " is started without --join"
            )
        if len(found) < expected:
            text = f"waiting for {expected} data nodes to begin a cluster together: {len(found)} of them have met"
            return f"{text}; others met: {met}"
        if settings.role is Role.DATA and all(member.process != self._process for member in found):
            return "this node is leaving"
        return ""

    def _say_missing(self) -> None:
        if self._clock.now - self._started >= MISSING_AFTER_S and self.may_say():
            self._log("warning", f"no cluster yet: {self.waits_for}")


def owner_of(member: Member) -> Owner:
    """A member as one that owns slots."""
    return Owner(0, member.name, member.process, member.zone, member.weight, member.generation)
