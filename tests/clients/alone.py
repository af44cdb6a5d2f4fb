"""A node by itself without I/O, and its clients."""

from __future__ import annotations

import random
from collections.abc import Sequence

from peerkv.clients.session import Session
from peerkv.node import Node, Outbox
from peerkv.resp import Replies, Reply, encode_request
from peerkv.settings import Settings


class Alone:
    """A node by itself, turn by turn."""

    def __init__(self, *, wall: float = 1_700_000_000.0, **settings: int) -> None:
        self.node = Node(Settings(**settings), random.Random(1), 0.0, wall)
        self.now = self.wake_at = 0.0
        self.clients: dict[int, Client] = {}
        self.turn()

    def turn(self) -> None:
        self.turned()

    def turned(self) -> Outbox:
        """A turn, and what it wanted done."""
        self.now += 0.001
        self.node.wake(self.now)
        outbox = self.node.take(self.now)
        self.wake_at = outbox.wake_at
        for job in outbox.jobs:
            job.run()
            self.node.job_done(self.now, job)
            self.wake_at = self.now
        for session, data in outbox.replies:
            if session.id in self.clients:  # it may have gone before it was answered
                self.clients[session.id].write(data)
        for session, held in outbox.holds:
            self.clients[session.id].held = held
        for session in outbox.kills:
            self.clients[session.id].cut_off = True
        return outbox

    def turns(self) -> int:
        """Until nothing is left to do; how many."""
        count = 1
        self.turn()
        while self.node.more or self.wake_at <= self.now + 0.001:
            count += 1
            assert count < 100_000
            self.turn()
        return count


class Client:
    def __init__(self, alone: Alone) -> None:
        self.alone = alone
        self.session: Session = alone.node.open(alone.now, "client", "node")
        alone.clients[self.session.id] = self
        self.replies: list[Reply] = []
        self.held = self.cut_off = False
        self.reads = True
        self.unread = 0
        self._parser = Replies()

    def send(self, *requests: Sequence[bytes]) -> None:
        self.alone.node.receive(self.alone.now, self.session, b"".join(map(encode_request, requests)))

    def ask(self, *requests: Sequence[bytes]) -> list[Reply]:
        self.replies = []
        self.send(*requests)
        self.alone.turns()
        return self.replies

    def write(self, data: bytes) -> None:
        self.replies += self._parser.feed(data)
        self.unread = 0 if self.reads else self.unread + len(data)
        self.alone.node.wrote(self.alone.now, self.session, self.unread)

    def read(self) -> None:
        self.unread = 0
        self.alone.node.wrote(self.alone.now, self.session, 0)
