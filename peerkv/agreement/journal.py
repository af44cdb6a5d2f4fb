"""The last MiB of what this node has run or accepted, so that who has missed some of it is sent that again.

A turn is noted as it is, at no cost per operation; where its changes of one slot are in it is looked up when somebody
asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from peerkv.agreement.turn import Accepts
from peerkv.store.cell import SEQUENCE_BITS
from peerkv.store.recent import TICKET_SLOT

BYTES_MAX: Final = 8 << 20
TURNS_MAX: Final = 8192
TURN_BYTES: Final = 512
ROW_BYTES: Final = 160
"""What is kept of a turn, and of each of its changes, beside keys, values and replies."""
LOOKED_AT_ONCE: Final = 16_384
"""Changes of turns that nobody has asked for yet: 5 ms. Who wants more is sent cells this time."""
ROWS_MAX: Final = 2048
"""Changes that are sent again at a time: 10 ms at the other end."""
ROWS_BYTES_MAX: Final = 1 << 20


class _Noted:
    __slots__ = ("accepts", "size", "slots")

    def __init__(self, accepts: Accepts) -> None:
        self.accepts = accepts
        self.size = TURN_BYTES + ROW_BYTES * sum([len(columns[0]) for _, columns in accepts.segments])
        self.slots: dict[int, list[tuple[int, int]]] | None = None
        """Per slot (segment, row) of its changes."""

    def look(self) -> int:
        """Find out which change is of which slot; how many there are."""
        found: dict[int, list[tuple[int, int]]] = {}
        count = 0
        for segment, (_, columns) in enumerate(self.accepts.segments):
            count += len(columns[0])
            for row, ticket in enumerate(columns[0]):
                found.setdefault(ticket & TICKET_SLOT, []).append((segment, row))
        self.slots = found
        return count


class Journal:
    """Turns, newest last."""

    def __init__(self) -> None:
        self._turns: deque[_Noted] = deque()
        self._bytes = 0
        self._unweighed = False

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return self._bytes

    def note(self, accepts: Accepts) -> None:
        """A turn that was run here, or came from its home. How much it holds is said by `weigh`."""
        noted = _Noted(accepts)
        self._turns.append(noted)
        self._bytes += noted.size
        self._unweighed = True
        if self._bytes > BYTES_MAX or len(self._turns) > TURNS_MAX:
            self._trim()

    def weigh(self, size: int) -> None:
        """What has been noted since this was said last holds so many bytes."""
        if self._unweighed and self._turns:
            self._unweighed = False
            self._turns[-1].size += size
            self._bytes += size
            if self._bytes > BYTES_MAX:
                self._trim()

    def clear(self) -> None:
        """The histories that this is of are no more."""
        self._turns.clear()
        self._bytes = 0

    def _trim(self) -> None:
        turns = self._turns
        while turns and (self._bytes > BYTES_MAX or len(turns) > TURNS_MAX):
            self._bytes -= turns.popleft().size

    def since(
        self, number: int, position: int, upto: int, rows_max: int = ROWS_MAX
    ) -> tuple[list[tuple[int, list[Sequence[Any]]]], int] | None:
        """The changes of a slot behind `position`, all of one ballot, as segments of a turn; and how far they lead, to
        `upto` or short of it. None: it is not known any more, or not at once."""
        if position >> SEQUENCE_BITS != upto >> SEQUENCE_BITS:
            return None
        rows: list[tuple[_Noted, int, int]] = []
        looked = 0
        for turn in reversed(self._turns):
            if turn.slots is None:
                looked += turn.look()
                if looked > LOOKED_AT_ONCE:
                    return None
            assert turn.slots is not None, "it has been looked at"
            places = turn.slots.get(number)
            if places:
                rows += [(turn, segment, row) for segment, row in reversed(places)]
                segment, row = places[0]
                if turn.accepts.segments[segment][1][1][row] <= position + 1:
                    return _segments(reversed(rows), position, upto, rows_max)
        return None


def _segments(
    rows: Iterator[tuple[_Noted, int, int]], position: int, upto: int, rows_max: int
) -> tuple[list[tuple[int, list[Sequence[Any]]]], int] | None:
    segments: list[tuple[int, list[list[Any]]]] = []
    size = count = 0
    for turn, place, row in rows:
        process, columns = turn.accepts.segments[place]
        if columns[1][row] != position + 1:
            continue  # it was not accepted here when it came, and came again later
        if position >= upto or count >= rows_max or size >= ROWS_BYTES_MAX:
            break
        if not segments or segments[-1][0] != process:
            segments.append((process, [[] for _ in columns]))
        for column, into in zip(columns, segments[-1][1], strict=True):
            into.append(column[row])
            size += _size(column[row])
        count += 1
        position += 1
    return ([*segments], position) if count else None  # type: ignore[list-item]


def _size(item: Any) -> int:
    if type(item) is bytes:
        return len(item) + 8
    return sum(map(_size, item)) if type(item) is tuple or type(item) is list else 8
