"""Commands that estimate how many different elements there are: PFADD, PFCOUNT, PFMERGE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Final

from peerkv.commands.access import deadline_of, string_of
from peerkv.commands.table import Effect, Kind, command
from peerkv.resp import OK, CommandError, ReplyError
from peerkv.store.cell import Cells
from peerkv.store.values.hyperloglogs import (
    EMPTY,
    REGISTERS,
    Corrupted,
    densely,
    estimate,
    estimate_of,
    growing,
    grown,
    is_dense,
    is_hyperloglog,
    larger_of,
    register_of,
    registers_of,
)

READ, WRITE = Kind.READ, Kind.WRITE

NO_HYPERLOGLOG: Final = ReplyError("WRONGTYPE Key is not a valid HyperLogLog string value.")
CORRUPTED: Final = ReplyError("INVALIDOBJ Corrupted HLL object detected")


def _of(cells: Cells, key: bytes, now: int) -> bytes | None:
    """The HyperLogLog that a key holds. Raises CommandError."""
    value = string_of(cells, key, now)
    if value is not None and not is_hyperloglog(value):
        raise CommandError(NO_HYPERLOGLOG)
    return value


def _registers_of(value: bytes) -> bytes:
    try:
        return registers_of(value)
    except Corrupted:
        raise CommandError(CORRUPTED) from None


@command(
    "pfadd",
    WRITE,
    summary="Adds elements to a HyperLogLog, and tells whether it has changed. Creates the key if it doesn't exist.",
)
def pfadd(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key = request[1]
    old = _of(cells, key, now)
    try:
        new, changes = grown(old or EMPTY, list(map(register_of, request[2:])))
    except Corrupted:
        return (), CORRUPTED
    if old is None:
        return ((key, new, 0),), 1
    if not changes:
        return (), 0
    return ((key, growing(new, changes), deadline_of(cells, key, now)),), 1


@command(
    "pfcount",
    READ,
    summary="Estimates how many different elements have been added to HyperLogLogs altogether.",
)
def pfcount(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    if len(request) == 2:
        value = _of(cells, request[1], now)
        try:
            return (), estimate(value) if value is not None else 0
        except Corrupted:
            return (), CORRUPTED
    return (), estimate_of(_union(_of(cells, key, now) for key in request[1:]))


def _union(values: Iterable[bytes | None]) -> bytes:
    """The registers of all. Raises CommandError, of the first that has a fault."""
    return reduce(larger_of, [_registers_of(value) for value in values if value is not None], bytes(REGISTERS))


@command("pfmerge", WRITE, summary="Adds what has been added to HyperLogLogs to another one.")
def pfmerge(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    target = request[1]
    union = _union(_of(cells, key, now) for key in request[1:])
    values = [string_of(cells, key, now) for key in request[1:]]
    old = values[0] or EMPTY
    if not is_dense(old) and any(value is not None and is_dense(value) for value in values):
        old = densely(old)
    before = registers_of(old)
    new, changes = grown(old, [(at, size) for at, size in enumerate(union) if size > before[at]])
    if new == values[0]:
        return (), OK
    made_anew = values[0] is None or old is not values[0]
    return ((target, new if made_anew else growing(new, changes), deadline_of(cells, target, now)),), OK
