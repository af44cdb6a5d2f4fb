"""Positions: integers of 62 bits whose order is that of history."""

from peerkv.store.cell import (
    BALLOT_MAX,
    MEMBER_MAX,
    ROUND_MAX,
    SEQUENCE_MASK,
    ballot_member,
    ballot_round,
    describe_position,
    first_position,
    make_ballot,
    position_ballot,
    position_sequence,
)


def test_the_last_position_of_all_has_62_bits() -> None:
    """One bit more and every column of that slot was slow."""
    last = first_position(make_ballot(ROUND_MAX, MEMBER_MAX)) + SEQUENCE_MASK
    assert last == (1 << 62) - 1
    assert position_ballot(last) == BALLOT_MAX
    assert (ballot_round(BALLOT_MAX), ballot_member(BALLOT_MAX)) == (ROUND_MAX, MEMBER_MAX)
    assert position_sequence(last) == SEQUENCE_MASK


def test_a_position_says_its_round_member_and_sequence() -> None:
    assert describe_position(first_position(make_ballot(7, 2)) + 30) == "7.2:30"
