"""A small client for the faces: one connection to one node, which moves on to another member when that node dies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import trio

from peerkv.resp import Replies, Reply, ReplyError, encode_request

CONNECT_WITHIN_S: Final = 2.0
REPLY_WITHIN_S: Final = 10.0

Address = tuple[str, int]


class Unreachable(Exception):
    """No node that is known answers; the text says which were tried."""


class ConnectionLost(Exception):
    """The connection broke after a command had been sent: whether it was done is not known."""


class Client:
    """Commands one at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.known: list[Address] = [address]
        """Where else to go; learnt from the cluster."""
        self._stream: trio.SocketStream | None = None
        self._replies = Replies()

    async def connect(self) -> None:
        """To the first known node that answers, the present one first. Raises Unreachable."""
        await self.close()
        for address in [self.address, *(other for other in self.known if other != self.address)]:
            try:
                with trio.fail_after(CONNECT_WITHIN_S):
                    self._stream = await trio.open_tcp_stream(*address)
            except (OSError, trio.TooSlowError):
                continue
            self.address = address
            self._replies = Replies()
            return
        tried = ", ".join(f"{host}:{port}" for host, port in dict.fromkeys([self.address, *self.known]))
        raise Unreachable(f"no node answers at {tried}")

    async def ask(self, arguments: Sequence[bytes]) -> Reply:
        """One command. Raises Unreachable, or ConnectionLost if it may have been done."""
        if self._stream is None:
            await self.connect()
        stream = self._stream
        assert stream is not None, "connect() opens one or raises"
        try:
            with trio.fail_after(REPLY_WITHIN_S):
                await stream.send_all(encode_request(arguments))
                while True:
                    data = await stream.receive_some(1 << 16)
                    if not data:
                        raise ConnectionLost
                    replies = self._replies.feed(data)
                    if replies:
                        return replies[0]
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, ConnectionLost):
            await self.close()
            raise ConnectionLost from None

    async def status(self) -> dict[str, Any]:
        """PEERKV STATUS; also learns where the other members are. Raises what `ask` does, and ValueError."""
        reply = await self.ask([b"PEERKV", b"STATUS"])
        if isinstance(reply, ReplyError):
            raise ValueError(reply.text)
        if not isinstance(reply, bytes):
            raise ValueError("this is no node of peerkv")
        status: dict[str, Any] = json.loads(reply)
        for member in status["members"]:
            host, _, port = member["client"].rpartition(":")
            address = host, int(port)
            if host and member["liveness"] == "alive" and address not in self.known:
                self.known.append(address)
        return status

    async def close(self) -> None:
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
            self._stream = None
