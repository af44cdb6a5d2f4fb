"""Places beside a real redis-server, which prints coordinates with 17 decimals."""

from __future__ import annotations

import math
import random

import pytest

from peerkv.commands import geo
from peerkv.commands.geohash import (
    EARTH_RADIUS,
    LATITUDE_MAX,
    Cell,
    Place,
    box,
    cells_of,
    circle,
    decoded,
    distance_between,
    distances,
    encoded,
    is_within,
    least_distance,
    most_distance,
)
from peerkv.commands.sortedsets import sorted_set_of
from peerkv.resp import Pairs, Reply
from tests.commands.keyspace import Ours, Theirs, requests_of, sequences
from tests.commands.test_sortedsets import numeric

DECIMALS = 1e-17

SEQUENCES = """
geoadd g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania | zrange g 0 -1 withscores
geopos g Palermo none Catania | geodist g Palermo Catania | geodist g Palermo Catania km | geodist g Palermo Catania MI
geodist g Palermo Catania ft | geodist g Palermo Catania foo | geodist g Palermo none | geodist none a b
geodist none a b foo | geodist g Palermo Palermo | geodist g Palermo Catania m x | geohash g Palermo Catania none
geohash none a | geopos none a b | geopos g | geohash g

geoadd g nx 1 1 a 2 2 b | geoadd g nx 3 3 a 4 4 c | geoadd g xx 5 5 a 6 6 d | geoadd g xx ch 7 7 a 8 8 d
geoadd g ch 7 7 a 9 9 e | geoadd g nx xx 1 1 a | geoadd g 1 1 | geoadd g 1 1 a 2 | geoadd g 181 1 a | geoadd g 1 86 a
geoadd g -180 -85.05112878 w | geoadd g 180 85.05112878 e | geoadd g 180.0001 0 x | geoadd g x 1 a | geoadd g 1 x a
geoadd g nan 1 a | geoadd g inf 1 a | geoadd g gt 1 1 a | geoadd g ch ch nx | geoadd g 0 0 null | geopos g w e null
geohash g w e null a | zrange g 0 -1 withscores | geodist g w e | geoadd g 1 1 a 200 1 b | zcard g

geoadd g 13.361389 38.115556 P 15.087269 37.502669 C 12.758489 38.788135 e1 17.241510 38.788135 e2
georadius g 15 37 200 km | georadius g 15 37 200 km withdist | georadius g 15 37 200 km withcoord withdist withhash asc
georadius g 15 37 200 km desc withhash | georadius g 15 37 1 km | georadius g 15 37 400 km count 2
georadius g 15 37 400 km any | georadius g 15 37 400 km count 1 any | georadius g 15 37 400 km count 2 desc
georadius g 15 37 0 km | georadius none 15 37 1 km | georadius g 15 37 -1 km | georadius g 15 37 x km
georadius g 15 37 1 foo | georadius g 190 37 1 km | georadius g 15 37 1 km foo | georadius g 15 37 400 km count 0
georadius g 15 37 400 km count x | georadius g 15 37 400 km count | georadius g 15 37 400 km store
georadius g 15 37 400 km store d | zrange d 0 -1 withscores | georadius g 15 37 400 km storedist d count 2
zrange d 0 -1 withscores | georadius g 15 37 400 km store d withdist | georadius g 15 37 1 km store d | exists d
georadius none 15 37 1 km store d | georadius_ro g 15 37 200 km asc | georadius_ro g 15 37 200 km store d
georadius_ro g 15 37 200 km withdist count 1 | georadiusbymember g P 200 km asc
georadiusbymember g P 200 km withdist desc | georadiusbymember g none 200 km | georadiusbymember none P x foo
georadiusbymember none P 1 km bar | georadiusbymember g P 400 km store d | zrange d 0 -1
georadiusbymember_ro g P 400 km asc | georadiusbymember_ro g P 400 km store d | georadiusbymember none P 1 km store d
exists d

geoadd g 13.361389 38.115556 P 15.087269 37.502669 C 12.758489 38.788135 e1 17.241510 38.788135 e2
geosearch g fromlonlat 15 37 byradius 200 km asc
geosearch g fromlonlat 15 37 bybox 400 400 km asc withcoord withdist withhash
geosearch g frommember P byradius 200 km desc | geosearch g frommember none byradius 200 km
geosearch g frommember P bybox 1 1 m | geosearch g byradius 1 km fromlonlat 15 37 frommember P
geosearch g frommember P fromlonlat 15 37 byradius 1 km | geosearch g fromlonlat 15 37 byradius 200 km bybox 1 1 km
geosearch g fromlonlat 15 37 bybox 1 1 km byradius 1 km | geosearch g fromlonlat 15 37 asc asc asc
geosearch g byradius 1 km asc desc | GEOSEARCH g asc desc asc desc asc | geosearch g fromlonlat 15 37 bybox -1 1 km
geosearch g fromlonlat 15 37 bybox x 1 km | geosearch g fromlonlat 15 37 bybox 1 x km
geosearch g fromlonlat 15 37 bybox 1 1 foo | geosearch g fromlonlat 15 370 bybox 1 1 km
geosearch g fromlonlat 15 37 byradius -1 m | geosearch g fromlonlat 15 37 byradius 400 km any
geosearch g fromlonlat 15 37 byradius 400 km count 1 any | geosearch g fromlonlat 15 37 byradius 400 km store d
geosearch g fromlonlat 15 37 byradius 400 km storedist | geosearch none fromlonlat 15 37 byradius 400 km
geosearch none frommember a byradius 1 km | geosearch none frommember a byradius x km
geosearchstore d g fromlonlat 15 37 byradius 200 km | zrange d 0 -1 withscores
geosearchstore d g fromlonlat 15 37 byradius 200 km storedist | zrange d 0 -1 withscores
geosearchstore d g fromlonlat 15 37 byradius 200 km withdist | geosearchstore d none fromlonlat 15 37 byradius 200 km
exists d | geosearchstore d g frommember P byradius 400 mi count 3 asc | zcard d
geosearchstore g g frommember P byradius 0 m | zcard g

set s 1 | geoadd s 1 1 a | geoadd s 1 100 a | geopos s a | geohash s a | geodist s a b | geodist s a b foo
georadius s x 1 1 km | georadiusbymember s a 1 km | geosearch s fromlonlat 1 1 byradius 1 foo
geosearchstore d s fromlonlat 1 1 byradius 1 km | geoadd g 1 1 a | geosearchstore s g fromlonlat 1 1 byradius 1 km
type s | zadd z 1.5 a 99999999999999999 b inf c -1 d | geopos z a b d | geohash z a | geodist z a d
georadius z 0 0 22000 km asc
"""


@pytest.mark.parametrize("sequence", sequences(SEQUENCES), ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for request in requests_of(sequence):
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert numeric(mine, other, DECIMALS), f"{request}: {mine!r}, Redis says {other!r}"


def places(rng: random.Random, count: int, spread: float) -> list[bytes]:
    """Arguments of GEOADD: places around one, or anywhere."""
    longitude, latitude = rng.uniform(-180, 180), rng.uniform(-85, 85)
    words: list[bytes] = []
    for number in range(count):
        east = (longitude + rng.gauss(0, spread) + 540) % 360 - 180
        north = min(max(latitude + rng.gauss(0, spread / 2), -85.0), 85.0)
        words += [b"%r" % round(east, 6), b"%r" % round(north, 6), b"p%d" % number]
    return words


def distances_in(reply: Reply) -> Reply:
    """Of what is found WITHDIST: which of equally near ones comes first is not said."""
    assert isinstance(reply, list)
    return [item[1] for item in reply]  # type: ignore[index]


@pytest.mark.parametrize("seed", range(12))
def test_searches_find_what_redis_finds(theirs: Theirs, seed: int) -> None:
    """Everywhere, at the poles and beside the date line; circles and boxes of all sizes; all, or only the nearest."""
    rng = random.Random(seed)
    ours = Ours()
    for _ in range(4):
        added = [b"GEOADD", b"g", *places(rng, rng.choice((5, 60, 1500)), rng.choice((0.01, 1, 10, 90)))]
        assert ours.ask(*added) == theirs.ask(*added)
        members = [b"p%d" % number for number in range(60)]
        for _ in range(40):
            if rng.random() < 0.6:
                around = [b"FROMMEMBER", rng.choice(members)]
                if ours.ask(b"ZSCORE", b"g", around[1]) is None:
                    continue
            else:
                around = [b"FROMLONLAT", b"%r" % rng.uniform(-180, 180), b"%r" % rng.uniform(-85, 85)]
            size = [b"%r" % round(10 ** rng.uniform(-1, 4.6), 3) for _ in range(2)]
            shape = rng.choice([[b"BYRADIUS", size[0], b"km"], [b"BYBOX", *size, b"km"], [b"BYRADIUS", size[1], b"mi"]])
            found = [b"GEOSEARCH", b"g", *around, *shape]
            mine, other = ours.ask(*found, b"WITHHASH"), theirs.ask(*found, b"WITHHASH")
            assert numeric(mine, other), f"{found}: {mine!r}, Redis says {other!r}"
            some = [b"COUNT", b"%d" % rng.choice((1, 3, 20, 200)), rng.choice((b"ASC", b"DESC")), b"WITHDIST"]
            mine, other = ours.ask(*found, *some), theirs.ask(*found, *some)
            assert distances_in(mine) == distances_in(other), f"{found} {some}"
            any_ = [*found, b"COUNT", b"7", b"ANY"]
            assert ours.ask(*any_) == theirs.ask(*any_)
    positions = [b"GEOPOS", b"g", *members]
    assert numeric(ours.ask(*positions), theirs.ask(*positions), DECIMALS)
    assert ours.ask(b"GEOHASH", b"g", *members) == theirs.ask(b"GEOHASH", b"g", *members)


@pytest.mark.parametrize("order", [b"ASC", b"DESC"])
def test_the_first_few_are_found_without_looking_at_all(monkeypatch: pytest.MonkeyPatch, order: bytes) -> None:
    """One of a million taxis must not take a second to find."""
    rng = random.Random(3)
    ours = Ours()
    ours.ask(b"GEOADD", b"g", *places(rng, 20_000, 5))
    looked_at = 0

    def counting(score: float) -> Place:
        nonlocal looked_at
        looked_at += 1
        return decoded(score)

    monkeypatch.setattr(geo, "decoded", counting)
    for center in (b"p1", b"p2"):
        search = [b"GEOSEARCH", b"g", b"FROMMEMBER", center, b"BYRADIUS", b"9000", b"km", b"WITHDIST", order]
        looked_at = 0
        few = ours.ask(*search, b"COUNT", b"5")
        assert looked_at < 1000
        everyone = ours.ask(*search)
        assert looked_at > 20_000
        assert isinstance(everyone, list)
        assert few == everyone[:5]
    looked_at = 0
    assert ours.ask(b"GEOSEARCH", b"g", b"FROMMEMBER", b"p1", b"BYRADIUS", b"1", b"m") == [b"p1"]
    assert looked_at < 100


@pytest.mark.parametrize("seed", range(4))
def test_cells_hold_every_place_of_a_shape(seed: int) -> None:
    """Places within it, in whichever direction, are in its cells, and not nearer or farther than these."""
    rng = random.Random(seed)
    for _ in range(300):
        center = Place(rng.uniform(-180, 180), rng.uniform(-84, 84))
        radius = 10 ** rng.uniform(0, 5.7)
        shape = rng.choice([circle(center, radius), box(center, radius, radius * rng.uniform(0.1, 2), 1.0)])
        cells = cells_of(shape)
        for _ in range(20):
            angle, away = rng.uniform(0, 2 * math.pi), radius * rng.uniform(0, 0.999)
            north = center.latitude + math.degrees(away * math.sin(angle) / EARTH_RADIUS)
            if abs(north) >= LATITUDE_MAX:
                continue
            east = math.degrees(away * math.cos(angle) / EARTH_RADIUS / math.cos(math.radians(north)))
            place = Place((center.longitude + east + 540) % 360 - 180, north)
            distance = shape.distance(place)
            if distance is None:
                continue
            number = encoded(place)
            (cell,) = [cell for cell in cells if cell.numbers[0] <= number < cell.numbers[1]]
            while cell.step < 26:
                assert least_distance(shape, cell) <= distance
                nearest, farthest = distances(center, cell)
                assert nearest <= distance <= farthest == most_distance(shape, cell)
                assert is_within(shape, cell) is not False
                (cell,) = [part for part in cell.quarters() if part.numbers[0] <= number < part.numbers[1]]


@pytest.mark.parametrize("seed", range(4))
def test_distances_to_cells_are_those_to_their_places(seed: int) -> None:
    """They are bounds; and near ones, or every cell would be looked into."""
    rng = random.Random(seed)
    for _ in range(200):
        center = Place(rng.uniform(-180, 180), rng.uniform(-85, 85))
        shape = circle(center, 3e7)
        step = rng.randint(1, 10)
        cell = Cell(0, 0, 0, 0)
        for _ in range(step):
            cell = rng.choice(cell.quarters())
        west, south, east, north = cell.area()
        steps = [number / 40 for number in range(41)]
        grid = [Place(west + (east - west) * x, south + (north - south) * y) for x in steps for y in steps]
        found = [distance_between(center, place) for place in grid]
        slack = distance_between(grid[0], grid[42])
        assert min(found) - slack <= least_distance(shape, cell) <= min(found)
        nearest, farthest = distances(center, cell)
        assert nearest <= min(found) <= max(found) <= farthest
        if step > 2:
            across = (
                1.5 * max(distance_between(grid[0], grid[-1]), distance_between(grid[0], grid[40]), slack * 40) + 10
            )
            assert farthest - nearest <= across


@pytest.mark.parametrize("seed", range(6))
def test_of_a_cell_that_is_held_every_place_is_inside(seed: int) -> None:
    """They are not looked at one by one: at its corners and edges, where the date line is, and next to the poles."""
    rng = random.Random(seed)
    held = 0
    for _ in range(1500):
        center = Place(rng.uniform(-180, 180), rng.choice((rng.uniform(-85, 85), 85.0, -85.0, 0.0)))
        size = 10 ** rng.uniform(0, 7.5)
        shape = rng.choice([circle(center, size), box(center, size, size * rng.uniform(0.2, 2), 1.0)])
        number = encoded(Place((center.longitude + rng.gauss(0, size / 4e5) + 540) % 360 - 180, center.latitude))
        cell = Cell(0, 0, 0, 0)
        for _ in range(rng.randint(1, 25)):
            (cell,) = [part for part in cell.quarters() if part.numbers[0] <= number < part.numbers[1]]
        cell = rng.choice(cell.quarters())
        if not is_within(shape, cell):
            continue
        held += 1
        west, south, east, north = cell.area()
        steps = [0.0, 1.0, 0.5, *(rng.random() for _ in range(6))]
        for x in steps:
            for y in steps:
                assert shape.distance(Place(west + (east - west) * x, south + (north - south) * y)) is not None
        first, behind = cell.numbers
        for number in (first, behind - 1, *(rng.randrange(first, behind) for _ in range(5))):
            assert shape.distance(decoded(float(number))) is not None
    assert held > 100


@pytest.mark.parametrize("seed", range(8))
def test_what_is_stored_is_what_is_found(seed: int) -> None:
    """Of circles and boxes of all sizes, everywhere: ranks stored, places looked at one by one."""
    rng = random.Random(seed)
    ours = Ours()
    for _ in range(3):
        ours.ask(b"DEL", b"g")
        ours.ask(b"GEOADD", b"g", *places(rng, rng.choice((5, 300, 3000)), rng.choice((0.01, 1, 10, 90))))
        found = sorted_set_of(ours.cells, b"g", ours.now)
        assert found is not None
        members, scores = found.between(0, len(found))
        for _ in range(12):
            center = rng.choice([decoded(rng.choice(scores)), Place(rng.uniform(-180, 180), rng.uniform(-85, 85))])
            size = [10 ** rng.uniform(2, 7.5) for _ in range(2)]
            shape = rng.choice([circle(center, size[0]), box(center, *size, 1.0)])
            around = [b"FROMLONLAT", b"%r" % center.longitude, b"%r" % center.latitude]
            said = [b"BYRADIUS", b"%r" % size[0]] if shape.width < 0 else [b"BYBOX", *[b"%r" % side for side in size]]
            cells = [cell.numbers for cell in cells_of(shape)]  # Redis looks into no others
            inside = [
                (member, score)
                for member, score in zip(members, scores, strict=True)
                if any(first <= score < behind for first, behind in cells)
                and shape.distance(decoded(score)) is not None
            ]
            reply = ours.ask(b"GEOSEARCHSTORE", b"d", b"g", *around, *said, b"m")
            assert reply == len(inside)
            stored = ours.ask(b"ZRANGE", b"d", b"0", b"-1", b"WITHSCORES")
            assert (stored.items if isinstance(stored, Pairs) else stored) == [item for pair in inside for item in pair]


def test_a_place_is_where_its_number_says() -> None:
    rng = random.Random(1)
    for _ in range(1000):
        place = Place(rng.uniform(-180, 180), rng.uniform(-LATITUDE_MAX, LATITUDE_MAX))
        assert distance_between(place, decoded(float(encoded(place)))) < 0.6


WORDS = [
    "fromlonlat",
    "frommember",
    "byradius",
    "bybox",
    "withdist",
    "withhash",
    "asc",
    "desc",
    "count",
    "any",
    "store",
    "storedist",
    "15",
    "37",
    "-190",
    "0",
    "1",
    "3",
    "200",
    "x",
    "km",
    "m",
    "foo",
    "d",
    "P",
    "C",
    "none",
]
HEADS = [
    "geosearch g",
    "geosearch g fromlonlat 15 37",
    "geosearch g fromlonlat 15 37 byradius 400 km",
    "geosearch g frommember P bybox 900 900 km",
    "geosearch none frommember P byradius 400 km",
    "geosearch s",
    "geosearchstore d g frommember P byradius 400 km",
    "geosearchstore d none",
    "georadius g 15 37 400 km",
    "georadius none 15 37",
    "georadiusbymember g P 400 km",
    "georadiusbymember none",
    "georadius_ro g 15 37 400 km",
    "georadiusbymember_ro g C 200 km",
    "geoadd g",
    "geoadd g nx",
    "geodist g P",
    "geopos g",
    "geohash g",
]


@pytest.mark.parametrize("seed", range(4))
def test_chance_finds_no_difference(theirs: Theirs, seed: int) -> None:
    """In which errors come before which others, above all."""
    rng = random.Random(seed)
    ours = Ours()
    for request in requests_of("set s 1 | geoadd g 13.361389 38.115556 P 15.087269 37.502669 C 12.7 38.7 E"):
        assert ours.ask(*request) == theirs.ask(*request) or request[0] == b"set"
    for _ in range(800):
        words = rng.choice(HEADS).split() + [rng.choice(WORDS) for _ in range(rng.randrange(7))]
        request = [word.encode() for word in words]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert numeric(mine, other, DECIMALS), f"{request}: {mine!r}, Redis says {other!r}"
