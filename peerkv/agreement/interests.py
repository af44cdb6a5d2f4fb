"""Who waits for which keys of our slots to change (soft state: whoever waits says so again, and everything here may be
lost at any moment).

A key may have many waiters, of many nodes, in the order in which they came. When it has changed, and holds something,
as many of them are woken as there is something for, those who came first first; who is woken asks like any client, and
is told again if it must. So nothing is promised here but that who waits is woken, and in which order.

Nobody stands in the way of those behind it who does not come for what is there: who cannot be told, who does not come
though it was told, and who has come and does not want it, are passed over. Who is not heard of any more is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import inf
from typing import Final

from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.store.cell import Change
from peerkv.store.values import Collection
from peerkv.store.values.held import Held
from peerkv.store.values.streams import Stream

AGAIN_S: Final = 0.5
"""Who was woken so long ago and has not said since then that it still waits has perhaps not heard of it, ..."""
TOLD_AGAIN_S: Final = 4.0
"""... and who has, is told once more of what it did not want: as often as it says that it waits."""
HEARD_WITHIN_S: Final = 30.0
"""Who waits says so every five seconds; who has not for so long is there no more, and its last word was lost."""
LOOKS: Final = 20
"""In so many looks everybody is looked at once: 5 s."""
WAITERS_MAX: Final = 1 << 20
"""Of all nodes, for all keys of ours."""

Waiting = tuple[Peer, int]
"""(its node, its number there)"""


@dataclass(slots=True, eq=False)
class _Place:
    heard: float
    """When it has said last that it waits."""
    woken: float = -inf
    """When."""
    asks: bool = True
    """It has said that it waits since it was woken."""
    seen: object = None
    """The version, or state, that it was woken for last."""


@dataclass(slots=True, eq=False)
class _Waiters:
    """Of a key."""

    takers: dict[Waiting, _Place] = field(default_factory=dict)
    """As many of them are woken as there is something for; in the order in which they came."""
    readers: dict[Waiting, _Place] = field(default_factory=dict)
    """All of them are woken of every change."""

    def __len__(self) -> int:
        return len(self.takers) + len(self.readers)

    def items(self) -> Iterable[tuple[Waiting, _Place]]:
        return chain(self.takers.items(), self.readers.items())


class Interests:
    """Of the slots that this node is home of."""

    def __init__(
        self,
        clock: Clock,
        view: View,
        wake: Callable[[Peer, bytes, int], None],
        astray: Callable[[Peer, Iterable[int]], None],
    ) -> None:
        """`wake` tells a waiter, by its node and its number there, of a key. `astray` tells waiters of a node that
        another one is home."""
        self.of_slot: dict[int, dict[bytes, _Waiters]] = {}
        self._clock = clock
        self._view = view
        self._wake = wake
        self._astray = astray
        self._count = 0
        self._unsure: deque[tuple[float, int, bytes]] = deque()
        """Keys of which somebody was woken, and when."""
        self._round: list[int] = []
        """Slots that are to be looked at in this round."""

    def wait(self, number: int, key: bytes, peer: Peer, waiter: int, *, everyone: bool) -> None:
        """A waiter of a node waits for a key from now on, or says so again. It is woken at once if there is something,
        and nobody waits before it; but not over and over for what it does not want, such as a key of another type."""
        now = self._clock.now
        waiters = self.of_slot.get(number, {}).get(key)
        if waiters is None:
            waiters = _Waiters()
        places = waiters.readers if everyone else waiters.takers
        place = places.get((peer, waiter))
        told = place is not None and place.asks
        if place is None:
            if self._count >= WAITERS_MAX:
                return
            self._count += 1
            self.of_slot.setdefault(number, {})[key] = waiters
            place = places[peer, waiter] = _Place(now)
        place.asks = True
        place.heard = now
        there, version = self._there(number, key)
        if everyone:
            if peer.up and version is not None and place.seen != version:
                place.seen = version
                self._wake(peer, key, waiter)
        elif told and place.seen == version:  # nothing is another for those behind it
            if there and now - place.woken > TOLD_AGAIN_S:
                self._choose(number, key, place, version)
                self._wake(peer, key, waiter)
        elif there:
            self._look(number, key)

    def end(self, number: int, key: bytes, peer: Peer, waiter: int) -> None:
        """It waits no more; perhaps the next one can have what it was woken for."""
        waiters = self.of_slot.get(number, {}).get(key)
        if waiters is not None and ((peer, waiter) in waiters.takers or (peer, waiter) in waiters.readers):
            self._remove(number, key, [(peer, waiter)])

    def _remove(self, number: int, key: bytes, gone: Sequence[Waiting]) -> None:
        waiters = self.of_slot[number][key]
        took = 0
        for place in gone:
            took += waiters.takers.pop(place, None) is not None
            waiters.readers.pop(place, None)
        self._count -= len(gone)
        if not waiters:
            self._drop(number, key)
        elif took and self._there(number, key)[0]:
            self._look(number, key)

    def _drop(self, number: int, key: bytes) -> None:
        keys = self.of_slot[number]
        del keys[key]
        if not keys:
            del self.of_slot[number]

    def changed(self, number: int, changes: Iterable[Change]) -> None:
        """Keys of a slot have changed."""
        keys = self.of_slot[number]
        for key in dict.fromkeys([key for key, _, _ in changes]):
            if key in keys:
                self._look(number, key)

    def _look(self, number: int, key: bytes) -> None:
        """Wake as many as there is something for, and all who want every change and have not been told of this one."""
        there, version = self._there(number, key)
        if version is None:
            return
        now = self._clock.now
        waiters = self.of_slot[number][key]
        chosen: list[Waiting] = []
        for (peer, waiter), place in waiters.readers.items():
            if peer.up and place.seen != version:
                place.seen = version
                chosen.append((peer, waiter))
        for (peer, waiter), place in waiters.takers.items():
            if there <= 0:
                break
            if not peer.up:
                continue
            anew = place.asks and place.seen != version
            late = now - place.woken > (TOLD_AGAIN_S if place.asks else AGAIN_S)
            there -= anew or not (place.asks or late)
            if anew or late:
                self._choose(number, key, place, version)
                chosen.append((peer, waiter))
        for peer, waiter in chosen:
            self._wake(peer, key, waiter)

    def _choose(self, number: int, key: bytes, place: _Place, version: object) -> None:
        """It will be woken."""
        place.woken, place.seen, place.asks = self._clock.now, version, False
        self._unsure.append((place.woken, number, key))

    def _there(self, number: int, key: bytes) -> tuple[int, object]:
        """How much a key holds, and what is another when there is more to have: its version, but of a stream what has
        come and how many groups there are, as whoever reads for a group changes it by that alone. Nothing, and None,
        while a transaction holds it."""
        cell = self._view.copies.cells[number].get(key)
        if cell is None:
            return 0, 0
        if type(cell[1]) is Held:
            return 0, None
        if isinstance(cell[1], Stream):
            return len(cell[1]), (cell[1].last, len(cell[1].groups))
        return len(cell[1]) if isinstance(cell[1], Collection) else 0, cell[0]

    def lost(self, peer: Peer) -> None:
        """A node cannot be talked to: others have what its waiters were woken for. They keep their places, as it may
        be back at once."""
        for number, key, places in self._of(peer):
            for place in places:
                place.woken, place.seen, place.asks = -inf, None, True
            self._look(number, key)

    def met(self, peer: Peer) -> None:
        """A node can be talked to, again or for the first time: perhaps there is something for its waiters."""
        for number, key, _ in self._of(peer):
            self._look(number, key)

    def _of(self, peer: Peer) -> list[tuple[int, bytes, list[_Place]]]:
        return [
            (number, key, found)
            for number, keys in self.of_slot.items()
            for key, waiters in keys.items()
            if (found := [place for (its, _), place in waiters.items() if its is peer])
        ]

    def look(self) -> None:
        """Several times a second: those who were woken and have not come are in nobody's way, and some slots' waiters
        that are not heard of any more are forgotten."""
        now = self._clock.now
        unsure = self._unsure
        keys: dict[tuple[int, bytes], None] = {}
        while unsure and now - unsure[0][0] > AGAIN_S:
            keys[unsure.popleft()[1:]] = None
        for number, key in keys:
            if key in self.of_slot.get(number, {}):
                self._look(number, key)
        if not self._round:
            self._round = list(self.of_slot)
        count = len(self.of_slot) // LOOKS + 1
        for number in self._round[-count:]:
            for key, waiters in list(self.of_slot.get(number, {}).items()):
                self._remove(number, key, [at for at, place in waiters.items() if now - place.heard > HEARD_WITHIN_S])
        del self._round[-count:]

    def drop(self, number: int) -> None:
        """We are home of that slot no more, of which its waiters may know nothing."""
        keys = self.of_slot.pop(number, {})
        self._count -= sum(map(len, keys.values()))
        found: dict[Peer, dict[int, None]] = {}
        for waiters in keys.values():
            for peer, waiter in (*waiters.takers, *waiters.readers):
                found.setdefault(peer, {})[waiter] = None
        for peer, gone in found.items():
            self._astray(peer, gone)

    @property
    def waiters(self) -> int:
        """How many there are."""
        return self._count
