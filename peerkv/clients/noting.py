"""Reads of clients that track (CLIENT TRACKING), on their way: whoever runs one has noted its keys before.

A read of one slot goes as an operation to the home, which notes its keys when it runs it. What reads keys otherwise (a
script, EXEC, a command of many slots) waits until the homes have been asked for these keys, and have noted them: what
changes in between is told of behind its reply. What then is told to whom is a matter of `tracking`.
"""

from __future__ import annotations

from collections.abc import Sequence

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.reads import Sink
from peerkv.agreement.view import View
from peerkv.clients.outgoing import Batch, Outgoing
from peerkv.clients.session import Session
from peerkv.clients.tracker import Reading, Tracker
from peerkv.clients.tracking import Tracking
from peerkv.clients.underway import OPERATION, UnderWay
from peerkv.commands.table import Command, Kind, find, keys_of, placed
from peerkv.commands.tracking import tracked_request
from peerkv.commands.transactions import look_request


class Noting:
    """Of all clients of a node that track."""

    def __init__(
        self, view: View, coordinator: Coordinator, outgoing: Outgoing, under_way: UnderWay, tracking: Tracking
    ) -> None:
        self._view = view
        self._coordinator = coordinator
        self._outgoing = outgoing
        self._under_way = under_way
        self._tracking = tracking

    def reads(self, session: Session, request: list[bytes]) -> bool:
        """Whether the next command of a client that tracks reads what it is to be told of."""
        row = find(request[0])
        if row is None or row.name == "client":
            return False
        wants: bool = session.tracker.wants(session, request)
        if row.name == "exec" and session.queue is not None:
            return wants and any(_reads_keys(queued) for queued, _, _ in session.queue.commands)
        return wants and _reads_keys(row)

    # -- operations of one slot

    def write(
        self, session: Session, number: int, request: Sequence[bytes], sink: Sink, index: int, after: int = 0
    ) -> int:
        """As `Coordinator.write`, for a client that may be told of changes by others otherwise than of its own."""
        ticket = self._coordinator.write(number, request, sink, index, after)
        if session.tracker is not None:
            session.tracker.note(ticket)
        return ticket

    def read(
        self,
        session: Session,
        number: int,
        command: Command,
        request: Sequence[bytes],
        batch: Batch,
        sink: Sink,
        index: int,
    ) -> None:
        """A read as an operation, whose keys the home notes when it runs it."""
        keys = request[1:2] if command.one_key else keys_of(command, request)
        noted = not session.any_copy or self._view.topology is None or self._view.reachable(number)
        reading = self._tracking.begin(session, number, keys, sink, index, noted=noted)
        batch.told = [*(batch.told or ()), reading]
        if noted:
            self._send(session, number, request, reading, batch)
        else:
            self._under_way.read(session, number, command, request, batch, reading, 0)

    def _send(self, session: Session, number: int, request: Sequence[bytes], reading: Reading, batch: Batch) -> None:
        after = session.written.get(number, 0)
        asked = tracked_request(request)
        session.written[number] = self._coordinator.write(number, asked, reading, 0, after, reads=True)
        session.reading[number] = batch, OPERATION

    # -- what is noted before it is run

    def keys_read(self, session: Session, row: Command, request: list[bytes]) -> dict[int, list[bytes]]:
        """The keys that a request reads, or what is queued if it is EXEC, by slot."""
        if row.name != "exec" or session.queue is None:
            return self._view.by_slot(keys_of(row, placed(request, session.database)))
        return self._view.by_slot(
            [
                key
                for queued, asked, database in session.queue.commands
                if _reads_keys(queued)
                for key in keys_of(queued, placed(asked, database))
            ]
        )

    def note(self, session: Session, request: list[bytes], slots: dict[int, list[bytes]]) -> None:
        """Have homes note keys of a request that is to be run behind that; see `attach`."""
        ahead = self._outgoing.begin(session, [request] * len(slots), silent=True)
        session.tracker.noted = request
        for place, (number, keys) in enumerate(slots.items()):
            reading = self._tracking.begin(session, number, keys, ahead, place)
            session.tracker.notes.append(reading)
            self._send(session, number, look_request(keys), reading, ahead)

    def attach(self, session: Session, batch: Batch, index: int) -> bool:
        """Whether the keys of a request have been noted: what comes of that is seen to when it is answered."""
        tracker: Tracker = session.tracker
        if tracker.noted is not batch.requests[index]:
            return False
        for reading in tracker.notes:
            reading.ahead_of = index
        batch.told = [*(batch.told or ()), *tracker.notes]
        tracker.noted, tracker.notes = None, []
        return True

    def detach(self, batch: Batch, count: int) -> None:
        """... and not with this batch, if it ends before that."""
        tracker: Tracker = batch.session.tracker
        kept: list[object] = []
        for told in batch.told or ():
            if isinstance(told, Reading) and told.ahead_of >= count:
                tracker.noted = batch.requests[told.ahead_of]
                tracker.notes.append(told)
            else:
                kept.append(told)
        batch.told = kept or None


def _reads_keys(row: Command) -> bool:
    """Whether a client that tracks is told of the keys of a command; a script may read those that it names."""
    return row.kind is Kind.SCRIPT or "readonly" in row.flags
