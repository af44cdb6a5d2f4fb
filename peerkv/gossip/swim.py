"""The gossip engine of one node: who is alive, and who says so. SWIM with Lifeguard, without I/O.

Every probe interval the next member of a shuffled list is pinged. No answer: three others are asked to ping it, and it
is asked on a stream. Still none: it is SUSPECT, everybody hears so, itself included; it contradicts, or is DOWN. News
travels with whatever datagram goes out anyway. That is SWIM; what practice has taught on top of it:

- Hearsay from a stream convicts nobody. After a split each half holds the other DOWN: who finds that another node
  holds alive whom it holds DOWN accuses that member to its face, which contradicts with a higher incarnation.
- Whoever is heard from, but not held ALIVE here, is told so, once a second, and never in answer to being told so.
- A node that did not run for a while, or hears nothing from anybody, doubts itself, not the others.

Give it what happens, with `now` in seconds of any clock that does not jump; `take` what it wants done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, Final

from peerkv.gossip.exchanges import Exchanges
from peerkv.gossip.health import Health
from peerkv.gossip.member import Address, Claim, Liveness, Member, events_of, located, supersedes
from peerkv.gossip.membership import Membership, SwimOutbox
from peerkv.gossip.messages import (
    Ack,
    Admission,
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
from peerkv.gossip.names import Names
from peerkv.settings import GossipSettings

if TYPE_CHECKING:
    from random import Random

STALL_S: Final = 1.0
"""Woken this much too late: whatever was to come in that time has not been read yet. (Cassandra's local pause)"""
LONG_STALL_S: Final = 5.0
"""... or this much: nobody is declared dead for as long again."""
RELAYS_MAX: Final = 256


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
        self.health = Health()
        self._settings = settings
        self._rng = rng
        self._members = Membership(settings, cluster, me, rng, now, measure)
        self._exchanges = Exchanges(settings, self._members, seeds, rng, now)
        self._names = Names(self._members, now)
        self.members = self._members.by_name
        self._turn = 0
        """Those of the members' order up to here have been probed in this round."""
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}
        self._heard_at = -inf
        self._convicts_from = -inf
        self._wake_at = inf
        self._probe_at = now + rng.random() * settings.probe_interval

    @property
    def me(self) -> Member:
        """This node as it describes itself."""
        return self._members.me

    # Inputs

    def receive(self, now: float, source: Address, message: Datagram) -> None:
        """A datagram came."""
        if (
            self._members.silent
            or message.process == self._members.me.process
            or self._exchanges.is_refused(now, source, message.cluster_id)
        ):
            return
        self._notice_stall(now)
        if message.to not in (0, self._members.me.process):
            if isinstance(message.body, Ping):  # whom it looks for was here before us: say who is here now
                self._members.send(source, message.process, Gossip(), [Claim(self._members.me)])
            return
        accused = self._learn(now, message.claims, message.process, source[0], stream=False)
        self._contact(now, message.name, message.process, source, quiet=accused)
        contradiction = [Claim(self._members.me)] if accused else []
        match message.body:
            case Ping(number):
                self._members.send(source, message.process, Ack(number, source[0]), contradiction)
            case Ack(number, seen):
                self._members.seen_as(now, seen)
                self._acknowledged(number, message.process)
            case PingRequest(number, process, address):
                self._relay(now, source, message.process, number, process, address)
            case Nack(number):
                if number in self._probes:
                    self._probes[number].nacks += 1
            case Contest(generation):
                if message.name == self._members.me.name:
                    self._names.contested(now, source, message.process, generation)
            case Gossip():
                pass
        if contradiction and not isinstance(message.body, Ping):
            self._members.send(source, message.process, Gossip(), contradiction)
        self._exchanges.compare_views(now, source, message.view)

    def request(self, now: float, source: Address, message: ExchangeRequest) -> ExchangeAnswer:
        """Somebody opened a stream to us and asks."""
        theirs = located(message.me.member, source[0])
        if theirs.process == self._members.me.process or self._members.silent:
            return ExchangeAnswer(Claim(self._members.me), self._members.view, source[0])
        if self._exchanges.is_refused(now, source, theirs.cluster_id):
            return self._exchanges.refuse(now, source, self._members.foreign_reason(theirs.cluster_id))
        if not _compatible(theirs, self._members.me):
            return self._exchanges.refuse(
                now, source, f"speaks protocol versions {theirs.versions}, not {self._members.me.versions}"
            )
        self._notice_stall(now)
        admission, reason = self._names.admit(now, theirs)
        if admission is not Admission.WELCOME:
            return ExchangeAnswer(Claim(self._members.me), self._members.view, source[0], (), admission, reason)
        self._learn(now, (replace(message.me, member=theirs), *message.claims), theirs.process, source[0], stream=True)
        self._contact(now, theirs.name, theirs.process, theirs.address, quiet=True)
        if message.purpose is Purpose.PING or message.view == self._members.view:
            return ExchangeAnswer(Claim(self._members.me), self._members.view, source[0])
        return ExchangeAnswer(Claim(self._members.me), self._members.view, source[0], self._members.everything(now))

    def answer(self, now: float, ticket: int, message: ExchangeAnswer | None) -> None:
        """Our exchange ended: with an answer, or (None) without."""
        exchange = self._exchanges.end(ticket)
        if exchange is None or message is None or self._members.silent:
            return
        self._notice_stall(now)
        host, _ = exchange.address
        theirs = located(message.me.member, host)
        self._exchanges.answered_by(exchange, theirs.process)
        if theirs.process == self._members.me.process or self._exchanges.is_refused(
            now, exchange.address, theirs.cluster_id
        ):
            return
        self._members.seen_as(now, message.seen)
        match message.admission:
            case Admission.WAIT:
                self._exchanges.join_soon(now)
                return
            case Admission.NAME_TAKEN:
                if not self._names.settled(now):
                    self._names.give_way(message.reason)
                return
            case Admission.REFUSED:
                self._members.log("warning", f"{host}:{exchange.address[1]} refused this node: {message.reason}")
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
            lacking = self._members.lacking(now, message.claims)
            if lacking:
                self._exchanges.open(now, exchange.address, Purpose.SYNC, claims=lacking)

    def wake(self, now: float) -> None:
        """A deadline of `take().wake_at` has passed."""
        if self._members.silent:
            return
        if now - self._wake_at > self._settings.probe_timeout:
            self.health.worse()
        self._notice_stall(now)
        for number in [number for number, relay in self._relays.items() if now >= relay.nack_at]:
            relay = self._relays.pop(number)
            self._members.send(relay.source, relay.process, Nack(relay.number))
        if not self._members.leaving:
            self._watch(now)
            self._exchanges.keep_in_touch(now)
        if now >= self._members.gossip_at():
            self._members.gossip(now)

    def link_lost(self, now: float, name: str) -> None:
        """A hint of the data plane: its link to that member broke. Look at once, out of turn."""
        member, standing = self._members.by_name.get(name), self._members.standings.get(name)
        if member is None or standing is None or member.liveness is not Liveness.ALIVE or self._members.leaving:
            return
        if now - standing.hinted >= self._settings.probe_interval:
            standing.hinted = now
            self._probe(now, member, hinted=True)

    def heard(self, now: float, name: str, process: int) -> None:
        """A hint of the data plane: bytes came from that process. As good as an answer to a ping."""
        member = self._members.by_name.get(name)
        if member is not None and member.process == process:
            self._contact(now, name, process, member.address, quiet=False)

    def update(self, **changes: Any) -> None:
        """What this node says of itself has changed (epoch, cluster_id, load, ...): tell everybody.

        Each call is a rumour to the whole cluster, so say only what others act upon.
        """
        assert not changes.keys() & {"name", "process", "generation", "incarnation", "liveness"}, changes
        if replace(self._members.me, **changes) == self._members.me or self._members.leaving:
            return
        self._members.speak(**changes)
        for stranger in [
            member for member in self._members.by_name.values() if self._members.is_foreign(member.cluster_id)
        ]:
            self._members.log("warning", f"{stranger.name}: {self._members.foreign_reason(stranger.cluster_id)}")
            if stranger.live:
                self._members.outbox.events += events_of(stranger, replace(stranger, liveness=Liveness.DOWN))
            self._members.drop(stranger.name)

    def forget(self, now: float, name: str) -> None:
        """It was agreed to give that member up. If that life of it is heard from again, it has to begin a new one."""
        member = self._members.by_name.get(name)
        if member is not None and member is not self._members.me and member.liveness is not Liveness.LEFT:
            self._members.accept(now, replace(member, liveness=Liveness.LEFT), by=self._members.me.name)

    def leave(self) -> None:
        """Say goodbye, to everybody at once. What is asked is answered still; nothing else is done any more."""
        self._members.leave()

    def refuse(self, now: float, source: Address, reason: str) -> ExchangeAnswer:
        """Something came that is not for us (see `wire.Refusal`). Logged once per host and reason.

        Returns what to answer if it came by a stream; a datagram gets no answer.
        """
        return self._exchanges.refuse(now, source, reason)

    def take(self, now: float) -> SwimOutbox:
        """All that is to be done since the last `take`."""
        outbox, self._members.outbox = self._members.outbox, SwimOutbox()
        # A rumour after a long silence is due since the last one was told: that is no stall of this process.
        self._wake_at = outbox.wake_at = inf if self._members.silent else max(now, min(self._deadlines()))
        return outbox

    # Probing

    def _deadlines(self) -> Iterable[float]:
        yield self._members.gossip_at()
        yield from (relay.nack_at for relay in self._relays.values())
        if self._members.leaving:
            return
        yield from (self._probe_at, self._exchanges.wakes_at)
        yield from (min(probe.detour_at, probe.ends_at) for probe in self._probes.values())
        yield from (max(suspicion.ends_at, self._convicts_from) for suspicion in self._members.suspicions.values())

    def _watch(self, now: float) -> None:
        for number, probe in list(self._probes.items()):
            if probe.name not in self._members.by_name:
                del self._probes[number]
            elif now >= min(probe.detour_at, probe.ends_at) and self._heard_since(probe):
                del self._probes[number]
                self.health.better()
            elif now >= probe.ends_at:
                del self._probes[number]
                self._unanswered(now, probe)
            elif now >= probe.detour_at:
                self._detour(now, number, probe)
        if now >= self._convicts_from:
            for name in [name for name, suspicion in self._members.suspicions.items() if now >= suspicion.ends_at]:
                self._convict(now, name)
        if now >= self._probe_at:
            self._probe_at = now + self._settings.probe_interval * (self.health.score + 1)
            member = self._next_to_probe()
            if member is not None:
                self._probe(now, member)

    def _next_to_probe(self) -> Member | None:
        while self._members.urgent:
            name = next(iter(self._members.urgent))
            del self._members.urgent[name]
            member = self._members.by_name.get(name)
            if member is not None and member.liveness is not Liveness.LEFT:
                return member
        for _ in range(len(self._members.order)):
            if self._turn >= len(self._members.order):
                self._rng.shuffle(self._members.order)
                self._turn = 0
            member = self._members.by_name[self._members.order[self._turn]]
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
        number = self._members.next_number()
        probe = self._probes[number] = _Probe(member.name, member.process, now, now + timeout, now + lasts)
        # Lifeguard's buddy system: a suspect is the first to be told that it is one.
        accusation = [] if member.liveness is Liveness.ALIVE else [Claim(member, self._members.me.name)]
        self._members.send(member.address, member.process, Ping(number), accusation)
        if hinted:
            self._detour(now, number, probe)

    def _detour(self, now: float, number: int, probe: _Probe) -> None:
        """Ask others to ping it, and ask itself by a stream."""
        probe.detour_at = inf
        target = self._members.by_name[probe.name]
        able = [m for m in self._members.live_others() if m.name != probe.name and m.liveness is Liveness.ALIVE]
        through = self._rng.sample(able, min(len(able), self._settings.indirect_probes))
        probe.asked = len(through)
        for member in through:
            self._members.send(member.address, member.process, PingRequest(number, probe.process, target.address))
        self._exchanges.open(now, target.address, Purpose.PING, probe=number)

    def _relay(self, now: float, source: Address, process: int, number: int, target: int, address: Address) -> None:
        if len(self._relays) < RELAYS_MAX:
            ours = self._members.next_number()
            # 80 % of the time-out, so that the Nack is there before the one who asked gives up (Lifeguard).
            self._relays[ours] = _Relay(source, process, number, now + 0.8 * self._settings.probe_timeout)
            self._members.send(address, target, Ping(ours))

    def _acknowledged(self, number: int, by: int) -> None:
        """`by`: the process whose datagram said so; 0: a stream did."""
        relay = self._relays.pop(number, None)
        if relay is not None:
            self._members.send(relay.source, relay.process, Ack(relay.number, relay.source[0]))
        probe = self._probes.pop(number, None)
        if probe is None:
            return
        self.health.better()
        standing = self._members.standings.get(probe.name)
        if standing is None:
            return
        standing.detours = 0 if by == probe.process else standing.detours + 1
        if standing.detours == 3:
            self._members.log(
                "warning", f"datagrams to {probe.name} or back get lost, though it is alive: is UDP let through?"
            )

    def _heard_since(self, probe: _Probe) -> bool:
        return self._members.standings[probe.name].heard >= probe.began

    def _unanswered(self, now: float, probe: _Probe) -> None:
        member = self._members.by_name[probe.name]
        if member.process != probe.process or not member.live:
            return
        self.health.worse(probe.asked - probe.nacks if probe.asked else 1)
        if member.liveness is Liveness.ALIVE:
            self._members.accept(now, replace(member, liveness=Liveness.SUSPECT), by=self._members.me.name)
        else:
            self._confirm(member, self._members.me.name)

    def _confirm(self, suspect: Member, by: str) -> None:
        suspicion = self._members.suspicions.get(suspect.name)
        if suspicion is not None and suspicion.confirm(by):
            self._members.spread(Claim(suspect, by))

    def _convict(self, now: float, name: str) -> None:
        began = self._members.suspicions[name].began
        isolated = self._heard_at < began and len(self._members.live_others()) >= 2
        if isolated:
            self._members.unconfirmed.add(name)
        self._members.accept(
            now,
            replace(self._members.by_name[name], liveness=Liveness.DOWN),
            by=self._members.me.name,
            spread=not isolated,
        )

    def _notice_stall(self, now: float) -> None:
        late = now - self._wake_at
        if late <= STALL_S:
            return
        self._wake_at = now
        self._members.log("warning", f"this node did not run for {late:.1f} s")
        self._probes.clear()
        self._relays.clear()
        for suspected in self._members.suspicions.values():
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
            if member.name == self._members.me.name:
                accused |= self._learn_of_me(now, member)
            elif member.host and not self._members.is_foreign(member.cluster_id):
                self._learn_of(now, member, claim.by, claim.age, stream=stream)
        return accused

    def _learn_of(self, now: float, new: Member, by: str, age: int, *, stream: bool) -> None:
        old = self._members.by_name.get(new.name)
        if old is None and not new.live and (not stream or age >= self._members.remembered_for(new)):
            return
        if stream and old is not None and old.life == new.life:
            if new.liveness is Liveness.DOWN and old.live:
                if new.incarnation >= old.incarnation:
                    self._members.urgent[new.name] = None
                    self._confirm(old, by)
                return
            if new.live and old.liveness is Liveness.DOWN and not supersedes(old, new):
                self._members.tell(now, old, new.process, new.address)
                return
        if supersedes(old, new):
            self._members.accept(now, new, by, age)
        elif new.liveness is Liveness.SUSPECT and old is not None and not supersedes(new, old):
            self._confirm(old, by)

    def _learn_of_me(self, now: float, theirs: Member) -> bool:
        """Whether to contradict: what is held of this node somewhere is not so, or was so of an earlier life."""
        if self._members.leaving:
            return False
        if theirs.process != self._members.me.process:
            if theirs.life < self._members.me.life:
                return True
            if theirs.live:
                self._names.contest(now, theirs.address, theirs.process)
                return False
        if theirs.life > self._members.me.life or theirs.liveness is Liveness.LEFT:
            if theirs.life < self._members.me.life:
                return True
            self._members.log("info", "others had given this node up; it begins anew")
            self._members.speak(generation=theirs.generation + 1, incarnation=0)
            return True
        if theirs.liveness is Liveness.ALIVE:
            return False
        if theirs.life == self._members.me.life and theirs.incarnation >= self._members.me.incarnation:
            self.health.worse()
            self._members.speak(incarnation=theirs.incarnation + 1)
        return True

    def _contact(self, now: float, name: str, process: int, address: Address, *, quiet: bool) -> None:
        """Something came from that process. If it is not held ALIVE here, it should know (unless `quiet`)."""
        self._heard_at = now
        self._exchanges.met = True
        if self._members.unconfirmed:
            self._members.urgent.update(dict.fromkeys(self._members.unconfirmed))
            self._members.unconfirmed.clear()
        member = self._members.by_name.get(name)
        if member is None:
            return
        if member.process == process:
            self._members.standings[name].heard = now
            if member.liveness is Liveness.ALIVE:
                return
        if not quiet:
            self._members.tell(now, member, process, address)


def _compatible(one: Member, other: Member) -> bool:
    return one.versions[0] <= other.versions[1] and other.versions[0] <= one.versions[1]
