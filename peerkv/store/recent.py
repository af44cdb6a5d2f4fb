"""Operations that their coordinators may still repeat, and what they answered: so that none is run twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeAlias

from peerkv.resp import Reply

OperationId: TypeAlias = tuple[int, int]
"""(process of the coordinator, ticket): the same however often and to whomever the operation is sent."""

TRIM_LEAST: Final = 256
TICKET_SLOT_BITS: Final = 14
"""An operation's ticket is its coordinator's counter << TICKET_SLOT_BITS | its slot: later operations have higher
tickets. One integer, as a hundred thousand tuples a second would keep the garbage collector busy."""
TICKET_SLOT: Final = (1 << TICKET_SLOT_BITS) - 1
"""ticket & TICKET_SLOT is the slot."""


class Recent(dict[int, dict[int, Reply]]):
    """Per coordinator (process): ticket -> reply, of the operations of every slot that this node has a copy of.

    What a slot remembers is a part of its history and travels with its copy; it is kept by coordinator, as that is how
    it is found and how it is forgotten: a coordinator's mark passes thousands of operations at once.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        super().__init__()
        self._kept = 0
        """How many there were after the last trim."""

    def __missing__(self, process: int) -> dict[int, Reply]:
        made: dict[int, Reply] = {}
        self[process] = made
        return made

    def of_slot(self, number: int, marks: Mapping[int, int]) -> list[Any]:
        """Flat: process, ticket, reply of what that slot remembers."""
        self.trim(marks)
        return [
            item
            for process, operations in self.items()
            for ticket, reply in operations.items()
            if ticket & TICKET_SLOT == number
            for item in (process, ticket, reply)
        ]

    def forget(self, forgotten: Collection[int]) -> None:
        """These slots' histories are no longer ours."""
        if forgotten:
            for process, operations in self.items():
                self[process] = {
                    ticket: reply for ticket, reply in operations.items() if ticket & TICKET_SLOT not in forgotten
                }

    def trim(self, marks: Mapping[int, int], gone: Collection[int] = ()) -> None:
        """Drop what is older than its coordinator's mark, or of processes that are gone for good. Cheap to ask for:
        it looks at all only once there are twice as many as it left the last time."""
        for process in gone:
            self.pop(process, None)
        if sum(map(len, self.values())) < 2 * self._kept + TRIM_LEAST:
            return
        for process, operations in list(self.items()):
            mark = marks.get(process, 0)
            kept = {ticket: reply for ticket, reply in operations.items() if ticket >= mark}
            if kept:
                self[process] = kept
            else:
                del self[process]
        self._kept = sum(map(len, self.values()))
