"""Clients that are closed from here: as all together have too much, or as they have said nothing for too long."""

from __future__ import annotations

from math import inf
from typing import Final

from peerkv.clients.session import Services, Session

INPUT_WORTH_MAX: Final = 11
"""A byte that is read takes so many at most until its request is complete: an empty argument is six bytes, and an
object of 56."""


class Eviction:
    """Of a node's clients."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._weight = 0
        """Bytes of unfinished requests and unread replies of all clients when they were looked at last, and ..."""
        self._weighed_at = 0.0
        """... how much had been read and written then: there is no more than what has come since."""

    def begin_anew(self) -> None:
        """What has been read and written is counted anew."""
        self._weighed_at = inf

    def look(self, read: int, written: int) -> None:
        """So many bytes have been read of clients, and written for them, since that is counted."""
        settings = self._services.settings
        moved = INPUT_WORTH_MAX * read + written
        if not 0 <= moved - self._weighed_at <= settings.clients_bytes_max - self._weight:
            self._weighed_at = moved
            self._relieve(settings.clients_bytes_max)
        if settings.client_timeout:
            self._close_silent(self._services.clock.now - settings.client_timeout)

    def _relieve(self, most: int) -> None:
        """Close connections of clients that have the most unread and unfinished where all of them together have more
        than they may."""
        sessions = self._services.sessions.values()
        sizes = [(session.unread + session.requests.unfinished, session) for session in sessions]
        total = self._weight = sum([size for size, _ in sizes])
        if total <= most:
            return
        for size, session in sorted(sizes, key=_worth, reverse=True):
            if total <= most:
                break
            total -= size
            self._services.tell(
                "warning",
                f"client {session.address} is closed: {size} bytes of what it asked for are unfinished or unread, and"
                f" those of all clients are more than {most}",
            )
            self._services.kill(session)

    def _close_silent(self, since: float) -> None:
        """Close connections of clients that have said nothing for too long, and neither wait nor listen."""
        silent = [session for session in self._services.sessions.values() if session.last_active < since]
        for session in silent:
            if not (session.batches or session.held or session.monitors or any(session.subscriptions)):
                self._services.kill(session)


def _worth(entry: tuple[int, Session]) -> tuple[bool, int]:
    """How much is won by closing it; who asked not to be closed (CLIENT NO-EVICT) comes last."""
    return not entry[1].no_evict, entry[0]
