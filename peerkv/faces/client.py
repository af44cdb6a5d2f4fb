"""A small client for the faces: one connection to one node, which moves on to another member when that one is gone."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Final, TypeVar

import trio

from peerkv.faces.render import escaped
from peerkv.resp import OK, Replies, Reply, ReplyError, encode_request

ANSWER_WITHIN_S: Final = 2.0
"""To a PING on a new connection; a busy node's turns take some milliseconds."""
SILENT_S: Final = 4.0
"""After so long without an answer a node is asked whether it is alive. By then most nodes have given a request up
(request_timeout, 3 s) and said so. More than ANSWER_WITHIN_S, so that the question itself is not asked about."""

LEARN_S: Final = 5.0
KNOWN_MAX: Final = 1000
"""Nodes that are remembered to move on to."""

Address = tuple[str, int]
Result = TypeVar("Result")


class Unreachable(Exception):
    """No node that is known answers; the text says which were tried."""


class ConnectionLost(Exception):
    """The node broke the connection, or hangs, after a command had been sent: whether it was done is not known. The
    text says what the node has done."""


class NoRedis(ConnectionLost):
    """What answers is no node, nor a Redis."""


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of the exceptions, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def shown_address(address: Address) -> str:
    """HOST:PORT for people; of a member it is what that one says."""
    host, port = address
    return escaped(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


class Client:
    """Commands and their replies, in order."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.known: list[Address] = [address]
        """Where to go, in this order: the present one, and what was learnt from the cluster."""
        self.database = 0
        """That was selected, on whatever connection."""
        self._stream: trio.SocketStream | None = None
        self._replies = Replies()
        self._learn_at = -inf

    async def connect(self) -> None:
        """To the first known node that answers, the present one first. Raises Unreachable."""
        await self.close()
        refused = ""
        for address in list(self.known):
            why = await self._open(address)
            if why is None:
                self.address = address
                self.known.remove(address)
                self.known.insert(0, address)
                return
            await self.close()
            refused = f" ({why})" if why else refused
        tried = ", ".join(map(shown_address, self.known))
        raise Unreachable(f"no node answers at {tried}{refused}")

    async def ask(self, arguments: Sequence[bytes]) -> Reply:
        """One command. Raises Unreachable, or ConnectionLost if it may have been done."""
        replies: list[Reply] = []
        await self.ask_all([arguments], replies.append)
        return replies[0]

    async def ask_all(self, requests: Sequence[Sequence[bytes]], answered: Callable[[Reply], None]) -> None:
        """Commands that are sent without waiting for each other's replies; `answered` gets these one by one, in order.
        Raises Unreachable, or ConnectionLost if those that are not answered may have been done."""
        if self._stream is None:
            await self.connect()
        asked = iter(requests)

        def noted(reply: Reply) -> None:
            match next(asked):
                case [name, database] if name.upper() == b"SELECT" and reply == OK:
                    self.database = int(database)
                case [name] if name.upper() == b"RESET":
                    self.database = 0
            answered(reply)

        await self._exchange(requests, noted)

    async def _open(self, address: Address) -> str | None:
        """Open a connection and have a PING answered there; None, or why not, as far as that says more than silence:
        a node that hangs connects, too."""
        self._replies = Replies()
        replies: list[Reply] = []
        try:
            with trio.fail_after(ANSWER_WITHIN_S):
                self._stream = await trio.open_tcp_stream(*address)
                first = [[b"PING"], [b"SELECT", b"%d" % self.database]]
                await self._exchange(first if self.database else first[:1], replies.append)
        except NoRedis as error:
            return str(error)
        except RuntimeError as error:  # a name is looked up in a thread, and there may be none left
            return str(error)
        except (OSError, UnicodeError, trio.TooSlowError, ConnectionLost):
            return ""
        return escaped(replies[0].text) if isinstance(replies[0], ReplyError) else None

    async def _exchange(self, requests: Sequence[Sequence[bytes]], answered: Callable[[Reply], None]) -> None:
        stream = self._stream
        assert stream is not None, "connect() opens one or raises"
        missing = len(requests)
        try:
            async with trio.open_nursery() as nursery:
                # At the same time, as the node may wait until somebody reads its replies.
                nursery.start_soon(_send, stream, b"".join(map(encode_request, requests)))
                while missing:
                    for reply in (await self._received(stream))[:missing]:
                        missing -= 1
                        answered(reply)
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        finally:
            if missing:
                await self.close()  # what comes now would answer something else

    async def _received(self, stream: trio.SocketStream) -> list[Reply]:
        """Replies that have come, as soon as there is one or a part of one."""
        try:
            data = await self._while_alive(stream, partial(stream.receive_some, 1 << 16))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            raise ConnectionLost("broke the connection")
        return self._fed(data)

    def _fed(self, data: bytes) -> list[Reply]:
        try:
            return self._replies.feed(data)
        except (ValueError, TypeError, RecursionError):
            raise NoRedis("does not speak the Redis protocol") from None

    async def _while_alive(self, stream: trio.SocketStream, step: Callable[[], Awaitable[Result]]) -> Result:
        """What a step on the connection returns, however long it takes: WAIT may take an hour, and a node's patience is
        its own affair. But a node that answers nobody hangs: ConnectionLost."""
        while True:
            with trio.move_on_after(SILENT_S):
                return await step()
            probe = Client(self.address)
            try:
                # at the address that a name stood for: under the same name others may answer
                alive = await probe._open(stream.socket.getpeername()[:2]) is None
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
        try:
            status: dict[str, Any] = json.loads(reply)
            for member in status["members"]:
                self._learn(member["client"], member["liveness"])
        except (ValueError, KeyError, TypeError):
            raise ValueError("this is no node of peerkv, or of a version that is told differently") from None
        return status

    async def learn(self) -> None:
        """Where to go when this node dies; asked again after LEARN_S at the earliest, as every owner is asked."""
        if trio.current_time() < self._learn_at:
            return
        self._learn_at = trio.current_time() + LEARN_S
        try:
            await self.status()
        except (ConnectionLost, Unreachable, ValueError):
            return

    def _learn(self, client: str, liveness: str) -> None:
        host, _, port = client.rpartition(":")
        address = host.removeprefix("[").removesuffix("]"), int(port)
        if host and liveness == "alive" and address not in self.known and len(self.known) < KNOWN_MAX:
            self.known.append(address)

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    """What goes wrong is seen where the replies are awaited."""
    try:
        await stream.send_all(data)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass
