"""A cell is what a slot knows of one key: `(version, value, deadline)`; a position says how far a copy of a slot is.

A **ballot** is an integer `(round, member number)`, a **position** an integer `(ballot, sequence)`, both packed so that
integer order is the order of history, and a cell's **version** is the position at which it was written. Packed because
a million cells hold a million versions (32 bytes each instead of 88 for nested tuples), and because one comparison of
integers costs a third of one of tuples. A position below 2^64 takes a ninth of the time to encode that a longer one
takes: that is the first 1,024 rounds of a slot, and nothing breaks beyond.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

SEQUENCE_BITS: Final = 38
"""2.7 * 10^11 changes of one slot under one ballot; a home begins a new ballot long before (rule H3)."""
MEMBER_BITS: Final = 16
"""Member numbers are never reused, so this many joins in the life of a cluster."""
SEQUENCE_MASK: Final = (1 << SEQUENCE_BITS) - 1
MEMBER_MASK: Final = (1 << MEMBER_BITS) - 1

Value: TypeAlias = bytes
"""What a key holds; None in a cell means that the key was deleted (a tombstone)."""

Cell: TypeAlias = tuple[int, Value | None, int]
"""(version, value or None, deadline in milliseconds of cluster time or 0). A plain tuple of atoms: the garbage
collector does not track it (a million slots-class instances make a full collection 150 ms long)."""

Cells: TypeAlias = Mapping[bytes, Cell]

Change: TypeAlias = tuple[bytes, Value | None, int]
"""(key, value or None, deadline or 0): what a command wants written."""


def make_ballot(round_: int, member: int) -> int:
    """The ballot of a member's `round_`-th attempt to be home; unique because member numbers are."""
    return round_ << MEMBER_BITS | member


def ballot_round(ballot: int) -> int:
    return ballot >> MEMBER_BITS


def ballot_member(ballot: int) -> int:
    return ballot & MEMBER_MASK


def first_position(ballot: int) -> int:
    """Where a ballot's history begins: after everything older, before its first change."""
    return ballot << SEQUENCE_BITS


def position_ballot(position: int) -> int:
    return position >> SEQUENCE_BITS


def position_sequence(position: int) -> int:
    return position & SEQUENCE_MASK


def is_live(cell: Cell | None, now: int) -> bool:
    """Whether a command that runs at `now` (cluster milliseconds) sees a value here."""
    return cell is not None and cell[1] is not None and not 0 < cell[2] <= now


def describe_position(position: int) -> str:
    """A position as people read it: round.member:sequence."""
    ballot = position_ballot(position)
    return f"{ballot_round(ballot)}.{ballot_member(ballot)}:{position_sequence(position)}"
