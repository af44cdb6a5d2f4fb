"""Commands on a sorted set that do not wait for a member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from math import isnan
from typing import Final, NamedTuple, TypeAlias

from peerkv.commands.access import (
    INTEGER_MAX,
    SYNTAX,
    collection_of,
    count_option,
    deadline_of,
    double,
    integer,
    integer_between,
    read_double,
    span,
    value_of,
)
from peerkv.commands.elements import check_draws, check_size, cursor_from, draw_count, listing, numbers_from
from peerkv.commands.sets import TOO_LARGE
from peerkv.commands.strings import STRING_BYTES_MAX
from peerkv.commands.table import COMMANDS, Effect, Kind, arity_error, command
from peerkv.databases import bare_key
from peerkv.resp import NULL_ARRAY, CommandError, Pairs, Reply, ReplyError, text_of_double
from peerkv.store.cell import Cells, Change
from peerkv.store.values import size_of_body
from peerkv.store.values.sortedsets import Ordered, SortedSet, packed_score, packed_scores

READ, WRITE = Kind.READ, Kind.WRITE
NOT_A_NUMBER: Final = ReplyError("ERR resulting score is not a number (NaN)")
NOT_A_SCORE_RANGE: Final = ReplyError("ERR min or max is not a float")
NOT_A_MEMBER_RANGE: Final = ReplyError("ERR min or max not valid string range item")

Ranks: TypeAlias = tuple[int, int]
"""From one rank up to another."""
Range: TypeAlias = Callable[[SortedSet], Ranks]


def sorted_set_of(cells: Cells, key: bytes, now: int) -> SortedSet | None:
    """What a key that lives holds. Raises CommandError if it is no sorted set."""
    return collection_of(SortedSet, cells, key, now)  # type: ignore[type-abstract]


def listed(found: Ordered, *, with_scores: bool, backwards: bool = False) -> Reply:
    """Members, and perhaps their scores, as a reply."""
    members, scores = found
    if backwards:
        members, scores = members[::-1], scores[::-1]
    if not with_scores:
        return list(members)
    return Pairs(list(chain.from_iterable(zip(members, scores, strict=True))))


def stored(cells: Cells, key: bytes, found: Ordered, now: int) -> Effect:
    """The effect of a command that puts its result, which is in order, where something else may be."""
    members, scores = found
    if not members:
        return _dropped(cells, key, now), 0
    body = ("zput", packed_scores(scores), *members)
    if size_of_body(body) > STRING_BYTES_MAX:
        raise CommandError(TOO_LARGE)
    return ((key, body, 0),), len(members)


def stored_part(cells: Cells, key: bytes, source: bytes, ranges: Sequence[Ranks], now: int) -> Effect:
    """Likewise, where the result are some ranks of what another key holds, ascending. Only these travel: all owners
    hold the members."""
    if not ranges:
        return _dropped(cells, key, now), 0
    body = ("zpart", source, *chain.from_iterable(ranges))
    return ((key, body, 0),), sum([stop - start for start, stop in ranges])


def _dropped(cells: Cells, key: bytes, now: int) -> Sequence[Change]:
    return ((key, None, 0),) if value_of(cells, key, now) is not None else ()


# -- scores


_WORDS: Final = (b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR")


class Options(NamedTuple):
    """Of ZADD."""

    only_new: bool = False
    only_existing: bool = False
    only_greater: bool = False
    only_less: bool = False
    counts_changed: bool = False
    increments: bool = False


def add(
    cells: Cells, key: bytes, given: Sequence[float], members: Sequence[bytes], options: Options, now: int
) -> Effect:
    """Give members their scores."""
    found = sorted_set_of(cells, key, now)
    old_scores = found.scores() if found is not None and len(given) > 1 else {}
    single = found if len(given) == 1 else None
    changed: dict[bytes, float] = {}
    added = updated = 0
    last: float | None = None
    for score, member in zip(given, members, strict=True):
        old = changed.get(member)
        if old is None:
            old = single.score(member) if single is not None else old_scores.get(member)
        last = None
        if options.only_existing if old is None else options.only_new:
            continue
        if old is not None:
            if options.increments:
                score += old
                if isnan(score):
                    return (), NOT_A_NUMBER
            if (options.only_less and score >= old) or (options.only_greater and score <= old):
                continue
        last = score
        if old is None:
            added += 1
        elif score != old:
            updated += 1
        else:
            continue
        changed[member] = score + 0.0  # there is one zero
    reply: Reply = last if options.increments else added + updated if options.counts_changed else added
    if not changed:
        return (), reply
    arguments = chain.from_iterable(zip(map(packed_score, changed.values()), changed, strict=True))
    return ((key, ("zset", *arguments), deadline_of(cells, key, now)),), reply


@command(
    "zadd",
    WRITE,
    summary="Gives members scores in a sorted set, which is made if there is none.",
)
def zadd(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    first = 2
    given: set[bytes] = set()
    while first < len(request) and (option := request[first].upper()) in _WORDS:
        given.add(option)
        first += 1
    options = Options(*[option in given for option in _WORDS])
    words = request[first:]
    if not words or len(words) % 2:
        return (), SYNTAX
    if options.only_new and options.only_existing:
        return (), ReplyError("ERR XX and NX options at the same time are not compatible")
    if options.only_new + options.only_greater + options.only_less > 1:
        return (), ReplyError("ERR GT, LT, and/or NX options at the same time are not compatible")
    if options.increments and len(words) > 2:
        return (), ReplyError("ERR INCR option supports a single increment-element pair")
    return add(cells, request[1], [double(word) for word in words[::2]], words[1::2], options, now)


@command("zincrby", WRITE, summary="Adds to the score of a member of a sorted set; of a new one it is 0.")
def zincrby(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    if request[2].upper() in _WORDS:  # it is taken for an option of ZADD, and then a score is missing
        return (), SYNTAX
    return add(cells, request[1], [double(request[2])], request[3:], Options(increments=True), now)


@command("zrem", WRITE, summary="Removes members from a sorted set.")
def zrem(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    found = sorted_set_of(cells, key, now)
    if found is None:
        return (), 0
    members = [member for member in dict.fromkeys(request[2:]) if found.score(member) is not None]
    if not members:
        return (), 0
    if len(members) == len(found):
        return ((key, None, 0),), len(members)
    return ((key, ("zrem", *members), deadline_of(cells, key, now)),), len(members)


@command("zcard", READ, summary="Returns how many members a sorted set has.")
def zcard(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), len(sorted_set_of(cells, request[1], now) or ())


@command("zscore", READ, summary="Returns the score of a member of a sorted set.")
def zscore(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    found = sorted_set_of(cells, request[1], now)
    return (), found.score(request[2]) if found is not None else None


@command("zmscore", READ, summary="Returns the scores of members of a sorted set.")
def zmscore(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    found = sorted_set_of(cells, request[1], now)
    scores = found.scores() if found is not None else {}
    return (), [scores.get(member) for member in request[2:]]


def _rank(cells: Cells, request: Sequence[bytes], now: int, *, backwards: bool) -> Effect:
    if len(request) > 4:
        return (), arity_error(COMMANDS["zrevrank" if backwards else "zrank"])
    with_score = len(request) == 4
    if with_score and request[3].upper() != b"WITHSCORE":
        return (), SYNTAX
    found = sorted_set_of(cells, request[1], now)
    score = found.score(request[2]) if found is not None else None
    if found is None or score is None:
        return (), NULL_ARRAY if with_score else None
    rank = found.rank(request[2])
    if backwards:
        rank = len(found) - 1 - rank
    return (), [rank, score] if with_score else rank


@command("zrank", READ, summary="Returns the rank of a member of a sorted set, the lowest score first.")
def zrank(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _rank(cells, request, now, backwards=False)


@command("zrevrank", READ, summary="Returns the rank of a member of a sorted set, the highest score first.")
def zrevrank(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _rank(cells, request, now, backwards=True)


# -- ranges


def _bound(argument: bytes) -> tuple[float, bool]:
    """(score, whether it is not in the range), as C reads it: up to a zero byte, and nothing is 0."""
    text = argument.split(b"\0", 1)[0]
    excluded = text.startswith(b"(")
    text = text[excluded:]
    found = read_double(text) if text else (0.0, True)
    if found is None:
        raise CommandError(NOT_A_SCORE_RANGE)
    return found[0], excluded


def by_score(least: bytes, most: bytes) -> Range:
    """A range of scores, `(` before one that is not in it. Raises CommandError."""
    return between_scores(*_bound(least), *_bound(most))


def between_scores(low: float, low_excluded: bool, high: float, high_excluded: bool) -> Range:
    """The ranks of a range of scores."""

    def ranks(found: SortedSet) -> Ranks:
        start = found.upto(low) if low_excluded else found.below(low)
        return start, max(start, found.below(high) if high_excluded else found.upto(high))

    return ranks


def _member_bound(argument: bytes, *, least: bool) -> Callable[[SortedSet], int]:
    """How many members stand before a bound."""
    sign, text = argument[:1], argument[1:]
    if sign in (b"-", b"+") and text[:1] in (b"", b"\0"):
        return lambda found: 0 if sign == b"-" else len(found)
    if sign not in (b"(", b"["):
        raise CommandError(NOT_A_MEMBER_RANGE)
    if least == (sign == b"["):
        return lambda found: found.below_member(text)
    return lambda found: found.upto_member(text)


def by_member(least: bytes, most: bytes) -> Range:
    """A range of members by their bytes: `[` before one that is in it, `(` before one that is not, `-` and `+` for the
    ends. Raises CommandError."""
    low, high = _member_bound(least, least=True), _member_bound(most, least=False)

    def ranks(found: SortedSet) -> Ranks:
        start = low(found)
        return start, max(start, high(found))

    return ranks


def by_rank(start: bytes, stop: bytes) -> Range:
    """A range of ranks, negative ones from the end. Raises CommandError."""
    first, last = integer(start), integer(stop)
    return lambda found: span(first, last, len(found))


class _Wanted(NamedTuple):
    """What ZRANGE and its like ask for."""

    ranks: Range
    backwards: bool
    with_scores: bool
    by_rank: bool
    offset: int
    limit: int
    """Negative: all."""


_KINDS: Final = {b"BYSCORE": by_score, b"BYLEX": by_member}


def _wanted(
    words: Sequence[bytes], *, by: bytes | None = None, backwards: bool | None = None, stores: bool = False
) -> _Wanted:
    """`min max [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`, as far as it is not given by the command's
    name. Raises CommandError."""
    with_scores, offset, limit = False, 0, -1
    options = iter(range(2, len(words)))
    for at in options:
        option = words[at].upper()
        if option == b"WITHSCORES" and not stores:
            with_scores = True
        elif option == b"LIMIT" and len(words) - at > 2:
            offset, limit = integer(words[next(options)]), integer(words[next(options)])
        elif option == b"REV" and backwards is None:
            backwards = True
        elif option in _KINDS and by is None:
            by = option
        else:
            raise CommandError(SYNTAX)
    by, backwards = by or b"", bool(backwards)
    if limit != -1 and not by:
        raise CommandError(
            ReplyError("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
        )
    if with_scores and by == b"BYLEX":
        raise CommandError(ReplyError("ERR syntax error, WITHSCORES not supported in combination with BYLEX"))
    least, most = words[1::-1] if backwards and by else words[:2]
    return _Wanted(_KINDS.get(by, by_rank)(least, most), backwards, with_scores, not by, offset, limit)


def _ranks(found: SortedSet, wanted: _Wanted) -> Ranks:
    """Those that are wanted, ascending, whatever is wanted; none: two that are the same."""
    start, stop = wanted.ranks(found)
    if wanted.by_rank:
        if wanted.backwards:
            start, stop = len(found) - stop, len(found) - start
    elif wanted.offset < 0:
        return 0, 0
    else:
        most = wanted.limit if wanted.limit >= 0 else len(found)
        if wanted.backwards:
            stop -= wanted.offset
            start = max(start, stop - most)
        else:
            start += wanted.offset
            stop = min(stop, start + most)
    return start, max(start, stop)


def _ranged(cells: Cells, request: Sequence[bytes], now: int, by: bytes | None, backwards: bool | None) -> Effect:
    wanted = _wanted(request[2:], by=by, backwards=backwards)
    found = sorted_set_of(cells, request[1], now)
    start, stop = _ranks(found, wanted) if found is not None else (0, 0)
    some = found.between(start, stop) if found is not None and start < stop else ((), ())
    return (), listed(some, with_scores=wanted.with_scores, backwards=wanted.backwards)


@command("zrange", READ, summary="Returns a range of the members of a sorted set.")
def zrange(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _ranged(cells, request, now, None, None)


@command("zrangestore", WRITE, summary="Stores a range of the members of a sorted set.")
def zrangestore(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    wanted = _wanted(request[3:], stores=True)
    found = sorted_set_of(cells, request[2], now)
    start, stop = _ranks(found, wanted) if found is not None else (0, 0)
    return stored_part(cells, request[1], request[2], [(start, stop)] if start < stop else [], now)


@command("zrevrange", READ, summary="Returns a range of the members of a sorted set, the highest score first.")
def zrevrange(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _ranged(cells, request, now, b"", True)


@command("zrangebyscore", READ, summary="Returns the members of a sorted set in a range of scores.")
def zrangebyscore(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _ranged(cells, request, now, b"BYSCORE", False)


@command(
    "zrevrangebyscore",
    READ,
    summary="Returns the members of a sorted set in a range of scores, the highest score first.",
)
def zrevrangebyscore(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _ranged(cells, request, now, b"BYSCORE", True)


@command("zrangebylex", READ, summary="Returns the members between two strings, of a sorted set of one score.")
def zrangebylex(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _ranged(cells, request, now, b"BYLEX", False)


@command(
    "zrevrangebylex",
    READ,
    summary="Returns the members between two strings, of a sorted set of one score, the last first.",
)
def zrevrangebylex(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _ranged(cells, request, now, b"BYLEX", True)


def _counted(cells: Cells, key: bytes, ranks: Range, now: int) -> Effect:
    found = sorted_set_of(cells, key, now)
    if found is None:
        return (), 0
    start, stop = ranks(found)
    return (), stop - start


@command("zcount", READ, summary="Returns how many members have scores in a range.")
def zcount(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _counted(cells, request[1], by_score(*request[2:]), now)


@command("zlexcount", READ, summary="Returns how many members are between two strings, of a sorted set of one score.")
def zlexcount(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _counted(cells, request[1], by_member(*request[2:]), now)


def _cut(cells: Cells, key: bytes, found: SortedSet, ranks: Ranks, now: int) -> Sequence[Change]:
    """The change that removes some ranks."""
    start, stop = ranks
    if start == stop:
        return ()
    if stop - start == len(found):
        return ((key, None, 0),)
    return ((key, ("zcut", start, stop), deadline_of(cells, key, now)),)


def _removed(cells: Cells, key: bytes, ranks: Range, now: int) -> Effect:
    found = sorted_set_of(cells, key, now)
    if found is None:
        return (), 0
    start, stop = ranks(found)
    return _cut(cells, key, found, (start, stop), now), stop - start


@command("zremrangebyrank", WRITE, summary="Removes the members of a sorted set in a range of ranks.")
def zremrangebyrank(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _removed(cells, request[1], by_rank(*request[2:]), now)


@command("zremrangebyscore", WRITE, summary="Removes the members of a sorted set in a range of scores.")
def zremrangebyscore(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _removed(cells, request[1], by_score(*request[2:]), now)


@command(
    "zremrangebylex",
    WRITE,
    summary="Removes the members between two strings, of a sorted set of one score.",
)
def zremrangebylex(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _removed(cells, request[1], by_member(*request[2:]), now)


# -- pops


def _popped(
    cells: Cells, key: bytes, found: SortedSet, count: int, now: int, *, lowest: bool
) -> tuple[Sequence[Change], Ordered]:
    """The change that removes members from an end, and which they are, in ascending order."""
    length = len(found)
    ranks = (0, min(count, length)) if lowest else (max(0, length - count), length)
    return _cut(cells, key, found, ranks, now), found.between(*ranks)


def _pop(cells: Cells, request: Sequence[bytes], now: int, *, lowest: bool) -> Effect:
    if len(request) > 3:
        return (), SYNTAX
    count = None
    if len(request) == 3:
        count = integer_between(request[2], 0, INTEGER_MAX, "value is out of range, must be positive")
    found = sorted_set_of(cells, request[1], now)
    if found is None or count == 0:
        return (), []
    changes, taken = _popped(cells, request[1], found, 1 if count is None else count, now, lowest=lowest)
    reply = listed(taken, with_scores=True, backwards=not lowest)
    return changes, reply.items if count is None and isinstance(reply, Pairs) else reply


@command("zpopmin", WRITE, summary="Removes the members with the lowest scores and returns them.")
def zpopmin(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _pop(cells, request, now, lowest=True)


@command(
    "zpopmax",
    WRITE,
    summary="Removes the members with the highest scores and returns them, the highest first.",
)
def zpopmax(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _pop(cells, request, now, lowest=False)


@command(
    "zmpop",
    WRITE,
    summary="Pops members of the first sorted set that is there.",
)
def zmpop(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    behind = 2 + integer_between(request[1], 1, INTEGER_MAX, "numkeys should be greater than 0")
    if behind >= len(request):
        return (), SYNTAX
    end = request[behind].upper()
    if end not in (b"MIN", b"MAX"):
        return (), SYNTAX
    count = count_option(request[behind + 1 :])
    for key in request[2:behind]:
        found = sorted_set_of(cells, key, now)
        if found is not None:
            changes, (members, scores) = _popped(cells, key, found, count, now, lowest=end == b"MIN")
            taken: list[Reply] = [[member, score] for member, score in zip(members, scores, strict=True)]
            return changes, [bare_key(key), taken if end == b"MIN" else taken[::-1]]
    return (), NULL_ARRAY


# -- draws and pages


@command(
    "zrandmember",
    READ,
    summary="Returns members of a sorted set that are drawn at random; with a negative count some several times.",
    chance=True,
)
def zrandmember(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    *request, chance = request
    numbers = numbers_from(chance)
    if len(request) == 2:
        found = sorted_set_of(cells, request[1], now)
        return (), found.drawn(numbers) if found is not None else None
    count = draw_count(request[2])
    with_scores = len(request) == 4 and request[3].upper() == b"WITHSCORES"
    if len(request) > 3 and not with_scores:
        return (), SYNTAX
    if with_scores and abs(count) > INTEGER_MAX // 2:
        return (), ReplyError("ERR value is out of range")
    found = sorted_set_of(cells, request[1], now)
    if found is None or not count:
        return (), []
    check_draws(-count)
    members = found.draws(numbers, -count) if count < 0 else found.sample(numbers, count)
    if not with_scores:
        return (), check_size([*members])
    scores = found.scores()
    return (), Pairs(check_size([word for member in members for word in (member, scores[member])]))


@command("zscan", READ, summary="Lists the members of a sorted set, and their scores, page by page.")
def zscan(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    cursor = cursor_from(request[2])
    found = sorted_set_of(cells, request[1], now)
    if found is None:
        return (), [b"0", []]
    options = listing(request[3:])
    members, cursor = found.page(cursor, options.most)
    scores = found.scores()
    page: list[Reply] = []
    for member in filter(options.matches, members) if options.matches is not None else members:
        page += (member, text_of_double(scores[member]))
    return (), [b"%d" % cursor, page]
