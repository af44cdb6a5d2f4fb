"""A peer is another process as this one sees it: how its link stands, and what is to be sent to it this turn.

What is to be sent stands in **columns**: flat lists, one per kind of message, that the hot paths extend and that `wire`
turns into one frame at the end of the turn. A dataclass per message costs 0.18 us to make and 1 us to encode, a list
within a list 0.35 us to encode, an item of a flat list 0.06 us, and an integer of many in a row 0.01 us. What has no
fixed number of parts stands in a column of its own, and its count in the main one. Rare messages are dataclasses
(`asks`, `answers`, `tells`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerkv.agreement.coordinator import Check, Read
    from peerkv.agreement.turn import Turn


class Peer:
    """One process: a member of the topology (number > 0), or one that only coordinates (number 0)."""

    __slots__ = (
        "acks",
        "answers",
        "asks",
        "changes",
        "confirms",
        "done",
        "epoch",
        "forwards",
        "heard",
        "insists",
        "name",
        "number",
        "outcomes",
        "overdue",
        "probes",
        "process",
        "reads",
        "reads_sent",
        "reads_waiting",
        "replies",
        "sequence",
        "settled",
        "silent",
        "tells",
        "turns",
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
        self.epoch = 0
        """That it was in when it was heard last."""
        self.overdue = 0
        """The last turn of ours that it should have acknowledged by the next look."""
        self.forwards: list[Any] = []
        """Operations for it as home: ticket, the ticket of the operation to be run before or 0, request."""
        self.insists: list[int] = []
        """Tickets of those among them for which it is to take the slot over, whoever it believes to be home."""
        self.done: list[int] = []
        """Tickets of its operations that are done, from us as home, and ..."""
        self.replies: list[Any] = []
        """... their replies."""
        self.outcomes: list[int] = []
        """Other ends of its operations: ticket, status, the number of the member that is home (0: not known)."""
        self.changes: list[Any] = []
        """ACCEPTs for it as owner, from us as home: turn, `turn.Accepts`."""
        self.acks: list[Any] = []
        """Answers to its ACCEPTs: turn, the slots among them that we could not accept."""
        self.probes: list[int] = []
        """Are you there? Slot, position at which we are as home, whether an operation waits for that."""
        self.settled: list[int] = []
        """Slot, position that we have reached otherwise than by an ACCEPT, for it as home."""
        self.reads: list[Any] = []
        """Key and the version that we hold (0: none; -1: send the cell) of what we read from it as owner."""
        self.confirms: list[Any] = []
        """Answers to its reads: sequence, indexes of those that differ, cells asked for."""
        self.asks: list[Any] = []
        self.answers: list[Any] = []
        self.tells: list[Any] = []
        self.sequence = 0
        """Number of the last frame of reads sent to it."""
        self.turns: dict[int, Turn] = {}
        """Our turns as home that it has not acknowledged, in order."""
        self.reads_waiting: list[Check | Read] = []
        """Reads that `reads` asks about, in the same order."""
        self.reads_sent: dict[int, tuple[float, list[Any]]] = {}
        """Frames of reads that it has not answered: when they were sent, and what they asked."""

    @property
    def usable(self) -> bool:
        """Whether to ask it rather than another."""
        return self.up and not self.silent

    def clear(self) -> None:
        """Drop what was to be sent: the link is gone, and whoever waits has been told."""
        for column in (
            self.forwards,
            self.insists,
            self.done,
            self.replies,
            self.outcomes,
            self.changes,
            self.acks,
            self.probes,
            self.settled,
            self.reads,
            self.confirms,
            self.asks,
            self.answers,
            self.tells,
        ):
            column.clear()
