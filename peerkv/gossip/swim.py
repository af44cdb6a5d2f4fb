"""The gossip engine of one node: who is alive, and who says so. SWIM with Lifeguard, without I/O.

Every probe interval the next member of a shuffled list is pinged. No answer: three others are asked to ping it, and it
is asked on a stream. Still none: it is SUSPECT, everybody hears so, itself included; it contradicts, or is DOWN. News
travels with whatever datagram goes out anyway. That is SWIM; what practice has taught on top of it:

- Hearsay from a stream convicts nobody. After a split each half holds the other DOWN: who finds that another node
  holds alive whom it holds DOWN accuses that member to its face, which contradicts with a higher incarnation.
- Whoever is heard from, but not held ALIVE here, is told so, once a second, and never in answer to being told so.
- The DOWN are dialled for ever, and so are the configured seeds; two halves always find each other again.
- Nodes that differ in their `view` compare everything they know, by a stream, less often if that does not help.
- Two processes of one name: the later one is asked to wait while the earlier one is asked for a sign of life. If both
  get in all the same, the earlier one contests: a later one that is young gives way, one that has settled does not.
- A node that did not run for a while, or hears nothing from anybody, doubts itself, not the others.

Give it what happens, with `now` in seconds of any clock that does not jump; `take` what it wants done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf, log2
from typing import TYPE_CHECKING, Any, Final

from peerkv.gossip.health import Health, Suspicion, suspicion
from peerkv.gossip.member import (
    Address,
    Claim,
    Event,
    Liveness,
    Member,
    MemberChanged,
    NameTaken,
    events_of,
    fingerprint,
    located,
    supersedes,
)
from peerkv.gossip.messages import (
    Ack,
    Admission,
    Body,
    Contest,
    Datagram,
    ExchangeAnswer,
    ExchangeRequest,
    Gossip,
    Nack,
    Ping,
    PingRequest,
    Purpose,
)
from peerkv.gossip.rumours import Rumours, retransmissions
from peerkv.settings import GossipSettings

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
JOIN_PATIENCE_S: Final = (0.5, 5.0)
"""Seeds that do not answer are dialled again after the first of these, which doubles up to the second."""
SETTLED_AFTER_S: Final = 60.0
"""A process that has run for so long does not give its name back to an earlier one that was away."""
MISMATCH_PATIENCE_S: Final = 1.0
"""Another node's view may differ for so long, as news is on its way; then the two compare what they know."""
RECONNECT_SLOWS_AFTER_S: Final = 600.0
RECONNECT_INTERVAL_MAX_S: Final = 60.0
STALL_S: Final = 1.0
"""Woken this much too late: whatever was to come in that time has not been read yet. (Cassandra's local pause)"""
LONG_STALL_S: Final = 5.0
"""... or this much: nobody is declared dead for as long again."""
REFUSAL_LOG_INTERVAL_S: Final = 600.0
EXCHANGE_LIFETIME_S: Final = 10.0
"""An exchange whose end was not reported by then is forgotten; the shell gives up after 2 s."""
RELAYS_MAX: Final = 256
EXCHANGES_MAX: Final = 256
FOREIGN_VIEWS_MAX: Final = 64
QUESTIONS_MAX: Final = 64
REFUSALS_MAX: Final = 256


@dataclass(slots=True)
class SwimOutbox:
    """What the engine wants done. A host may be a name: whoever sends resolves it, anew each time."""

    datagrams: list[tuple[Address, Datagram]] = field(default_factory=list)
    exchanges: list[tuple[int, Address, ExchangeRequest]] = field(default_factory=list)
    """(ticket, peer address, request): report the end with `answer(ticket, ...)`."""
    events: list[Event] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    wake_at: float = inf


@dataclass(slots=True)
class _Standing:
    """What this node remembers of a life of a member, beside what is claimed of it."""

    since: float
    """When it came to the liveness that it has."""
    heard: float = -inf
    """When something came from it directly, or over a link of the data plane."""
    told: float = -inf
    hinted: float = -inf
    dialled: float = -inf
    detours: int = 0
    """Probes in a row that were answered, but not by a datagram straight from it."""


@dataclass(slots=True)
class _Probe:
    name: str
    process: int
    began: float
    detour_at: float
    ends_at: float
    asked: int = 0
    nacks: int = 0


@dataclass(slots=True)
class _Relay:
    """A ping on another node's behalf."""

    source: Address
    process: int
    number: int
    nack_at: float


@dataclass(slots=True)
class _Exchange:
    address: Address
    began: float
    request: ExchangeRequest
    probe: int = 0
    seed: bool = False


class Swim:
    """`members` is the current view by name, with this node and with those that are DOWN or have LEFT."""

    def __init__(
        self,
        settings: GossipSettings,
        cluster: str,
        me: Member,
        seeds: Sequence[Address],
        rng: Random,
        now: float,
        measure: Callable[[Claim], int],
    ) -> None:
        self.me = me
        self.members: dict[str, Member] = {me.name: me}
        self.view = fingerprint(me)
        self.health = Health()
        self.met = False
        """Whether anybody has been met yet; until then the seeds are dialled often."""
        self._settings = settings
        self._rng = rng
        self._measure = measure
        self._space = settings.datagram_bytes_max - HEADER_BYTES_MAX - len(cluster.encode()) - len(me.name.encode())
        self._rumours = Rumours(measure, self._space)
        self._standings: dict[str, _Standing] = {me.name: _Standing(now)}
        self._suspicions: dict[str, Suspicion] = {}
        self._unconfirmed: set[str] = set()
        """Declared dead while nothing at all was heard: to be looked at again with the first sign of anybody."""
        self._round: list[str] = []
        """The names in the order in which they are probed; those up to `_turn` have been, in this round."""
        self._turn = 0
        self._urgent: dict[str, None] = {}
        """To be probed before the round goes on."""
        self._number = 0
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}
        self._exchanges: dict[int, _Exchange] = {}
        self._seeds: dict[Address, int] = dict.fromkeys(seeds, 0)
        """Each seed, and the process that answered there last."""
        self._foreign_views: dict[int, tuple[float, float]] = {}
        """Other views met since ours changed: when to compare, and how long to wait before doing so again."""
        self._questions: dict[str, tuple[int, float]] = {}
        """Names that are wanted by a later process while an earlier one is held alive: which process, since when."""
        self._refusals: dict[tuple[str, str], float] = {}
        self._announced = bool(me.host)
        self._seen_at = -inf
        self._contested_at = -inf
        self._heard_at = -inf
        self._convicts_from = -inf
        self._leaving = False
        self._silent = False

        self._born = now
        self._wake_at = inf
        self._probe_at = now + rng.random() * settings.probe_interval
        self._gossiped_at = now - settings.gossip_interval
        self._seeds_at = now if seeds else inf
        self._join_patience = JOIN_PATIENCE_S[0]
        self._reconnect_at = now + rng.random() * settings.reconnect_interval
        self._sync_at = now + (0.5 + rng.random() / 2) * settings.sync_interval
        self._outbox = SwimOutbox()

    # Inputs

    def receive(self, now: float, source: Address, message: Datagram) -> None:
        """A datagram came."""
        if self._silent or message.process == self.me.process or self._foreign(now, source, message.cluster_id):
            return
        self._notice_stall(now)
        if message.to not in (0, self.me.process):
            if isinstance(message.body, Ping):  # whom it looks for was here before us: say who is here now
                self._send(source, message.process, Gossip(), [Claim(self.me)])
            return
        accused = self._learn(now, message.claims, message.process, source[0], stream=False)
        self._contact(now, message.name, message.process, source, quiet=accused)
        contradiction = [Claim(self.me)] if accused else []
        match message.body:
            case Ping(number):
                self._send(source, message.process, Ack(number, source[0]), contradiction)
            case Ack(number, seen):
                self._seen_as(now, seen)
                self._acknowledged(number, message.process)
            case PingRequest(number, process, address):
                self._relay(now, source, message.process, number, process, address)
            case Nack(number):
                if number in self._probes:
                    self._probes[number].nacks += 1
            case Contest(generation):
                if message.name == self.me.name:
                    self._contested(now, source, message.process, generation)
            case Gossip():
                pass
        if contradiction and not isinstance(message.body, Ping):
            self._send(source, message.process, Gossip(), contradiction)
        self._compare_views(now, source, message.view)

    def request(self, now: float, source: Address, message: ExchangeRequest) -> ExchangeAnswer:
        """Somebody opened a stream to us and asks."""
        theirs = located(message.me.member, source[0])
        if theirs.process == self.me.process or self._silent:
            return ExchangeAnswer(Claim(self.me), self.view, source[0])
        if self._foreign(now, source, theirs.cluster_id):
            return self.refuse(now, source, self._foreign_reason(theirs.cluster_id))
        if not _compatible(theirs, self.me):
            return self.refuse(now, source, f"speaks protocol versions {theirs.versions}, not {self.me.versions}")
        self._notice_stall(now)
        admission, reason = self._admit(now, theirs)
        if admission is not Admission.WELCOME:
            return ExchangeAnswer(Claim(self.me), self.view, source[0], (), admission, reason)
        self._learn(now, (replace(message.me, member=theirs), *message.claims), theirs.process, source[0], stream=True)
        self._contact(now, theirs.name, theirs.process, theirs.address, quiet=True)
        if message.purpose is Purpose.PING or message.view == self.view:
            return ExchangeAnswer(Claim(self.me), self.view, source[0])
        return ExchangeAnswer(Claim(self.me), self.view, source[0], self._everything(now))

    def answer(self, now: float, ticket: int, message: ExchangeAnswer | None) -> None:
        """Our exchange ended: with an answer, or (None) without."""
        exchange = self._exchanges.pop(ticket, None)
        if exchange is None or message is None or self._silent:
            return
        self._notice_stall(now)
        host, _ = exchange.address
        theirs = located(message.me.member, host)
        if exchange.seed:
            self._seeds[exchange.address] = theirs.process
        if theirs.process == self.me.process or self._foreign(now, exchange.address, theirs.cluster_id):
            return
        self._seen_as(now, message.seen)
        match message.admission:
            case Admission.WAIT:
                self._seeds_at = now + JOIN_PATIENCE_S[0]
                return
            case Admission.NAME_TAKEN:
                if not self._settled(now):
                    self._give_way(message.reason)
                return
            case Admission.REFUSED:
                self._log("warning", f"{host}:{exchange.address[1]} refused this node: {message.reason}")
                return
            case Admission.WELCOME:
                pass
        claims = (replace(message.me, member=theirs), *message.claims)
        self._learn(now, claims, theirs.process, host, stream=True)
        self._contact(now, theirs.name, theirs.process, theirs.address, quiet=True)
        if exchange.request.purpose is Purpose.PING:
            if exchange.probe in self._probes and self._probes[exchange.probe].process == theirs.process:
                self._acknowledged(exchange.probe, by=0)
        elif message.claims and not exchange.request.claims:
            lacking = self._lacking(now, message.claims)
            if lacking:
                self._exchange(now, exchange.address, Purpose.SYNC, claims=lacking)

    def wake(self, now: float) -> None:
        """A deadline of `take().wake_at` has passed."""
        if self._silent:
            return
        if now - self._wake_at > self._settings.probe_timeout:
            self.health.worse()
        self._notice_stall(now)
        for number in [number for number, relay in self._relays.items() if now >= relay.nack_at]:
            relay = self._relays.pop(number)
            self._send(relay.source, relay.process, Nack(relay.number))
        if not self._leaving:
            self._watch(now)
            self._keep_in_touch(now)
        if now >= self._gossip_at():
            self._gossip(now)

    def link_lost(self, now: float, name: str) -> None:
        """A hint of the data plane: its link to that member broke. Look at once, out of turn."""
        member, standing = self.members.get(name), self._standings.get(name)
        if member is None or standing is None or member.liveness is not Liveness.ALIVE or self._leaving:
            return
        if now - standing.hinted >= self._settings.probe_interval:
            standing.hinted = now
            self._probe(now, member, hinted=True)

    def heard(self, now: float, name: str, process: int) -> None:
        """A hint of the data plane: bytes came from that process. As good as an answer to a ping."""
        member = self.members.get(name)
        if member is not None and member.process == process:
            self._contact(now, name, process, member.address, quiet=False)

    def update(self, **changes: Any) -> None:
        """What this node says of itself has changed (epoch, cluster_id, load, ...): tell everybody.

        Each call is a rumour to the whole cluster, so say only what others act upon.
        """
        assert not changes.keys() & {"name", "process", "generation", "incarnation", "liveness"}, changes
        if replace(self.me, **changes) == self.me or self._leaving:
            return
        self._speak(**changes)
        for stranger in [member for member in self.members.values() if self._is_foreign(member.cluster_id)]:
            self._log("warning", f"{stranger.name}: {self._foreign_reason(stranger.cluster_id)}")
            if stranger.live:
                self._outbox.events += events_of(stranger, replace(stranger, liveness=Liveness.DOWN))
            self._drop(stranger.name)

    def leave(self) -> None:
        """Say goodbye, to everybody at once. What is asked is answered still; nothing else is done any more."""
        if self._leaving:
            return
        self._leaving = True
        self._hold(replace(self.me, liveness=Liveness.LEFT))
        self._probes.clear()
        live = self._live_others()
        for member in self._rng.sample(live, min(len(live), 32)):
            self._send(member.address, member.process, Gossip(), [Claim(self.me)])
        self._rumours.add(Claim(self.me))

    def forget(self, now: float, name: str) -> None:
        """It was agreed to give that member up. If that life of it is heard from again, it has to begin a new one."""
        member = self.members.get(name)
        if member is not None and member is not self.me and member.liveness is not Liveness.LEFT:
            self._accept(now, replace(member, liveness=Liveness.LEFT), by=self.me.name)

    def refuse(self, now: float, source: Address, reason: str) -> ExchangeAnswer:
        """Something came that is not for us (see `wire.Refusal`). Logged once per host and reason.

        Returns what to answer if it came by a stream; a datagram gets no answer.
        """
        key = source[0], reason
        if now - self._refusals.get(key, -inf) >= REFUSAL_LOG_INTERVAL_S:
            self._refusals.pop(key, None)
            if len(self._refusals) >= REFUSALS_MAX:
                del self._refusals[next(iter(self._refusals))]
            self._refusals[key] = now
            self._log("warning", f"refused {source[0]}:{source[1]}, which {reason}")
        return ExchangeAnswer(Claim(self.me), 0, source[0], (), Admission.REFUSED, reason)

    def take(self, now: float) -> SwimOutbox:
        """All that is to be done since the last `take`."""
        outbox, self._outbox = self._outbox, SwimOutbox()
        # A rumour after a long silence is due since the last one was told: that is no stall of this process.
        self._wake_at = outbox.wake_at = inf if self._silent else max(now, min(self._deadlines()))
        return outbox

    # Probing

    def _deadlines(self) -> Iterable[float]:
        yield self._gossip_at()
        yield from (relay.nack_at for relay in self._relays.values())
        if self._leaving:
            return
        yield from (self._probe_at, self._seeds_at, self._reconnect_at, self._sync_at)
        yield from (min(probe.detour_at, probe.ends_at) for probe in self._probes.values())
        yield from (max(suspicion.ends_at, self._convicts_from) for suspicion in self._suspicions.values())

    def _watch(self, now: float) -> None:
        for number, probe in list(self._probes.items()):
            if now >= min(probe.detour_at, probe.ends_at) and self._heard_since(probe):
                del self._probes[number]
                self.health.better()
            elif now >= probe.ends_at:
                del self._probes[number]
                self._unanswered(now, probe)
            elif now >= probe.detour_at:
                self._detour(now, number, probe)
        if now >= self._convicts_from:
            for name in [name for name, suspicion in self._suspicions.items() if now >= suspicion.ends_at]:
                self._convict(now, name)
        if now >= self._probe_at:
            self._probe_at = now + self._settings.probe_interval * (self.health.score + 1)
            member = self._next_to_probe()
            if member is not None:
                self._probe(now, member)

    def _next_to_probe(self) -> Member | None:
        while self._urgent:
            name = next(iter(self._urgent))
            del self._urgent[name]
            member = self.members.get(name)
            if member is not None and member.liveness is not Liveness.LEFT:
                return member
        for _ in range(len(self._round)):
            if self._turn >= len(self._round):
                self._rng.shuffle(self._round)
                self._turn = 0
            member = self.members[self._round[self._turn]]
            self._turn += 1
            if member.live:
                return member
        return None

    def _probe(self, now: float, member: Member, hinted: bool = False) -> None:
        """Ping it. A hinted probe takes all ways at once, and ends with the first time-out."""
        if any(probe.name == member.name for probe in self._probes.values()):
            return
        timeout, stretch = self._settings.probe_timeout, self.health.score + 1
        lasts = (timeout if hinted else self._settings.probe_interval) * stretch
        number = self._next_number()
        probe = self._probes[number] = _Probe(member.name, member.process, now, now + timeout, now + lasts)
        # Lifeguard's buddy system: a suspect is the first to be told that it is one.
        accusation = [] if member.liveness is Liveness.ALIVE else [Claim(member, self.me.name)]
        self._send(member.address, member.process, Ping(number), accusation)
        if hinted:
            self._detour(now, number, probe)

    def _detour(self, now: float, number: int, probe: _Probe) -> None:
        """Ask others to ping it, and ask itself by a stream."""
        probe.detour_at = inf
        target = self.members[probe.name]
        able = [m for m in self._live_others() if m.name != probe.name and m.liveness is Liveness.ALIVE]
        through = self._rng.sample(able, min(len(able), self._settings.indirect_probes))
        probe.asked = len(through)
        for member in through:
            self._send(member.address, member.process, PingRequest(number, probe.process, target.address))
        self._exchange(now, target.address, Purpose.PING, probe=number)

    def _relay(self, now: float, source: Address, process: int, number: int, target: int, address: Address) -> None:
        if len(self._relays) < RELAYS_MAX:
            ours = self._next_number()
            # 80 % of the time-out, so that the Nack is there before the one who asked gives up (Lifeguard).
            self._relays[ours] = _Relay(source, process, number, now + 0.8 * self._settings.probe_timeout)
            self._send(address, target, Ping(ours))

    def _acknowledged(self, number: int, by: int) -> None:
        """`by`: the process whose datagram said so; 0: a stream did."""
        relay = self._relays.pop(number, None)
        if relay is not None:
            self._send(relay.source, relay.process, Ack(relay.number, relay.source[0]))
        probe = self._probes.pop(number, None)
        if probe is None:
            return
        self.health.better()
        standing = self._standings[probe.name]
        standing.detours = 0 if by == probe.process else standing.detours + 1
        if standing.detours == 3:
            self._log("warning", f"datagrams to {probe.name} or back get lost, though it is alive: is UDP let through?")

    def _heard_since(self, probe: _Probe) -> bool:
        return self._standings[probe.name].heard >= probe.began

    def _unanswered(self, now: float, probe: _Probe) -> None:
        member = self.members[probe.name]
        if member.process != probe.process or not member.live:
            return
        self.health.worse(probe.asked - probe.nacks if probe.asked else 1)
        if member.liveness is Liveness.ALIVE:
            self._accept(now, replace(member, liveness=Liveness.SUSPECT), by=self.me.name)
        else:
            self._confirm(member, self.me.name)

    def _confirm(self, suspect: Member, by: str) -> None:
        suspicion = self._suspicions.get(suspect.name)
        if suspicion is not None and suspicion.confirm(by):
            self._rumours.add(Claim(suspect, by))

    def _convict(self, now: float, name: str) -> None:
        began = self._suspicions[name].began
        isolated = self._heard_at < began and len(self._live_others()) >= 2
        if isolated:
            self._unconfirmed.add(name)
        self._accept(now, replace(self.members[name], liveness=Liveness.DOWN), by=self.me.name, spread=not isolated)

    def _notice_stall(self, now: float) -> None:
        late = now - self._wake_at
        if late <= STALL_S:
            return
        self._wake_at = now
        self._log("warning", f"this node did not run for {late:.1f} s")
        self._probes.clear()
        self._relays.clear()
        for suspected in self._suspicions.values():
            suspected.postpone(late)
        if late > LONG_STALL_S:
            self._convicts_from = now + LONG_STALL_S
        self._probe_at = now

    # What is heard

    def _learn(self, now: float, claims: Iterable[Claim], process: int, host: str, *, stream: bool) -> bool:
        """Whether the claims accuse this node. They came from that process at that host."""
        accused = False
        for claim in claims:
            member = claim.member
            if member.process == process:
                member = located(member, host)
            if member.name == self.me.name:
                accused |= self._learn_of_me(now, member)
            elif member.host and not self._is_foreign(member.cluster_id):
                self._learn_of(now, member, claim.by, claim.age, stream=stream)
        return accused

    def _learn_of(self, now: float, new: Member, by: str, age: int, *, stream: bool) -> None:
        old = self.members.get(new.name)
        if old is None and not new.live and (not stream or age >= self._remembered_for(new)):
            return
        if stream and old is not None and old.life == new.life:
            if new.liveness is Liveness.DOWN and old.live:
                if new.incarnation >= old.incarnation:
                    self._urgent[new.name] = None
                    self._confirm(old, by)
                return
            if new.live and old.liveness is Liveness.DOWN and not supersedes(old, new):
                self._tell(now, old, new.process, new.address)
                return
        if supersedes(old, new):
            self._accept(now, new, by, age)
        elif new.liveness is Liveness.SUSPECT and old is not None and not supersedes(new, old):
            self._confirm(old, by)

    def _accept(self, now: float, new: Member, by: str = "", age: int = 0, *, spread: bool = True) -> None:
        """Hold this to be true from now on, and tell others."""
        old = self.members.get(new.name)
        if old is None:
            if len(self.members) >= MEMBERS_MAX:
                return
            self._round.insert(self._rng.randrange(len(self._round) + 1), new.name)
        moved = old is None or old.life != new.life or old.address != new.address
        if old is None or old.life != new.life:
            self._standings[new.name] = _Standing(now - age)
        elif old.liveness is not new.liveness:
            self._standings[new.name].since = now - age
        self._hold(new)
        self._suspicions.pop(new.name, None)
        if new.liveness is Liveness.SUSPECT:
            members = len(self._live_others()) + 1
            interval, mult, longest = (
                self._settings.probe_interval,
                self._settings.suspicion_mult,
                self._settings.suspicion_max_mult,
            )
            self._suspicions[new.name] = suspicion(now, members, interval, mult, longest, by)
        events = events_of(old, new)
        self._outbox.events += events
        if events and (old is None or old.liveness is not new.liveness or old.life != new.life):
            blame = f", says {by}" if by and new.liveness is not Liveness.LEFT else ""
            self._log("info", f"member {new.name} ({new.host}:{new.peer_port}) is {new.liveness.name}{blame}")
        if spread:
            self._rumours.add(Claim(new, by))
        if new.live and moved:
            self._take_over(now, new)

    def _take_over(self, now: float, newcomer: Member) -> None:
        """Who was at that address before is there no more."""
        for member in list(self.members.values()):
            former = member.generation < newcomer.generation and member.name not in (newcomer.name, self.me.name)
            if former and member.live and member.address == newcomer.address:
                self._accept(now, replace(member, liveness=Liveness.DOWN), by=self.me.name)

    def _learn_of_me(self, now: float, theirs: Member) -> bool:
        """Whether to contradict: what is held of this node somewhere is not so, or was so of an earlier life."""
        if self._leaving:
            return False
        if theirs.process != self.me.process:
            if theirs.life < self.me.life:
                return True
            if theirs.live:
                self._contest(now, theirs.address, theirs.process)
                return False
        if theirs.life > self.me.life or theirs.liveness is Liveness.LEFT:
            if theirs.life < self.me.life:
                return True
            self._log("info", "others had given this node up; it begins anew")
            self._speak(generation=theirs.generation + 1, incarnation=0)
            return True
        if theirs.liveness is Liveness.ALIVE:
            return False
        if theirs.life == self.me.life and theirs.incarnation >= self.me.incarnation:
            self.health.worse()
            self._speak(incarnation=theirs.incarnation + 1)
        return True

    def _contact(self, now: float, name: str, process: int, address: Address, *, quiet: bool) -> None:
        """Something came from that process. If it is not held ALIVE here, it should know (unless `quiet`)."""
        self._heard_at = now
        self.met = True
        if self._unconfirmed:
            self._urgent.update(dict.fromkeys(self._unconfirmed))
            self._unconfirmed.clear()
        member = self.members.get(name)
        if member is None:
            return
        if member.process == process:
            self._standings[name].heard = now
            if member.liveness is Liveness.ALIVE:
                return
        if not quiet:
            self._tell(now, member, process, address)

    def _tell(self, now: float, held: Member, process: int, address: Address) -> None:
        standing = self._standings[held.name]
        if now - standing.told >= TELL_INTERVAL_S and not self._leaving:
            standing.told = now
            self._send(address, process, Gossip(), [Claim(held, self.me.name if held is not self.me else "")])

    # Two processes of one name

    def _admit(self, now: float, theirs: Member) -> tuple[Admission, str]:
        """May this process have its name? Not at once, if another one that may be alive has it."""
        held = self.members.get(theirs.name)
        if held is None or held.life >= theirs.life or not held.live or held.address == theirs.address:
            return Admission.WELCOME, ""
        if held is self.me:
            return Admission.NAME_TAKEN, f"{held.host}:{held.peer_port}"
        process, asked_at = self._questions.get(theirs.name, (0, -inf))
        if process != theirs.process:
            while len(self._questions) >= QUESTIONS_MAX:
                del self._questions[next(iter(self._questions))]
            process, asked_at = self._questions[theirs.name] = theirs.process, now
        if self._standings[theirs.name].heard > asked_at:
            self._questions.pop(theirs.name, None)
            return Admission.NAME_TAKEN, f"{held.host}:{held.peer_port}"
        if now - asked_at >= JOIN_PATIENCE_S[0]:
            self._questions.pop(theirs.name, None)
            return Admission.WELCOME, ""
        self._send(held.address, held.process, Ping(self._next_number()))
        return Admission.WAIT, f"{theirs.name} may still be alive at {held.host}:{held.peer_port}"

    def _settled(self, now: float) -> bool:
        return now - self._born >= SETTLED_AFTER_S

    def _contest(self, now: float, address: Address, process: int) -> None:
        if now - self._contested_at >= TELL_INTERVAL_S:
            self._contested_at = now
            self._send(address, process, Contest(self.me.generation))

    def _contested(self, now: float, source: Address, process: int, generation: int) -> None:
        """The later one decides: if it has settled, it says so, and the earlier one gives way; or else itself."""
        if (generation, process) < self.me.life and self._settled(now):
            self._contest(now, source, process)
        else:
            self._give_way(f"{source[0]}:{source[1]}")

    def _give_way(self, holder: str) -> None:
        if not self._leaving:
            self._log("error", f"another node named {self.me.name!r} is alive at {holder}; this one must not run")
            self.leave()
        self._outbox.events.append(NameTaken(self.me.name, holder))
        self._silent = True

    # What is told

    def _speak(self, **changes: Any) -> None:
        """This node says something else of itself: only it may raise its incarnation."""
        changes.setdefault("incarnation", self.me.incarnation + 1)
        self._hold(replace(self.me, **changes))
        self._rumours.add(Claim(self.me))

    def _hold(self, new: Member) -> None:
        old = self.members.get(new.name)
        before = self.view
        if old is not None and old.live:
            self.view ^= fingerprint(old)
        if new.live:
            self.view ^= fingerprint(new)
        self.members[new.name] = new
        if new.name == self.me.name:
            self.me = new
        if self.view != before:
            self._foreign_views.clear()

    def _seen_as(self, now: float, host: str) -> None:
        """A node that was not told its own address believes its peers, unless they contradict each other."""
        if self._announced or not host:
            return
        if host == self.me.host:
            self._seen_at = now
        elif not self.me.host or now - self._seen_at > SETTLED_AFTER_S:
            self._seen_at = now
            self._speak(host=host, client_host=host)
            self._outbox.events.append(MemberChanged(self.me))

    def _send(self, address: Address, process: int, body: Body, claims: Sequence[Claim] = ()) -> None:
        space = self._space
        if isinstance(body, PingRequest):
            space -= len(body.address[0])
        first = []
        for claim in claims:
            size = self._measure(claim)
            if size <= space:
                first.append(claim)
                space -= size
        times = retransmissions(self._settings.retransmit_mult, len(self.members))
        rumours = self._rumours.pick(space, times)
        me = self.me
        datagram = Datagram(me.name, me.process, me.cluster_id, self.view, process, body, (*first, *rumours))
        self._outbox.datagrams.append((address, datagram))

    def _gossip_at(self) -> float:
        alone = len(self.members) == 1
        return inf if alone or not len(self._rumours) else self._gossiped_at + self._settings.gossip_interval

    def _gossip(self, now: float) -> None:
        self._gossiped_at = now
        live = self._live_others()
        for member in self._rng.sample(live, min(len(live), self._settings.gossip_fanout)):
            if len(self._rumours):
                self._send(member.address, member.process, Gossip())

    # Exchanges: joining, comparing, coming back

    def _keep_in_touch(self, now: float) -> None:
        if now >= self._seeds_at:
            self._dial_seeds(now)
        if now >= self._reconnect_at:
            self._reconnect_at = now + self._settings.reconnect_interval
            self._reconnect(now)
            self._clean_up(now)
        if now >= self._sync_at:
            live = self._live_others()
            self._sync_at = now + self._settings.sync_interval * (1 + max(0, ceil(log2((len(live) + 1) / 32))))
            if live:
                self._exchange(now, self._rng.choice(live).address, Purpose.SYNC)

    def _dial_seeds(self, now: float) -> None:
        if self.met:
            self._seeds_at = now + self._settings.seed_interval
        else:
            self._seeds_at = now + self._join_patience * (0.75 + self._rng.random() / 2)
            self._join_patience = min(2 * self._join_patience, JOIN_PATIENCE_S[1])
        here = {member.process for member in self.members.values() if member.live}
        dialled = {exchange.address for exchange in self._exchanges.values()}
        for seed, process in self._seeds.items():
            if process not in here and seed not in dialled:
                self._exchange(now, seed, Purpose.SYNC, seed=True)

    def _reconnect(self, now: float) -> None:
        """The more of the others are DOWN, and the fewer we are, the likelier this node dials one of them."""
        down = [member for member in self.members.values() if member.liveness is Liveness.DOWN]
        live = len(self._live_others()) + 1
        if self._rng.random() * live >= max(1, len(down)):
            return
        due = [member for member in down if self._dial_due(now, self._standings[member.name])]
        if due:
            member = self._rng.choice(due)
            self._standings[member.name].dialled = now
            self._exchange(now, member.address, Purpose.SYNC)

    def _dial_due(self, now: float, standing: _Standing) -> bool:
        periods = min(int((now - standing.since) / RECONNECT_SLOWS_AFTER_S), 8)
        interval = min(self._settings.reconnect_interval * 2**periods, RECONNECT_INTERVAL_MAX_S)
        return bool(now - standing.dialled >= interval * 0.9)  # as it is looked at once per reconnect interval only

    def _compare_views(self, now: float, source: Address, view: int) -> None:
        if view == self.view or self._leaving:
            return
        due, patience = self._foreign_views.get(view, (inf, MISMATCH_PATIENCE_S))
        if due == inf:
            if len(self._foreign_views) < FOREIGN_VIEWS_MAX:
                self._foreign_views[view] = now + patience, patience
        elif now >= due:
            patience = min(2 * patience, self._settings.sync_interval)
            self._foreign_views[view] = now + patience, patience
            self._exchange(now, source, Purpose.SYNC)

    def _exchange(
        self,
        now: float,
        address: Address,
        purpose: Purpose,
        *,
        claims: tuple[Claim, ...] = (),
        probe: int = 0,
        seed: bool = False,
    ) -> None:
        if len(self._exchanges) < EXCHANGES_MAX:
            ticket = self._next_number()
            request = ExchangeRequest(purpose, Claim(self.me), self.view, claims)
            self._exchanges[ticket] = _Exchange(address, now, request, probe, seed)
            self._outbox.exchanges.append((ticket, address, request))

    def _everything(self, now: float) -> tuple[Claim, ...]:
        return tuple([self._claim(now, member) for member in self.members.values() if member is not self.me])

    def _lacking(self, now: float, theirs: Iterable[Claim]) -> tuple[Claim, ...]:
        """What they should hear from us: what is news to them, and whom they hold DOWN and we do not."""
        held = {claim.member.name: claim.member for claim in theirs}
        lacking = []
        for member in self.members.values():
            their = held.get(member.name)
            disputed = their is not None and their.liveness is Liveness.DOWN and member.live
            if member is not self.me and (disputed or supersedes(their, member)):
                lacking.append(self._claim(now, member))
        return tuple(lacking)

    def _claim(self, now: float, member: Member) -> Claim:
        if member.live:
            return Claim(member)
        return Claim(member, self.me.name, int(now - self._standings[member.name].since))

    def _clean_up(self, now: float) -> None:
        """Forget those that are long gone, and exchanges that never ended."""
        gone = sorted(
            (self._standings[member.name].since, member.name) for member in self.members.values() if not member.live
        )
        room = max(TOMBSTONES_MIN, 4 * len(self.members) - 4 * len(gone))
        for place, (since, name) in enumerate(gone):
            if len(gone) - place > room or now - since >= self._remembered_for(self.members[name]):
                self._drop(name)
        for ticket in [t for t, exchange in self._exchanges.items() if now - exchange.began >= EXCHANGE_LIFETIME_S]:
            del self._exchanges[ticket]

    def _drop(self, name: str) -> None:
        self._hold(replace(self.members[name], liveness=Liveness.LEFT))
        del self.members[name], self._standings[name]
        self._suspicions.pop(name, None)
        self._urgent.pop(name, None)
        self._unconfirmed.discard(name)
        self._rumours.discard(name)
        self._round.remove(name)
        self._probes = {number: probe for number, probe in self._probes.items() if probe.name != name}

    def _remembered_for(self, member: Member) -> float:
        return self._settings.forget_left_after if member.liveness is Liveness.LEFT else FORGET_DOWN_AFTER_S

    # Strangers

    def _foreign(self, now: float, source: Address, cluster_id: int) -> bool:
        if not self._is_foreign(cluster_id):
            return False
        self.refuse(now, source, self._foreign_reason(cluster_id))
        return True

    def _is_foreign(self, cluster_id: int) -> bool:
        return cluster_id != 0 and self.me.cluster_id not in (0, cluster_id)

    def _foreign_reason(self, cluster_id: int) -> str:
        return f"belongs to another cluster of the same name (id {cluster_id:x}; ours is {self.me.cluster_id:x})"

    # Small things

    def _live_others(self) -> list[Member]:
        return [member for member in self.members.values() if member.live and member is not self.me]

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _log(self, level: str, text: str) -> None:
        self._outbox.log.append((level, text))


def _compatible(one: Member, other: Member) -> bool:
    return one.versions[0] <= other.versions[1] and other.versions[0] <= one.versions[1]
