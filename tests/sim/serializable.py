"""Could transactions on lists have happened one after another, each between its call and its reply? (Kingsbury and
Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", 2020.)

Every transaction appends an id of its own to some lists, and reads lists as a whole. So what a list is at last says in
which order its transactions wrote it, and how much of it one has read says between which of those it came. Who must
have happened before whom is an edge: a list's writer before its next writer, and before whoever has read it; whoever
has read it before the next writer; who was answered before who was called; who was sent before on the same connection,
of one list. Whatever happened one after another has no cycle.

Time is a chain of ticks, one for each reply: a transaction comes before the tick of its reply, and behind the last tick
before its call. That makes as many edges as there are transactions, not as there are pairs of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Final, TypeAlias

Ids: TypeAlias = Sequence[bytes]
FOUND_MAX: Final = 5
"""So many violations are told of one history."""
STARTS_MAX: Final = 50
"""A short cycle is looked for from so many transactions."""


@dataclass(slots=True, eq=False)
class Appending:
    """A transaction, a script or a single command: it appends its id to some lists, and has read some."""

    id: bytes
    invoked: float
    returned: float = inf
    done: bool | None = True
    """False: it did not happen; None: nobody knows."""
    appends: Sequence[bytes] = ()
    reads: Mapping[bytes, Ids] = field(default_factory=dict)
    """Lists as they were then, with its own id where it has appended that."""
    watched: Mapping[bytes, Ids] = field(default_factory=dict)
    """Lists as they were behind WATCH, of a transaction that was not aborted for that."""
    connection: int = 0
    """0: one of its own."""
    order: int = 0
    one_of: bool = False
    """It appends to one of these lists, whichever it is, not to all of them."""
    what: str = ""
    """How it was asked for, for people."""

    def __str__(self) -> str:
        touched = b" ".join(sorted({*self.appends, *self.reads})).decode()
        until = "?" if self.returned == inf else f"{self.returned:.4f}"
        return f"{self.what or 'transaction'} {self.id.decode()} of {touched} ({self.invoked:.4f} to {until} s)"


def violations(operations: Sequence[Appending], final: Mapping[bytes, Ids]) -> list[str]:
    """What cannot be, in words; nothing if it all can. `final`: what the lists are after everything."""
    return (_of_lists(operations, final) or _of_reads(operations, final) or _of_order(operations, final))[:FOUND_MAX]


def _of_lists(operations: Sequence[Appending], final: Mapping[bytes, Ids]) -> list[str]:
    """What the lists are at last, and what was promised."""
    wrong: list[str] = []
    known = {op.id: op for op in operations if op.appends}
    for key, ids in final.items():
        wrong += [f"{name!r} is in {key!r} {count} times" for name, count in Counter(ids).items() if count > 1]
        wrong += [
            f"nobody appended {name!r} to {key!r}"
            for name in ids
            if name not in known or key not in known[name].appends
        ]
    kept = {key: set(ids) for key, ids in final.items()}
    for op in operations:
        shown = [key for key in op.appends if op.id in kept.get(key, ())]
        if shown and op.done is False:
            wrong.append(f"what did not happen shows in {shown}: {op}")
        elif shown and len(shown) < (1 if op.one_of else len(op.appends)):
            wrong.append(f"half a transaction, in {shown} alone: {op}")
        elif len(shown) > 1 and op.one_of:
            wrong.append(f"more than was asked for, in {shown}: {op}")
        elif op.appends and not shown and op.done:
            wrong.append(f"what was acknowledged is missing: {op}")
    return wrong


def _of_reads(operations: Sequence[Appending], final: Mapping[bytes, Ids]) -> list[str]:
    """What was read, each by itself."""
    wrong: list[str] = []
    for op in operations:
        for key, ids in op.reads.items():
            if list(final.get(key, ())[: len(ids)]) != list(ids):
                wrong.append(
                    f"{key!r} never was what it was read as: {op} has {_ends(ids)}, at last {_ends(final[key])}"
                )
            elif key in op.appends and op.id not in ids[-1:]:
                wrong.append(f"{op} does not see what it has appended to {key!r}")
        for key, ids in op.watched.items():
            now = op.reads.get(key)
            if now is not None and list(now[: len(now) - (key in op.appends)]) != list(ids):
                wrong.append(f"{key!r} had changed since WATCH: {op}")
    return wrong


def _ends(ids: Ids) -> str:
    return b" ".join(ids if len(ids) <= 8 else [*ids[:3], b"...", *ids[-4:]]).decode()


def _of_order(operations: Sequence[Appending], final: Mapping[bytes, Ids]) -> list[str]:
    shown = {name for ids in final.values() for name in ids}
    nodes = [op for op in operations if (op.id in shown if op.appends else op.done)]
    edges = _edges(nodes, final)
    cycle = _cycle(edges, len(nodes))
    if not cycle:
        return []
    steps = [f"{nodes[node]}, {why}" for node, why in cycle if node < len(nodes)]
    return ["not one after another: " + "; ".join([*steps, "and so on"])]


Edges: TypeAlias = list[list[tuple[int, str]]]
"""By node: who comes later, and why. Transactions first, then ticks."""


def _edges(nodes: Sequence[Appending], final: Mapping[bytes, Ids]) -> Edges:
    replies = sorted([(op.returned, node) for node, op in enumerate(nodes) if op.returned != inf])
    times = [time for time, _ in replies]
    edges: Edges = [[] for _ in range(len(nodes) + len(replies))]
    for place, (_, node) in enumerate(replies):
        tick = len(nodes) + place
        edges[node].append((tick, "which is answered before"))
        if place:
            edges[tick - 1].append((tick, ""))
    for node, op in enumerate(nodes):
        before = bisect_left(times, op.invoked)
        if before:
            edges[len(nodes) + before - 1].append((node, ""))
    writers = {op.id: node for node, op in enumerate(nodes) if op.appends}
    order = {key: [writers[name] for name in ids] for key, ids in final.items()}
    for key, wrote in order.items():
        for one, other in pairwise(wrote):
            edges[one].append((other, f"which writes {key.decode()} before"))
    for node, op in enumerate(nodes):
        for key, ids in op.reads.items():
            if key in op.appends:
                continue
            wrote, count = order.get(key, []), len(ids)
            if count:
                edges[wrote[count - 1]].append((node, f"whose {key.decode()} is seen by"))
            if count < len(wrote):
                edges[node].append((wrote[count], f"which reads {key.decode()} without"))
    sent = sorted([(op.connection, op.order, node) for node, op in enumerate(nodes) if op.connection and not op.one_of])
    last: dict[tuple[int, bytes], int] = {}
    for connection, _, node in sent:
        for key in {*nodes[node].appends, *nodes[node].reads}:
            before = last.get((connection, key), -1)
            if before >= 0:
                edges[before].append((node, f"which is sent before, of {key.decode()},"))
            last[connection, key] = node
    return edges


def _cycle(edges: Edges, count: int) -> list[tuple[int, str]]:
    """A short cycle, as nodes with what leads from each to the next; empty if there is none. The first `count` nodes
    are counted, ticks are not."""
    left = _peeled(edges)
    starts = [node for node in sorted(left) if node < count][:STARTS_MAX]
    cycles = [cycle for start in starts if (cycle := _from(edges, left, start, count))]
    return min(cycles, key=lambda cycle: sum(node < count for node, _ in cycle), default=[])


def _peeled(edges: Edges) -> set[int]:
    """Nodes without those that have nobody before them, or nobody behind them, over and over."""
    left = set(range(len(edges)))
    for graph in (_targets(edges), _reversed(edges)):
        incoming = Counter(target for node in left for target in graph[node] if target in left)
        free = [node for node in left if not incoming[node]]
        while free:
            node = free.pop()
            left.discard(node)
            for target in graph[node]:
                incoming[target] -= 1
                if not incoming[target] and target in left:
                    free.append(target)
    return left


def _targets(edges: Edges) -> list[list[int]]:
    return [[target for target, _ in out] for out in edges]


def _reversed(edges: Edges) -> list[list[int]]:
    back: list[list[int]] = [[] for _ in edges]
    for node, out in enumerate(edges):
        for target, _ in out:
            back[target].append(node)
    return back


def _from(edges: Edges, left: set[int], start: int, count: int) -> list[tuple[int, str]]:
    """The shortest way from a node to itself, where ticks are no steps."""
    came: dict[int, tuple[int, str]] = {}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        for target, why in edges[node]:
            if target == start:
                way = [(node, why)]
                while way[-1][0] != start:
                    way.append(came[way[-1][0]])
                return way[::-1]
            if target in left and target not in came:
                came[target] = node, why
                if target < count:
                    waiting.append(target)
                else:
                    waiting.appendleft(target)
    return []
