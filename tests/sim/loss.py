"""Any number of nodes is killed at once and restarted empty, at any time: what may be lost is, nothing else, and every
cluster comes back.

killed together, restarted empty: 1 .. all data nodes, also while others join, leave or are filled
    nobody has any of it   -> founded anew, by itself            every key may be gone
    a majority of a slot   -> `peerkv recover`, or recover=auto  its keys may be what any survivor held
    less                   -> goes on by itself                  nothing may be lost

A key that was in use when its slot was lost is judged up to there: it may be afterwards whatever any copy was. Keys go
out of use, and those that come into use later are judged like any others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from peerkv.ring.keys import slot_of
from peerkv.ring.topology import Topology
from peerkv.settings import Recover
from tests.sim.history import CLEAR, Operation
from tests.sim.scenario import FORGET_AFTER_S, Result, Scenario
from tests.sim.world import SLOTS, Host

OPERATOR_LOOKS_S: Final = 1.0
OPERATOR_WAITS_S: Final = 3.0
"""An operator acts once a cluster has been at a loss for so long."""
GRACE_S: Final = 12.0
"""After SIGTERM a node ends, whatever became of its share."""


@dataclass(frozen=True)
class Loss:
    """Something was given up."""

    at: float
    slots: frozenset[int]


class LossScenario(Scenario):
    """A seed whose faults take more from a cluster than it can always stand."""

    def __init__(self, seed: int, seconds: float, slots: int = SLOTS, *, tracing: bool = False) -> None:
        super().__init__(seed, seconds, slots, tracing=tracing)
        world, rng = self.world, self.world.rng
        self.quiet = self.scans = self.flushes = False
        self.waiting = None
        self.transactions = None  # what is lost of one of its slots may be half of one
        self.observing = None  # keys that were acknowledged may be gone
        self.losses: list[Loss] = []
        self.unasked = rng.random() < 0.25
        """Recoveries are nobody's decision."""
        world.recover = Recover.AUTO if self.unasked else Recover.ASK
        self._clusters: list[int] = []
        """Their ids, in the order in which they were born."""
        self._known: dict[int, dict[int, Topology]] = {}
        """By cluster and epoch."""
        self._at_a_loss_since = inf
        world.on_topology = self._entered
        world.after(OPERATOR_LOOKS_S, self._operate)

    # -- what was lost

    def _entered(self, host: Host) -> None:
        topology = host.topology
        if topology is None:
            return
        known = self._known.setdefault(topology.cluster_id, {})
        if topology.epoch in known:
            if known[topology.epoch] != topology:
                self.result.problems.append(
                    f"two topologies are epoch {topology.epoch}: {known[topology.epoch]}, {topology}"
                )
            return
        before = known[max(known)] if known else None
        known[topology.epoch] = topology
        if topology.cluster_id not in self._clusters:
            self._clusters.append(topology.cluster_id)
            if len(self._clusters) > 1:
                self._lose(range(self.world.slots), f"cluster {topology.cluster_id:x} is born")
        elif before is not None and topology.recoveries > before.recoveries:
            self._lose(_without_majority(before, topology), f"recovery {topology.recoveries}")

    def _lose(self, slots: range | list[int], what: str) -> None:
        self.losses.append(Loss(self.world.now, frozenset(slots)))
        self.world.trace(f"LOSS {what}: {len(slots)} slots")

    def _judge(self, keys: tuple[bytes, ...], history: list[Operation]) -> None:
        """Keys of slots that were lost while they were in use are judged up to there."""
        slots = {slot_of(key, self.world.slots - 1) for key in keys}
        began = min([op.invoked for op in history if op.request != CLEAR], default=0.0)
        lost = min([loss.at for loss in self.losses if loss.at >= began and slots & loss.slots], default=inf)
        early = [op for op in history if op.invoked < lost]
        super()._judge(keys, [op if op.returned < lost else replace(op, returned=inf) for op in early])

    # -- faults

    def _fault(self) -> None:
        if self.over:
            return
        # Who restarts together, and is as many as begin a cluster, must know of whoever else holds something: from the
        # master, that remembers, or because there is nobody else (docs/operating.md).
        more = (self._join,) if self.master else ()
        kind: Callable[[], str] = self.world.rng.choice(
            (
                *more,
                self._kill_together,
                self._kill_together,
                self._kill_together,
                self._stop_together,
                self._pause,
                self._isolate,
                self._cut_pair,
                self._storm,
                self._start,
                self._start,
                self._leave,
            )
        )
        text = kind()
        if text:
            self.world.trace(f"FAULT {text}")
            self.result.faults.append(text)
        self._schedule_fault()

    def _pause(self) -> str:
        return super()._pause() if self._live() else ""

    def _running(self) -> list[str]:
        return [name for name, host in self.world.hosts.items() if host.node is not None and name != "master"]

    def _chosen(self) -> list[str]:
        rng = self.world.rng
        names = self._running()
        count = rng.choice((1, 2, 2, 3, len(names)))
        return rng.sample(names, min(count, len(names)))

    def _kill_together(self) -> str:
        """Some lose their memory at once, or one after the other; most of them come back soon."""
        world, rng = self.world, self.world.rng
        names = self._chosen()
        spread = rng.choice((0.0, 0.5, 3.0))
        for name in names:
            died = world.now + rng.uniform(0, spread)
            world.at(died, self._kill_one, name)
            if rng.random() < 0.8:
                world.at(died + rng.choice((0.05, 0.5, 2.0, 6.0)), self._start_one, name)
        return f"{', '.join(names)} are killed within {spread} s" if names else ""

    def _kill_one(self, name: str) -> None:
        host = self.world.hosts[name]
        if host.node is not None and not self.over:
            host.kill()

    def _start_one(self, name: str) -> None:
        host = self.world.hosts[name]
        if host.node is None:
            host.start()

    def _stop_together(self) -> str:
        """Some get SIGTERM at once, and are started again once they have ended."""
        names = self._chosen()
        for name in names:
            self._terminate(name)
        return f"{', '.join(names)} get SIGTERM" if names else ""

    def _leave(self) -> str:
        names = self._running()
        if len(names) < 3:
            return ""
        name = self.world.rng.choice(names)
        self._terminate(name)
        return f"{name} leaves"

    def _terminate(self, name: str) -> None:
        world, host = self.world, self.world.hosts[name]
        node = host.node
        if node is None or node.leaving:
            return
        host.input(node.drain)

        def end() -> None:
            if host.node is node:
                host.go(node)

        world.after(GRACE_S, end)
        if world.rng.random() < 0.7:
            world.after(GRACE_S + world.rng.uniform(0.2, 3.0), self._start_one, name)

    def _operate(self) -> None:
        """Whoever looks after the cluster: starts what is missing, gives up what will not come back, and has the rest
        go on without what is lost."""
        world, rng = self.world, self.world.rng
        world.after(OPERATOR_LOOKS_S, self._operate)
        if self.over:
            for name in self.world.hosts:
                self._start_one(name)
        nodes = [host.node for host in world.hosts.values() if host.node is not None and not host.paused]
        bereft = [(node, found) for node in nodes if (found := node.steward.bereft) is not None]
        if not bereft:
            self._at_a_loss_since = inf
            return
        self._at_a_loss_since = min(self._at_a_loss_since, world.now)
        if world.now - self._at_a_loss_since < OPERATOR_WAITS_S:
            return
        node, found = rng.choice(bereft)
        host = world.by_process[node.process]
        for name in found.blocked_by:
            blocking = world.hosts[name]
            if blocking.node is None and rng.random() < 0.5:
                blocking.start()
            elif blocking.node is None:
                world.trace(f"OPERATOR forgets {name} at {node.settings.name}")
                host.input(lambda _now, name=name: node.give_up(name))
        if not found.blocked_by and not self.unasked:
            world.trace(f"OPERATOR recovers at {node.settings.name}: {found.slots.bit_count()} slots")
            host.input(lambda _now: node.steward.recover())

    def _calm(self) -> None:
        super()._calm()
        for name, host in self.world.hosts.items():
            if host.node is None:
                self.world.after(self.world.rng.uniform(0, 5), self._start_one, name)

    def _topology(self) -> Topology | None:
        """The newest that anybody knows, of the cluster that was born last."""
        known = [h.node.topology for h in self.world.hosts.values() if h.node is not None and h.node.topology]
        return max(known, key=lambda found: (self._clusters.index(found.cluster_id), found.epoch), default=None)


def _without_majority(before: Topology, after: Topology) -> list[int]:
    """Slots of which a majority of the owners is lost. The arithmetic is that of this file alone."""
    kinds, rows = before.kinds
    lost = [2 * len({*old} & after.out) > len(old) - len(old) % 2 for old, _, _ in rows]
    return [slot for slot, kind in enumerate(kinds) if lost[kind]]


def run_loss(seed: int, seconds: float, slots: int = SLOTS, *, tracing: bool = False) -> Result:
    """Run one seed for so many virtual seconds of faults."""
    assert FORGET_AFTER_S < GRACE_S, "who is leaving is not waited for"
    return LossScenario(seed, seconds, slots, tracing=tracing).run()
