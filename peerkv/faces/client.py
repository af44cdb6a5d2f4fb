"""A small client for the faces: one connection to one node, which moves on to another member when that one is gone."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import trio

from peerkv.resp import Replies, Reply, ReplyError, encode_request

ANSWER_WITHIN_S: Final = 2.0
"""To a PING on a new connection; a busy node's turns take some milliseconds."""
SILENT_S: Final = 4.0
"""After so long without an answer a node is asked whether it is alive. By then most nodes have given a request up
(request_timeout, 3 s) and said so. More than ANSWER_WITHIN_S, so that the question itself is not asked about."""

Address = tuple[str, int]
Result = TypeVar("Result")


class Unreachable(Exception):
    """No node that is known answers; the text says which were tried."""


class ConnectionLost(Exception):
    """The node broke the connection, or hangs, after a command had been sent: whether it was done is not known. The
    text says what the node has done."""


class Client:
    """Commands one at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.known: list[Address] = [address]
        """Where to go, in this order: the present one, and what was learnt from the cluster."""
        self._stream: trio.SocketStream | None = None
        self._replies = Replies()

    async def connect(self) -> None:
        """To the first known node that answers, the present one first. Raises Unreachable."""
        await self.close()
        refused = ""
        for address in list(self.known):
            reply = await self._open(address)
            if isinstance(reply, ReplyError):
                refused = f" ({reply.text})"
                await self.close()
            elif reply is not None:
                self.address = address
                self.known.remove(address)
                self.known.insert(0, address)
                return
        tried = ", ".join(f"{host}:{port}" for host, port in self.known)
        raise Unreachable(f"no node answers at {tried}{refused}")

    async def ask(self, arguments: Sequence[bytes]) -> Reply:
        """One command. Raises Unreachable, or ConnectionLost if it may have been done."""
        if self._stream is None:
            await self.connect()
        return await self._exchange(arguments)

    async def _open(self, address: Address) -> Reply:
        """Open a connection; what a PING there is answered by. None: nothing, as a node that hangs connects, too."""
        self._replies = Replies()
        try:
            with trio.fail_after(ANSWER_WITHIN_S):
                self._stream = await trio.open_tcp_stream(*address)
                return await self._exchange([b"PING"])
        except (OSError, trio.TooSlowError, ConnectionLost):
            await self.close()
            return None

    async def _exchange(self, arguments: Sequence[bytes]) -> Reply:
        stream = self._stream
        assert stream is not None, "connect() opens one or raises"
        unsent = memoryview(encode_request(arguments))
        try:
            while unsent:
                unsent = unsent[await self._while_alive(stream, partial(stream.socket.send, unsent)) :]
            while True:
                data = await self._while_alive(stream, partial(stream.receive_some, 1 << 16))
                if not data:
                    raise ConnectionLost("broke the connection")
                replies = self._replies.feed(data)
                if replies:
                    return replies[0]
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self.close()
            raise ConnectionLost("broke the connection") from None
        except ConnectionLost:
            await self.close()
            raise

    async def _while_alive(self, stream: trio.SocketStream, step: Callable[[], Awaitable[Result]]) -> Result:
        """What a step on the connection returns, however long it takes: WAIT may take an hour, and a node's patience is
        its own affair. But a node that answers nobody hangs: ConnectionLost."""
        while True:
            with trio.move_on_after(SILENT_S):
                return await step()
            probe = Client(self.address)
            try:
                # at the address that a name stood for: under the same name others may answer
                alive = await probe._open(stream.socket.getpeername()[:2]) is not None
            finally:
                await probe.close()
            if not alive:
                self.known.append(self.known.pop(0))  # the others are to be asked first
                raise ConnectionLost(f"has not answered for {SILENT_S + ANSWER_WITHIN_S:g} s")

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
