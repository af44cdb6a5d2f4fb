"""Strings in which Redis keeps all elements of a small collection: listpacks, and what there was before them.

Each function returns the elements, `most` at most, integers as the digits that they stand for. Raises ValueError,
IndexError or struct.error for what is none. Listpacks are written, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import iter_unpack, pack, unpack_from
from typing import Final

_END: Final = 0xFF


def _signed(packed: bytes, at: int, count: int) -> bytes:
    """The digits of an integer of so many bytes."""
    if at + count > len(packed):
        raise ValueError("cut off")
    return b"%d" % int.from_bytes(packed[at : at + count], "little", signed=True)


def _text(packed: bytes, at: int, count: int) -> bytes:
    if at + count >= len(packed):  # the end has a byte of its own
        raise ValueError("cut off")
    return packed[at : at + count]


_LISTPACK_INTEGERS: Final = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
"""Bytes of an integer, by the byte before it."""


def of_listpack(packed: bytes, most: int) -> list[bytes]:
    """The strings and integers of a listpack: (size, number of elements), the elements, each with its length behind it,
    and 0xFF."""
    size, _ = unpack_from("<IH", packed)
    if size != len(packed):
        raise ValueError("not as long as it says")
    found: list[bytes] = []
    add = found.append
    at = 6
    while (kind := packed[at]) != _END:
        if kind < 0x80:
            add(b"%d" % kind)
            length = 1
        elif kind < 0xC0:
            length = 1 + (kind & 0x3F)
            add(_text(packed, at + 1, kind & 0x3F))
        elif kind < 0xE0:
            number = (kind & 0x1F) << 8 | packed[at + 1]
            add(b"%d" % (number if number < 0x1000 else number - 0x2000))
            length = 2
        elif kind < 0xF0:
            count = (kind & 0x0F) << 8 | packed[at + 1]
            add(_text(packed, at + 2, count))
            length = 2 + count
        elif kind == 0xF0:
            (count,) = unpack_from("<I", packed, at + 1)
            add(_text(packed, at + 5, count))
            length = 5 + count
        else:
            count = _LISTPACK_INTEGERS.get(kind, 0)
            if not count:
                raise ValueError("an unknown kind of element")
            add(_signed(packed, at + 1, count))
            length = 1 + count
        at += length + _bytes_behind(length)
        if len(found) > most:
            raise ValueError(f"more than {most} elements")
    if at + 1 != len(packed):
        raise ValueError("something behind the end")
    return found


def _bytes_behind(length: int) -> int:
    """Bytes that say the length of an element, so that a listpack can be read backwards."""
    if length < 128:
        return 1
    if length < 16383:
        return 2
    if length < 2097151:
        return 3
    return 4 if length < 268435455 else 5


_COUNTED_MAX: Final = 0xFFFF
"""Elements; of more a listpack does not say how many there are."""


def listpack_of(items: Iterable[bytes | int]) -> bytes:
    """A listpack of strings, and of integers of 64 bits, which are written as such."""
    pieces: list[bytes] = []
    for item in items:
        element = _packed_integer(item) if isinstance(item, int) else _packed_string(item)
        pieces += (element, _packed_length(len(element)))
    body = b"".join(pieces)
    return pack("<IH", len(body) + 7, min(len(pieces) // 2, _COUNTED_MAX)) + body + bytes((_END,))


def _packed_integer(number: int) -> bytes:
    if 0 <= number < 0x80:
        return bytes((number,))
    if -0x1000 <= number < 0x1000:
        return (0xC000 | number & 0x1FFF).to_bytes(2)
    kind, width = next(
        (kind, width)
        for kind, width in _LISTPACK_INTEGERS.items()
        if -1 << 8 * width - 1 <= number < 1 << 8 * width - 1
    )
    return bytes((kind,)) + number.to_bytes(width, "little", signed=True)


def _packed_string(text: bytes) -> bytes:
    if len(text) < 0x40:
        return bytes((0x80 | len(text),)) + text
    if len(text) < 0x1000:
        return (0xE000 | len(text)).to_bytes(2) + text
    return b"\xf0" + pack("<I", len(text)) + text


def _packed_length(length: int) -> bytes:
    """Seven bits a byte, the highest first; all but that one are marked."""
    count = _bytes_behind(length)
    return bytes(length >> 7 * (count - 1 - at) & 0x7F | (0x80 if at else 0) for at in range(count))


_ZIPLIST_INTEGERS: Final = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}


def of_ziplist(packed: bytes, most: int) -> list[bytes]:
    """The strings and integers of a ziplist: (size, where the last one is, number of elements), the elements, each with
    the length of the one before it, and 0xFF."""
    size, _, _ = unpack_from("<IIH", packed)
    if size != len(packed):
        raise ValueError("not as long as it says")
    found: list[bytes] = []
    add = found.append
    at = 10
    while packed[at] != _END:
        at += 1 if packed[at] < 0xFE else 5
        kind = packed[at]
        at += 1
        count = 0
        if kind < 0xC0:
            if kind < 0x40:
                count = kind
            elif kind < 0x80:
                count = (kind & 0x3F) << 8 | packed[at]
                at += 1
            else:
                (count,) = unpack_from(">I", packed, at)
                at += 4
            add(_text(packed, at, count))
        elif 0xF1 <= kind <= 0xFD:
            add(b"%d" % ((kind & 0x0F) - 1))
        else:
            count = _ZIPLIST_INTEGERS.get(kind, 0)
            if not count:
                raise ValueError("an unknown kind of element")
            add(_signed(packed, at, count))
        at += count
        if len(found) > most:
            raise ValueError(f"more than {most} elements")
    if at + 1 != len(packed):
        raise ValueError("something behind the end")
    return found


_INTSET_FORMATS: Final = {2: "<h", 4: "<i", 8: "<q"}


def of_intset(packed: bytes, most: int) -> list[bytes]:
    """The integers of an intset: (bytes of each, how many), and they."""
    width, count = unpack_from("<II", packed)
    if width not in _INTSET_FORMATS or len(packed) != 8 + width * count:
        raise ValueError("not as long as it says")
    if count > most:
        raise ValueError(f"more than {most} elements")
    return [b"%d" % number for (number,) in iter_unpack(_INTSET_FORMATS[width], packed[8:])]


def of_zipmap(packed: bytes, most: int) -> list[bytes]:
    """The fields and values of a zipmap (Redis 2.4 and before): a byte for their number, and behind the length of each
    value one for how much of it is not used."""
    found: list[bytes] = []
    at = 1
    while packed[at] != _END:
        free = 0
        count = packed[at]
        at += 1
        if count == 0xFE:
            (count,) = unpack_from("<I", packed, at)
            at += 4
        if len(found) & 1:
            free = packed[at]
            at += 1
        found.append(_text(packed, at, count))
        at += count + free
        if len(found) > most:
            raise ValueError(f"more than {most} elements")
    if at + 1 != len(packed) or len(found) & 1:
        raise ValueError("something behind the end")
    return found
