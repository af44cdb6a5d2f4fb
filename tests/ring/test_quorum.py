"""Majorities, and two of them at once."""

from hypothesis import given
from hypothesis import strategies as st

from peerkv.ring.quorum import Quorum, Verdict

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
