"""Lines and their client: the dialect, lines that are sent together, and nodes that die or hang: such take connections,
as the kernel does that, and answer nobody."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio

from peerkv.faces.client import Client, Unreachable
from peerkv.faces.dialect import Outcome, Shell
from peerkv.resp import Requests

SILENT_S = 0.5
ANSWER_WITHIN_S = 0.3


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerkv.faces.client.SILENT_S", SILENT_S)
    monkeypatch.setattr("peerkv.faces.client.ANSWER_WITHIN_S", ANSWER_WITHIN_S)


class Node:
    """Answers PING, and everything else with OK, or what is set, after `delay_s`; once it hangs, nothing."""

    def __init__(self) -> None:
        self.hangs = False
        self.delay_s = 0.0
        self.seen = b""
        self.together = 0
        """Requests that have come at once, at most."""
        self.answers_left = -1
        """Then it breaks the connection; negative: never."""
        self.dies = False
        """Whether it hangs afterwards."""
        self.replies: dict[bytes, bytes] = {}
        self.address = ("", 0)

    async def listen(self, nursery: trio.Nursery) -> None:
        (listener,) = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
        self.address = listener.socket.getsockname()

    async def _serve(self, stream: trio.SocketStream) -> None:
        requests = Requests(64 << 20, 64 << 10)
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in stream:
                self.seen += data
                if self.hangs:
                    await trio.sleep_forever()
                come = requests.feed(data)
                self.together = max(self.together, len(come))
                for request in come:
                    if request == [b"PING"]:
                        await stream.send_all(b"+PONG\r\n")
                        continue
                    await trio.sleep(self.delay_s)
                    if self.answers_left == 0:
                        self.hangs = self.dies
                        await stream.aclose()
                        return
                    self.answers_left -= 1
                    await stream.send_all(self.replies.get(request[0].upper(), b"+OK\r\n"))

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
    assert await shell.run("wait 2 10000") == ("OK", Outcome.DONE)
    assert nodes[0].seen.count(b"wait") == 1


async def test_a_question_is_asked_where_somebody_answers(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """It was asked once more of the node that hangs."""
    first, second, third = nodes
    first.hangs = second.hangs = True
    moved = f"{first} does not answer any more; now at {third}"
    assert await shell.run("ttl key") == (f"{moved}\nOK", Outcome.DONE)


async def test_the_database_goes_along(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """At the next node the prompt was in database 0."""
    first, second, _ = nodes
    assert await shell.run("select 3") == ("OK", Outcome.DONE)
    assert shell.prompt == f"peerkv[{first}/3]>> "
    first.hangs = True
    assert (await shell.run("ttl key"))[1] is Outcome.DONE
    assert second.seen.index(b"SELECT") < second.seen.index(b"ttl")
    second.replies[b"SELECT"] = b"-ERR DB index is out of range\r\n"
    await shell.run("select 99")
    assert shell.prompt == f"peerkv[{second}/3]>> "
    await shell.run("reset")
    assert shell.prompt == f"peerkv[{second}]>> "


async def test_what_changes_something_is_not_sent_again(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """A node that hangs may do it when it wakes up."""
    first, second, _ = nodes
    first.hangs = True
    moved = f"{first} does not answer any more; now at {second}"
    assert await shell.run("incr key") == (f"{moved}; whether INCR was done is not known: look", Outcome.FAILED)
    assert b"incr" not in second.seen
    assert await shell.run("incr key") == ("OK", Outcome.DONE)


async def test_a_large_value_is_not_taken_by_a_node_that_hangs(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """It hangs before it has read the command."""
    nodes[0].hangs = True
    text, good = await shell.run(f"set key {'x' * (32 << 20)}")
    assert text.startswith(f"{nodes[0]} does not answer any more; now at {nodes[1]}; whether SET was done")
    assert good is Outcome.FAILED


async def test_nobody_else_is_there(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """That a change may have been done was not said."""
    shell.client.known = [nodes[0].address]
    nodes[0].hangs = True
    with pytest.raises(Unreachable, match=rf"no node answers at {nodes[0]}; whether SET was done is not known"):
        await shell.run("set key 1")


async def test_a_reply_that_never_comes_is_not_awaited(shell: Shell) -> None:
    """After CLIENT REPLY OFF the prompt would wait for good."""
    text, good = await shell.run("client reply off")
    assert ("for programs" in text, good) == (True, Outcome.FAILED)


async def run_all(shell: Shell, *lines: str) -> list[tuple[str, Outcome]]:
    shown: list[tuple[str, Outcome]] = []
    await shell.run_all([line.encode() for line in lines], lambda *what: shown.append(what))
    return shown


async def test_lines_of_a_pipe_are_sent_together(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """Each waited for the reply of the one before: a round trip a line."""
    nodes[0].replies = {b"GET": b"$1\r\n4\r\n", b"PTTL": b":1500\r\n", b"INCR": b":7\r\n"}
    shown = await run_all(shell, *["set a 1", "get a", 'get "a', "", "incr a"] * 20)
    assert nodes[0].together > 50
    assert [text for text, _ in shown] == [
        "OK",
        "4 | TTL: 2 seconds",
        "Invalid argument(s): a quote is not closed",
        "",
        "(integer) 7",
    ] * 20
    assert [outcome for _, outcome in shown[:4]] == [Outcome.DONE, Outcome.DONE, Outcome.FAILED, Outcome.DONE]


async def test_a_pipe_s_lines_after_a_lost_node(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """What was not answered may have been done: only questions are asked again, of another node, and in their order."""
    first, second, _ = nodes
    first.answers_left, first.dies = 2, True
    first.replies = {b"TTL": b":1\r\n"}
    second.replies = {b"TTL": b":2\r\n"}
    shell.client.known = [first.address, second.address]
    shown = await run_all(shell, "incr a", "ttl a", "ttl a", "incr a", "incr b", "ttl a")
    moved = f"{first} does not answer any more; now at {second}"
    assert shown == [
        ("OK", Outcome.DONE),
        ("(integer) 1", Outcome.DONE),
        (f"{moved}\n(integer) 2", Outcome.DONE),
        ("whether INCR was done is not known: look", Outcome.FAILED),
        ("whether INCR was done is not known: look", Outcome.FAILED),
        ("(integer) 2", Outcome.DONE),
    ]
    assert b"incr" not in second.seen


async def test_a_question_is_asked_twice_and_not_for_ever(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    nodes[0].answers_left = 0
    shell.client.known = [nodes[0].address]
    text, outcome = await shell.run("ttl key")
    assert (text, outcome) == (
        f"{nodes[0]} broke the connection; connected again; TTL was asked twice in vain",
        Outcome.FAILED,
    )
    assert nodes[0].seen.count(b"ttl") == 2


async def test_what_reads_no_replies_until_all_is_sent_waits_for_nobody(nursery: trio.Nursery) -> None:
    """A node that does not read on before its replies are read, and a client that does not read before all is sent,
    would wait for each other."""
    requests, reply = 8, b"$%d\r\n%b\r\n" % (4 << 20, b"x" * (4 << 20))

    async def serve(stream: trio.SocketStream) -> None:
        parser = Requests(64 << 20, 64 << 10)
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(4096):
                for request in parser.feed(data):
                    await stream.send_all(b"+PONG\r\n" if request == [b"PING"] else reply)

    (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    client = Client(listener.socket.getsockname())
    got: list[object] = []
    with trio.fail_after(30):
        await client.ask_all([[b"ECHO", b"y" * (4 << 20)]] * requests, got.append)
    assert len(got) == requests
    await client.close()
    nursery.cancel_scope.cancel()


async def test_a_plain_set_that_finds_a_value(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """A script could not tell it from one that was done."""
    nodes[0].replies = {b"SET": b"$-1\r\n"}
    assert await shell.run("set a 1") == ("Can't Override", Outcome.NOT_OVERRIDDEN)
    assert nodes[0].seen.endswith(b"$2\r\nNX\r\n")
    assert await shell.run("set a 1 nx") == ("(nil)", Outcome.DONE)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*x\r\n", b"%1\r\n*0\r\n+a\r\n", b"$-5x\r\n"])
async def test_who_does_not_speak_redis_is_said_to_be_so(nursery: trio.Nursery, said: bytes) -> None:
    """It was a ValueError's traceback."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(said)

    (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    with pytest.raises(Unreachable, match="does not speak the Redis protocol"):
        await Client(listener.socket.getsockname()).connect()
    nursery.cancel_scope.cancel()


async def test_help_is_not_sent(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    text, outcome = await shell.run("help")
    assert ("Can't Override" in text, outcome) == (True, Outcome.DONE)
    assert (await shell.run("HELP setex"))[0].startswith("SETEX key seconds value\n")
    assert (await shell.run("help client"))[0].count("list") == 1
    assert "there is no command" in (await shell.run("help \x1b"))[0]
    assert b"help" not in nodes[0].seen.lower()


async def test_members_are_not_asked_for_after_every_line(nodes: tuple[Node, Node, Node], shell: Shell) -> None:
    """Each time every owner of the cluster was asked what it holds."""
    status = b'{"members": [{"client": "127.0.0.1:9", "liveness": "alive"}]}'
    nodes[0].replies = {b"PEERKV": b"$%d\r\n%b\r\n" % (len(status), status)}
    for _ in range(10):
        await shell.client.learn()
    assert nodes[0].seen.count(b"STATUS") == 1
    assert ("127.0.0.1", 9) in shell.client.known
