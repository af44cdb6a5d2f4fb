"""Whom the same bytes are sent to: a redis-server, a node, three nodes of a cluster, in process or by sockets.

Each has as many places to send to as a cluster has nodes, with a connection at each, so that what is said to a
connection (HELLO 3, CLIENT SETNAME) is said to the same one of both sides.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Protocol

from peerkv.commands.transactions import is_record
from peerkv.ring.keys import SLOTS as REAL_SLOTS
from peerkv.store.values.held import Held
from tests.clients.alone import Alone, Client
from tests.differential.trees import Tree, Trees
from tests.sim.world import SLOTS as SIMULATED_SLOTS
from tests.sim.world import Connection, World

PLACES = 3
PATIENCE_S = 5.0
"""Whoever has not answered by then does not answer."""


class Server(Protocol):
    """One side of a comparison."""

    slots: int

    def connect(self) -> None:
        """New connections, one at each place; the old ones are closed."""

    def ask(self, place: int, data: bytes, count: int) -> list[Tree]:
        """Send bytes, and read so many replies, or as many as there are before it closes or falls silent."""

    def closed(self, place: int) -> bool:
        """Whether it has closed a connection."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""


class Sockets:
    """Whatever listens at these ports, in turn."""

    slots = REAL_SLOTS

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._connections: list[socket.socket] = []
        self._trees: list[Trees] = []

    def connect(self) -> None:
        self.end()
        ports = [self._ports[place % len(self._ports)] for place in range(PLACES)]
        self._connections = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for port in ports]
        for connection in self._connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._trees = [Trees() for _ in ports]

    def ask(self, place: int, data: bytes, count: int) -> list[Tree]:
        connection, trees = self._connections[place], self._trees[place]
        replies: list[Tree] = []
        try:
            connection.sendall(data)
            while len(replies) < count:
                received = connection.recv(1 << 18)
                if not received:
                    break
                replies += trees.feed(received)  # type: ignore[arg-type]
        except (TimeoutError, ConnectionError):
            pass
        return replies

    def closed(self, place: int) -> bool:
        try:
            return not self._connections[place].recv(1)
        except (TimeoutError, ConnectionError) as error:
            return isinstance(error, ConnectionError)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def end(self) -> None:
        for connection in self._connections:
            connection.close()


class ByItself:
    """A node by itself, in process."""

    slots = REAL_SLOTS

    def __init__(self) -> None:
        self._alone = Alone(wall=time.time())
        self._clients: list[Client] = []

    def connect(self) -> None:
        alone = self._alone
        for client in self._clients:
            alone.node.close(alone.now, client.session)
            del alone.clients[client.session.id]
        self._clients = [Client(alone) for _ in range(PLACES)]
        for client in self._clients:
            client._parser = Trees()

    def ask(self, place: int, data: bytes, count: int) -> list[Tree]:
        alone, client = self._alone, self._clients[place]
        client.replies = []
        alone.node.receive(alone.now, client.session, data)
        until = alone.now + PATIENCE_S
        alone.turn()
        while len(client.replies) < count and alone.now < until and not client.session.closing:
            alone.turn()
        if client.session.closing:
            alone.turns()
        return client.replies  # type: ignore[return-value]

    def closed(self, place: int) -> bool:
        return self._clients[place].session.closing

    def wait(self, seconds: float) -> None:
        self._alone.now += seconds
        self._alone.turn()


class InProcess:
    """Three nodes in one process, their network and their time simulated."""

    slots = SIMULATED_SLOTS

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed, wall=time.time())
        self.world.cluster(PLACES, master=False)
        self.world.run(8.0)
        self._connections: list[Connection] = []
        self._replies: list[list[Tree]] = []

    def connect(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections, self._replies = [], []
        for name in self.world.hosts:
            connection = self.world.connect(name)
            assert connection is not None, name
            replies: list[Tree] = []
            connection.replies = Trees()
            connection.on_reply = replies.append  # type: ignore[assignment]
            self._connections.append(connection)
            self._replies.append(replies)

    def ask(self, place: int, data: bytes, count: int) -> list[Tree]:
        world, connection, replies = self.world, self._connections[place], self._replies[place]
        replies.clear()
        connection.arrive(data)
        until = world.now + PATIENCE_S
        while len(replies) < count and world.now < until and not connection.closed:
            world.step()
        return list(replies)

    def held(self) -> list[bytes]:
        """Keys that transactions hold at some node, and decisions that are written."""
        self.wait(1.0)
        nodes = [host.node for host in self.world.hosts.values() if host.node is not None]
        cells = [pair for node in nodes for slot in node.view.copies.cells for pair in (slot or {}).items()]
        return [
            key for key, (_, value, _) in cells if isinstance(value, Held) or (is_record(key) and value is not None)
        ]

    def closed(self, place: int) -> bool:
        self.wait(1.0)
        return self._connections[place].closed

    def wait(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)
