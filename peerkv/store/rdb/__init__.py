"""Redis's serialisation of values, as DUMP writes and RESTORE reads it: all that Redis 2.6 to 7.4 have written is read,
and what is written is plain, so that any Redis since 5 reads it.

A payload is a byte for the type and its encoding, the value, two bytes for the version (little-endian), and eight for
the CRC-64 (Jones) of all that. Whatever is wrong with it raises ValueError; nothing is made that is larger than
`VALUE_BYTES_MAX`, whatever lengths it claims.
"""

from peerkv.store.rdb.payload import (
    VALUE_BYTES_MAX,
    Content,
    content_of,
    is_intact,
    payload_of,
)

__all__ = ["VALUE_BYTES_MAX", "Content", "content_of", "is_intact", "payload_of"]
