"""What a home has run in one turn of the node, as the other owners are to accept it: columns, and whom to tell.

Group (slots with the same other owners) -> Turn -> Segments (of one coordinator each) -> Rows (one operation each)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from peerkv.cbor import FORMER
from peerkv.kernel.batches import Rows
from peerkv.store.recent import TICKET_SLOT

if TYPE_CHECKING:
    from peerkv.agreement.notices import Notice
    from peerkv.agreement.peer import Peer

ROW: Final = 6
"""Of `kernel.batches.Rows`."""
_NONE: Final[dict[int, list[int]]] = {}


class Segment:
    """Operations of one coordinator, one after another in the order in which a turn's changes were made."""

    __slots__ = ("origin", "process", "recipes", "rows")

    def __init__(self, origin: Peer, process: int) -> None:
        self.origin = origin
        """Who is to be told of their ends."""
        self.process = process
        """Its process, where they are to be remembered; 0: these have changed nothing that a repetition could."""
        self.rows: Rows = []
        self.recipes: list[int] | None = None
        """The rows whose replies their owners have already: what the key held before (rule A7)."""

    def is_former(self) -> None:
        """The reply of the row that was added last is what its key held before."""
        if self.recipes is None:
            self.recipes = []
        self.recipes.append(len(self.rows) // ROW - 1)

    def columns(self) -> list[Sequence[Any]]:
        """For the other owners, with recipes where they do."""
        rows = self.rows
        if not self.process:
            return [rows[column::ROW] for column in range(ROW - 1)]
        columns = [rows[column::ROW] for column in range(ROW)]
        for place in self.recipes or ():
            columns[-1][place] = FORMER
        return columns  # type: ignore[return-value]


class Accepts:
    """ACCEPTs of one turn, as columns."""

    __slots__ = ("awaited", "marks", "recipes", "segments", "starts")

    def __init__(
        self,
        segments: list[tuple[int, list[Sequence[Any]]]],
        starts: dict[int, int],
        marks: dict[int, int],
        recipes: dict[int, list[int]] = _NONE,
        *,
        awaited: bool,
    ) -> None:
        self.segments = segments
        """(process, [tickets, positions, keys, values, deadlines, replies]), or (0, all but the replies); see `Segment`
        and `Rows`."""
        self.starts = starts
        """Where the first change of a ballot begins, per slot; every other begins one position before its own."""
        self.marks = marks
        """The marks of the coordinators whose operations these are: who has the effect of one knows what it is never
        to run any more (protocol rule T4)."""
        self.recipes = recipes
        """Per segment (its place) those of its replies that are `FORMER`; only where there are any."""
        self.awaited = awaited
        """Somebody waits for the acknowledgement; otherwise it can go with whatever else is to be sent."""


class Group:
    """The other owners of some slots of ours: as these are the same, so is what they are to accept."""

    __slots__ = ("pair", "peers", "turn")

    def __init__(self, peers: tuple[Peer, ...], pair: bool) -> None:
        self.peers = peers
        self.pair = pair
        """Any one of them and we are a quorum."""
        self.turn: Turn | None = None
        """What was run in this turn of the node."""

    def learns(self, segment: Segment) -> bool:
        """Whether the coordinator learns the outcome from the change (rule A3)."""
        return self.pair and segment.process != 0 and segment.origin in self.peers


class Turn:
    """What a group is to accept of one turn, and whom to tell."""

    __slots__ = ("accepted", "at", "ended", "learned", "notices", "number", "pair", "segments", "starts")

    def __init__(self, number: int, pair: bool, at: float) -> None:
        self.number = number
        self.at = at
        """When it was begun."""
        self.accepted = False
        """Some owner has accepted all of it."""
        self.pair = pair
        self.segments: list[Segment] = []
        self.starts: dict[int, int] = {}
        self.ended: list[Segment] = []
        """Those whose coordinators are to be told once a quorum has accepted them. All of a turn, as in the usual case
        one owner's acknowledgement is good for all; those for which it is not wait slot by slot in `Home.waiting`."""
        self.learned: list[Segment] = []
        """Those whose coordinators learn that from the changes (A3), if they accept them."""
        self.notices: list[Notice] | None = None
        """What there is to tell of it."""

    @property
    def a_slot(self) -> int:
        """One of its slots; all have the same owners."""
        return int(self.segments[0].rows[0]) & TICKET_SLOT

    def segment(self, origin: Peer, process: int) -> Segment:
        """Where to put what was run next."""
        segments = self.segments
        if segments:
            last = segments[-1]
            if last.origin is origin and last.process == process:
                return last
        segment = Segment(origin, process)
        segments.append(segment)
        return segment

    def accepts(self, marks: Mapping[int, int]) -> Accepts:
        """For the other owners; `marks` of all coordinators."""
        awaited = bool(self.ended) or not self.pair or bool(self.notices)
        columns = [(segment.process, segment.columns()) for segment in self.segments]
        told = {process: marks[process] for process, _ in columns if process in marks}
        recipes = {place: segment.recipes for place, segment in enumerate(self.segments) if segment.recipes}
        return Accepts(columns, self.starts, told, recipes or _NONE, awaited=awaited)

    def positions(self) -> dict[int, int]:
        """How far it leads, per slot."""
        return {
            ticket & TICKET_SLOT: to
            for segment in self.segments
            for ticket, to in zip(segment.rows[::ROW], segment.rows[1::ROW], strict=True)
        }
