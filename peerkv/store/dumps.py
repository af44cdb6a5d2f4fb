"""Values as payloads of Redis's DUMP, and payloads as values.

A collection that is restored travels as the payload that it came in, as one patch: every owner reads it to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import Any, Final

from peerkv.store.rdb import Content, content_of, payload_of
from peerkv.store.rdb.streams import ConsumerContent, GroupContent, StreamContent
from peerkv.store.values import Body, Collection, Patch, Value, patch, patched
from peerkv.store.values.entries import (
    FIRST_ID,
    LAST_ID,
)
from peerkv.store.values.streams import (
    Consumer,
    Group,
    Stream,
)

_ITEMS: Final[dict[str, Patch]] = {"list": ("rpush",), "set": ("sadd",), "hash": ("hset", 0), "zset": ("zset",)}
"""How the patches begin of which a collection's parts are, by its type, ..."""
_DEADLINES: Final[Patch] = ("hexpire", 0)
"""... and what is besides them in those of hashes."""
_SCORE: Final = Struct(">d")


def dumped(value: Value, now: int, skew: int) -> bytes | None:
    """The payload of a value; None: all that it holds has expired. `skew`: how many milliseconds the wall clock, in
    whose time payloads are, is before the cluster's."""
    if isinstance(value, Stream):
        return payload_of(Content("stream", [_content_of_stream(value).moved(skew)], []))
    if isinstance(value, Collection):
        content = _content_of(value, now, skew)
        return payload_of(content) if content.items else None
    return payload_of(Content("string", [value], []))


def _content_of(value: Collection, now: int, skew: int) -> Content:
    items: list[Any] = []
    deadlines: dict[bytes, int] = {}
    begin = len(_ITEMS[value.TYPE])
    for part in value.parts():
        arguments = part[begin:]
        if part[:begin] == _DEADLINES:
            deadlines.update(zip(arguments[::2], arguments[1::2], strict=True))
        else:
            items += arguments
    if value.TYPE == "zset":
        scores = [score for (score,) in _SCORE.iter_unpack(b"".join(items[::2]))]
        items = list(chain.from_iterable(zip(items[1::2], scores, strict=True)))
    expired = {field for field, deadline in deadlines.items() if deadline <= now}
    if expired:
        live = [pair for pair in zip(items[::2], items[1::2], strict=True) if pair[0] not in expired]
        items = list(chain.from_iterable(live))
    dated = [(field, deadline + skew) for field, deadline in deadlines.items() if field not in expired]
    return Content(value.TYPE, items, list(chain.from_iterable(dated)))


def _content_of_stream(stream: Stream) -> StreamContent:
    groups = [
        GroupContent(
            name,
            group.last,
            group.read,
            {id_: (time, count) for id_, (_, time, count) in group.pending.items()},
            [
                ConsumerContent(name, consumer.seen, consumer.active, list(consumer.ids))
                for name, consumer in sorted(group.consumers.items())
            ],
        )
        for name, group in sorted(stream.groups.items())
    ]
    return StreamContent(stream.between(FIRST_ID, LAST_ID), stream.last, stream.added, stream.deleted, groups)


def _stream_of(content: StreamContent) -> Stream:
    found = Stream()
    for id_, fields in content.entries:
        found.add(id_, fields)
    found.last, found.added, found.deleted = content.last, content.added, content.deleted
    for of in content.groups:
        group = found.groups[of.name] = Group(of.last, of.read if of.read is not None else found.distance(of.last))
        for consumer in of.consumers:
            group.consumers[consumer.name] = Consumer(consumer.seen, consumer.active)
            for id_ in consumer.ids:
                group.deliver(consumer.name, id_, *of.pending[id_])
    return found


def restoring(payload: bytes) -> Body:
    """The body for what an intact payload holds. Raises ValueError if it holds nothing."""
    content = content_of(payload)
    if content.kind == "string":
        return content.items[0]  # type: ignore[no-any-return]
    return ("restore", payload)


def in_time_of_cluster(payload: bytes, skew: int) -> bytes:
    """A payload with the deadlines that are in it on the cluster's clock, if there are any."""
    try:
        content = content_of(payload)
    except ValueError:
        return payload
    if content.kind == "stream":
        return payload_of(Content("stream", [content.items[0].moved(-skew)], []))
    if not content.deadlines:
        return payload
    names, deadlines = content.deadlines[::2], content.deadlines[1::2]
    moved = zip(names, [max(1, deadline - skew) for deadline in deadlines], strict=True)
    return payload_of(Content(content.kind, content.items, list(chain.from_iterable(moved))))


@patch("restore", bytes)
def _restore(_value: Value | None, arguments: Sequence[Any]) -> Value | None:
    content = content_of(arguments[0])
    items = content.items
    if content.kind == "stream":
        return _stream_of(items[0])
    if content.kind == "zset":
        items = list(chain.from_iterable(zip(map(_SCORE.pack, items[1::2]), items[::2], strict=True)))
    made = patched(None, (*_ITEMS[content.kind], *items))
    return patched(made, (*_DEADLINES, *content.deadlines)) if content.deadlines else made
