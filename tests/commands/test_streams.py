"""Streams beside a real redis-server 7.0, and what 7.2 has beyond that."""

from __future__ import annotations

import random
from typing import Any

import pytest

from peerkv.agreement.checks import replies_of
from peerkv.cbor import dump, load
from peerkv.commands.streams import LAST_IDS, Waiting, waiting_of
from peerkv.commands.table import find, find_part, keys_of
from peerkv.resp import NULL_ARRAY, Named, ReplyError, encode
from peerkv.store.values.entries import (
    NODE_ENTRIES,
)
from tests.commands.keyspace import NOW, Ours, Theirs, plain, requests_of, same, sequences

SEQUENCES = """
xadd s 1-1 a 1 b 2 | xadd s 1-2 a 3 b 4 | xadd s 2 c 5 | xlen s | xlen none | type s | object encoding s
xrange s - + | xrevrange s + - | xrange s 1 1 | xrange s 1-2 2 | xrange s (1-1 + | xrange s - (2-0 | xrange s 5 +
xrange s + - | xrange none - + | xrange s - + count 2 | xrevrange s + - count 2 | xrange s - + count 0
xrange s - + count -1 | xrange none - + count 0 | xrange s - + count | xrange s - + foo 1 | xrange s - + count x
xrange s x + | xrange s - x | xrange s (x + | xrange s (- + | xrange s ( + | xrevrange s - + | xrange s 2 (2

xadd s 0-0 a 1 | exists s | xadd s 0 a 1 | exists s | xadd s 0-1 a 1 | xadd s 0-1 a 1 | xadd s 0-* a 1 | xadd s 5-* a 1
xadd s 5-* a 1 | xadd s 4-* a 1 | xadd s 4-9 a 1 | xadd s 18446744073709551615-18446744073709551614 a 1
xadd s 18446744073709551615-* a 1 | xadd s 18446744073709551615-* a 1 | xadd s * a 1 | xadd s 1-* a 1 | xlen s
xrange s - + | xrange s (18446744073709551615-18446744073709551615 + | xrange s - (0-0 | xrange s - (0-1

xadd s 1-18446744073709551615 a 1 | xadd s 1 a 1 | xadd s 2-0 a 1 | xadd s x a 1 | xadd s 1-x a 1
xadd s -1 a 1 | xadd s 1- a 1 | xadd s - a 1 | xadd s + a 1 | xadd s 18446744073709551616 a 1 | xadd s 3 a
xadd s 3 a 1 b | xadd s 3 | xadd s | xadd s a 1 | xadd s 3-1-1 a 1 | xadd s 3-** a 1 | xadd s 03-1 a 1 | xadd s *-* a 1
xadd s *-1 a 1 | xadd none nomkstream 1-1 a 1 | exists none | xadd s nomkstream 9 a 1 | xadd s NOMKSTREAM 1 a 1
xadd none nomkstream 1-1 a | xadd none nomkstream 0-0 a 1 | xrange s - +

xadd s maxlen 2 1 a 1 | xadd s maxlen 2 2 a 2 | xadd s maxlen 2 3 a 3 | xrange s - + | xadd s maxlen = 1 4 a 4
xrange s - + | xadd s maxlen ~ 1 5 a 5 | xlen s | xadd s maxlen ~ 0 6 a 6 | xlen s | exists s | xadd s minid 9 8 a 7
xlen s | xadd s 9 b 1 | xadd s minid 9-1 10 b 2 | xrange s - + | xadd s minid ~ 11 11 b 3 | xlen s
xadd s minid = 11 12 b 4 | xrange s - + | xadd s maxlen 0 13 c 1 | xlen s | type s | xadd s 12 c 1 | xinfo groups s
xadd s minid ~ 15 14 c 1 | xlen s

xadd s maxlen -1 1 a 1 | xadd s maxlen x 1 a 1 | xadd s maxlen ~ 1 a 1 | xadd s maxlen 1 | xadd s maxlen 1 minid 1 1 a 1
xadd s maxlen 1 maxlen 1 1 a 1 | xadd s minid x 1 a 1 | xadd s limit 1 1 a 1 | xadd s limit 0 1 a 1 | exists s
xadd s maxlen 1 limit 1 2 a 1 | xadd s maxlen = 1 limit 1 2 a 1 | xadd s maxlen ~ 1 limit 1 2 a 1
xadd s maxlen ~ 1 limit -1 3 a 1 | xadd s maxlen ~ 1 limit x 3 a 1 | xadd s limit 5 maxlen ~ 1 3 a 1
xadd s maxlen ~ = 3 a 1 | xadd s minid + 3 a 1 | xadd s minid 1-* 3 a 1 | xlen s

xadd s 1 a 1 | xadd s 2 a 1 | xadd s 3 a 1 | xadd s 4 a 1 | xtrim s maxlen 5 | xtrim s maxlen 3 | xtrim s maxlen = 2
xtrim s maxlen ~ 1 | xtrim s minid 4 | xrange s - + | xtrim s minid ~ 9 limit 5 | xlen s | xtrim s maxlen 0
xtrim none maxlen 0 | xtrim s | xtrim s maxlen | xtrim s foo 1 | xtrim s maxlen 1 limit 1 | xtrim s limit 1
xtrim s maxlen 1 minid 1 | xtrim s maxlen 1 nomkstream | xtrim s maxlen x | xtrim s maxlen -5 | xtrim s minid x
xtrim s maxlen ~ 1 limit | xtrim s limit 0

xadd s 1 a 1 | xadd s 2 a 1 | xadd s 3 a 1 | xdel s 2 | xrange s - + | xdel s 2 | xdel s 1 1 3 | xlen s | exists s
xdel s x | xdel none 1 | xdel none x | xdel s 1 x | xadd s 3 a 1 | xadd s 4 a 1 | xdel s 4-0 | xdel s 4-* | xdel s -

xsetid s 1 | xadd s 5 a 1 | xsetid s 4 | xsetid s 6 | xadd s 6 a 1 | xadd s 7 a 1 | xsetid s 9 entriesadded 1
xsetid s 9 entriesadded 10 maxdeletedid 8 | xsetid s 9 maxdeletedid 10 | xsetid s x | xsetid s 9 foo 1
xsetid s 9 entriesadded | xsetid s 9 entriesadded -1 | xsetid s 9 entriesadded x | xsetid s 9 maxdeletedid x
xinfo stream s full | xadd s 9 a 1 | xadd s 10-0 a 1 | xsetid s - | xinfo stream s full

xread streams s 0 | xadd s 1 a 1 | xadd s 2 a 2 | xadd t 1 b 1 | xread streams s 0 | xread streams s t 0 0
xread count 1 streams s t 0 1 | xread streams s 2 | xread streams s $ | xread streams none 0 | xread streams s none 1 0
xread count 0 streams s 0 | xread count -1 streams s 0 | xread streams s s 0 1 | xread COUNT 2 STREAMS s 0
xread streams s 18446744073709551615-18446744073709551615 | xread streams s > | xread streams s x | xread streams
xread count 1 | xread count x streams s 0 | xread foo 1 streams s 0 | xread noack streams s 0
xread group g c streams s 0 | xread block x streams s 0 | xread block -1 streams s 0 | xread block 5 streams s 0
xread block 1 block 2 count 1 streams s 0 | xread block 1.5 streams s 0 | xread streams s - | xread streams s +

xgroup create s g $ | xgroup create s g $ mkstream | exists s | xlen s | xgroup create s g 0 | xgroup create s h x
xgroup create s h 0 mkstream foo | xgroup create s h 0 entriesread 5 | xgroup create s i 0 entriesread -1
xgroup create s j 0 entriesread -2 | xgroup create s j 0 entriesread | xgroup create s j 0 entriesread x
xgroup create s j - | xgroup create s j + | xinfo groups s | xgroup setid s g 5 | xgroup setid s g $
xgroup setid s none $ | xgroup setid none g $ | xgroup setid s g - | xgroup setid s g 5 entriesread 3 | xinfo groups s
xgroup setid s g 5 mkstream | xgroup setid none g 5 entriesread 3 entriesread 4
xgroup setid s none 5 entriesread 3 entriesread 4 | xgroup setid s g 5 entriesread 3 entriesread 4 | xgroup setid s g x
xgroup destroy s g | xgroup destroy s g | xgroup destroy none g | xgroup createconsumer s h c
xgroup createconsumer s h c | xgroup createconsumer s none c | xgroup createconsumer none h c | xgroup delconsumer s h c
xgroup delconsumer s h c | xgroup delconsumer s none c | xgroup delconsumer none h c | xgroup foo s g
xgroup create s | xgroup | xgroup destroy s g h | xgroup createconsumer s h | xgroup create s g 0 mkstream mkstream
xgroup create s k 0 mkstream entriesread 1 mkstream

xadd s 1 a 1 | xadd s 2 a 2 | xadd s 3 a 3 | xgroup create s g 0 | xreadgroup group g c count 1 streams s >
xreadgroup group g d streams s > | xreadgroup group g c streams s > | xreadgroup group g c streams s 0
xreadgroup group g d streams s 0 | xreadgroup group g d streams s 2 | xreadgroup group g d count 1 streams s 0
xpending s g | xack s g 2 | xack s g 2 | xpending s g | xreadgroup group g d streams s 0 | xack s g 1 3 3 9
xpending s g | xinfo groups s | xack s none 1 | xack none g 1 | xack s g x | xack none g x | xack s g 1 x

xadd s 1 a 1 | xadd s 2 a 2 | xgroup create s g 0 | xreadgroup group g c noack streams s > | xpending s g
xreadgroup group g c streams s 0 | xadd s 3 a 3 | xreadgroup group g c streams s s > > | xadd s 4 a 4
xreadgroup group g c count 1 streams s s > 0 | xreadgroup group g c streams s s 0 0 | xpending s g - + 9
xreadgroup group g c streams s none > > | xreadgroup group g c streams none > | xreadgroup group none c streams s >
xreadgroup group g c streams s $ | xreadgroup group g c streams s x | xreadgroup group g c streams s
xreadgroup group g c count x streams s > | xreadgroup foo g c streams s > | xreadgroup group g streams s > 0
xreadgroup noack noack noack noack streams s > | xreadgroup group g c block x streams s > | xreadgroup group g c foo s >
xreadgroup group g c block 5 streams s 0

xadd s 1 a 1 | xadd s 2 a 2 | xadd s 3 a 3 | xgroup create s g 0 | xreadgroup group g c streams s > | xdel s 2
xreadgroup group g c streams s 0 | xpending s g | xclaim s g d 0 1 2 3 | xpending s g | xpending s g - + 10 d
xautoclaim s g e 0 0 | xpending s g | xdel s 1 | xautoclaim s g f 0 0 count 1 | xautoclaim s g f 0 0 justid
xpending s g - + 10 f | xautoclaim s g f 0 3 | xautoclaim s g f 0 (3 | xautoclaim s g f 100000 0

xadd s 1 a 1 | xadd s 2 a 2 | xadd s 3 a 3 | xadd s 4 a 4 | xgroup create s g 0
xreadgroup group g c count 3 streams s >
xautoclaim s g d 0 - count 2 | xautoclaim s g d 0 0 count 0 | xautoclaim s g d 0 0 count x | xautoclaim s g d x 0
xautoclaim s g d 0 x | xautoclaim s g d 0 0 foo | xautoclaim s g d 0 0 count | xautoclaim s none d 0 0
xautoclaim none g d 0 0 | xautoclaim s g d -5 0 count 1 justid
xautoclaim s g d 0 (18446744073709551615-18446744073709551615
xautoclaim none g d x 0 | xautoclaim s g d 0 0 count 1 count 2 | xautoclaim s g d 0 + | xpending s g - + 10

xadd s 1 a 1 | xadd s 2 a 2 | xgroup create s g 0 | xclaim s g c 0 1 | xclaim s g c 0 1 force | xclaim s g d 0 1 justid
xpending s g - + 10 | xclaim s g d 0 1 retrycount 7 | xpending s g - + 10 | xclaim s g d 0 1 lastid 1 | xinfo groups s
xclaim s g d 0 9 force | xclaim s g d 100000 1 | xclaim s g d 0 1 idle 5000 | xclaim s g c 1000000 1
xclaim s g d 0 1 time 1000 | xclaim s g c 100000 1 2 | xclaim s g c 0 1 1 | xpending s g - + 10
xclaim s g c x 1 | xclaim s g c 0 x | xclaim s g c 0 1 foo | xclaim s g c 0 1 idle | xclaim s g c 0 1 idle x
xclaim s g c 0 1 time x | xclaim s g c 0 1 retrycount x | xclaim s g c 0 1 lastid x | xclaim s none c 0 1
xclaim none g c 0 1 | xclaim s g c 0 1 retrycount -5 | xclaim s g c 0 1 retrycount 0 | xpending s g - + 10
xclaim s g c 0 1 2 force justid lastid 2 | xinfo groups s | xclaim s g c 0 1 x 2
xclaim s g d 0 9 lastid 9 | xinfo groups s

xadd s 1 a 1 | xadd s 2 a 2 | xadd s 3 a 3 | xgroup create s g 0 | xreadgroup group g c count 2 streams s >
xreadgroup group g d streams s > | xpending s g - + 10 | xpending s g - + 1 | xpending s g - + 10 c
xpending s g - + 10 none | xpending s g (1 + 10 | xpending s g - (3 10 | xpending s g 2 2 10 | xpending s g + - 10
xpending s g - + 0 | xpending s g - + -1 | xpending s g idle 100000 - + 10 | xpending s g idle 0 - + 10
xpending s g idle 0 - + 10 d | xpending s g - + | xpending s g - | xpending s g - + x | xpending s g x + 10
xpending s g - x 10 | xpending s g idle x - + 10 | xpending s g idle 0 - + | xpending none g | xpending s none
xpending s none - + 10 | xpending none g - + x | xpending s g idle 0 - + 10 d e | xpending s g - + 10 d e
xgroup delconsumer s g c | xpending s g | xgroup destroy s g | xpending s g

xadd s 1 a 1 | xadd s 2 a 2 | xadd s 3 a 3 | xinfo stream s | xgroup create s g 2 | xinfo groups s | xgroup create s h $
xinfo groups s | xreadgroup group g c streams s > | xinfo groups s | xdel s 2 | xinfo groups s | xadd s 4 a 4
xinfo groups s | xgroup create s i 0 | xinfo groups s | xtrim s maxlen 1 | xinfo groups s
xreadgroup group i c streams s > | xinfo groups s | xinfo stream s full count 1 | xinfo stream s full count 0
xinfo stream s foo | xinfo stream s full foo 1 | xinfo stream s full count | xinfo stream s full count x
xinfo stream none | xinfo groups none | xinfo consumers none g | xinfo consumers s none | xinfo foo s | xinfo
xinfo stream | xinfo groups s g | xinfo stream s full count -1 | xinfo consumers s | xinfo groups

xgroup create s g $ mkstream | xinfo stream s | xinfo groups s | xadd s 1 a 1 | xinfo groups s | xdel s 1
xinfo stream s | xinfo groups s | xgroup setid s g 1 | xinfo groups s | xadd s 2 a 1 | xinfo groups s

xadd s 1 a 1 | copy s t | xadd s 2 a 2 | xlen t | xgroup create s g 0 | xreadgroup group g c streams s > | copy s u
xack s g 1 | xpending s g | xpending u g | rename u v | xpending v g - + 9 | expireat v 1900000000 | xadd v 3 a 1
expiretime v | xtrim v maxlen 1 | xgroup create v h 0 | xack v g 1 | xgroup destroy v g | xdel v 3 | expiretime v
xlen v | del v | exists v

set s 1 | xadd s 1 a 1 | xadd s nomkstream 1 a 1 | xlen s | xrange s - + | xrange s x + | xrevrange s + - | xdel s 1
xdel s x | xtrim s maxlen 1 | xtrim s foo | xsetid s 1 | xsetid s x | xread streams s 0 | xread streams s x
xreadgroup group g c streams s > | xgroup create s g 0 | xgroup create s g 0 foo | xgroup destroy s g | xack s g 1
xpending s g | xpending s g - + x | xclaim s g c 0 1 | xclaim s g c x 1 | xautoclaim s g c 0 0 | xinfo stream s
xinfo groups s | xinfo consumers s g | xadd s 0-0 a 1

xadd s 1 a 1 | get s | append s x | lpush s a | sadd s a | hset s a 1 | zadd s 1 a | setrange s 0 a | incr s | sort s
strlen s | lrange s 0 -1
"""


def masked(request: list[bytes], reply: Any, *besides: bytes) -> Any:
    """Without what depends on time, or on trees that are not here."""
    name = request[0].lower()
    if isinstance(reply, (ReplyError, type(None))):
        return reply
    if name == b"xpending" and len(request) > 3 and isinstance(reply, list):
        return [[row[0], row[1], row[3]] for row in reply]
    if name == b"xinfo" and isinstance(reply, list):
        return _without(reply, (*OTHERWISE, *besides))
    return reply


OTHERWISE = (b"radix-tree-nodes", b"idle", b"inactive", b"seen-time", b"active-time")


def _without(reply: Any, others: tuple[bytes, ...]) -> Any:
    """Names in turns with what they name."""
    if not isinstance(reply, list):
        return reply
    if reply and isinstance(reply[0], bytes) and reply[0] in (b"length", b"name"):
        fields = dict(zip(reply[::2], reply[1::2], strict=True))
        for name in others:
            fields.pop(name, None)
        for name in (b"pel", b"pending"):
            if isinstance(fields.get(name), list):
                fields[name] = [[row[0], row[-1]] for row in fields[name]]
        return {name: _without(value, others) for name, value in fields.items()}
    return [_without(item, others) for item in reply]


def agree(ours: Ours, theirs: Theirs, request: list[bytes], *besides: bytes) -> None:
    mine, other = ours.ask(*request), theirs.ask(*request)
    one, two = masked(request, plain(mine), *besides), masked(request, other, *besides)
    if isinstance(one, ReplyError) or isinstance(two, ReplyError):
        assert same(mine, other), f"{request}: {mine!r}, Redis says {other!r}"
    assert one == two or isinstance(one, ReplyError), f"{request}: {one!r}, Redis says {two!r}"


@pytest.mark.parametrize("sequence", sequences(SEQUENCES), ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for request in requests_of(sequence):
        agree(ours, theirs, request)


KEYS = [b"s", b"s", b"s", b"t", b"x"]
IDS = [b"%d-%d" % (first, second) for first in range(1, 9) for second in range(3)]
SHAPES: list[tuple[bytes, ...]] = [
    (b"XADD", b"k", b"i", b"f", b"v"),
    (b"XADD", b"k", b"j", b"f", b"v", b"f", b"v"),
    (b"XADD", b"k", b"j", b"f", b"v"),
    (b"XADD", b"k", b"j", b"f", b"v"),
    (b"XADD", b"k", b"j", b"f", b"w"),
    (b"XADD", b"k", b"MAXLEN", b"n", b"j", b"f", b"v"),
    (b"XADD", b"k", b"MAXLEN", b"~", b"n", b"j", b"f", b"v"),
    (b"XADD", b"k", b"MINID", b"i", b"j", b"f", b"v"),
    (b"XTRIM", b"k", b"MAXLEN", b"n"),
    (b"XTRIM", b"k", b"MAXLEN", b"~", b"n", b"LIMIT", b"n"),
    (b"XTRIM", b"k", b"MINID", b"i"),
    (b"XTRIM", b"k", b"MINID", b"~", b"i"),
    (b"XDEL", b"k", b"i", b"i", b"i"),
    (b"XLEN", b"k"),
    (b"XRANGE", b"k", b"-", b"+"),
    (b"XRANGE", b"k", b"b", b"b", b"COUNT", b"n"),
    (b"XREVRANGE", b"k", b"b", b"b", b"COUNT", b"n"),
    (b"XREAD", b"COUNT", b"n", b"STREAMS", b"k", b"k", b"i", b"i"),
    (b"XINFO", b"STREAM", b"k", b"FULL"),
    (b"XGROUP", b"CREATE", b"k", b"g", b"i"),
    (b"XGROUP", b"CREATE", b"k", b"g", b"0", b"MKSTREAM"),
    (b"XGROUP", b"SETID", b"k", b"g", b"i"),
    (b"XGROUP", b"DESTROY", b"k", b"g"),
    (b"XGROUP", b"CREATECONSUMER", b"k", b"g", b"c"),
    (b"XGROUP", b"DELCONSUMER", b"k", b"g", b"c"),
    *[(b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"n", b"STREAMS", b"k", b">")] * 4,
    (b"XREADGROUP", b"GROUP", b"g", b"c", b"NOACK", b"COUNT", b"n", b"STREAMS", b"k", b">"),
    (b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"n", b"STREAMS", b"k", b"i"),
    (b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"n", b"STREAMS", b"k", b"k", b">", b">"),
    (b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"n", b"STREAMS", b"k", b"k", b"k", b"0", b">", b"0"),
    (b"XACK", b"k", b"g", b"i", b"i", b"i"),
    (b"XPENDING", b"k", b"g"),
    (b"XPENDING", b"k", b"g", b"b", b"b", b"n"),
    (b"XPENDING", b"k", b"g", b"-", b"+", b"20", b"c"),
    (b"XCLAIM", b"k", b"g", b"c", b"0", b"i", b"i", b"i"),
    (b"XCLAIM", b"k", b"g", b"c", b"0", b"i", b"i", b"FORCE", b"JUSTID", b"RETRYCOUNT", b"n"),
    (b"XCLAIM", b"k", b"g", b"c", b"0", b"i", b"FORCE", b"LASTID", b"i"),
    (b"XAUTOCLAIM", b"k", b"g", b"c", b"0", b"b", b"COUNT", b"n"),
    (b"XAUTOCLAIM", b"k", b"g", b"c", b"0", b"0", b"JUSTID"),
    (b"COPY", b"s", b"t", b"REPLACE"),
    (b"DEL", b"t"),
    (b"SET", b"x", b"1"),
]


@pytest.mark.parametrize("seed", range(12))
def test_chance_finds_no_difference(theirs: Theirs, seed: int) -> None:
    """But for consumers that 7.2 makes and 7.0 does not, and how many entries a group has read or has before it, of
    which 7.2 knows more: both are of tests of their own."""
    rng = random.Random(seed)
    ours = Ours()
    high = 0
    for turn in range(400):
        high += rng.random() < 0.2
        choices = {
            b"k": KEYS,
            b"i": [b"%d-%d" % (max(0, high - rng.randrange(6)), rng.randrange(3)), b"0", b"%d" % high],
            b"j": [b"%d-*" % max(1, high), b"%d-*" % (high + 1), b"%d-%d" % (high + 1, turn)],
            b"b": [b"-", b"+", b"%d" % high, b"(%d-0" % max(1, high - 3), b"%d-1" % max(0, high - 2)],
            b"n": [b"0", b"1", b"2", b"5", b"20", b"-1"],
            b"f": [b"a", b"b", b"c", b""],
            b"v": [b"1", b"", b"x" * 30, b"y" * 300, b"\x00\xff"],
            b"w": [b"z" * 1000, b"z" * 70_000],
            b"g": [b"g", b"g", b"h"],
            b"c": [b"c", b"d", b"e"],
        }
        shape = rng.choice(SHAPES)
        request = [shape[0], *(rng.choice(choices.get(word, [word])) for word in shape[1:])]
        if request[1] == b"CREATECONSUMER" or request[0] in (b"XCLAIM", b"XAUTOCLAIM", b"XREADGROUP"):
            _make_consumers(ours, theirs)
        agree(ours, theirs, request, b"entries-read", b"lag")


def _make_consumers(ours: Ours, theirs: Theirs) -> None:
    for side in (ours, theirs):
        for key in (b"s", b"t"):
            for group in (b"g", b"h"):
                for consumer in (b"c", b"d", b"e"):
                    side.ask(b"XGROUP", b"CREATECONSUMER", key, group, consumer)


# -- what 7.0 has not, or otherwise


def words(line: str) -> list[bytes]:
    return [word.encode() for word in line.split()]


def run(ours: Ours, lines: str) -> Any:
    """Commands with bars between them; the last reply, as a client of RESP2 has it."""
    replies = [plain(ours.ask(*request)) for request in requests_of(lines)]
    return replies[-1]


def fields(reply: Any) -> dict[bytes, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def test_ids_follow_the_clock_and_never_go_back() -> None:
    """A node whose clock is behind gave an id below the last one, and XADD failed; or a reader missed an entry."""
    ours = Ours()
    assert run(ours, "xadd s * a 1") == b"%d-0" % NOW
    assert run(ours, "xadd s * a 1") == b"%d-1" % NOW
    ours.now += 5
    assert run(ours, "xadd s * a 1") == b"%d-0" % (NOW + 5)
    ours.now -= 4000
    assert run(ours, "xadd s * a 1") == b"%d-1" % (NOW + 5)
    run(ours, f"xadd s {NOW + 9}-18446744073709551615 a 1")
    assert run(ours, "xadd s * a 1") == b"%d-0" % (NOW + 10)


def dated(line: str, skew: int) -> list[bytes]:
    request = words(line)
    row = find(request[0])
    assert row is not None
    assert row.dated is not None
    return row.dated(request, skew)


def test_ids_are_in_wall_time() -> None:
    """Cluster time may be far behind it."""
    ours = Ours()
    row = find_part(dated("xadd s * a 1", 5000)[0])
    assert row is not None
    assert ours._run(dated("xadd s maxlen 5 * a 1", 5000)) == b"%d-0" % (NOW + 5000)
    assert ours._run(dated("xadd s nomkstream * a 1", -7000)) == b"%d-1" % (NOW + 5000)
    assert ours._run(dated("xadd s 9 a 1", 5000)) == ReplyError(
        "ERR The ID specified in XADD is equal or smaller than the target stream top item"
    )
    assert ours._run(dated("xadd s * a", 5000)) == ReplyError("ERR wrong number of arguments for 'xadd' command")
    assert ours._run(dated("xadd t * a 1", -2 * NOW)) == b"0-1"


def test_times_of_delivery_are_in_wall_time() -> None:
    ours = Ours()
    run(ours, "xadd s 1 a 1 | xgroup create s g 0 | xreadgroup group g c streams s >")
    ours._run(dated(f"xclaim s g d 0 1 time {NOW + 4000} justid", 5000))
    assert run(ours, "xpending s g - + 9") == [[b"1-0", b"d", 1000, 1]]
    for skew in (0, 5000):
        full = fields(plain(ours._run(dated("xinfo stream s full", skew))))
        group = fields(full[b"groups"][0])
        assert group[b"pending"] == [[b"1-0", b"d", NOW - 1000 + skew, 1]]
        d = fields(group[b"consumers"][1])
        assert d[b"name"] == b"d"
        assert d[b"seen-time"] == d[b"active-time"] == NOW + skew
        assert d[b"pending"] == [[b"1-0", NOW - 1000 + skew, 1]]
    assert dated("xinfo stream s", 7) == words("xinfo stream s")
    assert ours._run(dated("xinfo stream none full", 7)) == ReplyError("ERR no such key")
    row = find(b"xinfo")
    assert row is not None
    assert keys_of(row, dated("xinfo stream s full count 1", 7)) == [b"s"]
    assert dated("xclaim s g c 0 1 2 idle 5 TIME 100 retrycount 3 time -1 lastid 4", 7)[10] == b"93"
    assert dated("xclaim s g c 0 1 time 3", 7)[-1] == b"0"
    assert dated("xclaim s g c 0 time 3 time 9", 7) == words("XCLAIM s g c 0 time 0 time 2".replace("XCLAIM", "xclaim"))


def test_a_consumer_is_seen_whenever_it_asks_and_active_when_it_gets_something() -> None:
    """Since 7.2; who looks for dead consumers by `idle` would take a waiting one for dead."""
    ours = Ours()

    def consumer() -> tuple[int, int]:
        found = fields(run(ours, "xinfo consumers s g")[0])
        return found[b"idle"], found[b"inactive"]

    run(ours, "xgroup create s g $ mkstream")
    assert run(ours, "xreadgroup group g c streams s >") is None
    assert consumer() == (0, -1)
    ours.now += 100
    run(ours, "xadd s 1 a 1")
    assert consumer() == (100, -1)
    run(ours, "xreadgroup group g c streams s >")
    assert consumer() == (0, 0)
    ours.now += 50
    run(ours, "xreadgroup group g c streams s 0")
    assert consumer() == (0, 50)
    run(ours, "xadd s 2 a 1 | xreadgroup group g c noack streams s >")
    assert consumer() == (0, 50)
    ours.now += 7
    run(ours, "xautoclaim s g c 100000 0")
    assert consumer() == (0, 57)
    run(ours, "xclaim s g c 0 1")
    assert consumer() == (0, 0)
    run(ours, "xclaim s g d 0 9")
    assert [fields(found)[b"name"] for found in run(ours, "xinfo consumers s g")] == [b"c", b"d"]


def test_the_last_id_is_not_set_below_what_was_deleted() -> None:
    ours = Ours()
    error = ReplyError("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id")
    assert run(ours, "xadd s 5 a 1 | xdel s 5 | xsetid s 4") == error
    assert run(ours, "xsetid s 9 maxdeletedid 8 | xsetid s 7") == error
    assert run(ours, "xsetid s 8") == b"OK"


def test_what_is_before_a_group_is_counted_where_it_can_be() -> None:
    """As 7.2.6 has it."""
    ours = Ours()

    def lag(group: str = "g") -> Any:
        groups = {found[b"name"]: found for found in map(fields, run(ours, "xinfo groups s"))}
        found = groups[group.encode()]
        return found[b"entries-read"], found[b"lag"]

    run(ours, "xadd s 1 a 1 | xadd s 2 a 1 | xadd s 3 a 1 | xadd s 4 a 1 | xgroup create s g 0")
    assert lag() == (None, 4)
    run(ours, "xreadgroup group g c count 1 streams s >")
    assert lag() == (1, 3)
    run(ours, "xdel s 3")
    assert lag() == (1, None)
    run(ours, "xtrim s minid 4")
    assert lag() == (1, 1)
    run(ours, "xreadgroup group g c streams s >")
    assert lag() == (4, 0)
    run(ours, "xdel s 4 | xgroup create s h 0")
    assert lag("h") == (None, 0)
    run(ours, "xadd s 5 a 1 | xadd s 6 a 1 | xgroup create s i 5")
    assert lag("h") == (None, 2)
    assert lag("i") == (None, 1)


def test_an_unbalanced_list_of_streams_is_named() -> None:
    text = "ERR Unbalanced '%s' list of streams: for each stream key an ID or '%s' must be specified."
    assert run(Ours(), "xread streams a b 0") == ReplyError(text % ("xread", "$"))
    assert run(Ours(), "xreadgroup group g c streams a b >") == ReplyError(text % ("xreadgroup", ">"))


def test_a_reply_is_a_map_where_there_are_maps() -> None:
    ours = Ours()
    run(ours, "xadd s 1 a 1")
    reply = ours.ask(*words("xread streams s 0"))
    assert reply == Named([b"s", [[b"1-0", [b"a", b"1"]]]])
    entries = b"*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert encode(reply, 2) == b"*1\r\n*2\r\n$1\r\ns\r\n" + entries
    assert encode(reply, 3) == b"%1\r\n$1\r\ns\r\n" + entries
    assert encode(ours.ask(*words("xread streams s 1")), 2) == b"*-1\r\n"


def test_an_autoclaim_looks_at_so_many_entries() -> None:
    """It would hold a node up while it looked at all that are not old enough."""
    ours = Ours()
    run(ours, "xgroup create s g 0 mkstream")
    for number in range(1, 40):
        run(ours, f"xadd s {number} a 1")
    run(ours, "xreadgroup group g c streams s >")
    assert run(ours, "xautoclaim s g d 1000 0 count 2") == [b"21-0", [], []]
    assert run(ours, "xautoclaim s g d 1000 21 count 2") == [b"0-0", [], []]


# -- waiting


def waiting(line: str) -> Waiting:
    found = waiting_of(words(line))
    assert found is not None
    return found


def test_a_request_tells_what_it_waits_for() -> None:
    found = waiting("XREAD COUNT 2 BLOCK 500 STREAMS a b 5 7-1")
    assert (found.keys, found.since, found.timeout_ms) == ([b"a", b"b"], [b"5", b"7-1"], 500)
    assert found.request == words("XREAD COUNT 2 STREAMS a b 5 7-1")
    assert found.asks == ()
    found = waiting("xreadgroup block 0 group g c noack block 7 streams a >")
    assert (found.since, found.timeout_ms, found.asks) == ([b">"], 7, ())
    assert found.request == words("xreadgroup group g c noack streams a >")


def test_what_comes_later_begins_when_it_is_asked_for() -> None:
    """With `$` still in the request, whatever came would be behind it again."""
    ours = Ours()
    run(ours, "xadd b 3 a 1")
    found = waiting("XREAD BLOCK 0 STREAMS a b c $ $ 2")
    assert found.asks == [LAST_IDS, b"a", b"b"]
    row = find_part(LAST_IDS)
    assert row is not None
    assert row.run is not None
    _, last_ids = row.run(ours.cells, found.asks, ours.now)
    assert last_ids == [b"0-0", b"3-0"]
    begun = found.begun(last_ids)
    assert begun.request == words("XREAD STREAMS a b c 0-0 3-0 2")
    assert begun.since == [b"0-0", b"3-0", b"2"]
    assert begun.asks == ()
    assert ours.ask(*begun.request) == NULL_ARRAY
    run(ours, "xadd b 4 a 2")
    assert ours.ask(*begun.request) == Named([b"b", [[b"4-0", [b"a", b"2"]]]])


@pytest.mark.parametrize(
    "line",
    [
        "xread streams s 0",
        "xread block x streams s 0",
        "xread block 5 streams s",
        "xread block 5",
        "xreadgroup block 5",
    ],
)
def test_what_is_wrong_or_does_not_wait_waits_for_nothing(line: str) -> None:
    assert waiting_of(words(line)) is None


# -- many entries


class Unlooked(Ours):
    """Both copies are compared when somebody wants it."""

    def _compare(self, key: bytes) -> None:
        pass


def test_whole_nodes_are_trimmed() -> None:
    """As in Redis, so that most XADDs with `MAXLEN ~` trim nothing, and few much."""
    ours = Unlooked()
    lengths = []
    for number in range(1, 1000):
        run(ours, f"xadd s maxlen ~ 250 {number} a 1")
        lengths.append(run(ours, "xlen s"))
    assert max(lengths) == 250 + NODE_ENTRIES - 1
    assert lengths[-1] >= 250
    assert run(ours, "xtrim s maxlen ~ 0 limit 1") == 0
    assert run(ours, f"xtrim s maxlen ~ 0 limit {NODE_ENTRIES}") == NODE_ENTRIES


@pytest.mark.parametrize("seed", range(4))
def test_a_long_stream_beside_redis(theirs: Theirs, seed: int) -> None:
    """Of many nodes, also where they are split, shrunk, joined and trimmed."""
    rng = random.Random(seed)
    ours = Unlooked()
    shapes = [(b"a",), (b"a", b"b"), (b"c",), (b"", b"d" * 300)]
    at = 0
    for turn in range(600):
        low = max(0, at - 1200)
        match rng.randrange(12):
            case 0:
                request = [b"XDEL", b"s", *[b"%d-0" % rng.randint(low, at) for _ in range(rng.choice((1, 5, 80)))]]
            case 1:
                request = [b"XRANGE", b"s", b"%d" % rng.randint(low, at), b"+", b"COUNT", b"%d" % rng.randrange(1, 300)]
            case 2:
                request = [
                    b"XREVRANGE",
                    b"s",
                    b"%d" % rng.randint(low, at),
                    b"-",
                    b"COUNT",
                    b"%d" % rng.randrange(1, 300),
                ]
            case 3:
                request = [b"XTRIM", b"s", b"MINID", b"%d" % (low + rng.randrange(60))]
            case 4:
                request = [b"XRANGE", b"s", b"(%d" % rng.randint(low, at), b"%d-5" % rng.randint(low, at)]
            case _:
                request = [b"XRANGE", b"s", b"-", b"+", b"COUNT", b"1"]
                for _ in range(rng.choice((1, 1, 30))):
                    at += rng.choice((1, 1, 1, 300, 70_000)) if turn % 50 == 0 else 1
                    names = rng.choice(shapes) if rng.random() < 0.2 else shapes[turn % 3]
                    values = [rng.choice((b"1", b"x" * rng.randrange(200), b"")) for _ in names]
                    entry = [word for pair in zip(names, values, strict=True) for word in pair]
                    agree(ours, theirs, [b"XADD", b"s", b"%d-%d" % (at, rng.random() < 0.1), *entry])
        agree(ours, theirs, request)
    agree(ours, theirs, [b"XRANGE", b"s", b"-", b"+"])
    agree(ours, theirs, [b"XREVRANGE", b"s", b"+", b"-"])
    Ours._compare(ours, b"s")


def test_what_is_idle_is_found_behind_much_that_is_not() -> None:
    ours = Unlooked()
    run(ours, "xgroup create s g 0 mkstream")
    for number in range(1, 3001):
        ours.ask(b"XADD", b"s", b"%d" % number, b"a", b"1")
    run(ours, "xreadgroup group g c count 2990 streams s > | xreadgroup group g d streams s >")
    ours.now += 100
    run(ours, "xreadgroup group g c count 2000 streams s 0")
    ours.now += 5
    old = [[b"2001-0", b"c", 105, 1], [b"2002-0", b"c", 105, 1]]
    assert run(ours, "xpending s g idle 50 - + 2") == old
    assert run(ours, "xpending s g idle 50 - + 2 c") == old
    assert run(ours, "xpending s g idle 50 3 2000 2") == []
    assert run(ours, "xpending s g idle 50 2500 + 1") == [[b"2500-0", b"c", 105, 1]]
    assert len(run(ours, "xpending s g idle 50 - + 5000")) == 1000
    assert len(run(ours, "xpending s g idle 50 - + 5000 c")) == 990
    assert len(run(ours, "xpending s g idle 50 - + 5000 d")) == 10
    assert run(ours, "xpending s g idle 1000 - + 5000") == []


def test_all_of_a_stream_travels_as_a_reply() -> None:
    """It is the deepest reply there is: lists within maps within lists within maps, thrice."""
    ours = Ours()
    run(ours, "xadd s 1 a 1 | xgroup create s g 0 | xreadgroup group g c streams s >")
    reply = ours.ask(*words("xinfo stream s full"))
    assert replies_of(load(dump([[[[reply]]]]))[0][0][0]) == [reply]
