"""A closed-loop load of fixed requests and replies of fixed length: for what redis-benchmark cannot ask, like WAIT."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, repeat


def rate(
    port: int, request: bytes | Callable[[int, int], bytes], reply_bytes: int, *, clients: int, seconds: float
) -> float:
    """Requests per second when `clients` connections each send `request`, or what that makes of (client, how many it
    has sent), again as soon as its reply is complete."""
    selector = selectors.DefaultSelector()
    left: dict[socket.socket, int] = {}
    following: dict[socket.socket, Iterator[bytes]] = {}
    for client in range(clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        following[connection] = (
            repeat(request) if isinstance(request, bytes) else map(partial(request, client), count())
        )
        connection.sendall(next(following[connection]))
        left[connection] = reply_bytes
        selector.register(connection, selectors.EVENT_READ)
    done = 0
    began = time.perf_counter()
    until = began + seconds
    try:
        while time.perf_counter() < until:
            for key, _ in selector.select(1.0):
                connection = key.fileobj  # type: ignore[assignment]
                data = connection.recv(1 << 16)
                if not data or data.startswith(b"-"):
                    raise RuntimeError(f"the server answered {data[:80]!r}")
                left[connection] -= len(data)
                if left[connection] == 0:
                    done += 1
                    left[connection] = reply_bytes
                    connection.sendall(next(following[connection]))
        return done / (time.perf_counter() - began)
    finally:
        for connection in left:
            connection.close()
        selector.close()


def encode(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments)
