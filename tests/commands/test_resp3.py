"""The bytes of replies to a client of RESP3, beside a real redis-server's: maps, sets and pairs where that has them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from peerkv.resp import encode
from tests.commands.keyspace import Ours

LINES = (
    "hset h a 1|hgetall h|hgetall none|hkeys h|hvals h|hmget h a z|hget h z|hexists h a|hscan h 0|hlen h",
    "hset h a 1|hrandfield h|hrandfield h 1|hrandfield h 1 withvalues|hrandfield h -2 withvalues|hrandfield h -2",
    "hrandfield none|hrandfield none 1|hrandfield none 1 withvalues|hincrbyfloat h a 1.5|hincrby h b 1|hdel h a b",
    "sadd s x|smembers s|smembers none|sinter s|sinter none|sunion s|sdiff s|smismember s x y|sismember s x|sscan s 0",
    "sadd s x|srandmember s|srandmember s 1|srandmember s -2|srandmember s 5|srandmember none|srandmember none 1",
    "sadd s x|sintercard 1 s|smove s t x|spop s|spop s 1|spop t 0|spop t 1|spop t|spop t 1|sinterstore s t|exists s",
)


@pytest.fixture
def raw(redis_port: int) -> Iterator[socket.socket]:
    """A connection to an empty redis-server that speaks RESP3."""
    with socket.create_connection(("127.0.0.1", redis_port), timeout=10) as connection:
        connection.sendall(b"HELLO 3\r\nFLUSHALL\r\n")
        received = b""
        while not received.endswith(b"+OK\r\n"):
            received += connection.recv(1 << 16)
        yield connection


@pytest.mark.parametrize("lines", LINES, ids=lambda lines: lines[:60])
def test_replies_are_the_same_bytes(raw: socket.socket, lines: str) -> None:
    ours = Ours()
    for line in lines.split("|"):
        mine = encode(ours.ask(*line.encode().split()), 3)
        raw.sendall(line.encode() + b"\r\nPING\r\n")
        theirs = b""
        while not theirs.endswith(b"+PONG\r\n"):
            theirs += raw.recv(1 << 16)
        assert mine == theirs.removesuffix(b"+PONG\r\n"), line
