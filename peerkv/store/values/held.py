"""What stands at a key that a transaction over several slots holds: what was there, and what is to become of it.

A cell that is held looks as if it had expired (its deadline is `HELD`, the first millisecond of cluster time), so that
every reader asks the home, which knows, and nothing else on the way of a read or a write need know of transactions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from peerkv.cbor import dump, load
from peerkv.store.events import KeyEvent
from peerkv.store.values import Body, Collection, Patch, Value, checked, patch, patched, size_of

HELD: Final = 1
"""In place of the deadline of a cell that is held."""

Tentative: TypeAlias = Sequence[tuple[Body, int]]
"""What is to be done to a key, one after another: body, deadline."""


class Held(Collection):
    """A key that is held; what it holds is neither read nor changed before it is let go."""

    __slots__ = ("deadline", "events", "process", "then", "ticket", "value", "was")

    TYPE = "none"

    def __init__(
        self,
        value: Value | None,
        deadline: int,
        process: int,
        ticket: int,
        then: Tentative,
        was: int = 0,
        events: Sequence[KeyEvent] = (),
    ) -> None:
        self.value = value
        """None: nothing was there."""
        self.deadline = deadline
        self.process = process
        """The transaction: its coordinator, and ..."""
        self.ticket = ticket
        """... the ticket of its decision, whose slot is the one where that is written."""
        self.then = then
        """What is done to the value if the transaction is committed."""
        self.was = was
        """What was seen of the key before it was held (`seen_of`)."""
        self.events = events
        """What there is to tell of the key if the transaction is committed."""

    def __len__(self) -> int:
        return 1

    def parts(self) -> Iterator[Patch]:
        if isinstance(self.value, Collection):
            yield from self.value.parts()
        elif self.value is not None:
            yield ("put", self.value)
        yield holding(self.process, self.ticket, self.deadline, self.then, self.was, self.events)

    def copy(self) -> Collection:
        value = self.value.copy() if isinstance(self.value, Collection) else self.value
        return Held(value, self.deadline, self.process, self.ticket, self.then, self.was, self.events)

    @property
    def size(self) -> int:
        coming = sum([64 + len(packed([change])) for change in self.then]) + sum([64 + len(e[2]) for e in self.events])
        return 200 + size_of(self.value) + coming


def packed(changes: Tentative, events: Sequence[KeyEvent] = ()) -> bytes:
    """As one string of bytes."""
    rows: list[Any] = [[list(body) if type(body) is tuple else body, deadline] for body, deadline in changes]
    return dump([*rows, *map(list, events)])


def unpacked(content: bytes) -> tuple[Tentative, Sequence[KeyEvent]]:
    """Raises ValueError for what is none."""
    rows = load(content)
    if type(rows) is not list:
        raise ValueError("not changes")
    found: list[tuple[Body, int]] = []
    events: list[KeyEvent] = []
    for row in rows:
        if type(row) is list and tuple(map(type, row)) == (int, bytes, bytes) and 0 <= row[0] < 1 << 63:
            events.append((row[0], row[1], row[2]))
            continue
        if type(row) is not list or len(row) != 2 or type(row[1]) is not int or not 0 <= row[1] < 1 << 63:
            raise ValueError("not a change")
        body = row[0]
        found.append((body if body is None or type(body) is bytes else checked(body), row[1]))
    return found, events


def holding(
    process: int, ticket: int, deadline: int, then: Tentative, was: int = 0, events: Sequence[KeyEvent] = ()
) -> Patch:
    """The patch that holds a key for a transaction; `deadline` is the one that it has, `was` what is seen of it.
    Strings that are put, as is usual, travel as they are."""
    for body, _ in then:
        if type(body) is not bytes:
            break
    else:
        if not events:
            return ("hold", process, ticket, deadline, b"", was, *[part for put in then for part in put])
    return ("hold", process, ticket, deadline, packed(then, events), was)


def freeing(held: Held, *, commits: bool) -> tuple[Patch, int]:
    """The body that lets a key go, and its deadline: with what was to be done to it, or as it was."""
    return ("free", int(commits)), held.then[-1][1] if commits and held.then else held.deadline


@patch("put", bytes)
def _put(_value: Value | None, arguments: Sequence[Any]) -> bytes:
    return bytes(arguments[0])


@patch("hold", int, int, int, bytes, int, each=(bytes, int))
def _hold(value: Value | None, arguments: Sequence[Any]) -> Held:
    process, ticket, deadline, content, was, *puts = arguments
    if type(value) is Held:
        if (value.process, value.ticket) != (process, ticket):
            raise ValueError("another transaction holds it")
        value = value.value
    if content and not puts:
        changes, events = unpacked(content)
        return Held(value, deadline, process, ticket, changes, was, events)
    changes = list(zip(puts[::2], puts[1::2], strict=True))
    if content or (puts and not 0 <= min(puts[1::2]) <= max(puts[1::2]) < 1 << 63):
        raise ValueError("not changes")
    return Held(value, deadline, process, ticket, changes, was)


@patch("free", int)
def _free(value: Value | None, arguments: Sequence[Any]) -> Value | None:
    if type(value) is not Held:
        raise ValueError("it is not held")
    found = value.value
    for body, _ in value.then if arguments[0] else ():
        found = patched(found, body) if isinstance(body, tuple) else body
    return found


def held_in(value: Value | None) -> Value | None:
    """What a key holds, or held before a transaction has come to hold it."""
    return value.value if type(value) is Held else value
