"""Which of two claims about a member wins: a total order, so merging commutes."""

from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from peerkv.gossip.member import Liveness, Member, events_of, supersedes

members = st.builds(
    Member,
    name=st.just("db1"),
    process=st.integers(1, 2),
    generation=st.integers(1, 2),
    incarnation=st.integers(0, 2),
    liveness=st.sampled_from(Liveness),
)


def merged(claims: tuple[Member, ...]) -> Member:
    held: Member | None = None
    for claim in claims:
        if supersedes(held, claim):
            held = claim
    assert held is not None
    return held


@given(st.lists(members, min_size=1, max_size=4))
def test_the_order_of_news_does_not_matter(claims: list[Member]) -> None:
    assert len({merged(order) for order in permutations(claims)}) == 1


@given(members, members)
def test_of_two_different_claims_exactly_one_wins(one: Member, other: Member) -> None:
    assert supersedes(one, other) + supersedes(other, one) == (one != other)


def test_an_accusation_is_contradicted_by_a_higher_incarnation() -> None:
    alive = Member("db1", 1, 1, incarnation=3)
    suspect = replace(alive, liveness=Liveness.SUSPECT)
    assert supersedes(alive, suspect)
    assert supersedes(suspect, replace(alive, incarnation=4))
    assert not supersedes(replace(alive, liveness=Liveness.LEFT), replace(alive, incarnation=9))
    assert supersedes(replace(alive, liveness=Liveness.LEFT), replace(alive, process=2, generation=2))


def test_a_second_life_ends_the_first() -> None:
    first = Member("db1", 1, 1)
    names = [type(event).__name__ for event in events_of(first, Member("db1", 2, 2))]
    assert names == ["MemberDown", "MemberUp"]
