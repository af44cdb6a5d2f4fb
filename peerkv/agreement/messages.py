"""Questions and answers of operations, as plain lists, and what their fields may be.

Rare, so every field is looked at. A value that is none of its field's raises ValueError before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

from peerkv.agreement.checks import (
    POSITION_MAX,
    Check,
    are_bytes,
    ballot,
    flag,
    flat,
    key,
    keys_of,
    marks_of,
    natural,
    number,
    numbers,
    position,
    replies_of,
    slot,
    slots_of,
    value_of,
)
from peerkv.agreement.operation import (
    CONTINUES,
    UNFINISHED,
    CellAnswers,
    Count,
    Counts,
    CountSubscribers,
    EpochAccept,
    EpochPrepare,
    EpochPromise,
    Fetch,
    KeyPage,
    ListKeys,
    Message,
    Missed,
    Page,
    Prepare,
    Progress,
    Progressed,
    Promises,
    Ran,
    ReadCells,
    Refused,
    RunReads,
    Subscribers,
)
from peerkv.agreement.packing import pack_accepts, unpack_accepts
from peerkv.databases import DATABASES
from peerkv.store.cell import BALLOT_MAX
from peerkv.store.values import Patch, checked


def _cells(values: Any, _slots: int = 0) -> list[Any]:
    """Flat: key, version, content, deadline, flags. The parts of a value come as lists and become patches."""
    keys, versions, contents, deadlines, flags = flat(values, 5)
    keys_of(keys)
    numbers(versions, most=POSITION_MAX)
    numbers(deadlines)
    numbers(flags, most=CONTINUES | UNFINISHED)
    found = list(values)
    if not are_bytes(contents):
        found[2::5] = [_parts(content) if type(content) is list else value_of(content) for content in contents]
    return found


def _parts(content: list[Any]) -> list[Patch]:
    if not content:
        raise ValueError("a value of no parts")
    return [checked(part) for part in content]


def _within(value: Any, _slots: int) -> list[Any]:
    if type(value) is not list or len(value) not in (0, 2):
        raise ValueError("not a place within a copy")
    if value:
        key(value[0])
        natural(value[1])
    return value


def _held(values: Any, _slots: int) -> list[Any]:
    keys, versions = flat(values, 2)
    keys_of(keys)
    numbers(versions, most=POSITION_MAX)
    return list(values)


def _ballots(values: Any, _slots: int) -> list[int]:
    return numbers(values, most=BALLOT_MAX)


def _positions(values: Any, _slots: int) -> list[int]:
    return numbers(values, -1, POSITION_MAX)


def _counts(values: Any, _slots: int) -> list[int]:
    return numbers(values)


def _sizes(values: Any, _slots: int) -> list[int]:
    return numbers(values, -1)


def _requests(values: Any, _slots: int) -> list[Any]:
    if type(values) is not list or not all(len(keys_of(request)) > 1 for request in values):
        raise ValueError("not requests")
    return values


def _replies(values: Any, _slots: int) -> list[Any]:
    return replies_of(values)


def _lineage(values: Any, _slots: int) -> list[int]:
    ballots, positions = flat(values, 2)
    numbers(ballots, most=BALLOT_MAX)
    numbers(positions, most=POSITION_MAX)
    return list(values)


def _recent(values: Any, _slots: int) -> list[Any]:
    processes, tickets, replies = flat(values, 3)
    numbers(processes, 1)
    numbers(tickets)
    replies_of(replies)
    return list(values)


def _marks(values: Any, _slots: int) -> list[int]:
    marks_of(values)
    return list(values)


def _pages(values: Any, _slots: int) -> list[list[bytes]]:
    if type(values) is not list:
        raise ValueError("not a list of lists of keys")
    return [keys_of(keys) for keys in values]


def _bits(value: Any, slots: int) -> bytes:
    if len(key(value)) > slots // 8:
        raise ValueError("more bits than slots")
    return bytes(value)


def _topology(value: Any, _slots: int) -> list[Any]:
    """Looked at by who reads it (`Topology.from_wire`)."""
    if type(value) is not list:
        raise ValueError("not a topology")
    return value


class _Wide:
    """Ballots of epochs have more bits than a word: 16 bytes, the highest first."""

    BYTES: Final = 16

    @classmethod
    def to_wire(cls, value: int) -> bytes:
        return value.to_bytes(cls.BYTES, "big")

    @classmethod
    def check(cls, value: Any, _slots: int) -> int:
        if type(value) is not bytes or len(value) != cls.BYTES:
            raise ValueError(f"not {cls.BYTES} bytes")
        return int.from_bytes(value, "big")


# Rows: what each message is made of

MESSAGES: Final[tuple[tuple[type[Any], tuple[Check, ...]], ...]] = (
    (Prepare, (slots_of, _ballots)),
    (Promises, (_ballots, _positions)),
    (Fetch, (slot, ballot, position, flag, _within, _held)),
    (Page, (flag, _cells, position, _within, flag, position, _lineage, _recent, _marks, number(most=(1 << 64) - 1))),
    (ReadCells, (slot, keys_of)),
    (CellAnswers, (_positions, _sizes, _counts)),
    (Count, (slots_of, number(-1, DATABASES - 1))),
    (Counts, (_positions, _counts)),
    (ListKeys, (slots_of, natural, natural)),
    (KeyPage, (_pages, natural, _positions)),
    (Refused, (ballot,)),
    (EpochPrepare, (number(1), _Wide.check)),
    (EpochPromise, (_Wide.check, _Wide.check, _topology)),
    (EpochAccept, (number(1), _Wide.check, _topology)),
    (Progress, ()),
    (Progressed, (_bits, natural, natural, natural, _bits)),
    (RunReads, (slot, _requests)),
    (Ran, (_positions, _replies)),
    (Missed, (unpack_accepts, position, position)),
    (CountSubscribers, (number(0, 2), keys_of)),
    (Subscribers, (_counts,)),
)
"""A message's number on the wire is its place here; each has as many checks as fields."""

_TO_WIRE: Final[dict[Check, Callable[[Any], Any]]] = {_Wide.check: _Wide.to_wire, unpack_accepts: pack_accepts}
"""Fields that travel in another form."""
_CODES: Final = {kind: code for code, (kind, _) in enumerate(MESSAGES)}
_FIELDS: Final = [tuple(kind.__dataclass_fields__) for kind, _ in MESSAGES]
_EQUALLY_LONG: Final[dict[type[Any], Callable[[Any], tuple[Sequence[Any], ...]]]] = {
    Prepare: attrgetter("slots", "ballots"),
    Promises: attrgetter("promised", "positions"),
    Counts: attrgetter("positions", "keys"),
    KeyPage: attrgetter("keys", "positions"),
    CellAnswers: attrgetter("versions", "sizes", "deadlines"),
}


def to_wire(message: Message) -> list[Any]:
    """A message as plain lists: its number, its fields."""
    code = _CODES[type(message)]
    fields = [
        _TO_WIRE[check](value) if check in _TO_WIRE else value
        for check, value in zip(MESSAGES[code][1], [getattr(message, name) for name in _FIELDS[code]], strict=True)
    ]
    return [code, fields]


def from_wire(value: Any, slots: int) -> Message:
    """The message that was made into this. Raises ValueError for what is none. Fields that are not known here are of a
    newer version."""
    if type(value) is not list or len(value) != 2:
        raise ValueError("not a message")
    code, fields = value
    if type(code) is not int or not 0 <= code < len(MESSAGES) or type(fields) is not list:
        raise ValueError("not a message that is known here")
    kind, checks = MESSAGES[code]
    if len(fields) < len(checks):
        raise ValueError(f"{kind.__name__} has {len(checks)} fields")
    message: Message = kind(*[check(field, slots) for check, field in zip(checks, fields, strict=False)])
    if isinstance(message, Page) and max(message.cells[1::5], default=0) > message.upto:
        raise ValueError("a page holds later versions than it says")
    lists = _EQUALLY_LONG.get(kind)
    if lists is not None and len(set(map(len, lists(message)))) != 1:
        raise ValueError(f"{kind.__name__} has lists of different lengths")
    return message


def numbered(messages: Iterable[tuple[int, Message]]) -> list[Any]:
    """Questions, or answers, as plain lists."""
    return [[number, *to_wire(message)] for number, message in messages]
