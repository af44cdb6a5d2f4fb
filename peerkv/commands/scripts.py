"""EVAL and FCALL as functions of cells: a script's commands are run on a scratch, and its changes are theirs.

Behind what a client has said stands one more argument, made by `handed`: bytes that were drawn by chance, how far wall
time is before cluster time, the database that the client has selected, and the code of the library that FCALL needs. So
a run needs nothing but its request, its cells and the time, and may be begun anew anywhere.

EVALSHA is run as EVAL: whoever knows the script puts it in place of its SHA1.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Final

from peerkv.commands.access import database, integer
from peerkv.commands.facts import FACTS, Facts
from peerkv.commands.running import RUNNABLE, prepared, run_on
from peerkv.commands.table import CHANCE_BYTES, Command, Effect, Kind, Run, command, find, fits
from peerkv.databases import DATABASES, bare_key
from peerkv.resp import OK, CommandError, Reply, ReplyError
from peerkv.scripting import Engine, Function
from peerkv.store.cell import Cells
from peerkv.store.scratch import Scratch

ENGINE: Final = Engine(known=lambda name: find(name) is not None)
"""Of the process, which is one node."""

UNKNOWN: Final = ReplyError("ERR Unknown Redis command called from script")
ARITY: Final = ReplyError("ERR Wrong number of args calling Redis command from script")
NOT_ALLOWED: Final = ReplyError("ERR This Redis command is not allowed from script")
NO_WRITES: Final = ReplyError("ERR Write commands are not allowed from read-only scripts.")
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


class _Calls:
    """The commands that one script runs."""

    def __init__(self, scratch: Scratch, now: int, last: bytes, *, only_reads: bool) -> None:
        self.only_reads = only_reads
        self.scratch = scratch
        self._now = now
        self.chance = last[:CHANCE_BYTES]
        self._skew = int.from_bytes(last[CHANCE_BYTES : CHANCE_BYTES + _SKEW_BYTES], "big", signed=True)
        self.database = last[CHANCE_BYTES + _SKEW_BYTES]
        self._drawn = 0

    def call(self, request: list[bytes]) -> Reply:
        """redis.call."""
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
        if row.kind not in RUNNABLE:
            return self._of_the_connection(row, request)
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
    count = integer(request[2])
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


def _eval(cells: Cells, request: Sequence[bytes], now: int, *, only_reads: bool) -> Effect:
    last = _checked(request[-1])
    script = ENGINE.compiled(request[1])
    keys, argv = _arguments(request, last)
    if only_reads and request[1].startswith(b"#!") and "no-writes" not in script.flags:
        raise CommandError(NOT_READ_ONLY)
    calls = _Calls(Scratch(cells, now), now, last, only_reads=only_reads or "no-writes" in script.flags)
    reply = ENGINE.run(script, keys, argv, calls.call, chance=calls.chance)
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
    reply = ENGINE.call_function(library, name, keys, argv, calls.call, chance=calls.chance, allowed=allowed)
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


def register() -> None:
    """Make them rows of the table, for clients to call."""
    rows: tuple[tuple[str, str, Run], ...] = (
        ("eval", "Runs a script.", eval_),
        ("eval_ro", "Runs a script that only reads.", eval_ro),
        ("evalsha", "Runs a script that is known by its SHA1.", eval_),
        ("evalsha_ro", "Runs a script that only reads, and is known by its SHA1.", eval_ro),
        ("fcall", "Calls a function of a library.", fcall),
        ("fcall_ro", "Calls a function of a library that only reads.", fcall_ro),
    )
    for name, summary, run in rows:
        command(name, Kind.WRITE, summary, chance=True)(run)
