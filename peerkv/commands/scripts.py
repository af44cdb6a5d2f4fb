"""EVAL and FCALL as functions of cells: a script's commands are run on a scratch, and its changes are theirs.

Behind what a client has said stands one more argument, made by `handed`: bytes that were drawn by chance, how far wall
time is before cluster time, the database that the client has selected, and the code of the library that FCALL needs. So
a run needs nothing but its request, its cells and the time, and may be begun anew anywhere.

EVALSHA is run as EVAL: whoever knows the script puts it in place of its SHA1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import Final

from peerkv.commands.access import NOT_AN_INTEGER, database
from peerkv.commands.facts import FACTS, Facts
from peerkv.commands.running import is_runnable, prepared, run_on
from peerkv.commands.slowlog import SLOWLOG
from peerkv.commands.streams import reading_of
from peerkv.commands.table import CHANCE_BYTES, RUNS, Command, Effect, Kind, Run, command, find, fits, part
from peerkv.databases import DATABASES, RECORD, bare_key
from peerkv.resp import OK, CommandError, Map, Reply, ReplyError, parse_integer
from peerkv.scripting import Engine, Function, Limits, TooLong, sha1_of
from peerkv.store.cell import Cells
from peerkv.store.scratch import Scratch

STEPS_MAX: Final = 1_000_000
"""That a script is run for where others wait meanwhile: 10 ms."""
TIME_NS_MAX: Final = 20_000_000
"""Likewise, of commands that take long, and of what is done with long strings; ..."""
STEPS_AT_LEISURE_MAX: Final = 500_000_000
"""That it is run for at most: 5 s."""
TIME_AT_LEISURE_NS_MAX: Final = 10_000_000_000
"""... likewise."""


def _is_command(name: bytes) -> bool:
    return find(name) is not None


def _nanoseconds() -> int:
    return SLOWLOG.stopwatch()


ENGINE: Final = Engine(Limits(steps_max=STEPS_MAX, time_ns_max=TIME_NS_MAX), _is_command, _nanoseconds)
"""Of the process, which is one node."""
AT_LEISURE: Final = Engine(
    Limits(steps_max=STEPS_AT_LEISURE_MAX, time_ns_max=TIME_AT_LEISURE_NS_MAX), _is_command, _nanoseconds
)
"""Likewise, in a thread of its own."""

UNKNOWN: Final = ReplyError("ERR Unknown Redis command called from script")
ARITY: Final = ReplyError("ERR Wrong number of args calling Redis command from script")
NOT_ALLOWED: Final = ReplyError("ERR This Redis command is not allowed from script")
NO_WRITES: Final = ReplyError("ERR Write commands are not allowed from read-only scripts.")
BAD_NUMBER: Final = ReplyError("ERR Bad number of keys provided")
NOT_READ_ONLY: Final = ReplyError("ERR Can not execute a script with write flag using *_ro command.")
_SKEW_BYTES: Final = 8


def handed(chance: bytes, skew: int = 0, database: int = 0, library: bytes = b"") -> bytes:
    """The argument behind what a client has said: `chance` of CHANCE_BYTES; `skew`: milliseconds by which cluster time
    is behind wall time; the client's database; the code of FCALL's library."""
    assert len(chance) == CHANCE_BYTES
    return b"%b%b%c%b" % (chance, skew.to_bytes(_SKEW_BYTES, "big", signed=True), database, library)


def scripted(request: list[bytes], argument: bytes) -> list[bytes]:
    """A client's EVAL or FCALL, its keys as they are held (`placed`), as it is run; `argument` is that of `handed`."""
    return [*request, argument]


_PLAIN_MAX: Final = 4096
_READERS: Final = "xread", "xreadgroup"
"""Scripts may not ask them to wait."""


class _Plain(dict[bytes, tuple[int, bool, Run] | None]):
    """Commands by their names as they are spelled, of which nothing is to be seen to but their arity, and whether they
    write: (arity, writes, run). Filled as names come."""

    def __missing__(self, name: bytes) -> tuple[int, bool, Run] | None:
        row = find(name)
        found = None
        if row is not None and row.run is not None and row.kind in (Kind.READ, Kind.WRITE):
            is_special = row.subcommands or row.chance or row.dated or row.spread or "noscript" in row.flags
            is_special = is_special or row.name in _READERS
            found = None if is_special else (row.arity, "write" in row.flags, row.run)
        if len(self) < _PLAIN_MAX and len(name) < _SPELLED_BYTES_MAX:
            self[name] = found
        return found


_PLAIN: Final = _Plain()


class _NothingPlain(dict[bytes, None]):
    """In its place where somebody wants to know what each command does."""

    def __missing__(self, _name: bytes) -> None:
        return None


_NOTHING_PLAIN: Final = _NothingPlain()
_SPELLED_BYTES_MAX: Final = 64


class _Calls:
    """The commands that one script runs."""

    def __init__(self, scratch: Scratch, now: int, last: bytes, *, only_reads: bool) -> None:
        self.only_reads = only_reads
        self.scratch = scratch
        self._now = now
        self._plain: Mapping[bytes, tuple[int, bool, Run] | None] = _PLAIN if scratch.events is None else _NOTHING_PLAIN
        self.chance = last[:CHANCE_BYTES]
        self._skew = int.from_bytes(last[CHANCE_BYTES : CHANCE_BYTES + _SKEW_BYTES], "big", signed=True)
        self.database = last[CHANCE_BYTES + _SKEW_BYTES]
        self._drawn = 0

    def call(self, request: list[bytes]) -> Reply:
        """redis.call."""
        plain = self._plain[request[0]]
        if plain is not None and not self.database:  # as below, in a third of the time
            arity, writes, run = plain
            if (len(request) == arity if arity > 0 else len(request) >= -arity) and not (writes and self.only_reads):
                try:
                    changes, reply = run(self.scratch, request, self._now)
                except CommandError as error:
                    return error.reply
                if changes:
                    self.scratch.apply(changes)
                return reply
        row = find(request[0])
        if row is None:
            facts = FACTS.get(request[0].decode("ascii", "replace").lower())
            return NOT_ALLOWED if facts is not None and "noscript" in facts.flags else UNKNOWN
        if not fits(row, request):
            return ARITY
        flags = row.flags
        if row.subcommands:
            own = _subcommand(row, request)
            if isinstance(own, ReplyError):
                return own
            flags = frozenset(own.flags) if own is not None else flags
        if "noscript" in flags:
            return NOT_ALLOWED
        if self.only_reads and "write" in flags:
            return NO_WRITES
        if not is_runnable(row):
            return self._of_the_connection(row, request)
        if row.name in _READERS:
            try:
                reading_of(request, scripted=True)
            except CommandError as error:
                return error.reply
        ready = prepared(row, request, skew=self._skew, database=self.database, chance=self._draw)
        return run_on(self.scratch, ready, self._now)

    def _draw(self) -> bytes:
        self._drawn += 1
        return sha1(b"%b%d" % (self.chance, self._drawn), usedforsecurity=False).digest()[:CHANCE_BYTES]

    def _of_the_connection(self, row: Command, request: Sequence[bytes]) -> Reply:
        match row.name:
            case "ping" if len(request) <= 2:
                return request[1] if len(request) == 2 else "PONG"
            case "echo":
                return request[1]
            case "publish" | "spublish":  # how many will get it is not known here
                self.scratch.said.append((0 if row.name == "publish" else 2, request[1], request[2]))
                return 0
            case "time":
                seconds, milliseconds = divmod(self._now + self._skew, 1000)
                return [b"%d" % seconds, b"%d" % (milliseconds * 1000)]
            case "select":
                try:
                    self.database = database(request[1])
                except CommandError as error:
                    return error.reply
                return OK
            case "ping":
                return ARITY
        name = row.name.upper()
        if row.kind is Kind.CLUSTER:
            return ReplyError(
                f"ERR {name} cannot be called from a script: it concerns every slot, and a script has keys"
            )
        return ReplyError(f"ERR {name} cannot be called from a script: it concerns the connection or the node")


def _subcommand(row: Command, request: Sequence[bytes]) -> Facts | ReplyError | None:
    own = request[1].decode("ascii", "replace").lower() if len(request) > 1 else ""
    if own in row.subcommands:
        found = FACTS[f"{row.name}|{own}"]
        return found if fits(found, request) else ARITY
    return UNKNOWN if own else None


def _arguments(request: Sequence[bytes], last: bytes) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """KEYS and ARGV. Raises CommandError."""
    count = parse_integer(request[2])
    if count is None:
        raise CommandError(BAD_NUMBER if request[0][:1].upper() == b"F" else NOT_AN_INTEGER)
    if count > len(request) - 4:
        raise CommandError(ReplyError("ERR Number of keys can't be greater than number of args"))
    if count < 0:
        raise CommandError(ReplyError("ERR Number of keys can't be negative"))
    keys = request[3 : 3 + count]
    if last[CHANCE_BYTES + _SKEW_BYTES]:
        keys = [bare_key(key) for key in keys]
    return keys, request[3 + count : -1]


def _checked(last: bytes) -> bytes:
    """An argument of `handed`, as it was sent to this node. Raises CommandError for what is none."""
    if len(last) <= CHANCE_BYTES + _SKEW_BYTES or last[CHANCE_BYTES + _SKEW_BYTES] >= DATABASES:
        raise CommandError(ReplyError("ERR a script was handed over without what it needs"))
    return last


def _engine(cells: Cells) -> Engine:
    return AT_LEISURE if isinstance(cells, Scratch) and cells.at_leisure else ENGINE


def _eval(cells: Cells, request: Sequence[bytes], now: int, *, only_reads: bool) -> Effect:
    last, engine = _checked(request[-1]), _engine(cells)
    script = engine.compiled(request[1])
    keys, argv = _arguments(request, last)
    if only_reads and request[1].startswith(b"#!") and "no-writes" not in script.flags:
        raise CommandError(NOT_READ_ONLY)
    calls = _Calls(Scratch(cells, now), now, last, only_reads=only_reads or "no-writes" in script.flags)
    reply = engine.run(script, keys, argv, calls.call, chance=calls.chance)
    return calls.scratch.changes, reply


def _fcall(cells: Cells, request: Sequence[bytes], now: int, *, only_reads: bool) -> Effect:
    last = _checked(request[-1])
    keys, argv = _arguments(request, last)
    calls = _Calls(Scratch(cells, now), now, last, only_reads=only_reads)

    def allowed(function: Function) -> ReplyError | None:
        if "no-writes" in function.flags:
            calls.only_reads = True
        elif only_reads:
            return NOT_READ_ONLY
        return None

    library = last[CHANCE_BYTES + _SKEW_BYTES + 1 :]
    name = request[1].decode("utf-8", "surrogateescape")
    reply = _engine(cells).call_function(library, name, keys, argv, calls.call, chance=calls.chance, allowed=allowed)
    return calls.scratch.changes, reply


def eval_(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """EVAL script numkeys [key ...] [arg ...], and the argument of `handed`. Raises TooLong, Killed, and what looking
    at the cells raises."""
    return _eval(cells, request, now, only_reads=False)


def eval_ro(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """Likewise, of a script that only reads."""
    return _eval(cells, request, now, only_reads=True)


def fcall(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """FCALL function numkeys [key ...] [arg ...], and the argument of `handed`, with the library's code. Raises as
    `eval_`."""
    return _fcall(cells, request, now, only_reads=False)


def fcall_ro(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    """Likewise, of a function that only reads."""
    return _fcall(cells, request, now, only_reads=True)


def _always(_request: Sequence[bytes]) -> bool:
    return True


for _name, _summary, _run in (
    ("eval", "Runs a script.", eval_),
    ("eval_ro", "Runs a script that only reads.", eval_ro),
    ("evalsha", "Runs a script that is known by its SHA1.", eval_),
    ("evalsha_ro", "Runs a script that only reads, and is known by its SHA1.", eval_ro),
    ("fcall", "Calls a function of a library.", fcall),
    ("fcall_ro", "Calls a function of a library that only reads.", fcall_ro),
):
    command(_name, Kind.SCRIPT, _summary, wanders=_always)(_run)


# -- what the cluster knows of scripts: two hashes of its own

SCRIPTS: Final = RECORD + b"scripts"
"""SHA1 -> script, in the order in which they came."""
LIBRARIES: Final = RECORD + b"libraries"
"""Name -> code, of FUNCTION."""
KEPT_MAX: Final = 4096
KEPT_BYTES_MAX: Final = 16 << 20
"""Of either; of scripts those that came first go, a library beyond it is refused."""
NO_SCRIPT: Final = ReplyError("NOSCRIPT No matching script. Please use EVAL.")
NO_FUNCTION: Final = ReplyError("ERR Function not found")


@part(b"PEERKV.NOSCRIPT", Kind.READ, (0, 0, 0))
def _no_script(_cells: Cells, _request: Sequence[bytes], _now: int) -> Effect:
    """In place of a script that nobody knows."""
    return (), NO_SCRIPT


@part(b"PEERKV.NOFUNCTION", Kind.READ, (0, 0, 0))
def _no_function(_cells: Cells, _request: Sequence[bytes], _now: int) -> Effect:
    return (), NO_FUNCTION


def keep_request(script: bytes) -> list[bytes]:
    """Have the cluster know a script."""
    return [b"PEERKV.KEEP", SCRIPTS, sha1_of(script).encode(), script]


@part(b"PEERKV.KEEP", Kind.WRITE, (1, 1, 1))
def _keep(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    scratch = Scratch(cells, now)
    key, name, script = request[1:4]
    if run_on(scratch, [b"HEXISTS", key, name], now):
        return (), 0
    run_on(scratch, [b"HSET", key, name, script], now)
    kept = _fields(scratch, key, now)
    size, count = sum(map(len, kept.values())), len(kept)
    for old, source in kept.items():
        if count <= KEPT_MAX and size <= KEPT_BYTES_MAX:
            break
        size, count = size - len(source), count - 1
        run_on(scratch, [b"HDEL", key, old], now)
    return scratch.changes, 1


def _fields(cells: Cells, key: bytes, now: int) -> dict[bytes, bytes]:
    reply = RUNS[b"HGETALL"](cells, [b"HGETALL", key], now)[1]
    items = reply.items if isinstance(reply, Map) else []
    return dict(zip(items[::2], items[1::2], strict=True))  # type: ignore[arg-type]


def library_request(verb: bytes, *arguments: bytes) -> list[bytes]:
    """Change the libraries: LOAD code, REPLACE code, DELETE name, FLUSH, RESTORE policy code ..."""
    return [b"PEERKV.LIBRARY", LIBRARIES, verb, *arguments]


@part(b"PEERKV.LIBRARY", Kind.WRITE, (1, 1, 1))
def _library(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key, verb, arguments = request[1], request[2], list(request[3:])
    scratch = Scratch(cells, now)
    if verb == b"DELETE":
        if not run_on(scratch, [b"HDEL", key, *arguments[:1]], now):
            raise CommandError(ReplyError("ERR Library not found"))
        return scratch.changes, OK
    replaces = verb == b"REPLACE"
    if verb == b"RESTORE":
        policy = arguments.pop(0)
        replaces = policy == b"REPLACE"
        if policy == b"FLUSH":
            scratch.apply([(key, None, 0)])
    elif verb == b"FLUSH":
        return ([(key, None, 0)] if key in cells else []), OK
    name = b""
    for code in arguments:
        name = _add_library(scratch, key, code, now, replaces=replaces)
    return scratch.changes, OK if verb == b"RESTORE" else name


def _add_library(scratch: Scratch, key: bytes, code: bytes, now: int, *, replaces: bool) -> bytes:
    try:
        library = ENGINE.library(code)
    except TooLong:
        raise CommandError(ReplyError("ERR Error registering functions: loading it takes too long")) from None
    name = library.name.encode("utf-8", "surrogateescape")
    kept = _fields(scratch, key, now)
    if kept.pop(name, None) is not None and not replaces:
        raise CommandError(ReplyError(f"ERR Library '{library.name}' already exists"))
    if sum(map(len, kept.values())) + len(code) > KEPT_BYTES_MAX or len(kept) >= KEPT_MAX:
        raise CommandError(ReplyError(f"ERR all libraries together may be of {KEPT_BYTES_MAX} bytes"))
    functions = {function.name for function in library.functions}
    for other in kept.values():
        for function in ENGINE.library(other).functions:
            if function.name in functions:
                raise CommandError(ReplyError(f"ERR Function {function.name} already exists"))
    run_on(scratch, [b"HSET", key, name, code], now)
    return name
