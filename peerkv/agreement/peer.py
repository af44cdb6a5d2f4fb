"""A peer is another process as this one sees it: how its link stands, and what is to be sent to it this turn.

What is to be sent stands in **columns**: flat lists, one per kind of message, that the hot paths extend and that `wire`
turns into one frame at the end of the turn. A dataclass per message costs 0.18 us to make and 1 us to encode, a list
within a list 0.35 us to encode, an item of a flat list 0.06 us, and an integer of many in a row 0.01 us. What has no
fixed number of parts stands in a column of its own, and its count in the main one. Rare messages are dataclasses
(`asks`, `answers`, `tells`). Operations and reads are put into their columns in line; all else by the methods of
`Peer`, which also see to it that there is a frame for it at the end of the turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerkv.agreement.coordinator import Check, Read
    from peerkv.agreement.operation import Message
    from peerkv.agreement.turn import Accepts, Turn
    from peerkv.resp import Reply


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
        "frames_read",
        "frames_sent",
        "heard",
        "insists",
        "name",
        "number",
        "outcomes",
        "overdue",
        "pinged",
        "probes",
        "process",
        "read_at",
        "read_by_it",
        "reads",
        "reads_again_at",
        "reads_sent",
        "reads_waiting",
        "replies",
        "sequence",
        "settled",
        "silent",
        "tells",
        "touched",
        "turns",
        "up",
    )

    def __init__(self, process: int, name: str, touched: set[Peer] | None = None) -> None:
        """`touched`: where a peer is put that something is to be sent to, beside operations and reads."""
        self.process = process
        self.name = name
        self.number = 0
        self.touched: set[Peer] = set() if touched is None else touched
        self.up = False
        """Our link to it stands: what we send now will arrive, or the link will be reported down."""
        self.silent = False
        """Something has been due from it for longer than a hedge, and for as long it has read nothing of ours."""
        self.frames_sent = 0
        """Frames sent to it; the number of the last one."""
        self.frames_read = 0
        """The number of the last one of its that we have read, ..."""
        self.read_by_it = 0
        """... and of the last one of ours that it has, as far as it has said, ..."""
        self.read_at = 0.0
        """... and when it said so last that it gets on with that, or is through."""
        self.heard = 0.0
        self.pinged = 0.0
        """When it was last asked whether it is there, as nothing had come from it for half a hedge."""
        self.reads_again_at = 0.0
        """Reads that it has not answered are not asked of others before that: too much is asked again already."""
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

    def heard_of(self, now: float, number: int, read: int) -> None:
        """A frame of its has come: which one it is, and which one of ours it had read then."""
        self.heard = now
        self.frames_read = number
        if read > self.read_by_it or read >= self.frames_sent:
            self.read_by_it = read
            self.read_at = now

    # -- what is to be said to it

    def insist(self, ticket: int) -> None:
        """As coordinator: for this one of the operations for it, it is to take the slot over."""
        self.insists.append(ticket)

    def offer(self, turn: int, accepts: Accepts) -> None:
        """As home: ACCEPT what was run in a turn of ours."""
        self.changes += (turn, accepts)
        self.touched.add(self)

    def acknowledge(self, turn: int, missed: list[int], *, awaited: bool) -> None:
        """As owner: a turn of its is accepted, but for the slots `missed`. If nobody awaits that, it goes with whatever
        else is to be sent."""
        self.acks += (turn, missed)
        if awaited or missed:
            self.touched.add(self)

    def probe(self, slot: int, position: int, *, urgent: bool) -> None:
        """As home: I am here, are you? `urgent`: an operation waits for that."""
        self.probes += (slot, position, urgent)
        self.touched.add(self)

    def arrive(self, slot: int, position: int) -> None:
        """As owner: our copy is here, otherwise than by an ACCEPT."""
        self.settled += (slot, position)
        self.touched.add(self)

    def report(self, tickets: Iterable[int], replies: Iterable[Reply]) -> None:
        """As home: operations of its are done."""
        self.done += tickets
        self.replies += replies
        self.touched.add(self)

    def hand_back(self, ticket: int, status: int, home: int) -> None:
        """As owner: an operation of its was not done here, or is not known to be."""
        self.outcomes += (ticket, status, home)
        self.touched.add(self)

    def confirm(self, sequence: int, differ: list[int], cells: list[Any]) -> None:
        """As owner: what of the versions that it holds differs here, and the cells that it lacks."""
        self.confirms.append([sequence, differ, cells])
        self.touched.add(self)

    def ask(self, number: int, message: Message) -> None:
        """A question, to be answered under its number."""
        self.asks.append((number, message))
        self.touched.add(self)

    def answer(self, number: int, message: Message) -> None:
        """The answer to its question of that number."""
        self.answers.append((number, message))
        self.touched.add(self)

    def tell(self, *what: Any) -> None:
        """A name and what belongs to it: something that it may want to know."""
        self.tells.append(what)
        self.touched.add(self)

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
