"""Majorities, and two of them at once."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerkv.ring.quorum import Quorum, Verdict, without

members = st.lists(st.integers(1, 9), min_size=1, max_size=5, unique=True).map(tuple)


@given(members, st.one_of(st.just(()), members), st.sets(st.integers(1, 9)), st.sets(st.integers(1, 9)))
def test_two_quorums_always_share_a_member(
    old: tuple[int, ...], new: tuple[int, ...], one: set[int], other: set[int]
) -> None:
    quorum = Quorum(old, new)
    if quorum.won(one) and quorum.won(other):
        assert one & other & set(old)
        assert not new or one & other & set(new)


@given(members, st.one_of(st.just(()), members), st.sets(st.integers(1, 9)))
def test_lost_is_when_the_rest_cannot_win(old: tuple[int, ...], new: tuple[int, ...], no: set[int]) -> None:
    quorum = Quorum(old, new)
    rest = {*old, *new} - no
    assert (quorum.verdict((), no) is Verdict.LOST) == (not quorum.won(rest))


@given(members, st.one_of(st.just(()), members), st.dictionaries(st.integers(1, 9), st.integers(1, 20)))
def test_the_position_reached_is_the_furthest_that_a_quorum_has(
    old: tuple[int, ...], new: tuple[int, ...], positions: dict[int, int]
) -> None:
    quorum = Quorum(old, new)
    reached = quorum.reached(positions)

    def has(position: int) -> bool:
        return quorum.won([member for member, at in positions.items() if at >= position])

    assert reached == 0 or has(reached)
    assert not has(reached + 1)


def test_a_majority_of_three_is_two() -> None:
    quorum = Quorum((1, 2, 3))
    assert quorum.need == 2
    assert quorum.verdict({1}) is Verdict.PENDING
    assert quorum.verdict({1, 3}) is Verdict.WON
    assert quorum.verdict({1}, {2, 3}) is Verdict.LOST


def quorums(owners: tuple[int, ...], lost: set[int]) -> list[set[int]]:
    """Every least set that decides."""
    left, needed = without(owners, lost)
    return [set(chosen) for chosen in combinations(left, Quorum(left, needed=needed).need)]


@pytest.mark.parametrize("count", range(1, 8))
def test_what_was_decided_before_a_loss_is_known_to_every_quorum_after_it(count: int) -> None:
    owners = tuple(range(count))
    majority = count // 2 + 1
    losses = [set(lost) for size in range(majority) for lost in combinations(owners, size)]
    for before in losses:
        for after in losses:
            if before <= after:
                assert all(one & other for one in quorums(owners, before) for other in quorums(owners, after))


@pytest.mark.parametrize("count", range(1, 8))
def test_no_more_are_needed_than_that_takes(count: int) -> None:
    """One fewer would miss a majority, or another such set."""
    owners = tuple(range(count))
    majority = count // 2 + 1
    for lost in range(1, majority):
        left, needed = without(owners, set(range(lost)))
        need = Quorum(left, needed=needed).need
        assert need <= len(left)
        assert need - 1 + majority <= count or 2 * (need - 1) <= len(left)


@pytest.mark.parametrize("count", range(1, 8))
def test_once_a_majority_is_lost_nobody_decides(count: int) -> None:
    left, needed = without(tuple(range(count)), set(range(count // 2 + 1)))
    quorum = Quorum(left, needed=needed)
    assert not quorum.possible
    assert not quorum.won(left)
    assert quorum.verdict(()) is Verdict.LOST
    assert quorum.reached(dict.fromkeys(left, 5)) == 0


def test_the_survivor_of_two_decides_alone_and_one_of_three_does_not() -> None:
    left, needed = without((1, 2), {2})
    assert Quorum(left, needed=needed).won({1})
    left, needed = without((1, 2, 3), {2})
    assert (left, Quorum(left, needed=needed).need) == ((1, 3), 2)
    left, needed = without((1, 2, 3, 4), {1, 2})
    assert (left, Quorum(left, needed=needed).need) == ((3, 4), 2)
    left, needed = without((1, 2, 3, 4), {1})
    assert Quorum(left, needed=needed).won({3, 4})
