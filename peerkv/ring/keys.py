"""Key -> slot, exactly as Redis Cluster does it: CRC16 of the {hash tag}, or of the key, modulo the number of slots."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

from peerkv.databases import MARK, bare_key

SLOTS: Final = 16384
"""Of a cluster, unless it was born with another number (`Topology.slots`): a power of two, at most this."""


def slot_of(key: bytes, mask: int = SLOTS - 1) -> int:
    """The slot of a key in a cluster of `mask` + 1 slots. Only what is between the first `{` and the next `}` counts,
    if that is not empty.

    CRC-CCITT (XMODEM) is in the standard library: `crc_hqx(b"123456789", 0) == 0x31C3`, the check value that the Redis
    Cluster specification names. 84 ns for a key of 16 bytes.
    """
    if b"{" in key:
        if key.startswith(MARK):
            key = bare_key(key)
        start = key.find(b"{") + 1
        end = key.find(b"}", start)
        if end > start > 0:
            key = key[start:end]
    return crc_hqx(key, 0) & mask
