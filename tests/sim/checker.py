"""Do the copies of all nodes tell one history? Looked at with every change, so that a seed fails at the cause.

What a node holds is replaced by lists and dicts that note what is written: `positions[slot] = to` begins a change, and
the cells written under that version belong to it. At the end of the turn the change must be the one that every other
node has at that position of that slot, values included. What comes with a fetched copy must be what was written at its
version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, TypeAlias

from peerkv.kernel.slot import Copies
from peerkv.store.cell import SEQUENCE_BITS, Cell, describe_position
from peerkv.store.values import Collection, Value

if TYPE_CHECKING:
    from peerkv.node import Node

KEPT_BYTES_MAX: Final = 64
"""Of a longer value length and hash are kept."""

Written: TypeAlias = tuple[bytes, Any, int]
"""(key, value or what is kept of it, deadline)"""


class Violation(Exception):
    """What must hold does not."""


class History:
    """Every change that any node has made or taken over: of each slot one at a position."""

    def __init__(self) -> None:
        self._changes: dict[tuple[int, int, int], tuple[tuple[Written, ...], str]] = {}
        """(cluster, slot, position) -> what was written, and who was the first."""
        self._cells: dict[tuple[int, int, int, bytes], tuple[Written, str]] = {}

    def __len__(self) -> int:
        return len(self._changes)

    def change(self, who: str, cluster: int, slot: int, position: int, written: Iterable[Written]) -> None:
        """A node has made or accepted a change."""
        change = tuple(written)
        known, first = self._changes.setdefault((cluster, slot, position), (change, who))
        if known != change:
            raise Violation(f"slot {slot} at {describe_position(position)}: {first} has {known}, {who} has {change}")
        for cell in {cell[0]: cell for cell in change}.values():  # of a key that is written twice, what it holds then
            self.cell(who, cluster, slot, position, cell)

    def cell(self, who: str, cluster: int, slot: int, version: int, written: Written) -> None:
        """A node holds a cell of this version."""
        known, first = self._cells.setdefault((cluster, slot, version, written[0]), (written, who))
        if known != written:
            raise Violation(
                f"slot {slot}, version {describe_position(version)}: {first} has {known}, {who} has {written}"
            )


class Checked:
    """One node's copies, watched."""

    def __init__(self, history: History, name: str) -> None:
        self.history = history
        self.name = name
        self.begun: dict[int, dict[int, list[Written]]] = {}
        """By slot and position what the changes of this turn have written."""
        self.installed: dict[int, dict[bytes, tuple[int, Any, int]]] = {}
        """Copies that were put in place in this turn, and what is kept of their values, which may be changed in it."""

    def copies(self, count: int) -> Copies:
        """In place of those that a node would make for itself."""
        copies = Copies(count)
        copies.positions = _Positions(self, copies.positions)
        copies.promised = _Promised(self, copies.promised)
        copies.cells = _CellsBySlot(self, copies.cells)
        return copies

    def end_turn(self, node: Node) -> None:
        """Compare what this turn has written with what others have."""
        topology = node.topology
        if topology is None or not (self.begun or self.installed):
            return
        cluster, copies = topology.cluster_id, node.view.copies
        begun, self.begun = self.begun, {}
        installed, self.installed = self.installed, {}
        for slot, changes in begun.items():
            for position, written in changes.items():
                self.history.change(self.name, cluster, slot, position, written)
            home = node.home.homes.get(slot)
            if home is not None and home.ballot != copies.promised[slot]:
                raise Violation(f"{self.name} is home of slot {slot} under a ballot that its copy has not promised")
        for slot, cells in installed.items():
            for key, (version, value, deadline) in cells.items():
                self.history.cell(self.name, cluster, slot, version, (key, value, deadline))

    def look(self, node: Node) -> None:
        """What must hold between turns, of every slot."""
        copies = node.view.copies
        for slot, home in node.home.homes.items():
            if home.ballot != copies.promised[slot]:
                raise Violation(f"{self.name} is home of slot {slot} under {home.ballot}, not {copies.promised[slot]}")
        columns = zip(copies.slots, copies.positions, copies.promised, copies.cells, strict=True)
        for number, (slot, position, promised, cells) in enumerate(columns):
            if position >> SEQUENCE_BITS > promised:
                raise Violation(f"{self.name}'s copy of slot {number} is beyond what it has promised")
            if not cells and slot is not None and not slot.tombstones:  # most of them
                continue
            if cells and max([cell[0] for cell in cells.values()]) > position:
                raise Violation(f"{self.name}'s copy of slot {number} has versions beyond its position")
            if slot is None:
                if position or cells:
                    raise Violation(f"{self.name} has something of slot {number} without a copy")
            elif slot.tombstones != {key: cell[0] for key, cell in cells.items() if cell[1] is None}:
                raise Violation(f"{self.name}'s tombstones of slot {number} are not those of its cells")


class _Positions(list[int]):
    """Copies' positions; writing one begins a change."""

    def __init__(self, checked: Checked, positions: list[int]) -> None:
        super().__init__(positions)
        self._checked = checked

    def __setitem__(self, slot: SupportsIndex | slice, to: Any) -> None:
        assert isinstance(slot, int), "positions are written one by one"
        super().__setitem__(slot, to)
        if to:
            self._checked.begun.setdefault(slot, {}).setdefault(to, [])


class _Promised(list[int]):
    """Copies' promises, which never fall."""

    def __init__(self, checked: Checked, promised: list[int]) -> None:
        super().__init__(promised)
        self._checked = checked

    def __setitem__(self, slot: SupportsIndex | slice, ballot: Any) -> None:
        assert isinstance(slot, int), "promises are given one by one"
        if ballot and ballot < self[slot]:
            raise Violation(f"{self._checked.name} falls behind its promise of slot {slot}")
        super().__setitem__(slot, ballot)


class _CellsBySlot(list[dict[bytes, Cell]]):
    """Copies' cells; putting others in their place is no change, but brings what was written elsewhere."""

    def __init__(self, checked: Checked, cells: list[dict[bytes, Cell]]) -> None:
        super().__init__([_Cells(checked, slot, {}) for slot in range(len(cells))])
        self._checked = checked

    def __setitem__(self, slot: SupportsIndex | slice, cells: Any) -> None:
        assert isinstance(slot, int), "copies are installed one by one"
        checked = self._checked
        checked.begun.pop(slot, None)
        super().__setitem__(slot, _Cells(checked, slot, cells))
        checked.installed[slot] = {key: (cell[0], _kept(cell[1]), cell[2]) for key, cell in cells.items()}


class _Cells(dict[bytes, Cell]):
    """The cells of one copy."""

    def __init__(self, checked: Checked, slot: int, cells: dict[bytes, Cell]) -> None:
        super().__init__(cells)
        self._checked = checked
        self._slot = slot

    def __setitem__(self, key: bytes, cell: Cell) -> None:
        version, value, deadline = cell
        begun = self._checked.begun.get(self._slot)
        if begun is None or version not in begun:
            raise Violation(f"{self._checked.name} writes a cell of slot {self._slot} at no position of its own")
        begun[version].append((key, _kept(value), deadline))
        super().__setitem__(key, cell)

    def __delitem__(self, key: bytes) -> None:
        if self[key][1] is not None:
            raise Violation(f"{self._checked.name} drops {key!r}, which is no tombstone")
        super().__delitem__(key)


def _kept(value: Value | None) -> Any:
    if isinstance(value, Collection):
        return value.TYPE, len(value), hash(tuple(value.parts()))
    return value if value is None or len(value) <= KEPT_BYTES_MAX else (len(value), hash(value))
