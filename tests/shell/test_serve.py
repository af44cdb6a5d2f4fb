"""One real node on real sockets, and what bad company does to it."""

from __future__ import annotations

import logging
import os
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio

from bench.processes import free_port
from peerkv.clients.session import Session
from peerkv.node import Node
from peerkv.resp import Replies, Reply, ReplyError, encode_request
from peerkv.settings import Settings
from peerkv.shell.peers import STRANGERS_MAX
from peerkv.shell.serve import PortTaken, Serving, serve


@pytest.fixture
async def serving(nursery: trio.Nursery) -> Serving:
    settings = Settings(name="one", port=free_port(), request_bytes_max=1 << 20, clients_max=300)
    return await nursery.start(serve, settings)


async def connect(serving: Serving, *, peer: bool = False) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", serving.peer_port if peer else serving.port)


async def read(stream: trio.SocketStream, count: int) -> list[Reply]:
    replies: list[Reply] = []
    reader = Replies()
    with trio.fail_after(10):
        while len(replies) < count:
            data = await stream.receive_some(65536)
            if not data:
                break
            replies += reader.feed(data)
    return replies


async def works(serving: Serving) -> bool:
    async with await connect(serving) as stream:
        await stream.send_all(encode_request([b"PING"]))
        return await read(stream, 1) == ["PONG"]


async def test_a_pipeline_in_pieces(serving: Serving) -> None:
    requests = [[b"SET", b"k", b"v"], [b"GET", b"k"], [b"INCR", b"n"], [b"DBSIZE"], [b"NOPE"], [b"GET", b"k"]]
    data = b"".join(map(encode_request, requests))
    async with await connect(serving) as stream:
        for at in range(0, len(data), 11):
            await stream.send_all(data[at : at + 11])
            await trio.lowlevel.checkpoint()
        *replies, unknown, last = await read(stream, 6)
    assert replies == ["OK", b"v", 1, 2]
    assert isinstance(unknown, ReplyError)
    assert last == b"v"


async def test_a_half_closed_client_gets_its_replies(serving: Serving) -> None:
    async with await connect(serving) as stream:
        await stream.send_all(encode_request([b"SET", b"k", b"v"]) + encode_request([b"GET", b"k"]))
        await stream.send_eof()
        assert await read(stream, 3) == ["OK", b"v"]


async def test_protocols_and_silence(serving: Serving) -> None:
    async with await connect(serving) as stream:
        for request in (
            [b"PING"],
            [b"HELLO", b"3"],
            [b"GET", b"none"],
            [b"CLIENT", b"REPLY", b"OFF"],
            [b"PING"],
            [b"CLIENT", b"REPLY", b"ON"],
            [b"CLIENT", b"REPLY", b"SKIP"],
            [b"PING"],
            [b"PING", b"heard"],
            [b"HELLO", b"4"],
            [b"QUIT"],
            [b"PING"],
        ):
            await stream.send_all(encode_request(request))
        pong, hello, none, on, heard, refused, quit_ = await read(stream, 8)
    assert (pong, none, on, heard, quit_) == ("PONG", None, "OK", b"heard", "OK")
    assert isinstance(hello, dict)
    assert hello[b"proto"] == 3
    assert isinstance(refused, ReplyError)
    assert refused.text.startswith("NOPROTO")


@pytest.mark.parametrize(
    "data",
    [
        b"*1\r\n$999999999\r\n",
        b"*99999999\r\n",
        b"\x00\xff" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
    ],
)
async def test_a_bad_client_hurts_only_itself(serving: Serving, data: bytes) -> None:
    async with await connect(serving) as stream:
        try:
            await stream.send_all(data)
            replies = await read(stream, 10)
            assert isinstance(replies[-1], ReplyError)
        except (trio.BrokenResourceError, ValueError):
            pass
    assert await works(serving)


async def test_rubbish_at_the_peer_port(serving: Serving) -> None:
    rng = random.Random(1)
    for size in (0, 1, 3, 100, 5000):
        payload = rng.randbytes(size)
        async with await connect(serving, peer=True) as stream:
            await stream.send_all(struct.pack(">I", len(payload)) + payload)
            with trio.fail_after(5):
                assert await stream.receive_some(100) == b""
    async with await connect(serving, peer=True) as stream:
        await stream.send_all(struct.pack(">I", 0xFFFFFFFF))
        with trio.fail_after(5):
            assert await stream.receive_some(100) == b""
    async with await connect(serving, peer=True) as stream:
        await stream.send_all(b"\x00")  # and then nothing
        assert await works(serving)


async def test_random_datagrams(serving: Serving) -> None:
    rng = random.Random(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in range(0, 1400, 7):
            sender.sendto(rng.randbytes(size), ("127.0.0.1", serving.peer_port))
            sender.sendto(b"pk\x01\x01" + rng.randbytes(size), ("127.0.0.1", serving.peer_port))
    await trio.sleep(0.05)
    assert await works(serving)


async def test_more_clients_than_allowed(serving: Serving) -> None:
    streams = [await connect(serving) for _ in range(300)]
    async with await connect(serving) as stream:
        (reply,) = await read(stream, 1)
        assert reply == ReplyError("ERR max number of clients reached")
    for stream in streams:
        await stream.aclose()
    await trio.sleep(0.05)
    assert await works(serving)


async def test_a_client_that_does_not_read_is_waited_for(serving: Serving) -> None:
    async with await connect(serving) as stream:
        value = b"x" * 100_000
        await stream.send_all(encode_request([b"SET", b"big", value]))
        count = 200
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, encode_request([b"GET", b"big"]) * count)
            await trio.sleep(0.2)
            assert await works(serving)
            assert await read(stream, count + 1) == ["OK", *[value] * count]


async def test_a_taken_port(serving: Serving) -> None:
    with pytest.raises(PortTaken, match=rf"port {serving.port} \(clients of two\) on 127.0.0.1"):
        await serve(Settings(name="two", port=serving.port))


async def test_keys_expire_by_themselves(serving: Serving) -> None:
    async with await connect(serving) as stream:
        await stream.send_all(encode_request([b"SET", b"k", b"v", b"PX", b"30"]))
        await trio.sleep(0.2)
        assert not serving.node.statistics().keyspace
        await stream.send_all(encode_request([b"DBSIZE"]))
        assert await read(stream, 2) == ["OK", 0]


async def test_ipv6_is_written_as_redis_does(nursery: trio.Nursery) -> None:
    """Tools take the address of CLIENT LIST for CLIENT KILL; an IPv4 client of :: is an IPv4 client."""
    try:
        serving: Serving = await nursery.start(serve, Settings(name="six", host="::", port=free_port()))
    except PortTaken:
        pytest.skip("no IPv6 here")
    async with (
        await trio.open_tcp_stream("::1", serving.port) as six,
        await trio.open_tcp_stream("127.0.0.1", serving.port) as four,
    ):
        await four.send_all(encode_request([b"PING"]))
        await read(four, 1)
        with trio.fail_after(5):
            while len(serving.node.sessions) < 2:
                await trio.sleep(0.01)
        addresses = {session.address for session in serving.node.sessions.values()}
        assert addresses == {
            f"[::1]:{six.socket.getsockname()[1]}",
            f"127.0.0.1:{four.socket.getsockname()[1]}",
        }


def keepalive_timers(port: int) -> list[bool]:
    """Of each established connection to a port: whether the kernel will ask if the other side is there."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[5].startswith("02") for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]


async def test_vanished_hosts_are_found_out(serving: Serving) -> None:
    """A host that loses its power says no goodbye: without keepalive its connection is held for ever."""
    async with await connect(serving) as stream, await connect(serving, peer=True) as peer:
        await stream.send_all(encode_request([b"PING"]))
        await read(stream, 1)
        await peer.send_all(b"\0")
        await trio.sleep(0.1)
        assert keepalive_timers(serving.port) == [True]
        assert keepalive_timers(serving.peer_port) == [True]


async def test_any_port_and_a_seed_with_its_peer_port(nursery: trio.Nursery) -> None:
    """Tests and programs that embed a node have no port to give."""
    first: Serving = await nursery.start(serve, Settings(name="one", port=0))
    assert first.port > 0
    assert first.peer_port > 0
    seed = ("127.0.0.1", first.port, first.peer_port)
    second: Serving = await nursery.start(serve, Settings(name="two", port=0, seeds=(seed,)))
    assert len({first.port, first.peer_port, second.port, second.peer_port}) == 4
    with trio.fail_after(20):
        while not (second.node.topology is not None and second.node.topology.epoch >= 3):
            await trio.sleep(0.05)
    peers = {member.name: (member.client_port, member.peer_port) for member in first.node.members()}
    assert peers == {"one": (first.port, first.peer_port), "two": (second.port, second.peer_port)}


async def test_a_port_that_is_none() -> None:
    with pytest.raises(PortTaken, match=r"port 70000 \(peers of one\) on 127.0.0.1: there is no such port"):
        await serve(Settings(name="one", port=free_port(), peer_port=70000))


async def test_a_node_says_who_it_is_and_what_is_missing(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a node that waits for ever for a seed that was mistyped looks like one that works."""
    caplog.set_level(logging.INFO)
    nobody = free_port()
    settings = Settings(name="x", port=0, zone="z1", seeds=(("127.0.0.1", nobody),))
    serving: Serving = await nursery.start(serve, settings)

    def said(text: str) -> bool:
        return any(text in message for message in caplog.messages)

    with trio.fail_after(10):
        while not said("cannot be reached"):
            await trio.sleep(0.02)
    who = f"data node x of cluster peerkv: clients at 127.0.0.1:{serving.port}, peers at 127.0.0.1:"
    assert said(who)
    assert said("not by default: zone = z1")
    assert said(f"to meet first: 127.0.0.1:{nobody}")
    assert said(f"seed 127.0.0.1:{nobody} cannot be reached, and is tried on: Connection refused")
    assert not said("ready")
    await nursery.start(serve, Settings(name="one", port=nobody))
    with trio.fail_after(30):
        while not (said("epoch 3") and caplog.messages.count("ready") == 2):
            await trio.sleep(0.05)
    assert not any("\n" in message for message in caplog.messages)


async def test_what_info_and_client_list_tell_is_true(serving: Serving) -> None:
    """process_id was the constant 1: who believed it and sent a signal hit init."""

    async def ask(stream: trio.SocketStream, *request: bytes) -> str:
        await stream.send_all(encode_request(request))
        (reply,) = await read(stream, 1)
        assert isinstance(reply, bytes)
        return reply.decode()

    async with await connect(serving) as stream, await connect(serving) as other:
        info = await ask(stream, b"INFO", b"server")
        assert f"process_id:{os.getpid()}\r\n" in info
        assert f"os:{os.uname().sysname} " in info
        await other.send_all(encode_request([b"PING"]) + b"*2\r\n$3\r\nGET\r\n$100000\r\nabc")
        await read(other, 1)
        await trio.sleep(0.05)
        rows = (await ask(stream, b"CLIENT", b"LIST")).splitlines()
        fields = [dict(field.split("=", 1) for field in row.split()) for row in rows]
        for row in fields:
            assert os.readlink(f"/proc/self/fd/{row['fd']}").startswith("socket:")
        assert [int(row["qbuf"]) > 0 for row in fields] == [False, True]
        big = b"x" * (1 << 19)
        await stream.send_all(encode_request([b"SET", b"big", big]))
        await read(stream, 1)
        async with await connect(serving) as reader:
            await reader.send_all(encode_request([b"GET", b"big"]) * 40)
            with trio.fail_after(10):
                while True:
                    last = (await ask(stream, b"CLIENT", b"LIST")).splitlines()[-1]
                    if int(last.partition("omem=")[2].split()[0]) > 1 << 18:
                        break
                    await trio.sleep(0.01)
        parameters = await ask_config(stream)
        assert parameters == {b"maxclients": b"300", b"tcp-keepalive": b"300", b"port": b"%d" % serving.port}


async def ask_config(stream: trio.SocketStream) -> dict[bytes, bytes]:
    await stream.send_all(encode_request([b"CONFIG", b"GET", b"maxclients", b"tcp-keepalive", b"port"]))
    (reply,) = await read(stream, 1)
    assert isinstance(reply, list)
    return dict(zip(reply[::2], reply[1::2], strict=True))


async def test_a_fault_of_ours_costs_what_caused_it_not_the_node(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever somebody sends that we had not thought of must not end a node with its data."""
    receive = Node.receive

    def receive_or_fault(node: Node, now: float, session: Session, data: bytes) -> list[list[bytes]]:
        return fault() if b"ECHO" in data else receive(node, now, session, data)

    def fault(*_arguments: object) -> NoReturn:
        raise RuntimeError("not thought of")

    for name in ("datagram", "accept"):
        monkeypatch.setattr(Node, name, fault)
    monkeypatch.setattr(Node, "receive", receive_or_fault)
    serving: Serving = await nursery.start(serve, Settings(name="one", port=free_port()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", serving.peer_port))
    async with await connect(serving, peer=True) as stream:
        await stream.send_all(struct.pack(">I", 1) + b"x")
        with trio.fail_after(5):
            assert await stream.receive_some(100) == b""
    async with await connect(serving) as stream:
        await stream.send_all(encode_request([b"ECHO", b"x"]))
        with trio.fail_after(5):
            assert await stream.receive_some(100) == b""
    assert await works(serving)
    assert caplog.text.count("RuntimeError: not thought of") == 3


async def test_answers_that_cannot_be_worked_on(
    serving: Serving, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seed = ("127.0.0.1", serving.port)
    second: Serving = await nursery.start(serve, Settings(name="two", port=free_port(), seeds=(seed,)))
    node = second.node
    left = {"welcome": 2, "exchange_answer": 2}

    def failing(name: str) -> Callable[..., Any]:
        works = getattr(node, name)

        def method(now: float, who: int, answer: bytes | None) -> Any:
            if answer is not None and left[name]:
                left[name] -= 1
                raise RuntimeError(name)
            return works(now, who, answer)

        return method

    for name in left:
        monkeypatch.setattr(node, name, failing(name))
    with trio.fail_after(60):
        while not (node.topology is not None and node.topology.epoch >= 3):
            await trio.sleep(0.05)
    assert not any(left.values())


async def test_strangers_that_say_nothing_are_few(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds a file: as many as anybody likes to open would leave none for links."""
    monkeypatch.setattr("peerkv.shell.peers.FIRST_FRAME_WITHIN_S", 3600.0)  # or they would be closed for that
    streams = [await connect(serving, peer=True) for _ in range(3 * STRANGERS_MAX)]
    closed = 0
    for stream in streams[: 2 * STRANGERS_MAX]:
        with trio.fail_after(5):
            closed += await stream.receive_some(1) == b""
    assert closed == 2 * STRANGERS_MAX
    assert await works(serving)
    for stream in streams:
        await stream.aclose()
