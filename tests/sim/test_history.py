"""The checker on histories whose verdict is known."""

from dataclasses import replace
from math import inf

import pytest

from tests.sim.history import Operation, violation


def op(
    invoked: float, returned: float, name: str, argument: bytes = b"", reply: object = None, life: float = 0
) -> Operation:
    return Operation(invoked, returned, name, argument, reply, life)


def pipeline(connection: int, invoked: float, *operations: Operation) -> list[Operation]:
    """These, sent together on one connection."""
    return [
        replace(op, invoked=invoked, connection=connection, order=order) for order, op in enumerate(operations, start=1)
    ]


LEGAL = {
    "one after another": [op(0, 1, "SET", b"a", "OK"), op(2, 3, "GET", b"", b"a")],
    "at once, either order": [
        op(0, 5, "SET", b"a", "OK"),
        op(0, 5, "SET", b"b", "OK"),
        op(6, 7, "GET", b"", b"a"),
    ],
    "a read beside a write": [op(0, 5, "SET", b"a", "OK"), op(1, 2, "GET", b"", None), op(3, 4, "GET", b"", b"a")],
    "unknown, done late": [op(0, inf, "SET", b"a"), op(1, 2, "GET", b"", None), op(5, 6, "GET", b"", b"a")],
    "unknown, never done": [op(0, inf, "SET", b"a"), op(5, 6, "GET", b"", None)],
    "counted": [op(0, 9, "INCR", b"", 2), op(0, 9, "INCR", b"", 1), op(10, 11, "GET", b"", b"2")],
    "expired in time": [op(0, 0.1, "SETPX", b"a", "OK", 1), op(0.2, 0.3, "GET", b"", b"a"), op(3, 4, "GET", b"", None)],
    "a pipeline": pipeline(
        1,
        0,
        op(0, 5, "SET", b"a", "OK"),
        op(0, 5, "GET", b"", b"a"),
        op(0, 5, "SET", b"b", "OK"),
        op(0, 5, "GET", b"", b"b"),
    ),
    "two pipelines at once, each in its order": [
        *pipeline(1, 0, op(0, 5, "APPEND", b"a", 1), op(0, 5, "APPEND", b"b", 3)),
        *pipeline(2, 0, op(0, 5, "APPEND", b"c", 2), op(0, 5, "APPEND", b"d", 4)),
        op(6, 7, "GET", b"", b"acbd"),
    ],
    "sent while the first is awaited": [
        *pipeline(1, 0, op(0, 9, "SET", b"a", "OK")),
        replace(op(1, 9, "GET", b"", b"a"), connection=1, order=2),
    ],
    "unknown, done before what was sent behind it": [
        *pipeline(1, 0, op(0, inf, "SET", b"a"), op(0, 5, "GET", b"", b"a")),
    ],
    "unknown, skipped by what was sent behind it": pipeline(1, 0, op(0, inf, "SET", b"a"), op(0, 5, "GET", b"", None)),
    "unknown, done late as nothing came behind it": [
        *pipeline(1, 0, op(0, 5, "SET", b"a", "OK"), op(0, inf, "SET", b"b")),
        op(6, 7, "GET", b"", b"a"),
        op(8, 9, "GET", b"", b"b"),
    ],
    "on two connections, no order": [
        *pipeline(1, 0, op(0, inf, "SET", b"a")),
        *pipeline(2, 6, op(6, 7, "SET", b"b", "OK")),
        op(8, 9, "GET", b"", b"a"),
    ],
    "two of unknown outcome, the first one skipped": [
        *pipeline(1, 0, op(0, inf, "APPEND", b"a"), op(0, inf, "APPEND", b"b")),
        op(6, 7, "GET", b"", b"b"),
    ],
}
ILLEGAL = {
    "a lost write": [op(0, 1, "SET", b"a", "OK"), op(2, 3, "GET", b"", None)],
    "a stale read": [
        op(0, 1, "SET", b"a", "OK"),
        op(2, 3, "SET", b"b", "OK"),
        op(4, 5, "GET", b"", b"a"),
    ],
    "back in time": [
        op(0, 9, "SET", b"a", "OK"),
        op(1, 2, "GET", b"", b"a"),
        op(3, 4, "GET", b"", None),
    ],
    "counted twice": [op(0, 1, "INCR", b"", 1), op(2, 3, "GET", b"", b"2")],
    "appended twice": [op(0, 1, "APPEND", b"x", 1), op(2, 3, "GET", b"", b"xx")],
    "two winners": [op(0, 9, "SETNX", b"a", 1), op(0, 9, "SETNX", b"b", 1)],
    "a deletion undone": [
        op(0, 1, "SET", b"a", "OK"),
        op(2, 3, "DEL", b"", 1),
        op(4, 5, "GET", b"", b"a"),
    ],
    "alive long after its deadline": [op(0, 0.1, "SETPX", b"a", "OK", 1), op(9, 10, "GET", b"", b"a")],
    "expired too soon": [op(0, 0.1, "SETPX", b"a", "OK", 10), op(1, 2, "GET", b"", None)],
    "a read behind what was sent after it": pipeline(
        1,
        0,
        op(0, 5, "SET", b"a", "OK"),
        op(0, 5, "GET", b"", b"b"),
        op(0, 5, "SET", b"b", "OK"),
        op(0, 5, "GET", b"", b"b"),
    ),
    "a read before what was sent ahead of it": pipeline(1, 0, op(0, 5, "SET", b"a", "OK"), op(0, 5, "GET", b"", None)),
    "writes in another order than sent": [
        *pipeline(1, 0, op(0, 5, "SET", b"a", "OK"), op(0, 5, "SET", b"b", "OK")),
        op(6, 7, "GET", b"", b"a"),
    ],
    "a later read of an older state": [
        *pipeline(1, 0, op(0, 9, "GET", b"", b"a"), op(0, 9, "GET", b"", None)),
        op(0, 9, "SET", b"a", "OK"),
    ],
    "sent while the first is awaited, done before it": [
        *pipeline(1, 0, op(0, 9, "SETNX", b"a", 0)),
        replace(op(1, 9, "SETNX", b"b", 1), connection=1, order=2),
    ],
    "unknown, done behind what was sent after it": [
        *pipeline(1, 0, op(0, inf, "SET", b"a"), op(0, 5, "SET", b"b", "OK")),
        op(6, 7, "GET", b"", b"a"),
    ],
    "unknown, done after a later read that missed it": [
        *pipeline(1, 0, op(0, inf, "SET", b"a"), op(0, 5, "GET", b"", None)),
        op(6, 7, "GET", b"", b"a"),
    ],
    "two of unknown outcome, in the wrong order": [
        *pipeline(1, 0, op(0, inf, "APPEND", b"a"), op(0, inf, "APPEND", b"b")),
        op(6, 7, "GET", b"", b"ba"),
    ],
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal(name: str) -> None:
    assert violation(LEGAL[name]) is None


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal(name: str) -> None:
    assert violation(ILLEGAL[name]) is not None
