"""A peer is another process as this one sees it: how its link stands, and what is to be sent to it this turn.

What is to be sent stands in `columns`. Operations and reads are put there in line; all else by the methods of `Peer`,
which also see to it that there is a frame for it at the end of the turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from peerkv.agreement.columns import NAMES, Columns
from peerkv.clock import Slowness

if TYPE_CHECKING:
    from peerkv.agreement.operation import Message
    from peerkv.agreement.reads import Check, Read
    from peerkv.agreement.turn import Accepts, Turn
    from peerkv.resp import Reply

_LISTS: Final = attrgetter(*NAMES)
ROWS_MAX: Final = 1024
ROWS_BYTES: Final = 1 << 20
"""Keys that are told together, and bytes of these."""


class Peer(Columns):
    """One process: a member of the topology (number > 0), or one that only coordinates (number 0)."""

    __slots__ = (
        "epoch",
        "frames_read",
        "frames_sent",
        "heard",
        "name",
        "number",
        "overdue",
        "pinged",
        "process",
        "read_at",
        "read_by_it",
        "reads_again_at",
        "reads_sent",
        "reads_waiting",
        "silent",
        "slow",
        "touched",
        "turns",
        "unread_bytes",
        "unread_since",
        "up",
        "version",
    )

    def __init__(self, process: int, name: str, touched: set[Peer] | None = None) -> None:
        """`touched`: where a peer is put that something is to be sent to, beside operations and reads."""
        Columns.__init__(self)
        self.process = process
        self.name = name
        self.number = 0
        self.touched: set[Peer] = set() if touched is None else touched
        self.up = False
        """Our link to it stands: what we send now will arrive, or the link will be reported down."""
        self.version = 0
        """The wire version of the frames between us: the newest that both speak."""
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
        self.unread_since = 0.0
        """Since when there has been a frame of ours that it has not said it has read; 0: there is none."""
        self.unread_bytes = 0
        """How much it was sent since it was last through."""
        self.slow = Slowness()
        """How long it took to say so, of late."""
        self.heard = 0.0
        self.pinged = 0.0
        """When it was last asked whether it is there, as nothing had come from it for half a hedge."""
        self.reads_again_at = 0.0
        """Reads that it has not answered are not asked of others before that: too much is asked again already."""
        self.epoch = 0
        """That it was in when it was heard last."""
        self.overdue = 0
        """The last turn of ours that it should have acknowledged by the next look."""
        self.turns: dict[int, Turn] = {}
        """Our turns as home that it has not acknowledged, in order."""
        self.reads_waiting: list[Check | Read | None] = []
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
            if self.unread_since:
                self.slow.note(now, now - max(self.unread_since, self.read_at))
            if read < self.frames_sent:
                self.unread_since = now
            else:
                self.unread_since = 0.0
                self.unread_bytes = 0
            self.read_by_it = read
            self.read_at = now

    def sends(self, now: float) -> None:
        """A frame is about to be sent to it."""
        self.frames_sent += 1
        if not self.unread_since:
            self.unread_since = now

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

    def confirm(self, sequence: int, differ: list[int], told: list[int], replies: list[Any]) -> None:
        """As owner: what of the versions that it holds differs here, which we hold, and what it had us run."""
        self.confirms.append([sequence, differ, told, replies])
        self.touched.add(self)

    def ask(self, number: int, message: Message) -> None:
        """A question, to be answered under its number."""
        self.asks.append((number, message))
        self.touched.add(self)

    def answer(self, number: int, message: Message) -> None:
        """The answer to its question of that number."""
        self.answers.append((number, message))
        self.touched.add(self)

    def publish(self, number: int, kind: int, channel: bytes, payload: bytes) -> None:
        """A message for its subscribers; it is to say how many have got it, unless the number is 0."""
        self.published += (number, kind, channel, payload)
        self.touched.add(self)

    def count(self, number: int, count: int) -> None:
        """So many have got that message of its."""
        self.heard_by += (number, count)
        self.touched.add(self)

    def tell(self, *what: Any) -> None:
        """A name and what belongs to it: something that it may want to know."""
        self.tells.append(what)
        self.touched.add(self)

    def tell_rows(self, name: str, keys: Sequence[bytes], *columns: Sequence[int]) -> None:
        """Likewise, of keys and what belongs to each, in parts: a single item is not divided between frames."""
        begin = size = 0
        for at, key in enumerate(keys):
            if at > begin and (at - begin >= ROWS_MAX or size + len(key) > ROWS_BYTES):
                self.tell(name, *[column[begin:at] for column in (keys, *columns)])
                begin, size = at, 0
            size += len(key)
        if keys:
            self.tell(name, *[column[begin:] for column in (keys, *columns)])

    def clear(self) -> None:
        """Drop what was to be sent: the link is gone, and whoever waits has been told."""
        for column in _LISTS(self):
            column.clear()
