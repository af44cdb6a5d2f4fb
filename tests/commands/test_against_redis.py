"""Our functions of cells beside a real redis-server: the same requests, the same replies."""

from __future__ import annotations

import random

import hiredis
import pytest

from peerkv.commands.table import find
from peerkv.resp import ReplyError
from tests.commands.keyspace import Ours, Theirs, same

SEQUENCES = [
    ("set a 1|get a|set a 2 nx|set a 2 xx get|get a|set b 1 xx|set a 3 nx get|set a b c|set a 1 ex|set a 1 ex 0"),
    ("set a 1 ex 10 px 10|set a 1 keepttl ex 10|set a 1 nx xx|set a 1 ex abc|set a 1 px -5|set a 1 exat 0|get a b"),
    "set a 1 exat 1800000000 exat 1900000000|expiretime a|set a 1 exat 1800000000 pxat 1900000000000|set a 1 px 9 px 0",
    ("set a 1 ex 9223372036854775807|setex a 0 x|psetex a -1 x|setex a x x|getex a ex 0|getex a persist ex 10"),
    ("set n 10|incr n|decr n|incrby n 5|decrby n 20|incrby n x|incr n n|set n 9223372036854775807|incr n|decrby n -1"),
    (
        "set n -9223372036854775808|decr n|decrby n -9223372036854775808|set n ' 1'|incr n|set n 01|"
        "incr n|set n abc|incr n"
    ),
    (
        "incrbyfloat f 0.1|incrbyfloat f 0.2|incrbyfloat f 5.0e3|incrbyfloat f -5000.3|"
        "incrbyfloat f abc|incrbyfloat f inf"
    ),
    ("set f abc|incrbyfloat f 1|set f 3|incrbyfloat f 1.5|incrbyfloat f 1e2|incrbyfloat f nan|incrbyfloat f ''"),
    ("append s ab|append s cd|strlen s|getrange s 0 1|getrange s -3 -1|getrange s 3 1|getrange s -1 -5|getrange s 0 x"),
    ("getrange s 0 -100|getrange s -100 100|substr s 1 2|setrange s 2 XY|get s|setrange t 3 z|get t|setrange t -1 z"),
    "setrange u 0 ''|exists u|setrange s 600000000 x|strlen none|getrange none 0 -1",
    (
        "mset a 1 b 2|mget a b c|mset a 1 b|msetnx a 1 z 2|msetnx y 1 z 2|mget y z|msetnx y|del a b c|"
        "exists a b y y|touch y y q"
    ),
    ("set a 1|getset a 2|getdel a|get a|getdel a|getset a 3|unlink a a|setnx a 1|setnx a 2|type a|type none"),
    ("set a 1|rename a b|get b|rename a b|renamenx b c|set d 1|renamenx c d|rename d d|renamenx d d|copy d e|copy d e"),
    (
        "set d 1|copy d e replace|copy d d|copy none x|copy d e db 0|copy d e db x|copy d e foo|set e 2|"
        "copy e d replace|get d"
    ),
    ("set a 1|ttl a|pttl a|persist a|expire a x|expire a 10 nx xx|expire a 10 gt lt|expire a 10 foo|expire none 10"),
    (
        "set a 1|expire a 100|persist a|persist a|ttl a|expire a -1|exists a|set a 1|pexpireat a 1|"
        "exists a|ttl none|pttl none"
    ),
    (
        "set a 1|expireat a 1900000000|expiretime a|pexpiretime a|expireat a 1900000001 gt|"
        "expireat a 1900000000 gt|expiretime a"
    ),
    (
        "set a 1|expireat a 1900000000 xx|expireat a 1900000000 nx|expireat a 1800000000 lt|"
        "expireat a 1900000000 lt|expiretime a"
    ),
    (
        "set a 1|expireat a 1900000000 gt|expiretime a|expiretime none|expire a 9223372036854775807|"
        "get a|append a b|pexpiretime a"
    ),
    (
        "set a 1 exat 1900000000|append a 1|expiretime a|setrange a 0 9|expiretime a|incr a|"
        "expiretime a|set a 5 keepttl|expiretime a"
    ),
    (
        "set a 1 exat 1900000000|getex a|expiretime a|getex a persist|expiretime a|"
        "getex a exat 1900000000|expiretime a|rename a b|expiretime b"
    ),
    (
        "set a 1 exat 1900000000|copy a c|expiretime c|getset a 2|expiretime a|getex none ex 10|"
        "getex a foo|getex a ex|getex a ex x"
    ),
    *(
        f"set a 1|{name} a {number}|exists a"
        for name in ("expire", "pexpire", "expireat", "pexpireat")
        for number in (-(1 << 63), 1 - (1 << 63), -9223372036854776, -9223372036854775, -1, 0, 9223372036854775807)
    ),
    *(
        f"incrbyfloat f {number}|set f {number}|incrbyfloat f -0x1.8p-1"
        for number in (
            "0x10 0X1.8 -0x1.8p1 +0x1 0x.8 0x1. 0x. 0x 0x1p 0x1p+ 0x1g 00x1 0x-1 0x_1 0x1p1_0"
            " 0x0p999999999999 0x0.0 -0x0 0x1p-20 0x1p-100 0x1p99999 0x1p-99999 0x1p-999999999999"
            " 0x1.123456789abcdef123456 0x1p16383 0x1p16384"
            " 0x1.fffffffffffffffffffffp16383 0x1p-16445 0x1p-16446 0x1.1p-16446 1.19e4932 1.18e4932 -1.19e4932"
            " 3.7e-4951 1e-4951 .5 5. +5 1e 1e+ infinity -inf nan 0xinf 0x" + "f" * 4096 + " 0x" + "f" * 4097
        ).split()
    ),
    "set f 0x1p16383|incrbyfloat f 0x1p16383|incrbyfloat f -0x1p16383",
]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for line in sequence.split("|"):
        request = [b"" if word == "''" else word.strip("'").replace("'", " ").encode() for word in line.split(" ")]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{line}: {mine!r}, Redis says {other!r}"


KEYS = [b"a", b"b", b"c"]
VALUES = [b"", b"1", b"-7", b"abc", b"9223372036854775807", b"3.5", b"x" * 30]
NUMBERS = [b"0", b"1", b"-1", b"5", b"100", b"-100", b"x", b"9223372036854775807"]
SHAPES: list[tuple[bytes, ...]] = [
    (b"SET", b"k", b"v"),
    (b"SET", b"k", b"v", b"NX"),
    (b"SET", b"k", b"v", b"XX", b"GET"),
    (b"SET", b"k", b"v", b"KEEPTTL"),
    (b"SET", b"k", b"v", b"PXAT", b"1900000000000"),
    (b"GET", b"k"),
    (b"GETSET", b"k", b"v"),
    (b"GETDEL", b"k"),
    (b"GETEX", b"k", b"PERSIST"),
    (b"SETNX", b"k", b"v"),
    (b"APPEND", b"k", b"v"),
    (b"STRLEN", b"k"),
    (b"GETRANGE", b"k", b"n", b"n"),
    (b"SETRANGE", b"k", b"i", b"v"),
    (b"INCR", b"k"),
    (b"INCRBY", b"k", b"n"),
    (b"DECRBY", b"k", b"n"),
    (b"INCRBYFLOAT", b"k", b"d"),
    (b"MSET", b"k", b"v", b"k", b"v"),
    (b"MSETNX", b"k", b"v", b"k", b"v"),
    (b"MGET", b"k", b"k"),
    (b"DEL", b"k", b"k"),
    (b"EXISTS", b"k", b"k"),
    (b"RENAME", b"k", b"k"),
    (b"RENAMENX", b"k", b"k"),
    (b"COPY", b"k", b"k", b"REPLACE"),
    (b"EXPIREAT", b"k", b"1900000000"),
    (b"PEXPIREAT", b"k", b"1950000000000", b"GT"),
    (b"EXPIREAT", b"k", b"1850000000", b"LT"),
    (b"PERSIST", b"k"),
    (b"PEXPIRETIME", b"k"),
    (b"TYPE", b"k"),
    (b"APPEND", b"k", b"l"),
    (b"SETRANGE", b"k", b"600", b"v"),
]
CHOICES = {
    b"k": KEYS,
    b"l": [b"y" * 600],
    b"v": VALUES,
    b"n": NUMBERS,
    b"i": [b"0", b"2", b"-1"],
    b"d": [b"1", b"0.5", b"-2.25", b"x"],
}


@pytest.mark.parametrize("seed", range(8))
def test_chance_finds_no_difference(theirs: Theirs, seed: int) -> None:
    rng = random.Random(seed)
    ours = Ours()
    for _ in range(400):
        shape = rng.choice(SHAPES)
        request = [shape[0], *(rng.choice(CHOICES.get(word, [word])) for word in shape[1:])]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{request}: {mine!r}, Redis says {other!r}"


def test_hiredis_packs_what_we_read() -> None:
    from peerkv.resp import Requests

    requests = Requests(1 << 20, 1 << 16)
    assert requests.feed(hiredis.pack_command((b"SET", b"k", b"\r\n*1"))) == [[b"SET", b"k", b"\r\n*1"]]


@pytest.mark.parametrize(("amount", "fits"), [(b"1e4900", True), (b"1e-400000", False), (b"1e5000", False)])
def test_floats_have_the_limits_of_a_long_double(amount: bytes, fits: bool) -> None:
    """Beyond them a few bytes were seconds of work, or a fault."""
    row = find(b"INCRBYFLOAT")
    assert row is not None
    assert row.run is not None
    changes, reply = row.run({}, [b"INCRBYFLOAT", b"x", amount], 0)
    assert (len(changes) == 1 and isinstance(reply, bytes) and len(reply) == 4901) is fits
    assert isinstance(reply, ReplyError) is not fits
