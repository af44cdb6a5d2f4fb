"""Whose requests are run in a turn, and how many: nobody keeps the others waiting, and nobody fills the node.

- A client's share of a turn is `SHARE_UNITS`, all clients' that ask for much is `TURN_UNITS`; what is left waits in its
  backlog for the next turn, first come, first served. Who asks for little is not made to wait for those.
- A client has at most `window` requests under way: as many as have been answered with some MiB lately.
- A client that has more than `UNREAD_MAX` bytes to read gets no more, and nothing more is run for it, until it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.clients.outgoing import UNREAD_MAX, Outgoing
from peerkv.clients.session import Session
from peerkv.resp import ReplyError

TURN_UNITS: Final = 1024
"""What is done in a turn for clients that ask for much, in units of a GET or SET of little: about 10 ms."""
SHARE_UNITS: Final = 256
SMALL: Final = 16
"""So many requests of a client with nothing under way are run at once, whatever others ask for."""


class Shares:
    """Of all clients of a node; `holds` is for the node to take: of whom to read no more (True), until False."""

    def __init__(
        self,
        coordinator: Coordinator,
        outgoing: Outgoing,
        run: Callable[[Session, list[list[bytes]]], list[list[bytes]] | None],
    ) -> None:
        """`run` runs requests of a client, and returns what is left of them; or it has put that into the backlog, and
        the session is `held`."""
        self.holds: list[tuple[Session, bool]] = []
        self._coordinator = coordinator
        self._outgoing = outgoing
        self._run = run
        self._resumable: list[Session] = []
        """Sessions with a backlog that can go on, in order, ..."""
        self._next: list[Session] = []
        """... and those that have had their share of this turn."""
        self.waits = False
        """There is something to run."""
        self._turn = 0
        self._units = TURN_UNITS
        """Left in this turn."""

    # -- what comes

    def receive(self, session: Session, requests: list[list[bytes]]) -> None:
        """Run requests of one client, behind those that it sent before."""
        if session.held:
            session.backlog += requests
            if not session.paused:
                session.paused = True
                self.holds.append((session, True))
        elif requests and not session.closing:
            if len(requests) > SMALL or session.batches:
                if self._resumable:
                    self._put_off(session, requests)
                else:
                    self._run_share(session, requests)
            else:
                run = self._run  # called as an attribute that is no method it costs twice as much
                rest = run(session, requests)
                if rest:
                    self._run_share(session, rest)

    def break_off(self, session: Session, error: str) -> None:
        """Input of the client cannot be read any further: say so behind what was asked for before, and close."""
        if session.held:
            session.fault = error
        elif not session.closing:
            session.closing = True
            self._outgoing.begin(session, [[b""]]).deliver(0, ReplyError(error))

    def _run_share(self, session: Session, requests: list[list[bytes]]) -> None:
        """Run what the session has room for; the rest becomes its backlog."""
        rest = requests
        while rest and not session.closing:
            room = self.room(session, len(rest))
            if room <= 0:
                self._put_off(session, rest)
                return
            later = rest[room:]
            if later:
                rest = rest[:room]
            self.charge(session, len(rest))
            left = self._run(session, rest)
            if session.held:
                session.backlog += later
                return
            rest = left + later if left else later

    def _put_off(self, session: Session, requests: list[list[bytes]]) -> None:
        session.held = True
        session.backlog = requests
        self.go_on(session)

    # -- how much

    def room(self, session: Session, wanted: int) -> int:
        """How many of so many requests can be run now."""
        if session.turn != self._turn:
            session.turn = self._turn
            session.spent = 0
        if session.unread > UNREAD_MAX:
            return 0
        under_way: int = sum([batch.left for batch in session.batches])
        room = min(SHARE_UNITS - session.spent, session.window - under_way)
        return room if wanted <= SMALL else min(room, self._units)

    def charge(self, session: Session, units: int = SHARE_UNITS) -> bool:
        """So much was done for a client; whether that was all of its share."""
        if session.turn != self._turn:
            session.turn = self._turn
            session.spent = 0
        session.spent += units
        self._units -= units
        return session.spent >= SHARE_UNITS

    # -- what waits

    def go_on(self, session: Session) -> None:
        """See whether a session's backlog can be run further, now or in the next turn; whatever stands in its way
        comes here again when it has gone."""
        if session.queued or not session.held or session.stopped:
            return
        spreading = session.spreading
        if session.ordered:
            if session.batches:
                return
        elif session.unread > UNREAD_MAX or (
            spreading.is_full
            if spreading is not None
            else sum([batch.left for batch in session.batches]) >= session.window
        ):
            return
        session.queued = self.waits = True
        has_had_its_share = session.turn == self._turn and session.spent >= SHARE_UNITS
        (self._next if has_had_its_share else self._resumable).append(session)

    def end_turn(self) -> None:
        """Everybody has a share again, first those that have a backlog."""
        self._turn += 1
        self._units = TURN_UNITS
        if self._next:
            self._resumable += self._next
            self._next = []

    def resume(self) -> bool:
        """Go on with sessions that have a backlog, as far as this turn allows; whether anything was run."""
        if not self._resumable or self._coordinator.crowded:
            return False
        resumed = False
        sessions, self._resumable = self._resumable, []
        for session in sessions:
            if self._units <= 0 and (len(session.backlog) > SMALL or session.spreading is not None):
                self._resumable.append(session)
                continue
            session.queued = False
            if session.closing:
                session.spreading = None
                continue
            if not session.held or (session.ordered and session.batches):
                continue
            resumed = True
            session.held = session.ordered = False
            if session.spreading is not None and not session.spreading.go_on():
                session.held = True
                self.go_on(session)
                continue
            requests, session.backlog = session.backlog, []
            if requests:
                self._run_share(session, requests)
            if not session.held:
                if session.paused:
                    session.paused = False
                    self.holds.append((session, False))
                if session.fault:
                    self.break_off(session, session.fault)
        self.waits = bool(self._resumable or self._next)
        return resumed
