"""A cell is what a slot knows of one key: `(version, value, deadline)`; a position says how far a copy of a slot is.

A **ballot** is an integer `(round, member number)`, a **position** an integer `(ballot, sequence)`, both packed so that
integer order is the order of history, and a cell's **version** is the position at which it was written. Packed because
a million cells hold a million versions (32 bytes each instead of 88 for nested tuples), and because one comparison of
integers costs a third of one of tuples. A position has 62 bits, so that it never is longer than a machine's word, of
which the encoding takes a ninth of the time:

- 26 of the round: 67 million ballots of a slot, 10 years with a new home every 5 s, day and night. At their end that
  slot gets no other home and no new ballot (NOQUORUM); no other slot is concerned.
- 16 of the member: 65,535 joins, 22 years with 8 restarts a day, or 227 days of a node that crashes every 5 minutes. At
  their end nobody joins any more; who is there stays.
- 20 of the sequence: a million changes of one slot. At half of them the home begins a new ballot (rule H3): after 10 s
  at 50,000 changes a second, and the rounds then last twice as long as above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from peerkv.store.values import Body, Value

SEQUENCE_BITS: Final = 20
MEMBER_BITS: Final = 16
ROUND_BITS: Final = 26
ROUND_MAX: Final = (1 << ROUND_BITS) - 1
MEMBER_MAX: Final = (1 << MEMBER_BITS) - 1
"""Member numbers are never reused, so this many joins in the life of a cluster."""
BALLOT_MAX: Final = (1 << (ROUND_BITS + MEMBER_BITS)) - 1
SEQUENCE_MASK: Final = (1 << SEQUENCE_BITS) - 1
MEMBER_MASK: Final = (1 << MEMBER_BITS) - 1

Cell: TypeAlias = tuple[int, Value | None, int]
"""(version, value or None, deadline in milliseconds of cluster time or 0); no value: the key was deleted (a tombstone).
A plain tuple, of atoms where the value is a string: the garbage collector does not track it then (a million slots-class
instances make a full collection 150 ms long)."""

Cells: TypeAlias = Mapping[bytes, Cell]

Change: TypeAlias = tuple[bytes, Body, int]
"""(key, body, deadline or 0): what a command wants done. A patch says the deadline, too."""


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


def seen_of(cell: Cell | None, now: int = 0) -> int:
    """What is remembered of a key that was looked at: its version, negative if nothing is there, 0 if nothing is known
    to have been."""
    if cell is None:
        return 0
    return cell[0] if cell[1] is not None and not 0 < cell[2] <= now else -cell[0]


def describe_position(position: int) -> str:
    """A position as people read it: round.member:sequence."""
    ballot = position_ballot(position)
    return f"{ballot_round(ballot)}.{ballot_member(ballot)}:{position_sequence(position)}"
