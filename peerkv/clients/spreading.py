"""Commands of many keys (MGET, MSET, DEL and their like): a part for each slot, and one reply of all.

One of very many keys is run piece by piece, so that others are served in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

from peerkv.agreement.home import Home
from peerkv.agreement.reads import Sink
from peerkv.agreement.view import View
from peerkv.clients.noting import Noting
from peerkv.clients.outgoing import Batch
from peerkv.clients.session import Session
from peerkv.clients.shares import Shares
from peerkv.clients.underway import UnderWay
from peerkv.clock import Clock
from peerkv.commands.table import Command, Kind, find_part
from peerkv.resp import Reply, ReplyError

PIECE_ARGUMENTS: Final = 512
"""A command of more keys than that is run piece by piece."""
PIECES_OPEN_MAX: Final = 2


class Spreading:
    """Of all clients of a node."""

    def __init__(
        self, clock: Clock, view: View, home: Home, under_way: UnderWay, noting: Noting, shares: Shares
    ) -> None:
        self._clock = clock
        self._view = view
        self._home = home
        self._under_way = under_way
        self._noting = noting
        self._shares = shares

    def begin(self, session: Session, command: Command, request: Sequence[bytes], batch: Batch, index: int) -> None:
        """Run a command of very many keys, when the client's backlog is gone on with: of which it is the head."""
        session.spreading = _Pieces(self, self._shares, session, command, request, batch, index)

    def run(
        self,
        session: Session,
        command: Command,
        request: Sequence[bytes],
        sink: Sink,
        index: int,
        join: Callable[[list[Reply]], Reply] | None = None,
    ) -> bool:
        """Send the parts of a command; False if one must wait for an earlier read of its slot. `join`: it is a piece of
        a command, which has waited already."""
        spread = command.spread
        assert spread is not None, "SPREAD commands can be split"
        aside = session.tracker is not None and not session.tracker.bcast
        tracks = aside and join is None and session.tracker.tracks
        split = spread.split(request)
        if isinstance(split, ReplyError):
            sink.deliver(index, split)
            return True
        parts = [(self._view.slot_of(key), part) for key, part in split]
        part_command = find_part(parts[0][1][0])
        assert part_command is not None, "parts are requests of the table"
        written, reading = session.written, session.reading
        under_way = self._under_way
        if part_command.kind is Kind.WRITE:
            if any(number in reading and under_way.is_read(session, number) for number, _ in parts):
                return False
            if spread.merge is not None:
                merged: dict[int, list[list[bytes]]] = {}
                for number, part in parts:
                    merged.setdefault(number, []).append(part)
                parts = [(number, spread.merge(group)) for number, group in merged.items()]
        elif join is None and any(
            number in reading and under_way.cuts_in(session, number, by_home=tracks) for number, _ in parts
        ):
            return False
        gather = _Gather(len(parts), join or spread.join, sink, index)
        for place, (number, part) in enumerate(parts):
            if self._home.alone[number] and not aside and number not in written and number not in reading:
                gather.deliver(place, self._home.apply_alone(number, part_command.run, part, self._clock.cluster_ms))  # type: ignore[arg-type]
            elif part_command.kind is Kind.READ and tracks:
                assert isinstance(sink, Batch), "it is no piece of a command"
                self._noting.read(session, number, part_command, part, sink, gather, place)
            elif part_command.kind is Kind.READ:
                under_way.read(session, number, part_command, part, sink, gather, place)
            else:
                before = written.get(number, 0)
                written[number] = self._noting.write(session, number, part, gather, place, before)
                session.last_slot = number
        return True


class _Gather(Sink):
    """The replies of a command that was split; joined, they are its reply."""

    __slots__ = ("index", "join", "sink")

    def __init__(self, count: int, join: Callable[[list[Reply]], Reply], sink: Sink, index: int) -> None:
        super().__init__(count)
        self.join = join
        self.sink = sink
        self.index = index

    def complete(self) -> None:
        error = next((part for part in self.replies if isinstance(part, ReplyError)), None)
        self.sink.deliver(self.index, error if error is not None else self.join(self.replies))


class _Pieces(Sink):
    """A command that is run piece by piece: how far it is, and the pieces' replies."""

    __slots__ = ("at", "command", "index", "opened", "request", "session", "shares", "sink", "spreading", "step")

    def __init__(
        self,
        spreading: Spreading,
        shares: Shares,
        session: Session,
        command: Command,
        request: Sequence[bytes],
        batch: Batch,
        index: int,
    ) -> None:
        self.step = command.keys[2] * (PIECE_ARGUMENTS // command.keys[2])
        super().__init__(-(-(len(request) - 1) // self.step))
        self.spreading = spreading
        self.shares = shares
        self.session = session
        self.command = command
        self.request = request
        self.sink = batch
        self.index = index
        self.at = 1
        self.opened = 0

    @property
    def is_full(self) -> bool:
        """So many pieces are under way that those must be answered first."""
        return self.opened - len(self.replies) + self.left >= PIECES_OPEN_MAX

    def go_on(self) -> bool:
        """Run pieces; whether all of the command is under way."""
        session, shares = self.session, self.shares
        while self.at < len(self.request):
            if self.is_full or shares.room(session, PIECE_ARGUMENTS) <= 0:
                return False
            shares.charge(session, PIECE_ARGUMENTS // 2)
            piece = [self.request[0], *self.request[self.at : self.at + self.step]]
            self.at += self.step
            self.opened += 1
            begun = self.spreading.run(session, self.command, piece, self, self.opened - 1, join=list)
            assert begun, "a command that writes is begun when no read is under way"
        session.spreading = None
        return True

    def deliver(self, index: int, reply: Reply) -> None:
        super().deliver(index, reply)
        self.shares.go_on(self.session)

    def complete(self) -> None:
        error = next((piece for piece in self.replies if isinstance(piece, ReplyError)), None)
        assert self.command.spread is not None, "SPREAD commands can be split"
        joined = error or self.command.spread.join(list(chain.from_iterable(self.replies)))  # type: ignore[arg-type]
        self.sink.deliver(self.index, joined)
