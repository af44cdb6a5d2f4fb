"""The gossip engine of one node: who is alive, and who says so. SWIM with Lifeguard, without I/O.

Every probe interval the next member of a shuffled list is pinged. No answer: three others are asked to ping it, and it
is asked on a stream. Still none: it is SUSPECT, everybody hears so, itself included; it contradicts, or is DOWN. News
travels with whatever datagram goes out anyway. That is SWIM; what practice has taught on top of it:

- Little is believed of a datagram, as it can be anybody's (protocol rules G1 and G2).
- Hearsay from a stream convicts nobody. After a split each half holds the other DOWN: who finds that another node
  holds alive whom it holds DOWN accuses that member to its face, which contradicts with a higher incarnation.
- Whoever is heard from, but not held ALIVE here, is told so, once a second, and never in answer to being told so.
- A node that did not run for a while, or hears nothing from anybody, doubts itself, not the others.

Give it what happens, with `now` in seconds of any clock that does not jump; `take` what it wants done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, Final

from peerkv.gossip.exchanges import Exchanges
from peerkv.gossip.health import Health
from peerkv.gossip.member import (
    Address,
    Claim,
    Liveness,
    Member,
    Missed,
    common_version,
    located,
    supersedes,
)
from peerkv.gossip.membership import GENERATION_MAX, INCARNATIONS_MAX, Membership, SwimOutbox
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
    Unspoken,
)
from peerkv.gossip.names import Names
from peerkv.settings import GossipSettings, address_text

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
    asker: Member
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
        self._names = Names(self._members, self._exchanges, now)
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

    def shown(self, now: float, owners: Collection[int]) -> list[Member]:
        """Who is worth showing: all but those that are gone for longer than who has left is remembered. `owners`:
        processes that always are."""
        since = now - self._settings.forget_left_after
        standings = self._members.standings
        return [
            member
            for name, member in self.members.items()
            if member.live or member.process in owners or standings[name].since > since
        ]

    # Inputs

    def receive(self, now: float, source: Address, message: Datagram) -> None:
        """A datagram came. That of a process that is no member is not read, unless it contests our name, and never
        answered (rule G1)."""
        members, me = self._members, self._members.me
        if members.silent or message.process == me.process:
            return
        if self._exchanges.is_refused(now, source, message.cluster_id):
            return
        sender = members.by_name.get(message.name)
        if sender is None or sender.process != message.process:
            if isinstance(message.body, Contest):
                self._names.contested(now, source, message)
            return
        self._notice_stall(now)
        if message.to != me.process:  # to who was here before us
            return
        accused = self._learn(now, message.claims, sender.process, source[0], stream=False)
        self._contact(now, sender.name, sender.process, quiet=accused)
        contradiction = [Claim(members.me)] if accused else []
        match message.body:
            case Ping(number):
                members.send(sender, Ack(number, source[0]), contradiction, address=source)
            case Ack(number, seen):
                members.seen_as(now, seen)
                self._acknowledged(number, sender.process)
            case PingRequest(number, process):
                self._relay(now, source, sender, number, process)
            case Nack(number):
                if number in self._probes:
                    self._probes[number].nacks += 1
            case Gossip() | Contest():
                pass
        if contradiction and not isinstance(message.body, Ping):
            members.send(sender, Gossip(), contradiction, address=source)
        self._exchanges.compare_views(now, sender, message.view)

    def request(self, now: float, source: Address, message: ExchangeRequest) -> ExchangeAnswer:
        """Somebody opened a stream to us and asks. If we do not know it, we ask it at its own address, too."""
        members, me = self._members, self._members.me
        theirs = located(message.me.member, source[0])
        if theirs.process == me.process or members.silent:
            return ExchangeAnswer(Claim(me), members.view, source[0])
        if self._exchanges.is_refused(now, source, theirs.cluster_id):
            if any(claim.member.name == me.name and claim.member.life < me.life for claim in message.claims):
                members.outbox.events.append(Missed(theirs))
            return self._exchanges.refuse(now, source, members.foreign_reason(theirs.cluster_id))
        for member in members.by_name.values():
            if member.live and not common_version(theirs.versions, member.versions):
                (oldest, newest), (least, most) = theirs.versions, member.versions
                reason = f"speaks wire versions {oldest} to {newest}; {member.name} speaks {least} to {most}"
                return self._exchanges.refuse(now, source, reason)
        self._notice_stall(now)
        admission, reason = self._names.admit(now, theirs)
        if admission is not Admission.WELCOME:
            return ExchangeAnswer(Claim(me), members.view, source[0], (), admission, reason)
        held = members.by_name.get(theirs.name)
        if held is not None and held.process == theirs.process:
            claims = (replace(message.me, member=theirs), *message.claims)
            self._learn(now, claims, theirs.process, source[0], stream=True)
            self._contact(now, theirs.name, theirs.process, quiet=True)
        elif theirs.name != me.name:
            self._names.ask(now, theirs)
        view = members.view
        if message.purpose is Purpose.SYNC and message.view != view:
            return ExchangeAnswer(Claim(members.me), view, source[0], members.everything(now))
        # Whoever was given up, or was followed by a later life of its name, has to know.
        held = members.by_name.get(theirs.name)
        fine = held is None or held is members.me or (held.process == theirs.process and held.live)
        return ExchangeAnswer(
            Claim(members.me), view, source[0], () if fine or held is None else (members.claim(now, held),)
        )

    def answer(self, now: float, ticket: int, message: ExchangeAnswer | Unspoken | None) -> None:
        """Our exchange ended: with an answer, or (None) without."""
        exchange = self._exchanges.end(ticket)
        if exchange is None or self._members.silent:
            return
        if isinstance(message, Unspoken):
            if self._exchanges.repeat(now, exchange, message.versions):
                return
            (oldest, newest), (least, most) = message.versions, self._members.me.versions
            text = f"{address_text(*exchange.address)} speaks wire versions {oldest} to {newest}"
            self._exchanges.complain(now, exchange.address, f"{text}; this node speaks {least} to {most}")
            message = None
        if exchange.question:
            self._names.answered(now, exchange, message)
            return
        if message is None:
            return
        self._notice_stall(now)
        host, _ = exchange.address
        theirs = located(message.me.member, host)
        self._exchanges.answered_by(exchange, theirs.process)
        self._members.note_succession(theirs)
        if theirs.process == self._members.me.process:
            return
        if self._exchanges.is_refused(now, exchange.address, theirs.cluster_id):
            held = self.members.get(theirs.name)
            if held is not None and held.process == theirs.process:
                self._members.expel(held, theirs.cluster_id)
            return
        self._members.seen_as(now, message.seen)
        match message.admission:
            case Admission.WAIT:
                self._exchanges.join_soon(now)
                return
            case Admission.NAME_TAKEN:
                if not self._names.settled(now):
                    self._names.give_way(message.reason)
                elif theirs.name == self._members.me.name:
                    self._names.contest(now, theirs)
                return
            case Admission.REFUSED:
                self._exchanges.complain(
                    now, exchange.address, f"{address_text(*exchange.address)} refused this node: {message.reason}"
                )
                return
            case Admission.WELCOME:
                pass
        self._learn_answer(now, theirs, message)
        self._contact(now, theirs.name, theirs.process, quiet=True)
        if exchange.request.purpose is Purpose.PING:
            if exchange.probe in self._probes and self._probes[exchange.probe].process == theirs.process:
                self._acknowledged(exchange.probe, by=0)
        elif message.claims and all(claim.member.name == theirs.name for claim in exchange.request.claims):
            lacking = self._members.lacking(now, message.claims)
            if lacking:
                self._exchanges.open(now, exchange.address, Purpose.SYNC, claims=lacking, versions=theirs.versions)

    def wake(self, now: float) -> None:
        """A deadline of `take().wake_at` has passed."""
        if self._members.silent:
            return
        if now - self._wake_at > self._settings.probe_timeout:
            self.health.worse()
        self._notice_stall(now)
        for number in [number for number, relay in self._relays.items() if now >= relay.nack_at]:
            relay = self._relays.pop(number)
            self._members.send(relay.asker, Nack(relay.number), address=relay.source)
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
            self._contact(now, name, process, quiet=False)

    def update(self, **changes: Any) -> None:
        """What this node says of itself has changed (epoch, cluster_id, load, ...): tell everybody.

        Each call is a rumour to the whole cluster, so say only what others act upon.
        """
        assert not changes.keys() & {"name", "process", "generation", "incarnation", "liveness"}, changes
        if replace(self._members.me, **changes) == self._members.me or self._members.leaving:
            return
        self._members.speak(**changes)
        for stranger in [member for member in self.members.values() if self._members.is_foreign(member.cluster_id)]:
            self._members.expel(stranger, stranger.cluster_id)

    def forget(self, now: float, name: str) -> None:
        """It was agreed to give that member up. If that life of it is heard from again, it has to begin a new one."""
        member = self._members.by_name.get(name)
        if member is not None and member is not self._members.me and member.liveness is not Liveness.LEFT:
            self._members.accept(now, replace(member, liveness=Liveness.LEFT), by=self._members.me.name)

    def meet(self, now: float, address: Address) -> None:
        """Join whoever is there."""
        self._exchanges.add_seed(now, address)

    def begin_anew(self) -> None:
        """This node was held for lost, and rightly gives its name to a later life of it, if there is one."""
        self._names.yields = True

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
        self._members.send(member, Ping(number), accusation)
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
            self._members.send(member, PingRequest(number, probe.process))
        self._exchanges.open(now, target.address, Purpose.PING, probe=number, versions=target.versions)

    def _relay(self, now: float, source: Address, asker: Member, number: int, process: int) -> None:
        """Ping a member on another's behalf: at the address that we know, as nobody's word sends our datagrams."""
        target = next((member for member in self.members.values() if member.process == process), None)
        if target is not None and len(self._relays) < RELAYS_MAX:
            ours = self._members.next_number()
            # 80 % of the time-out, so that the Nack is there before the one who asked gives up (Lifeguard).
            self._relays[ours] = _Relay(source, asker, number, now + 0.8 * self._settings.probe_timeout)
            self._members.send(target, Ping(ours))

    def _acknowledged(self, number: int, by: int) -> None:
        """`by`: the process whose datagram said so; 0: a stream did."""
        relay = self._relays.pop(number, None)
        if relay is not None:
            self._members.send(relay.asker, Ack(relay.number, relay.source[0]), address=relay.source)
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
        others = len(self._members.live_others()) + len(self._members.unconfirmed)
        isolated = self._heard_at < began and others >= 2
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
        """Whether the claims accuse this node. A member has sent them, unasked, from that host."""
        members = self._members
        accused = False
        for claim in claims:
            new = located(claim.member, host) if claim.member.process == process else claim.member
            held = members.by_name.get(new.name)
            if new.name == members.me.name:
                accused |= self._learn_of_me(now, new)
            elif not new.host or members.is_foreign(new.cluster_id):
                continue
            elif held is not None and held.life == new.life:
                self._learn_again(now, held, replace(claim, member=new), stream=stream)
            elif supersedes(held, new):
                self._names.ask(now, new)
        return accused

    def _learn_answer(self, now: float, theirs: Member, message: ExchangeAnswer) -> None:
        """What somebody has answered whom we have asked: of lives that are new here it says only whom to ask, but who
        joins believes the first that answers."""
        members = self._members
        joins = not self._exchanges.met
        if theirs.name == members.me.name:
            self._learn_of_me(now, theirs, asked=True, joins=joins)
        elif supersedes(members.by_name.get(theirs.name), theirs):
            members.accept(now, theirs)
        for claim in message.claims:
            new, held = claim.member, members.by_name.get(claim.member.name)
            if new.name == members.me.name:
                self._learn_of_me(now, new, asked=True, joins=joins)
            elif not new.host or members.is_foreign(new.cluster_id):
                continue
            elif held is not None and held.life == new.life:
                self._learn_again(now, held, claim, stream=True)
            elif not supersedes(held, new):
                continue
            elif joins or (held is not None and not held.live and not new.live):
                if new.live or claim.age < members.remembered_for(new):
                    members.accept(now, new, claim.by, claim.age)
            else:
                self._names.ask(now, new)

    def _learn_again(self, now: float, held: Member, claim: Claim, *, stream: bool) -> None:
        """Of a life that is known. Hearsay from a stream convicts nobody: it has the member looked at."""
        new = claim.member
        if stream and new.liveness is Liveness.DOWN and held.live:
            if new.incarnation >= held.incarnation:
                self._members.urgent[new.name] = None
                self._confirm(held, claim.by)
        elif supersedes(held, new):
            if self._names.is_credible(held, new):
                self._members.accept(now, new, claim.by, claim.age)
            else:
                self._names.ask(now, new)
        elif stream and new.live and held.liveness is Liveness.DOWN:
            self._members.tell(now, held)
        elif new.liveness is Liveness.SUSPECT and not supersedes(new, held):
            self._confirm(held, claim.by)

    def _learn_of_me(self, now: float, theirs: Member, *, asked: bool = False, joins: bool = False) -> bool:
        """Whether to contradict: what is held of this node somewhere is not so, or was so of an earlier life."""
        members, me = self._members, self._members.me
        if members.leaving:
            return False
        if theirs.life < me.life:
            return True
        if theirs.process != me.process:
            # A later life of our name than ours. If it is not a former one, of a clock that went ahead, it lives.
            if theirs.live and theirs.address != me.address:
                self._names.rival(now, theirs, joins=joins or self._names.yields)
            elif asked and theirs.generation < GENERATION_MAX:
                self._begin_anew(theirs.generation + 1)
                return True
            return False
        if theirs.generation > me.generation or theirs.incarnation > me.incarnation + INCARNATIONS_MAX:
            return False  # forged: only we count these up, and nobody takes another's word for such steps
        if theirs.liveness is Liveness.LEFT:
            self._begin_anew(me.generation + 1)
        elif theirs.incarnation > me.incarnation or (
            theirs.incarnation == me.incarnation and theirs.liveness is not Liveness.ALIVE
        ):
            if theirs.liveness is not Liveness.ALIVE:
                self.health.worse()
            members.speak(incarnation=theirs.incarnation + 1)
        return theirs.liveness is not Liveness.ALIVE

    def _begin_anew(self, generation: int) -> None:
        self._members.log("info", "others had given this node up; it begins anew")
        self._members.speak(generation=generation, incarnation=0)

    def _contact(self, now: float, name: str, process: int, *, quiet: bool) -> None:
        """Something came from that process. If it is not held ALIVE here, it should know (unless `quiet`)."""
        member = self.members.get(name)
        if member is None or member.process != process:
            return
        self._heard_at = now
        self._exchanges.met = True
        if self._members.unconfirmed:
            self._members.urgent.update(dict.fromkeys(self._members.unconfirmed))
            self._members.unconfirmed.clear()
        self._members.standings[name].heard = now
        if member.liveness is not Liveness.ALIVE and not quiet:
            self._members.tell(now, member)
