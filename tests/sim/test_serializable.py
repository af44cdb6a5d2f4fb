"""Histories of transactions: those that could be are let pass, those that could not are not."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from tests.sim.serializable import Appending, _edges, violations


def op(name: str, when: tuple[float, float], writes: str = "", done: bool | None = True, **reads: str) -> Appending:
    """A transaction of lists with names of one letter, which hold ids of one letter."""
    return Appending(
        name.encode(),
        when[0],
        when[1],
        done,
        [key.encode() for key in writes],
        {key.encode(): lists(ids) for key, ids in reads.items()},
    )


def lists(ids: str) -> list[bytes]:
    return [name.encode() for name in ids]


def judged(*operations: Appending, **final: str) -> str:
    return " / ".join(violations(operations, {key.encode(): lists(ids) for key, ids in final.items()}))


RIGHT = [
    ([op("a", (0, 1), "xy"), op("b", (2, 3), "xy", x="ab", y="ab")], {"x": "ab", "y": "ab"}),
    ([op("a", (0, 5), "xy", x="ba", y="ba"), op("b", (0, 5), "xy", x="b", y="b")], {"x": "ba", "y": "ba"}),
    ([op("a", (0, inf), "xy", done=None)], {"x": "", "y": ""}),
    ([op("a", (0, inf), "xy", done=None), op("r", (9, 10), x="a", y="a")], {"x": "a", "y": "a"}),
    ([op("a", (0, 1), "xy", done=False), op("r", (2, 3), x="")], {"x": "", "y": ""}),
    ([op("a", (0, 9), "xy"), op("r", (1, 2), x="", y=""), op("s", (3, 4), x="a", y="a")], {"x": "a", "y": "a"}),
    # Two readers see two writers of different lists in the one order that there is.
    (
        [op("a", (0, 9), "x"), op("b", (0, 9), "y"), op("r", (1, 2), x="a", y=""), op("s", (3, 4), x="a", y="b")],
        {"x": "a", "y": "b"},
    ),
    # What is answered as another is called comes before it, or behind.
    ([op("a", (0, 1), "x"), op("r", (1, 2), x="")], {"x": "a"}),
]


@pytest.mark.parametrize(("operations", "final"), RIGHT)
def test_what_can_be_is_let_pass(operations: list[Appending], final: dict[str, str]) -> None:
    assert judged(*operations, **final) == ""


WRONG = [
    ("2 times", [op("a", (0, 1), "x")], {"x": "aa"}),
    ("nobody appended", [op("a", (0, 1), "x")], {"x": "ab"}),
    ("nobody appended b'a' to b'y'", [op("a", (0, 1), "x")], {"x": "a", "y": "a"}),
    ("acknowledged is missing", [op("a", (0, 1), "x")], {"x": ""}),
    ("half a transaction", [op("a", (0, 1), "xy")], {"x": "a", "y": ""}),
    ("half a transaction", [op("a", (0, inf), "xy", done=None)], {"x": "", "y": "a"}),
    ("did not happen", [op("a", (0, 1), "xy", done=False)], {"x": "a", "y": "a"}),
    ("never was", [op("a", (0, 9), "x"), op("b", (0, 9), "x"), op("r", (1, 2), x="b")], {"x": "ab"}),
    ("never was", [op("a", (0, inf), "x", done=None), op("r", (1, 2), x="a")], {"x": ""}),
    ("does not see", [op("a", (0, 1), "x", x="")], {"x": "a"}),
    # A lost update: both have read nothing before their own.
    ("never was", [op("a", (0, 9), "x", x="a"), op("b", (0, 9), "x", x="b")], {"x": "ab"}),
    # Stale: what was answered before the read was called is not in it.
    ("one after another", [op("a", (0, 1), "x"), op("r", (2, 3), x="")], {"x": "a"}),
    ("one after another", [op("a", (0, 1), "x"), op("b", (2, 3), "x")], {"x": "ba"}),
    # Back in time: the second reader sees less than the first.
    ("one after another", [op("a", (0, 9), "x"), op("r", (1, 2), x="a"), op("s", (3, 4), x="")], {"x": "a"}),
    # Part of a transaction: x with it, y without.
    ("one after another", [op("a", (0, 9), "xy"), op("r", (0, 9), x="a", y="")], {"x": "a", "y": "a"}),
    # Two lists written in two orders.
    ("one after another", [op("a", (0, 9), "xy"), op("b", (0, 9), "xy")], {"x": "ab", "y": "ba"}),
    # A long fork: two readers see two writers in two orders.
    (
        "one after another",
        [op("a", (0, 9), "x"), op("b", (0, 9), "y"), op("r", (0, 9), x="a", y=""), op("s", (0, 9), x="", y="b")],
        {"x": "a", "y": "b"},
    ),
    # Write skew: each has read what the other one writes, before it did.
    ("one after another", [op("a", (0, 9), "x", x="a", y=""), op("b", (0, 9), "y", x="", y="b")], {"x": "a", "y": "b"}),
    # Only time says that it cannot be: r is over before b begins, and b before a is in what r has read... of x.
    (
        "one after another",
        [op("a", (0, inf), "xy", done=None), op("r", (1, 2), x="a"), op("s", (3, 4), y="")],
        {"x": "a", "y": "a"},
    ),
]


@pytest.mark.parametrize(("word", "operations", "final"), WRONG)
def test_what_cannot_be_is_found(word: str, operations: list[Appending], final: dict[str, str]) -> None:
    assert word in judged(*operations, **final)


def test_what_was_watched_had_not_changed() -> None:
    first = op("a", (0, 1), "x")
    second = op("b", (2, 3), "y", x="a", y="b")
    second.watched = {b"x": lists("a")}
    assert judged(first, second, x="a", y="b") == ""
    second.watched = {b"x": []}
    assert "changed since WATCH" in judged(first, second, x="a", y="b")
    own = op("b", (2, 3), "x", x="ab")
    own.watched = {b"x": lists("a")}
    assert judged(first, own, x="ab") == ""
    own.watched = {b"x": []}
    assert "changed since WATCH" in judged(first, own, x="ab")


def test_a_script_may_say_where_it_writes() -> None:
    asked = op("a", (0, inf), "xyz", done=None)
    asked.one_of = True
    assert judged(asked, x="", y="a", z="") == ""
    assert judged(asked, x="", y="", z="") == ""
    assert "more than was asked for" in judged(asked, x="a", y="a", z="")


def test_one_connection_is_in_order_of_one_list() -> None:
    """Both are under way at the same time; the promise is of one key."""
    one, other, reader = op("a", (0, 9), "x"), op("b", (0, 9), "x"), op("r", (0, 9), y="", x="")
    for order, asked in enumerate((one, other, reader)):
        asked.connection, asked.order = 7, order
    assert "which is sent before, of x" in judged(one, other, x="ba")
    assert "which is sent before, of x" in judged(one, reader, x="a")
    assert judged(one, other, x="ab") == ""
    other.connection = 8
    assert judged(one, other, x="ba") == ""
    written = op("c", (0, 9), "y")
    written.connection, written.order = 7, -1
    assert judged(op("a", (0, 9), "x"), written, x="a", y="c") == ""


def test_a_long_history_has_few_edges() -> None:
    """Ten thousand transactions, one after another, and one of them at the wrong place: pairs would be 50 million."""
    rng = Random(1)
    final: dict[bytes, list[bytes]] = {b"%d" % key: [] for key in range(2000)}
    operations = []
    for number in range(10_000):
        keys = rng.sample(sorted(final), 3)
        for key in keys[:2]:
            final[key].append(b"%d" % number)
        reads = {key: list(final[key]) for key in keys}
        operations.append(Appending(b"%d" % number, number - rng.random(), number + 0.1, True, keys[:2], reads))
    assert violations(operations, final) == []
    assert sum(map(len, _edges(operations, final))) < 10 * len(operations)
    late = operations[5000]
    late.invoked, late.returned = 9000.0, 9000.1
    assert "one after another" in violations(operations, final)[0]
