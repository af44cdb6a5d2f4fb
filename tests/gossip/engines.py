"""Gossip engines alone, in virtual time: datagrams, exchanges and cuts between them, without nodes around them."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any, Final

from peerkv import wire
from peerkv.gossip.member import Address, Event, Liveness, Member, NameTaken
from peerkv.gossip.messages import Body, Datagram, ExchangeAnswer, Unspoken
from peerkv.gossip.swim import Swim
from peerkv.settings import GossipSettings

CLUSTER: Final = "town"
HOST: Final = "10.0.0.1"
LATENCY_S: Final = 0.0005
DIAL_WITHIN_S: Final = 2.0
GENERATION: Final = 1_800_000_000_000


class Engine:
    """One process: its engine, and what has come of it."""

    def __init__(
        self, town: Town, name: str, port: int, seeds: list[Address], process: int, generation: int, **says: Any
    ) -> None:
        me = Member(name, process, generation, host=HOST, peer_port=port, client_host=HOST, client_port=port)
        me = replace(me, **says)
        self.town = town
        self.port = port
        self.running = True
        self.paused = False
        self.missed: list[Callable[[], None]] = []
        self.swim = Swim(GossipSettings(), CLUSTER, me, seeds, random.Random(process), town.now, wire.measure)
        self.events: list[Event] = []
        self.log: list[str] = []
        self.wakes_at = inf
        self.turn()

    @property
    def address(self) -> Address:
        return HOST, self.port

    @property
    def gave_way(self) -> bool:
        return any(isinstance(event, NameTaken) for event in self.events)

    def holds(self, name: str) -> tuple[int, Liveness] | None:
        """The process held for that name, and how."""
        member = self.swim.members.get(name)
        return None if member is None else (member.process, member.liveness)

    def input(self, deliver: Callable[[], Any]) -> None:
        if self.paused:
            self.missed.append(lambda: self.input(deliver))
        elif self.running:
            deliver()
            self.turn()

    def resume(self) -> None:
        self.paused = False
        for missed in self.missed:
            missed()
        self.missed.clear()
        self._wake(self.wakes_at)

    def kill(self) -> None:
        self.running = False

    def turn(self) -> None:
        town = self.town
        taken = self.swim.take(town.now)
        self.events += taken.events
        self.log += [text for _, text in taken.log]
        for address, version, message in taken.datagrams:
            town.datagram(self, address, wire.encode_datagram(CLUSTER, version, message))
        for ticket, address, version, request in taken.exchanges:
            town.after(LATENCY_S, town.exchange, self, ticket, address, wire.encode_request(CLUSTER, version, request))
        self.wakes_at = taken.wake_at
        if taken.wake_at < inf:
            town.at(taken.wake_at, self._wake, taken.wake_at)

    def _wake(self, at: float) -> None:
        if at == self.wakes_at and not self.paused:
            self.input(lambda: self.swim.wake(self.town.now))


class Town:
    """Engines by port, and the network between them."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.engines: dict[int, Engine] = {}
        self.loss = 0.0
        """The share of datagrams that get lost."""
        self.cuts: set[tuple[int, int]] = set()
        self.sent: list[tuple[int, Address, Datagram]] = []
        """(port of the sender, to, what)"""
        self.asked: list[tuple[int, Address]] = []
        """(port of the asker, whom) of every exchange."""
        self._events: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = itertools.count()

    def at(self, time: float, run: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._count), run, arguments))

    def after(self, seconds: float, run: Callable[..., Any], *arguments: Any) -> None:
        self.at(self.now + seconds, run, *arguments)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            time, _, run, arguments = heapq.heappop(self._events)
            self.now = max(self.now, time)
            run(*arguments)
        self.now = until

    def start(self, name: str, port: int, *seeds: int, generation: int | None = None, **says: Any) -> Engine:
        """A process of that name, by default of a generation as the clock has it."""
        born = GENERATION + int(self.now * 1000) if generation is None else generation
        process = self.rng.getrandbits(62) | 1
        addresses = [(HOST, seed) for seed in seeds]
        engine = self.engines[port] = Engine(self, name, port, addresses, process, born, **says)
        return engine

    def members(self, count: int) -> list[Engine]:
        """So many members of ports from 1 that know each other."""
        engines = [self.start(f"db{number}", number, *({1} - {number})) for number in range(1, count + 1)]
        self.run(5.0)
        for engine in engines:
            assert {name for name, member in engine.swim.members.items() if member.live} == {
                f"db{number}" for number in range(1, count + 1)
            }
        return engines

    def cut(self, engine: Engine, *others: Engine) -> None:
        """Nothing passes between these, either way."""
        for other in others:
            self.cuts |= {(engine.port, other.port), (other.port, engine.port)}

    def datagram(self, sender: Engine, address: Address, payload: bytes) -> None:
        message = wire.decode_datagram(CLUSTER, sender.swim.me.versions, payload)
        assert not isinstance(message, wire.Refusal), message.reason
        self.sent.append((sender.port, address, message))
        target = self.engines.get(address[1])
        if target is not None:
            read = wire.decode_datagram(CLUSTER, target.swim.me.versions, payload)
            assert not isinstance(read, wire.Refusal), read.reason
        lost = self.rng.random() < self.loss
        if target is not None and not lost and (sender.port, target.port) not in self.cuts:
            self.after(LATENCY_S, target.input, lambda: target.swim.receive(self.now, sender.address, message))

    def forge(
        self, target: Engine, name: str, process: int, body: Body, *claims: Any, to: int | None = None, **fields: Any
    ) -> None:
        """A datagram of a process that there is or is not."""
        meant = target.swim.me.process if to is None else to
        message = Datagram(name, process, fields.get("cluster_id", 0), fields.get("view", 0), meant, body, claims)
        versions = target.swim.me.versions
        received = wire.decode_datagram(CLUSTER, versions, wire.encode_datagram(CLUSTER, versions[1], message))
        assert isinstance(received, Datagram)
        source = fields.get("source", (HOST, 666))
        target.input(lambda: target.swim.receive(self.now, source, received))

    def exchange(self, asker: Engine, ticket: int, address: Address, payload: bytes) -> None:
        self.asked.append((asker.port, address))
        target = self.engines.get(address[1])
        if target is None or not target.running:
            self.after(LATENCY_S, self._end, asker, ticket, None)
        elif (asker.port, target.port) in self.cuts or target.paused:
            self.after(DIAL_WITHIN_S, self._end, asker, ticket, None)
        else:
            request = wire.decode_request(CLUSTER, target.swim.me.versions, payload)
            if isinstance(request, wire.Refusal):
                assert request.unspoken, request.reason
                self.after(LATENCY_S, self._end, asker, ticket, wire.encode_versions(target.swim.me.versions))
                return
            answer = target.swim.request(self.now, (HOST, 40000), request)
            target.turn()
            answered = wire.encode_answer(CLUSTER, wire.version_of(payload), answer)
            self.after(LATENCY_S, self._end, asker, ticket, answered)

    def _end(self, asker: Engine, ticket: int, payload: bytes | None) -> None:
        answer: ExchangeAnswer | Unspoken | wire.Refusal | None = None
        if payload is not None:
            answer = wire.decode_answer(CLUSTER, asker.swim.me.versions, payload)
            if isinstance(answer, wire.Refusal):
                assert answer.versions is not None, answer.reason
                answer = Unspoken(answer.versions)
        asker.input(lambda: asker.swim.answer(self.now, ticket, answer))
