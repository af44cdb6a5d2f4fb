"""Commands on streams of entries, and what a request that may wait for entries would wait for.

Ids that a client leaves to the server are wall time as the client's node has it, which is cluster time and a skew that
is handed in with the request, once; they are never below the last id of the stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from peerkv.commands.access import NO_SUCH_KEY, SYNTAX, collection_of, deadline_of, integer
from peerkv.commands.blocking import in_seconds
from peerkv.commands.table import COMMANDS, ONE_KEY, Effect, Kind, Waits, arity_error, command, find, part
from peerkv.databases import bare_key
from peerkv.resp import NULL_ARRAY, OK, CommandError, Named, Reply, ReplyError, parse_integer
from peerkv.store.cell import Cells, Change
from peerkv.store.values import Patch
from peerkv.store.values.entries import (
    FIRST_ID,
    LAST_ID,
    NODE_ENTRIES,
    Entry,
    Id,
    before,
    behind,
    id_of,
    parts_of_id,
)
from peerkv.store.values.streams import (
    ADD,
    CUT,
    DELETE,
    STATE,
    Stream,
)

READ, WRITE = Kind.READ, Kind.WRITE

BAD_ID: Final = ReplyError("ERR Invalid stream ID specified as stream command argument")
_NUMBER_MAX: Final = (1 << 64) - 1
_NUMBER: Final = re.compile(rb"[ \t\n\v\f\r]*\+?[0-9]+")
_ID_BYTES_MAX: Final = 127
"""Of an id as it is spelled."""
BY_WALL: Final = b"PEERKV."
"""How names begin that a client cannot say: behind the key of such a request is the skew, in milliseconds."""


def stream_of(cells: Cells, key: bytes, now: int) -> Stream | None:
    """The stream that a key that lives holds. Raises CommandError if it is of another type."""
    return collection_of(Stream, cells, key, now)


def change_of(cells: Cells, key: bytes, now: int, body: Patch) -> Change:
    """A patch of a stream, which keeps its deadline."""
    return key, body, deadline_of(cells, key, now)


# -- ids


def _number(digits: bytes) -> int:
    if not _NUMBER.fullmatch(digits) or (number := int(digits)) > _NUMBER_MAX:
        raise CommandError(BAD_ID)
    return number


def id_argument(argument: bytes, missing: int = 0, *, border: bool = False) -> Id:
    """An id as it is spelled; `missing` is its sequence number if it has none. `border`: it may be `-` or `+`. Raises
    CommandError."""
    if border and argument in (b"-", b"+"):
        return FIRST_ID if argument == b"-" else LAST_ID
    if len(argument) > _ID_BYTES_MAX:
        raise CommandError(BAD_ID)
    milliseconds, dash, sequence = argument.partition(b"-")
    return id_of(_number(milliseconds), _number(sequence) if dash else missing)


def is_id(argument: bytes) -> bool:
    """Whether it is one, spelled out."""
    try:
        id_argument(argument)
    except CommandError:
        return False
    return True


def first_of_interval(argument: bytes) -> Id:
    """Where an interval begins, itself included. Raises CommandError."""
    if len(argument) < 2 or argument[:1] != b"(":
        return id_argument(argument, border=True)
    found = behind(id_argument(argument[1:]))
    if found is None:
        raise CommandError(ReplyError("ERR invalid start ID for the interval"))
    return found


def last_of_interval(argument: bytes) -> Id:
    """Where an interval ends, itself included. Raises CommandError."""
    if len(argument) < 2 or argument[:1] != b"(":
        return id_argument(argument, _NUMBER_MAX, border=True)
    found = before(id_argument(argument[1:], _NUMBER_MAX))
    if found is None:
        raise CommandError(ReplyError("ERR invalid end ID for the interval"))
    return found


def spelled(id_: Id) -> bytes:
    """An id as clients see it."""
    return b"%d-%d" % parts_of_id(id_)


def reply_of_entry(entry: Entry) -> Reply:
    """As XRANGE has it."""
    return [spelled(entry[0]), [*entry[1]]]


# -- adding and trimming


@dataclass(slots=True)
class _Adding:
    """What XADD and XTRIM are asked for."""

    longest: int | None = None
    lowest: Id | None = None
    whole_nodes: bool = False
    most: int = 0
    """Entries to be trimmed; 0: as many as there are."""
    makes: bool = True
    at: int = 0
    """Where the id is, of XADD."""

    def trimmed(self, found: Stream, coming: Entry | None) -> int:
        """How many of a stream's entries go, after that one has been added."""
        if self.longest is None and self.lowest is None:
            return 0
        if self.whole_nodes:
            return found.first_nodes(self.longest, self.lowest or FIRST_ID, self.most, coming)
        added = coming is not None
        if self.longest is not None:
            return max(0, len(found) + added - self.longest)
        assert self.lowest is not None, "one of both"
        return found.below(self.lowest) + (coming is not None and coming[0] < self.lowest)


_BOTH: Final = ReplyError("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")


def _adding(request: Sequence[bytes], *, adds: bool) -> _Adding:
    found = _Adding()
    limit: int | None = None
    at, end = 2, len(request) - 1
    while at <= end:
        option = request[at].upper()
        if adds and option == b"*":
            break
        if option in (b"MAXLEN", b"MINID") and at < end:
            if found.longest is not None or found.lowest is not None:
                raise CommandError(_BOTH)
            sign = request[at + 1] if at + 1 < end else b""
            found.whole_nodes = sign == b"~"
            at += 1 + (sign in (b"~", b"="))
            if option == b"MINID":
                found.lowest = id_argument(request[at])
            else:
                found.longest = integer(request[at])
                if found.longest < 0:
                    raise CommandError(ReplyError("ERR The MAXLEN argument must be >= 0."))
        elif option == b"LIMIT" and at < end:
            at += 1
            limit = integer(request[at])
            if limit < 0:
                raise CommandError(ReplyError("ERR The LIMIT argument must be >= 0."))
        elif adds and option == b"NOMKSTREAM":
            found.makes = False
        elif adds:
            id_argument(request[at].removesuffix(b"-*") if request[at].endswith(b"-*") else request[at])
            break
        else:
            raise CommandError(SYNTAX)
        at += 1
    trims = found.longest is not None or found.lowest is not None
    if limit and not trims:
        raise CommandError(ReplyError("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"))
    if not adds and not trims:
        raise CommandError(ReplyError("ERR syntax error, XTRIM must be called with a trimming strategy"))
    if limit is not None and not found.whole_nodes:
        raise CommandError(ReplyError("ERR syntax error, LIMIT cannot be used without the special ~ option"))
    found.most = 100 * NODE_ENTRIES if limit is None else limit
    found.at = at
    return found


_LOW_ID: Final = ReplyError("ERR The ID specified in XADD is equal or smaller than the target stream top item")


def _next_id(argument: bytes, last: Id, wall: int) -> Id:
    """The id of a new entry. Raises CommandError."""
    if argument == b"*":
        fresh = id_of(max(0, wall), 0)
        following = behind(last)
        assert following is not None, "the last possible one has been refused"
        return max(fresh, following)
    if not argument.endswith(b"-*"):
        found = id_argument(argument)
    else:
        found = id_argument(argument.removesuffix(b"-*"))
        if found[:8] == last[:8]:
            following = behind(last)
            if following is None or following[:8] != last[:8]:
                raise CommandError(_LOW_ID)
            return following
    if found <= last:
        raise CommandError(_LOW_ID)
    return found


def _by_wall(request: Sequence[bytes], skew: int) -> list[bytes]:
    """By a name that a client cannot say, with how far wall time is before the cluster's behind the key."""
    return [BY_WALL + request[0].upper(), request[1], b"%d" % skew, *request[2:]]


def without_skew(request: Sequence[bytes]) -> tuple[Sequence[bytes], int]:
    """The request that a client has sent, and the skew in milliseconds."""
    if request[0].startswith(BY_WALL):
        return [request[0].removeprefix(BY_WALL), request[1], *request[3:]], int(request[2])
    return request, 0


@part(BY_WALL + b"XADD", WRITE, ONE_KEY)
@command("xadd", WRITE, "Adds an entry to a stream, which is made if there is none.", dated=_by_wall)
def xadd(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    request, skew = without_skew(request)
    adding = _adding(request, adds=True)
    key, fields = request[1], request[adding.at + 1 :]
    if not fields or len(fields) % 2:
        return (), arity_error(COMMANDS["xadd"])
    asked = request[adding.at]
    if asked != b"*" and not asked.endswith(b"-*") and id_argument(asked) == FIRST_ID:
        return (), ReplyError("ERR The ID specified in XADD must be greater than 0-0")
    found = stream_of(cells, key, now)
    if found is None:
        if not adding.makes:
            return (), None
        found = Stream()
    if found.last == LAST_ID:
        return (), ReplyError("ERR The stream has exhausted the last possible ID, unable to add more items")
    id_ = _next_id(asked, found.last, now + skew)
    cut = adding.trimmed(found, (id_, list(fields)))
    return (change_of(cells, key, now, (ADD, cut, id_, *fields)),), spelled(id_)


@command("xtrim", WRITE, "Removes the first entries of a stream.")
def xtrim(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    adding = _adding(request, adds=False)
    found = stream_of(cells, request[1], now)
    cut = adding.trimmed(found, None) if found is not None else 0
    return ((change_of(cells, request[1], now, (CUT, cut)),) if cut else ()), cut


@command("xdel", WRITE, "Removes entries from a stream by their ids.")
def xdel(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    found = stream_of(cells, key, now)
    if found is None:
        return (), 0
    gone = [id_ for id_ in dict.fromkeys(map(id_argument, request[2:])) if id_ in found]
    return ((change_of(cells, key, now, (DELETE, *gone)),) if gone else ()), len(gone)


@command("xsetid", WRITE, "Sets the last id of a stream.")
def xsetid(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key, last = request[1], id_argument(request[2])
    added, deleted = -1, FIRST_ID
    options = iter(request[3:])
    for option in options:
        argument = next(options, None)
        if argument is None:
            return (), SYNTAX
        match option.upper():
            case b"ENTRIESADDED":
                added = integer(argument)
                if added < 0:
                    return (), ReplyError("ERR entries_added must be positive")
            case b"MAXDELETEDID":
                deleted = id_argument(argument)
                if last < deleted:
                    return (), _smaller("the provided max_deleted_entry_id")
            case _:
                return (), SYNTAX
    found = stream_of(cells, key, now)
    if found is None:
        return (), NO_SUCH_KEY
    if last < found.deleted:
        return (), _smaller("current max_deleted_entry_id")
    if last < found.last_entry:
        return (), _smaller("the target stream top item")
    if 0 <= added < len(found):
        return (), ReplyError("ERR The entries_added specified in XSETID is smaller than the target stream length")
    deleted = found.deleted if deleted == FIRST_ID else deleted
    state = (STATE, last, added if added >= 0 else found.added, deleted)
    return (change_of(cells, key, now, state),), OK


def _smaller(than: str) -> ReplyError:
    return ReplyError(f"ERR The ID specified in XSETID is smaller than {than}")


# -- looking at a stream


@command("xlen", READ, "Returns how many entries a stream has.")
def xlen(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    found = stream_of(cells, request[1], now)
    return (), len(found) if found is not None else 0


def _range(cells: Cells, request: Sequence[bytes], now: int, first: bytes, last: bytes, *, backwards: bool) -> Effect:
    begin = first_of_interval(first)
    end = last_of_interval(last)
    count: int | None = None
    options = iter(request[4:])
    for option in options:
        argument = next(options, None)
        if option.upper() != b"COUNT" or argument is None:
            return (), SYNTAX
        count = max(0, integer(argument))
    found = stream_of(cells, request[1], now)
    if found is None:
        return (), []
    if count == 0:
        return (), NULL_ARRAY
    if begin > end:
        return (), []
    entries = found.between_backwards(begin, end, count) if backwards else found.between(begin, end, count)
    return (), [*map(reply_of_entry, entries)]


@command("xrange", READ, "Returns the entries of a stream from one id to another.")
def xrange(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _range(cells, request, now, request[2], request[3], backwards=False)


@command("xrevrange", READ, "Returns the entries of a stream from one id to another, the last first.")
def xrevrange(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    return _range(cells, request, now, request[3], request[2], backwards=True)


# -- reading what is new


@dataclass(frozen=True, slots=True)
class Reading:
    """What XREAD or XREADGROUP is asked for."""

    keys: Sequence[bytes]
    ids: Sequence[bytes]
    """As they are spelled, `$` and `>` among them, one for each key."""
    count: int | None = None
    timeout_ms: int | None = None
    """Of BLOCK; 0: for ever; None: it does not wait."""
    group: bytes = b""
    consumer: bytes = b""
    acknowledged: bool = False
    """At once (NOACK)."""
    block_at: int = 0
    """Where BLOCK is among the arguments."""


def reading_of(request: Sequence[bytes], *, scripted: bool = False) -> Reading:
    """Read a request of XREAD or XREADGROUP; one of a script has no BLOCK. Raises CommandError."""
    grouped = len(request[0]) == len(b"XREADGROUP")
    found = Reading((), ())
    has_group = False
    at, end = 1, len(request) - 1
    while at <= end:
        option = request[at].upper()
        if option == b"BLOCK" and at < end:
            if scripted:
                name = request[0].decode("utf-8", "surrogateescape")
                raise CommandError(ReplyError(f"ERR {name} command is not allowed with BLOCK option from scripts"))
            found = replace(found, timeout_ms=_timeout(request[at + 1]), block_at=at)
            at += 1
        elif option == b"COUNT" and at < end:
            found = replace(found, count=max(0, integer(request[at + 1])) or None)
            at += 1
        elif option == b"STREAMS" and at < end:
            rest = request[at + 1 :]
            if len(rest) % 2:
                raise CommandError(_unbalanced(grouped=grouped))
            found = replace(found, keys=rest[: len(rest) // 2], ids=rest[len(rest) // 2 :])
            break
        elif option == b"GROUP" and at + 1 < end:
            if not grouped:
                raise CommandError(_only_of_groups("GROUP"))
            found = replace(found, group=request[at + 1], consumer=request[at + 2])
            has_group = True
            at += 2
        elif option == b"NOACK":
            if not grouped:
                raise CommandError(_only_of_groups("NOACK"))
            found = replace(found, acknowledged=True)
        else:
            raise CommandError(SYNTAX)
        at += 1
    if not found.keys:
        raise CommandError(SYNTAX)
    if grouped and not has_group:
        raise CommandError(ReplyError("ERR Missing GROUP option for XREADGROUP"))
    return found


def _timeout(argument: bytes) -> int:
    timeout = parse_integer(argument)
    if timeout is None:
        raise CommandError(ReplyError("ERR timeout is not an integer or out of range"))
    in_seconds(timeout)
    return timeout


def _unbalanced(*, grouped: bool) -> ReplyError:
    name, sign = ("xreadgroup", ">") if grouped else ("xread", "$")
    return ReplyError(
        f"ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{sign}' must be specified."
    )


def _only_of_groups(option: str) -> ReplyError:
    return ReplyError(f"ERR The {option} option is only supported by XREADGROUP. You called XREAD instead.")


def _may_wait(request: Sequence[bytes]) -> Waits | None:
    return waits(request)


@command(
    "xread",
    READ,
    "Returns the entries of streams that are behind an id of each.",
    blocks=_may_wait,
)
def xread(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    reading = reading_of(request)
    streams: list[tuple[bytes, Stream, Id]] = []
    for key, said in zip(reading.keys, reading.ids, strict=True):
        found = stream_of(cells, key, now)
        if said == b"$":
            continue
        if said == b">":
            return (), ReplyError(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
            )
        id_ = id_argument(said)
        if found is not None:
            streams.append((key, found, id_))
    return (), in_streams(_news(streams, reading.count))


def _news(streams: Sequence[tuple[bytes, Stream, Id]], count: int | None) -> Iterator[tuple[bytes, list[Reply]]]:
    for key, found, id_ in streams:
        first = behind(id_)
        if first is not None and found.last_entry > id_:
            yield key, [*map(reply_of_entry, found.between(first, LAST_ID, count))]


def in_streams(found: Iterator[tuple[bytes, list[Reply]]] | Sequence[tuple[bytes, list[Reply]]]) -> Reply:
    """Entries by the key of their stream, as XREAD answers; none: null."""
    items: list[Reply] = []
    for key, entries in found:
        items += (bare_key(key), entries)
    return Named(items) if items else NULL_ARRAY


# -- waiting


LAST_IDS: Final = b"PEERKV.XLAST"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an XREAD or XREADGROUP with BLOCK waits for, if there is nothing yet."""

    keys: Sequence[bytes]
    """In the order in which they are asked for. Of XREADGROUP also that a key, or a group, is dropped is awaited."""
    since: Sequence[bytes]
    """Of each key the id that an entry must be above; `>`: it must not have been delivered to the group; `$`: nobody
    knows yet (see `asks`)."""
    timeout_ms: int
    """0: for ever."""
    request: Sequence[bytes]
    """Without BLOCK: to be tried again as soon as something may have come. What it finds nothing for is NULL_ARRAY."""
    asks: Sequence[bytes]
    """A READ that is to be run before the request is tried for the first time: it tells the ids that `$` stands for,
    for `begun`. Empty: there is no `$`."""

    def begun(self, last_ids: Sequence[bytes]) -> Waiting:
        """With what `asks` has answered, one id for each `$`."""
        ids = iter(last_ids)
        since = [next(ids) if said == b"$" else said for said in self.since]
        return replace(self, since=since, request=[*self.request[: -len(since)], *since], asks=())


def waiting_of(request: Sequence[bytes]) -> Waiting | None:
    """What a request of XREAD or XREADGROUP would wait for; None: it does not wait, or is wrong, which shows when it is
    run."""
    try:
        reading = reading_of(request)
    except CommandError:
        return None
    if reading.timeout_ms is None:
        return None
    unknown = [key for key, said in zip(reading.keys, reading.ids, strict=True) if said == b"$"]
    row = find(request[0])
    grouped = row is not None and row.name == "xreadgroup"
    return Waiting(
        reading.keys,
        reading.ids,
        reading.timeout_ms,
        _without_block(request),
        [LAST_IDS, *unknown] if unknown and not grouped else (),
    )


def _without_block(request: Sequence[bytes]) -> list[bytes]:
    """The same request, however often BLOCK is said."""
    found = list(request)
    while (at := reading_of(found).block_at) > 0:
        del found[at : at + 2]
    return found


def waits(request: Sequence[bytes]) -> Waits | None:
    """As who waits has it."""
    waiting = waiting_of(request)
    return _as_waits(waiting) if waiting is not None else None


def _as_waits(waiting: Waiting) -> Waits:
    def begun(last: Reply) -> Waits:
        return _as_waits(waiting.begun(last if isinstance(last, list) else []))  # type: ignore[arg-type]

    grouped = len(waiting.request[0]) == len(b"XREADGROUP")
    timeout = in_seconds(waiting.timeout_ms)
    return Waits(timeout, waiting.keys, waiting.request, True, waiting.asks, begun, of_its_type=not grouped)


@part(LAST_IDS, READ)
def last_ids(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """The last id of each stream, or 0-0."""
    found = [stream_of(cells, key, now) for key in request[1:]]
    return (), [spelled(stream.last if stream is not None else FIRST_ID) for stream in found]
