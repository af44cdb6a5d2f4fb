"""Gossip as bytes: the engine that knows who is alive (`gossip.swim`), behind datagrams and exchanges.

Whatever the engine is told may give it something to say; it is asked for that once, at the end of a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import inf
from typing import TYPE_CHECKING

from peerkv import wire
from peerkv.clock import Clock
from peerkv.gossip.member import Address, Event, Member
from peerkv.gossip.messages import Unspoken
from peerkv.gossip.swim import Swim
from peerkv.settings import Settings, peer_address

if TYPE_CHECKING:
    from random import Random


class Gossiping:
    """Of a node; `members`: see `Swim`."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        process: int,
        wall: float,
        versions: tuple[int, int],
        rng: Random,
        log: Callable[[str, str], None],
    ) -> None:
        self.at_hand = True
        """The engine has been told something since it was asked last: `take`."""
        self.wake_at = -inf
        """When the engine has something to do."""
        self._settings = settings
        self._clock = clock
        self._versions = versions
        self._log = log
        me = _myself(settings, process, wall, versions)
        seeds = [peer_address(seed) for seed in settings.seeds]
        self._swim = Swim(settings.gossip, settings.cluster, me, seeds, rng, clock.now, wire.measure)
        self.members = self._swim.members

    @property
    def me(self) -> Member:
        """This node as it describes itself."""
        return self._swim.me

    @property
    def engine(self) -> Swim:
        """To be told something."""
        self.at_hand = True
        return self._swim

    def shown(self, owners: Collection[int]) -> list[Member]:
        """Who is worth showing: see `Swim.shown`."""
        return self._swim.shown(self._clock.now, owners)

    # -- what comes

    def datagram(self, source: Address, payload: bytes) -> None:
        """At the peer port."""
        most = self._settings.gossip.datagram_bytes_max
        if len(payload) > most:
            self.refuse(source, f"sent a datagram of {len(payload)} bytes; {most} are allowed")
            return
        message = wire.decode_datagram(self._settings.cluster, self._versions, payload)
        if isinstance(message, wire.Refusal):
            self.refuse(source, message.reason)
        else:
            self.engine.receive(self._clock.now, source, message)

    def exchange(self, source: Address, payload: bytes) -> bytes:
        """The first frame on a connection that is no hello: what to answer, before it is closed."""
        now, cluster = self._clock.now, self._settings.cluster
        request = wire.decode_request(cluster, self._versions, payload)
        if not isinstance(request, wire.Refusal):
            answer = self.engine.request(now, source, request)
        elif request.unspoken:
            return wire.encode_versions(self._versions)
        else:
            answer = self.engine.refuse(now, source, request.reason)
            if wire.kind_of(payload) != wire.Kind.EXCHANGE_REQUEST:
                return b""
        return wire.encode_answer(cluster, wire.version_of(payload), answer)

    def exchange_answer(self, ticket: int, payload: bytes | None) -> None:
        """How an exchange ended: with these bytes, or (None) without an answer."""
        answer = None
        if payload is not None:
            answer = wire.decode_answer(self._settings.cluster, self._versions, payload)
        if not isinstance(answer, wire.Refusal):
            self.engine.answer(self._clock.now, ticket, answer)
        elif answer.versions is not None:
            self.engine.answer(self._clock.now, ticket, Unspoken(answer.versions))
        else:
            self._log("warning", f"the answer to an exchange was refused: it {answer.reason}")
            self.engine.answer(self._clock.now, ticket, None)

    def refuse(self, source: Address, reason: str) -> None:
        """Somebody has sent what is not for us."""
        self.engine.refuse(self._clock.now, source, reason)

    # -- what goes

    def wake(self) -> None:
        """Some time has passed."""
        if self._clock.now >= self.wake_at:
            self.engine.wake(self._clock.now)

    def take(self) -> tuple[list[tuple[Address, bytes]], list[tuple[int, Address, bytes]], list[Event]]:
        """What is to be sent: datagrams, and exchanges (ticket, address, payload), whose ends are for
        `exchange_answer`; and what has become known of members."""
        taken = self._swim.take(self._clock.now)
        self.at_hand, self.wake_at = False, taken.wake_at
        for level, text in taken.log:
            self._log(level, text)
        cluster = self._settings.cluster
        datagrams = [
            (address, wire.encode_datagram(cluster, version, message)) for address, version, message in taken.datagrams
        ]
        exchanges = [
            (ticket, address, wire.encode_request(cluster, version, request))
            for ticket, address, version, request in taken.exchanges
        ]
        return datagrams, exchanges, taken.events


def _myself(settings: Settings, process: int, wall: float, versions: tuple[int, int]) -> Member:
    host = settings.announce_host or ("" if settings.host in ("0.0.0.0", "::") else settings.host)
    _, peer_port = peer_address(settings.announced)
    return Member(
        name=settings.name,
        process=process,
        generation=int(wall * 1000),
        role=settings.role,
        host=host,
        peer_port=peer_port,
        client_host=host,
        client_port=settings.announce_port or settings.port,
        zone=settings.zone,
        weight=settings.weight,
        versions=versions,
    )
