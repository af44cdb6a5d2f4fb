"""CBOR that may be decoded: numbers, texts, bytes and lists of known lengths, looked at before anything is made of it.

cbor2 builds what a stranger asks for: maps and sets whose keys collide, integers of megabytes, dates, patterns,
references to what was built before. None of that travels outside of links, so all of it is refused here, at a cost that
grows with the bytes that are there and not with what they announce.
"""

from __future__ import annotations

from typing import Final

NUMBER, BYTES, TEXT, LIST = 0, 2, 3, 4
"""CBOR's major types that are taken: whole numbers from 0, and these."""
CONSTANTS: Final = (0xF4, 0xF5, 0xF6)
"""False, true and null."""


def check_plain(payload: bytes, start: int, depth: int) -> None:
    """Raises ValueError unless from `start` on there is exactly one value, of lists in at most so many lists, and of
    nothing but numbers of 64 bits, texts, bytes and constants."""
    at, end = start, len(payload)
    lists: list[int] = []
    left = 1
    while True:
        while not left:
            if not lists:
                if at != end:
                    raise ValueError(f"{end - at} bytes behind the end")
                return
            left = lists.pop()
        left -= 1
        if at >= end:
            raise ValueError("it ends too early")
        head = payload[at]
        major, length = head >> 5, head & 31
        at += 1
        if 24 <= length <= 27 and major <= LIST:
            width = 1 << (length - 24)
            length = int.from_bytes(payload[at : at + width], "big")
            at += width
            if at > end:
                raise ValueError("it ends too early")
        elif length > 27:
            raise ValueError("a length that is not told")
        if major == NUMBER:
            continue
        if major == LIST:
            if len(lists) == depth:
                raise ValueError(f"lists in more than {depth} lists")
            lists.append(left)
            left = length
        elif major in (BYTES, TEXT):
            at += length
            if at > end:
                raise ValueError("it ends too early")
        elif head not in CONSTANTS:
            raise ValueError("something that is neither a number nor a text nor a list")
