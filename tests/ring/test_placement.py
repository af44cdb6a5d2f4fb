"""The ring is a pure function of the members; it is balanced, and moves only what must move."""

import random
from collections import Counter
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerkv.ring import placement
from peerkv.ring.keys import SLOTS
from peerkv.ring.placement import PART, Place, in_parts, owners, rows_of_owners, scores


def _names(table: list[tuple[int, ...]], places: list[Place]) -> list[tuple[str, ...]]:
    return [tuple(places[index].name for index in row) for row in table]


def test_the_ring_is_the_same_for_ever() -> None:
    """Another version of the program must compute the same owners: these values may never change."""
    places = [Place("db1"), Place("db2"), Place("db3"), Place("db4")]
    table = _names(owners(places, 3), places)
    assert [table[slot] for slot in (0, 1, 8191, 16383)] == RECORDED


RECORDED = [
    ("db4", "db2", "db3"),
    ("db3", "db1", "db2"),
    ("db2", "db4", "db3"),
    ("db3", "db2", "db4"),
]


@given(st.integers(1, 7), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_order_of_members_does_not_matter(count: int, replicas: int, chance: random.Random) -> None:
    places = [Place(f"n{index}", zone=f"z{index % 3}", weight=1 + index % 2) for index in range(count)]
    shuffled = chance.sample(places, count)
    assert _names(owners(places, replicas), places) == _names(owners(shuffled, replicas), shuffled)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_slot_has_as_many_different_owners_as_can_be(count: int) -> None:
    table = owners([Place(f"n{index}") for index in range(count)], 3)
    assert len(table) == SLOTS
    assert all(len(set(row)) == len(row) == min(3, count) for row in table)


def test_shares_are_even() -> None:
    table = owners([Place(f"n{index}") for index in range(10)], 3)
    shares = Counter(index for row in table for index in row)
    firsts = Counter(row[0] for row in table)
    assert all(abs(share - 3 * SLOTS / 10) < 0.05 * 3 * SLOTS / 10 for share in shares.values())
    assert all(abs(share - SLOTS / 10) < 0.12 * SLOTS / 10 for share in firsts.values())


def test_a_join_moves_only_to_the_one_that_joins() -> None:
    before = [Place(f"n{index}") for index in range(5)]
    after = [*before, Place("new")]
    moved = 0
    for old, new in zip(_names(owners(before, 3), before), _names(owners(after, 3), after), strict=True):
        assert set(new) - set(old) <= {"new"}
        moved += new != old
    assert abs(moved - SLOTS * 3 / 6) < 0.1 * SLOTS * 3 / 6


def test_a_weight_is_a_share() -> None:
    places = [Place("light", weight=1), Place("heavy", weight=3), Place("other", weight=1)]
    firsts = Counter(row[0] for row in owners(places, 1))
    assert abs(firsts[1] / SLOTS - 3 / 5) < 0.03


def test_owners_are_in_different_zones_as_far_as_there_are() -> None:
    places = [Place(f"n{index}", zone="abc"[index % 3]) for index in range(7)]
    assert all(len({places[index].zone for index in row}) == 3 for row in owners(places, 3))
    two_zones = [Place(f"n{index}", zone="ab"[index % 2]) for index in range(6)]
    assert all({two_zones[index].zone for index in row} == {"a", "b"} for row in owners(two_zones, 3))


def plain(places: list[Place], replicas: int, slots: int) -> list[tuple[int, ...]]:
    """The same in other words: one owner after the other is chosen."""
    table: list[tuple[int, ...]] = []
    for slot in range(slots):
        ranking = sorted(range(len(places)), key=lambda n: -scores(places[n].name, places[n].weight, slots)[slot])
        chosen: list[int] = []
        while len(chosen) < min(replicas, len(places)):
            zones = {places[n].zone for n in chosen}
            left = [n for n in ranking if n not in chosen]
            chosen.append(next((n for n in left if places[n].zone not in zones), left[0]))
        table.append(tuple(sorted(chosen, key=ranking.index)))
    return table


@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(1, 3)), max_size=7),
    st.integers(1, 5),
    st.sampled_from([256, PART + 256, 2 * PART]),
)
@settings(max_examples=20, deadline=None)
def test_owners_are_those_that_the_rule_names(members: list[tuple[str, int]], replicas: int, slots: int) -> None:
    places = [Place(f"n{index}", zone, weight) for index, (zone, weight) in enumerate(members)]
    assert owners(places, replicas, slots) == plain(places, replicas, slots)
    rows, row_of = rows_of_owners(places, replicas, slots)
    assert len(set(rows)) == len(rows)
    assert list(dict.fromkeys(row_of)) == list(range(len(rows))), "in order of their first slots"


def test_what_is_computed_in_parts_is_found() -> None:
    """All of it at once is a turn of 30 ms with four members, and more with each."""
    places = [Place(f"part{index}") for index in range(4)]
    most = max(in_parts(places, 3))
    assert most == PART
    with patch.object(placement, "sorted", side_effect=AssertionError("it is computed again"), create=True):
        assert len(owners(places, 3)) == SLOTS
