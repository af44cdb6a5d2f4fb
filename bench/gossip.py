"""`python -m bench.gossip`: how fast a death is noticed and known to all, what it costs, and who is accused in vain.

The engines of all members in one thread and in virtual time, with a latency of half a millisecond and a share of the
datagrams lost. Exchanges (TCP) get through. Members are killed one after another; they fall silent, no link tells it.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peerkv import wire
from peerkv.gossip.member import PROTOCOL_VERSIONS, Address, Liveness, Member, MemberDown, MemberSuspect
from peerkv.gossip.swim import Swim
from peerkv.settings import GossipSettings

CLUSTER = "bench"
LATENCY_S = 0.0005
WARM_UP_S = 30.0
HOST = "10.0.0.1"


@dataclass
class Found:
    """What one simulated cluster has shown."""

    first: list[float] = field(default_factory=list)
    """Per kill: until the first member held it for dead."""
    all: list[float] = field(default_factory=list)
    """Per kill: until the last one did."""
    suspicions: int = 0
    false_deaths: int = 0
    member_hours: float = 0.0
    bytes_per_second: float = 0.0


class Cluster:
    """Members that gossip."""

    def __init__(self, count: int, loss: float, seed: int) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.now = 0.0
        self.bytes = 0
        self.engines: dict[int, Swim] = {}
        self.dead: dict[str, float] = {}
        self.known_dead: dict[str, dict[int, float]] = {}
        self.found = Found()
        self._events: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._wakes: dict[int, float] = {}
        self.counting = False
        for number in range(count):
            port = 17000 + number
            me = Member(f"n{number}", number + 1, number, host=HOST, peer_port=port, client_host=HOST, client_port=port)
            seeds = [] if number == 0 else [(HOST, 17000)]
            rng = random.Random(self.rng.getrandbits(64))
            self.engines[port] = Swim(GossipSettings(), CLUSTER, me, seeds, rng, 0.0, wire.measure)
            self._at(number * 0.01, self._turn, port)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, run, arguments = heapq.heappop(self._events)
            run(*arguments)
        self.now = until

    def kill(self) -> str:
        port = self.rng.choice([port for port in self.engines if port != 17000])
        name = self.engines.pop(port).me.name
        self.dead[name] = self.now
        self.known_dead = {name: {}}
        return name

    def _at(self, time: float, run: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._order), run, arguments))

    def _turn(self, port: int) -> None:
        engine = self.engines.get(port)
        if engine is None:
            return
        taken = engine.take(self.now)
        for address, version, message in taken.datagrams:
            payload = wire.encode_datagram(CLUSTER, version, message)
            self._count(len(payload))
            if self.rng.random() >= self.loss:
                self._at(self.now + LATENCY_S * self.rng.uniform(0.5, 1.5), self._datagram, port, address, payload)
        for ticket, address, _, request in taken.exchanges:
            self._at(self.now + LATENCY_S, self._exchange, port, address, ticket, request)
        for event in taken.events:
            if isinstance(event, MemberDown):
                name = event.member.name
                if name not in self.dead and self.counting:
                    self.found.false_deaths += 1
            elif isinstance(event, MemberSuspect) and event.member.name not in self.dead and self.counting:
                self.found.suspicions += 1
        for name, known in self.known_dead.items():
            if port not in known and not engine.members[name].live:
                known[port] = self.now
        wakes_at = max(self.now + 1e-6, taken.wake_at)
        if wakes_at < self._wakes.get(port, float("inf")) or self._wakes[port] <= self.now:
            self._wakes[port] = wakes_at
            self._at(wakes_at, self._wake, port, wakes_at)

    def _wake(self, port: int, wakes_at: float) -> None:
        engine = self.engines.get(port)
        if engine is not None and self._wakes.get(port) == wakes_at:
            self._wakes[port] = float("inf")
            engine.wake(self.now)
            self._turn(port)

    def _datagram(self, source: int, address: Address, payload: bytes) -> None:
        engine = self.engines.get(address[1])
        if engine is not None:
            message = wire.decode_datagram(CLUSTER, PROTOCOL_VERSIONS, payload)
            assert not isinstance(message, wire.Refusal), message.reason
            engine.receive(self.now, (HOST, source), message)
            self._turn(address[1])

    def _exchange(self, source: int, address: Address, ticket: int, request: Any) -> None:
        engine, asking = self.engines.get(address[1]), self.engines.get(source)
        answer = None
        self._count(len(wire.encode_request(CLUSTER, PROTOCOL_VERSIONS[1], request)))
        if engine is not None:
            answer = engine.request(self.now, (HOST, source), request)
            self._count(len(wire.encode_answer(CLUSTER, PROTOCOL_VERSIONS[1], answer)))
            self._turn(address[1])
        if asking is not None:
            asking.answer(self.now, ticket, answer)
            self._turn(source)

    def _count(self, size: int) -> None:
        if self.counting:
            self.bytes += size


def measure(count: int, loss: float, seed: int, quiet: float, kills: int) -> Found:
    """One cluster: `quiet` seconds of peace, then `kills` deaths."""
    cluster = Cluster(count, loss, seed)
    cluster.run(WARM_UP_S)
    views = {sum(member.liveness is Liveness.ALIVE for member in e.members.values()) for e in cluster.engines.values()}
    if loss == 0 and views != {count}:
        raise SystemExit(f"bench: the members see {views} others after {WARM_UP_S} s, not {count}")
    cluster.counting = True
    cluster.run(WARM_UP_S + quiet)
    cluster.counting = False
    found = cluster.found
    found.member_hours = count * quiet / 3600
    found.bytes_per_second = cluster.bytes / quiet / count
    for _ in range(min(kills, count - 2)):
        name = cluster.kill()
        cluster.run(cluster.now + 40.0)
        times = cluster.known_dead.get(name, {})
        if len(times) < len(cluster.engines):
            raise SystemExit(f"bench: {len(cluster.engines) - len(times)} members do not know of a death after 40 s")
        found.first.append(min(times.values()) - cluster.dead[name])
        found.all.append(max(times.values()) - cluster.dead[name])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gossip", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[3, 10, 50, 100, 200])
    parser.add_argument("--loss", type=float, nargs="*", default=[0.0, 0.05, 0.2])
    options = parser.parse_args()
    heads = (
        "members",
        "loss",
        "first knows",
        "worst",
        "all know",
        "worst",
        "suspected",
        "dead in vain",
        "B/s a member",
    )
    print(f"| {' | '.join(heads)} |\n|{'---:|' * len(heads)}")
    for count in options.sizes:
        runs, quiet, kills = (12, 600.0, 1) if count < 10 else (4, 300.0, 4) if count < 50 else (1, 60.0, 4)
        for loss in options.loss:
            found = [measure(count, loss, seed, quiet, kills) for seed in range(1, runs + 1)]
            first = [time for one in found for time in one.first]
            everybody = [time for one in found for time in one.all]
            hours = sum(one.member_hours for one in found)
            fields = (
                f"{count}",
                f"{100 * loss:.0f} %",
                f"{statistics.median(first):.1f} s",
                f"{max(first):.1f} s",
                f"{statistics.median(everybody):.1f} s",
                f"{max(everybody):.1f} s",
                f"{sum(one.suspicions for one in found) / hours:.1f} /h",
                f"{sum(one.false_deaths for one in found) / hours:.1f} /h",
                f"{statistics.mean(one.bytes_per_second for one in found):.0f}",
            )
            print(f"| {' | '.join(fields)} |", flush=True)


if __name__ == "__main__":
    main()
