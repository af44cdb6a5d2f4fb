"""Events: what there is to tell of a change to a key beside what the key then holds, by class, name and key.

Classes are bits, so that what is wanted is one integer. Their letters are Redis's (notify-keyspace-events).
"""

from __future__ import annotations

from typing import Final, TypeAlias

KeyEvent: TypeAlias = tuple[int, bytes, bytes]
"""(class, name, key as it is held)"""

GENERIC: Final = 1 << 2
STRING: Final = 1 << 3
LIST: Final = 1 << 4
SET: Final = 1 << 5
HASH: Final = 1 << 6
SORTED_SET: Final = 1 << 7
EXPIRED: Final = 1 << 8
EVICTED: Final = 1 << 9
"""Nothing is evicted here; the class can be asked for, as it can of a Redis that never evicts."""
STREAM: Final = 1 << 10
MISSED: Final = 1 << 11
MODULE: Final = 1 << 13
NEW: Final = 1 << 14
ALL: Final = GENERIC | STRING | LIST | SET | HASH | SORTED_SET | EXPIRED | EVICTED | STREAM | MODULE
"""What `A` means: all but MISSED and NEW."""


def expired(key: bytes) -> KeyEvent:
    """Nobody sees a key again whose deadline has passed."""
    return EXPIRED, b"expired", key


def deleted(key: bytes) -> KeyEvent:
    """It was deleted by a command, or a command has taken the last element out of it."""
    return GENERIC, b"del", key


def made(key: bytes) -> KeyEvent:
    """There was no such key."""
    return NEW, b"new", key
