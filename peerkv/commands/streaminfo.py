"""XINFO: what can be told of a stream, its groups, and their consumers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from peerkv.commands.access import NO_SUCH_KEY, integer
from peerkv.commands.streamgroups import no_such_group, wrong_subcommand
from peerkv.commands.streams import BY_WALL, READ, reply_of_entry, spelled, stream_of
from peerkv.commands.table import COMMANDS, Effect, command, help_of, part, subcommand_of
from peerkv.resp import Map, Reply, ReplyError
from peerkv.store.cell import Cells
from peerkv.store.values.entries import FIRST_ID, LAST_ID
from peerkv.store.values.streams import UNKNOWN, Consumer, Group, Stream

_ENTRIES: Final = 10
"""Of everything, in XINFO STREAM FULL without COUNT."""


def _asked_by_wall(request: Sequence[bytes], skew: int) -> list[bytes]:
    """By a name that a client cannot say, if times are in the reply: the skew is behind the key."""
    full = len(request) > 3 and request[1].upper() == b"STREAM"
    return [_BY_WALL, *request[1:3], b"%d" % skew, *request[3:]] if full else list(request)


_BY_WALL: Final = BY_WALL + b"XINFO"


@part(_BY_WALL, READ, (2, 2, 1))
@command(
    "xinfo",
    READ,
    "Tells of a stream, its groups, and their consumers.",
    subcommands="consumers groups help stream",
    dated=_asked_by_wall,
)
def xinfo(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    if request[0] == _BY_WALL:
        return (), _info(cells, [*request[:3], *request[4:]], now, int(request[3]))
    return (), _info(cells, request, now, 0)


def _info(cells: Cells, request: Sequence[bytes], now: int, skew: int) -> Reply:
    row = COMMANDS["xinfo"]
    subcommand = subcommand_of(row, request)
    if isinstance(subcommand, ReplyError):
        return subcommand
    if subcommand.name == "xinfo|help":
        return help_of(row)
    found = stream_of(cells, request[2], now)
    if found is None:
        return NO_SUCH_KEY
    match subcommand.name:
        case "xinfo|stream":
            return _of_stream(found, request, skew)
        case "xinfo|groups":
            return [_of_group(found, name, group) for name, group in sorted(found.groups.items())]
        case _:
            group = found.groups.get(request[3])
            if group is None:
                return no_such_group(request[2], request[3])
            return [_of_consumer(name, consumer, now) for name, consumer in sorted(group.consumers.items())]


def _of_group(found: Stream, name: bytes, group: Group) -> Reply:
    return Map(
        [
            *(b"name", name, b"consumers", len(group.consumers), b"pending", len(group.order)),
            *(b"last-delivered-id", spelled(group.last)),
            *(b"entries-read", group.read if group.read != UNKNOWN else None, b"lag", found.lag(group)),
        ]
    )


def _of_consumer(name: bytes, consumer: Consumer, now: int) -> Reply:
    inactive = now - consumer.active if consumer.active != UNKNOWN else UNKNOWN
    idle = max(0, now - consumer.seen)
    return Map([b"name", name, b"pending", len(consumer.ids), b"idle", idle, b"inactive", inactive])


def _of_stream(found: Stream, request: Sequence[bytes], skew: int) -> Reply:
    options = [option.upper() for option in request[3:]]
    if options and (options[0] != b"FULL" or len(options) not in (1, 3) or options[1:2] not in ([], [b"COUNT"])):
        return wrong_subcommand("XINFO", request)
    count = integer(options[2]) if len(options) == 3 else _ENTRIES
    items: list[Reply] = [
        *(b"length", len(found), b"radix-tree-keys", found.nodes, b"radix-tree-nodes", found.nodes + 1),
        *(b"last-generated-id", spelled(found.last), b"max-deleted-entry-id", spelled(found.deleted)),
        *(b"entries-added", found.added, b"recorded-first-entry-id", spelled(found.first_entry)),
    ]
    if not options:
        first, last = (found.entry(id_) for id_ in (found.first_entry, found.last_entry))
        items += (b"groups", len(found.groups))
        items += (b"first-entry", reply_of_entry(first) if first is not None else None)
        items += (b"last-entry", reply_of_entry(last) if last is not None else None)
        return Map(items)
    most = (count if count >= 0 else _ENTRIES) or None
    items += (b"entries", [*map(reply_of_entry, found.between(FIRST_ID, LAST_ID, most))])
    items += (b"groups", [_group_in_full(found, name, found.groups[name], most, skew) for name in sorted(found.groups)])
    return Map(items)


def _group_in_full(found: Stream, name: bytes, group: Group, most: int | None, skew: int) -> Reply:
    pending: list[Reply] = [
        [spelled(id_), consumer, time + skew, count]
        for id_ in islice(group.order, most)
        for consumer, time, count in (group.pending[id_],)
    ]
    consumers = [
        _consumer_in_full(group, name, consumer, most, skew) for name, consumer in sorted(group.consumers.items())
    ]
    return Map(
        [
            *(b"name", name, b"last-delivered-id", spelled(group.last)),
            *(b"entries-read", group.read if group.read != UNKNOWN else None, b"lag", found.lag(group)),
            *(b"pel-count", len(group.order), b"pending", pending, b"consumers", consumers),
        ]
    )


def _consumer_in_full(group: Group, name: bytes, consumer: Consumer, most: int | None, skew: int) -> Reply:
    pending: list[Reply] = [
        [spelled(id_), time + skew, count]
        for id_ in islice(consumer.ids, most)
        for _, time, count in (group.pending[id_],)
    ]
    active = consumer.active + skew if consumer.active != UNKNOWN else UNKNOWN
    return Map(
        [
            *(b"name", name, b"seen-time", consumer.seen + skew, b"active-time", active),
            *(b"pel-count", len(consumer.ids), b"pending", pending),
        ]
    )
