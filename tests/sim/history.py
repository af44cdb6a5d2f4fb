"""Could Redis have such a history: linearizable, and in the order of each connection? (Wing and Gong, "Testing and
verifying concurrent objects", 1993.)

Events are gone through in order of time. A configuration is a state that the keys may be in, and which of the
operations under way have had their effect already; an operation that returns must have had its effect by then, with
that reply. Operations of unknown outcome stay under way: they may have their effect at any later time, or never. What
one connection sends takes effect in the order in which it is sent: an operation has its effect only after those that
the same connection sent before it, and one of unknown outcome that has had none by then never will.

What an operation does is what `commands` does, run on plain cells; so whatever can be run can be checked. Only time is
not exact: a deadline is a span.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeAlias

from peerkv.commands.table import Kind, find_part, keys_of
from peerkv.kernel.slot import Copies
from peerkv.resp import CommandError, Map, Named, NullArray, Pairs, Reply, Set, encode
from peerkv.store.cell import Cell
from peerkv.store.values import Collection, Patch, patched

CONFIGURATIONS_MAX: Final = 100_000
EXPIRY_SLACK_S: Final = 1.0
"""A key may outlive its deadline by this much (clocks differ, expiry is an operation itself), or die sooner by ..."""
EXPIRY_EARLY_S: Final = 0.3

NOW_MS: Final = 1 << 40
"""When commands are run, as far as they see."""
KEPT_MS: Final = 1 << 50
"""Deadlines beyond this stand for those that keys have; what a command makes of them is theirs."""

ANY: Final = object()
"""In place of a reply: done, whatever it said."""
CLEAR: Final = (b"PEERKV.CLEAR", b"", b"1000000")
"""What FLUSHALL does to every key."""

Frozen: TypeAlias = bytes | tuple[Patch, ...] | None
"""What a key holds; a collection as its parts."""
Value: TypeAlias = tuple[Frozen, float, float]
"""(value, from when it may have expired, when it must have); inf: it does not expire."""
ABSENT: Final[Value] = (None, inf, inf)
State: TypeAlias = tuple[Value, ...]
"""Of each key."""
Configuration: TypeAlias = tuple[int, State, frozenset[int]]
"""(how many operations have returned, the state, which of those under way have had their effect)"""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client asked for, of keys of one slot; `returned` inf: nobody knows whether it was done."""

    invoked: float
    returned: float
    request: tuple[bytes, ...]
    reply: Any = None
    connection: int = 0
    """That it was sent on; 0: on one of its own."""
    order: int = 0
    """Its place among all that was sent there; parts of one command have the same."""

    def __str__(self) -> str:
        words = b" ".join([word if len(word) <= 24 else word[:24] + b"..." for word in self.request])
        place = f" (connection {self.connection}, {self.order})" if self.connection else ""
        return f"{words!r} -> {self.reply!r:.40}, {self.invoked:.4f} to {self.returned:.4f} s{place}"

    @property
    def known(self) -> bool:
        return self.returned != inf

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, whatever it finds."""
        row = find_part(self.request[0])
        return row is not None and row.kind is Kind.READ

    @property
    def keys(self) -> Sequence[bytes]:
        row = find_part(self.request[0])
        assert row is not None, "clients ask for what there is"
        return keys_of(row, self.request)


class GaveUp(Exception):
    """Too many possibilities: no verdict."""


def histories(operations: Iterable[Operation]) -> dict[tuple[bytes, ...], list[Operation]]:
    """Operations by the keys that must be looked at together, as some operation concerns several of them."""
    leader: dict[bytes, bytes] = {}

    def find(key: bytes) -> bytes:
        leader.setdefault(key, key)
        while leader[key] != key:
            leader[key] = key = leader[leader[key]]
        return key

    clears: list[Operation] = []
    of_keys: list[tuple[bytes, Operation]] = []
    for op in operations:
        if op.request == CLEAR:
            clears.append(op)
            continue
        first, *others = op.keys
        for key in others:
            leader[find(key)] = find(first)
        of_keys.append((first, op))
        find(first)
    groups: dict[bytes, list[bytes]] = defaultdict(list)
    for key in leader:
        groups[find(key)].append(key)
    found: dict[bytes, list[Operation]] = defaultdict(list)
    for key, op in of_keys:
        found[find(key)].append(op)
    return {tuple(sorted(groups[key])): ops + clears for key, ops in found.items()}


def violation(operations: Iterable[Operation]) -> Operation | None:
    """The operation at which no linearization is left; None: the history is one that Redis could have. Raises
    GaveUp.

    Depth first, and an operation has its effect as late as it can: most histories are right, and then the first way
    that is tried is nearly always one.
    """
    ordered = sorted(operations, key=lambda op: (op.invoked, op.order))
    model = _Model(sorted({key for op in ordered if op.request != CLEAR for key in op.keys}), ordered)
    returns = _returns(ordered)
    first: Configuration = (0, model.empty, frozenset())
    seen = {first}
    ways = [first]
    furthest = 0
    while ways:
        place, state, done = ways.pop()
        furthest = max(furthest, place)
        if place == len(returns):
            return None
        index, under_way = returns[place]
        if index in done:
            steps = [(place + 1, state, done - {index})]
        else:
            at = ordered[index].returned
            steps = []
            for other, earlier in under_way.items():  # the one that returns comes last, and is tried first
                if other in done:
                    continue
                before = [op for op in earlier if op not in done]
                if not any(ordered[op].known for op in before):
                    had = done.union(before, (other,))
                    steps += [(place, after, had) for after in model.effects(state, other, at)]
        for step in steps:
            if step not in seen:
                seen.add(step)
                ways.append(step)
        if len(seen) > CONFIGURATIONS_MAX:
            raise GaveUp
    return ordered[returns[furthest][0]]


def _returns(ordered: list[Operation]) -> list[tuple[int, dict[int, list[int]]]]:
    """Operations that return, in order, and what is under way then (themselves last), with those of it that the same
    connection sent earlier."""
    events = sorted(
        [(op.invoked, 0, index) for index, op in enumerate(ordered)]
        + [(op.returned, 1, index) for index, op in enumerate(ordered) if op.known]
    )
    pending: dict[int, None] = {}
    returns: list[tuple[int, dict[int, list[int]]]] = []
    for _, kind, index in events:
        if kind == 0:
            pending[index] = None
            continue
        earlier = _earlier(ordered, pending)
        last = earlier.pop(index)
        returns.append((index, {**earlier, index: last}))
        del pending[index]
    return returns


def _earlier(ordered: list[Operation], pending: Iterable[int]) -> dict[int, list[int]]:
    """For each of these operations, in order, those among them that its connection sent before it."""
    sent: dict[int, list[int]] = {}
    earlier: dict[int, list[int]] = {}
    for index in pending:
        op = ordered[index]
        before = sent.setdefault(op.connection, []) if op.connection else []
        earlier[index] = [other for other in before if ordered[other].order < op.order]
        before.append(index)
    return earlier


class _Model:
    """Redis, as `commands` has it, for some keys."""

    def __init__(self, keys: list[bytes], operations: list[Operation]) -> None:
        self.operations = operations
        self.empty: State = (ABSENT,) * len(keys)
        self._keys = keys
        self._places = {key: place for place, key in enumerate(keys)}
        self._runs = [_run_of(op.request) for op in operations]
        self._known: dict[tuple[State, int], State | None] = {}

    def effects(self, state: State, index: int, now: float) -> Iterator[State]:
        """States that the operation may leave, if it can have answered what it did and has its effect before `now`."""
        for start in _starts(state, self.operations[index].invoked, now):
            try:
                after = self._known[start, index]
            except KeyError:
                after = self._known[start, index] = self._after(start, index)
            if after is not None:
                yield after

    def _after(self, state: State, index: int) -> State | None:
        """The state behind the operation; None if it would have answered something else."""
        op = self.operations[index]
        cells: dict[bytes, Cell] = {
            key: (1, thawed(value), KEPT_MS + place if early != inf else 0)
            for place, (key, (value, early, _)) in enumerate(zip(self._keys, state, strict=True))
            if value is not None
        }
        try:
            changes, reply = self._runs[index](cells, op.request, NOW_MS)
        except CommandError as error:
            changes, reply = (), error.reply
        if op.known and op.reply is not ANY and op.reply != _as_seen(reply):
            return None
        if not changes:
            return state
        copies = Copies(1)
        slot = copies.add(0)
        slot.replace(1, {}, cells)
        slot.apply(2, changes)
        after = list(state)
        for key, _, _ in changes:
            _, value, deadline = cells[key]
            after[self._places[key]] = ABSENT if value is None else (frozen(value), *_span(op, state, deadline))
        return tuple(after)


def _as_seen(reply: Reply) -> Reply:
    """As a client of RESP2 sees it."""
    if isinstance(reply, (Map, Pairs, Set)):
        reply = reply.items
    if isinstance(reply, Named):
        reply = reply.pairs
    if isinstance(reply, NullArray):
        return None
    if isinstance(reply, float):
        return encode(reply, 2).split(b"\r\n")[1]
    return [_as_seen(item) for item in reply] if isinstance(reply, list) else reply


def frozen(value: Any) -> Frozen:
    """A value as something that does not change."""
    return tuple(value.parts()) if isinstance(value, Collection) else value


def thawed(value: Frozen) -> Any:
    """A value of its own."""
    if type(value) is not tuple:
        return value
    made = None
    for part in value:
        made = patched(made, part)
    return made


def _run_of(request: tuple[bytes, ...]) -> Any:
    row = find_part(request[0])
    assert row is not None, "clients ask for what there is"
    assert row.run is not None, "they are asked for part by part"
    return row.run


def _starts(state: State, invoked: float, now: float) -> list[State]:
    """What the keys may be when an operation runs: some may have expired, or must have."""
    starts: list[State] = [state]
    for place, (value, early, late) in enumerate(state):
        if value is None or now < early:
            continue
        expired = [(*start[:place], ABSENT, *start[place + 1 :]) for start in starts]
        starts = expired if invoked > late else starts + expired
    return starts


def _span(op: Operation, state: State, deadline: int) -> tuple[float, float]:
    """From when what an operation has written may have expired, and when it must have."""
    if not deadline:
        return inf, inf
    if deadline >= KEPT_MS:
        return state[deadline - KEPT_MS][1:]
    lifetime = (deadline - NOW_MS) / 1000
    return op.invoked + lifetime - EXPIRY_EARLY_S, op.returned + lifetime + EXPIRY_SLACK_S
