"""Which nodes have told their clients what keys of our slots hold, and are to be told when that changes (soft state).

An operation that reads is noted when it is run (`note`): whatever becomes of the key behind it in the slot's history is
told to its node, once, and forgotten. Not by `interests`: nobody waits here, there may be a million keys, and it must
be noted in the moment of the read, neither before nor after. What nobody here can tell any more (another home, another
epoch, a link that is down) is for the node that was told to find out: see protocol rules C1 to C5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.store.values.hashes import Hash

TRACKED_MAX: Final = 1 << 21
"""Keys of ours that nodes have told of, each counted for every node."""
DROPPED_AT_ONCE: Final = 20_000
"""Keys forgotten in a turn, of those that are not needed any more: 3 ms."""

OfNode = dict[int, dict[bytes, int]]
"""By slot keys, oldest first, and the ticket of the operation that has read each last."""
Changed = tuple[list[bytes], list[int], list[int]]
"""[key], [the process whose operation it was], [the ticket of that]"""


class Tracked:
    """Of the slots that this node is home of."""

    def __init__(self, view: View) -> None:
        self.slots: dict[int, int] = {}
        """Those of which some key is tracked, and how many are, each counted for every node."""
        self.name = b""
        """That of the request which reads for a client that is to be told; set by `node`."""
        self._view = view
        self.on_changed: Callable[[Peer, Sequence[bytes], Sequence[int], Sequence[int]], None] = lambda *_: None
        """Told of keys that our own clients have read, and ..."""
        self.on_untracked: Callable[[Peer, Sequence[int]], None] = lambda *_: None
        """... of slots of which we cannot tell any more; both set by `clients`."""
        self._nodes: dict[Peer, OfNode] = {}
        self._count = 0
        self._told: dict[Peer, Changed] = {}
        self._dropping: list[dict[bytes, int]] = []

    def note(self, number: int, keys: Sequence[bytes], peer: Peer, ticket: int) -> int:
        """A node has read keys of a slot for its clients. Returns our process, or 0 if it will not be told: that
        a field expires is no change."""
        if not keys or (peer is not self._view.me and not peer.up):
            return 0
        cells = self._view.copies.cells[number]
        for key in keys:
            cell = cells.get(key)
            if cell is not None and isinstance(cell[1], Hash) and cell[1].deadlines:
                return 0
        of_slot = self._nodes.setdefault(peer, {}).setdefault(number, {})
        before = len(of_slot)
        of_slot.update(dict.fromkeys(keys, ticket))
        self._add(number, len(of_slot) - before)
        while self._count > TRACKED_MAX:
            self._evict()
        return self._view.me.process

    def _add(self, number: int, count: int) -> None:
        self._count += count
        left = self.slots.get(number, 0) + count
        if left:
            self.slots[number] = left
        else:
            self.slots.pop(number, None)

    def _evict(self) -> None:
        """Forget some key; its node is told as if it had changed."""
        number = next(iter(self.slots))
        for peer, of_node in self._nodes.items():
            if number in of_node:
                key = next(iter(of_node[number]))
                self._remove(peer, number, key)
                self._tell(peer, key, 0, 0)
                return

    def _remove(self, peer: Peer, number: int, key: bytes) -> None:
        of_node = self._nodes[peer]
        of_slot = of_node[number]
        del of_slot[key]
        if not of_slot:
            del of_node[number]
        self._add(number, -1)

    def _tell(self, peer: Peer, key: bytes, process: int, ticket: int) -> None:
        told = self._told.get(peer)
        if told is None:
            told = self._told[peer] = ([], [], [])
        told[0].append(key)
        told[1].append(process)
        told[2].append(ticket)

    def changed(self, number: int, keys: Iterable[bytes], origin: Peer, ticket: int) -> None:
        """An operation has changed keys of a slot. Whose it is stays noted: it may not want to tell its client of the
        client's own changes, but of others'."""
        for key in keys:
            for peer, of_node in self._nodes.items():
                of_slot = of_node.get(number)
                if of_slot is not None and key in of_slot:
                    self._tell(peer, key, origin.process, ticket)
                    if peer is not origin:
                        self._remove(peer, number, key)

    def forget(self, peer: Peer, keys: Sequence[bytes], tickets: Sequence[int]) -> None:
        """A node has told its clients to forget these; what it has read later, by those tickets or higher ones, is
        tracked again."""
        of_node = self._nodes.get(peer, {})
        for key, ticket in zip(keys, tickets, strict=True):
            number = self._view.slot_of(key)
            if of_node.get(number, {}).get(key, ticket) < ticket:
                self._remove(peer, number, key)

    def drop(self, number: int) -> None:
        """We are home of that slot no more."""
        if self.slots.pop(number, 0):
            for peer, of_node in self._nodes.items():
                of_slot = of_node.pop(number, None)
                if of_slot is not None:
                    self._count -= len(of_slot)
                    self._dropping.append(of_slot)
                    if peer is self._view.me:
                        self.on_untracked(peer, [number])
                    elif peer.up:
                        peer.tell("untracked", [number])

    def lost(self, peer: Peer) -> None:
        """A node cannot be talked to; it tells its clients itself to forget what we were to tell it of."""
        self._told.pop(peer, None)
        for number, of_slot in self._nodes.pop(peer, {}).items():
            self._add(number, -len(of_slot))
            self._dropping.append(of_slot)

    def enter_epoch(self) -> None:
        """Everybody begins anew."""
        for peer in list(self._nodes):
            self.lost(peer)

    def flush(self) -> None:
        """End of a turn: tell nodes what has changed."""
        if self._told:
            told, self._told = self._told, {}
            for peer, changed in told.items():
                if peer is self._view.me:
                    self.on_changed(peer, *changed)
                elif peer.up:
                    peer.tell_rows("changed", *changed)
        room = DROPPED_AT_ONCE
        while self._dropping and room:
            last = self._dropping[-1]
            if len(last) <= room:
                room -= len(last)
                self._dropping.pop()
            else:
                for _ in range(room):
                    last.popitem()
                room = 0

    @property
    def keys(self) -> int:
        """How many are tracked, each counted for every node."""
        return self._count
