"""One seed: a cluster, clients, faults, and what must hold of it afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Any, Final
from unittest.mock import patch

from peerkv.agreement import handout, journal
from peerkv.commands.table import find, keys_of
from peerkv.commands.transactions import ABORTED, is_record, transaction_of
from peerkv.kernel import batches
from peerkv.resp import Reply, ReplyError
from peerkv.ring.topology import Topology
from peerkv.settings import Settings
from peerkv.store import values
from peerkv.store.values.held import Held
from peerkv.transactions import settling
from tests.sim.burst import Load
from tests.sim.caching import Caching
from tests.sim.checker import Violation
from tests.sim.clients import NOTHING_DONE, Client, Scanner, operations_of
from tests.sim.history import GaveUp, Operation, histories, violation
from tests.sim.jobs import Outcome, Worker
from tests.sim.observing import SETTING, Observing
from tests.sim.requests import Request, whole_of
from tests.sim.strikes import Strikes
from tests.sim.transactions import Transactions
from tests.sim.waiting import Waiting
from tests.sim.world import FOLLOW_LEAST, SLOTS, Connection, Host, World

CLIENTS: Final = 6
WORKERS: Final = (3, 0.1)
"""Clients that ask for transactions, and how long they think between two, about; ..."""
CROWD: Final = (10, 0.03)
"""... and where there are no others."""
BURST_S: Final = 1.0
BURST_CLIENTS: Final = (40, 80)
BURST_KEYS: Final = 500
SETTLE_S: Final = 25.0
HEALTHY_WITHIN_S: Final = 90.0
"""After the last fault: all copies back, all digests equal, no tombstone."""
DATA_MAX: Final = 9
FORGET_AFTER_S: Final = 8.0
ABORT_KEPT_MS: Final = 30_000
"""Longer than anybody tries to have a transaction happen, and stands still while it does."""
FINAL: Final = 900
"""Numbers of clients that look in the end begin here, ..."""
FINAL_S: Final = 3.0
"""... and so long they have for it, at most."""
READ_S: Final = 5.0
"""Reads of all keys there ever were are answered within this."""


@dataclass
class Result:
    """What a seed has shown."""

    seed: int
    operations: int = 0
    unknown: int = 0
    refused: int = 0
    transactions: int = 0
    """That were done, and ..."""
    aborted: int = 0
    """... that were not, as something that they watched had changed."""
    waits: int = 0
    """For elements, that ended with one or without."""
    told: int = 0
    """Changes of which subscribers were to be told."""
    kept: int = 0
    """Looks at what a client keeps that found it as it is, ..."""
    outdated: int = 0
    """... or as it was, so that the client was to be told."""
    gave_up: int = 0
    faults: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Scenario:
    """A seed's cluster, its load and its faults."""

    def __init__(
        self, seed: int, seconds: float, slots: int = SLOTS, *, tracing: bool = False, crowded: bool = False
    ) -> None:
        """`crowded`: all clients ask for transactions, on few keys."""
        self.world = World(seed, slots, tracing=tracing)
        self.result = Result(seed)
        self.seconds = seconds
        self.over = False
        self.operations: list[Operation] = []
        self.keys: set[bytes] = set()
        """All that were ever named."""
        rng = self.world.rng
        self.data = rng.choice((3, 3, 3, 4, 5, 6))
        self.favourite = ""
        """The node that every client goes to if it can: homes follow."""
        self.quiet = rng.random() < 0.1
        self.master = rng.random() < 0.75
        self.flushes = rng.random() < 0.15
        """Clients send FLUSHALL; otherwise one scans."""
        self.scans = not self.flushes
        self.crowded = crowded
        if crowded:
            self.scans = self.flushes = False
        self.small = rng.random() < 0.5
        """Bounds of bytes are small; see `run_seed`."""
        self.placed = rng.random() < 0.3
        """Nodes have zones and weights."""
        self.world.forget_after = FORGET_AFTER_S
        self.strikes = Strikes(self)
        self.transactions: Transactions | None = None
        self.atomic = crowded and seed % 2 == 1
        """MGET, MSET and DEL are transactions."""
        if crowded or (seed % 2 == 0 and not self.flushes):
            self.transactions = Transactions(Random(seed), few=crowded, atomic=self.atomic)
        self.streams = seed % 4 == 3
        """Clients have streams, too."""
        self.dumped: dict[bytes, bytes] = {}
        """Payloads of DUMP, by the first two bytes of the keys that they are of."""
        self.bursts = not crowded and seed % 19 == 5
        """Before the faults there is a burst."""
        self.bursting = False
        """It is under way, and nothing else happens to a node."""
        self.waiting = Waiting() if seed % 3 == 0 and not self.flushes else None
        self.observing = Observing() if seed % 11 == 5 and not (crowded or self.flushes) else None
        self.caching = Caching() if seed % 17 == 14 and not crowded else None

    def connect(self, rng: Random, favourite: str = "") -> Connection | None:
        """A client's connection to that node if it can be, or to any."""
        names = list(self.world.hosts)
        rng.shuffle(names)
        for name in [favourite, *names] if favourite else names:
            connection = self.world.connect(name)
            if connection is not None:
                return connection
        return None

    def named(self, request: Request) -> None:
        """A client is about to send this."""
        row = find(request[0])
        if row is not None:
            self.keys.update(keys_of(row, request))

    def record(self, request: Request, invoked: float, reply: Reply, place: tuple[int, int]) -> None:
        """What came of a request. `place`: its connection, and its order there."""
        result = self.result
        result.operations += 1
        returned = self.world.now
        parts = operations_of(request, invoked, returned, reply, place)
        if isinstance(reply, ReplyError):
            undone = reply.text.startswith(NOTHING_DONE)
            if undone:
                result.refused += 1
            if undone and len(parts) == 1 and request != (b"FLUSHALL",):
                return
            if undone or reply.text.startswith("UNCERTAIN"):
                result.unknown += not undone
                parts = [replace(op, returned=inf) for op in parts if not op.reads]
        self.operations += parts

    def run(self) -> Result:
        try:
            with self.waiting.heard() if self.waiting is not None else contextlib.nullcontext():
                self._run()
        except Violation as violation:
            self.result.problems.append(f"at {self.world.now:.4f} s: {violation}")
        return self.result

    def _run(self) -> None:
        world = self.world
        world.cluster(self.data, master=self.master, place=self._place)
        world.run(4.0)
        ready = [host.node is not None and host.node.ready for host in world.hosts.values()]
        if not all(ready):
            self.result.problems.append("the cluster was not born within 4 s")
            return
        for number in range(0 if self.crowded else CLIENTS):
            world.after(0.01, Client(self, number).act)
        if self.transactions is not None:
            count, think_s = CROWD if self.crowded else WORKERS
            for number in range(count):
                world.after(0.01, Worker(self, self.transactions, number, think_s).act)
        if self.waiting is not None:
            self.waiting.begin(self)
        if self.observing is not None:
            self.observing.begin(self)
        if self.caching is not None:
            self.caching.begin(self)
        if self.scans:
            world.after(0.0, Scanner(self).begin)
        if self.bursts:
            self._burst()
        if not self.quiet:
            self._schedule_fault()
        world.run(world.now + self.seconds)
        self._calm()
        world.run(world.now + SETTLE_S)
        until = world.now + HEALTHY_WITHIN_S
        while (wrong := self._unhealthy()) and world.now < until:
            world.run(world.now + 2.0)
        self.result.problems += wrong[:3]
        self._read_everything()
        if self.transactions is not None:
            self._end_transactions(self.transactions)
        if self.waiting is not None:
            self._end_waiting(self.waiting)
        if self.observing is not None:
            self._end_observing(self.observing)
        if self.caching is not None:
            self._end_caching(self.caching)
        for keys, history in histories(self.operations).items():
            self._judge(keys, history)

    def _burst(self) -> None:
        """Far more than a healthy cluster can do at once comes beside what the other clients ask for."""
        load = Load(self.world, Random(self.world.rng.getrandbits(64)), BURST_CLIENTS, BURST_KEYS)
        self.world.trace(f"FAULT a burst: {load.text}")
        self.bursting = True
        load.run(BURST_S)
        self.bursting = False
        self.result.operations += load.result.operations
        self.result.problems += load.result.problems

    def _ends(self, load: Transactions | Waiting) -> list[Outcome]:
        """What every node says of all there is."""
        world = self.world
        ends: list[Outcome] = []
        for number, (name, host) in enumerate(world.hosts.items()):
            if host.node is not None:
                found: list[Outcome] = []
                worker = Worker(self, load, FINAL + number, inf)
                worker.at_last(name, load.final(worker), found.append)
                world.run_until(found.__len__, FINAL_S)
                ends += found
                if not found:
                    self.result.problems.append(f"{name} has not answered in the end")
        return ends

    def _end_transactions(self, load: Transactions) -> None:
        """Every node says what it has come to; then it is judged."""
        result = self.result
        load.judge(self._ends(load))
        result.problems += load.problems
        if self.quiet:
            result.problems += load.refusals
        result.operations += sum(load.outcomes.values())
        result.transactions, result.aborted = load.outcomes[True], load.aborted
        result.refused += load.outcomes[False] - load.aborted
        result.unknown += load.outcomes[None]

    def _end_waiting(self, load: Waiting) -> None:
        """Those who still wait get something; every node says what is left; then it is judged."""
        load.taken_in_the_end(self)
        load.judge(self, self._ends(load))
        self.result.problems += load.problems
        if self.quiet:
            self.result.problems += load.refusals
        self.result.waits = load.pops + load.nils

    def _end_observing(self, load: Observing) -> None:
        load.judge(self)
        self.result.problems += load.problems
        if self.quiet:
            self.result.problems += load.refusals
        self.result.told = sum([change.done is True for change in load.changes.values()])

    def _end_caching(self, load: Caching) -> None:
        load.judge(self)
        self.result.problems += load.problems
        if self.quiet:
            self.result.problems += load.refusals
        self.result.kept, self.result.outdated = load.fresh, load.stale

    def commits(self, host: Host) -> None:
        """A node is about to be asked for a transaction."""
        self.strikes.begins(host)

    def _place(self) -> dict[str, Any]:
        """A node's place among the others."""
        rng = self.world.rng
        place = {"zone": rng.choice("abc"), "weight": rng.choice((1, 1, 2, 5))} if self.placed else {}
        return {
            **place,
            "atomic_multi_key": self.atomic,
            "notify_keyspace_events": SETTING if self.observing is not None else "",
        }

    def _judge(self, keys: tuple[bytes, ...], history: list[Operation]) -> None:
        try:
            broken = violation(history)
        except GaveUp:
            self.result.gave_up += 1
            return
        if broken is None:
            return
        try:
            alone = violation([replace(op, connection=0) for op in history])
        except GaveUp:
            alone = None
        what = "in the order of sending" if alone is None else "linearizable"
        self.result.problems.append(f"{keys} is not {what} at {broken}")

    # -- faults

    def _schedule_fault(self) -> None:
        self.world.after(self.world.rng.expovariate(1 / 3.0), self._fault)

    def _fault(self) -> None:
        if self.over:
            return
        rng = self.world.rng
        kind: Callable[[], str] = rng.choice(
            (
                self._pause,
                self._pause,
                self._pause_several,
                self._slow_down,
                self._jump,
                self._worsen_path,
                self._isolate,
                self._one_way,
                self._cut_pair,
                self._storm,
                self._kill,
                self._kill,
                self._start,
                self._start,
                self._join,
                self._leave,
                self._master,
                self._favour,
                self._favour,
            )
        )
        text = kind() if self._live() else ""
        if text:
            self.world.trace(f"FAULT {text}")
            self.result.faults.append(text)
        self._schedule_fault()

    def _live(self) -> list[str]:
        return [name for name, host in self.world.hosts.items() if host.node is not None and not host.paused]

    def _pause(self) -> str:
        return self.stop_for(self.world.rng.choice((0.02, 0.1, 0.5, 2.0, 6.0)), [self.world.rng.choice(self._live())])

    def _pause_several(self) -> str:
        """A machine stops, or all of them (a snapshot, a host that is moved)."""
        rng = self.world.rng
        live = self._live()
        return self.stop_for(rng.choice((0.1, 0.5, 2.0)), rng.sample(live, rng.randint(1, len(live))))

    def stop_for(self, seconds: float, names: list[str]) -> str:
        world = self.world
        for name in names:
            host = world.hosts[name]
            host.paused = True
            world.after(seconds, lambda host=host: host.resume() if host.paused else None)
        return f"{', '.join(names)} stand still for {seconds} s"

    def _slow_down(self) -> str:
        """A machine has little time for its node: turns take long, and queues grow."""
        world = self.world
        name = world.rng.choice(self._live())
        host = world.hosts[name]
        host.unit_s = world.rng.choice((1e-4, 5e-4, 2e-3))
        seconds = world.rng.choice((1.0, 5.0))
        world.after(seconds, setattr, host, "unit_s", 0.0)
        return f"{name} takes {host.unit_s * 1000} ms for a command, for {seconds} s"

    def _jump(self) -> str:
        """A machine that was suspended goes on with a clock that was not; less than what expiry may be wrong by."""
        world = self.world
        name = world.rng.choice(self._live())
        seconds = world.rng.choice((0.01, 0.1))
        world.hosts[name].jump(seconds)
        return f"the clock of {name} goes forward by {seconds} s"

    def _worsen_path(self) -> str:
        world = self.world
        one, other = world.rng.sample(list(world.hosts), 2)
        bad = world.rng.choice((0.0, 0.1, 0.3)), world.rng.choice((0.0, 0.02, 0.1))
        paths = world.rng.choice(([(one, other)], [(one, other), (other, one)]))
        world.paths.update(dict.fromkeys(paths, bad))
        seconds = world.rng.choice((1.0, 5.0, 20.0))
        world.after(seconds, lambda: [world.paths.pop(path, None) for path in paths])
        return f"{len(paths)} paths of {one} and {other}: loss {bad[0]}, latency {bad[1]} for {seconds} s"

    def _cut(self, cuts: set[tuple[str, str]], text: str) -> str:
        world = self.world
        if world.cuts:
            return ""
        seconds = world.rng.choice((0.1, 1.0, 4.0, 10.0))
        world.cuts |= cuts
        world.after(seconds, world.heal)
        return f"{text} for {seconds} s"

    def _isolate(self) -> str:
        return self.isolate(self.world.rng.choice(list(self.world.hosts)))

    def isolate(self, name: str) -> str:
        others = [other for other in self.world.hosts if other != name]
        return self._cut({(name, o) for o in others} | {(o, name) for o in others}, f"{name} is cut off")

    def _one_way(self) -> str:
        name = self.world.rng.choice(list(self.world.hosts))
        others = [other for other in self.world.hosts if other != name]
        if self.world.rng.random() < 0.5:
            return self._cut({(name, o) for o in others}, f"nobody hears {name}")
        return self._cut({(o, name) for o in others}, f"{name} hears nobody")

    def _cut_pair(self) -> str:
        one, other = self.world.rng.sample(list(self.world.hosts), 2)
        return self._cut({(one, other), (other, one)}, f"{one} and {other} are cut apart")

    def _storm(self) -> str:
        world = self.world
        world.loss = world.rng.choice((0.0, 0.1, 0.4))
        world.duplication = world.rng.choice((0.0, 0.2))
        world.latency = world.rng.choice((0.0002, 0.0005, 0.005, 0.02))
        return f"loss {world.loss}, duplication {world.duplication}, latency {world.latency}"

    def _topology(self) -> Topology | None:
        """The newest that anybody knows."""
        known = [h.node.topology for h in self.world.hosts.values() if h.node is not None and h.node.topology]
        return max(known, key=lambda topology: topology.epoch, default=None)

    def expendable(self) -> Topology | None:
        """The topology, if any one member may be killed: all of them live, and no change is under way."""
        topology = self._topology()
        living = {host.node.process for host in self.world.hosts.values() if host.node is not None}
        if topology is None or topology.is_joint or len(topology.members) < 3:
            return None
        return topology if all(member.process in living for member in topology.members) else None

    def _kill(self) -> str:
        """A data node loses its memory, if a majority of every slot's owners keeps theirs: all members live, and no
        change is under way."""
        world = self.world
        topology = self.expendable()
        if topology is None:
            return ""
        host = world.by_process[world.rng.choice(topology.members).process]
        name = host.settings.name
        host.kill()
        if world.rng.random() < 0.5:
            world.after(world.rng.uniform(0.05, 12), lambda: host.start() if host.node is None else None)
        return f"{name} is killed"

    def _start(self) -> str:
        """A node that was killed, or has left, comes back empty."""
        dead = [name for name, host in self.world.hosts.items() if host.node is None and name != "master"]
        if not dead:
            return ""
        name = self.world.rng.choice(dead)
        self.world.hosts[name].start()
        return f"{name} starts empty"

    def _join(self) -> str:
        world = self.world
        count = world.rng.choice((1, 1, 2, 3))
        names = []
        for _ in range(count):
            number = max(host.settings.port for host in world.hosts.values()) - 6999
            if number > DATA_MAX:
                break
            seeds = tuple(("127.0.0.1", host.settings.port) for host in world.hosts.values())
            name = f"db{number}"
            world.add(
                Settings(
                    name=name,
                    port=7000 + number,
                    seeds=seeds,
                    forget_after=FORGET_AFTER_S,
                    follow_least=FOLLOW_LEAST,
                    slots=world.slots,
                    **self._place(),
                )
            )
            names.append(name)
        return f"{', '.join(names)} join" if names else ""

    def _leave(self) -> str:
        world = self.world
        staying = [
            name
            for name, host in world.hosts.items()
            if host.node is not None and not host.node.leaving and not host.paused and name != "master"
        ]
        if len(staying) < 3:
            return ""
        name = world.rng.choice(staying)
        node = world.hosts[name].node
        assert node is not None, "it was staying"
        world.hosts[name].input(node.drain)
        return f"{name} leaves"

    def _favour(self) -> str:
        """The load comes through one node, or through all again."""
        names = [name for name in self.world.hosts if name != self.favourite]
        self.favourite = self.world.rng.choice([*names, ""])
        return f"the clients go to {self.favourite or 'any node'}"

    def _master(self) -> str:
        host = self.world.hosts.get("master")
        if host is None:
            return ""
        if host.node is None:
            host.start()
            return "master starts"
        host.kill()
        return "master is killed"

    def _calm(self) -> None:
        world = self.world
        self.over = True
        world.loss = world.duplication = 0.0
        world.latency = 0.0005
        world.paths.clear()
        world.heal()
        for host in world.hosts.values():
            host.unit_s = 0.0
            if host.paused:
                host.resume()

    # -- afterwards

    def _unhealthy(self) -> list[str]:
        """What is still wrong with the cluster: who is no member, which copies are missing or differ."""
        world = self.world
        topology = self._topology()
        if topology is None:
            return ["nobody knows a topology"]
        living = {h.node.process: n for n, h in world.hosts.items() if h.node is not None and n != "master"}
        wrong: list[str] = []
        if topology.is_joint:
            wrong.append(f"a change is not finished: {topology.epoch}")
        members = {member.process for member in topology.members}
        if members != living.keys():
            names = sorted(member.name for member in topology.members)
            wrong.append(f"members are {names}, alive are {sorted(living.values())}")
        for name, host in world.hosts.items():
            if host.node is not None and host.node.view.epoch != topology.epoch:
                wrong.append(f"{name} is in epoch {host.node.view.epoch}, not {topology.epoch}")
        if wrong:
            return wrong
        copies: dict[int, dict[str, tuple[int, int, int]]] = {}
        for name in living.values():
            node = world.hosts[name].node
            assert node is not None, "it lives"
            for slot, state in node.slots_state().items():
                copies.setdefault(slot, {})[name] = state
        count = min(topology.replicas, len(topology.members))
        for slot in range(world.slots):
            held = copies.get(slot, {})
            if len(held) != count:
                wrong.append(f"slot {slot} has {len(held)} copies, not {count}")
            elif len({state[:2] for state in held.values()}) > 1:
                wrong.append(f"copies of slot {slot} differ: {held}")
            elif any(state[2] for state in held.values()):
                wrong.append(f"tombstones of slot {slot} stay: {held}")
        return wrong or self._left_of_transactions()

    def _left_of_transactions(self) -> list[str]:
        """Keys that are held, and records; but for those of aborts whose coordinators are gone, which stay for long."""
        if self.transactions is None and self.waiting is None:
            return []
        living = {host.node.process for host in self.world.hosts.values() if host.node is not None}
        return [
            f"{name} still has {'a hold of' if isinstance(cell[1], Held) else 'the record'} {key!r}"
            for name, host in self.world.hosts.items()
            if host.node is not None
            for cells in host.node.view.copies.cells
            for key, cell in cells.items()
            if isinstance(cell[1], Held)
            or (cell[1] is not None and is_record(key) and (cell[1] != ABORTED or transaction_of(key)[0] in living))
        ]

    def _read_everything(self) -> None:
        """Every key from every node; what they say belongs to the history."""
        for name in self.world.hosts:
            connection = self.world.connect(name)
            if connection is not None:
                self._read_all(name, connection)

    def _read_all(self, name: str, connection: Connection) -> None:
        world = self.world
        keys = sorted(self.keys)
        replies: list[Reply] = []
        connection.on_reply = replies.append
        began = world.now
        connection.send(*map(whole_of, keys))
        world.run_until(lambda: len(replies) == len(keys), READ_S)
        if len(replies) < len(keys):
            self.result.problems.append(f"{name} has answered {len(replies)} of {len(keys)} reads")
        for key, reply in zip(keys, replies, strict=False):
            if isinstance(reply, ReplyError) and not reply.text.startswith("WRONGTYPE"):
                self.result.problems.append(f"{name} says to a read of {key!r}: {reply.text}")
            else:
                self.operations.append(Operation(began, world.now, whole_of(key), reply))


def run_seed(seed: int, seconds: float, slots: int = SLOTS, *, tracing: bool = False, crowded: bool = False) -> Result:
    """Run one seed for so many virtual seconds of faults; in some of them what is bounded by MiB is so by kB.
    `crowded`: all clients ask for transactions, on few keys."""
    scenario = Scenario(seed, seconds, slots, tracing=tracing, crowded=crowded)
    with _small(scenario.world.rng) if scenario.small else contextlib.nullcontext(), _sooner():
        return scenario.run()


@contextlib.contextmanager
def _sooner() -> Iterator[None]:
    """What a node that has died may have decided is not remembered for as long as in the world."""
    with patch.object(settling, "ABORT_KEPT_MS", ABORT_KEPT_MS):
        yield


@contextlib.contextmanager
def _small(rng: Random) -> Iterator[None]:
    """Copies go in many pages, values in many parts, journals soon do not know any more what somebody missed, and no
    reply is too short for a recipe."""
    bounds = {
        (handout, "PAGE_BYTES_MAX"): rng.choice((600, 3000)),
        (values, "PART_BYTES"): rng.choice((40, 500)),
        (journal, "BYTES_MAX"): rng.choice((0, 20_000, 200_000)),
        (journal, "ROWS_MAX"): rng.choice((1, 5, 2048)),
        (batches, "RECIPE_BYTES"): 1,
    }
    before = {place: getattr(*place) for place in bounds}
    for (room, name), bound in bounds.items():
        setattr(room, name, bound)
    try:
        yield
    finally:
        for (room, name), bound in before.items():
            setattr(room, name, bound)
