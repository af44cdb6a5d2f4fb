"""What homes and owners run for transactions: commands one after another, keys that are held, decisions, release.

All of it is functions of the cells of one slot, and travels as requests and patches like any command. A request begins
with its keys, `name count key...`, so that whoever runs it knows them; the rest is as each function says. What is
answered is a list that begins with an `Outcome`. Rules L1 to G1 of docs/protocol.md are these functions, in the order
in which `agreement.transactions` asks for them.
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


# -- what was seen of a key


def is_as_seen(seen: int, cell: Cell | None, now: int = 0) -> bool:
    """Whether nobody has changed a key since, and it has not expired. A tombstone may have gone."""
    return seen == seen_of(cell, now) or (seen < 0 and cell is None)


# -- requests


class Reader:
    """Takes a request apart. Raises CommandError where it is none."""

    def __init__(self, request: Sequence[bytes]) -> None:
        self._items = iter(request[1:])
        self.keys = self.several()

    def one(self) -> bytes:
        """The next argument."""
        item = next(self._items, None)
        if item is None:
            raise CommandError(ReplyError("ERR a request between nodes is too short"))
        return item

    def number(self) -> int:
        """Likewise, an integer of 64 bits."""
        return _number(self.one())

    def several(self) -> list[bytes]:
        """So many arguments as the next one says."""
        return [self.one() for _ in range(self.number())]

    def seen(self) -> list[tuple[bytes, int]]:
        """Likewise, of which every second one is what was seen of the key before it."""
        items = self.several()
        if len(items) % 2:
            raise CommandError(ReplyError("ERR a request between nodes is too short"))
        return list(zip(items[::2], map(_number, items[1::2]), strict=True))

    def transaction(self) -> tuple[int, int]:
        """Process and ticket."""
        process, ticket = self.number(), self.number()
        if process < 0 or ticket < 0:
            raise CommandError(ReplyError("ERR a request between nodes is of no transaction"))
        return process, ticket

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """All that is left, two by two."""
        return ((item, self.one()) for item in self._items)

    def commands(self) -> Iterator[list[bytes]]:
        """All that is left: each a count and its arguments."""
        for count in self._items:
            request = [self.one() for _ in range(_number(count))]
            row = find_part(request[0]) if request else None
            has_more = row is not None and (row.chance or row.name == KEYS)
            if not request or (row is not None and not fits(row, request[:-1] if has_more else request)):
                raise CommandError(ReplyError("ERR a request between nodes has a command that is none"))
            yield request


def _number(argument: bytes) -> int:
    number = parse_integer(argument)
    if number is None:
        raise CommandError(ReplyError("ERR a request between nodes has text for a number"))
    return number


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
    pairs = [argument for key, version in seen.items() for argument in (key, b"%d" % version)]
    changes = [argument for key, bodies in then.items() for argument in (key, packed(bodies, events.get(key, ())))]
    name = b"PEERKV.HOLD" if waits else b"PEERKV.TRY"
    return [name, *_counted(keys), *(b"%d" % part for part in transaction), b"B", *_counted(pairs), *changes]


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
    pairs = [argument for key, version in seen.items() for argument in (key, b"%d" % version)]
    name = b"PEERKV.HOLD" if waits else b"PEERKV.TRY"
    head = [name, *_counted(keys), *(b"%d" % part for part in transaction), b"R", *_counted(pairs)]
    return [*head, *commands_of(requests)]


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
    events: dict[bytes, list[KeyEvent]] = {}
    replies: list[Reply] = []
    said: list[Reply] = []
    if kind == b"R":
        scratch = Scratch(cells, now, partial(_is_not_held, then))
        try:
            replies = [run_on(scratch, command, now) for command in reader.commands()]
        except Elsewhere as away:
            return (), [Outcome.ELSEWHERE, away.key]
        except Occupied as occupied:
            return (), [Outcome.BUSY, occupied.key]
        except (Stopped, Unlisted):
            return (), [Outcome.TOO_LONG]
        for key, body, deadline in scratch.travelling():
            then.setdefault(key, []).append((body, deadline))
        events = by_key(scratch.events)
        said = _flat(scratch.said)
    else:
        for key, content in reader.pairs():
            if key not in then:
                raise CommandError(ReplyError("ERR a request between nodes changes what it does not hold"))
            try:
                bodies, told = unpacked(content)
            except ValueError as error:
                raise CommandError(ReplyError(f"ERR a request between nodes has no changes: {error}")) from None
            then[key], events[key] = list(bodies), list(told)
    changes: list[Change] = []
    for key, coming in then.items():
        cell = cells.get(key)
        held = _held_at(cells, key)
        deadline = held.deadline if held is not None else cell[2] if cell is not None and cell[1] is not None else 0
        was = held.was if held is not None else seen_of(cell)
        changes.append((key, holding(process, ticket, deadline, coming, was, events.get(key, ())), HELD))
    return changes, [Outcome.DONE, replies, said]


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
    return cell[1] if cell is not None and isinstance(cell[1], Held) else None


RENEWED: Final = frozenset({b"PEERKV.EXEC", b"PEERKV.TRY", b"PEERKV.HOLD"})
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

SEVERAL: Final = frozenset({b"PEERKV.EXEC", b"PEERKV.HOLD", b"PEERKV.TRY"})
"""Names of requests that run several commands, each of which is to be told of."""


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
        if not is_record(key):
            keys[key] = None
    if isinstance(cells, Overheard):
        has_run = isinstance(reply, list) and reply[0] == Outcome.DONE and request[0] == b"PEERKV.EXEC"
        return [*keys], cells.events if has_run else ()
    return [*keys], freed or events_of(cells, request, changes, reply, now)


# -- decide (D1, R1), release (D2), forget (G1)


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


def commit_request(transaction: tuple[int, int], keys: Mapping[int, Sequence[bytes]]) -> list[bytes]:
    """Write that a transaction has happened, unless something is written, and let go of its keys of that slot."""
    content = COMMITTED + dump([[number, list(of_slot)] for number, of_slot in keys.items()])
    here = keys.get(transaction[1] & TICKET_SLOT, ())
    return [b"PEERKV.DECIDE", *_counted(here), *(b"%d" % part for part in transaction), content]


def abort_request(transaction: tuple[int, int]) -> list[bytes]:
    """Write that a transaction never happens, unless something is written."""
    return [b"PEERKV.DECIDE", b"0", *(b"%d" % part for part in transaction), ABORTED]


@part(b"PEERKV.DECIDE", Kind.WRITE, keys_at=keys_at, waits=False)
def _decide(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """Answers what is written there now."""
    reader = Reader(request)
    (process, ticket), content = reader.transaction(), reader.one()
    try:
        decision_of(content)
    except ValueError as error:
        raise CommandError(ReplyError(f"ERR a request between nodes says {error}")) from None
    record = record_key(process, ticket)
    cell = cells.get(record)
    if cell is not None and cell[1] is not None:
        return (), cell[1] if type(cell[1]) is bytes else b""
    changes: list[Change] = [(record, content, now + RECORD_MS)]
    if content != ABORTED:
        freed = _freed(cells, reader.keys, process, ticket, commits=True)
        if len(freed) < len(reader.keys):  # it was aborted, so long ago that this is forgotten
            return (), ABORTED
        changes += freed
    return changes, content


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


def forget_request(transaction: tuple[int, int]) -> list[bytes]:
    """Drop a decision: nobody holds a key for it any more."""
    return [b"PEERKV.FORGET", b"0", *(b"%d" % part for part in transaction)]


@part(b"PEERKV.FORGET", Kind.WRITE, keys_at=keys_at, waits=False)
def _forget(cells: Cells, request: Sequence[bytes], _now: int) -> Effect:
    reader = Reader(request)
    record = record_key(*reader.transaction())
    return ([(record, None, 0)] if record in cells and cells[record][1] is not None else []), 1


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
