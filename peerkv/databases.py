"""Databases: a key of another one than 0 is held under a name that says so, in the slot that the key has by itself.

So what concerns a key in two databases (MOVE, COPY) concerns one slot, and the program below knows of keys alone.
"""

from __future__ import annotations

from typing import Final

DATABASES: Final = 16
MARK: Final = b"\xff{db"
"""A key of another database than 0 begins with this, two digits, and `}`. It holds a `{`: who looks for hash tags in
line comes to `slot_of` with it. A key of database 0 that begins like that is one of the other database, too."""
_PREFIX_BYTES: Final = len(MARK) + 3
_PREFIXES: Final = (b"", *(b"%b%02d}" % (MARK, number) for number in range(1, DATABASES)))
RECORDS: Final = 99
"""No database of clients: what the cluster itself keeps as keys, such as decisions of transactions."""
RECORD: Final = b"%b%d}" % (MARK, RECORDS)
"""Those begin with this."""
_NUMBERS: Final = {prefix: number for number, prefix in enumerate(_PREFIXES) if prefix} | {RECORD: RECORDS}


def in_database(key: bytes, database: int) -> bytes:
    """A key of a database as it is held."""
    return _PREFIXES[database] + key


def database_of(key: bytes) -> int:
    """The database of a key as it is held."""
    return _NUMBERS.get(key[:_PREFIX_BYTES], 0) if key.startswith(MARK) else 0


def bare_key(key: bytes) -> bytes:
    """A key as its client knows it."""
    return key[_PREFIX_BYTES:] if database_of(key) else key
