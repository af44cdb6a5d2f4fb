"""Operations that their coordinators may still repeat, and what they answered: so that none is run twice.

Bounds: a coordinator's mark follows its oldest operation under way, and what is older goes with the next trim, which
looks at all of it whenever there is twice as much as it left, or `note_traffic` has told it of some MiB. Where a mark
stands still, long replies beyond `BYTES_MAX` in all are dropped, oldest first; that the operations were run stays
known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from peerkv.resp import Reply, ReplyError

OperationId: TypeAlias = tuple[int, int]
"""(process of the coordinator, ticket): the same however often and to whomever the operation is sent."""

TRIM_LEAST: Final = 256
LITTLE: Final = 4096
"""So many are looked at in a fifth of a millisecond."""
TRIM_BYTES: Final = 4 << 20
"""A look at all that is remembered is due when so many bytes have gone over the links since the last one."""
BYTES_MAX: Final = 64 << 20
"""Replies that are remembered, in all."""
LONG_BYTES: Final = 1024
"""Shorter replies are never dropped: they are hardly more than the entry."""
DROPPED: Final = ReplyError("ERR the change was made, but what it answered was too long to be kept for a repetition")
TICKET_SLOT_BITS: Final = 14
"""An operation's ticket is its coordinator's counter << TICKET_SLOT_BITS | its slot: later operations have higher
tickets. One integer, as a hundred thousand tuples a second would keep the garbage collector busy."""
TICKET_SLOT: Final = (1 << TICKET_SLOT_BITS) - 1
"""ticket & TICKET_SLOT is the slot."""


class Recent(dict[int, dict[int, Reply]]):
    """Per coordinator (process): ticket -> reply, of the operations of every slot that this node has a copy of.

    What a slot remembers is a part of its history and travels with its copy; it is kept by coordinator, as that is how
    it is found and how it is forgotten: a coordinator's mark passes thousands of operations at once. Where copies
    travel there is an index by slot. Whoever remembers an operation need not know of it: what has come since the index
    was made stands at the ends of the dicts.
    """

    __slots__ = ("_by_slot", "_indexed", "_kept", "_traffic", "_used")

    def __init__(self) -> None:
        super().__init__()
        self._kept = 0
        """How many there were after the last trim."""
        self._traffic = 0
        self._by_slot: dict[int, list[int]] = {}
        """Flat: process, ticket."""
        self._indexed: dict[int, int] = {}
        """Of each process how many are in the index: the first ones."""
        self._used = False
        """The index was asked since the last trim."""

    def __missing__(self, process: int) -> dict[int, Reply]:
        made: dict[int, Reply] = {}
        self[process] = made
        return made

    def of_slot(self, number: int, marks: Mapping[int, int]) -> list[Any]:
        """Flat: process, ticket, reply of what that slot remembers."""
        self.trim(marks)
        entries = iter(self._index().get(number, ()))
        return [
            item
            for process, ticket in zip(entries, entries, strict=True)
            for item in (process, ticket, self[process][ticket])
        ]

    def tickets_of(self, number: int, process: int) -> list[int]:
        """What that slot remembers of one coordinator."""
        entries = iter(self._index().get(number, ()))
        return [ticket for coordinator, ticket in zip(entries, entries, strict=True) if coordinator == process]

    def _index(self) -> dict[int, list[int]]:
        """The index, with what has come since it was asked last."""
        self._used = True
        by_slot, indexed = self._by_slot, self._indexed
        for process, operations in self.items():
            new = len(operations) - indexed.get(process, 0)
            if new:
                indexed[process] = len(operations)
                tickets = list(islice(reversed(operations), new))
                for ticket in reversed(tickets):
                    by_slot.setdefault(ticket & TICKET_SLOT, []).extend((process, ticket))
        return by_slot

    def _drop_index(self) -> None:
        self._by_slot = {}
        self._indexed = {}
        self._used = False

    def forget(self, forgotten: Collection[int]) -> None:
        """These slots' histories are no longer ours."""
        if len(forgotten) == 1:
            (number,) = forgotten
            entries = iter(self._index().pop(number, ()))
            for process, ticket in zip(entries, entries, strict=True):
                del self[process][ticket]
                self._indexed[process] -= 1
        elif forgotten:
            self._drop_index()
            for process, operations in self.items():
                self[process] = {
                    ticket: reply for ticket, reply in operations.items() if ticket & TICKET_SLOT not in forgotten
                }

    def note_traffic(self, size: int) -> None:
        """So many bytes have come or gone: replies may be among them."""
        self._traffic += size

    def trim(self, marks: Mapping[int, int], gone: Collection[int] = (), *, at_leisure: bool = False) -> None:
        """Drop what is older than its coordinator's mark, or of processes that are gone for good. Cheap to ask for, as
        it looks at all of it only when that is due; `at_leisure`: also where there is little."""
        for process in gone:
            if self.pop(process, None) is not None:
                self._drop_index()
        count = sum(map(len, self.values()))
        due = count >= 2 * self._kept + TRIM_LEAST or self._traffic >= TRIM_BYTES
        if not (due or (at_leisure and 0 < count <= LITTLE)):
            return
        for process, operations in list(self.items()):
            mark = marks.get(process, 0)
            kept = {ticket: reply for ticket, reply in operations.items() if ticket >= mark}
            if kept:
                self[process] = kept
            else:
                del self[process]
        self._kept = sum(map(len, self.values()))
        if self._traffic >= TRIM_BYTES:
            self._traffic = 0
            self._drop_long()
        used = self._used
        self._drop_index()
        if used:
            self._index()
            self._used = False

    def _drop_long(self) -> None:
        long = [
            (ticket, process, len(reply))
            for process, operations in self.items()
            for ticket, reply in operations.items()
            if type(reply) is bytes and len(reply) > LONG_BYTES
        ]
        excess = sum([size for _, _, size in long]) - BYTES_MAX
        for ticket, process, size in sorted(long) if excess > 0 else ():
            if excess <= 0:
                break
            self[process][ticket] = DROPPED
            excess -= size
