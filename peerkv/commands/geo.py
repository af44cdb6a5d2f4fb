"""Commands on places: sorted sets whose scores are the numbers of places (`geohash`), searched by ranges of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from itertools import count, islice
from math import inf
from operator import itemgetter
from typing import Final, TypeAlias

from peerkv.commands.access import SYNTAX, double, integer
from peerkv.commands.geohash import (
    LATITUDE_MAX,
    LONGITUDE_MAX,
    STEPS,
    Cell,
    Place,
    Shape,
    box,
    cells_of,
    circle,
    decoded,
    distance_between,
    encoded,
    is_within,
    least_distance,
    most_distance,
    standard,
)
from peerkv.commands.sortedsets import Options, Ranks, add, sorted_set_of, stored, stored_part
from peerkv.commands.table import Effect, Kind, command
from peerkv.resp import NULL_ARRAY, CommandError, Reply, ReplyError
from peerkv.store.cell import Cells
from peerkv.store.values.sortedsets import SortedSet, in_order

READ, WRITE = Kind.READ, Kind.WRITE

UNITS: Final = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}
"""Metres, as Redis has them."""
LEAF: Final = 8
"""Members of a cell that are looked at one by one."""
NO_UNIT: Final = ReplyError("ERR unsupported unit provided. please use M, KM, FT, MI")
NOT_A_PLACE: Final = ReplyError("ERR could not decode requested zset member")


def _place(longitude: bytes, latitude: bytes) -> Place:
    """Raises CommandError."""
    place = Place(double(longitude), double(latitude))
    if abs(place.longitude) > LONGITUDE_MAX or abs(place.latitude) > LATITUDE_MAX:
        pair = f"{place.longitude:f},{place.latitude:f}"
        raise CommandError(ReplyError(f"ERR invalid longitude,latitude pair {pair}"))
    return place


def _unit(argument: bytes) -> float:
    """Raises CommandError."""
    unit = UNITS.get(argument.upper())
    if unit is None:
        raise CommandError(NO_UNIT)
    return unit


def _printed(distance: float) -> bytes:
    """With four decimals."""
    if distance == inf:
        return b"inf"
    return b"%d.%04d" % divmod(round(distance * 10_000), 10_000)


@command("geoadd", WRITE, summary="Adds members with their places to a sorted set, which is made if there is none.")
def geoadd(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    first = 2
    given: set[bytes] = set()
    while first < len(request) and (option := request[first].upper()) in (b"NX", b"XX", b"CH"):
        given.add(option)
        first += 1
    words = request[first:]
    if not words or len(words) % 3 or {b"NX", b"XX"} <= given:
        return (), SYNTAX
    scores = [
        float(encoded(_place(longitude, latitude))) for longitude, latitude in zip(words[::3], words[1::3], strict=True)
    ]
    options = Options(only_new=b"NX" in given, only_existing=b"XX" in given, counts_changed=b"CH" in given)
    return add(cells, request[1], scores, words[2::3], options, now)


def _places(cells: Cells, request: Sequence[bytes], now: int) -> Iterator[Place | None]:
    found = sorted_set_of(cells, request[1], now)
    for member in request[2:]:
        score = found.score(member) if found is not None else None
        yield decoded(score) if score is not None else None


@command("geopos", READ, summary="Returns the longitudes and latitudes of members.")
def geopos(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), [[*place] if place is not None else NULL_ARRAY for place in _places(cells, request, now)]


@command("geohash", READ, summary="Returns the geohashes of members, by the public standard.")
def geohash(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), [standard(place) if place is not None else None for place in _places(cells, request, now)]


@command("geodist", READ, summary="Returns the distance between two members.")
def geodist(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    if len(request) > 5:
        return (), SYNTAX
    unit = _unit(request[4]) if len(request) == 5 else 1.0
    one, other = _places(cells, request[:4], now)
    if one is None or other is None:
        return (), None
    return (), _printed(distance_between(one, other) / unit)


# -- searches


Hit: TypeAlias = tuple[float, bytes, float, Place]
"""A member that is in the shape that is searched: distance, member, score, place."""


@dataclass(slots=True)
class _Search:
    """What is asked for."""

    shape: Shape | None = None
    unit: float = 1.0
    count: int = 0
    """0: all."""
    any_will_do: bool = False
    order: bytes = b""
    """ASC or DESC; empty: as they are found."""
    with_distance: bool = False
    with_hash: bool = False
    with_place: bool = False
    target: bytes | None = None
    """Where the result is to be stored."""
    stores_distance: bool = False


def _inside(found: SortedSet, shape: Shape, start: int, stop: int) -> Iterator[Hit]:
    """Of some ranks those that are in a shape."""
    for member, score in zip(*found.between(start, stop), strict=True):
        place = decoded(score)
        distance = shape.distance(place)
        if distance is not None:
            yield distance, member, score, place


Within: TypeAlias = tuple[Cell, int, int]
"""A cell, and the ranks from one up to another of the members that are in it."""


def _searched(found: SortedSet, shape: Shape) -> list[Within]:
    """The cells to begin with."""
    return [(cell, *map(found.below, cell.numbers)) for cell in cells_of(shape)]  # type: ignore[misc]


def _quarters(found: SortedSet, within: Within) -> list[Within]:
    """Where one ends the next begins."""
    cell, start, stop = within
    first, second, third, last = cell.quarters()
    to_second, to_third, to_last = map(found.below, cell.crossings)
    return [(first, start, to_second), (second, to_second, to_third), (third, to_third, to_last), (last, to_last, stop)]


def _hits(found: SortedSet, shape: Shape) -> Iterator[Hit]:
    """All that are in a shape, in the order in which Redis finds them. Cells that are outside are left out; those with
    many members are looked at quarter by quarter."""
    left = _searched(found, shape)[::-1]
    while left:
        within = left.pop()
        cell, start, stop = within
        if start == stop or least_distance(shape, cell) == inf:
            continue
        if stop - start <= LEAF or cell.step == STEPS:
            yield from _inside(found, shape, start, stop)
        else:
            left += _quarters(found, within)[::-1]


def _ranks(found: SortedSet, shape: Shape) -> list[Ranks]:
    """Of all that are in a shape, ascending. Of a cell that is all inside no member is looked at."""
    ranges: list[Ranks] = []
    left = sorted(_searched(found, shape), reverse=True)
    while left:
        within = left.pop()
        cell, start, stop = within
        side = is_within(shape, cell) if start < stop else False
        if side is False:
            continue
        if side:
            some = [(start, stop)]
        elif stop - start <= LEAF or cell.step == STEPS:
            places = map(decoded, found.between(start, stop)[1])
            some = [(at, at + 1) for at, place in enumerate(places, start) if shape.distance(place) is not None]
        else:
            left += _quarters(found, within)[::-1]
            continue
        for first, last in some:
            if ranges and ranges[-1][1] == first:
                ranges[-1] = ranges[-1][0], last
            else:
                ranges.append((first, last))
    return ranges


def _first_hits(found: SortedSet, shape: Shape, most: int, *, farthest: bool) -> list[Hit]:
    """So many of those that are nearest, or farthest, in that order. Of all cells that have been met the one is looked
    into next that may have the first one; those that have none before the last one so far are left out. (Distances are
    negative here where the nearest are wanted.)"""
    hits: list[tuple[float, int, Hit]] = []
    met: list[tuple[float, int, Within]] = []
    numbers = count()
    last = -inf
    looked_into = _searched(found, shape)
    while True:
        for within in looked_into:
            cell, start, stop = within
            if start == stop:
                continue
            bound = most_distance(shape, cell) if farthest else -least_distance(shape, cell)
            if bound <= last:
                continue
            if stop - start > LEAF and cell.step < STEPS:
                heappush(met, (-bound, next(numbers), within))
                continue
            for hit in _inside(found, shape, start, stop):
                distance = hit[0] if farthest else -hit[0]
                if len(hits) < most:
                    heappush(hits, (distance, next(numbers), hit))
                elif distance > last:
                    heapreplace(hits, (distance, next(numbers), hit))
                else:
                    continue
                if len(hits) == most:
                    last = hits[0][0]
        if not met or -met[0][0] <= last:
            return [hit for _, _, hit in sorted(hits, reverse=True)]
        looked_into = _quarters(found, heappop(met)[2])


def _run(cells: Cells, source: bytes, found: SortedSet | None, search: _Search, now: int) -> Effect:
    if search.target is not None and not search.count and not search.stores_distance:
        ranges = _ranks(found, search.shape) if found is not None and search.shape is not None else []
        return stored_part(cells, search.target, source, ranges, now)
    order = search.order or (b"ASC" if search.count and not search.any_will_do else b"")
    hits: list[Hit] = []
    if found is not None and search.shape is not None:
        if search.count and not search.any_will_do:
            hits = _first_hits(found, search.shape, search.count, farthest=order == b"DESC")
        else:
            hits = list(islice(_hits(found, search.shape), search.count or None))
            if order:
                hits.sort(key=itemgetter(0), reverse=order == b"DESC")
    if search.target is not None:
        members = [member for _, member, _, _ in hits]
        scores = [distance / search.unit if search.stores_distance else score for distance, _, score, _ in hits]
        return stored(cells, search.target, in_order(members, scores), now)
    if not (search.with_distance or search.with_hash or search.with_place):
        return (), [member for _, member, _, _ in hits]
    return (), [_described(hit, search) for hit in hits]


def _described(hit: Hit, search: _Search) -> Reply:
    distance, member, score, place = hit
    described: list[Reply] = [member]
    if search.with_distance:
        described.append(_printed(distance / search.unit))
    if search.with_hash:
        described.append(int(score))
    if search.with_place:
        described.append([*place])
    return described


def _common_option(search: _Search, words: Sequence[bytes]) -> int:
    """Takes an option that all searches have, from the first of these words on; how many words it is, 0: it is none."""
    match words[0].upper():
        case b"WITHDIST":
            search.with_distance = True
        case b"WITHHASH":
            search.with_hash = True
        case b"WITHCOORD":
            search.with_place = True
        case b"ANY":
            search.any_will_do = True
        case b"ASC" | b"DESC" as order:
            search.order = order
        case b"COUNT" if len(words) > 1:
            search.count = integer(words[1])
            if search.count <= 0:
                raise CommandError(ReplyError("ERR COUNT must be > 0"))
            return 2
        case _:
            return 0
    return 1


def _check_target(search: _Search, name: str) -> None:
    """Raises CommandError if what is stored is to be described, too."""
    if search.target is not None and (search.with_distance or search.with_hash or search.with_place):
        raise CommandError(ReplyError(f"ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"))


def _check_any(search: _Search) -> None:
    if search.any_will_do and not search.count:
        raise CommandError(ReplyError("ERR the ANY argument requires COUNT argument"))


def _number(argument: bytes, what: str) -> float:
    return double(argument, ReplyError(f"ERR need numeric {what}"))


def _radius(argument: bytes) -> float:
    radius = _number(argument, "radius")
    if radius < 0:
        raise CommandError(ReplyError("ERR radius cannot be negative"))
    return radius


def _member_place(found: SortedSet | None, member: bytes) -> Place:
    score = found.score(member) if found is not None else None
    if score is None:
        raise CommandError(NOT_A_PLACE)
    return decoded(score)


def _around(cells: Cells, request: Sequence[bytes], now: int, *, member: bool, stores: bool) -> Effect:
    """GEORADIUS and GEORADIUSBYMEMBER."""
    found = sorted_set_of(cells, request[1], now)
    search = _Search()
    at = 5 if member else 6
    if found is not None or not member:
        center = _member_place(found, request[2]) if member else _place(request[2], request[3])
        radius = _radius(request[at - 2])
        search.unit = _unit(request[at - 1])
        search.shape = circle(center, radius * search.unit)
    while at < len(request):
        option = request[at].upper()
        taken = _common_option(search, request[at:])
        if option in (b"STORE", b"STOREDIST") and at + 1 < len(request) and stores:
            search.target, search.stores_distance = request[at + 1], option == b"STOREDIST"
            taken = 2
        if not taken:
            return (), SYNTAX
        at += taken
    _check_target(search, "STORE option in GEORADIUS")
    _check_any(search)
    return _run(cells, request[1], found, search, now)


@command("georadius", WRITE, summary="Searches for members within a radius of a place.")
def georadius(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _around(cells, request, now, member=False, stores=True)


@command("georadius_ro", READ, summary="Searches for members within a radius of a place.")
def georadius_ro(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _around(cells, request, now, member=False, stores=False)


@command("georadiusbymember", WRITE, summary="Searches for members within a radius of one.")
def georadiusbymember(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _around(cells, request, now, member=True, stores=True)


@command("georadiusbymember_ro", READ, summary="Searches for members within a radius of one.")
def georadiusbymember_ro(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _around(cells, request, now, member=True, stores=False)


def _search(cells: Cells, request: Sequence[bytes], now: int, target: bytes | None, source: int) -> Effect:
    """GEOSEARCH and GEOSEARCHSTORE."""
    name = request[0].decode("ascii")
    found = sorted_set_of(cells, request[source], now)
    search = _Search(target=target)
    from_member = from_place = by_radius = by_box = False
    center = Place(0.0, 0.0)
    width = height = radius = 0.0
    words = request[source + 1 :]
    while words:
        option, left = words[0].upper(), len(words) - 1
        if option == b"STOREDIST" and target is not None:
            search.stores_distance = True
            taken = 1
        elif option == b"FROMMEMBER" and left >= 1 and not from_place:
            if found is not None:
                center = _member_place(found, words[1])
            from_member = True
            taken = 2
        elif option == b"FROMLONLAT" and left >= 2 and not from_member:
            center = _place(words[1], words[2])
            from_place = True
            taken = 3
        elif option == b"BYRADIUS" and left >= 2 and not by_box:
            radius, search.unit = _radius(words[1]), _unit(words[2])
            by_radius = True
            taken = 3
        elif option == b"BYBOX" and left >= 3 and not by_radius:
            width, height = _number(words[1], "width"), _number(words[2], "height")
            if min(width, height) < 0:
                return (), ReplyError("ERR height or width cannot be negative")
            search.unit = _unit(words[3])
            by_box = True
            taken = 4
        else:
            taken = _common_option(search, words)
        if not taken:
            return (), SYNTAX
        words = words[taken:]
    _check_target(search, "GEOSEARCHSTORE")
    if not (from_member or from_place):
        return (), ReplyError(f"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}")
    if not (by_radius or by_box):
        return (), ReplyError(f"ERR exactly one of BYRADIUS and BYBOX can be specified for {name}")
    _check_any(search)
    search.shape = box(center, width, height, search.unit) if by_box else circle(center, radius * search.unit)
    return _run(cells, request[source], found, search, now)


@command("geosearch", READ, summary="Searches for members within a circle or a box.")
def geosearch(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _search(cells, request, now, None, 1)


@command("geosearchstore", WRITE, summary="Stores the members within a circle or a box.")
def geosearchstore(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _search(cells, request, now, request[1], 2)
