"""CLIENT PAUSE: clients wait with what they ask for, or only with what writes, for so long, or until it is ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from peerkv.agreement.operation import Operation, Operations, Pause
from peerkv.clients.session import Services, Session
from peerkv.commands.catalogue import named
from peerkv.commands.table import find

PAUSE_LOOK_S: Final = 0.1
"""How often it is seen whether clients are paused still, and until when."""
SCRIPTS: Final = frozenset(("eval", "evalsha", "fcall"))
"""Whatever these do, a pause of writes holds them up, as in Redis."""


class Pausing:
    """Of a node's clients."""

    def __init__(self, services: Services, operations: Operations, go_on: Callable[[Session], None]) -> None:
        """`go_on` is told of each client that was held up, in the end."""
        self._services = services
        self._operations = operations
        self._go_on = go_on
        self._pause: tuple[float, bool] | None = None
        """Until when clients are paused, and whether only in what writes."""
        self._awaited = False
        """Its end is."""

    def begin(self, milliseconds: int, writes_only: bool) -> None:
        """Have clients wait for so long. Of two pauses the longer and the stricter one holds."""
        clock = self._services.clock
        until = clock.now + milliseconds / 1000
        if self._pause is not None:
            until, writes_only = max(until, self._pause[0]), writes_only and self._pause[1]
        self._pause = until, writes_only
        for session in self._services.sessions.values():
            session.become(gated=True)
        if not self._awaited:
            self._awaited = True
            self._operations.start(clock.now, self._await_end())

    def end(self) -> None:
        """Go on with what was held up."""
        self._pause = None
        for session in self._services.sessions.values():
            session.become(gated=False)
            if session.stopped:
                session.stopped = False
                self._go_on(session)

    def opened(self, session: Session) -> None:
        """A client has connected."""
        if self._pause is not None:
            session.become(gated=True)

    def holds_up(self, session: Session, request: Sequence[bytes]) -> bool:
        """Whether a client must wait with its next request."""
        pause = self._pause
        return pause is not None and (_is_gated(request, writes_only=pause[1]) or _executes_writes(session, request))

    def _await_end(self) -> Operation:
        clock = self._services.clock
        while self._pause is not None and clock.now < self._pause[0]:
            yield Pause(min(self._pause[0] - clock.now, PAUSE_LOOK_S))
        self._awaited = False
        self.end()


def _is_gated(request: Sequence[bytes], *, writes_only: bool) -> bool:
    """Whether a pause holds a request up. Who looks after the cluster, or ends the pause, is let through."""
    row = find(request[0])
    if row is None:
        return not writes_only
    if row.name == "peerkv" or (row.name == "client" and len(request) > 1 and request[1].upper() == b"UNPAUSE"):
        return False
    if not writes_only:
        return True
    facts = named(b"|".join(request[:2])) if row.subcommands else row.facts
    return facts is not None and ("write" in facts.flags or row.name in SCRIPTS)


def _executes_writes(session: Session, request: Sequence[bytes]) -> bool:
    """Whether this is the EXEC of something that a pause of writes holds up."""
    return (
        session.queue is not None
        and request[0].upper() == b"EXEC"
        and any(_is_gated(queued, writes_only=True) for _, queued, _ in session.queue.commands)
    )
