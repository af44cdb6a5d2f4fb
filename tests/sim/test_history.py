"""The checker on histories whose verdict is known."""

from dataclasses import replace
from math import inf

import pytest

from peerkv.resp import ReplyError
from tests.sim.history import ANY, CLEAR, Operation, histories, violation


def op(
    invoked: float, returned: float, name: str, argument: bytes = b"", reply: object = None, life: float = 0
) -> Operation:
    """An operation on one key."""
    milliseconds = b"%d" % int(life * 1000)
    request: tuple[bytes, ...]
    match name:
        case "SETPX":
            request = (b"SET", b"k", argument, b"PX", milliseconds)
        case "PEXPIRE":
            request = (b"PEXPIRE", b"k", milliseconds)
        case "DEL":
            request = (b"PEERKV.DEL", b"k")
        case _:
            request = (name.encode(), b"k", argument) if argument else (name.encode(), b"k")
    return Operation(invoked, returned, request, reply)


def ask(invoked: float, returned: float, words: str, reply: object = None) -> Operation:
    """An operation as one types it."""
    return Operation(invoked, returned, tuple(word.encode() for word in words.split()), reply)


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
    "renamed with its deadline": [
        op(0, 0.1, "SETPX", b"a", "OK", 1),
        ask(0.2, 0.3, "RENAME k other", "OK"),
        ask(0.4, 0.5, "GET other", b"a"),
        ask(3, 4, "EXISTS other".replace("EXISTS", "PEERKV.EXISTS"), 0),
    ],
    "kept for good": [
        op(0, 0.1, "SETPX", b"a", "OK", 1),
        ask(0.2, 0.3, "PERSIST k", 1),
        ask(9, 10, "GET k", b"a"),
    ],
    "refused, and nothing done": [
        op(0, 1, "SET", b"a", "OK"),
        ask(2, 3, "INCR k", ReplyError("ERR value is not an integer or out of range")),
        ask(4, 5, "GET k", b"a"),
    ],
    "done, whatever it said": [op(0, 1, "SET", b"a", "OK"), op(2, 3, "DEL", b"", ANY), ask(4, 5, "GET k", None)],
    "all or nothing": [
        ask(0, 9, "MSETNX k a other b", 1),
        ask(0, 9, "MSETNX other c third d", 0),
        ask(10, 11, "GET third", None),
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
    "renamed, and still there": [
        op(0, 1, "SET", b"a", "OK"),
        ask(2, 3, "RENAME k other", "OK"),
        ask(4, 5, "GET k", b"a"),
    ],
    "copied in part": [
        ask(0, 1, "MSETNX k a other b", 1),
        ask(2, 3, "GET k", b"a"),
        ask(4, 5, "GET other", None),
    ],
    "refused without a reason": [ask(0, 1, "INCR k", ReplyError("ERR value is not an integer or out of range"))],
    "done, but not undone": [op(0, 1, "SET", b"a", "OK"), op(2, 3, "DEL", b"", ANY), ask(4, 5, "GET k", b"a")],
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal(name: str) -> None:
    assert violation(LEGAL[name]) is None


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal(name: str) -> None:
    assert violation(ILLEGAL[name]) is not None


def test_keys_of_one_operation_are_one_history() -> None:
    one, other = ask(0, 1, "GET a", None), ask(0, 1, "RENAME b c", "OK")
    assert histories([one, ask(0, 1, "SET c 1", "OK"), other]) == {
        (b"a",): [one],
        (b"b", b"c"): [ask(0, 1, "SET c 1", "OK"), other],
    }


def test_flushall_is_of_every_history() -> None:
    clear = Operation(2, 3, CLEAR, ANY)
    found = histories([ask(0, 1, "SET a 1", "OK"), ask(0, 1, "SET b 1", "OK"), clear, ask(4, 5, "GET b", b"1")])
    assert violation(found[b"a",]) is None
    assert violation(found[b"b",]) is not None
