"""Streams: entries in the order of their ids (see `entries`), and groups of consumers with what each has read and not
acknowledged.

All times are in cluster time, and like all ids they are said by whoever makes a patch: to do it draws nothing and looks
at no clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter
from sys import getsizeof
from typing import Any, ClassVar, Final, TypeAlias

from sortedcontainers import SortedList

from peerkv.store.values import Collection, Patch, Value, each_of, patch
from peerkv.store.values.entries import (
    FIRST_ID,
    ID_BYTES,
    NODE_BYTES,
    NODE_ENTRIES,
    NODE_SMALL,
    Entry,
    Id,
    Node,
    node_of,
)

SAMPLED: Final = 8
"""Nodes that are looked at for the size of a stream."""
COUNT_MAX: Final = (1 << 63) - 1
"""Entries that are counted, in the life of a stream."""
UNKNOWN: Final = -1
"""In place of how many entries a group has read, and of when a consumer was active."""
GONE: Final = -1
"""In place of a time of delivery: it is not pending any more."""

Pending: TypeAlias = tuple[bytes, int, int]
"""(consumer, when it was delivered last, how often)"""

_total: Callable[[Node], int] = attrgetter("total")


# -- groups


class Consumer:
    """One of a group: when it has last asked (`seen`), and last got something (`active`, or UNKNOWN), in cluster
    milliseconds; and the ids that are pending with it, in order."""

    __slots__ = ("active", "ids", "seen")

    def __init__(self, seen: int, active: int, ids: Iterable[Id] = ()) -> None:
        self.seen = seen
        self.active = active
        self.ids = SortedList(ids)


class Group:
    """Consumers who share what comes: the last id that was delivered, how many entries were read (UNKNOWN), and what
    is pending."""

    __slots__ = ("consumers", "last", "order", "pending", "read")

    def __init__(self, last: Id, read: int) -> None:
        self.last = last
        self.read = read
        self.consumers: dict[bytes, Consumer] = {}
        self.pending: dict[Id, Pending] = {}
        self.order = SortedList()
        """The ids that are pending."""

    def copy(self) -> Group:
        copied = Group(self.last, self.read)
        copied.consumers = {
            name: Consumer(consumer.seen, consumer.active, consumer.ids) for name, consumer in self.consumers.items()
        }
        copied.pending = self.pending.copy()
        copied.order = SortedList(self.order)
        return copied

    def deliver(self, name: bytes, id_: Id, time: int, count: int) -> None:
        """An entry is pending with a consumer, who is there, whoever had it before."""
        former = self.pending.get(id_)
        if former is None:
            self.order.add(id_)
        if former is None or former[0] != name:
            if former is not None:
                self.consumers[former[0]].ids.remove(id_)
            self.consumers[name].ids.add(id_)
        self.pending[id_] = name, time, count

    def deliver_new(self, name: bytes, rows: dict[Id, Pending]) -> None:
        """Entries that were pending with nobody are so with a consumer, who is there. A third of the time of one by
        one."""
        self.pending.update(rows)
        self.order.update(rows)
        self.consumers[name].ids.update(rows)

    def settle(self, id_: Id) -> None:
        """An entry, which is pending, is so no more."""
        name, _, _ = self.pending.pop(id_)
        self.order.remove(id_)
        self.consumers[name].ids.remove(id_)

    def remove_consumer(self, name: bytes) -> None:
        """With all that is pending with it."""
        gone = self.consumers.pop(name).ids
        if 8 * len(gone) < len(self.order):
            for id_ in gone:
                del self.pending[id_]
                self.order.remove(id_)
        elif gone:
            self.pending = {id_: pending for id_, pending in self.pending.items() if pending[0] != name}
            self.order = SortedList(self.pending)


_GROUP_BYTES: Final = 1000
_CONSUMER_BYTES: Final = 700
_PENDING_BYTES: Final = 250


# -- the stream


class Stream(Collection):
    """What a key of the type stream holds. It may be empty."""

    __slots__ = ("_lasts", "_length", "_nodes", "added", "deleted", "groups", "last")
    TYPE: ClassVar[str] = "stream"
    STAYS: ClassVar[bool] = True

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._lasts: list[Id] = []
        """The last id of each node."""
        self._length = 0
        self.last = FIRST_ID
        """The highest id that was given, whether or not its entry is still there."""
        self.added = 0
        """Entries, since the stream was made, as far as anybody has counted."""
        self.deleted = FIRST_ID
        """The highest id of those that were deleted (not trimmed)."""
        self.groups: dict[bytes, Group] = {}

    def __len__(self) -> int:
        return self._length

    # -- what it holds

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self._nodes)

    @property
    def first_entry(self) -> Id:
        """The id of the first entry; FIRST_ID if there is none."""
        return self._nodes[0].ids(0, 1)[0] if self._nodes else FIRST_ID

    @property
    def last_entry(self) -> Id:
        """The id of the last entry; FIRST_ID if there is none."""
        return self._lasts[-1] if self._lasts else FIRST_ID

    def between(self, first: Id, last: Id, most: int | None = None) -> list[Entry]:
        """The entries from one id to another, both included, the first `most` of them."""
        found: list[Entry] = []
        number = bisect_left(self._lasts, first)
        for node, end in zip(islice(self._nodes, number, None), islice(self._lasts, number, None), strict=True):
            place = node.place(first) if not found else 0
            stop = node.total if end <= last else node.upto(last)
            if most is not None:
                stop = min(stop, place + most - len(found))
            if place >= stop:
                break
            found += node.entries(place, stop)
            if stop < node.total:
                break
        return found

    def between_backwards(self, first: Id, last: Id, most: int | None = None) -> list[Entry]:
        """Likewise, beginning with the last, `most` of which are meant."""
        found: list[Entry] = []
        for number in range(min(bisect_left(self._lasts, last), len(self._nodes) - 1), -1, -1):
            node = self._nodes[number]
            stop = node.total if self._lasts[number] <= last else node.upto(last)
            place = node.place(first)
            if most is not None:
                place = max(place, stop - most + len(found))
            if place < stop:
                found += node.entries(place, stop)[::-1]
            if place or len(found) == most:
                break
        return found

    def entry(self, id_: Id) -> Entry | None:
        """The one that has this id; None: none has."""
        found = self.between(id_, id_)
        return found[0] if found else None

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, bytes) and self._find(id_) is not None

    def _find(self, id_: Id) -> tuple[int, int] | None:
        """(number of the node, place in it) of an entry."""
        number = bisect_left(self._lasts, id_)
        if number == len(self._nodes):
            return None
        node = self._nodes[number]
        place = node.place(id_)
        return (number, place) if node.ids(place, place + 1)[0] == id_ else None

    def below(self, id_: Id) -> int:
        """How many entries have lower ids."""
        number = bisect_left(self._lasts, id_)
        whole = sum(map(_total, self._nodes[:number]))
        return whole + self._nodes[number].place(id_) if number < len(self._nodes) else whole

    def first_nodes(self, longest: int | None, lowest: Id, most: int, coming: Entry | None) -> int:
        """How many entries are in the first nodes that can be dropped as a whole, so that more than `longest` remain,
        or as many (None: so that only entries below `lowest` are gone), and no more than `most` (0: any number) are
        dropped. `coming`: as if that entry had been added."""
        counts, lasts = [node.total for node in self._nodes], self._lasts
        if coming is not None:
            if self._nodes and self._nodes[-1].takes(coming[1][1::2]):
                counts[-1] += 1
                lasts = [*lasts[:-1], coming[0]]
            else:
                counts.append(1)
                lasts = [*lasts, coming[0]]
        left, dropped = sum(counts), 0
        for count, last in zip(counts, lasts, strict=True):
            enough = left - count < longest if longest is not None else last >= lowest
            if enough or (longest is not None and left <= longest) or (most and dropped + count > most):
                break
            left -= count
            dropped += count
        return dropped

    def parts(self) -> Iterator[Patch]:
        nodes = self._nodes.copy()
        entries = ((id_, _packed_entry(fields)) for node in nodes for id_, fields in node.entries(0, node.total))
        state: Patch = (STATE, self.last, self.added, self.deleted)
        groups = [(name, group.copy()) for name, group in self.groups.items()]
        return chain(each_of(LOAD, entries), (state,), *(_parts_of_group(name, group) for name, group in groups))

    def copy(self) -> Stream:
        copied = Stream()
        copied._nodes, copied._lasts, copied._length = self._nodes.copy(), self._lasts.copy(), self._length
        copied.last, copied.added, copied.deleted = self.last, self.added, self.deleted
        copied.groups = {name: group.copy() for name, group in self.groups.items()}
        return copied

    @property
    def size(self) -> int:
        nodes = self._nodes
        sample = nodes[:: max(1, len(nodes) // SAMPLED)]
        total = sum([node.memory for node in sample]) * len(nodes) // max(1, len(sample))
        shapes = sum(map(getsizeof, {name for node in sample for names in node.shapes for name in names}))
        for group in self.groups.values():
            total += _GROUP_BYTES + _CONSUMER_BYTES * len(group.consumers) + _PENDING_BYTES * len(group.pending)
        return 300 + total + shapes + (8 + 56) * len(nodes)

    # -- changes

    def add(self, id_: Id, fields: Sequence[bytes]) -> None:
        """One more entry. Raises ValueError if its id is not above all others, or there is no field."""
        if len(id_) != ID_BYTES or id_ <= self.last or not fields:
            raise ValueError("no entry that could be added")
        names, values = tuple(fields[::2]), fields[1::2]
        nodes = self._nodes
        if nodes and nodes[-1].takes(values):
            nodes[-1] = nodes[-1].with_entry(id_, names, values)
            self._lasts[-1] = id_
        else:
            known = nodes[-1].shapes if nodes else ()
            nodes.append(node_of(id_, next((shape for shape in known if shape == names), names), values))
            self._lasts.append(id_)
        self._length += 1
        self.last = id_
        self.added = min(self.added + 1, COUNT_MAX)

    def cut(self, count: int) -> None:
        """Without the first so many entries. Raises ValueError if there are not as many."""
        if not 0 <= count <= self._length:
            raise ValueError(f"cannot cut {count} of {self._length} entries")
        self._length -= count
        whole = 0
        nodes = self._nodes
        while count and nodes[whole].total <= count:
            count -= nodes[whole].total
            whole += 1
        del nodes[:whole], self._lasts[:whole]
        if count:
            nodes[0] = nodes[0].without(0, count)

    def delete(self, ids: Sequence[Id]) -> None:
        """Without these entries. Raises ValueError, before anything is changed, if one is not there."""
        if len(set(ids)) < len(ids) or not all(id_ in self for id_ in ids):
            raise ValueError("what is to be deleted is not here")
        for id_ in ids:
            found = self._find(id_)
            assert found is not None, "looked at above"
            self._delete_at(*found)
        self.deleted = max(self.deleted, *ids)

    def _delete_at(self, number: int, place: int) -> None:
        nodes, lasts = self._nodes, self._lasts
        node = nodes[number]
        self._length -= 1
        if node.total == 1:
            del nodes[number], lasts[number]
            return
        node = nodes[number] = node.without(place, place + 1)
        if place == node.total:
            lasts[number] = node.last
        if node.total <= NODE_SMALL:
            self._join(number)
            self._join(number - 1)

    def _join(self, number: int) -> None:
        """A node and the one behind it become one, if that leaves room."""
        if number < 0 or number + 1 >= len(self._nodes):
            return
        one, other = self._nodes[number : number + 2]
        if one.total + other.total > NODE_ENTRIES // 2 or len(one.text) + len(other.text) > NODE_BYTES:
            return
        for id_, fields in other.entries(0, other.total):
            one = one.with_entry(id_, tuple(fields[::2]), fields[1::2])
        self._nodes[number : number + 2] = [one]
        del self._lasts[number]

    # -- how far a group is

    def has_deleted_from(self, id_: Id) -> bool:
        """Whether an entry may have been deleted from this id on, so that nobody can count what is left."""
        return bool(self._length) and self.deleted != FIRST_ID and id_ <= self.deleted

    def distance(self, id_: Id) -> int:
        """How many entries there have been up to an id, if that can be told (UNKNOWN)."""
        if not self.added:
            return 0
        if not self._length and id_ <= self.last:
            return self.added
        if FIRST_ID != id_ < self.deleted:
            return UNKNOWN
        if id_ >= self.last:
            return self.added if id_ == self.last else UNKNOWN
        first = self.first_entry
        if self.deleted < first and id_ <= first:
            return self.added - self._length + (id_ == first)
        return UNKNOWN

    def read_after(self, group_last: Id, group_read: int, ids: Sequence[Id]) -> int:
        """How many entries a group has read that now reads those of these ids, which are all behind its last one."""
        for at, id_ in enumerate(ids):
            if group_read != UNKNOWN and group_last >= self.first_entry and not self.has_deleted_from(group_last):
                return min(group_read + len(ids) - at, COUNT_MAX)  # and so it is of all that follow
            group_last = id_
            group_read = self.distance(id_) if self.added else group_read
        return group_read

    def lag(self, group: Group) -> int | None:
        """How many entries a group has not read; None: nobody can tell."""
        if not self.added or not self._length:
            return 0
        first = self.first_entry
        if group.last < first and self.deleted < first:
            return self._length
        if group.read != UNKNOWN and not self.has_deleted_from(group.last):
            return self.added - group.read
        read = self.distance(group.last)
        return self.added - read if read != UNKNOWN else None


# -- patches


ADD: Final = "xadd"
CUT: Final = "xcut"
DELETE: Final = "xdel"
STATE: Final = "xstate"
LOAD: Final = "xload"
GROUP: Final = "xgroup"
DROP_GROUP: Final = "xungroup"
PENDING: Final = "xpend"
SETTLE: Final = "xack"
DROP_CONSUMER: Final = "xleave"

_LENGTH_BYTES: Final = 4


def _packed_entry(fields: Sequence[bytes]) -> bytes:
    """As an entry travels among others."""
    return b"".join([piece for field in fields for piece in (len(field).to_bytes(_LENGTH_BYTES), field)])


def _unpacked_entry(packed: bytes) -> list[bytes]:
    fields: list[bytes] = []
    at = 0
    while at < len(packed):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(packed[at:begin])
        fields.append(packed[begin:at])
    if at != len(packed) or len(fields) % 2:
        raise ValueError("not the fields and values of an entry")
    return fields


def _parts_of_group(name: bytes, group: Group) -> Iterator[Patch]:
    yield (GROUP, name, group.last, group.read)
    for consumer, of in group.consumers.items():
        head: Patch = (name, group.last, group.read, consumer, of.seen, of.active)
        if not of.ids:
            yield (PENDING, *head)
        for _, *arguments in each_of("", ((id_, *group.pending[id_][1:]) for id_ in of.ids)):
            yield (PENDING, *head, *arguments)


def _stream(value: Any) -> Stream:
    if not isinstance(value, Stream):
        raise ValueError("not a stream")
    return value


def _check_id(id_: Id) -> Id:
    if len(id_) != ID_BYTES:
        raise ValueError("not an id")
    return id_


def _group(value: Any, name: bytes) -> Group:
    group = _stream(value).groups.get(name)
    if group is None:
        raise ValueError("there is no such group")
    return group


@patch(ADD, int, bytes, each=(bytes, bytes))
def _add(value: Value | None, arguments: Sequence[Any]) -> Stream:
    """An entry (its id, fields and values); then so many entries less at the beginning."""
    cut, id_, *fields = arguments
    found = Stream() if value is None else _stream(value)
    if not 0 <= cut <= len(found) + 1:
        raise ValueError("there are not so many entries")
    found.add(id_, fields)
    if cut:
        found.cut(cut)
    return found


@patch(CUT, int)
def _cut(value: Value | None, arguments: Sequence[Any]) -> Stream:
    found = _stream(value)
    found.cut(arguments[0])
    return found


@patch(DELETE, each=(bytes,))
def _delete(value: Value | None, ids: Sequence[Any]) -> Stream:
    found = _stream(value)
    if not ids:
        raise ValueError("nothing is to be deleted")
    found.delete(ids)
    return found


@patch(STATE, bytes, int, bytes)
def _state(value: Value | None, arguments: Sequence[Any]) -> Stream:
    """The last id, how many entries were added, and the last one that was deleted; of a new stream if there is none."""
    last, added, deleted = arguments
    found = Stream() if value is None else _stream(value)
    if _check_id(last) < found.last_entry or added < 0:
        raise ValueError("the last id is not the last, or less than nothing was added")
    found.last, found.added, found.deleted = last, added, _check_id(deleted)
    return found


@patch(LOAD, each=(bytes, bytes))
def _load(value: Value | None, arguments: Sequence[Any]) -> Stream:
    """Entries (ids, and what `_packed_entry` makes of each)."""
    found = Stream() if value is None else _stream(value)
    for id_, packed in zip(arguments[::2], arguments[1::2], strict=True):
        found.add(id_, _unpacked_entry(packed))
    return found


@patch(GROUP, bytes, bytes, int)
def _set_group(value: Value | None, arguments: Sequence[Any]) -> Stream:
    """A group, new or not, of a stream, new or not: its last id, and how many entries it has read."""
    name, last, read = arguments
    found = Stream() if value is None else _stream(value)
    if read < UNKNOWN:
        raise ValueError("less than nothing was read")
    group = found.groups.get(name)
    if group is None:
        found.groups[name] = Group(_check_id(last), read)
    else:
        group.last, group.read = _check_id(last), read
    return found


@patch(DROP_GROUP, bytes)
def _drop_group(value: Value | None, arguments: Sequence[Any]) -> Stream:
    _group(value, arguments[0])
    found = _stream(value)
    del found.groups[arguments[0]]
    return found


@patch(PENDING, bytes, bytes, int, bytes, int, int, each=(bytes, int, int))
def _pend(value: Value | None, arguments: Sequence[Any]) -> Stream:
    """Of a group its last id and how many entries it has read; a consumer, new or not, and when it was seen and active;
    ids, each with when it was delivered to that consumer and how often, or GONE, as it is pending no more."""
    name, last, read, consumer, seen, active, *rows = arguments
    group = _group(value, name)
    ids, times, counts = rows[::3], rows[1::3], rows[2::3]
    if read < UNKNOWN or seen < 0 or active < UNKNOWN or not set(map(len, ids)) <= {ID_BYTES}:
        raise ValueError("not of a group")
    if times and (min(times) < GONE or min(counts) < 0):
        raise ValueError("delivered before time began, or less than never")
    group.last, group.read = _check_id(last), read
    known = group.consumers.get(consumer)
    if known is None:
        group.consumers[consumer] = Consumer(seen, active)
    else:
        known.seen, known.active = seen, active
    if group.pending.keys().isdisjoint(ids) and GONE not in times and len(set(ids)) == len(ids):
        pending = zip([consumer] * len(ids), times, counts, strict=True)
        group.deliver_new(consumer, dict(zip(ids, pending, strict=True)))
        return _stream(value)
    for id_, time, count in zip(ids, times, counts, strict=True):
        if time == GONE:
            group.settle(id_)
        else:
            group.deliver(consumer, id_, time, count)
    return _stream(value)


@patch(SETTLE, bytes, each=(bytes,))
def _settle(value: Value | None, arguments: Sequence[Any]) -> Stream:
    """These, which are pending in a group, are acknowledged."""
    name, *ids = arguments
    group = _group(value, name)
    for id_ in ids:
        group.settle(id_)
    return _stream(value)


@patch(DROP_CONSUMER, bytes, bytes)
def _drop_consumer(value: Value | None, arguments: Sequence[Any]) -> Stream:
    _group(value, arguments[0]).remove_consumer(arguments[1])
    return _stream(value)
