"""The bus: all that the engines of one node have to say to those of another, a row here for each kind of it.

What is to be said to a peer in a turn stands in **columns**: flat lists, which the hot paths extend and `wire` turns
into one frame at the end of the turn. There they are unpacked, checked, and handed to the engine that the row names.
These columns are the only connection between the engines of different nodes; a new one is one row of `Columns`.

A dataclass per message costs 0.18 us to make and 1 us to encode, a list within a list 0.35 us to encode, an item of a
flat list 0.06 us, and an integer of many in a row 0.01 us; so numbers travel packed, 8 bytes each. What has no fixed
number of parts stands in a column of its own, and its count in the main one.

Nothing from another node is believed: whoever unpacks a column raises ValueError for what is none, by checks that take
a whole column at a time, and only then anybody acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from peerkv.agreement.checks import (
    NUMBER_MAX,
    POSITION_MAX,
    ballot,
    flat,
    keys_of,
    natural,
    number,
    numbers,
    replies_of,
    slot,
    slots_of,
)
from peerkv.agreement.messages import from_wire, numbered
from peerkv.agreement.packing import (
    pack_numbers,
    pack_replies,
    tickets_of,
    unpack_accepts,
    unpack_numbers,
    unpack_replies,
    unpack_signed,
)

if TYPE_CHECKING:
    from peerkv.agreement.notices import Notice

VERSION_MIN: Final = -8
"""A reader says by negative numbers, in place of a version, what else it wants to know of a key."""
RUN: Final = -2
"""One of these: run the next request."""
STATUS_MAX: Final = 255
REQUEST_LEAST: Final = 2
"""A request has a name and a key."""

CLASSES_MAX: Final = (1 << 16) - 1
"""Of events."""

Arguments = tuple[Any, ...]


class Column(NamedTuple):
    """A row of the table."""

    name: str
    """Of the list on `Peer`; where it has a companion, that one goes with it."""
    code: int
    """On the wire, and the order in which columns are taken in: a page before the changes that continue it, changes
    before reads that must see them. Codes are only ever added."""
    fields: str
    """What an item is made of, for people (docs/protocol.md)."""
    takes: str
    """Who takes it in: a method of the receiving node, called with the sending peer and what `unpack` has returned."""
    pack: Callable[[Columns], list[Any]]
    """(peer) -> what travels."""
    unpack: Callable[[list[Any], int], Arguments]
    """(what has travelled, how many slots there are) -> what the engine is called with. Raises ValueError."""
    width: int
    """So many entries of the list belong together, where it is too long for a frame; 0: all of them."""
    along: tuple[str, ...]
    """Lists that go with it: divided alike if they have one entry for each of its items, else whole with every part."""
    in_any_epoch: bool
    """It is taken in whatever the epoch of the frame (rule E1)."""


def _row(
    code: int,
    fields: str,
    takes: str,
    pack: Callable[[Columns], list[Any]],
    unpack: Callable[[list[Any], int], Arguments],
    width: int = 1,
    along: tuple[str, ...] = (),
    *,
    in_any_epoch: bool = False,
) -> dict[str, Any]:
    return {"row": (code, fields, takes, pack, unpack, width, along, in_any_epoch)}


def _rows(values: Sequence[int], width: int) -> list[list[int]]:
    if len(values) % width:
        raise ValueError(f"not rows of {width}")
    return [list(values[column::width]) for column in range(width)]


def _slots(values: list[int], slots: int) -> None:
    if values and max(values) >= slots:
        raise ValueError("not numbers of slots")


def _positions(values: list[int]) -> None:
    if values and max(values) > POSITION_MAX:
        raise ValueError("not positions")


# How each column travels


def _pack_answers(peer: Columns) -> list[Any]:
    return numbered(peer.answers)


def _pack_asks(peer: Columns) -> list[Any]:
    return numbered(peer.asks)


def _unpack_messages(content: list[Any], slots: int) -> Arguments:
    messages = []
    for item in content:
        if type(item) is not list or len(item) != 3:
            raise ValueError("not numbered messages")
        messages.append((natural(item[0]), from_wire(item[1:], slots)))
    return (messages,)


def _pack_changes(peer: Columns) -> list[Any]:
    return list(peer.changes)


def _unpack_changes(content: list[Any], slots: int) -> Arguments:
    numbers(content[::2])
    items = iter(content)
    return ([(turn, unpack_accepts(accepts, slots)) for turn, accepts in zip(items, items, strict=True)],)


def _pack_probes(peer: Columns) -> list[Any]:
    return [pack_numbers(peer.probes)]


def _pack_settled(peer: Columns) -> list[Any]:
    return [pack_numbers(peer.settled)]


def _pack_insists(peer: Columns) -> list[Any]:
    return [pack_numbers(peer.insists)]


def _pack_outcomes(peer: Columns) -> list[Any]:
    return [pack_numbers(peer.outcomes)]


def _only(content: list[Any]) -> list[int]:
    if len(content) != 1:
        raise ValueError("not one list of numbers")
    return unpack_numbers(content[0])


def _unpack_probes(content: list[Any], slots: int) -> Arguments:
    column = _only(content)
    asked, positions, _ = _rows(column, 3)
    _slots(asked, slots)
    _positions(positions)
    return (column,)


def _unpack_settled(content: list[Any], slots: int) -> Arguments:
    column = _only(content)
    reached, positions = _rows(column, 2)
    _slots(reached, slots)
    _positions(positions)
    return (column,)


def _unpack_insists(content: list[Any], slots: int) -> Arguments:
    tickets = _only(content)
    tickets_of(tickets, slots)
    return (tickets,)


def _unpack_outcomes(content: list[Any], slots: int) -> Arguments:
    column = _only(content)
    tickets, statuses, _ = _rows(column, 3)
    tickets_of(tickets, slots)
    if statuses and not 0 < min(statuses) <= max(statuses) <= STATUS_MAX:
        raise ValueError("not statuses")
    return (column,)


def _pack_acks(peer: Columns) -> list[Any]:
    return list(peer.acks)


def _unpack_acks(content: list[Any], slots: int) -> Arguments:
    turns, missed = flat(content, 2)
    numbers(turns)
    for lacking in missed:
        slots_of(lacking, slots)
    return (content,)


def _pack_forwards(peer: Columns) -> list[Any]:
    forwards = peer.forwards
    tickets, befores, requests = forwards[::3], forwards[1::3], forwards[2::3]
    counts = list(map(len, requests))
    alike = counts.count(counts[0]) == len(counts)
    return [
        pack_numbers(tickets),
        pack_numbers(befores) if any(befores) else b"",
        counts[0] if alike else pack_numbers(counts),
        list(chain.from_iterable(requests)),
    ]


def _unpack_forwards(content: list[Any], slots: int) -> Arguments:
    if len(content) < 4:
        raise ValueError("not operations")
    tickets, arguments = unpack_numbers(content[0]), keys_of(content[3])
    befores = unpack_numbers(content[1]) if content[1] else [0] * len(tickets)
    if len(tickets) != len(befores):
        raise ValueError("operations of different lengths")
    tickets_of(tickets, slots)
    requests: Sequence[Sequence[bytes]]
    alike = content[2]
    if type(alike) is int:  # a third of the time of slices
        if alike < REQUEST_LEAST or alike * len(tickets) != len(arguments):
            raise ValueError("requests of other lengths than announced")
        requests = list(zip(*[iter(arguments)] * alike, strict=True))
    else:
        counts = unpack_numbers(alike)
        if len(counts) != len(tickets) or sum(counts) != len(arguments) or (counts and min(counts) < REQUEST_LEAST):
            raise ValueError("requests of other lengths than announced")
        requests = [arguments[start:end] for start, end in pairwise(accumulate(counts, initial=0))]
    return tickets, befores, requests


def _pack_reads(peer: Columns) -> list[Any]:
    return [peer.sequence, peer.reads[::2], pack_numbers(peer.reads[1::2]), peer.requests]


def _unpack_reads(content: list[Any], _slots: int) -> Arguments:
    if len(content) < 4:
        raise ValueError("not reads")
    sequence, keys, packed, requests = content[:4]
    versions = unpack_signed(packed)
    if len(keys_of(keys)) != len(versions):
        raise ValueError("not as many versions as keys")
    if not packed[7::8].isascii() and min(versions) < VERSION_MIN:
        raise ValueError("not versions")
    if type(requests) is not list or len(requests) != versions.count(RUN):
        raise ValueError("not as many requests as are to be run")
    for request in requests:
        if len(keys_of(request)) < REQUEST_LEAST:
            raise ValueError("not a request")
    return natural(sequence), keys, versions, requests


def _pack_confirms(peer: Columns) -> list[Any]:
    return list(peer.confirms)


def _unpack_confirms(content: list[Any], _slots: int) -> Arguments:
    for item in content:
        if type(item) is not list or len(item) != 4:
            raise ValueError("not an answer to reads")
        sequence, differ, told, answered = item
        natural(sequence)
        indexes, versions = flat(told, 2)
        numbers(versions, most=POSITION_MAX)
        answers, replies = flat(answered, 2)
        replies_of(replies)
        found = numbers(differ) + numbers(indexes)
        if (
            len(set(found)) != len(found)
            or not set(numbers(answers)) <= set(indexes)
            or len(set(answers)) < len(answers)
        ):
            raise ValueError("two answers to one read")
    return (content,)


def _pack_done(peer: Columns) -> list[Any]:
    return [pack_numbers(peer.done), pack_replies(peer.replies)]


def _unpack_done(content: list[Any], slots: int) -> Arguments:
    if len(content) < 2:
        raise ValueError("not what is done")
    tickets = unpack_numbers(content[0])
    tickets_of(tickets, slots)
    return tickets, unpack_replies(content[1], len(tickets))


def _pack_tells(peer: Columns) -> list[Any]:
    return list(peer.tells)


def _unpack_tells(content: list[Any], slots: int) -> Arguments:
    told = []
    for item in content:
        if type(item) is not list or not item or type(item[0]) is not str:
            raise ValueError("not told by name")
        tell = TELLS.get(item[0])
        if tell is None:
            continue  # of a newer version
        checks = tell.checks
        if len(item) <= len(checks):
            raise ValueError(f"{item[0]} has {len(checks)} fields")
        values = [check(value, slots) for check, value in zip(checks, item[1:], strict=False)]
        if tell.rows and len(set(map(len, values))) > 1:
            raise ValueError(f"the lists of {item[0]} are not of one length")
        told.append((tell, values))
    return (told,)


MESSAGE_KINDS: Final = frozenset((0, 2))
"""Of channels and of shard channels. Nobody publishes on a pattern."""
SUBSCRIBERS_MAX: Final = 1 << 32
"""Of one channel at one node."""


def _pack_published(peer: Columns) -> list[Any]:
    return peer.published


def _unpack_published(content: list[Any], _slots: int) -> Arguments:
    found, kinds, channels, payloads = flat(content, 4)
    numbers(found)
    if not MESSAGE_KINDS.issuperset(numbers(kinds)):
        raise ValueError("not messages on channels or shard channels")
    keys_of(channels)
    keys_of(payloads)
    return (found, kinds, channels, payloads)


def _pack_heard(peer: Columns) -> list[Any]:
    return [pack_numbers(peer.heard_by)]


def _unpack_heard(content: list[Any], _slots: int) -> Arguments:
    found, counts = _rows(_only(content), 2)
    return (found, numbers(counts, most=SUBSCRIBERS_MAX))


# What is told: rare, by name


class Tell(NamedTuple):
    """A row of the table of what is told."""

    fields: str
    takes: str
    """As in `Column`; empty: what comes with another epoch, and is looked for before anything is taken in."""
    checks: tuple[Callable[[Any, int], Any], ...]
    rows: bool = False
    """Its fields are lists of one length."""
    in_any_epoch: bool = False
    """As in `Column`."""


def _purged(values: Any, slots: int) -> list[int]:
    numbered_, ballots, positions = flat(values, 3)
    slots_of(numbered_, slots)
    numbers(ballots)
    numbers(positions, most=POSITION_MAX)
    return list(values)


def _compared(values: Any, slots: int) -> list[int]:
    numbered_, ballots, positions, digests, oldest = flat(values, 5)
    slots_of(numbered_, slots)
    for column, most in ((ballots, POSITION_MAX), (positions, POSITION_MAX), (digests, (1 << 64) - 1)):
        numbers(column, most=most)
    numbers(oldest, most=POSITION_MAX + 1)
    return list(values)


def _any_numbers(values: Any, _slots: int) -> list[int]:
    return numbers(values)


def _any_tickets(values: Any, slots: int) -> list[int]:
    tickets_of(found := numbers(values), slots)
    return found


def _flags(values: Any, _slots: int) -> list[int]:
    return numbers(values, most=1)


def _any_keys(values: Any, _slots: int) -> list[bytes]:
    return keys_of(values)


def _notices(values: Any, _slots: int) -> list[Notice]:
    found: list[Notice] = []
    for row in _any_list(values, 0):
        if type(row) is not list or len(row) != 4:
            raise ValueError("not a notice")
        classes, names, keys = flat(row[3], 3)
        events = zip(numbers(classes, most=CLASSES_MAX), keys_of(names), keys_of(keys), strict=True)
        found.append((natural(row[0]), natural(row[1]), keys_of(row[2]), [*events]))
    return found


def _any_list(value: Any, _slots: int) -> list[Any]:
    if type(value) is not list:
        raise ValueError("not a list")
    return value


TELLS: Final[dict[str, Tell]] = {
    "nack": Tell("slot, ballot that is promised", "home.refuse", (slot, ballot)),
    "purge": Tell("[slot, ballot, position]", "replica.purge", (_purged,)),
    "compare": Tell("[slot, ballot, position, digest, oldest tombstone]", "replica.compare", (_compared,)),
    "take": Tell("[slot]", "take_over", (slots_of,)),
    "load": Tell("operations a second", "load.hear", (natural,)),
    "skew": Tell("milliseconds that the wall clock is ahead", "take_skew", (number(-NUMBER_MAX),)),
    "ping": Tell("", "take_ping", ()),
    "here": Tell("", "", ()),
    "awaits": Tell(
        "[key], [waiter], [every change]",
        "home.take_interest",
        (_any_keys, _any_numbers, _flags),
        rows=True,
        in_any_epoch=True,
    ),
    "awaits_no_more": Tell(
        "[key], [waiter]", "home.end_interest", (_any_keys, _any_numbers), rows=True, in_any_epoch=True
    ),
    "wake": Tell(
        "[key], [waiter]", "dispatcher.blocking.woken", (_any_keys, _any_numbers), rows=True, in_any_epoch=True
    ),
    "astray": Tell("[waiter]", "dispatcher.blocking.astray", (_any_numbers,), in_any_epoch=True),
    "changed": Tell(
        "[key], [process], [ticket]",
        "dispatcher.tracking.changed",
        (_any_keys, _any_numbers, _any_numbers),
        rows=True,
    ),
    "untracked": Tell("[slot]", "dispatcher.tracking.untracked", (slots_of,)),
    "tracks_no_more": Tell("[key], [ticket]", "home.tracked.forget", (_any_keys, _any_numbers), rows=True),
    "prefixes": Tell(
        "[prefix], begins 0 ends 1 anew 2, number or 0",
        "dispatcher.tracking.broadcasting.hear",
        (_any_keys, number(0, 2), natural),
        in_any_epoch=True,
    ),
    "prefixes_known": Tell("number", "dispatcher.tracking.broadcasting.heard", (natural,), in_any_epoch=True),
    "broadcast": Tell(
        "[key], [process], [ticket]",
        "dispatcher.tracking.broadcasting.arrive",
        (_any_keys, _any_numbers, _any_numbers),
        rows=True,
        in_any_epoch=True,
    ),
    "flushed": Tell("", "dispatcher.tracking.flushed", (), in_any_epoch=True),
    "channels": Tell(
        "kind, [channel], begins 0 ends 1 anew 2",
        "dispatcher.channels.hear",
        (number(0, 2), _any_keys, number(0, 2)),
        in_any_epoch=True,
    ),
    "monitors": Tell("begins 1 ends 0", "dispatcher.monitors.hear", (number(0, 1),), in_any_epoch=True),
    "monitored": Tell("[line]", "dispatcher.monitors.arrive", (_any_keys,), in_any_epoch=True),
    "notices": Tell(
        "turn, [coordinator, ticket, [key], [class, event, key]]",
        "notices.keep",
        (natural, _notices),
        in_any_epoch=True,
    ),
    "told": Tell("turn", "notices.told_by", (natural,), in_any_epoch=True),
    "notifies": Tell(
        "classes, since", "dispatcher.notifications.hear", (number(0, CLASSES_MAX), natural), in_any_epoch=True
    ),
    "over": Tell("[ticket]", "settling.over", (_any_tickets,)),
    "scripts": Tell("", "dispatcher.queueing.scripts.forget", (), in_any_epoch=True),
    "topology": Tell("topology", "", (_any_list,)),
}


# The table


@dataclass(slots=True, eq=False, repr=False)
class Columns:
    """What is to be said to one peer this turn."""

    answers: list[Any] = field(
        default_factory=list, metadata=_row(0, "number, message", "take_answers", _pack_answers, _unpack_messages)
    )
    """Answers to what it has asked."""
    changes: list[Any] = field(
        default_factory=list,
        metadata=_row(
            1,
            "turn; per coordinator [ticket, position, key, body, deadline, reply]; [slot, start]; awaited; marks",
            "take_changes",
            _pack_changes,
            _unpack_changes,
            2,
        ),
    )
    """ACCEPTs for it as owner, from us as home: turn, `turn.Accepts`."""
    probes: list[int] = field(
        default_factory=list,
        metadata=_row(2, "slot, position, urgent", "replica.probe", _pack_probes, _unpack_probes, 3),
    )
    """Are you there? Slot, position at which we are as home, whether an operation waits for that."""
    acks: list[Any] = field(
        default_factory=list,
        metadata=_row(3, "turn, [slot] not accepted", "progress.acknowledge", _pack_acks, _unpack_acks, 2),
    )
    """Answers to its ACCEPTs: turn, the slots among them that we could not accept."""
    settled: list[int] = field(
        default_factory=list,
        metadata=_row(4, "slot, position", "progress.settled", _pack_settled, _unpack_settled, 2),
    )
    """Slot, position that we have reached otherwise than by an ACCEPT, for it as home."""
    insists: list[int] = field(
        default_factory=list, metadata=_row(5, "ticket", "takeover.insist", _pack_insists, _unpack_insists)
    )
    """Tickets of those among the forwards for which it is to take the slot over, whoever it believes to be home."""
    forwards: list[Any] = field(
        default_factory=list,
        metadata=_row(
            6, "ticket, ticket before, request", "home.run", _pack_forwards, _unpack_forwards, 3, ("insists",)
        ),
    )
    """Operations for it as home: ticket, the ticket of the operation to be run before or 0, request."""
    sequence: int = 0
    """Number of the last frame of reads sent to it."""
    reads: list[Any] = field(
        default_factory=list,
        metadata=_row(
            7, "sequence; key, version; [request]", "reads.answer", _pack_reads, _unpack_reads, 0, ("requests",)
        ),
    )
    """Key and the version that we hold (0: none; -1: say which you hold; -2: and run the next request) of what we read
    from it as owner, and ..."""
    requests: list[Any] = field(default_factory=list)
    """... the requests that it is to run."""
    confirms: list[Any] = field(
        default_factory=list,
        metadata=_row(
            8,
            "sequence, [index] that differ, [index, version], [index, reply]",
            "reads.confirmed",
            _pack_confirms,
            _unpack_confirms,
        ),
    )
    """Answers to its reads: sequence, indexes of those that differ, versions asked for, replies."""
    done: list[int] = field(
        default_factory=list,
        metadata=_row(9, "ticket, reply", "coordinator.done", _pack_done, _unpack_done, 1, ("replies",)),
    )
    """Tickets of its operations that are done, from us as home, and ..."""
    replies: list[Any] = field(default_factory=list)
    """... their replies."""
    outcomes: list[int] = field(
        default_factory=list,
        metadata=_row(
            10, "ticket, status, number of the home", "coordinator.outcomes", _pack_outcomes, _unpack_outcomes, 3
        ),
    )
    """Other ends of its operations: ticket, status, the number of the member that is home (0: not known)."""
    asks: list[Any] = field(
        default_factory=list, metadata=_row(11, "number, message", "take_asks", _pack_asks, _unpack_messages)
    )
    """Questions: number, message."""
    tells: list[Any] = field(
        default_factory=list, metadata=_row(12, "name, fields", "take_tells", _pack_tells, _unpack_tells)
    )
    """What it may want to know: a name of `TELLS`, and what belongs to it."""
    published: list[Any] = field(
        default_factory=list,
        metadata=_row(
            13,
            "number or 0, kind, channel, message",
            "dispatcher.channels.arrive",
            _pack_published,
            _unpack_published,
            4,
            in_any_epoch=True,
        ),
    )
    """Messages for its subscribers (pub/sub)."""
    heard_by: list[int] = field(
        default_factory=list,
        metadata=_row(
            14, "number, subscribers", "dispatcher.channels.heard", _pack_heard, _unpack_heard, 2, in_any_epoch=True
        ),
    )
    """How many have got messages of its."""


COLUMNS: Final[tuple[Column, ...]] = tuple(
    sorted(
        [Column(column.name, *column.metadata["row"]) for column in fields(Columns) if "row" in column.metadata],
        key=lambda column: column.code,
    )
)
NAMES: Final[tuple[str, ...]] = tuple([column.name for column in fields(Columns) if column.default_factory is list])
"""Of all lists, companions included."""
