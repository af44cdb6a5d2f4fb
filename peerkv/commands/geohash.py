"""Places on the earth as integers of 52 bits, such that neighbours mostly have neighbouring numbers.

The earth is halved again and again, east from west and north from south in turns, and each time a bit says which half
it was. So the first 2 * n bits of a place are those of everything within its **cell** of step n, and all that is in a
cell has the numbers of one range. Ranges, order and arithmetic are Redis's, whose scores these are (its geohash.c and
geohash_helper.c): latitudes end at 85 degrees, as in Mercator's maps, other than in the geohashes of the public
standard.
"""

from __future__ import annotations

from math import asin, atan2, cos, inf, isinf, pi, sin, sqrt
from typing import Final, NamedTuple

STEPS: Final = 26
"""Of a place: its cell is 60 cm wide at the equator."""
LONGITUDE_MAX: Final = 180.0
LATITUDE_MAX: Final = 85.05112878
EARTH_RADIUS: Final = 6372797.560856
"""Metres."""
_MERCATOR_MAX: Final = 20037726.37
"""Metres, half around the equator."""
_RADIANS: Final = pi / 180.0
_CELLS: Final = 1 << STEPS
_LATITUDES: Final = LATITUDE_MAX + LATITUDE_MAX
_ALPHABET: Final = "0123456789bcdefghjkmnpqrstuvwxyz"


class Place(NamedTuple):
    """In degrees."""

    longitude: float
    latitude: float


class Shape(NamedTuple):
    """What is searched: a circle around a place, or a box."""

    center: Place
    radius: float
    """Metres; of a box to its corners."""
    width: float
    """Metres; negative: it is a circle."""
    height: float

    def distance(self, place: Place) -> float | None:
        """Metres from the center; None: it is outside."""
        center = self.center
        if self.width < 0:
            distance = distance_between(center, place)
            return distance if distance <= self.radius else None
        if _along_meridian(place.latitude, center.latitude) > self.height / 2:
            return None
        if distance_between(place, Place(center.longitude, place.latitude)) > self.width / 2:
            return None
        return distance_between(center, place)


def circle(center: Place, radius: float) -> Shape:
    """A circle, of a radius in metres."""
    return Shape(center, radius, -1.0, -1.0)


def box(center: Place, width: float, height: float, unit: float) -> Shape:
    """A box, of sides in units of so many metres."""
    corner = sqrt((width / 2) * (width / 2) + (height / 2) * (height / 2))
    return Shape(center, corner * unit, width * unit, height * unit)


def _interleaved(longitude: int, latitude: int) -> int:
    """Bits in turns, the longitude's first. To read a binary number to the base 4 puts a zero before each bit."""
    return int(f"{longitude:b}", 4) << 1 | int(f"{latitude:b}", 4)


def _deinterleaved(bits: int) -> tuple[int, int]:
    digits = f"{bits:064b}"
    return int(digits[::2], 2), int(digits[1::2], 2)


def _cell(place: Place, step: int, latitude_max: float = LATITUDE_MAX) -> tuple[int, int]:
    """Which one of the 2 ** step from west to east, and from south to north."""
    east = (place.longitude + LONGITUDE_MAX) / (LONGITUDE_MAX + LONGITUDE_MAX)
    north = (place.latitude + latitude_max) / (latitude_max + latitude_max)
    return int(east * (1 << step)), int(north * (1 << step))


def encoded(place: Place) -> int:
    """The number of a place."""
    return _interleaved(*_cell(place, STEPS))


def decoded(score: float) -> Place:
    """The middle of the smallest cell that has this number; of any other number some place."""
    east, north = _deinterleaved(1 << 63 if isinf(score) else int(score) & (1 << 64) - 1)
    # the middles between two edges each (`_edge` in line: a search decodes members by the thousand)
    longitude = ((east / _CELLS * 360.0 - 180.0) + ((east + 1) / _CELLS * 360.0 - 180.0)) / 2
    latitude = ((north / _CELLS * _LATITUDES - LATITUDE_MAX) + ((north + 1) / _CELLS * _LATITUDES - LATITUDE_MAX)) / 2
    if -LONGITUDE_MAX <= longitude <= LONGITUDE_MAX and -LATITUDE_MAX <= latitude <= LATITUDE_MAX:
        return Place(longitude, latitude)
    return Place(
        min(max(longitude, -LONGITUDE_MAX), LONGITUDE_MAX),
        min(max(latitude, -LATITUDE_MAX), LATITUDE_MAX),
    )


def _edge(number: int, most: float, cells: int = _CELLS) -> float:
    """The western or southern edge of a cell in degrees."""
    return -most + (number * 1.0 / cells) * (most + most)


def standard(place: Place) -> bytes:
    """The geohash of the public standard, whose latitudes end at the poles; of the last of its 11 characters there are
    no bits."""
    bits = _interleaved(*_cell(place, STEPS, 90.0))
    return "".join([_ALPHABET[bits >> 52 - 5 * at & 31] for at in range(1, 11)]).encode() + b"0"


def distance_between(one: Place, other: Place) -> float:
    """Metres, on a sphere (the haversine formula)."""
    v = sin((other.longitude * _RADIANS - one.longitude * _RADIANS) / 2)
    if v == 0.0:
        return _along_meridian(one.latitude, other.latitude)
    south, north = one.latitude * _RADIANS, other.latitude * _RADIANS
    u = sin((north - south) / 2)
    return 2.0 * EARTH_RADIUS * asin(min(1.0, sqrt(u * u + cos(south) * cos(north) * v * v)))


def _along_meridian(one: float, other: float) -> float:
    return EARTH_RADIUS * abs(other * _RADIANS - one * _RADIANS)


# -- which cells a shape is in


class Cell(NamedTuple):
    """All places whose numbers begin with the same 2 * step bits."""

    bits: int
    step: int
    x: int
    """Which one from west to east, and ..."""
    y: int
    """... from south to north: what the bits say, in turns."""

    @property
    def numbers(self) -> tuple[int, int]:
        """From one up to another."""
        shift = 2 * (STEPS - self.step)
        return self.bits << shift, self.bits + 1 << shift

    @property
    def crossings(self) -> tuple[float, float, float]:
        """Where the second, the third and the last quarter begin."""
        first = self.bits << 2
        size = 1 << 2 * (STEPS - self.step - 1)
        return float((first + 1) * size), float((first + 2) * size), float((first + 3) * size)

    def quarters(self) -> list[Cell]:
        """In order of their numbers."""
        bits, step, x, y = self.bits << 2, self.step + 1, self.x << 1, self.y << 1
        return [
            Cell(bits, step, x, y),
            Cell(bits | 1, step, x, y | 1),
            Cell(bits | 2, step, x | 1, y),
            Cell(bits | 3, step, x | 1, y | 1),
        ]

    def area(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in degrees."""
        cells = 1 << self.step
        return (
            _edge(self.x, LONGITUDE_MAX, cells),
            _edge(self.y, LATITUDE_MAX, cells),
            _edge(self.x + 1, LONGITUDE_MAX, cells),
            _edge(self.y + 1, LATITUDE_MAX, cells),
        )


def cells_of(shape: Shape) -> list[Cell]:
    """The cells in which a shape is: that of its center, and those of the eight around it that are of any use."""
    west, south, east, north = _bounds(shape)
    step = _step_for(shape.radius, shape.center.latitude)
    if step > 1 and not _covers(shape.center, step, west, south, east, north):
        step -= 1
    cells = 1 << step
    x, y = _cell(shape.center, step)
    useless: set[tuple[int, int]] = set()
    if step >= 2:
        if _edge(y, LATITUDE_MAX, cells) < south:
            useless |= {(-1, -1), (0, -1), (1, -1)}
        if _edge(y + 1, LATITUDE_MAX, cells) > north:
            useless |= {(-1, 1), (0, 1), (1, 1)}
        if _edge(x, LONGITUDE_MAX, cells) < west:
            useless |= {(-1, -1), (-1, 0), (-1, 1)}
        if _edge(x + 1, LONGITUDE_MAX, cells) > east:
            useless |= {(1, -1), (1, 0), (1, 1)}
    found: list[Cell] = []
    for right, up in _AROUND:
        if (right, up) not in useless:
            place = ((x + right) % cells if right else x, (y + up) % cells if up else y)
            bits = _interleaved(*place)
            if len(found) < 2 or found[-1].bits != bits:  # of a few large cells the same are on both sides
                found.append(Cell(bits, step, *place))
    return found


_AROUND: Final = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""In the order in which Redis looks at them."""


def least_distance(shape: Shape, cell: Cell) -> float:
    """Metres from the center of a shape to what of it may be in a cell, not more than they are; infinite: nothing."""
    west, south, east, north = cell.area()
    center = shape.center
    if shape.width >= 0:
        beside = max(south - center.latitude, center.latitude - north, 0.0)
        if beside * _RADIANS * EARTH_RADIUS * _LESS > shape.height / 2:
            return inf
        apart, polewards = _degrees_to(center.longitude, west, east), max(abs(south), abs(north))
        if distance_between(Place(0.0, polewards), Place(apart, polewards)) * _LESS > shape.width / 2:
            return inf
    distance = _to_area(center, west, south, east, north) * _LESS
    return distance if distance <= shape.radius else inf


def distances(center: Place, cell: Cell) -> tuple[float, float]:
    """Metres from a place to the nearest and to the farthest one of a cell, not more and not less than they are: as far
    as to its middle, and what is from there to its corners, at most. Wider than `least_distance`, in a fifth of the
    time."""
    cells = 1 << cell.step
    right, up = LONGITUDE_MAX / cells, LATITUDE_MAX / cells
    east, north = (2 * cell.x + 1) * right - LONGITUDE_MAX, (2 * cell.y + 1) * up - LATITUDE_MAX
    # sin(x) < x, and no parallel of the cell is longer than the one that is nearest to the equator
    u = up * _RADIANS / 2
    v = cos(max(abs(north) - up, 0.0) * _RADIANS) * right * _RADIANS / 2
    reach = 2.0 * EARTH_RADIUS * asin(min(1.0, sqrt(u * u + v * v))) + _MORE
    latitude, north = center.latitude * _RADIANS, north * _RADIANS
    u, v = sin((north - latitude) / 2), sin((east - center.longitude) * _RADIANS / 2)
    away = 2.0 * EARTH_RADIUS * asin(min(1.0, sqrt(u * u + cos(latitude) * cos(north) * v * v)))
    return away - reach, away + reach


def most_distance(shape: Shape, cell: Cell) -> float:
    """Metres from the center of a shape to what of it may be in a cell, not less than they are; negative and infinite:
    nothing."""
    nearest, farthest = distances(shape.center, cell)
    if nearest > shape.radius or (shape.width >= 0 and least_distance(shape, cell) == inf):
        return -inf
    return farthest


def is_within(shape: Shape, cell: Cell) -> bool | None:
    """Whether all places of a cell are in a shape, or none of them; None: some may be."""
    nearest, farthest = distances(shape.center, cell)
    if nearest > shape.radius:
        return False
    if shape.width < 0:
        return True if farthest <= shape.radius else None
    if least_distance(shape, cell) == inf:
        return False
    west, south, east, north = cell.area()
    longitude, latitude = shape.center
    beside = max(north - latitude, latitude - south) * _RADIANS * EARTH_RADIUS
    apart = 180.0 - _degrees_to(longitude + (180.0 if longitude < 0 else -180.0), west, east)
    widest = Place(apart, 0.0 if south <= 0 <= north else min(abs(south), abs(north)))
    across = distance_between(Place(0.0, widest.latitude), widest)
    return True if beside + _MORE <= shape.height / 2 and across + _MORE <= shape.width / 2 else None


_MORE: Final = 1.0
"""Metres. Rounding costs 20 cm on the other side of the earth, and much less anywhere else."""
_LESS: Final = 1 - 1e-6
"""More than what is lost to rounding, so that what is at the edge is not taken for being outside."""


def _degrees_to(longitude: float, west: float, east: float) -> float:
    """How far it is from a meridian to a range of them; not more than half around."""
    if west <= longitude <= east:
        return 0.0
    west, east = (west - longitude) % 360.0, (longitude - east) % 360.0
    return min(west, east)


def _to_area(place: Place, west: float, south: float, east: float, north: float) -> float:
    """Metres from a place to the nearest of an area: along the same meridian, or to one on the nearer meridian at its
    edge, where the great circle that is square to that meets it, or at a corner."""
    apart = _degrees_to(place.longitude, west, east)
    if apart == 0.0:
        return _along_meridian(place.latitude, min(max(place.latitude, south), north))
    latitude = place.latitude * _RADIANS
    nearest = atan2(sin(latitude), cos(latitude) * cos(apart * _RADIANS)) / _RADIANS
    if not south <= nearest <= north:
        to_south, to_north = cos((south - nearest) * _RADIANS), cos((north - nearest) * _RADIANS)
        nearest = south if to_south > to_north else north
    return distance_between(Place(0.0, place.latitude), Place(apart, nearest))


def _bounds(shape: Shape) -> tuple[float, float, float, float]:
    """(west, south, east, north) in degrees. Towards the pole the same width is more degrees."""
    longitude, latitude = shape.center
    height = shape.height / 2 if shape.width >= 0 else shape.radius
    width = shape.width / 2 if shape.width >= 0 else shape.radius
    up = height / EARTH_RADIUS / _RADIANS
    edge = latitude - up if latitude < 0 else latitude + up
    if isinf(edge):
        return -inf, -inf, inf, inf
    right = width / EARTH_RADIUS / cos(edge * _RADIANS) / _RADIANS
    return longitude - right, latitude - up, longitude + right, latitude + up


def _step_for(radius: float, latitude: float) -> int:
    """The step of cells so large that a radius reaches into neighbours only."""
    if radius == 0:
        return STEPS
    step = -1
    while radius < _MERCATOR_MAX:
        radius *= 2
        step += 1
    step -= (abs(latitude) > 66) + (abs(latitude) > 80)
    return min(max(step, 1), STEPS)


def _covers(center: Place, step: int, west: float, south: float, east: float, north: float) -> bool:
    """Whether the cells around that of a place reach as far as these bounds."""
    cells = 1 << step
    x, y = _cell(center, step)
    return (
        _edge((y + 1) % cells + 1, LATITUDE_MAX, cells) >= north
        and _edge((y - 1) % cells, LATITUDE_MAX, cells) <= south
        and _edge((x + 1) % cells + 1, LONGITUDE_MAX, cells) >= east
        and _edge((x - 1) % cells, LONGITUDE_MAX, cells) <= west
    )
