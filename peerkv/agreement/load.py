"""Homes follow the load: where it comes from, and which slots had better another home (protocol rule H5)."""

from __future__ import annotations

from typing import Final

from peerkv.agreement.home import Home
from peerkv.agreement.peer import Peer
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.settings import Settings

JUDGE_PERIOD_S: Final = 1.0
"""How often coordinators tell their load, and homes judge where it is; what was judged twice holds."""
LOAD_HOLDS_S: Final = 2.5
"""A load that was told longer ago is no more."""
FOLLOWED: Final = 0.8
"""The share of the load that one coordinator must have for homes to move to it; ..."""
EVEN: Final = 0.6
"""... and below which no coordinator is followed. Between the two it is as it was judged before."""
KEPT_S: Final = 5.0
"""A slot is not handed over sooner after its home became that: where another node takes it back again and again, as it
cannot talk to the better home, that is no more than a takeover now and then."""
LOOKS: Final = 4
"""In so many looks all slots are looked at: each takes a millisecond."""


class Load:
    """This node's part in that: it tells the load that it coordinates, and hands slots over that it is home of."""

    def __init__(self, settings: Settings, view: View, replica: Replica, home: Home) -> None:
        self._settings = settings
        self._view = view
        self._replica = replica
        self._home = home
        self._count = len(view.slots)
        self._looks = self._count // LOOKS
        self._writes = 0
        """What this node had coordinated when it judged last, and ..."""
        self._judged_at = 0.0
        """... when that was."""
        self._tells_load = False
        self._loads: dict[int, tuple[int, float]] = {}
        """By process the operations a second that it has for homes as coordinator, and when it said so."""
        self._judged: int | None = None
        """The process that nearly all of the cluster's load comes through; 0: there is none such; None: there is not
        enough to tell."""
        self._moves_to: int | None = None
        """The same, if it was so twice."""
        self._moved_upto = 0
        """As far as we have looked for slots that better had another home in this round."""
        self._unmoved = 0
        """Slots to look at until there is none such, unless something happens meanwhile."""
        self._moved_under: tuple[object, ...] = ()
        """What decides that, as it was at the last look."""

    def move(self, now: float, writes: int) -> None:
        """Hand slots over to the owner that had better be home (protocol rule H5): to the coordinator that nearly all
        of the load comes through, which spares every write of it a forward, or, where there is none such, to the first
        owner, so that the load is spread. Without load nothing moves. Of the next quarter of the slots.

        `writes`: what this node has coordinated so far.
        """
        if now >= self._judged_at + JUDGE_PERIOD_S:
            self._judge(now, writes)
        view, home = self._view, self._home
        if self._moves_to is None or view.topology is None or view.topology.is_joint:
            return
        links = [(peer.process, peer.usable) for peer in view.peers.values()]
        under = (self._moves_to, view.epoch, self._replica.counters.takeovers, links)
        if under != self._moved_under:
            self._moved_under = under
            self._unmoved = self._count
        if self._unmoved <= 0:
            return
        self._unmoved -= self._looks
        first = self._moved_upto
        self._moved_upto = (first + self._looks) % self._count
        better: dict[int, Peer | None] = {}
        handed: dict[Peer, list[int]] = {}
        part = slice(first, first + self._looks)
        for number, (group, order) in enumerate(zip(home.group_of[part], view.order[part], strict=True), first):
            if group is None:
                continue
            if id(order) not in better:  # slots with the same owners share one tuple
                better[id(order)] = self._better_home(order)
            peer = better[id(order)]
            if peer is not None:
                self._unmoved = self._count
                slot = home.homes[number]
                if now - slot.at >= KEPT_S and peer.number not in home.progress.lagging.get(slot, ()):
                    handed.setdefault(peer, []).append(number)
        for peer, numbers in handed.items():
            peer.tell("take", numbers)

    def hear(self, peer: Peer, load: int) -> None:
        """A coordinator has so many operations a second for homes."""
        self._loads[peer.process] = (load, self._home.clock.now)

    def _judge(self, now: float, writes: int) -> None:
        """Where does the load come from? All homes judge the load of the whole cluster, so that it does not depend on
        what they are home of, and hardly differs between them."""
        load = int((writes - self._writes) / (now - self._judged_at))
        self._writes, self._judged_at = writes, now
        if load or self._tells_load:
            self._tells_load = load > 0
            self._view.tell_all("load", load)
        self._loads[self._view.me.process] = (load, now)
        self._loads = {process: told for process, told in self._loads.items() if now - told[1] < LOAD_HOLDS_S}
        total = sum([load for load, _ in self._loads.values()])
        process, (most, _) = max(self._loads.items(), key=lambda told: (told[1][0], told[0]))
        before = self._judged
        if total < self._settings.follow_least:
            self._judged = None
        elif most >= FOLLOWED * total:
            self._judged = process
        elif most < EVEN * total:
            self._judged = 0
        self._moves_to = self._judged if self._judged == before else None

    def _better_home(self, order: tuple[Peer, ...]) -> Peer | None:
        """The owner of these that should be home in our place, if there is one."""
        followed = next((peer for peer in order if peer.process == self._moves_to), None)
        if followed is None or not followed.usable:
            followed = next((peer for peer in order if peer.usable), None)
        return None if followed is self._view.me else followed
