"""CONFIG: what it tells is so, and what it sets takes effect at once."""

from __future__ import annotations

import ast
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import peerkv
from bench.processes import free_port
from peerkv.clients.parameters import PARAMETERS
from peerkv.commands.slowlog import SLOWLOG, Slowlog
from peerkv.resp import Replies, Reply, ReplyError, encode_request
from peerkv.settings import LIVE, Settings
from peerkv.shell.serve import Serving, serve
from tests.clients.alone import Alone, Client


@pytest.fixture
def alone() -> Alone:
    return Alone()


@pytest.fixture
def slowlog() -> Iterator[Slowlog]:
    """The process's, as it is by default, whatever another test has set; as it was before when the test is over."""
    before = SLOWLOG.stopwatch, SLOWLOG.threshold_us, SLOWLOG.max_entries
    SLOWLOG.threshold_us, SLOWLOG.max_entries = Slowlog().threshold_us, Slowlog().max_entries
    SLOWLOG.entries.clear()
    yield SLOWLOG
    SLOWLOG.stopwatch, SLOWLOG.threshold_us, SLOWLOG.max_entries = before
    SLOWLOG.entries.clear()


def shown(client: Client, *patterns: bytes) -> dict[str, str]:
    (reply,) = client.ask((b"CONFIG", b"GET", *patterns))
    assert isinstance(reply, list)
    words = [word.decode() for word in reply]  # type: ignore[union-attr]
    return dict(zip(words[::2], words[1::2], strict=True))


def change(client: Client, *words: str) -> Reply:
    (reply,) = client.ask((b"CONFIG", b"SET", *[word.encode() for word in words]))
    return reply


def test_every_parameter_can_be_set_to_what_it_is(alone: Alone) -> None:
    """Programs set what they need, to be sure of it; a test suite of theirs must not fail at the first line."""
    client = Client(alone)
    everything = shown(client, b"*")
    assert everything.keys() == PARAMETERS.keys()
    for name, value in everything.items():
        reply = change(client, name.upper(), value.upper())
        if PARAMETERS[name].immutable:
            assert isinstance(reply, ReplyError)
            assert reply.text.endswith("can't set immutable config")
        else:
            assert reply == "OK", name
        assert shown(client, name.encode()) == {name: value}


def test_what_cannot_be_otherwise_says_what_it_is(alone: Alone) -> None:
    client = Client(alone)
    for name, value in (
        ("appendonly", "yes"),
        ("maxmemory", "100mb"),
        ("save", "60 1"),
        ("latency-tracking", "yes"),
    ):
        reply = change(client, "timeout", "5", name, value)
        assert isinstance(reply, ReplyError)
        assert f"'{name}'" in reply.text
        assert "cannot be otherwise" in reply.text
        assert shown(client, b"timeout") == {"timeout": "0"}, "all of them, or none"


def test_names_are_found_by_patterns_and_in_any_case(alone: Alone) -> None:
    client = Client(alone)
    assert shown(client, b"*max-listpack-entr*").keys() == {
        "hash-max-listpack-entries",
        "set-max-listpack-entries",
        "zset-max-listpack-entries",
    }
    assert shown(client, b"TimeOut", b"time?ut", b"nothing") == {"TimeOut": "0", "timeout": "0"}


# -- what can be changed


def test_a_setting_that_can_be_changed_is_kept_by_nobody() -> None:
    """Whoever copied it when the node was made would go by the old one for ever."""
    for path in Path(peerkv.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                for part in ast.walk(function):
                    if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                        assert part.value.id != "settings" or part.attr not in LIVE, f"{path}:{part.lineno}"


def test_every_live_setting_can_be_changed_and_no_other(alone: Alone) -> None:
    client = Client(alone)
    settings = alone.node.settings
    for name, value, setting in (
        ("client-output-buffer-limit", "normal 3000000 0 0", "client_output_bytes_max"),
        ("client-output-buffer-limit", "pubsub 3000000 0 0", "pubsub_output_bytes_max"),
        ("timeout", "7", "client_timeout"),
        ("maxmemory-clients", "3mb", "clients_bytes_max"),
        ("maxclients", "33", "clients_max"),
        ("tcp-keepalive", "44", "tcp_keepalive"),
        ("loglevel", "warning", "log_level"),
        ("notify-keyspace-events", "xEKl", "notify_keyspace_events"),
        ("tracking-table-max-keys", "5000", "tracking_table_max_keys"),
        ("peerkv-atomic-multi-key", "yes", "atomic_multi_key"),
        ("peerkv-follow-least", "5", "follow_least"),
        ("peerkv-forget-after", "6", "forget_after"),
        ("peerkv-in-flight-max", "77", "in_flight_max"),
        ("peerkv-in-flight-min", "8", "in_flight_min"),
        ("peerkv-leave-grace", "0", "leave_grace"),
        ("peerkv-link-backlog-bytes-max", "5mb", "link_backlog_bytes_max"),
        ("peerkv-queue-time", "0.5", "queue_time"),
        ("peerkv-read-hedge", "0.25", "read_hedge"),
        ("peerkv-request-timeout", "9", "request_timeout"),
        ("peerkv-round-patience", "0.75", "round_patience"),
        ("peerkv-write-hedge", "0.125", "write_hedge"),
    ):
        before = getattr(settings, setting)
        assert change(client, name, value) == "OK", name
        assert getattr(settings, setting) != before
        assert setting in LIVE
        LIVE_LEFT.discard(setting)
    assert not LIVE_LEFT
    assert Settings().read_hedge == 0.05, "it was the node's own"
    with pytest.raises(AssertionError):
        settings.change("slots", 5)


LIVE_LEFT = set(LIVE)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("maxmemory-clients", "0", "between 1048576"),
        ("maxmemory-clients", "5%", "memory value"),
        ("client-output-buffer-limit", "normal 0 0 0", "between 1048576"),
        ("client-output-buffer-limit", "normal 5mb 1 1", "only hard limits"),
        ("client-output-buffer-limit", "pubsub 5mb 1 1", "only hard limits"),
        ("client-output-buffer-limit", "nobody 0 0 0", "Invalid client class"),
        ("tcp-keepalive", "0", "between 1 and 32767"),
        ("slowlog-max-len", "99999999", "between 0 and"),
        ("loglevel", "loud", "debug, verbose, notice, warning, nothing"),
        ("peerkv-read-hedge", "0", "seconds, more than 0"),
        ("peerkv-read-hedge", "nan", "seconds, more than 0"),
        ("peerkv-slots", "16", "immutable"),
    ],
)
def test_what_is_allowed_is_said(alone: Alone, name: str, value: str, why: str) -> None:
    reply = change(Client(alone), name, value)
    assert isinstance(reply, ReplyError)
    assert why in reply.text


def test_a_silent_client_is_closed_but_not_one_that_waits() -> None:
    alone = Alone()
    silent, waiting, busy = Client(alone), Client(alone), Client(alone)
    assert change(busy, "timeout", "10") == "OK"
    waiting.send((b"WAIT", b"9", b"0"))
    for _ in range(5):
        alone.now += 3
        busy.ask((b"PING",))
    assert [silent.cut_off, waiting.cut_off, busy.cut_off] == [True, False, False]


def test_what_a_client_may_be_sent_can_be_changed(alone: Alone) -> None:
    client = Client(alone)
    client.ask((b"SET", b"k", b"x" * 400_000))
    many = (b"MGET", *[b"k"] * 5)
    assert len(client.ask(many)[0]) == 5  # type: ignore[arg-type]
    assert change(client, "client-output-buffer-limit", "normal 1mb 0 0 slave 0 0 0 pubsub 0 0 0") == "OK"
    (reply,) = client.ask(many)
    assert isinstance(reply, ReplyError)
    assert "at most 1048576" in reply.text


def test_what_all_clients_may_hold_can_be_changed(alone: Alone) -> None:
    client, other = Client(alone), Client(alone)
    alone.node.receive(alone.now, other.session, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000000\r\n" + bytes(2_000_000))
    alone.now += 1
    client.ask((b"PING",))
    assert not other.cut_off
    assert change(client, "maxmemory-clients", "1mb") == "OK"
    alone.now += 1
    client.ask((b"PING",))
    assert other.cut_off


async def test_on_real_sockets(nursery: trio.Nursery) -> None:
    """maxclients, tcp-keepalive and loglevel are the shell's."""
    serving: Serving = await nursery.start(serve, Settings(name="one", port=free_port()))
    level = logging.getLogger("peerkv").level
    try:
        async with await connect(serving) as first:
            assert await ask(first, b"CONFIG", b"SET", b"maxclients", b"2", b"tcp-keepalive", b"77") == "OK"
            too_many = await ask(first, b"CONFIG", b"SET", b"maxclients", b"4000000000")
            assert isinstance(too_many, ReplyError)
            assert "operating system" in too_many.text
            async with await connect(serving) as second:
                told = await ask(second, b"CLIENT", b"INFO")
                assert isinstance(told, bytes)
                fd = int(dict(field.split(b"=") for field in told.split())[b"fd"])
                with socket.socket(fileno=os.dup(fd)) as of_node:
                    assert of_node.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
                async with await connect(serving) as third:
                    assert await third.receive_some() == b"-ERR max number of clients reached\r\n"
            assert await ask(first, b"CONFIG", b"SET", b"loglevel", b"debug") == "OK"
            with trio.fail_after(10):
                while logging.getLogger("peerkv").level != logging.DEBUG:
                    await trio.sleep(0.05)
    finally:
        logging.getLogger("peerkv").setLevel(level)


async def connect(serving: Serving) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", serving.port)


async def ask(stream: trio.SocketStream, *request: bytes) -> Reply:
    await stream.send_all(encode_request(request))
    parser = Replies()
    with trio.fail_after(10):
        while not (replies := parser.feed(await stream.receive_some())):
            pass
    return replies[0]


# -- SLOWLOG


def test_what_takes_long_is_noted(alone: Alone, slowlog: Slowlog) -> None:
    clock = iter(range(0, 10**12, 20_000_000))  # 20 ms a look
    slowlog.stopwatch = lambda: next(clock)
    client = Client(alone)
    members = [b"m%d" % number for number in range(40)]
    requests = [(b"SADD", b"s", *members), (b"SMEMBERS", b"s"), (b"GET", b"a"), (b"SET", b"a", b"1")]
    client.ask(*requests, (b"SINTER", b"s", b"{s}" + b"t" * 200))
    (entries, length) = client.ask((b"SLOWLOG", b"GET"), (b"SLOWLOG", b"LEN"))
    assert isinstance(entries, list)
    assert length == len(entries)
    first = entries[-1]
    assert isinstance(first, list)
    assert first[1] == alone.node.clock.cluster_ms // 1000
    assert first[2:] == [20_000, [b"SMEMBERS", b"s"], b"", b""]
    assert entries[0][3] == [b"SINTER", b"s", b"{s}" + b"t" * 125 + b"... (75 more bytes)"]  # type: ignore[index]
    assert not any(b"GET" in entry[3] or b"SET" in entry[3] for entry in entries)  # type: ignore[index]
    assert [entry[0] for entry in entries] == list(range(first[0] + length - 1, first[0] - 1, -1))  # type: ignore[index, operator]
    assert len(client.ask((b"SLOWLOG", b"GET", b"1"))[0]) == 1  # type: ignore[arg-type]
    assert client.ask((b"SLOWLOG", b"RESET"), (b"SLOWLOG", b"LEN")) == ["OK", 0]


def test_how_much_is_noted_can_be_changed(alone: Alone, slowlog: Slowlog) -> None:
    clock = iter(range(0, 10**12, 5_000_000))  # 5 ms a look
    slowlog.stopwatch = lambda: next(clock)
    client = Client(alone)

    def entries() -> int:
        (length,) = client.ask((b"SLOWLOG", b"LEN"))
        assert isinstance(length, int)
        return length

    def smembers(times: int) -> int:
        client.ask(*[(b"SMEMBERS", b"s")] * times)
        return entries()

    assert smembers(1) == 0, "10 ms by default"
    assert change(client, "slowlog-log-slower-than", "5000", "slowlog-max-len", "3") == "OK"
    assert smembers(2) == 2
    assert smembers(2) == 3
    assert change(client, "slowlog-max-len", "1") == "OK"
    assert entries() == 1
    assert change(client, "slowlog-max-len", "0") == "OK"
    assert smembers(2) == 0
    assert change(client, "slowlog-max-len", "9", "slowlog-log-slower-than", "-1") == "OK"
    assert smembers(2) == 0


def test_what_nobody_has_said_is_not_shown(alone: Alone, slowlog: Slowlog) -> None:
    """The bytes of chance that a coordinator adds are none of the client's arguments."""
    slowlog.threshold_us = 0
    client = Client(alone)
    client.ask((b"SADD", b"s", b"a", b"b"), (b"SRANDMEMBER", b"s", b"1"), (b"LRANGE", b"l", *[b"0"] * 2))
    (entries,) = client.ask((b"SLOWLOG", b"GET"))
    assert [entry[3] for entry in entries] == [[b"LRANGE", b"l", b"0", b"0"], [b"SRANDMEMBER", b"s", b"1"]]  # type: ignore[index, union-attr]


def test_keys_are_shown_as_their_client_knows_them(alone: Alone, slowlog: Slowlog) -> None:
    slowlog.threshold_us = 0
    Client(alone).ask((b"SELECT", b"3"), (b"LRANGE", b"l", b"0", b"1"))
    assert slowlog.entries[0].request == (b"LRANGE", b"l", b"0", b"1")


def test_long_requests_are_cut(slowlog: Slowlog) -> None:
    slowlog.threshold_us = 0
    slowlog.note([b"SUNION", *[b"k%d" % number for number in range(40)]], 1, 1)
    kept = slowlog.entries[0].request
    assert len(kept) == 32
    assert kept[-2:] == (b"k29", b"... (10 more arguments)")
