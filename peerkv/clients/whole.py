"""Commands that concern every slot, or the cluster: each asks the owners, and goes on while other commands are run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.operation import Operation, Pause
from peerkv.agreement.reads import Sink
from peerkv.agreement.replica import Replica
from peerkv.agreement.survey import (
    Asking,
    Unanswered,
    await_copies,
    count_keys,
    count_subscribers,
    list_keys,
)
from peerkv.agreement.view import View
from peerkv.clients.blocking import UNBLOCKED
from peerkv.clients.channels import Channels
from peerkv.clients.operating import Operating
from peerkv.clients.scripts import Scripts
from peerkv.clients.session import CHANNELS, PATTERNS, SHARDS, Services, Session
from peerkv.commands.access import NOT_AN_INTEGER, SYNTAX
from peerkv.commands.patterns import PATTERN_BYTES_MAX, PATTERN_TOO_LONG, matcher
from peerkv.commands.table import COMMANDS, find_part, help_of, subcommand_of
from peerkv.databases import bare_key, database_of, in_database
from peerkv.resp import OK, Prepared, Reply, ReplyError, as_said, encode_all, parse_integer

if TYPE_CHECKING:
    from random import Random

SCAN_ORDER_BITS: Final = 30
"""A SCAN cursor is slot << 30 | where in the slot; see `store.scan.scan_order`."""
CURSOR_MAX: Final = (1 << 64) - 1
LIST_COUNT: Final = 10_000
"""The most keys that one SCAN returns."""
LISTED_MAX: Final = 100_000
"""Keys that KEYS lists in a transaction or a script."""
KEYS_COUNT: Final = 1000
"""Keys that KEYS looks at at a time."""
RANDOM_COUNT: Final = 16
"""Keys that are listed at a time until one is of the database that is asked."""
FLUSH_KEYS: Final = 1024
"""Keys that FLUSHALL has under way: 10 ms. A slot with more is cleared in several steps."""
WAIT_MAX_S: Final = 3600.0
"""What WAIT's `0`, for ever, means here: a client that is gone must not be waited for."""


class Told(Sink):
    """The replies to what such a command has asked for; it looks by itself."""

    __slots__ = ()

    def complete(self) -> None:
        pass


class Whole:
    """Runs these commands; each is an operation that delivers one reply."""

    def __init__(
        self,
        services: Services,
        view: View,
        replica: Replica,
        coordinator: Coordinator,
        rng: Random,
        scripts: Scripts,
        channels: Channels,
        operating: Operating,
        all_shown: Callable[[], Operation],
        flushed: Callable[[], None],
    ) -> None:
        """`all_shown` waits until what this node's transactions have done is to be seen; `flushed` tells clients that
        all keys are gone."""
        self._all_shown = all_shown
        self._flushed = flushed
        self._channels = channels
        self._services = services
        self._view = view
        self._replica = replica
        self._coordinator = coordinator
        self._rng = rng
        self._by_name: dict[str, Callable[[Session, Sequence[bytes]], Asking[Reply]]] = {
            "dbsize": self._dbsize,
            "flushall": self._flush,
            "flushdb": self._flush,
            "keys": self._keys,
            "scan": self._scan,
            "randomkey": self._randomkey,
            "wait": self._wait,
            "debug": self._debug,
            "peerkv": operating.run,
            "cluster": self._cluster,
            "pubsub": self._pubsub,
            "script": lambda _session, request: scripts.script(request),
            "function": lambda _session, request: scripts.function(request),
        }

    def run(self, name: str, session: Session, request: Sequence[bytes], sink: Sink, index: int) -> Operation:
        """Run a command of kind CLUSTER; the sink gets its reply."""
        try:
            yield from self._all_shown()
            reply = yield from self._by_name[name](session, request)
        except Unanswered:
            reply = self._unanswered()
        sink.deliver(index, reply)

    def _unanswered(self) -> ReplyError:
        if self._view.topology is None:
            return ReplyError("CLUSTERDOWN this node has not met its cluster yet")
        return ReplyError("NOQUORUM nothing was done: some slots have no majority of owners that answer")

    def _dbsize(self, session: Session, _request: Sequence[bytes]) -> Asking[Reply]:
        counts = yield from count_keys(self._view, self._replica, database=session.database)
        return sum(counts)

    def _flush(self, session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        """Clear every slot that has keys; each slot at once, one after the other as seen from outside."""
        if len(request) > 2 or (len(request) == 2 and request[1].upper() not in (b"ASYNC", b"SYNC")):
            return SYNTAX
        clear: tuple[bytes, ...] = (b"PEERKV.CLEAR", b"", b"%d" % FLUSH_KEYS)
        if request[0].upper() == b"FLUSHDB":
            counts = yield from count_keys(self._view, self._replica, database=session.database)
            clear = (*clear, b"%d" % session.database)
        else:
            counts = yield from count_keys(self._view, self._replica)
        for numbers in _groups(counts, FLUSH_KEYS):
            while numbers:
                cleared = Told(len(numbers))
                for index, number in enumerate(numbers):
                    self._coordinator.write(number, clear, cleared, index)
                while cleared.left:
                    yield Pause(0.001)
                replies = cleared.replies
                error = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
                if error is not None:
                    return error
                numbers = [number for number, reply in zip(numbers, replies, strict=True) if reply == FLUSH_KEYS]
        self._flushed()
        return OK

    def matching(self, pattern: bytes, database: int) -> Asking[Sequence[bytes] | ReplyError]:
        """The keys of a database that match, for commands that are run together with others."""
        if len(pattern) > PATTERN_BYTES_MAX:
            return PATTERN_TOO_LONG
        matches = matcher(pattern)
        found: list[bytes] = []
        slot = start = 0
        try:
            while slot < len(self._view.slots):
                keys, slot, start = yield from list_keys(self._view, self._replica, slot, start, KEYS_COUNT)
                found += filter(matches, _of_database(keys, database))
                if len(found) > LISTED_MAX:
                    return ReplyError(f"ERR nothing was done: KEYS among others lists at most {LISTED_MAX} keys")
                yield Pause(0.0)  # others have their turn
        except Unanswered:
            return self._unanswered()
        return found

    def _keys(self, session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        if len(request[1]) > PATTERN_BYTES_MAX:
            return PATTERN_TOO_LONG
        matches = matcher(request[1])
        found: list[bytes] = []
        """Encoded already, as all of them at once would take too long."""
        count = size = 0
        most = self._services.settings.client_output_bytes_max
        slot = start = 0
        while slot < len(self._view.slots):
            keys, slot, start = yield from list_keys(self._view, self._replica, slot, start, KEYS_COUNT)
            matching: list[Reply] = [key for key in _of_database(keys, session.database) if matches(key)]
            count += len(matching)
            found.append(encode_all(matching, 2))
            size += len(found[-1])
            if size > most:
                return ReplyError(f"ERR the reply would be of more than {most} bytes: SCAN lists keys bit by bit")
            yield Pause(0.0)  # others have their turn
        return Prepared.of(b"*%d\r\n%b" % (count, b"".join(found)))

    def _scan(self, session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        options = _scan_options(request)
        if isinstance(options, ReplyError):
            return options
        cursor, count, pattern, of_type = options
        slot, start = divmod(cursor, 1 << SCAN_ORDER_BITS)
        keys, slot, start = yield from list_keys(self._view, self._replica, slot, start, min(count, LIST_COUNT))
        keys = _of_database(keys, session.database)
        if pattern is not None:
            matches = matcher(pattern)
            keys = [key for key in keys if matches(key)]
        if of_type is not None:
            held = [in_database(key, session.database) for key in keys]
            found = yield from self._of_type(of_type.decode("utf-8", "surrogateescape"), held)
            if isinstance(found, ReplyError):
                return found
            keys = [bare_key(key) for key in found]
        following = slot << SCAN_ORDER_BITS | start if slot < len(self._view.slots) else 0
        return [b"%d" % following, list(keys)]

    def _of_type(self, wanted: str, keys: list[bytes]) -> Asking[list[bytes] | ReplyError]:
        """Those of a type, by what a majority of each key's owners says."""
        row = find_part(b"PEERKV.TYPES")
        assert row is not None
        assert row.run is not None
        of_slot = self._view.by_slot(keys)
        told = Told(len(of_slot))
        for index, (number, group) in enumerate(of_slot.items()):
            now = self._services.clock.cluster_ms
            self._coordinator.reads.read(number, [b"PEERKV.TYPES", *group], row.run, now, told, index, group)
        while told.left:
            yield Pause(0.001)
        found: list[bytes] = []
        for reply, group in zip(told.replies, of_slot.values(), strict=True):
            if isinstance(reply, ReplyError):
                return reply
            assert isinstance(reply, list)
            found += [key for key, kind in zip(group, reply, strict=True) if kind == wanted]
        return found

    def _randomkey(self, session: Session, _request: Sequence[bytes]) -> Asking[Reply]:
        counts = yield from count_keys(self._view, self._replica, database=session.database)
        total = sum(counts)
        if not total:
            return None
        chosen = self._rng.randrange(total)
        slot = 0
        while chosen >= counts[slot]:
            chosen -= counts[slot]
            slot += 1
        start, of_slot = self._rng.randrange(1 << SCAN_ORDER_BITS), slot
        for begin in (start, 0):
            slot = of_slot
            while slot == of_slot:
                keys, slot, begin = yield from list_keys(self._view, self._replica, slot, begin, RANDOM_COUNT)
                keys = [key for key in _of_database(keys, session.database) if self._view.slot_of(key) == of_slot]
                if keys:
                    return keys[0]
        slot = begin = 0
        while slot < len(counts):  # what is left of that slot has expired, and is only not dropped yet
            keys, slot, begin = yield from list_keys(self._view, self._replica, slot, begin, RANDOM_COUNT)
            keys = _of_database(keys, session.database)
            if keys:
                return keys[0]
        return None

    def _wait(self, session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        copies, milliseconds = parse_integer(request[1]), parse_integer(request[2])
        if copies is None:
            return NOT_AN_INTEGER
        if milliseconds is None:
            return ReplyError("ERR timeout is not an integer or out of range")
        if milliseconds < 0:
            return ReplyError("ERR timeout is negative")
        patience = min(milliseconds / 1000, WAIT_MAX_S) if milliseconds else WAIT_MAX_S
        number = max(0, session.last_slot)
        clock = self._services.clock
        asking = await_copies(self._view, self._replica, number, copies, clock.now + patience, clock)
        session.blocked, session.unblock = True, ""
        try:
            answers = None
            while True:
                step = asking.send(answers)  # type: ignore[arg-type]
                if session.unblock == "error":
                    return UNBLOCKED
                if session.unblock:
                    asking = await_copies(self._view, self._replica, number, 0, clock.now, clock)
                    return (yield from asking)
                answers = yield step
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        finally:
            session.blocked = False

    def _pubsub(self, _session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        row = COMMANDS["pubsub"]
        own = subcommand_of(row, request)
        if isinstance(own, ReplyError):
            return own
        channels = self._channels
        match own.name.partition("|")[2]:
            case "channels" | "shardchannels" as verb:
                names = sorted(channels.names(SHARDS if verb == "shardchannels" else CHANNELS))
                if len(request) > 3:
                    said = as_said(request[1])
                    return ReplyError(
                        f"ERR unknown subcommand or wrong number of arguments for '{said}'. Try PUBSUB HELP."
                    )
                if len(request) == 3:
                    if len(request[2]) > PATTERN_BYTES_MAX:
                        return PATTERN_TOO_LONG
                    names = list(filter(matcher(request[2]), names))
                return list(names)
            case "numsub" | "shardnumsub" as verb:
                kind = SHARDS if verb == "shardnumsub" else CHANNELS
                counts = yield from count_subscribers(self._view, channels.counts, kind, list(request[2:]))
                return [item for pair in zip(request[2:], counts, strict=True) for item in pair]
            case "numpat":
                return len(channels.names(PATTERNS))
            case _:
                return help_of(row)

    def _debug(self, _session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        if request[1].upper() != b"SLEEP" or len(request) != 3:
            return ReplyError("ERR DEBUG SLEEP seconds is all that there is of DEBUG here")
        try:
            seconds = float(request[2])
        except ValueError:
            seconds = 0.0  # as Redis reads it
        if seconds > 0:
            yield Pause(min(seconds, WAIT_MAX_S))
        return OK

    def _cluster(self, _session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        """CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT."""
        number = parse_integer(request[2])
        if number is None or not 0 <= number < len(self._view.slots):
            return ReplyError("ERR Invalid slot")
        if request[1].upper() == b"COUNTKEYSINSLOT":
            counts = yield from count_keys(self._view, self._replica, [number])
            return counts[0]
        count = parse_integer(request[3])
        if count is None or count < 0:
            return ReplyError("ERR Invalid number of keys")
        found: list[Reply] = []
        slot, start = number, 0
        while slot == number and len(found) < count:
            keys, slot, start = yield from list_keys(self._view, self._replica, slot, start, count - len(found))
            found += [key for key in keys if self._view.slot_of(key) == number]
        return found[:count]


def _of_database(keys: list[bytes], database: int) -> list[bytes]:
    """Those of these keys that are of a database, as its clients know them."""
    return [bare_key(key) if database else key for key in keys if database_of(key) == database]


def _groups(counts: Sequence[int], most: int) -> list[list[int]]:
    """Slots with keys, in groups of so many keys, or of one slot with more."""
    groups: list[list[int]] = []
    size = most
    for number, keys in enumerate(counts):
        if keys:
            if size + keys > most:
                groups.append([])
                size = 0
            groups[-1].append(number)
            size += keys
    return groups


def _scan_options(request: Sequence[bytes]) -> tuple[int, int, bytes | None, bytes | None] | ReplyError:
    """(cursor, count, pattern, type) of a SCAN."""
    cursor = _cursor(request[1])
    if cursor is None:
        return ReplyError("ERR invalid cursor")
    count = 10
    pattern = of_type = None
    options = iter(request[2:])
    for name in options:
        value = next(options, None)
        if value is None:
            return SYNTAX
        match name.upper():
            case b"COUNT":
                parsed = parse_integer(value)
                if parsed is None:
                    return NOT_AN_INTEGER
                if parsed < 1:
                    return SYNTAX
                count = parsed
            case b"MATCH":
                if len(value) > PATTERN_BYTES_MAX:
                    return PATTERN_TOO_LONG
                pattern = value
            case b"TYPE":
                of_type = value.lower()
            case _:
                return SYNTAX
    return cursor, count, pattern, of_type


_CURSOR: Final = re.compile(rb"([+-]?)([0-9]{1,64})|")


def _cursor(said: bytes) -> int | None:
    """A number as strtoul reads it, as Redis does: nothing is 0, and what is negative counts from the largest one."""
    found = _CURSOR.fullmatch(said)
    if found is None:
        return None
    number = int(found[2] or b"0")
    if number > CURSOR_MAX:
        return None
    return CURSOR_MAX + 1 - number if found[1] == b"-" and number else number
