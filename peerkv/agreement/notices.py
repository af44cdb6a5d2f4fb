"""What is told of changes to who observes keys, once for each, although homes die (rules N1 to N4).

Only the home of a slot sees what was there before a change, what was asked for, and what came of it; so it makes the
**notices**. It tells them when the change is chosen, so that whoever hears of it and reads, wherever, sees it. Until
then, and until what it has told is on its way, the other owners keep them, too: they tell them when they lose the home.
(A coordinator could not stand in for it: one that is an owner knows of the end from the change itself, by rule A3, and
repeats nothing when the home dies.)

Nothing of this is done, or looked at, while nobody observes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeAlias

from peerkv.metrics import counter
from peerkv.resp import Reply
from peerkv.store.cell import Cells, Change
from peerkv.store.events import KeyEvent, expired

if TYPE_CHECKING:
    from peerkv.agreement.peer import Peer
    from peerkv.agreement.progress import HomeSlot
    from peerkv.agreement.view import View

NOTICES_MAX: Final = 1 << 16
BYTES_MAX: Final = 16 << 20
"""Of what this node as home has not told, and once more of what it keeps for others. What is beyond is told before it
is known to be chosen, or is not kept, oldest first."""
NOTICE_BYTES: Final = 128
"""Of one, beside its keys."""

Notice: TypeAlias = tuple[int, int, Sequence[bytes], Sequence[KeyEvent]]
"""(process of the coordinator, ticket, keys that are changed, events): of one operation; of what no client has asked
for, such as expiry, the process and the ticket are 0."""

Derive: TypeAlias = Callable[
    [Cells, Sequence[bytes], Sequence[Change], Reply, int], tuple[Sequence[bytes], Sequence[KeyEvent]]
]
"""`(cells before, request, changes, reply, now)` -> keys that are changed, events. Pure."""


def _nothing(*_: object) -> tuple[Sequence[bytes], Sequence[KeyEvent]]:
    return (), ()


@dataclass(slots=True)
class Counters:
    """Of a node."""

    told: int = counter("notices_told", "changes that this node has told observers of")
    told_early: int = counter(
        "notices_told_early", "... before they were known to be chosen, as too many waited for that"
    )
    stood_in: int = counter("notices_told_for_others", "... in the place of homes that were lost")
    dropped: int = counter("notices_dropped", "changes of other homes that were too many to be kept")


class Notices:
    """Of a node, as home and as owner."""

    def __init__(self, view: View) -> None:
        self.on = False
        """Somebody in the cluster observes: `classes` or `keys` says what is to be told."""
        self.classes = 0
        """Of events."""
        self.misses = False
        """Reads of keys that are not there are among these: then they are operations, too."""
        self.keys = False
        """Which keys are changed."""
        self.derive: Derive = _nothing
        """What there is to tell of an operation; set by the node."""
        self.several: Collection[bytes] = ()
        """Names of requests that run several commands; likewise."""
        self.listeners: list[Callable[[Sequence[Notice]], None]] = []
        """Told what is to be told, and ..."""
        self.on_early: Callable[[Sequence[Notice]], None] = lambda _notices: None
        """... what of that is not known to be chosen; both set by `clients`."""
        self.untold: dict[HomeSlot, deque[tuple[int, int, Notice]]] = {}
        """(position, turn, notice) of what a quorum has not accepted, as far as is known."""
        self.counters = Counters()
        self._logged = 0, 0
        """How many had been told early, and dropped, at the last look."""
        self._view = view
        self._count = self._size = 0
        """Of what is untold."""
        self._offered: dict[Peer, int] = {}
        """Up to which turn owners keep notices of ours."""
        self._told_upto = 0
        """All notices up to that turn had been told at the last look."""
        self._kept: dict[Peer, deque[tuple[int, Notice]]] = {}
        """What others, as homes, may not have told: (turn, notice)."""
        self._kept_count = self._kept_size = 0

    # -- as home

    def of(
        self,
        process: int,
        ticket: int,
        cells: Cells,
        request: Sequence[bytes],
        changes: Sequence[Change],
        reply: Reply,
        now: int,
    ) -> Notice | None:
        """What there is to tell of an operation that has been run on these cells, and not applied."""
        return self._wanted(process, ticket, *self.derive(cells, request, changes, reply, now))

    def expired(self, key: bytes) -> Notice | None:
        """Likewise of a key that has expired."""
        return self._wanted(0, 0, (key,), (expired(key),))

    def _wanted(self, process: int, ticket: int, keys: Sequence[bytes], events: Sequence[KeyEvent]) -> Notice | None:
        classes = self.classes
        wanted = [event for event in events if event[0] & classes]
        if not self.keys:
            keys = ()
        return (process, ticket, keys, wanted) if keys or wanted else None

    def note(self, home: HomeSlot, position: int, turn: int, notice: Notice) -> None:
        """That is to be told when a quorum has accepted the position."""
        self.untold.setdefault(home, deque()).append((position, turn, notice))
        self._count += 1
        self._size += size_of(notice)
        while self._count > NOTICES_MAX or self._size > BYTES_MAX:
            self.counters.told_early += 1
            first = next(iter(self.untold))
            self._tell_early([self._taken(first, self.untold[first])])

    def _taken(self, home: HomeSlot, queue: deque[tuple[int, int, Notice]]) -> Notice:
        notice = queue.popleft()[2]
        self._count -= 1
        self._size -= size_of(notice)
        if not queue:
            del self.untold[home]
        return notice

    def chosen(self, home: HomeSlot, position: int) -> None:
        """A quorum has accepted that position of a slot that is in `untold`."""
        queue = self.untold[home]
        found: list[Notice] = []
        while queue and queue[0][0] <= position:
            found.append(self._taken(home, queue))
        self._tell(found)

    def drop(self, home: HomeSlot) -> None:
        """We are home of it no more, and nobody will say what is chosen: it is told, as it may be."""
        queue = self.untold.get(home)
        if queue:
            self._tell_early([self._taken(home, queue) for _ in range(len(queue))])

    def offered(self, peer: Peer, turn: int, notices: Sequence[Notice]) -> None:
        """An owner is to keep these until they are told."""
        self._offered[peer] = turn
        peer.tell("notices", turn, [[*notice[:3], [*chain(*notice[3])]] for notice in notices])

    def look(self, turn: int) -> str:
        """Say to owners which notices they need keep no more; `turn`: the last one. To be called now and then: what is
        told is on its way by the next time. Returns what is to be logged of what was beyond bounds, if anything."""
        upto, self._told_upto = self._told_upto, min([queue[0][1] - 1 for queue in self.untold.values()], default=turn)
        for peer, offered in list(self._offered.items()):
            if peer.up:
                peer.tell("told", upto)
            if (peer.up and offered <= upto) or peer.process not in self._view.peers:
                del self._offered[peer]
        beyond = self.counters.told_early, self.counters.dropped
        early, dropped = beyond[0] - self._logged[0], beyond[1] - self._logged[1]
        self._logged = beyond
        if not (early or dropped):
            return ""
        return (
            f"more than {NOTICES_MAX} notices or {BYTES_MAX} bytes of them wait for other owners: {early} were told"
            f" before their changes were known to be chosen, {dropped} were not kept for other homes"
        )

    # -- as owner

    def keep(self, home: Peer, turn: int, notices: Sequence[Notice]) -> None:
        """A home has run what there is to tell of."""
        if not home.up:  # this was on its way when it was lost
            self.counters.stood_in += len(notices)
            self._tell_early(notices)
            return
        kept = self._kept.setdefault(home, deque())
        for notice in notices:
            kept.append((turn, notice))
            self._kept_count += 1
            self._kept_size += size_of(notice)
        while self._kept_count > NOTICES_MAX or self._kept_size > BYTES_MAX:
            self.counters.dropped += 1
            self._let_go(next(iter(self._kept)))

    def _let_go(self, home: Peer) -> Notice:
        kept = self._kept[home]
        _, notice = kept.popleft()
        self._kept_count -= 1
        self._kept_size -= size_of(notice)
        if not kept:
            del self._kept[home]
        return notice

    def told_by(self, home: Peer, turn: int) -> None:
        """A home has told those of its turns up to that one."""
        while (kept := self._kept.get(home)) and kept[0][0] <= turn:
            self._let_go(home)

    def lost(self, home: Peer) -> None:
        """A peer cannot be talked to: what it has not said that it has told is told by us."""
        found: list[Notice] = []
        while home in self._kept:
            found.append(self._let_go(home))
        self.counters.stood_in += len(found)
        self._tell_early(found)

    def say(self, events: Sequence[KeyEvent]) -> None:
        """What there is to tell of what has changed nothing, by whoever has run it."""
        self._tell([(0, 0, (), events)])

    def _tell_early(self, notices: Sequence[Notice]) -> None:
        self._tell(notices)
        self.on_early(notices)

    def _tell(self, notices: Sequence[Notice]) -> None:
        self.counters.told += len(notices)
        if notices:
            for listener in self.listeners:
                listener(notices)


def size_of(notice: Notice) -> int:
    """Bytes, about."""
    _, _, keys, events = notice
    return NOTICE_BYTES + sum(map(len, keys)) + sum([len(name) + len(key) for _, name, key in events])
