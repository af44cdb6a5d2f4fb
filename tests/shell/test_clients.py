"""What is read of clients, in which order, and when not; on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
import trio

from bench.processes import free_port
from peerkv.clients.session import Session
from peerkv.node import Node, Outbox
from peerkv.resp.requests import encode_request
from peerkv.settings import Settings
from peerkv.shell import clients
from peerkv.shell.serve import Serving, serve


@pytest.fixture
async def serving(nursery: trio.Nursery) -> Serving:
    return await nursery.start(serve, Settings(name="one", port=free_port()))


def tell(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[None]]:
    """Has the node's next Outbox say more than it would, and waits until it has."""
    told: list[dict[str, bool]] = []
    take = serving.node.take

    def patched(now: float) -> Outbox:
        return replace(take(now), **(told.pop() if told else {}))

    async def say(**what: bool) -> None:
        told.append(what)
        await until(lambda: not told)  # some turn comes by itself, for gossip

    monkeypatch.setattr(serving.node, "take", patched)
    return say


async def until(what: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not what():
            await trio.sleep(0.005)


async def test_paused_clients_are_not_read_from_but_get_what_they_are_owed(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a node with more work than it can do would take more on, or keep replies to itself."""
    say = tell(serving, monkeypatch)
    node = serving.node
    value = b"x" * 1_000_000
    async with (
        await trio.open_tcp_stream("127.0.0.1", serving.port) as reader,
        await trio.open_tcp_stream("127.0.0.1", serving.port) as other,
    ):
        await reader.send_all(encode_request([b"SET", b"big", value]) + encode_request([b"GET", b"big"]) * 10)
        await until(lambda: node.dispatcher.commands == 11)  # of which the sockets cannot hold the replies
        await say(pause_clients=True)
        await other.send_all(encode_request([b"PING"]))
        expected = len(b"+OK\r\n") + 10 * len(b"$1000000\r\n%b\r\n" % value)
        seen = 0
        with trio.fail_after(10):
            while seen < expected:
                seen += len(await reader.receive_some(1 << 20))
        assert node.dispatcher.commands == 11  # the PING is still where it was
        await say(pause_clients=False)
        with trio.fail_after(10):
            assert await other.receive_some(100) == b"+PONG\r\n"


async def test_everybody_has_a_turn_before_anybody_has_two(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise clients with long pipelines would be served in the order of the kernel's list, and the rest of them
    never."""
    monkeypatch.setattr(clients, "READ_BYTES", 1400)
    monkeypatch.setattr(clients, "COMMANDS_AT_ONCE", 150)
    order: list[int] = []
    receive = Node.receive

    def noted(node: Node, now: float, session: Session, data: bytes) -> list[list[bytes]]:
        order.append(session.id)
        return receive(node, now, session, data)

    monkeypatch.setattr(Node, "receive", noted)
    serving: Serving = await nursery.start(serve, Settings(name="one", port=free_port()))
    node = serving.node
    sockets = [socket.create_connection(("127.0.0.1", serving.port)) for _ in range(8)]
    pipeline = encode_request([b"PING"]) * 300  # three reads of 100 each
    await until(lambda: len(node.sessions) == len(sockets))
    for client in sockets:  # nothing is read meanwhile: this task does not wait
        client.sendall(pipeline)
    await until(lambda: node.dispatcher.commands == 300 * len(sockets))
    turns: Iterator[list[int]] = (order[at : at + len(sockets)] for at in range(0, len(order), len(sockets)))
    assert all(len(set(turn)) == len(turn) for turn in turns)
    for client in sockets:
        client.close()
