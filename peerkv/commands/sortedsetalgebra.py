"""Commands on several sorted sets at once: what any of them has, all of them, or only the first."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, filterfalse, islice, repeat
from math import inf, isnan
from operator import add, mul
from typing import Any, Final, NamedTuple, TypeAlias

from peerkv.commands.access import INTEGER_MAX, SYNTAX, WRONG_TYPE, double, integer, integer_between, value_of
from peerkv.commands.sortedsets import listed, stored
from peerkv.commands.table import Effect, Kind, command
from peerkv.resp import CommandError, ReplyError
from peerkv.store.cell import Cells
from peerkv.store.values.sets import Set
from peerkv.store.values.sortedsets import Ordered, SortedSet, in_order

READ, WRITE = Kind.READ, Kind.WRITE

Scores: TypeAlias = dict[bytes, float]


class _Operands(NamedTuple):
    """What ZUNION and its like work on."""

    sets: list[Scores]
    weights: list[float]
    aggregate: bytes
    with_scores: bool
    limit: int


def _scores_of(cells: Cells, keys: Sequence[bytes], now: int) -> list[Scores]:
    """What sorted sets hold, and sets, whose members have the score 1."""
    found: list[Scores] = []
    for key in keys:
        value = value_of(cells, key, now)
        if value is None:
            found.append({})
        elif isinstance(value, SortedSet):
            found.append(value.scores())
        elif isinstance(value, Set):
            found.append(dict.fromkeys(value.names(), 1.0))
        else:
            raise CommandError(WRONG_TYPE)
    return found


def _operands(cells: Cells, request: Sequence[bytes], now: int, at: int) -> _Operands:
    """`numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM | MIN | MAX] [WITHSCORES] [LIMIT limit]`, as far as a
    command has it; `numkeys` stands at a place. Raises CommandError."""
    name = request[0].decode("ascii").lower()
    count = integer(request[at])
    if count < 1:
        raise CommandError(ReplyError(f"ERR at least 1 input key is needed for '{name}' command"))
    words = request[at + 1 :]
    if count > len(words):
        raise CommandError(SYNTAX)
    sets = _scores_of(cells, words[:count], now)
    weights, aggregate, with_scores, limit = [1.0] * count, b"SUM", False, 0
    combines = "card" not in name and "diff" not in name
    options = iter(range(count, len(words)))
    for place in options:
        option, left = words[place].upper(), len(words) - place - 1
        if option == b"WEIGHTS" and combines and left >= count:
            weights = [
                double(words[next(options)], ReplyError("ERR weight value is not a float")) for _ in range(count)
            ]
        elif option == b"AGGREGATE" and combines and left:
            aggregate = words[next(options)].upper()
            if aggregate not in (b"SUM", b"MIN", b"MAX"):
                raise CommandError(SYNTAX)
        elif option == b"WITHSCORES" and "store" not in name and "card" not in name:
            with_scores = True
        elif option == b"LIMIT" and "card" in name and left:
            limit = integer_between(words[next(options)], 0, INTEGER_MAX, "LIMIT can't be negative")
        else:
            raise CommandError(SYNTAX)
    return _Operands(sets, weights, aggregate, with_scores, limit)


def _numbers(scores: list[float]) -> list[float]:
    """What is no number counts as 0: infinity without a weight, or infinity less infinity."""
    return [0.0 if isnan(score) else score for score in scores] if isnan(sum(scores)) else scores


def _weighted(scores: Iterable[float], weight: float) -> Iterable[float]:
    return map(mul, scores, repeat(weight)) if weight != 1.0 else scores


_AGGREGATES: Final[dict[bytes, tuple[Callable[[float, float], float], float]]] = {
    b"SUM": (add, 0.0),
    b"MIN": (min, inf),
    b"MAX": (max, -inf),
}
"""What becomes of two scores, and the one that changes no other."""


def _by_size(operands: _Operands) -> list[tuple[Scores, float]]:
    """The sets with their weights, the smallest first."""
    return sorted(zip(operands.sets, operands.weights, strict=True), key=lambda pair: len(pair[0]))


def _common(sets: Sequence[Scores]) -> Iterator[bytes]:
    """The members of the first that all others have, too."""
    members: Iterator[bytes] = iter(sets[0])
    for other in sets[1:]:
        members = filter(other.__contains__, members)
    return members


def _ordered(members: Iterable[bytes], scores: Iterable[float]) -> Ordered:
    found, of_found = in_order(list(members), list(scores))
    start, stop = bisect_left(of_found, 0.0), bisect_right(of_found, 0.0)
    of_found[start:stop] = [0.0] * (stop - start)  # there is one zero
    return found, of_found


def _union(operands: _Operands) -> Ordered:
    combined, neutral = _AGGREGATES[operands.aggregate]
    scores: Scores = {}

    def added(found: Scores, weight: float) -> tuple[list[float], int]:
        """What the members of one have with those before it, and how many of them were there."""
        weighted = _numbers(list(_weighted(found.values(), weight)))
        if not scores:
            return weighted, 0
        before = list(map(scores.get, found))
        new = before.count(None)
        olds = before if not new else [old if old is not None else neutral for old in before]
        return _numbers(list(map(combined, olds, weighted))), len(found) - new  # type: ignore[arg-type]

    *several, (last, its_weight) = _by_size(operands)
    for found, weight in several:
        if scores or weight != 1.0:
            scores.update(zip(found, added(found, weight)[0], strict=True))
        else:
            scores.update(found)
    both, common = added(last, its_weight)
    rest = list(filterfalse(last.__contains__, scores)) if common < len(scores) else []
    return _ordered([*last, *rest], [*both, *map(scores.__getitem__, rest)])


def _intersection(operands: _Operands) -> Ordered:
    combined, _ = _AGGREGATES[operands.aggregate]
    (first, first_weight), *others = _by_size(operands)
    members: Sequence[bytes] = list(first)
    scores = _numbers(list(_weighted(first.values(), first_weight)))
    for found, weight in others:
        theirs: Sequence[Any] = list(map(found.get, members))
        if None in theirs:
            are_there = [score is not None for score in theirs]
            members, scores, theirs = (list(compress(items, are_there)) for items in (members, scores, theirs))
        scores = _numbers(list(map(combined, scores, _weighted(theirs, weight))))
    return _ordered(members, scores)


def _difference(operands: _Operands) -> Ordered:
    first, *others = operands.sets
    members: Iterator[bytes] = iter(first)
    for other in others:
        members = filterfalse(other.__contains__, members)
    rest = list(members)
    return _ordered(rest, map(first.__getitem__, rest))


def _combined(name: str, combine: Callable[[_Operands], Ordered], summary: str) -> None:
    """The two commands that answer and that store what becomes of several sorted sets."""

    @command(name, READ, summary=f"Returns {summary}.")
    def read(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
        operands = _operands(cells, request, now, 1)
        return (), listed(combine(operands), with_scores=operands.with_scores)

    @command(f"{name}store", WRITE, summary=f"Stores {summary}.")
    def store(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
        return stored(cells, request[1], combine(_operands(cells, request, now, 2)), now)


_combined("zunion", _union, "the members that any of several sorted sets has")
_combined("zinter", _intersection, "the members that several sorted sets have in common")
_combined("zdiff", _difference, "the members of the first sorted set that none of the others has")


@command("zintercard", READ, summary="Returns how many members several sorted sets have in common.")
def zintercard(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    operands = _operands(cells, request, now, 1)
    members = _common(sorted(operands.sets, key=len))
    return (), len(list(islice(members, operands.limit or None)))
