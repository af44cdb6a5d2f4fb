"""INFO keyspace: how many keys each database has at this node.

Of database 0 that is what there is beside the others. Keys of the others are found among all (`Copies.marked`), and
how many each database has is looked up one by one: in the call where they are few, and otherwise some at a time, so
that what is told of them is of a second ago or two, and nothing at first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from math import inf
from typing import Final, TypeAlias

from peerkv.agreement.home import Home
from peerkv.agreement.operation import Operation, Operations, Pause
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.databases import RECORDS, database_of

AT_ONCE: Final = 2000
"""Keys that are looked at in a turn: a millisecond."""
PAUSE_S: Final = 0.01
KEPT_S: Final = 1.0
"""What took more than one turn to count is told for so long."""

Counts: TypeAlias = dict[int, tuple[int, int]]
"""Database -> keys, those with a deadline (of slots that this node is home of)."""


class Keyspace:
    """Of a node."""

    def __init__(self, view: View, home: Home, operations: Operations, clock: Clock) -> None:
        self._copies = view.copies
        self._home = home
        self._operations = operations
        self._clock = clock
        self._marked: Counts = {}
        """What was found of the databases but 0, ..."""
        self._marked_at = -inf
        """... and when."""
        self._counting = False

    def counts(self) -> Counts:
        """Of each database that has keys here, in order."""
        copies = self._copies
        keys = copies.find_marked() - copies.tombstones
        marked = sum(map(len, copies.marked.values()))
        if marked <= AT_ONCE:
            self._marked = self._added({}, self._all_marked())
        elif not self._counting and self._clock.now >= self._marked_at + KEPT_S:
            self._counting = True
            self._operations.start(self._clock.now, self._count())
        found = dict(self._marked)
        keys -= sum([known for known, _ in found.values()]) if found else marked
        found.pop(RECORDS, None)
        if keys > 0:
            found[0] = keys, max(0, len(self._home.expiry) - sum([ending for _, ending in found.values()]))
        return dict(sorted(found.items()))

    def _all_marked(self) -> Iterator[tuple[int, bytes]]:
        """(slot, key) of each database but 0, while they come and go."""
        marked = self._copies.marked
        for number in list(marked):
            for key in list(marked.get(number, ())):
                yield number, key

    def _added(self, found: Counts, keys: Iterable[tuple[int, bytes]]) -> Counts:
        cells, homes = self._copies.cells, self._home.homes
        for number, key in keys:
            cell = cells[number].get(key)
            if cell is not None and cell[1] is not None:
                database = database_of(key)
                known, ending = found.get(database, (0, 0))
                found[database] = known + 1, ending + bool(cell[2] and number in homes)
        return found

    def _count(self) -> Operation:
        found: Counts = {}
        keys = self._all_marked()
        while part := list(islice(keys, AT_ONCE)):
            self._added(found, part)
            yield Pause(PAUSE_S)
        self._marked, self._marked_at, self._counting = found, self._clock.now, False
