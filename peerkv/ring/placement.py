"""Members -> for each slot its owners in order of preference: rendezvous hashing, zones and weights respected.

Every member has a score for every slot, derived from its name alone, and the best scores own the slot (highest random
weight: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998). Nothing else goes in: no
history, no order of joining, no addresses. So every node that knows the members knows the ring; a join or a leave moves
only the share that must move; two changes commute; a dead member's slots spread over all the others; and a member that
returns under its name returns to its place.

A member of weight w has w independent scores for each slot and plays the best of them: an exact w-fold share in integer
arithmetic, the same on every platform (-w/ln(h), the textbook's form, depends on the last bit of a logarithm).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_128
from sys import byteorder
from typing import Final

from peerkv.ring.keys import SLOTS

WEIGHT_MAX: Final = 16
PART: Final = 1024
"""Slots that are looked at in one go."""
SCORED_AS_ONE: Final = 64
"""A member's scores for so many slots take as long as it takes to choose the owners of one, ..."""
MEMBERS_AS_ONE: Final = 16
"""... of so many."""


@dataclass(frozen=True, slots=True)
class Place:
    """What placement needs of a member."""

    name: str
    zone: str = ""
    weight: int = 1


@lru_cache(maxsize=1024)
def scores(name: str, weight: int, slots: int = SLOTS) -> Sequence[int]:
    """The member's score for each slot, 64 bits each: of 16384 128 KiB, computed in 0.25 ms per unit of weight."""
    best = _scores(name, 0, slots)
    for choice in range(1, weight):
        best = array("Q", map(max, best, _scores(name, choice, slots)))
    return best


def _scores(name: str, choice: int, slots: int) -> array[int]:
    vector = array("Q", shake_128(b"peerkv-ring-v1/%d/%b" % (choice, name.encode())).digest(8 * slots))
    if vector.itemsize != 8:  # pragma: no cover - array("Q") has 8 bytes on every platform CPython supports
        raise AssertionError("array('Q') must hold 64 bits")
    if byteorder == "big":
        vector.byteswap()
    return vector


def owners(places: Sequence[Place], replicas: int, slots: int = SLOTS) -> list[tuple[int, ...]]:
    """For each slot the indexes into `places` of its owners, best score first; `replicas` of them as far as there are.

    With zones: the best member of each zone not yet represented, in order of score, until zones run out; then the best
    of the rest. Ties (one in 2^64) go by name.
    """
    rows, row_of = rows_of_owners(places, replicas, slots)
    return [rows[row] for row in row_of]


def rows_of_owners(
    places: Sequence[Place], replicas: int, slots: int = SLOTS
) -> tuple[list[tuple[int, ...]], list[int]]:
    """The same as the distinct rows of owners, in order of their first slots, and for each slot its row."""
    index: dict[tuple[int, ...], int] = {}
    row_of: list[int] = []
    for first in range(0, slots, PART):
        rows, rows_here = _part(tuple(places), replicas, slots, first)
        known = [index.setdefault(row, len(index)) for row in rows]
        row_of += [known[row] for row in rows_here]
    return list(index), row_of


def in_parts(places: Sequence[Place], replicas: int, slots: int = SLOTS) -> Iterator[int]:
    """Have `rows_of_owners` find everything computed, piece by piece; yields how many slots a piece was worth."""
    for place in places:
        scores(place.name, place.weight, slots)
        yield slots * place.weight // SCORED_AS_ONE
    for first in range(0, slots, PART):
        _part(tuple(places), replicas, slots, first)
        yield min(PART, slots - first) * max(1, len(places) // MEMBERS_AS_ONE)


@lru_cache(maxsize=8 * SLOTS // PART)
def _part(places: tuple[Place, ...], replicas: int, slots: int, first: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """`rows_of_owners` of `PART` slots. The last few answers are kept: who returns changes nothing here."""
    order = sorted(range(len(places)), key=lambda index: places[index].name)
    count = min(replicas, len(places))
    if count == 0:
        return [()], [0] * min(PART, slots - first)
    vectors = [scores(places[index].name, places[index].weight, slots)[first : first + PART] for index in order]
    zones = {place.zone for place in places}
    ranked = range(len(order))
    index: dict[tuple[int, ...], int] = {}
    """By ranks."""
    row_of: list[int] = []
    if len(zones) <= 1 or count == 1:
        for column in zip(*vectors, strict=True):
            # half the time of heapq's for few members
            best = tuple(sorted(ranked, key=column.__getitem__, reverse=True)[:count])
            row_of.append(index.setdefault(best, len(index)))
        return [tuple([order[rank] for rank in row]) for row in index], row_of
    for column in zip(*vectors, strict=True):
        ranking = sorted(ranked, key=column.__getitem__, reverse=True)
        chosen = _spread([order[rank] for rank in ranking], places, count, len(zones))
        row_of.append(index.setdefault(chosen, len(index)))
    return list(index), row_of


def _spread(ranking: list[int], places: Sequence[Place], count: int, zones: int) -> tuple[int, ...]:
    chosen: list[int] = []
    seen: set[str] = set()
    for index in ranking:
        if places[index].zone not in seen:
            seen.add(places[index].zone)
            chosen.append(index)
            if len(chosen) == count or len(seen) == zones:
                break
    for index in ranking:
        if len(chosen) == count:
            break
        if index not in chosen:
            chosen.append(index)
    rank = {index: position for position, index in enumerate(ranking)}
    return tuple(sorted(chosen, key=rank.__getitem__))
