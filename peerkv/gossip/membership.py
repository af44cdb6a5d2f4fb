"""What this node holds of each member, and what it tells others of that.

A claim that is accepted replaces what was held, is an event for the rest of the house, and a rumour: it travels with
whatever datagram goes out anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, Final

from peerkv.gossip.health import Suspicion, suspicion
from peerkv.gossip.member import (
    Address,
    Claim,
    Event,
    Liveness,
    Member,
    MemberChanged,
    Succeeded,
    common_version,
    events_of,
    fingerprint,
    supersedes,
)
from peerkv.gossip.messages import Body, Datagram, ExchangeRequest, Gossip
from peerkv.gossip.rumours import Rumours, retransmissions
from peerkv.settings import GossipSettings, address_text

if TYPE_CHECKING:
    from random import Random

HEADER_BYTES_MAX: Final = 160
"""A datagram without claims and without the names of cluster and sender; a host is a literal address there."""
MEMBERS_MAX: Final = 4096
"""Names that are remembered, living or not; more are ignored. All of them together fit into one exchange."""
TOMBSTONES_MIN: Final = 1024
"""So many that are DOWN or LEFT are remembered; beyond this, four for each that lives."""
FORGET_DOWN_AFTER_S: Final = 24 * 3600.0
TELL_INTERVAL_S: Final = 1.0
"""The same peer is told at most this often that it is not held alive, or that its name is contested."""
INCARNATIONS_MAX: Final = 1000
"""A member's word for an incarnation counts if it is at most so many further: a suspect raises it once per accusation,
a change of topology once per epoch. Forged ones would lead nowhere: 2^63 are too many steps."""
GENERATION_MAX: Final = 1 << 62
"""A later life is outlived by the next number up to here only: room enough, from 1970 on, for any clock."""
SETTLED_AFTER_S: Final = 60.0
"""A process that has run for so long does not give its name back to an earlier one that was away."""


@dataclass(slots=True)
class SwimOutbox:
    """What the engine wants done. A host may be a name: whoever sends resolves it, anew each time."""

    datagrams: list[tuple[Address, int, Datagram]] = field(default_factory=list)
    """(peer address, wire version, what)"""
    exchanges: list[tuple[int, Address, int, ExchangeRequest]] = field(default_factory=list)
    """(ticket, peer address, wire version, request): report the end with `answer(ticket, ...)`."""
    events: list[Event] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    wake_at: float = inf


@dataclass(slots=True)
class Standing:
    """What this node remembers of a life of a member, beside what is claimed of it."""

    since: float
    """When it came to the liveness that it has."""
    heard: float = -inf
    """When something came from it directly, or over a link of the data plane."""
    told: float = -inf
    asked: float = -inf
    """When it was asked for a sign of life, as another process wants its name."""
    hinted: float = -inf
    dialled: float = -inf
    detours: int = 0
    """Probes in a row that were answered, but not by a datagram straight from it."""


class Membership:
    """`by_name` is the current view, with this node and with those that are DOWN or have LEFT."""

    def __init__(
        self,
        settings: GossipSettings,
        cluster: str,
        me: Member,
        rng: Random,
        now: float,
        measure: Callable[[Claim], int],
    ) -> None:
        self.me = me
        self.by_name: dict[str, Member] = {me.name: me}
        self.view = fingerprint(me)
        self.standings: dict[str, Standing] = {me.name: Standing(now)}
        self.suspicions: dict[str, Suspicion] = {}
        self.order: list[str] = []
        """The names of the others in the order in which they are probed."""
        self.urgent: dict[str, None] = {}
        """To be probed before the round goes on."""
        self.unconfirmed: set[str] = set()
        """Declared dead while nothing at all was heard: to be looked at again with the first sign of anybody."""
        self.leaving = False
        self.silent = False
        """This node must not run: it has given way to another one of its name."""
        self.outbox = SwimOutbox()
        self._settings = settings
        self._rng = rng
        self._measure = measure
        self._space = settings.datagram_bytes_max - HEADER_BYTES_MAX - len(cluster.encode()) - len(me.name.encode())
        self._rumours = Rumours(measure, self._space)
        self._gossiped_at = now - settings.gossip_interval
        self._announced = bool(me.host)
        self._seen_at = -inf
        self._number = 0

    def accept(self, now: float, new: Member, by: str = "", age: int = 0, *, spread: bool = True) -> None:
        """Hold this to be true from now on, and tell others."""
        old = self.by_name.get(new.name)
        if old is None:
            if len(self.by_name) >= MEMBERS_MAX:
                return
            self.order.insert(self._rng.randrange(len(self.order) + 1), new.name)
        moved = old is None or old.life != new.life or old.address != new.address
        if old is None or old.life != new.life:
            self.standings[new.name] = Standing(now - age)
        elif old.liveness is not new.liveness:
            self.standings[new.name].since = now - age
        self._hold(new)
        self.suspicions.pop(new.name, None)
        if new.liveness is Liveness.SUSPECT:
            members = len(self.live_others()) + 1
            interval, mult, longest = (
                self._settings.probe_interval,
                self._settings.suspicion_mult,
                self._settings.suspicion_max_mult,
            )
            self.suspicions[new.name] = suspicion(now, members, interval, mult, longest, by)
        events = events_of(old, new)
        self.outbox.events += events
        if events and (old is None or old.liveness is not new.liveness or old.life != new.life):
            blame = f", says {by}" if by and new.liveness is not Liveness.LEFT else ""
            self.log("info", f"member {new.name} ({address_text(*new.address)}) is {new.liveness.name}{blame}")
        if spread:
            self._rumours.add(Claim(new, by))
        if new.live and moved:
            self._take_over(now, new)

    def _take_over(self, now: float, newcomer: Member) -> None:
        """Who was at that address before is there no more."""
        for member in list(self.by_name.values()):
            former = member.generation < newcomer.generation and member.name not in (newcomer.name, self.me.name)
            if former and member.live and member.address == newcomer.address:
                self.accept(now, replace(member, liveness=Liveness.DOWN), by=self.me.name)

    def _hold(self, new: Member) -> None:
        old = self.by_name.get(new.name)
        if old is not None and old.live:
            self.view ^= fingerprint(old)
        if new.live:
            self.view ^= fingerprint(new)
        self.by_name[new.name] = new
        if new.name == self.me.name:
            self.me = new

    def expel(self, member: Member, cluster_id: int) -> None:
        """A member that has turned out to be of another cluster is none of ours."""
        self.log("warning", f"{member.name}: {self.foreign_reason(cluster_id)}")
        if member.live:
            self.outbox.events += events_of(member, replace(member, liveness=Liveness.DOWN))
        self.drop(member.name)

    def drop(self, name: str) -> None:
        self._hold(replace(self.by_name[name], liveness=Liveness.LEFT))
        del self.by_name[name], self.standings[name]
        self.suspicions.pop(name, None)
        self.urgent.pop(name, None)
        self.unconfirmed.discard(name)
        self._rumours.discard(name)
        self.order.remove(name)

    def remembered_for(self, member: Member) -> float:
        return self._settings.forget_left_after if member.liveness is Liveness.LEFT else FORGET_DOWN_AFTER_S

    def leave(self) -> None:
        """Say goodbye, to everybody at once. What is asked is answered still; nothing else is done any more."""
        if self.leaving:
            return
        self.leaving = True
        self._hold(replace(self.me, liveness=Liveness.LEFT))
        live = self.live_others()
        for member in self._rng.sample(live, min(len(live), 32)):
            self.send(member, Gossip(), [Claim(self.me)])
        self._rumours.add(Claim(self.me))

    def speak(self, **changes: Any) -> None:
        """This node says something else of itself: only it may raise its incarnation."""
        changes.setdefault("incarnation", self.me.incarnation + 1)
        self._hold(replace(self.me, **changes))
        self._rumours.add(Claim(self.me))

    def seen_as(self, now: float, host: str) -> None:
        """A node that was not told its own address believes its peers, unless they contradict each other."""
        if self._announced or not host:
            return
        if host == self.me.host:
            self._seen_at = now
        elif not self.me.host or now - self._seen_at > SETTLED_AFTER_S:
            self._seen_at = now
            self.speak(host=host, client_host=host)
            self.outbox.events.append(MemberChanged(self.me))

    def tell(self, now: float, held: Member) -> None:
        """Tell a process that was heard from how it is held here, or say again what it accuses us of."""
        standing = self.standings[held.name]
        if now - standing.told >= TELL_INTERVAL_S and not self.leaving:
            standing.told = now
            self.send(held, Gossip(), [Claim(held, self.me.name)])

    def send(
        self,
        to: Member,
        body: Body,
        claims: Sequence[Claim] = (),
        *,
        address: Address | None = None,
        rumours: bool = True,
    ) -> None:
        """A datagram for that process alone, at its address or at where it was seen, filled up with rumours."""
        space = self._space
        first = []
        for claim in claims:
            size = self._measure(claim)
            if size <= space:
                first.append(claim)
                space -= size
        if rumours:
            first += self._rumours.pick(space, retransmissions(self._settings.retransmit_mult, len(self.by_name)))
        me = self.me
        datagram = Datagram(me.name, me.process, me.cluster_id, self.view, to.process, body, tuple(first))
        self.outbox.datagrams.append((address or to.address, self.version_for(to.versions), datagram))

    def version_for(self, theirs: tuple[int, int] | None) -> int:
        """The wire version to speak to somebody of these; to somebody unknown, the oldest that we do: a newcomer that
        can speak more than its cluster is understood at once."""
        ours = self.me.versions
        return ours[0] if theirs is None else common_version(ours, theirs) or ours[0]

    def spread(self, claim: Claim) -> None:
        """Tell this from now on."""
        self._rumours.add(claim)

    def gossip_at(self) -> float:
        alone = len(self.by_name) == 1
        return inf if alone or not len(self._rumours) else self._gossiped_at + self._settings.gossip_interval

    def gossip(self, now: float) -> None:
        self._gossiped_at = now
        live = self.live_others()
        for member in self._rng.sample(live, min(len(live), self._settings.gossip_fanout)):
            if len(self._rumours):
                self.send(member, Gossip())

    def everything(self, now: float) -> tuple[Claim, ...]:
        return tuple([self.claim(now, member) for member in self.by_name.values() if member is not self.me])

    def lacking(self, now: float, theirs: Iterable[Claim]) -> tuple[Claim, ...]:
        """What they should hear from us: what is news to them, and whom they hold DOWN and we do not."""
        held = {claim.member.name: claim.member for claim in theirs}
        lacking = []
        for member in self.by_name.values():
            their = held.get(member.name)
            disputed = their is not None and their.liveness is Liveness.DOWN and member.live
            if member is not self.me and (disputed or supersedes(their, member)):
                lacking.append(self.claim(now, member))
        return tuple(lacking)

    def claim(self, now: float, member: Member) -> Claim:
        """What to tell of a member by a stream."""
        if member.live:
            return Claim(member)
        return Claim(member, self.me.name, int(now - self.standings[member.name].since))

    def is_foreign(self, cluster_id: int) -> bool:
        return cluster_id != 0 and self.me.cluster_id not in (0, cluster_id)

    def note_succession(self, theirs: Member) -> None:
        """A member of another cluster: if that was founded in the place of ours, the house must know."""
        if self.me.cluster_id and self.me.cluster_id in theirs.succeeds and self.is_foreign(theirs.cluster_id):
            self.outbox.events.append(Succeeded(theirs))

    def foreign_reason(self, cluster_id: int) -> str:
        return f"belongs to another cluster of the same name (id {cluster_id:x}; ours is {self.me.cluster_id:x})"

    def live_others(self) -> list[Member]:
        return [member for member in self.by_name.values() if member.live and member is not self.me]

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def log(self, level: str, text: str) -> None:
        self.outbox.log.append((level, text))

    def forget_long_gone(self, now: float) -> None:
        """Forget members that have been DOWN or LEFT for long."""
        gone = sorted(
            (self.standings[member.name].since, member.name) for member in self.by_name.values() if not member.live
        )
        room = max(TOMBSTONES_MIN, 4 * len(self.by_name) - 4 * len(gone))
        for place, (since, name) in enumerate(gone):
            if len(gone) - place > room or now - since >= self.remembered_for(self.by_name[name]):
                self.drop(name)
