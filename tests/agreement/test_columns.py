"""The table of columns: each has somebody who takes it in, and what is none of it is refused as a whole."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerkv.agreement.columns import COLUMNS, NAMES, RUN, TELLS, Column
from peerkv.agreement.packing import pack_numbers, unpack_numbers, unpack_positions, unpack_signed
from peerkv.agreement.peer import Peer
from peerkv.node import Node
from peerkv.ring.keys import SLOTS
from peerkv.settings import Settings

numbers = st.lists(st.integers(0, (1 << 63) - 1))


@given(numbers)
def test_numbers_travel(values: list[int]) -> None:
    assert unpack_numbers(pack_numbers(values)) == values


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_numbers_with_a_sign_travel(values: list[int]) -> None:
    packed = pack_numbers(values)
    assert unpack_signed(packed) == values
    if min(values, default=0) < 0:
        with pytest.raises(ValueError, match="packed numbers"):
            unpack_numbers(packed)
    if not all(0 <= value < 1 << 62 for value in values):
        with pytest.raises(ValueError, match="packed positions"):
            unpack_positions(packed)


@pytest.mark.parametrize("packed", [None, [1], "12345678", b"1234567", 5])
def test_what_is_no_packed_numbers_is_refused(packed: object) -> None:
    for unpack in (unpack_numbers, unpack_signed, unpack_positions):
        with pytest.raises(ValueError):  # noqa: PT011  each has its own words
            unpack(packed)


def test_codes_and_names_are_given_once_and_everything_is_taken_in_by_somebody() -> None:
    node = Node(Settings(), Random(1), 0.0, 0.0)
    assert [column.code for column in COLUMNS] == list(range(len(COLUMNS)))
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    for takes in [column.takes for column in COLUMNS] + [tell.takes for tell in TELLS.values()]:
        assert not takes or callable(node._takers[takes])


def test_every_list_of_a_peer_is_cleared() -> None:
    """What stays would be sent on the next link, once more."""
    peer = Peer(1, "db1")
    for name in NAMES:
        getattr(peer, name).append(1)
    peer.clear()
    assert [getattr(peer, name) for name in NAMES] == [[]] * len(NAMES)


P = pack_numbers
CHANGE = [P([42]), P([5]), [b"k"], [b"v"], b"", ["OK"]]


def changed(place: int, value: Any) -> list[Any]:
    """A turn of one change, with this in place of one of its columns."""
    segment = [77, *CHANGE]
    segment[place] = value
    return [1, [segment, [], True, []]]


NONE_OF_IT: dict[str, list[list[Any]]] = {
    "answers": [[1], [[1, 2]], [[-1, 10, [0]]], [[1, 99, []]], [["1", 10, [0]]]],
    "changes": [
        [1],
        [1, []],
        [-1, [[], [], True, []]],
        [1, [[], [], 1, []]],
        [1, [[1, 2], [], True, []]],
        [1, [None, [], True, []]],
        [1, [[77, *CHANGE], [42], True, []]],
        [1, [[77, *CHANGE], [SLOTS, 1], True, []]],
        [1, [[77, *CHANGE], [42, -1], True, []]],
        [1, [[77, *CHANGE], [], True, [0, 1]]],
        [1, [[77, *CHANGE], [], True, [1, -1]]],
        [1, [[77, *CHANGE], [], True, None]],
        changed(0, -1),
        changed(0, "77"),
        changed(1, P([42, 43])),
        changed(1, P([-1])),
        changed(1, [42]),
        changed(2, P([1 << 62])),
        changed(2, P([5, 6])),
        changed(3, [b"k", b"l"]),
        changed(3, ["k"]),
        changed(3, [7]),
        changed(3, b"k"),
        changed(3, [None]),
        changed(3, [[b"k", b"v"]]),
        changed(4, [7]),
        changed(4, [[]]),
        changed(4, [[b"keep"]]),
        changed(4, [["no such patch"]]),
        changed(4, [["splice", 1]]),
        changed(4, [["splice", b"1", b"v"]]),
        changed(4, [["splice", 1, b"v", 2]]),
        changed(4, ["v"]),
        changed(4, []),
        changed(4, None),
        changed(5, P([-5])),
        changed(5, P([1, 2])),
        changed(5, "soon"),
        changed(6, []),
        changed(6, ["OK", "OK"]),
        changed(6, None),
        changed(6, [object()]),
    ],
    "probes": [[], [P([1, 2])], [P([SLOTS, 2, 0])], [P([1, 1 << 62, 0])], [P([1, -1, 0])], [None]],
    "acks": [[1], [-1, []], ["1", []], [1, [SLOTS]], [1, [-1]], [1, None], [1, [b""]]],
    "settled": [[], [P([1])], [P([SLOTS, 2])], [P([1, -1])], [1, 2]],
    "insists": [[], [P([-1])], [[1]], [b"1"]],
    "forwards": [
        [],
        [P([1]), b"", 3],
        [P([1]), b"", 3, [b"SET", b"k"]],
        [P([1]), b"", 1, [b"PING"]],
        [P([1]), b"", 0, []],
        [P([1]), b"", -3, [b"a", b"b", b"c"]],
        [P([1]), b"", 3, [b"SET", b"k", 7]],
        [P([1]), b"", 3, [b"SET", b"k", "v"]],
        [P([1]), P([1, 2]), 3, [b"SET", b"k", b"v"]],
        [P([1]), P([-1]), 3, [b"SET", b"k", b"v"]],
        [P([-1]), b"", 3, [b"SET", b"k", b"v"]],
        [[1], b"", 3, [b"SET", b"k", b"v"]],
        [P([1]), b"", P([10**8]), [b"SET", b"k", b"v"]],
        [P([1, 2]), b"", P([1, 2]), [b"SET", b"k", b"v"]],
        [P([1, 2]), b"", P([3]), [b"SET", b"k", b"v"]],
        [P([1]), b"", "3", [b"SET", b"k", b"v"]],
    ],
    "reads": [
        [],
        [1, [b"k"]],
        [1, [b"k"], P([1])],
        [1, [b"k"], P([]), []],
        [1, [], P([1]), []],
        [1, ["k"], P([1]), []],
        [1, [b"k"], P([-99]), []],
        [1, [b"k"], [1], []],
        [-1, [b"k"], P([1]), []],
        [None, [b"k"], P([1]), []],
        [1, [b"k"], P([1]), None],
        [1, [b"k"], P([1]), [[b"GET", b"k"]]],
        [1, [b"k"], P([RUN]), []],
        [1, [b"k"], P([RUN]), [[b"GET"]]],
        [1, [b"k"], P([RUN]), [[b"GET", "k"]]],
        [1, [b"k"], P([RUN]), [b"GET"]],
    ],
    "confirms": [
        [1],
        [[1, [], [], []], None],
        [[1, [], []]],
        [[-1, [], [], []]],
        [[1, [-1], [], []]],
        [[1, ["0"], [], []]],
        [[1, [0, 0], [], []]],
        [[1, [0], [0, 1], []]],
        [[1, [], [0], []]],
        [[1, [], [0, -1], []]],
        [[1, [], [0, "1"], []]],
        [[1, [], [0, 1], [0]]],
        [[1, [], [0, 1], [0, object()]]],
        [[1, [], [0, 1], [1, b"v"]]],
        [[1, [], [0, 1], [0, b"v", 0, b"v"]]],
    ],
    "done": [
        [],
        [P([1])],
        [P([1, 2]), [1, 2, 3]],
        [P([1]), []],
        [P([1]), None],
        [P([-1]), [1]],
        [P([1]), [{}]],
        [1, [1]],
    ],
    "outcomes": [[], [P([1, 1])], [P([1, 0, 0])], [P([1, 256, 0])], [P([-1, 1, 0])], [P([1, 1, -1])]],
    "published": [
        [1],
        [1, 0, b"c"],
        [-1, 0, b"c", b"m"],
        [1, 3, b"c", b"m"],
        [1, 1, b"c", b"m"],
        [1, -1, b"c", b"m"],
        [1, b"0", b"c", b"m"],
        [1 << 63, 0, b"c", b"m"],
        [1, 0, None, b"m"],
        [1, 0, [b"c"], b"m"],
        [[1], [0], [b"c"], [b"m"]],
        [1, 0, "c", b"m"],
        [1, 0, b"c", 7],
        [True, 0, b"c", b"m"],
    ],
    "heard_by": [
        [],
        [1],
        [P([1])],
        [P([1, -1])],
        [P([-1, 1])],
        [P([1, 1 << 33])],
        [P([1, 1]), P([1, 1])],
        [[1, 1]],
        [b"1234567"],
    ],
    "asks": [[1], [[1, 0, [[1], []]]], [[1, 0, [[SLOTS], [1]]]]],
    "tells": [
        [1],
        [[]],
        [[1]],
        [["nack"]],
        [["nack", 1]],
        [["nack", SLOTS, 1]],
        [["nack", 1, 1 << 42]],
        [["nack", 1, -1]],
        [["purge", [1, 2]]],
        [["purge", [SLOTS, 2, 3]]],
        [["purge", 1]],
        [["compare", [1, 2, 3, 4]]],
        [["compare", [1, 2, 3, 4, "5"]]],
        [["take", [SLOTS]]],
        [["take", None]],
        [["load", -1]],
        [["load", "much"]],
        [["topology", 1]],
        [["awaits"]],
        [["awaits", [b"k"], [1]]],
        [["awaits", [b"k", b"l"], [1], [0]]],
        [["awaits", [b"k"], [1, 2], [0]]],
        [["awaits", [b"k"], [1], []]],
        [["awaits", ["k"], [1], [0]]],
        [["awaits", b"k", [1], [0]]],
        [["awaits", [None], [1], [0]]],
        [["awaits", [b"k"], ["1"], [0]]],
        [["awaits", [b"k"], [-1], [0]]],
        [["awaits", [b"k"], [1 << 63], [0]]],
        [["awaits", [b"k"], [1], [2]]],
        [["awaits", [b"k"], [1], [True]]],
        [["awaits", [b"k"], 1, [0]]],
        [["awaits_no_more", [b"k"]]],
        [["awaits_no_more", [b"k"], []]],
        [["awaits_no_more", [], [1]]],
        [["awaits_no_more", [7], [1]]],
        [["awaits_no_more", [b"k"], [b"1"]]],
        [["awaits_no_more", {b"k": 1}, [1]]],
        [["wake", [b"k"]]],
        [["wake", [b"k"], [1, 2]]],
        [["wake", [b"k"], [-1]]],
        [["wake", ["k"], [1]]],
        [["wake", None, None]],
        [["astray"]],
        [["astray", 1]],
        [["astray", [-1]]],
        [["astray", ["1"]]],
        [["astray", [1 << 63]]],
        [["channels", 0, [b"c"]]],
        [["channels", 3, [b"c"], 0]],
        [["channels", -1, [b"c"], 0]],
        [["channels", "0", [b"c"], 0]],
        [["channels", 0, b"c", 0]],
        [["channels", 0, ["c"], 0]],
        [["channels", 0, [b"c"], 3]],
        [["channels", 0, [b"c"], -1]],
        [["channels", 0, [b"c"], None]],
    ],
}


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_what_is_none_of_a_column_is_refused(column: Column) -> None:
    """Before anything of it is acted upon."""
    for content in NONE_OF_IT[column.name]:
        with pytest.raises(ValueError):  # noqa: PT011  each has its own words
            pytest.fail(f"{content} is taken for {column.unpack(content, SLOTS)}")


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.name in ("insists", "outcomes", "forwards", "done")])
def test_a_ticket_names_a_slot_that_there_is(column: Column) -> None:
    """Where there are less slots than a ticket can name."""
    peer = Peer(1, "db1")
    peer.forwards += [255, 0, [b"GET", b"k"]]
    peer.insist(255)
    peer.report([255], ["OK"])
    peer.hand_back(255, 1, 0)
    content = column.pack(peer)
    column.unpack(content, 256)
    with pytest.raises(ValueError, match="no slot"):
        column.unpack(content, 255)
