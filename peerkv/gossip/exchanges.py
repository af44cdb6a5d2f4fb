"""When to talk to whom by a stream: joining by the seeds, comparing what two nodes know, coming back after a split.

The DOWN are dialled for ever, and so are the configured seeds: two halves always find each other again. Nodes that
differ in their `view` compare everything they know, less often if that does not help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, log2
from typing import TYPE_CHECKING, Final

from peerkv.gossip.member import Address, Claim, Liveness, Member, common_version
from peerkv.gossip.membership import Membership, Standing
from peerkv.gossip.messages import Admission, ExchangeAnswer, ExchangeRequest, Purpose
from peerkv.settings import GossipSettings, address_text

if TYPE_CHECKING:
    from random import Random

JOIN_PATIENCE_S: Final = (0.5, 5.0)
"""Seeds that do not answer are dialled again after the first of these, which doubles up to the second."""
MISMATCH_PATIENCE_S: Final = 1.0
"""Another node's view may differ for so long, as news is on its way; then the two compare what they know."""
RECONNECT_SLOWS_AFTER_S: Final = 600.0
RECONNECT_INTERVAL_MAX_S: Final = 60.0
COMPLAINT_INTERVAL_S: Final = 600.0
EXCHANGE_LIFETIME_S: Final = 10.0
"""An exchange whose end was not reported by then is forgotten; the shell gives up after 2 s."""
EXCHANGES_MAX: Final = 256
FOREIGN_VIEWS_MAX: Final = 64
COMPLAINTS_MAX: Final = 32
"""Lines of log that strangers can have written in COMPLAINT_INTERVAL_S."""


@dataclass(slots=True)
class Exchange:
    address: Address
    began: float
    request: ExchangeRequest
    probe: int = 0
    seed: bool = False
    question: int = 0
    """The process that is asked whether it is who it is said to be; see `Names`."""
    version: int = 0
    """The wire version in which it was asked."""


class Exchanges:
    """The exchanges that this node has begun, and when it begins the next."""

    def __init__(
        self, settings: GossipSettings, members: Membership, seeds: Sequence[Address], rng: Random, now: float
    ) -> None:
        self.met = False
        """Whether anybody has been met yet; until then the seeds are dialled often."""
        self._settings = settings
        self._members = members
        self._rng = rng
        self._open: dict[int, Exchange] = {}
        self._seeds: dict[Address, int] = dict.fromkeys(seeds, 0)
        """Each seed, and the process that answered there last."""
        self._foreign_views: dict[int, tuple[float, float]] = {}
        """Other views met since ours changed: when to compare, and how long to wait before doing so again."""
        self._compared = members.view
        self._complaints: set[str] = set()
        """Hosts that were complained of, ..."""
        self._complained_at = -inf
        """... since then."""
        self._unlogged = 0
        self._seeds_at = now if seeds else inf
        self._join_patience = JOIN_PATIENCE_S[0]
        self._reconnect_at = now + rng.random() * settings.reconnect_interval
        self._sync_at = now + (0.5 + rng.random() / 2) * settings.sync_interval

    @property
    def wakes_at(self) -> float:
        return min(self._seeds_at, self._reconnect_at, self._sync_at)

    def end(self, ticket: int) -> Exchange | None:
        """That exchange has ended, whatever came of it."""
        return self._open.pop(ticket, None)

    def answered_by(self, exchange: Exchange, process: int) -> None:
        """Who lives at that address."""
        if exchange.seed:
            self._seeds[exchange.address] = process

    def add_seed(self, now: float, address: Address) -> None:
        """There is another one to be dialled, now."""
        if len(self._seeds) < EXCHANGES_MAX:
            self._seeds.setdefault(address, 0)
        self._seeds_at = now

    def join_soon(self, now: float) -> None:
        """The seeds are to be dialled again after the shortest time."""
        self._seeds_at = now + JOIN_PATIENCE_S[0]

    def keep_in_touch(self, now: float) -> None:
        if now >= self._seeds_at:
            self._dial_seeds(now)
        if now >= self._reconnect_at:
            self._reconnect_at = now + self._settings.reconnect_interval
            self._reconnect(now)
            self._members.forget_long_gone(now)
            for ticket in [t for t, exchange in self._open.items() if now - exchange.began >= EXCHANGE_LIFETIME_S]:
                del self._open[ticket]
        if now >= self._sync_at:
            live = self._members.live_others()
            self._sync_at = now + self._settings.sync_interval * (1 + max(0, ceil(log2((len(live) + 1) / 32))))
            if live:
                self.ask(now, self._rng.choice(live))

    def _dial_seeds(self, now: float) -> None:
        if self.met:
            self._seeds_at = now + self._settings.seed_interval
        else:
            self._seeds_at = now + self._join_patience * (0.75 + self._rng.random() / 2)
            self._join_patience = min(2 * self._join_patience, JOIN_PATIENCE_S[1])
        here = {member.process for member in self._members.by_name.values() if member.live}
        dialled = {exchange.address for exchange in self._open.values()}
        for seed, process in self._seeds.items():
            if process not in here and seed not in dialled:
                self.open(now, seed, Purpose.SYNC, seed=True)

    def _reconnect(self, now: float) -> None:
        """The more of the others are DOWN, and the fewer we are, the likelier this node dials one of them."""
        down = [member for member in self._members.by_name.values() if member.liveness is Liveness.DOWN]
        live = len(self._members.live_others()) + 1
        if self._rng.random() * live >= max(1, len(down)):
            return
        due = [member for member in down if self._dial_due(now, self._members.standings[member.name])]
        if due:
            member = self._rng.choice(due)
            self._members.standings[member.name].dialled = now
            # Whom we look for travels along: a new life of it, told of nobody, may have begun a cluster of its own.
            known = (self._members.claim(now, member),)
            self.open(now, member.address, Purpose.SYNC, claims=known, versions=member.versions)

    def _dial_due(self, now: float, standing: Standing) -> bool:
        periods = min(int((now - standing.since) / RECONNECT_SLOWS_AFTER_S), 8)
        interval = min(self._settings.reconnect_interval * 2**periods, RECONNECT_INTERVAL_MAX_S)
        return bool(now - standing.dialled >= interval * 0.9)  # as it is looked at once per reconnect interval only

    def ask(self, now: float, member: Member) -> None:
        """Have a member tell all that it knows."""
        self.open(now, member.address, Purpose.SYNC, versions=member.versions)

    def compare_views(self, now: float, member: Member, view: int) -> None:
        """A member sees another cluster than we do, maybe only for a moment."""
        if view == self._members.view or self._members.leaving:
            return
        if self._compared != self._members.view:
            self._compared = self._members.view
            self._foreign_views.clear()
        due, patience = self._foreign_views.get(view, (inf, MISMATCH_PATIENCE_S))
        if due == inf:
            if len(self._foreign_views) < FOREIGN_VIEWS_MAX:
                self._foreign_views[view] = now + patience, patience
        elif now >= due:
            patience = min(2 * patience, self._settings.sync_interval)
            self._foreign_views[view] = now + patience, patience
            self.ask(now, member)

    def open(
        self,
        now: float,
        address: Address,
        purpose: Purpose,
        *,
        claims: tuple[Claim, ...] = (),
        probe: int = 0,
        seed: bool = False,
        question: int = 0,
        versions: tuple[int, int] | None = None,
    ) -> bool:
        """Begin an exchange, unless too many are under way. `versions`: what is spoken there, as far as is known."""
        if len(self._open) >= EXCHANGES_MAX:
            return False
        members = self._members
        ticket = members.next_number()
        request = ExchangeRequest(purpose, Claim(members.me), members.view, claims)
        version = members.version_for(versions)
        self._open[ticket] = Exchange(address, now, request, probe, seed, question, version)
        members.outbox.exchanges.append((ticket, address, version, request))
        return True

    def repeat(self, now: float, exchange: Exchange, versions: tuple[int, int]) -> bool:
        """Ask the same again in a wire version that is spoken there; False: there is none, or it was that one."""
        version = common_version(self._members.me.versions, versions)
        return version not in (0, exchange.version) and self.open(
            now,
            exchange.address,
            exchange.request.purpose,
            claims=exchange.request.claims,
            probe=exchange.probe,
            seed=exchange.seed,
            question=exchange.question,
            versions=versions,
        )

    def refuse(self, now: float, source: Address, reason: str) -> ExchangeAnswer:
        """Something came that is not for us (see `wire.Refusal`).

        Returns what to answer if it came by a stream; a datagram gets no answer.
        """
        self.complain(now, source, f"refused {address_text(*source)}, which {reason}")
        return ExchangeAnswer(Claim(self._members.me), 0, source[0], (), Admission.REFUSED, reason)

    def complain(self, now: float, source: Address, text: str) -> None:
        """Log what somebody who is no member does wrong: once per host, and some in all, in so long a time."""
        if now - self._complained_at >= COMPLAINT_INTERVAL_S:
            self._complained_at = now
            if self._unlogged:
                self._members.log("warning", f"{self._unlogged} more were refused, or did not answer")
            self._complaints.clear()
            self._unlogged = 0
        if source[0] in self._complaints:
            return
        if len(self._complaints) >= COMPLAINTS_MAX:
            self._unlogged += 1
            return
        self._complaints.add(source[0])
        self._members.log("warning", text)

    def is_refused(self, now: float, source: Address, cluster_id: int) -> bool:
        """Whether who is of that cluster is none of ours."""
        if not self._members.is_foreign(cluster_id):
            return False
        self.refuse(now, source, self._members.foreign_reason(cluster_id))
        return True
