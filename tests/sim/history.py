"""Is a history of one key linearizable, and in the order of each connection? (Wing and Gong, "Testing and verifying
concurrent objects", 1993.)

Events are gone through in order of time. A configuration is a state that the key may be in, and which of the operations
under way have had their effect already; an operation that returns must have had its effect by then, with that reply.
Operations of unknown outcome stay under way: they may have their effect at any later time, or never. What one
connection sends takes effect in the order in which it is sent: an operation has its effect only after those that the
same connection sent before it, and one of unknown outcome that has had none by then never will.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Final

CONFIGURATIONS_MAX: Final = 20_000
EXPIRY_SLACK_S: Final = 1.0
"""A key may outlive its deadline by this much (clocks differ, expiry is an operation itself), or die sooner by ..."""
EXPIRY_EARLY_S: Final = 0.3

Value = bytes | None
State = tuple[Value, float, float]
"""(value, from when it may have expired, when it must have); inf: it does not expire."""
ABSENT: Final[State] = (None, inf, inf)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a client on one key; `returned` inf: nobody knows whether it was done."""

    invoked: float
    returned: float
    name: str
    argument: bytes
    reply: object = None
    lifetime: float = 0.0
    """Seconds, of what sets a deadline."""
    connection: int = 0
    """That it was sent on; 0: on one of its own."""
    order: int = 0
    """Its place among all that was sent there."""

    @property
    def known(self) -> bool:
        return self.returned != inf


class GaveUp(Exception):
    """Too many possibilities: no verdict."""


def violation(operations: Iterable[Operation]) -> Operation | None:
    """The operation at which no linearization is left; None: the history is one that Redis could have. Raises
    GaveUp."""
    ordered = sorted(operations, key=lambda op: (op.invoked, op.order))
    events = sorted(
        [(op.invoked, 0, index) for index, op in enumerate(ordered)]
        + [(op.returned, 1, index) for index, op in enumerate(ordered) if op.known]
    )
    earlier = _earlier(ordered)
    pending: set[int] = set()
    configurations: set[tuple[State, frozenset[int]]] = {(ABSENT, frozenset())}
    for at, returns, index in events:
        if not returns:
            pending.add(index)
            continue
        configurations = _through(configurations, pending, index, ordered, earlier, at)
        if not configurations:
            return ordered[index]
        pending.discard(index)
    return None


def _earlier(ordered: list[Operation]) -> list[list[int]]:
    """For each operation those that its connection sent before it."""
    sent: dict[int, list[int]] = {}
    earlier: list[list[int]] = []
    for index, op in enumerate(ordered):
        before = sent.setdefault(op.connection, []) if op.connection else []
        earlier.append(before[:])
        before.append(index)
    return earlier


def _through(
    configurations: set[tuple[State, frozenset[int]]],
    pending: set[int],
    index: int,
    ordered: list[Operation],
    earlier: list[list[int]],
    at: float,
) -> set[tuple[State, frozenset[int]]]:
    """Configurations in which operation `index`, which returns at `at`, has had its effect."""
    arrived: set[tuple[State, frozenset[int]]] = set()
    seen = set(configurations)
    frontier = list(configurations)
    while frontier:
        state, done = frontier.pop()
        if index in done:
            arrived.add((state, done - {index}))
            continue
        for other in pending - done:
            before = [op for op in earlier[other] if op in pending and op not in done]
            if any(ordered[op].known for op in before):
                continue
            for after in effects(state, ordered[other], at):
                configuration = (after, done.union(before, (other,)))
                if configuration not in seen:
                    seen.add(configuration)
                    frontier.append(configuration)
        if len(seen) > CONFIGURATIONS_MAX:
            raise GaveUp
    return arrived


def effects(state: State, op: Operation, now: float) -> Iterator[State]:
    """States that the operation may leave, if it can have answered what it did and has its effect before `now`."""
    value, early, late = state
    if value is not None and op.invoked > late:
        starts: tuple[State, ...] = (ABSENT,)
    elif value is not None and now >= early:
        starts = (state, ABSENT)
    else:
        starts = (state,)
    for start in starts:
        after, reply = _run(start, op)
        if not op.known or reply == op.reply:
            yield after


def _run(state: State, op: Operation) -> tuple[State, object]:
    value, early, late = state
    match op.name:
        case "GET":
            return state, value
        case "SET":
            return (op.argument, inf, inf), "OK"
        case "SETPX":
            return (op.argument, *_deadline(op)), "OK"
        case "SETNX":
            return ((op.argument, inf, inf), 1) if value is None else (state, 0)
        case "GETSET":
            return (op.argument, inf, inf), value
        case "GETDEL":
            return ABSENT, value
        case "DEL":
            return ABSENT, int(value is not None)
        case "APPEND":
            text = (value or b"") + op.argument
            return (text, early, late), len(text)
        case "INCR":
            number = int(value or b"0") + 1
            return (b"%d" % number, early, late), number
        case "PEXPIRE":
            return ((value, *_deadline(op)), 1) if value is not None else (state, 0)
        case _:
            raise AssertionError(op.name)


def _deadline(op: Operation) -> tuple[float, float]:
    late = op.returned + op.lifetime + EXPIRY_SLACK_S if op.known else inf
    return op.invoked + op.lifetime - EXPIRY_EARLY_S, late
