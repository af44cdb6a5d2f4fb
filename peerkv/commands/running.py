"""One request of many that are run together, in a transaction or by a script: what is to be run, and its effect.

`prepared` is done once, where the client is, or where a script says it; `run_on` is pure, and may be done again
anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from peerkv.commands.events import events_of
from peerkv.commands.patterns import matcher
from peerkv.commands.table import (
    Command,
    Kind,
    arity_error,
    find,
    find_part,
    fits,
    keys_of,
    placed,
    subcommand_of,
    unknown,
)
from peerkv.databases import bare_key, database_of
from peerkv.resp import CommandError, Reply, ReplyError
from peerkv.store.cell import is_live
from peerkv.store.scratch import Scratch

RUNNABLE: Final = frozenset((Kind.READ, Kind.WRITE, Kind.SPREAD, Kind.SCRIPT))
"""Kinds of commands that are functions of cells."""


KEYS: Final = "keys"
"""The one that is no function of cells and can be run among others: they are listed for it, which is no part of what
happens at one moment."""


def is_runnable(row: Command) -> bool:
    """Whether a command can be run on a scratch."""
    return row.kind in RUNNABLE or row.name == KEYS


def row_of(request: Sequence[bytes]) -> Command | ReplyError:
    """The command that a request means, or what is said to one that means none or has too few or too many arguments.
    Of a subcommand, too, if the command is a function of cells."""
    row = find(request[0])
    if row is None:
        return unknown(request)
    if not fits(row, request):
        return arity_error(row)
    if row.subcommands and row.kind in RUNNABLE and not keys_of(row, request):
        subcommand = subcommand_of(row, request)
        if isinstance(subcommand, ReplyError):
            return subcommand
    return row


def prepared(
    row: Command, request: list[bytes], *, skew: int, database: int, chance: Callable[[], bytes]
) -> list[bytes]:
    """A request of `row` (see `row_of`) as it is run: keys as they are held, times in cluster time, which is `skew`
    milliseconds behind wall time, with bytes drawn by `chance` behind it if the command takes such."""
    if row.name == KEYS:
        return [*request, b"%d" % database]
    if database:
        request = placed(request, database)
    if row.chance:
        return [*request, chance()]
    if skew and row.dated is not None:
        return row.dated(request, skew)
    return request


def run_on(scratch: Scratch, request: Sequence[bytes], now: int) -> Reply:
    """Run a prepared request of a command that is a function of cells (`RUNNABLE`); what it changes is noted in the
    scratch. What is wrong with it is answered as a ReplyError, and then it has changed nothing, but for the parts of
    commands like MSET that came before. Raises what looking at the cells raises (Elsewhere, Occupied), and any
    Exception that is a fault of ours."""
    row = find_part(request[0])
    if row is None:  # prepared by a newer version
        return unknown(request)
    if row.name == KEYS:
        return _keys(scratch, request[1], int(request[2]), now)
    if row.spread is None:
        return _run_one(scratch, row, request, now)
    parts = row.spread.split(request)
    if isinstance(parts, ReplyError):
        return parts
    requests = [part for _, part in parts]
    if row.spread.merge is not None:
        requests = [row.spread.merge(requests)]
    part_row = find_part(requests[0][0])
    assert part_row is not None, "parts are requests of the table"
    replies: list[Reply] = []
    for part in requests:
        reply = _run_one(scratch, part_row, part, now)
        if isinstance(reply, ReplyError):
            return reply
        replies.append(reply)
    return row.spread.join(replies)


def _keys(scratch: Scratch, pattern: bytes, database: int, now: int) -> Reply:
    """Those that were listed, and what has become of some since."""
    found = dict.fromkeys(scratch.matching(pattern, database))
    for key in dict.fromkeys([key for key, _, _ in scratch.changes if database_of(key) == database]):
        if not is_live(scratch.get(key), now):
            found.pop(bare_key(key), None)
        elif matcher(pattern)(bare_key(key)):
            found[bare_key(key)] = None
    return list(found)


def _run_one(scratch: Scratch, row: Command, request: Sequence[bytes], now: int) -> Reply:
    if row.run is None:
        return ReplyError(f"ERR '{row.name}' cannot be run among others")
    try:
        changes, reply = row.run(scratch, request, now)
    except CommandError as error:
        changes, reply = (), error.reply
    if scratch.events is not None:
        scratch.events += events_of(scratch, request, changes, reply, now)
    if changes:
        scratch.apply(changes)
    return reply
