"""What each client has under way in a slot, and what must not overtake it (protocol rules O3 and R4).

Commands of one client run as if one after another, although all that a buffer held are under way at once. Only where
the order would show does one wait, or go another way: a read behind a write of the same slot takes the write's way,
through the home; a write waits for a read of its slot, and a read for one that was sent in an earlier turn. So what has
to be asked again, because somebody died or is slow, is never overtaken by what its client sent after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home
from peerkv.agreement.reads import Sink
from peerkv.agreement.view import View
from peerkv.clients.session import Session
from peerkv.clock import Clock
from peerkv.commands.table import Command, keys_of

OPERATION: Final = -1
"""In place of the turn of a read: it has gone to the home, behind a write."""
ALONE: Final = -2
"""... or: no other one is answered together with it."""
SLOTS_MAX: Final = 1024
"""Slots remembered of a client that is never idle, before those are dropped of which nothing is under way."""


class UnderWay:
    """Of all clients of a node; what is known of one is in its session (`written`, `reading`)."""

    def __init__(self, clock: Clock, view: View, home: Home, coordinator: Coordinator) -> None:
        self._clock = clock
        self._view = view
        self._notices = home.notices
        self._coordinator = coordinator

    def read(
        self,
        session: Session,
        number: int,
        command: Command,
        request: Sequence[bytes],
        whole: Sink,
        sink: Sink,
        index: int,
    ) -> None:
        """Send a read. `whole`: what the reply becomes a part of; the read is under way as long as something is left of
        that."""
        coordinator = self._coordinator
        after = session.written.get(number, 0)
        if (after and after in coordinator.pending) or self._notices.misses:
            session.written[number] = coordinator.write(number, request, sink, index, after, reads=True)
            session.reading[number] = whole, OPERATION
            return
        assert command.run is not None, "READ commands can be run"
        if session.any_copy and self._view.topology is not None and not self._view.reachable(number):
            coordinator.reads.read_any_copy(number, request, command.run, sink, index)
            session.reading[number] = whole, ALONE
            return
        keys = None if command.one_key else keys_of(command, request)
        together = coordinator.reads.read(number, request, command.run, self._clock.cluster_ms, sink, index, keys)
        session.reading[number] = whole, coordinator.reads.turn if together else ALONE

    def is_read(self, session: Session, number: int) -> bool:
        """Whether a read of a slot in `session.reading` is under way for this client, as far as is remembered."""
        whole, turn = session.reading[number]
        return whole.left > 0 and (turn != OPERATION or session.written.get(number, 0) in self._coordinator.pending)

    def cuts_in(self, session: Session, number: int, *, by_home: bool = False) -> bool:
        """Whether a read of that slot sent now could be answered before one that is under way, if that must be asked
        again (protocol rule R4): they are not of one bunch, and no write is before both of them. `by_home`: it would be
        an operation, as all are where misses are told of."""
        if not self.is_read(session, number):
            return False
        turn = session.reading[number][1]
        if turn == OPERATION:
            return False
        reads = self._coordinator.reads
        return by_home or self._notices.misses or turn != reads.turn or not reads.bunches(number)

    def trim(self, session: Session) -> None:
        """Forget what has ended, of a client that is never idle."""
        pending = self._coordinator.pending
        for number in [number for number, under in session.reading.items() if not under[0].left]:
            del session.reading[number]
        for number in [number for number, ticket in session.written.items() if ticket not in pending]:
            del session.written[number]
