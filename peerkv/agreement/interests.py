"""Who waits for which keys of our slots to change (soft state: whoever waits says so again, and everything here may be
lost at any moment).

A key may have many waiters, of many nodes, in the order in which they came. When it has changed, and holds something,
as many of them are woken as there is something for, those who came first first; who is woken asks like any client, and
is told again if it must. So nothing is promised here but that who waits is woken, and in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
"""Who was woken so long ago and still waits has not got what it was woken for."""
WAITERS_MAX: Final = 1 << 20
"""Of all nodes, for all keys of ours."""

Waiting = tuple[Peer, int]
"""(its node, its number there)"""


@dataclass(slots=True, eq=False)
class _Place:
    everyone: bool
    woken: float = -inf
    """When."""
    asks: bool = True
    """It has said that it waits since it was woken."""
    seen: object = None
    """The version, or state, that it was woken for last."""


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
        self.of_slot: dict[int, dict[bytes, dict[Waiting, _Place]]] = {}
        self._clock = clock
        self._view = view
        self._wake = wake
        self._astray = astray
        self._count = 0

    def wait(self, number: int, key: bytes, peer: Peer, waiter: int, *, everyone: bool) -> None:
        """A waiter of a node waits for a key from now on, or says so again. It is woken at once if there is something,
        and nobody waits before it; but not over and over for what it does not want, such as a key of another type."""
        places = self.of_slot.setdefault(number, {}).setdefault(key, {})
        place = places.get((peer, waiter))
        if place is None:
            if self._count >= WAITERS_MAX:
                return
            self._count += 1
            place = places[peer, waiter] = _Place(everyone)
        place.asks = True
        if everyone or self._there(number, key)[0]:
            self._look(number, key)

    def end(self, number: int, key: bytes, peer: Peer, waiter: int) -> None:
        """It waits no more; perhaps the next one can have what it was woken for."""
        places = self.of_slot.get(number, {}).get(key, {})
        if places.pop((peer, waiter), None) is not None:
            self._count -= 1
            if not places:
                self._drop(number, key)
            elif self._there(number, key)[0]:
                self._look(number, key)

    def _drop(self, number: int, key: bytes) -> None:
        keys = self.of_slot[number]
        del keys[key]
        if not keys:
            del self.of_slot[number]

    def changed(self, number: int, changes: Iterable[Change]) -> None:
        """Keys of a slot have changed."""
        keys = self.of_slot[number]
        for key in {key for key, _, _ in changes}:
            if key in keys:
                self._look(number, key)

    def _look(self, number: int, key: bytes) -> None:
        """Wake as many as there is something for, and all who want every change and have not been told of this one."""
        there, version = self._there(number, key)
        if version is None:
            return
        now = self._clock.now
        for (peer, waiter), place in list(self.of_slot[number][key].items()):
            if place.everyone:
                if place.seen != version:
                    place.seen = version
                    self._wake(peer, key, waiter)
            elif there > 0:
                there -= 1
                if (place.asks and place.seen != version) or now - place.woken > AGAIN_S:
                    place.woken, place.seen, place.asks = now, version, False
                    self._wake(peer, key, waiter)

    def _there(self, number: int, key: bytes) -> tuple[int, object]:
        """How much a key holds, and what is another when there is more to have: its version, but of a stream what has
        come and how many groups there are, as whoever reads for a group changes it by that alone. Nothing, and None,
        while a transaction holds it."""
        cell = self._view.copies.cells[number].get(key)
        if cell is None:
            return 0, 0
        if isinstance(cell[1], Held):
            return 0, None
        if isinstance(cell[1], Stream):
            return len(cell[1]), (cell[1].last, len(cell[1].groups))
        return len(cell[1]) if isinstance(cell[1], Collection) else 0, cell[0]

    def lost(self, peer: Peer) -> None:
        """A node cannot be talked to: its waiters are not waited for."""
        for number, keys in list(self.of_slot.items()):
            for key, places in list(keys.items()):
                gone = [place for place in places if place[0] is peer]
                for place in gone:
                    del places[place]
                self._count -= len(gone)
                if not places:
                    self._drop(number, key)
                elif gone:
                    self._look(number, key)

    def drop(self, number: int) -> None:
        """We are home of that slot no more, of which its waiters may know nothing."""
        keys = self.of_slot.pop(number, {})
        self._count -= sum(map(len, keys.values()))
        waiters: dict[Peer, dict[int, None]] = {}
        for places in keys.values():
            for peer, waiter in places:
                waiters.setdefault(peer, {})[waiter] = None
        for peer, gone in waiters.items():
            self._astray(peer, gone)

    @property
    def waiters(self) -> int:
        """How many there are."""
        return self._count
