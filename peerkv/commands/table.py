"""The table of Redis commands: what each is called, how many arguments it takes, where its keys are, how it is run.

Arity and key positions are Redis's (`COMMAND INFO`). Everything that must know a command by name asks this table:
dispatch, COMMAND, CLUSTER KEYSLOT users, the prompt's completion, and the documentation's test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from peerkv.resp import Reply
from peerkv.store.cell import Cells, Change

Effect: TypeAlias = tuple[Sequence[Change], Reply]
"""What a command does to a slot's cells, and what it answers."""

Run: TypeAlias = Callable[[Cells, Sequence[bytes], int], Effect]
"""`(cells, request, now) -> (changes, reply)`: the request with its name, cluster time in milliseconds. Must be pure: it
is run again elsewhere when a home dies before its change was chosen. A wrong argument is answered by a ReplyError in the
reply, with no changes."""


class Kind(Enum):
    """How a command reaches the data."""

    READ = "read"
    """One key; runs where the client is, on the cell that a majority agrees on."""
    WRITE = "write"
    """Keys of one slot; runs at the slot's home (CROSSSLOT otherwise)."""
    SPREAD = "spread"
    """Many keys of any slots; split into one command per slot, replies joined."""
    CLUSTER = "cluster"
    """Concerns every slot; an operation of the coordinator."""
    SESSION = "session"
    """Concerns the connection or the node alone."""


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table."""

    name: str
    kind: Kind
    arity: int
    """Arguments with the name; negative: at least that many."""
    flags: frozenset[str]
    keys: tuple[int, int, int]
    """(first, last, step) as in COMMAND INFO; (0, 0, 0): none; last -1: to the end."""
    summary: str
    """One line, for COMMAND DOCS, the prompt and the documentation."""
    usage: str
    """The arguments as Redis documents them, e.g. `key value [NX | XX]`; the prompt shows it."""
    group: str
    """Redis's: string, generic, connection, server, cluster."""
    since: str
    run: Run | None
    """For READ and WRITE."""
    split: Callable[[Sequence[bytes]], list[tuple[bytes, list[bytes]]]] | None = None
    """For SPREAD: the request as parts, each (a key that says the slot, a READ or WRITE request of one key). Parts of
    WRITE kind that fall into one slot are merged by `merge` before they are sent."""
    merge: Callable[[list[list[bytes]]], list[bytes]] | None = None
    """For SPREAD: requests of one slot as one request; None: parts stay single (reads)."""
    join: Callable[[list[Reply]], Reply] | None = None
    """For SPREAD: the parts' replies, in order of the merged parts, as one."""
    hidden: bool = False
    """Internal: a home runs it, no client may."""
