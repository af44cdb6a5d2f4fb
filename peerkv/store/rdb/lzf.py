"""LZF, with which Redis compresses strings: pieces as they are, and copies of what stands up to 8 KiB before."""

from __future__ import annotations


def decompressed(packed: bytes, length: int) -> bytes:
    """What has been compressed, which must be so long. Raises ValueError for what is no LZF."""
    found = bytearray()
    at, end = 0, len(packed)
    try:
        while at < end:
            control = packed[at]
            at += 1
            if control < 0x20:
                found += packed[at : at + control + 1]
                at += control + 1
                continue
            count = control >> 5
            if count == 7:
                count += packed[at]
                at += 1
            count += 2
            distance = ((control & 0x1F) << 8 | packed[at]) + 1
            at += 1
            start = len(found) - distance
            if start < 0 or len(found) + count > length:
                raise ValueError("a copy of what is not there")
            if distance >= count:
                found += found[start : start + count]
            else:  # it goes on with what it has copied
                found += (found[start:] * (count // distance + 1))[:count]
    except IndexError:
        raise ValueError("cut off") from None
    if at != end or len(found) != length:
        raise ValueError(f"{len(found)} bytes where {length} were said")
    return bytes(found)
