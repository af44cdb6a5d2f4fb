"""Cells as several commands see them that are run one after another, while the cells themselves stay as they are.

What a command wants done is noted; whoever looks at a key sees what that makes of it. A collection is copied only if a
later command looks at what an earlier one has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, overload

from peerkv.store.cell import Cell, Cells, Change
from peerkv.store.events import KeyEvent, expired
from peerkv.store.values import MOVE, OF_OTHERS, Body, Collection, Patch, Value, derived, patched
from peerkv.store.values.held import Held

_Default = TypeVar("_Default")


class Elsewhere(BaseException):
    """A key was looked at that is not among these cells; what was begun is to be begun anew where it is. (No
    `Exception`, so that nobody on the way takes it for a fault.)"""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


class Occupied(BaseException):
    """Likewise, one that a transaction holds."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


class Unlisted(BaseException):
    """Likewise: a command wants all keys that match a pattern, in a database."""

    def __init__(self, pattern: bytes, database: int) -> None:
        super().__init__(pattern, database)
        self.pattern = pattern
        self.database = database


Listed: TypeAlias = Mapping[tuple[bytes, int], Sequence[bytes]]
"""Per pattern and database the keys of the cluster that match, as their clients know them."""


class Overheard(Mapping[bytes, Cell]):
    """Cells of which somebody wants to know what each of several commands does to them."""

    __slots__ = ("_cells", "events")

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self.events: list[KeyEvent] = []
        """What there is to tell of it, in order."""

    def get(self, key: bytes, default: Any = None, /) -> Any:
        return self._cells.get(key, default)

    def __getitem__(self, key: bytes) -> Cell:
        return self._cells[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


class Scratch(Mapping[bytes, Cell]):
    """For the commands of one transaction or script; `changes` are all that they have made, in order."""

    __slots__ = (
        "_cells",
        "_elsewhere",
        "_now",
        "_own",
        "_patches",
        "at_leisure",
        "changes",
        "events",
        "listed",
        "said",
    )

    def __init__(
        self,
        cells: Cells,
        now: int,
        elsewhere: Callable[[bytes], bool] | None = None,
        *,
        at_leisure: bool = False,
        listed: Listed | None = None,
        observed: bool = False,
    ) -> None:
        """`elsewhere`: whether a key is of other cells; without it that is seen to by `cells`. `observed`: somebody
        wants to know the events; likewise."""
        self.at_leisure = at_leisure
        """Nobody waits for the commands but who has asked for them: they may take their time."""
        self.said: list[tuple[int, bytes, bytes]] = cells.said if isinstance(cells, Scratch) else []
        """Messages that are to be published once it has happened: kind, channel, message."""
        self.listed: Listed = cells.listed if isinstance(cells, Scratch) else listed or {}
        self.events: list[KeyEvent] | None = cells.events if isinstance(cells, (Overheard, Scratch)) else None
        """What there is to tell of the commands, in order, if somebody observes."""
        if observed and self.events is None:
            self.events = []
        self._cells = cells
        self._now = now
        self._elsewhere = elsewhere
        self._own: dict[bytes, Cell] = {}
        """What is seen instead."""
        self._patches: dict[bytes, list[tuple[Patch, int]]] = {}
        """What nobody has looked at since."""
        self.changes: list[Change] = []

    # -- what commands see

    @overload
    def get(self, key: bytes, default: None = None, /) -> Cell | None: ...

    @overload
    def get(self, key: bytes, default: Cell | _Default, /) -> Cell | _Default: ...

    def get(self, key: bytes, default: Any = None, /) -> Any:
        if key in self._patches:
            self._settle(key)
        cell = self._own.get(key)
        if cell is None:
            cell = self._first_look(key)
        return cell if cell is not None else default

    def __getitem__(self, key: bytes) -> Cell:
        cell = self.get(key)
        if cell is None:
            raise KeyError(key)
        return cell

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self.get(key) is not None

    def __iter__(self) -> Iterator[bytes]:
        yield from self._own
        yield from (key for key in self._cells if key not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _first_look(self, key: bytes) -> Cell | None:
        if self._elsewhere is not None and self._elsewhere(key):
            raise Elsewhere(key)
        cell = self._cells.get(key)
        if cell is None:
            return None
        if type(cell[1]) is Held:
            raise Occupied(key)
        if 0 < cell[2] <= self._now and cell[1] is not None:  # nobody sees it again (protocol rule X2)
            self.changes.append((key, None, 0))
            if self.events is not None:
                self.events.append(expired(key))
            cell = self._own[key] = cell[0], None, 0
        return cell

    def _settle(self, key: bytes) -> None:
        patches = self._patches.pop(key)
        cell = self._own.get(key)
        if cell is not None:
            value = cell[1]
        else:
            cell = self._cells.get(key)
            value = cell[1] if cell is not None else None
            if isinstance(value, Collection):
                value = value.copy()
        for body, _ in patches:
            value = patched(value, body)
        self._own[key] = 0, value, patches[-1][1] if value is not None else 0

    def matching(self, pattern: bytes, database: int) -> Sequence[bytes]:
        """The keys of the whole cluster that match. Raises Unlisted as long as nobody has listed them."""
        found = self.listed.get((pattern, database))
        if found is None:
            raise Unlisted(pattern, database)
        return found

    # -- what they do

    def apply(self, changes: Sequence[Change]) -> None:
        """A command has made these."""
        for key, body, deadline in changes:
            self._apply(key, body, deadline)
        self.changes += changes

    def _apply(self, key: bytes, body: Body, deadline: int) -> None:
        if key not in self._own and key not in self._patches:
            self._first_look(key)
        if type(body) is tuple and body[0] in OF_OTHERS:
            self._patches.pop(key, None)
            self._own[key] = 0, self._taken(body), deadline
        elif isinstance(body, tuple):
            self._patches.setdefault(key, []).append((body, deadline))
        else:
            self._patches.pop(key, None)
            self._own[key] = 0, body, deadline

    def _taken(self, body: Patch) -> Value | None:
        value = derived(self._value, body)
        is_theirs = body[0] == MOVE and body[1] not in self._own
        return value.copy() if is_theirs and isinstance(value, Collection) else value

    def _value(self, key: bytes) -> Value | None:
        cell = self.get(key)
        return cell[1] if cell is not None else None

    def travelling(self) -> list[Change]:
        """The changes so that none of them takes what another key holds, which may be in another slot."""
        if not any(type(body) is tuple and body[0] in OF_OTHERS for _, body, _ in self.changes):
            return self.changes
        replay = Scratch(self._cells, self._now)
        found: list[Change] = []
        for key, body, deadline in self.changes:
            if type(body) is tuple and body[0] in OF_OTHERS:
                found += _as_parts(key, replay._taken(body), deadline)
            else:
                found.append((key, body, deadline))
            replay.apply([(key, body, deadline)])
        return found


def _as_parts(key: bytes, value: Value | None, deadline: int) -> list[Change]:
    """Changes that put a value, whatever is there."""
    if isinstance(value, Collection):
        return [(key, None, 0), *((key, part, deadline) for part in value.parts())]
    return [(key, value, deadline if value is not None else 0)]
