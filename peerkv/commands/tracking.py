"""What a home runs for a client that is to be told when what it reads changes: the read, as without that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peerkv.commands.table import Effect, Kind, find_part, part, places_of, unknown
from peerkv.resp import CommandError
from peerkv.store.cell import Cells

TRACKED: Final = b"PEERKV.TRACKED"


def tracked_request(request: Sequence[bytes]) -> list[bytes]:
    """A read whose keys the home is to note (`agreement.tracked`)."""
    return [TRACKED, *request]


def _keys_at(request: Sequence[bytes]) -> Sequence[int]:
    row = find_part(request[1]) if len(request) > 1 else None
    if row is None or request[1] == TRACKED:
        return ()
    return [at + 1 for at in places_of(row, request[1:])]


@part(TRACKED, Kind.READ, keys_at=_keys_at)
def _run(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    row = find_part(request[1]) if request[1] != TRACKED else None
    if row is None or row.kind is not Kind.READ or row.run is None:
        raise CommandError(unknown(request[1:]))
    return row.run(cells, request[1:], now)
