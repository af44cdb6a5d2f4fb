"""MONITOR: every command that clients of this node, or of any node, have asked for, as lines in Redis's form.

A node tells its peers whether anybody at it monitors the whole cluster; they send it then, once a turn, what their
clients have asked for. A node whose commands nobody wants to see pays one look per batch (`watched`). At most once:
what is too much for a turn is left out, and a line says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clients.outgoing import Outgoing
from peerkv.clients.session import Queue, Services, Session
from peerkv.commands.catalogue import named
from peerkv.commands.table import find, fits

LINES_BYTES_MAX: Final = 1 << 20
"""Lines that peers are sent of one turn, in all, and ..."""
LINE_BYTES_MAX: Final = 1 << 16
"""... of each; a client of this node gets all of it."""
HIDDEN: Final = "admin"
"""Commands of that flag are not shown."""
NEVER_QUEUED: Final = frozenset(map(find, (b"WATCH", b"QUIT")))
_UNPRINTABLE: Final = re.compile(rb"[^ !#-\[\]-~]")
_ESCAPES: Final = {bytes((code,)): b"\\x%02x" % code for code in range(256)} | {
    b'"': b'\\"',
    b"\\": b"\\\\",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
    b"\a": b"\\a",
    b"\b": b"\\b",
}


class Monitors:
    """Of a node."""

    def __init__(self, services: Services, view: View, outgoing: Outgoing) -> None:
        self._services = services
        self._view = view
        self._outgoing = outgoing
        self._here: dict[Session, bool] = {}
        """Who monitors, and whether that is the whole cluster."""
        self._elsewhere: set[int] = set()
        """Processes that want to see what is run here."""
        self.lines: list[bytes] = []
        """For them, of this turn; see `end_turn`."""
        self._size = 0
        self._left_out = 0
        self.watched = False
        """Somebody wants to see what is run here."""

    # -- who monitors

    def begin(self, session: Session, *, everywhere: bool) -> None:
        """MONITOR, and PEERKV MONITOR."""
        before = self._everywhere
        self._here[session] = everywhere or self._here.get(session, False)
        session.become(monitors=True)
        self._changed(before)

    def forget(self, session: Session) -> None:
        """A client has gone, or wants to be as if it were new."""
        before = self._everywhere
        if self._here.pop(session, None) is not None:
            session.become(monitors=False)
            self._changed(before)

    @property
    def _everywhere(self) -> bool:
        return any(self._here.values())

    def _changed(self, before: bool) -> None:
        self.watched = bool(self._here or self._elsewhere)
        everywhere = self._everywhere
        if everywhere is not before:
            self._view.tell_all("monitors", int(everywhere))

    def link_up(self, peer: Peer) -> None:
        """A peer can be talked to: what it knows of us may be old."""
        peer.tell("monitors", int(self._everywhere))

    def hear(self, peer: Peer, whether: int) -> None:
        """Whether somebody at a peer monitors the whole cluster."""
        (self._elsewhere.add if whether else self._elsewhere.discard)(peer.process)
        self.watched = bool(self._here or self._elsewhere)

    # -- lines

    def show(self, session: Session, request: Sequence[bytes], queue: Queue | None = None) -> None:
        """A client of this node has had a command run, or has queued it, if it has that `queue` still: then it is shown
        when all of that is run."""
        if queue is None or queue is not session.queue:
            if queue is not None and not queue.failed and request[0].upper() == b"EXEC":
                self._show_all(session, queue)
            self._show(session, request, session.database)
        elif find(request[0]) in NEVER_QUEUED:
            self._show(session, request, session.database)

    def _show_all(self, session: Session, queue: Queue) -> None:
        after = [*[database for _, _, database in queue.commands[1:]], session.database]
        for (_, request, _), database in zip(queue.commands, after, strict=False):
            self._show(session, request, database)

    def _show(self, session: Session, request: Sequence[bytes], database: int) -> None:
        row = find(request[0])
        if row is None or not fits(row, request):
            return
        flags = row.flags
        if row.subcommands and len(request) > 1:
            facts = named(b"|".join(request[:2]))
            if facts is None or not fits(facts, request):
                return
            flags = frozenset(facts.flags)
        if HIDDEN in flags:
            return
        clock = self._services.clock
        time = b"%d.%03d000" % divmod(clock.cluster_ms + clock.skew_ms, 1000)
        arguments = b" ".join([b'"%b"' % _quoted(argument) for argument in _redacted(row.name, request)])
        client = b"%b] %b" % (session.address.encode(), arguments)
        self._tell(time, database, client)

    def _tell(self, time: bytes, database: int, client: bytes) -> None:
        near = b"%b [%d %b" % (time, database, client)
        far = b"%b [%d %b %b" % (time, database, self._services.settings.name.encode(), client)
        for session, everywhere in list(self._here.items()):
            self._push(session, far if everywhere else near)
        if self._elsewhere:
            line = far if len(far) <= LINE_BYTES_MAX else far[: LINE_BYTES_MAX - 4] + b'..."'
            if self._size + len(line) > LINES_BYTES_MAX:
                self._left_out += 1
            else:
                self._size += len(line)
                self.lines.append(line)

    def _push(self, session: Session, line: bytes) -> None:
        if not self._outgoing.push(session, b"+%b\r\n" % line, "what it monitors"):
            self.forget(session)

    def end_turn(self) -> None:
        """Send peers what they want to see of this turn."""
        lines, self.lines = self.lines, []
        if self._left_out:
            name = self._services.settings.name.encode()
            text = b'"(%d commands left out)"' % self._left_out
            lines.append(lines[-1].partition(b" ")[0] + b" [0 %b peerkv:0] %b" % (name, text))
        self._size = self._left_out = 0
        self._elsewhere &= self._view.peers.keys()
        self.watched = bool(self._here or self._elsewhere)
        for process in self._elsewhere:
            peer = self._view.peers[process]
            if peer.up:
                peer.tell("monitored", lines)

    def arrive(self, _peer: Peer, lines: Sequence[bytes]) -> None:
        """What clients of a peer have had run; a line has no ends of lines in it, whatever they have sent."""
        for line in lines:
            if len(line) <= LINE_BYTES_MAX and b"\r" not in line and b"\n" not in line:
                for session, everywhere in list(self._here.items()):
                    if everywhere:
                        self._push(session, line)


def _quoted(argument: bytes) -> bytes:
    return _UNPRINTABLE.sub(_escaped, argument)


def _escaped(found: re.Match[bytes]) -> bytes:
    return _ESCAPES[found[0]]


def _redacted(name: str, request: Sequence[bytes]) -> Sequence[bytes]:
    """Without what may be a password."""
    if name == "auth":
        return [request[0], *[b"(redacted)"] * (len(request) - 1)]
    if name == "hello":
        shown = list(request)
        for at in range(2, len(shown)):
            if shown[at].upper() == b"AUTH":
                shown[at + 1 : at + 3] = [b"(redacted)"] * len(shown[at + 1 : at + 3])
                break
        return shown
    return request
