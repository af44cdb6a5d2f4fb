"""Sorted sets: members by their scores, and in order of (score, member).

Small ones are **packed** into one string: the scores, the members' lengths, the members, all in order, and their count.
100 members of 10 bytes take 20 bytes each, as in Redis, and the garbage collector does not look at them. They are
never changed: a change makes another one, in 25 us of 100 members. What is large stays so until it is empty, or copied
in parts.

**Large** ones are a dict of scores, and an order: chunks of up to 1,024 members that are kept sorted as they grow, each
as a list of scores and one of members. All of it refers to the objects of the dict. Beside `sortedcontainers` with
tuples of score and member this takes 142 bytes a member and not 189 (100,000 members of 10 bytes), and 70 % of the
time.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress, count, islice
from math import isnan
from operator import eq, ge, itemgetter, le, lt
from struct import Struct
from typing import Any, ClassVar, Final, TypeAlias

from peerkv.store.values import Look, Patch, each_of, keyed, patch, patch_of_others
from peerkv.store.values.keyed import Keyed
from peerkv.store.values.packed import ROW_BYTES, ROW_ITEMS, row_of, strings

CHUNK_MAX: Final = 1024
"""Members. To put one into a chunk moves 8 kB at most, a microsecond; to find a rank adds up 100 lengths of 100,000."""
CHUNK_SMALL: Final = CHUNK_MAX // 8
"""A chunk that has become so small is joined to its neighbour."""
ANEW_SHARE: Final = 2
"""Where no more than so many times as many members are left as have gone, the dict is made anew: to remove one takes
so many times as long as to put one in."""

SPLICED_MAX: Final = 8
"""Members that are put into a packed one by one; of more all are sorted."""

_score = itemgetter(0)
_member = itemgetter(1)
_DOUBLE: Final = Struct(">d")
_DOUBLES: Final = [Struct(f"<{count}d") for count in range(ROW_ITEMS + 1)]
_ONE: Final = _DOUBLES[1]

Ordered: TypeAlias = tuple[Sequence[bytes], Sequence[float]]
"""Members in order, and their scores."""


def packed_score(score: float) -> bytes:
    """As one travels, and ..."""
    return _DOUBLE.pack(score)


def packed_scores(scores: Sequence[float]) -> bytes:
    """... as many do."""
    return Struct(f">{len(scores)}d").pack(*scores)


def in_order(members: Sequence[bytes], scores: Sequence[float]) -> tuple[list[bytes], list[float]]:
    """These members and their scores, sorted by score and then by member. Of many, places are sorted by their scores,
    which are floats all of them: of 100,000 that takes half the time that pairs take."""
    if len(scores) <= ROW_ITEMS:
        order = sorted(zip(scores, members, strict=True))
        return list(map(_member, order)), list(map(_score, order))
    places = sorted(range(len(scores)), key=scores.__getitem__)
    members, scores = [members[place] for place in places], [scores[place] for place in places]
    stop = 0
    for place in list(compress(count(), map(eq, scores, islice(scores, 1, None)))):
        if place < stop:
            continue
        stop = place + 2
        while stop < len(scores) and scores[stop] == scores[place]:
            stop += 1
        some = members[place:stop]
        if some != sorted(some):
            pairs = sorted(zip(some, scores[place:stop], strict=True))
            members[place:stop], scores[place:stop] = zip(*pairs, strict=True)
    return members, scores


def _by_member(members: Sequence[bytes], scores: Sequence[float]) -> dict[bytes, float]:
    return {member: score for member, score in zip(members, scores, strict=True)}  # noqa: C416 (`dict` takes a third more)


def _are_in_order(members: Sequence[bytes], scores: list[float]) -> bool:
    """Whether they are numbers, and (score, member) of each is greater than of the one before."""
    if isnan(sum(scores)) and any(map(isnan, scores)):
        return False
    doubtful = compress(count(1), map(ge, scores, islice(scores, 1, None)))
    return all(scores[place - 1] == scores[place] and members[place - 1] < members[place] for place in doubtful)


class SortedSet(Keyed):
    """What commands see of one. A rank counts from 0."""

    __slots__ = ()
    TYPE: ClassVar[str] = "zset"

    @abstractmethod
    def score(self, member: bytes) -> float | None:
        """None: it is no member."""

    @abstractmethod
    def rank(self, member: bytes) -> int:
        """Of what is a member."""

    @abstractmethod
    def between(self, start: int, stop: int) -> Ordered:
        """Those of the ranks from `start` up to `stop`, which are ranks, or the end."""

    @abstractmethod
    def below(self, score: float) -> int:
        """How many have a lower score."""

    @abstractmethod
    def upto(self, score: float) -> int:
        """How many have this score or a lower one."""

    @abstractmethod
    def below_member(self, member: bytes) -> int:
        """How many are lower as strings, if all have one score."""

    @abstractmethod
    def upto_member(self, member: bytes) -> int:
        """How many are lower as strings, or this one, if all have one score."""

    @abstractmethod
    def scores(self) -> dict[bytes, float]:
        """By member; not to be changed."""

    @abstractmethod
    def with_scores(self, pairs: Sequence[tuple[bytes, float]]) -> SortedSet:
        """With these scores, of members that are new or not; this one, changed, or another."""

    @abstractmethod
    def without(self, members: Sequence[bytes]) -> SortedSet:
        """Without these members. Raises ValueError, before anything is changed, if one is not there."""

    @abstractmethod
    def without_ranks(self, start: int, stop: int) -> SortedSet:
        """Without those from one rank up to another."""

    @abstractmethod
    def part(self, ranges: Sequence[tuple[int, int]]) -> SortedSet:
        """Another one, of those of these ranks, from each up to another, ascending."""


def sorted_set_of(held: dict[bytes, float]) -> SortedSet:
    """A sorted set; the dict is its own afterwards."""
    members, scores = in_order(list(held), list(held.values()))
    return _packed(members, scores) or LargeSortedSet(held, members, scores)


def _place(members: list[bytes], scores: list[float], member: bytes, score: float) -> int:
    """Where a member is, or belongs, among others in order."""
    place = bisect_left(scores, score)
    if place < len(scores) and scores[place] == score:
        place = bisect_left(members, member, place, bisect_right(scores, score, place))
    return place


# -- small ones


class SmallSortedSet(SortedSet, bytes):
    """`8 * n` bytes of scores, `n` lengths, the members one after another, and `n`."""

    __slots__ = ()

    def __len__(self) -> int:
        return self[-1]

    def _scores(self) -> tuple[float, ...]:
        return _DOUBLES[self[-1]].unpack_from(self)

    def names(self) -> Sequence[bytes]:
        count = self[-1]
        return strings((self[8 * count : 9 * count], self[9 * count : -1]))

    def drawn(self, numbers: Iterator[int]) -> bytes:
        return self.names()[keyed.below(len(self), numbers)]

    def page(self, _start: int, _count: int) -> tuple[list[bytes], int]:
        return list(self.names()), 0

    def score(self, member: bytes) -> float | None:
        if self.find(member, 9 * self[-1], -1) < 0:
            return None
        try:
            score: float = _ONE.unpack_from(self, 8 * self.names().index(member))[0]
        except ValueError:
            return None
        return score

    def rank(self, member: bytes) -> int:
        return self.names().index(member)

    def between(self, start: int, stop: int) -> Ordered:
        return self.names()[start:stop], self._scores()[start:stop]

    def below(self, score: float) -> int:
        return bisect_left(self._scores(), score)

    def upto(self, score: float) -> int:
        return bisect_right(self._scores(), score)

    def below_member(self, member: bytes) -> int:
        return bisect_left(self.names(), member)

    def upto_member(self, member: bytes) -> int:
        return bisect_right(self.names(), member)

    def scores(self) -> dict[bytes, float]:
        return dict(zip(self.names(), self._scores(), strict=True))

    def with_scores(self, pairs: Sequence[tuple[bytes, float]]) -> SortedSet:
        if len(pairs) > SPLICED_MAX:
            return sorted_set_of({**self.scores(), **dict(pairs)})
        members, scores = list(self.names()), list(self._scores())
        for member, score in pairs:
            if member in members:
                old = members.index(member)
                del members[old], scores[old]
            place = _place(members, scores, member, score)
            members.insert(place, member)
            scores.insert(place, score)
        return _packed(members, scores) or LargeSortedSet(_by_member(members, scores), members, scores)

    def without(self, members: Sequence[bytes]) -> SortedSet:
        scores = self.scores()
        for member in members:
            if scores.pop(member, None) is None:
                raise ValueError("what is to be removed is not here")
        return _repacked(list(scores), list(scores.values()))

    def without_ranks(self, start: int, stop: int) -> SortedSet:
        members, scores = list(self.names()), list(self._scores())
        del members[start:stop], scores[start:stop]
        return _repacked(members, scores)

    def part(self, ranges: Sequence[tuple[int, int]]) -> SortedSet:
        names, scores = self.names(), self._scores()
        members = [name for start, stop in ranges for name in names[start:stop]]
        return _repacked(members, [score for start, stop in ranges for score in scores[start:stop]])

    def parts(self) -> Iterator[Patch]:
        return _parts(zip(self.names(), self._scores(), strict=True))

    def copy(self) -> SmallSortedSet:
        return self

    @property
    def size(self) -> int:
        return self.__sizeof__()


def _packed(members: Sequence[bytes], scores: Sequence[float]) -> SmallSortedSet | None:
    """None: they are too many, or too long."""
    if len(members) > ROW_ITEMS:
        return None
    try:
        lengths, text = row_of(members)
    except ValueError:
        return None
    if len(text) > ROW_BYTES:
        return None
    return SmallSortedSet(b"%b%b%b%c" % (_DOUBLES[len(members)].pack(*scores), lengths, text, len(members)))


def _repacked(members: Sequence[bytes], scores: Sequence[float]) -> SmallSortedSet:
    found = _packed(members, scores)
    assert found is not None, "a part of what was packed can be packed"
    return found


def _parts(pairs: Iterable[tuple[bytes, float]]) -> Iterator[Patch]:
    return each_of("zset", ((_DOUBLE.pack(score), member) for member, score in pairs))


# -- large ones


class LargeSortedSet(keyed.Large, SortedSet):
    """Chunk `i` has `_scores[i]` and `_members[i]`, and its last one is `_last[i]`."""

    __slots__ = ("_before", "_last", "_members", "_scores")
    held: dict[bytes, float]

    def __init__(self, held: dict[bytes, float], members: list[bytes], scores: list[float]) -> None:
        """The members in order, and their scores. The dict is its own afterwards."""
        super().__init__(held)
        fill = CHUNK_MAX // 2
        self._scores = [scores[at : at + fill] for at in range(0, len(scores), fill)]
        self._members = [members[at : at + fill] for at in range(0, len(members), fill)]
        self._last = [(scores[-1], members[-1]) for scores, members in zip(self._scores, self._members, strict=True)]
        self._before = [0]
        """How many are in the chunks before a chunk; of as many chunks as have been asked for since a change."""

    # -- what it holds

    def score(self, member: bytes) -> float | None:
        return self.held.get(member)

    def rank(self, member: bytes) -> int:
        number, place = self._find(self.held[member], member)
        return self._before_chunk(number) + place

    def between(self, start: int, stop: int) -> Ordered:
        members: list[bytes] = []
        scores: list[float] = []
        number, place = self._at(start, len(self.held))
        while len(members) < stop - start:
            end = place + stop - start - len(members)
            members += self._members[number][place:end]
            scores += self._scores[number][place:end]
            number, place = number + 1, 0
        return members, scores

    def below(self, score: float) -> int:
        number = bisect_left(self._last, (score,))  # what is longer comes behind it
        return self._rank_in(number, bisect_left(self._scores[number], score) if number < len(self._last) else 0)

    def upto(self, score: float) -> int:
        number = bisect_right(self._last, score, key=_score)
        return self._rank_in(number, bisect_right(self._scores[number], score) if number < len(self._last) else 0)

    def below_member(self, member: bytes) -> int:
        number = bisect_left(self._last, member, key=_member)
        return self._rank_in(number, bisect_left(self._members[number], member) if number < len(self._last) else 0)

    def upto_member(self, member: bytes) -> int:
        number = bisect_right(self._last, member, key=_member)
        return self._rank_in(number, bisect_right(self._members[number], member) if number < len(self._last) else 0)

    def _rank_in(self, number: int, place: int) -> int:
        return self._before_chunk(number) + place if number < len(self._last) else len(self.held)

    def _find(self, score: float, member: bytes) -> tuple[int, int]:
        """(chunk, place in it) of what is there, or where it belongs: behind the last chunk, too."""
        number = bisect_left(self._last, (score, member))
        if number == len(self._last):
            return number, 0
        return number, _place(self._members[number], self._scores[number], member, score)

    def _at(self, rank: int, length: int) -> tuple[int, int]:
        """(chunk, place in it) of a rank, of so many; both ends are found without counting."""
        if rank < len(self._members[0]):
            return 0, rank
        last = len(self._members) - 1
        place = rank - (length - len(self._members[last]))
        if place >= 0:
            return last, place
        self._before_chunk(last)
        number = bisect_right(self._before, rank) - 1
        return number, rank - self._before[number]

    def _before_chunk(self, number: int) -> int:
        before = self._before
        known = len(before)
        if number >= known:
            lengths = map(len, self._members[known - 1 : number])
            before += islice(accumulate(lengths, initial=before[-1]), 1, None)
        return before[number]

    def scores(self) -> dict[bytes, float]:
        return self.held

    def drawn(self, numbers: Iterator[int]) -> bytes:
        rank = keyed.below(len(self.held), numbers)
        return self.between(rank, rank + 1)[0][0]

    # -- changes

    def with_scores(self, pairs: Sequence[tuple[bytes, float]]) -> SortedSet:
        held = self.held
        for member, score in pairs:
            old = held.get(member)
            if old is not None:
                if old == score:
                    continue
                self._take_out(*self._find(old, member))
            held[member] = score
            self._put_in(score, member)
        return self

    def _put_in(self, score: float, member: bytes) -> None:
        number, place = self._find(score, member)
        if number == len(self._last):
            if not number:
                self._scores, self._members, self._last = [[score]], [[member]], [(score, member)]
                return
            number -= 1
            place = len(self._members[number])
            self._last[number] = score, member
        scores, members = self._scores[number], self._members[number]
        scores.insert(place, score)
        members.insert(place, member)
        if len(members) > CHUNK_MAX:
            # What comes in ascending order leaves full chunks behind it.
            at = CHUNK_MAX if number + 1 == len(self._last) and place == CHUNK_MAX else CHUNK_MAX // 2
            self._scores.insert(number + 1, scores[at:])
            self._members.insert(number + 1, members[at:])
            del scores[at:], members[at:]
            self._last.insert(number, (scores[-1], members[-1]))
        del self._before[number + 1 :]

    def _take_out(self, number: int, place: int, stop: int = 0) -> list[bytes]:
        """One member out of a chunk, or those up to another place; which they were."""
        stop = stop or place + 1
        scores, members = self._scores[number], self._members[number]
        taken = members[place:stop]
        if len(taken) == len(members):
            del self._scores[number], self._members[number], self._last[number]
        else:
            del scores[place:stop], members[place:stop]
            if place == len(members):
                self._last[number] = scores[-1], members[-1]
            if len(members) <= CHUNK_SMALL:
                self._join(number if number + 1 < len(self._last) else number - 1)
        del self._before[max(1, number) :]
        return taken

    def _join(self, number: int) -> None:
        """A chunk and the one behind it become one, if that leaves room."""
        if number >= 0 and len(self._members[number]) + len(self._members[number + 1]) <= CHUNK_MAX // 2:
            self._scores[number] += self._scores.pop(number + 1)
            self._members[number] += self._members.pop(number + 1)
            del self._last[number]

    def without(self, members: Sequence[bytes]) -> SortedSet:
        if len(set(members)) < len(members):
            raise ValueError("what is to be removed is said twice")
        self.about_to_remove(members)
        for member in members:
            self._take_out(*self._find(self.held.pop(member), member))
        return self

    def without_ranks(self, start: int, stop: int) -> SortedSet:
        if self._index is not None:
            self.about_to_remove(self.between(start, stop)[0])
        gone: list[bytes] = []
        while len(gone) < stop - start:
            number, place = self._at(start, len(self.held) - len(gone))
            gone += self._take_out(number, place, min(place + stop - start - len(gone), len(self._members[number])))
        if len(gone) * (ANEW_SHARE + 1) < len(self.held):
            for _ in map(self.held.__delitem__, gone):
                pass
        else:
            self.held = self._held_anew()
        return self

    def _held_anew(self) -> dict[bytes, float]:
        return {
            member: score
            for members, scores in zip(self._members, self._scores, strict=True)
            for member, score in zip(members, scores, strict=True)
        }

    def part(self, ranges: Sequence[tuple[int, int]]) -> SortedSet:
        made = LargeSortedSet({}, [], [])
        for start, stop in ranges:
            number, place = self._at(start, len(self.held))
            left = stop - start
            while left:
                members = self._members[number][place : place + left]
                made._append(members, self._scores[number][place : place + left])
                left -= len(members)
                number, place = number + 1, 0
        gone = len(self.held) - sum(map(len, made._members))
        if gone * (ANEW_SHARE + 1) >= len(self.held):
            made.held = made._held_anew()
            return _packed(*made.between(0, len(made.held))) or made if len(made.held) <= ROW_ITEMS else made
        made.held = self.held.copy()
        ends = [0, *chain.from_iterable(ranges), len(self.held)]
        for start, stop in zip(ends[::2], ends[1::2], strict=True):
            for member in self.between(start, stop)[0] if start < stop else ():
                del made.held[member]
        return made

    def _append(self, members: list[bytes], scores: list[float]) -> None:
        """Some of a chunk's behind the last one, whose scores are to be noted, too."""
        if self._members and len(self._members[-1]) + len(members) <= CHUNK_MAX:
            self._members[-1] += members
            self._scores[-1] += scores
            self._last[-1] = scores[-1], members[-1]
        else:
            self._members.append(members)
            self._scores.append(scores)
            self._last.append((scores[-1], members[-1]))

    def parts(self) -> Iterator[Patch]:
        chunks = [(members.copy(), scores.copy()) for members, scores in zip(self._members, self._scores, strict=True)]
        return _parts(pair for chunk in chunks for pair in zip(*chunk, strict=True))

    def copy(self) -> LargeSortedSet:
        copied = LargeSortedSet(self.held.copy(), [], [])
        copied._scores = [scores.copy() for scores in self._scores]
        copied._members = [members.copy() for members in self._members]
        copied._last = self._last.copy()
        return copied

    @property
    def size(self) -> int:
        return super().size + 16 * len(self.held)


# -- patches


def _sorted_set(value: Any) -> SortedSet:
    if not isinstance(value, SortedSet):
        raise ValueError("not a sorted set")
    return value


def _pairs(arguments: Sequence[bytes]) -> Sequence[tuple[bytes, float]]:
    scores = Struct(f">{len(arguments) // 2}d").unpack(b"".join(arguments[::2]))
    if any(map(isnan, scores)):
        raise ValueError("a score must be a number")
    return list(zip(arguments[1::2], scores, strict=True))


@patch("zset", each=(bytes, bytes))
def _zset(value: Any, arguments: Sequence[bytes]) -> SortedSet:
    """Scores, each with its member, which is new or has had another one."""
    pairs = _pairs(arguments)
    return sorted_set_of(dict(pairs)) if value is None else _sorted_set(value).with_scores(pairs)


@patch("zput", bytes, each=(bytes,))
def _zput(_value: Any, arguments: Sequence[bytes]) -> SortedSet:
    """Scores in a row, and then their members, all in order, in place of whatever was there."""
    members = list(arguments[1:])
    scores = list(Struct(f">{len(members)}d").unpack(arguments[0]))
    if not _are_in_order(members, scores):
        raise ValueError("not in order")
    held = _by_member(members, scores)
    if len(held) < len(members):
        raise ValueError("a member is there twice")
    return _packed(members, scores) or LargeSortedSet(held, members, scores)


@patch_of_others("zpart", bytes, each=(int, int))
def _zpart(look: Look, arguments: Sequence[Any]) -> SortedSet:
    """Of what another key holds those of these ranks, from each up to another, ascending."""
    found = _sorted_set(look(arguments[0]))
    ranks = arguments[1:]
    if not all(map(lt, ranks[::2], ranks[1::2])) or not all(map(le, ranks[1::2], ranks[2::2])):
        raise ValueError("ranks that do not ascend")
    if ranks and not 0 <= ranks[0] <= ranks[-1] <= len(found):
        raise ValueError(f"ranks from {ranks[0]} up to {ranks[-1]} of a sorted set of {len(found)}")
    return found.part(list(zip(ranks[::2], ranks[1::2], strict=True)))


@patch("zrem", each=(bytes,))
def _zrem(value: Any, members: Sequence[bytes]) -> SortedSet:
    return _sorted_set(value).without(members)


@patch("zcut", int, int)
def _zcut(value: Any, arguments: Sequence[int]) -> SortedSet:
    """Without those from one rank up to another."""
    found = _sorted_set(value)
    start, stop = arguments
    if not 0 <= start <= stop <= len(found):
        raise ValueError(f"no ranks from {start} up to {stop} in a sorted set of {len(found)}")
    return found.without_ranks(start, stop)
