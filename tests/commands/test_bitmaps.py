"""Bits of strings beside a real redis-server."""

from __future__ import annotations

import random

import pytest

from peerkv.commands.strings import STRING_BYTES_MAX
from peerkv.commands.table import find
from peerkv.resp import ReplyError
from tests.commands.keyspace import NOW, Ours, Theirs, same

SEQUENCES = [
    (
        "setbit a 7 1|get a|setbit a 7 0|setbit a 7 0|get a|setbit a 100 0|strlen a|setbit a 0 2|"
        "setbit a -1 1|setbit a x 1"
    ),
    "setbit a 4294967296 1|setbit a 0 x|setbit a 0 01|getbit a 0|getbit a 1000|getbit none 3|getbit a -1|getbit a x",
    "set a foobar|bitcount a|bitcount a 0 0|bitcount a 1 1|bitcount a 1 1 byte|bitcount a 5 30 BIT|bitcount a 0 -5",
    "set a foobar|bitcount a 0 1 foo|bitcount a x 1|bitcount a 0 x|bitcount a -1 -5|bitcount a -100 -50|bitcount a 5 4",
    "bitcount none|bitcount none 0 -1|set a ''|bitcount a|bitcount a 0 -1|bitcount a 0 0|bitpos a 0|bitpos a 1",
    (
        "set a x|bitcount a 0|bitcount a 0 1 bit 2|bitpos a 1 0 1 bit 2|bitpos a|bitpos a 2|bitpos a x|"
        "bitpos none 0|bitpos none 1"
    ),
    (
        "set a foobar|bitpos a 1|bitpos a 0|bitpos a 1 2|bitpos a 1 2 3|bitpos a 0 -1|bitpos a 1 5 4|"
        "bitpos a 1 100|bitpos a 0 9"
    ),
    "set a foobar|bitpos a 1 7 15 bit|bitpos a 0 7 9 bit|bitpos a 1 7 -3 bit|bitpos a 1 0 -1 byte|bitpos a 1 0 -1 x",
    "set a foobar|bitpos a 0 -100 -50|bitpos a 1 -100 -50 bit|bitpos a x 1 2|bitpos a 1 x|bitpos a 1 1 x",
    "bitfield a set i8 0 100 get u4 0 incrby i5 100 1|get a|bitfield a|bitfield a get u8 0|bitfield a incrby u2 #3 1",
    "bitfield a overflow sat incrby u2 0 5 overflow fail incrby u2 0 1 overflow wrap incrby u2 0 1|get a",
    "bitfield a overflow fail set u8 0 256|get a|bitfield a overflow fail set u8 100 256|strlen a|exists a",
    (
        "bitfield a overflow foo|bitfield a get|bitfield a get u8|bitfield a get u64 0|bitfield a get i64 0|"
        "bitfield a get x8 0"
    ),
    (
        "bitfield a get i65 0|bitfield a get u0 0|bitfield a get u8 -1|bitfield a get u8 x|"
        "bitfield a set u8 0|bitfield a set u8 0 x"
    ),
    "bitfield a set u8 #-1 1|bitfield a get u8 #1|bitfield a foo u8 0|bitfield a overflow|bitfield a get u8 # ",
    "bitfield_ro a get u8 0|set a foobar|bitfield_ro a get u8 0 get i8 #1|bitfield_ro a set u8 0 1|bitfield_ro a",
    "bitfield a set i64 0 -1 get i64 0 get u63 0 incrby i64 0 1 incrby i64 3 -9223372036854775808|get a",
    "bitfield a overflow sat set u8 0 -1 set i8 8 -200 set i8 16 200 incrby i8 16 100 incrby i8 8 -100|get a",
    "set a abc|set b defg|bitop and c a b|get c|bitop or c a b|get c|bitop xor c a b n|get c|bitop not c a|get c",
    "set a abc|bitop not c a b|bitop foo c a|bitop and c n|exists c|bitop and a n|exists a|bitop and a|bitop or c n a",
    "set a abc|expireat a 1900000000|setbit a 3 1|expiretime a|bitop or a a|expiretime a|bitfield a set u8 0 1",
]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for line in sequence.split("|"):
        request = [b"" if word == "''" else word.encode() for word in line.split(" ")]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{line}: {mine!r}, Redis says {other!r}"


KEYS = [b"a", b"b", b"c"]
NUMBERS = [b"0", b"1", b"-1", b"3", b"7", b"8", b"-8", b"20", b"-20", b"100", b"-100", b"x"]
WORDS = {
    b"k": KEYS,
    b"v": [b"", b"1", b"foobar", b"\xff" * 9, b"\0" * 9, b"\0\0\x01\xff", b"\xff\xff\x7f", bytes(700), b"\xff" * 700],
    b"o": [b"0", b"1", b"7", b"8", b"13", b"64", b"5601", b"5000", b"-1", b"x"],
    b"b": [b"0", b"1", b"1", b"0", b"2"],
    b"n": NUMBERS,
    b"u": [b"BIT", b"byte", b"BIT", b"x"],
    b"t": [b"u1", b"i1", b"u7", b"i8", b"u8", b"i16", b"u32", b"u63", b"i64", b"i5", b"u64"],
    b"p": [b"0", b"1", b"7", b"#0", b"#1", b"#3", b"30", b"5590", b"#700"],
    b"i": [
        b"0",
        b"1",
        b"-1",
        b"5",
        b"127",
        b"-128",
        b"1000",
        b"-9000",
        b"9223372036854775807",
        b"-9223372036854775808",
    ],
    b"w": [b"WRAP", b"sat", b"FAIL"],
    b"g": [b"AND", b"or", b"XOR"],
}
SHAPES = [
    b"SET k v",
    b"SETBIT k o b",
    b"SETBIT k o b",
    b"GETBIT k o",
    b"BITCOUNT k",
    b"BITCOUNT k n n",
    b"BITCOUNT k n n u",
    b"BITCOUNT k n",
    b"BITCOUNT k n n u n",
    b"BITPOS k b n n u n",
    b"BITPOS k b",
    b"BITPOS k b n",
    b"BITPOS k b n n",
    b"BITPOS k b n n u",
    b"BITOP g k k k",
    b"BITOP g k k k k",
    b"BITOP NOT k k",
    b"BITFIELD k GET t p GET t p",
    b"BITFIELD k SET t p i",
    b"BITFIELD k OVERFLOW w SET t p i INCRBY t p i SET t p i GET t p",
    b"BITFIELD k OVERFLOW w INCRBY t p i OVERFLOW w INCRBY t p i",
    b"BITFIELD_RO k GET t p",
    b"BITFIELD_RO k SET t p i",
    b"RPUSH k v",
    b"DEL k",
    b"DEL k",
]


@pytest.mark.parametrize("seed", range(8))
def test_chance_finds_no_difference(theirs: Theirs, seed: int) -> None:
    rng = random.Random(seed)
    ours = Ours()
    for _ in range(600):
        request = [rng.choice(WORDS.get(word, [word])) for word in rng.choice(SHAPES).split()]
        key = request[1]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{request}: {mine!r}, Redis says {other!r}"
        if request[0] == b"BITOP":
            key = request[2]
        assert same(ours.ask(b"GET", key), theirs.ask(b"GET", key)), request


@pytest.mark.parametrize("bit", [b"0", b"1"])
def test_long_strings_are_looked_through_to_their_ends(theirs: Theirs, bit: bytes) -> None:
    """What is looked at in pieces has no seams."""
    ours = Ours()
    length = 700_001
    filled = (b"\xff" if bit == b"0" else b"\0") * length
    for at in (0, 1, (1 << 18) - 1, 1 << 18, (1 << 19) + 1, length - 1):
        for side in (ours, theirs):
            side.ask(b"SET", b"a", filled)
            side.ask(b"SETBIT", b"a", b"%d" % (8 * at + 5), bit)
        for request in (
            [b"BITPOS", b"a", bit],
            [b"BITPOS", b"a", bit, b"%d" % at],
            [b"BITPOS", b"a", bit, b"%d" % (at + 1)],
            [b"BITPOS", b"a", bit, b"3", b"-100", b"BIT"],
            [b"BITCOUNT", b"a"],
            [b"BITCOUNT", b"a", b"%d" % (8 * at + 4), b"%d" % (8 * at + 6), b"BIT"],
            [b"BITCOUNT", b"a", b"5", b"-5", b"BIT"],
        ):
            assert ours.ask(*request) == theirs.ask(*request), (at, request)


def test_writes_on_long_strings_ship_what_they_change() -> None:
    ours = Ours()
    ours.ask(b"SET", b"a", bytes(100_000))
    for line, shipped in (
        (b"SETBIT a 400000 1", [50_000, b"\x80"]),
        (b"SETBIT a 900007 1", [112_500, b"\x01"]),
        (b"BITFIELD a SET u8 8 255 SET u4 16 15 INCRBY u16 8000 1", [1, b"\xff\xf0", 1001, b"\x01"]),
        (b"BITFIELD a OVERFLOW FAIL SET u1 960007 5", [120_000, b"\0"]),
    ):
        request = line.split()
        row = find(request[0])
        assert row is not None
        assert row.run is not None
        ((_, body, _),), _ = row.run(ours.cells, request, NOW)
        assert body == ("splice", *shipped)
        ours.ask(*request)
    assert ours.ask(b"STRLEN", b"a") == 120_001


def test_nothing_becomes_longer_than_a_string_may_be() -> None:
    ours = Ours()
    error = ReplyError("ERR bit offset is not an integer or out of range")
    last = 8 * STRING_BYTES_MAX - 1
    assert ours.ask(b"SETBIT", b"a", b"%d" % (last + 1), b"1") == error
    assert ours.ask(b"BITFIELD", b"a", b"SET", b"u2", b"%d" % last, b"1") == error
    assert ours.ask(b"GETBIT", b"a", b"%d" % last) == 0
