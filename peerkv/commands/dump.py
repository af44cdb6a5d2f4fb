"""DUMP and RESTORE: values in Redis's own serialisation, from and to any other Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peerkv.commands.access import INTEGER_MAX, SYNTAX, integer, value_of
from peerkv.commands.strings import argument_of, in_cluster_time
from peerkv.commands.table import Effect, Kind, command
from peerkv.resp import OK, ReplyError
from peerkv.store.cell import Cells
from peerkv.store.dumps import dumped, in_time_of_cluster, restoring
from peerkv.store.rdb import is_intact

BUSY: Final = ReplyError("BUSYKEY Target key name already exists.")


def _asked_by_wall(request: Sequence[bytes], skew: int) -> list[bytes]:
    """How far the deadlines in it are to be moved is one argument more than a client may give."""
    return [*request, b"%d" % skew]


@command("dump", Kind.READ, summary="Returns a value in Redis's serialisation.", dated=_asked_by_wall)
def dump(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    value = value_of(cells, request[1], now)
    skew = int(request[2]) if len(request) == 3 else 0
    return (), dumped(value, now, skew) if value is not None else None


def _in_cluster_time(request: Sequence[bytes], skew: int) -> list[bytes]:
    dated = list(request)
    if b"ABSTTL" in map(bytes.upper, request[4:]) and request[2] != b"0":
        dated[2] = in_cluster_time(request[2], 1, skew, 1) or request[2]
    if is_intact(request[3]):
        dated[3] = in_time_of_cluster(request[3], skew)
    return dated


@command("restore", Kind.WRITE, summary="Creates a key that holds what was serialised by DUMP.", dated=_in_cluster_time)
def restore(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    key, payload = request[1], request[3]
    replaces = is_absolute = False
    eviction = b""
    options = iter(request[4:])
    for argument in options:
        option = argument.upper()
        if option == b"REPLACE":
            replaces = True
        elif option == b"ABSTTL":
            is_absolute = True
        elif (option == b"IDLETIME" or option == b"FREQ") and eviction in (b"", option):
            eviction = option  # nothing is evicted here by its age
            amount = integer(argument_of(options))
            if option == b"IDLETIME" and amount < 0:
                return (), ReplyError("ERR Invalid IDLETIME value, must be >= 0")
            if option == b"FREQ" and not 0 <= amount <= 255:
                return (), ReplyError("ERR Invalid FREQ value, must be >= 0 and <= 255")
        else:
            return (), SYNTAX
    exists = value_of(cells, key, now) is not None
    if exists and not replaces:
        return (), BUSY
    deadline = integer(request[2])
    if deadline < 0:
        return (), ReplyError("ERR Invalid TTL value, must be >= 0")
    if not is_intact(payload):
        return (), ReplyError("ERR DUMP payload version or checksum are wrong")
    try:
        body = restoring(payload)
    except ValueError:
        return (), ReplyError("ERR Bad data format")
    if deadline and not is_absolute:
        deadline += now
    if deadline and not now < deadline <= INTEGER_MAX:  # it has expired already; in Redis, too, what overflows
        return (((key, None, 0),) if exists else ()), OK
    return ((key, body, deadline),), OK
