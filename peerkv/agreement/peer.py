"""A peer is another process as this one sees it: how its link stands, and what is to be sent to it this turn.

What is to be sent stands in **columns**: flat lists, one per kind of message, that the hot paths extend and that `wire`
turns into one frame at the end of the turn. A dataclass per message costs 0.18 us to make and 1 us to encode, twice per
operation and owner; five items of a flat list cost 0.1 us and 0.2 us. Rare messages are dataclasses (`asks`, `answers`,
`tells`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerkv.agreement.coordinator import Read


class Peer:
    """One process: a member of the topology (number > 0), or one that only coordinates (number 0)."""

    __slots__ = (
        "accepts",
        "acks",
        "answers",
        "asks",
        "confirms",
        "forwards",
        "heard",
        "name",
        "number",
        "outcomes",
        "process",
        "reads",
        "reads_sent",
        "reads_waiting",
        "sequence",
        "silent",
        "tells",
        "up",
    )

    def __init__(self, process: int, name: str, number: int = 0) -> None:
        self.process = process
        self.name = name
        self.number = number
        self.up = False
        """Our link to it stands: what we send now will arrive, or the link will be reported down."""
        self.silent = False
        """It has let a request wait for longer than a hedge, and nothing has been heard from it since."""
        self.heard = 0.0
        self.forwards: list[Any] = []
        """Operations for it as home: counter, slot, request."""
        self.outcomes: list[Any] = []
        """Ends of its operations, from us as home: counter, status, reply."""
        self.accepts: list[Any] = []
        """Changes for it as owner, from us as home: slot, from, to, changes, ids (process, counter, reply ...)."""
        self.acks: list[int] = []
        """Slot and position that we have accepted from it as home."""
        self.reads: list[Any] = []
        """Key and the version that we hold (0: none; -1: send the cell) of what we read from it as owner."""
        self.confirms: list[Any] = []
        """Answers to its reads: sequence, indexes of those that differ, cells asked for."""
        self.asks: list[Any] = []
        self.answers: list[Any] = []
        self.tells: list[Any] = []
        self.sequence = 0
        """Number of the last frame of reads sent to it."""
        self.reads_waiting: list[Read] = []
        """Reads that `reads` asks about, in the same order."""
        self.reads_sent: dict[int, tuple[float, list[Read]]] = {}
        """Frames of reads that it has not answered: when they were sent, and what they asked."""

    @property
    def usable(self) -> bool:
        """Whether to ask it rather than another."""
        return self.up and not self.silent

    def clear(self) -> None:
        """Drop what was to be sent: the link is gone, and whoever waits has been told."""
        for column in (self.forwards, self.outcomes, self.accepts, self.acks, self.reads, self.confirms, self.asks):
            column.clear()
        self.answers.clear()
        self.tells.clear()
