"""OBJECT and MEMORY beside a real redis-server."""

from __future__ import annotations

import pytest

from peerkv.commands.table import COMMANDS, keys_of
from peerkv.resp import ReplyError
from tests.commands.keyspace import Ours, Theirs, same

ENCODINGS = [
    b"SET k 5",
    b"SET k -9223372036854775808",
    b"SET k 9223372036854775808",
    b"SET k 007",
    b"SET k " + b"x" * 44,
    b"SET k " + b"x" * 45,
    b"SADD k 1 2 -3",
    b"SADD k " + b" ".join(b"%d" % number for number in range(512)),
    b"SADD k " + b" ".join(b"%d" % number for number in range(513)),
    b"SADD k " + b" ".join(b"m%d" % number for number in range(129)),
    b"SADD k " + b"m" * 65,
    b"HSET k a 1 b 2",
    b"HSET k a " + b"x" * 64,
    b"HSET k a " + b"x" * 65,
    b"HSET k " + b"x" * 65 + b" a",
    b"HSET k " + b" ".join(b"f%d v" % number for number in range(512)),
    b"HSET k " + b" ".join(b"f%d v" % number for number in range(513)),
    b"ZADD k 1.5 a 2 b",
    b"ZADD k 1 " + b"m" * 64,
    b"ZADD k 1 " + b"m" * 65,
    b"ZADD k " + b" ".join(b"%d m%d" % (number, number) for number in range(128)),
    b"ZADD k " + b" ".join(b"%d m%d" % (number, number) for number in range(129)),
    b"RPUSH k " + b" ".join(b"%d" % number for number in range(5000)),
    b"RPUSH k " + b"x" * 9000,
]


@pytest.mark.parametrize("line", ENCODINGS, ids=range(len(ENCODINGS)))
def test_encodings_are_those_that_redis_would_have(theirs: Theirs, line: bytes) -> None:
    ours = Ours()
    for request in (line.split(b" "), b"OBJECT ENCODING k".split()):
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), (request[:3], mine, other)


@pytest.mark.parametrize(
    ("line", "encoding"),
    [
        (b"RPUSH k a b", b"listpack"),
        (b"RPUSH k " + b" ".join(b"%d" % (number % 100) for number in range(4092)), b"listpack"),
        (b"RPUSH k " + b" ".join(b"%d" % (number % 100) for number in range(4093)), b"quicklist"),
        (b"RPUSH k " + b" ".join(b"-5000" for _ in range(2046)), b"listpack"),
        (b"RPUSH k " + b" ".join(b"-5000" for _ in range(2047)), b"quicklist"),
        (b"RPUSH k " + b" ".join(b"x" * 78 for _ in range(99)), b"listpack"),
        (b"RPUSH k " + b" ".join(b"x" * 78 for _ in range(100)), b"quicklist"),
        (b"SADD k a b", b"listpack"),
        (b"SADD k 1 " + b"m" * 64, b"listpack"),
    ],
)
def test_lists_and_sets_may_be_listpacks(line: bytes, encoding: bytes) -> None:
    """Since Redis 7.2; in 7.0 a list is a quicklist, and a set of others than integers a hashtable."""
    ours = Ours()
    ours.ask(*line.split(b" "))
    assert ours.ask(*b"OBJECT ENCODING k".split()) == encoding


SEQUENCES = [
    (
        "object encoding none|object freq none|object idletime none|object refcount none|object encoding|"
        "object encoding k k"
    ),
    "set k 12345678|object freq k|object idletime k|object refcount k|object foo k|object ENCODING k|object",
    (
        "memory usage none|memory usage|memory usage none samples 0|memory usage none samples -1|"
        "memory usage none samples x"
    ),
    "memory usage none foo|memory usage none samples|memory usage none samples 1 samples 2|memory foo|memory",
]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for line in sequence.split("|"):
        request = line.encode().split(b" ")
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{line}: {mine!r}, Redis says {other!r}"


def test_help_lists_what_is_served() -> None:
    for name, of in ((b"OBJECT", b"ENCODING key"), (b"MEMORY", b"USAGE key [SAMPLES count]")):
        lines = Ours().ask(name, b"HELP")
        assert isinstance(lines, list)
        assert of in [line if isinstance(line, bytes) else str(line).encode() for line in lines]


def test_the_key_stands_behind_the_subcommand() -> None:
    """A node asks the owners of that, and nobody where there is none."""
    for line in (b"OBJECT ENCODING k", b"memory USAGE k SAMPLES 5"):
        assert list(keys_of(COMMANDS[line.split()[0].decode().lower()], line.split())) == [b"k"]
    assert list(keys_of(COMMANDS["object"], [b"OBJECT", b"HELP"])) == []


def test_memory_grows_with_what_is_held() -> None:
    ours = Ours()
    usage = []
    for size in (1, 100, 10_000, 1_000_000):
        ours.ask(b"SET", b"k", b"x" * size)
        usage.append(ours.ask(*b"MEMORY USAGE k".split()))
        assert isinstance(usage[-1], int)
        assert size < usage[-1] < size + 400
    for kind, count, each in ((b"RPUSH", 1000, 10), (b"SADD", 1000, 10)):
        ours.ask(b"DEL", b"c")
        ours.ask(kind, b"c", *[b"%010d" % number for number in range(count)])
        held = ours.ask(*b"MEMORY USAGE c SAMPLES 0".split())
        assert isinstance(held, int)
        assert count * each < held < count * 20 * each


def test_nobody_tells_how_often_a_key_is_read() -> None:
    ours = Ours()
    ours.ask(b"SET", b"k", b"1")
    reply = ours.ask(*b"OBJECT FREQ k".split())
    assert isinstance(reply, ReplyError)
    assert "LFU" in reply.text
