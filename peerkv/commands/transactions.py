"""What homes and owners run for transactions: commands one after another, keys that are held, decisions, release.

All of it is functions of the cells of one slot, and travels as requests and patches like any command. A request begins
with its keys, `name count key...`, so that whoever runs it knows them; the rest is as each function says. What is
answered is a list that begins with an `Outcome`. Rules L1 to G8 of docs/protocol.md are these functions, in the order
in which `transactions` asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from peerkv.cbor import dump, load
from peerkv.commands.events import events_of
from peerkv.commands.running import KEYS, run_on
from peerkv.commands.table import Effect, Kind, find_part, fits, part
from peerkv.databases import RECORD
from peerkv.resp import CommandError, Reply, ReplyError, parse_integer
from peerkv.ring.keys import slot_of
from peerkv.scripting import Stopped
from peerkv.store.cell import Cell, Cells, Change, seen_of
from peerkv.store.events import KeyEvent
from peerkv.store.recent import TICKET_SLOT
from peerkv.store.scratch import Elsewhere, Occupied, Overheard, Scratch, Unlisted
from peerkv.store.values import Collection, Patch, checked, patched
from peerkv.store.values.held import HELD, Held, Tentative, freeing, holding, packed, unpacked

RECORD_MS: Final = 10_000
"""How long a decision is left to its coordinator before the home of its slot looks after it."""
RESERVED: Final = ReplyError("ERR keys that begin with \\xff{db99} are the cluster's own")
DECISION: Final = RECORD + b"decision:"
"""Names of decisions begin with this."""
COMMITTED: Final = b"C"
ABORTED: Final = b"A"
NO_NUMBER: Final = ReplyError("ERR a request between nodes has text for a number")
TOO_SHORT: Final = ReplyError("ERR a request between nodes is too short")
HAPPENED: Final = ReplyError(
    "UNCERTAIN the transaction has happened before; what it has answered is not known any more"
)


class Outcome(IntEnum):
    """What came of a request."""

    DONE = 0
    CHANGED = 1
    """A key is not as it was seen to be."""
    BUSY = 2
    """Another transaction holds a key, which stands behind this."""
    ELSEWHERE = 3
    """A command looks at this key, which is in another slot."""
    UNLISTED = 5
    """A command wants all keys that match a pattern, of a database."""
    TOO_LONG = 4
    """A script is not at its end after all that it may take where others wait."""
    ABORTED = 6
    """Somebody has written that it never happens, or has let go of what it held."""


# -- what was seen of a key


def is_as_seen(seen: int, cell: Cell | None, now: int = 0) -> bool:
    """Whether nobody has changed a key since, and it has not expired. A tombstone may have gone."""
    return seen == seen_of(cell, now) or (seen < 0 and cell is None)


# -- requests


class Reader:
    """Takes a request apart. Raises CommandError where it is none."""

    __slots__ = ("_at", "_items", "keys")

    def __init__(self, request: Sequence[bytes]) -> None:
        self._items = request
        self._at = 1
        """Where the next argument is."""
        self.keys = self.several()

    def one(self) -> bytes:
        """The next argument."""
        at = self._at
        if at >= len(self._items):
            raise CommandError(TOO_SHORT)
        self._at = at + 1
        return self._items[at]

    def number(self) -> int:
        """Likewise, an integer of 64 bits."""
        number = parse_integer(self.one())
        if number is None:
            raise CommandError(NO_NUMBER)
        return number

    def several(self) -> list[bytes]:
        """So many arguments as the next one says."""
        count = max(self.number(), 0)
        first, self._at = self._at, self._at + count
        if self._at > len(self._items):
            raise CommandError(TOO_SHORT)
        return list(self._items[first : self._at])

    def seen(self) -> list[tuple[bytes, int]]:
        """Likewise, of which every second one is what was seen of the key before it."""
        items = self.several()
        if not items:
            return []
        versions = [parse_integer(item) for item in items[1::2]]
        if len(items) % 2 or None in versions:
            raise CommandError(NO_NUMBER if None in versions else TOO_SHORT)
        return list(zip(items[::2], versions, strict=True))  # type: ignore[arg-type]

    def transaction(self) -> tuple[int, int]:
        """Process and ticket."""
        process, ticket = self.number(), self.number()
        if process < 0 or ticket < 0:
            raise CommandError(ReplyError("ERR a request between nodes is of no transaction"))
        return process, ticket

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """All that is left, two by two."""
        while self._at < len(self._items):
            yield self.one(), self.one()

    def commands(self) -> Iterator[list[bytes]]:
        """All that is left: each a count and its arguments."""
        while self._at < len(self._items):
            request = self.several()
            row = find_part(request[0]) if request else None
            has_more = row is not None and (row.chance or row.name == KEYS)
            if not request or (row is not None and not fits(row, request[:-1] if has_more else request)):
                raise CommandError(ReplyError("ERR a request between nodes has a command that is none"))
            yield request


def keys_at(request: Sequence[bytes]) -> Sequence[int]:
    """Where the keys of such a request are, as far as they are there."""
    count = parse_integer(request[1]) if len(request) > 1 else None
    return range(2, min(2 + max(count or 0, 0), len(request)))


def _counted(items: Sequence[bytes]) -> list[bytes]:
    return [b"%d" % len(items), *items]


def commands_of(requests: Sequence[Sequence[bytes]]) -> list[bytes]:
    """As `Reader.commands` takes them apart."""
    return [argument for request in requests for argument in _counted(request)]


def elsewhere(keys: Sequence[bytes], mask: int) -> Callable[[bytes], bool]:
    """Whether a key is in another slot than these; `mask`: slots of the cluster less one."""
    number = slot_of(keys[0], mask)

    def is_elsewhere(key: bytes) -> bool:
        check_name(key)
        return slot_of(key, mask) != number

    return is_elsewhere


def _is_not_held(keys: Container[bytes], key: bytes) -> bool:
    check_name(key)
    return key not in keys


def check_name(key: bytes) -> None:
    """Raises CommandError for a key that the cluster keeps for itself."""
    if key.startswith(RECORD):
        raise CommandError(RESERVED)


# -- one slot


def exec_request(
    keys: Sequence[bytes], mask: int, seen: Mapping[bytes, int], requests: Sequence[Sequence[bytes]]
) -> list[bytes]:
    """Run commands on one slot, if the keys in `seen` are as they were."""
    pairs = [argument for key, version in seen.items() for argument in (key, b"%d" % version)]
    return [b"PEERKV.EXEC", *_counted(keys), b"%d" % mask, *_counted(pairs), *commands_of(requests)]


@part(b"PEERKV.EXEC", Kind.WRITE, keys_at=keys_at)
def _exec(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    reader = Reader(request)
    mask = reader.number()
    for key, seen in reader.seen():
        if not is_as_seen(seen, cells.get(key)):
            return (), [Outcome.CHANGED]
    if not reader.keys:
        raise CommandError(ReplyError("ERR a request between nodes has no key"))
    scratch = Scratch(cells, now, elsewhere(reader.keys, mask))
    try:
        replies = [run_on(scratch, command, now) for command in reader.commands()]
    except Elsewhere as away:
        return (), [Outcome.ELSEWHERE, away.key]
    except Unlisted as unlisted:
        return (), [Outcome.UNLISTED, unlisted.pattern, unlisted.database]
    except Stopped:
        return (), [Outcome.TOO_LONG]
    return scratch.changes, [Outcome.DONE, replies, _flat(scratch.said)]


# -- several slots: hold (L1)


def hold_request(
    keys: Sequence[bytes],
    transaction: tuple[int, int],
    seen: Mapping[bytes, int],
    then: Mapping[bytes, Tentative],
    *,
    waits: bool,
    events: Mapping[bytes, Sequence[KeyEvent]] = MappingProxyType({}),
) -> list[bytes]:
    """Hold keys of a slot for a transaction, if those in `seen` are as they were; `then`: what is to become of some;
    `events`: what there is to tell of them then. `waits`: until nobody else holds them."""
    name = b"PEERKV.HOLD" if waits else b"PEERKV.TRY"
    return [*_head(name, keys, transaction, b"B", seen), *_bodies(then, events)]


def hold_and_run_request(
    keys: Sequence[bytes],
    transaction: tuple[int, int],
    seen: Mapping[bytes, int],
    requests: Sequence[Sequence[bytes]],
    *,
    waits: bool,
) -> list[bytes]:
    """Likewise; what is to become of them is what these commands do, if they look at no other keys: who does not know
    of one would not let it go."""
    name = b"PEERKV.HOLD" if waits else b"PEERKV.TRY"
    return [*_head(name, keys, transaction, b"R", seen), *commands_of(requests)]


def _head(
    name: bytes, keys: Sequence[bytes], transaction: tuple[int, int], kind: bytes, seen: Mapping[bytes, int]
) -> list[bytes]:
    pairs = [argument for key, version in seen.items() for argument in (key, b"%d" % version)] if seen else []
    return [name, *_counted(keys), *(b"%d" % part for part in transaction), kind, *_counted(pairs)]


def _bodies(then: Mapping[bytes, Tentative], events: Mapping[bytes, Sequence[KeyEvent]]) -> list[bytes]:
    return [argument for key, bodies in then.items() for argument in (key, packed(bodies, events.get(key, ())))]


@part(b"PEERKV.TRY", Kind.WRITE, keys_at=keys_at, waits=False)
@part(b"PEERKV.HOLD", Kind.WRITE, keys_at=keys_at)
def _hold(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    reader = Reader(request)
    keys, (process, ticket), kind, seen_before = reader.keys, reader.transaction(), reader.one(), reader.seen()
    for key in keys:
        held = _held_at(cells, key)
        if held is not None and (held.process, held.ticket) != (process, ticket):
            return (), [Outcome.BUSY, key]
    for key, seen in seen_before:
        if _held_at(cells, key) is None and not is_as_seen(seen, cells.get(key)):
            return (), [Outcome.CHANGED]
    then: dict[bytes, list[tuple[Any, int]]] = {key: [] for key in keys}
    events: Mapping[bytes, Sequence[KeyEvent]] = {}
    replies: list[Reply] = []
    said: list[Reply] = []
    if kind == b"R":
        scratch = Scratch(cells, now, partial(_is_not_held, then))
        outcome = _run_all(scratch, reader, now)
        if outcome[0] is not Outcome.DONE:
            return (), outcome
        for key, body, deadline in scratch.travelling():
            then.setdefault(key, []).append((body, deadline))
        events = by_key(scratch.events)
        _, replies, said = outcome
    else:
        events = _coming(reader, then)
    changes: list[Change] = []
    for key, coming in then.items():
        cell = cells.get(key)
        held = _held_at(cells, key)
        deadline = held.deadline if held is not None else cell[2] if cell is not None and cell[1] is not None else 0
        was = held.was if held is not None else seen_of(cell)
        changes.append((key, holding(process, ticket, deadline, coming, was, events.get(key, ())), HELD))
    return changes, [Outcome.DONE, replies, said]


def _run_all(scratch: Scratch, reader: Reader, now: int) -> list[Any]:
    """Run the commands that a request has; an outcome, with what they answer and have said."""
    try:
        replies = [run_on(scratch, command, now) for command in reader.commands()]
    except Elsewhere as away:
        return [Outcome.ELSEWHERE, away.key]
    except Occupied as occupied:
        return [Outcome.BUSY, occupied.key]
    except (Stopped, Unlisted):
        return [Outcome.TOO_LONG]
    return [Outcome.DONE, replies, _flat(scratch.said)]


def _coming(reader: Reader, then: dict[bytes, list[tuple[Any, int]]]) -> dict[bytes, Sequence[KeyEvent]]:
    """What a request says is to become of its keys, into `then`; and what there is to tell of that."""
    events: dict[bytes, Sequence[KeyEvent]] = {}
    for key, content in reader.pairs():
        if key not in then:
            raise CommandError(ReplyError("ERR a request between nodes changes what it does not hold"))
        try:
            bodies, events[key] = unpacked(content)
        except ValueError as error:
            raise CommandError(ReplyError(f"ERR a request between nodes has no changes: {error}")) from None
        then[key] = list(bodies)
    return events


def by_key(events: Sequence[KeyEvent] | None) -> dict[bytes, list[KeyEvent]]:
    """What there is to tell of each."""
    found: dict[bytes, list[KeyEvent]] = {}
    for event in events or ():
        found.setdefault(event[2], []).append(event)
    return found


def _flat(said: Sequence[tuple[int, bytes, bytes]]) -> list[Reply]:
    return [item for message in said for item in message]


def messages_of(items: Any) -> list[tuple[int, bytes, bytes]]:
    """What commands have said, as it is answered: kind, channel, message. Raises ValueError for what is none."""
    if type(items) is not list or len(items) % 3:
        raise ValueError("not messages")
    found = list(zip(items[::3], items[1::3], items[2::3], strict=True))
    if not all(
        (type(kind), type(name), type(text)) == (int, bytes, bytes) and 0 <= kind <= 2 for kind, name, text in found
    ):
        raise ValueError("not messages")
    return found


def _held_at(cells: Cells, key: bytes) -> Held | None:
    cell = cells.get(key)
    return cell[1] if cell is not None and type(cell[1]) is Held else None


RENEWED: Final = frozenset({b"PEERKV.EXEC", b"PEERKV.TRY", b"PEERKV.HOLD", b"PEERKV.DECIDE", b"PEERKV.COMMIT"})
"""Requests that say what was seen of keys."""


def renewed(request: Sequence[bytes], now_seen: Callable[[bytes, int], int]) -> Sequence[bytes]:
    """One of these, with what is seen of its keys now in place of what was, where that is the same: `now_seen` says so,
    of a key and what was seen of it."""
    try:
        at = 2 + int(request[1]) + (1 if request[0] == b"PEERKV.EXEC" else 3)
        count = int(request[at])
        pairs = request[at + 1 : at + 1 + count]
        found = [
            item
            for key, seen in zip(pairs[::2], pairs[1::2], strict=True)
            for item in (key, b"%d" % now_seen(key, int(seen)))
        ]
    except (IndexError, ValueError):
        return request  # who runs it says so
    return [*request[: at + 1], *found, *request[at + 1 + count :]]


# -- what there is to tell

TAKES_EFFECT: Final = frozenset({b"PEERKV.EXEC", b"PEERKV.DECIDE", b"PEERKV.COMMIT"})
"""Names of requests that run several commands, each of which is to be told of, ..."""
SEVERAL: Final = TAKES_EFFECT | {b"PEERKV.HOLD", b"PEERKV.TRY"}
"""... and of those of which that is told later."""


def notice_of(
    cells: Cells, request: Sequence[bytes], changes: Sequence[Change], reply: Reply, now: int
) -> tuple[Sequence[bytes], Sequence[KeyEvent]]:
    """What there is to tell of what a home has run on these cells, `Overheard` if it is one of `SEVERAL`: the keys that
    are changed, and the events. What a transaction does to a key that it holds is told when that is let go."""
    keys: dict[bytes, None] = {}
    freed: list[KeyEvent] = []
    for key, body, _ in changes:
        if type(body) is tuple and body[0] == "hold":
            continue
        if type(body) is tuple and body[0] == "free":
            held = _held_at(cells, key)
            if held is None or not body[1]:
                continue
            freed += held.events
            if not held.then:
                continue
        if not key.startswith(RECORD):
            keys[key] = None
    if isinstance(cells, Overheard):
        has_run = isinstance(reply, list) and reply[0] == Outcome.DONE and request[0] in TAKES_EFFECT
        return [*keys], [*freed, *cells.events] if has_run else ()
    if changes and not keys:  # they are the cluster's own, or were let go as they were
        return (), freed
    return [*keys], freed or events_of(cells, request, changes, reply, now)


# -- decide (D1, S1), release (D2)


def record_key(process: int, ticket: int) -> bytes:
    """Where the decision of a transaction is written."""
    return DECISION + process.to_bytes(8, "big") + ticket.to_bytes(8, "big")


def transaction_of(record: bytes) -> tuple[int, int]:
    """Whose decision a key is: process, ticket."""
    content = record[len(DECISION) :]
    return int.from_bytes(content[:8], "big"), int.from_bytes(content[8:], "big")


def decision_of(content: bytes) -> dict[int, list[bytes]] | None:
    """The keys that a transaction holds, by slot; None: it was aborted. Raises ValueError for what is no decision."""
    if content == ABORTED:
        return None
    rows = load(content[1:]) if content[:1] == COMMITTED else None
    if type(rows) is not list:
        raise ValueError("not a decision")
    for row in rows:
        match row:
            case [int(number), [*keys]] if 0 <= number <= TICKET_SLOT and set(map(type, keys)) <= {bytes}:
                pass
            case _:
                raise ValueError("not a decision")
    return dict(rows)


def commit_request(
    keys: Sequence[bytes], transaction: tuple[int, int], others: Mapping[int, Sequence[bytes]]
) -> list[bytes]:
    """Write that a transaction has happened, unless something is written, and let go of these keys of the slot where
    that is, if it holds all of them still. `others`: what it holds in other slots."""
    return [*_head(b"PEERKV.DECIDE", keys, transaction, b"H", {}), _committed(others)]


def commit_with_request(
    keys: Sequence[bytes],
    transaction: tuple[int, int],
    seen: Mapping[bytes, int],
    others: Mapping[int, Sequence[bytes]],
    then: Mapping[bytes, Tentative],
    *,
    waits: bool,
    events: Mapping[bytes, Sequence[KeyEvent]] = MappingProxyType({}),
) -> list[bytes]:
    """Likewise, of keys that it does not hold: if nobody does, and those in `seen` are as they were, `then` becomes of
    them. `waits`: until nobody holds them."""
    name = b"PEERKV.COMMIT" if waits else b"PEERKV.DECIDE"
    return [*_head(name, keys, transaction, b"B", seen), _committed(others), *_bodies(then, events)]


def commit_and_run_request(
    keys: Sequence[bytes],
    transaction: tuple[int, int],
    seen: Mapping[bytes, int],
    others: Mapping[int, Sequence[bytes]],
    requests: Sequence[Sequence[bytes]],
    *,
    waits: bool,
) -> list[bytes]:
    """Likewise; what becomes of them is what these commands do, if they look at no other keys."""
    name = b"PEERKV.COMMIT" if waits else b"PEERKV.DECIDE"
    return [*_head(name, keys, transaction, b"R", seen), _committed(others), *commands_of(requests)]


def abort_request(transaction: tuple[int, int]) -> list[bytes]:
    """Write that a transaction never happens, unless something is written; what is written is answered."""
    return _head(b"PEERKV.DECIDE", (), transaction, b"A", {})


def _committed(others: Mapping[int, Sequence[bytes]]) -> bytes:
    return COMMITTED + dump([[number, list(keys)] for number, keys in others.items()])


@part(b"PEERKV.DECIDE", Kind.WRITE, keys_at=keys_at, waits=False)
@part(b"PEERKV.COMMIT", Kind.WRITE, keys_at=keys_at)
def _decide(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    reader = Reader(request)
    keys, (process, ticket), kind, seen_before = reader.keys, reader.transaction(), reader.one(), reader.seen()
    record = record_key(process, ticket)
    cell = cells.get(record)
    written = cell[1] if cell is not None and type(cell[1]) is bytes else None
    if kind == b"A":
        return ((record, ABORTED, now + RECORD_MS),) if written is None else (), written or ABORTED
    content = reader.one()
    try:
        others = decision_of(content)
    except ValueError as error:
        raise CommandError(ReplyError(f"ERR a request between nodes says {error}")) from None
    if written is not None or others is None:
        if written is not None and written != ABORTED:
            raise CommandError(HAPPENED)
        return (), [Outcome.ABORTED]
    changes: list[Change]
    outcome: list[Any] = [Outcome.DONE, [], []]
    if kind == b"H":
        changes = _freed(cells, keys, process, ticket, commits=True)
        if len(changes) < len(keys):  # it was aborted, so long ago that this is forgotten
            return (), [Outcome.ABORTED]
    else:
        for key in keys:
            if _held_at(cells, key) is not None:
                return (), [Outcome.BUSY, key]
        for key, seen in seen_before:
            if not is_as_seen(seen, cells.get(key)):
                return (), [Outcome.CHANGED]
        then: dict[bytes, list[tuple[Any, int]]] = {key: [] for key in keys}
        if kind == b"R":
            scratch = Scratch(cells, now, partial(_is_not_held, then))
            outcome = _run_all(scratch, reader, now)
            if outcome[0] is not Outcome.DONE:
                return (), outcome
            changes = scratch.changes
        else:
            events = _coming(reader, then)
            changes = [(key, body, deadline) for key, bodies in then.items() for body, deadline in bodies]
            if isinstance(cells, Overheard):
                cells.events += [event for of_key in events.values() for event in of_key]
    if others:  # nobody asks for it where nobody holds anything
        changes = [*changes, (record, content, now + RECORD_MS)]
    return changes, outcome


def release_request(transaction: tuple[int, int], keys: Sequence[bytes], *, commits: bool) -> list[bytes]:
    """Let go of keys of a slot, as decided."""
    return [b"PEERKV.RELEASE", *_counted(keys), *(b"%d" % part for part in transaction), b"%d" % commits]


@part(b"PEERKV.RELEASE", Kind.WRITE, keys_at=keys_at, waits=False)
def _release(cells: Cells, request: Sequence[bytes], _now: int) -> Effect:
    reader = Reader(request)
    (process, ticket), commits = reader.transaction(), reader.number()
    changes = _freed(cells, reader.keys, process, ticket, commits=bool(commits))
    return changes, len(changes)


def _freed(cells: Cells, keys: Sequence[bytes], process: int, ticket: int, *, commits: bool) -> list[Change]:
    changes: list[Change] = []
    for key in keys:
        held = _held_at(cells, key)
        if held is not None and (held.process, held.ticket) == (process, ticket):
            changes.append((key, *freeing(held, commits=commits)))
    return changes


# -- what keys hold


def look_request(keys: Sequence[bytes]) -> list[bytes]:
    """What was seen of keys, now."""
    return [b"PEERKV.LOOK", *_counted(keys)]


@part(b"PEERKV.LOOK", Kind.READ, keys_at=keys_at)
def _look(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return (), [seen_of(cells.get(key), now) for key in Reader(request).keys]


def hand_out_request(keys: Sequence[bytes], transaction: tuple[int, int] | None = None) -> list[bytes]:
    """What keys of a slot hold: to be read by whoever runs commands on them. `transaction`: it holds them."""
    if transaction is None:
        return [b"PEERKV.HANDOUT", *_counted(keys)]
    return [b"PEERKV.HELDOUT", *_counted(keys), *(b"%d" % part for part in transaction)]


@part(b"PEERKV.HANDOUT", Kind.READ, keys_at=keys_at)
def _hand_out(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    keys = Reader(request).keys
    return (), [item for key in keys for item in _content_of(cells.get(key), now)]


@part(b"PEERKV.HELDOUT", Kind.READ, keys_at=keys_at, waits=False)
def _hand_out_held(cells: Cells, request: Sequence[bytes], _now: int) -> Effect:
    reader = Reader(request)
    process, ticket = reader.transaction()
    found: list[Reply] = []
    for key in reader.keys:
        held = _held_at(cells, key)
        if held is None or (held.process, held.ticket) != (process, ticket):
            return (), [Outcome.CHANGED]
        found += _content_of((cells[key][0], held.value, held.deadline), 0)
    return (), found


def _content_of(cell: Cell | None, now: int) -> list[Reply]:
    """Three items: what is seen, the deadline, the content packed; the last is None where nothing is."""
    seen = seen_of(cell, now)
    if cell is None or seen <= 0:
        return [seen, 0, None]
    value = cell[1]
    parts = [list(part) for part in value.parts()] if isinstance(value, Collection) else value
    return [seen, cell[2], dump(parts)]


def cells_from(keys: Sequence[bytes], items: Sequence[Any]) -> dict[bytes, tuple[int, Cell]]:
    """Per key what was seen, and a cell that holds the same. Raises ValueError for what is no `_content_of`."""
    found: dict[bytes, tuple[int, Cell]] = {}
    for key, seen, deadline, content in zip(keys, items[::3], items[1::3], items[2::3], strict=True):
        if type(seen) is not int or type(deadline) is not int or not (content is None or type(content) is bytes):
            raise ValueError("not what a key holds")
        value: Any = None
        if content is not None:
            value = load(content)
            if type(value) is list:
                parts: list[Patch] = [checked(row) for row in value]
                value = None
                for row in parts:
                    value = patched(value, row)
            elif type(value) is not bytes:
                raise ValueError("not a value")
        found[key] = seen, (max(seen, 0), value, deadline)
    return found


def is_record(key: bytes) -> bool:
    """Whether that is where a decision is written."""
    return key.startswith(DECISION)
