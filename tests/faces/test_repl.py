"""The prompt and its client, when a node hangs: it takes connections, as its kernel does that, and answers nobody."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio

from peerkv.faces.client import Client, Unreachable
from peerkv.faces.repl import Shell

SILENT_S = 0.5
ANSWER_WITHIN_S = 0.3


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerkv.faces.client.SILENT_S", SILENT_S)
    monkeypatch.setattr("peerkv.faces.client.ANSWER_WITHIN_S", ANSWER_WITHIN_S)


class Node:
    """Answers PING, and everything else with OK after `delay_s`; once it hangs, nothing."""

    def __init__(self) -> None:
        self.hangs = False
        self.delay_s = 0.0
        self.seen = b""
        self.address = ("", 0)

    async def listen(self, nursery: trio.Nursery) -> None:
        (listener,) = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
        self.address = listener.socket.getsockname()

    async def _serve(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in stream:
                self.seen += data
                if self.hangs:
                    await trio.sleep_forever()
                await trio.sleep(0 if b"PING" in data else self.delay_s)
                await stream.send_all(b"+PONG\r\n" if b"PING" in data else b"+OK\r\n")

    def __str__(self) -> str:
        return "{}:{}".format(*self.address)


@pytest.fixture
async def nodes(nursery: trio.Nursery) -> tuple[Node, Node, Node]:
    nodes = Node(), Node(), Node()
    for node in nodes:
        await node.listen(nursery)
    return nodes


@pytest.fixture
async def shell(nodes: tuple[Node, Node, Node]) -> AsyncIterator[Shell]:
    client = Client(nodes[0].address)
    client.known = [node.address for node in nodes]
    await client.connect()
    yield Shell(client, redis=False, terminal=False)
    await client.close()


async def test_a_command_may_take_its_time(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """WAIT was cut off after ten seconds, and asked once more."""
    nodes[0].delay_s = 3 * SILENT_S
    assert await shell.run("wait 2 10000") == ("OK", True)
    assert nodes[0].seen.count(b"wait") == 1


async def test_a_question_is_asked_where_somebody_answers(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """It was asked once more of the node that hangs."""
    first, second, third = nodes
    first.hangs = second.hangs = True
    moved = f"{first} does not answer any more; now at {third}"
    assert await shell.run("ttl key") == (f"{moved}\nOK", True)


async def test_what_changes_something_is_not_sent_again(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """A node that hangs may do it when it wakes up."""
    first, second, _ = nodes
    first.hangs = True
    moved = f"{first} does not answer any more; now at {second}"
    assert await shell.run("incr key") == (f"{moved}; whether INCR was done is not known: look", False)
    assert b"incr" not in second.seen
    assert await shell.run("incr key") == ("OK", True)


async def test_a_large_value_is_not_taken_by_a_node_that_hangs(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """It hangs before it has read the command."""
    nodes[0].hangs = True
    text, good = await shell.run(f"set key {'x' * (32 << 20)}")
    assert text.startswith(f"{nodes[0]} does not answer any more; now at {nodes[1]}; whether SET was done")
    assert not good


async def test_nobody_else_is_there(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """That a change may have been done was not said."""
    shell.client.known = [nodes[0].address]
    nodes[0].hangs = True
    with pytest.raises(Unreachable, match=rf"no node answers at {nodes[0]}; whether SET was done is not known"):
        await shell.run("set key 1")


async def test_a_reply_that_never_comes_is_not_awaited(shell: Shell) -> None:
    """After CLIENT REPLY OFF the prompt would wait for good."""
    text, good = await shell.run("client reply off")
    assert ("for programs" in text, good) == (True, False)
