"""Sorted sets beside a real redis-server, and beside a dict that is sorted.

Redis 7.0 prints scores with 17 digits, 7.2 as short as it can: they are compared as numbers.
"""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from peerkv.commands.table import find
from peerkv.resp import NULL_ARRAY, Pairs, Reply, ReplyError, encode, text_of_double
from peerkv.store.values import PART_BYTES, derived, patched, size_of_body
from peerkv.store.values.sortedsets import (
    CHUNK_MAX,
    LargeSortedSet,
    SmallSortedSet,
    SortedSet,
    in_order,
    packed_scores,
    sorted_set_of,
)
from tests.commands.keyspace import NOW, Ours, Theirs, held, rebuilt, requests_of, same, sequences

SEQUENCES = """
zadd z 1 a 2 b 3 c | zadd z 1 a | zadd z 5 a 1 d | zscore z a | zscore z none | zscore none a | zcard z | zcard none
zrange z 0 -1 withscores | type z | zmscore z a none b | zmscore none a b | zadd z x a | zadd z 1 a 2 | zadd z
zadd z 1 | zadd z nx | zadd z 1 a x b | zcard z

zadd z nx 1 a 2 b | zadd z nx 9 a 3 c | zadd z xx 4 a 5 q | zadd z xx ch 7 a 8 b 1 w | zadd z ch 7 a 9 b 1 w
zadd z gt 1 a 100 b | zadd z lt ch 1 a 1000 b | zadd z gt lt 1 a | zadd z nx gt 1 a | zadd z nx xx 1 a
zadd z nx lt 1 a | zadd z gt ch 5 new | zadd z xx gt ch 500 new 500 newer | zrange z 0 -1 withscores | zadd none xx 1 a
exists none

zadd z incr 5 a | zadd z incr 2.5 a | zadd z incr nx 1 a | zadd z incr xx 1 q | zadd z incr gt -1 a | zadd z incr lt 1 a
zadd z incr 1 a 2 b | zadd z incr inf a | zadd z incr -inf a | zincrby z 1 a | zincrby z -inf a | zincrby z 3 b
zincrby z nan b | zincrby z x b | zincrby new 4 m | zscore z a | zadd z incr ch xx 0 b | zincrby z 1
zadd z incr gt 0 b

zadd z 0x10 a 1e3 b .5 c 5. d +1 e inf f -infinity g | zrange z 0 -1 withscores | zadd z 1e400 a | zadd z nan a
zadd z 1e-400 a | zadd z 0e-400 a | zadd z 4e-324 a | zscore z a | zadd z 0x a | zadd z 1_0 a | zadd z '' a
zadd z 0x1p a | zadd z 0x1p3 a | zscore z a | zadd z -0 a | zadd z 0x1p-2000 a | zadd z 0x1p2000 a | zadd z 1e a
zadd z 1.5e2 a

zadd z 1 a 2 b 3 c | zrem z a q | zrem z a | zrem none a | zrem z b b c | exists z | zrem z a | zadd z 1 a | zrem z

zadd z 1 a 1 b 2 c 2 d | zrank z a | zrank z d | zrank z q | zrank none a | zrevrank z a | zrevrank z d | zrevrank z q
zrank z | zrevrank none a

zadd z 1 a 2 b 3 c 4 d 5 e | zrange z 1 3 | zrange z -2 -1 | zrange z 3 1 | zrange z 0 -1 rev
zrange z 0 1 rev withscores | zrevrange z 0 1 | zrevrange z 1 -2 withscores | zrevrange z 5 9 | zrange z x 1
zrange z 0 y | zrange none 0 -1 | zrange z 0 -1 foo | zrange z 0 -1 limit 0 1 | zrange z 0 -1 limit 0 -1
zrange z 0 -1 limit 0 | zrange z 0 -1 limit x 1 | zrevrange z 0 -1 rev | zrevrange z 0 -1 byscore
zrevrange z 0 -1 limit 1 1 | zrange z 0 -1 withscores withscores

zadd z 1 a 2 b 2 b2 3 c 4 d 5 e | zrangebyscore z 2 4 | zrangebyscore z (2 4 | zrangebyscore z 2 (4 withscores
zrangebyscore z -inf +inf limit 1 2 | zrangebyscore z -inf inf limit 1 -1 | zrangebyscore z -inf inf limit -1 2
zrangebyscore z 4 2 | zrangebyscore z (2 (2 | zrangebyscore z (2 2 | zrangebyscore z x 1 | zrangebyscore z 1 (x
zrangebyscore z nan 1 | zrangebyscore z '' 3 | zrangebyscore z ( 3 | zrangebyscore z 1e400 inf
zrangebyscore z -1e400 0x2 | zrangebyscore z 1 2 limit 0 0 | zrangebyscore z 1 2 limit 5 1
zrangebyscore z 1 2 limit x 1 | zrangebyscore none 1 2 | zrangebyscore z 1 2 limit 1 | zrangebyscore z 1 2 bylex
zrevrangebyscore z 4 2 | zrevrangebyscore z (4 2 withscores | zrevrangebyscore z +inf -inf limit 1 2
zrevrangebyscore z 2 4 | zrevrangebyscore z 5 1 limit 2 -1 withscores | zrange z (1 3 byscore
zrange z 3 (1 byscore rev limit 0 2 withscores | zrange z 1 3 byscore rev | zrange z 0 1 byscore bylex

zadd z 0 a 0 b 0 bb 0 c 0 d | zrangebylex z - + | zrangebylex z [b (c | zrangebylex z (b [c | zrangebylex z + -
zrangebylex z - - | zrangebylex z + + | zrangebylex z b c | zrangebylex z [b | zrangebylex z [b c | zrangebylex z [ (zz
zrangebylex z ( + | zrangebylex z - + limit 1 2 | zrangebylex z - + limit -1 2 | zrangebylex z - + limit 1 -1
zrangebylex z - + withscores | zrevrangebylex z + - | zrevrangebylex z (c [b | zrevrangebylex z + - limit 1 2
zlexcount z - + | zlexcount z (a [c | zlexcount z [c [a | zlexcount z a b | zlexcount none - + | zlexcount none x +
zrange z [b + bylex | zrange z + [b bylex rev limit 0 1 | zrange z - + bylex withscores | zremrangebylex z [b (c
zrange z 0 -1 | zremrangebylex z b c | zremrangebylex none - + | zremrangebylex z - + | exists z | zrangebylex z [b [b
zrangebylex z -x +

zadd z 1 a 2 b 3 c 4 d | zcount z 2 3 | zcount z (2 3 | zcount z -inf +inf | zcount z 3 2 | zcount z x 3
zcount none 1 2 | zcount none x 2 | zremrangebyscore z (1 2 | zremrangebyscore z x 2 | zremrangebyscore z 9 10
zremrangebyrank z 0 0 | zremrangebyrank z -1 -1 | zremrangebyrank z 5 9 | zremrangebyrank z x 1
zremrangebyrank none 0 1 | zrange z 0 -1 withscores | zremrangebyscore z -inf inf | exists z | zremrangebyscore none 0 1
zadd z 1 a 2 b | zremrangebyrank z 0 -1 | exists z

zadd z 1 a 2 b 3 c 4 d 5 e | zpopmin z | zpopmax z | zpopmin z 2 | zpopmax z 9 | exists z | zpopmin z | zpopmin none 3
zpopmin z 0 | zadd z 1 a 2 b | zpopmin z 0 | zpopmax z -1 | zpopmin z x | zpopmax z 1 2 | zpopmax z 2 | exists z

zadd z 1 a 2 b 3 c 4 d | zmpop 1 z min | zmpop 2 none z max count 2 | zmpop 1 z min count 9 | exists z | zmpop 1 z min
zmpop 0 z min | zmpop x z min | zmpop 2 z min | zmpop 1 z foo | zmpop 1 z min count 0 | zmpop 1 z min count
zmpop 1 z min foo 1 | zmpop 1 z min count 1 count 1 | set s 1 | zmpop 1 s min | zmpop 2 none s max | zmpop -1 z min
zmpop 1 z max count x

zadd a 1 x 2 y 3 z | zadd b 10 y 20 z 30 w | zunion 2 a b | zunion 2 a b withscores | zinter 2 a b withscores
zunion 2 a b weights 2 3 withscores | zunion 2 a b aggregate min withscores | zinter 2 a b aggregate max withscores
zinter 2 a b weights 1 -1 aggregate sum withscores | zdiff 2 a b withscores | zdiff 2 b a | zdiff 1 a | zunion 1 a
zdiff 2 a a | zdiff 2 a none | zdiff 2 none a | zinter 2 a none | zinter 2 a a withscores | zunion 3 a a b withscores
zintercard 2 a b | zintercard 2 a b limit 1 | zintercard 2 a b limit 0 | zintercard 2 a b limit -1
zintercard 2 a b limit x | zintercard 2 a none | zintercard 1 a | zintercard 3 a b a limit 9 | zintercard 2 a b limit
zintercard 2 a b withscores

zadd a 1 x inf y | zadd b 10 y -inf z | zadd c -inf y 1 z | zunion 2 a c withscores | zinter 2 a c withscores
zunion 2 a b weights 0 0 withscores | zinter 2 a c weights 0 1 withscores
zinter 2 a c weights 1 0 aggregate min withscores | zunion 2 a b weights inf -inf withscores
zunion 3 a b c aggregate max withscores | zinter 2 c a weights 0 1 aggregate max
zinter 2 a c weights -inf inf aggregate max withscores | zinter 3 a b c weights 0 0 0 aggregate min withscores

zadd a 1 x 2 y | zadd b 3 y | zunion 0 a | zunion x a | zunion -1 a | zunion 3 a b | zunion 2 a b foo
zunion 2 a b weights 1 | zunion 2 a b weights 1 x | zunion 2 a b weights 1 2 3 | zunion 2 a b aggregate foo
zunion 2 a b aggregate | zdiff 0 a | zdiff 2 a b weights 1 2 | zdiff 2 a b aggregate sum
zinter 2 a b withscores weights 2 2 withscores | zintercard 0 a | zunionstore d 0 a | zinterstore d 2 a b withscores
zdiffstore d 0 a | zdiffstore d 2 a b withscores | zinter 9 a b | zunion 2 a b weights 1 2 weights 3 4 withscores
zunion 2 a b limit 1 | zintercard 2 a b weights 1 1 | zunionstore d 3 a b

zadd a 1 x 2 y | zadd b 3 y 4 z | set s 1 | zunionstore d 2 a b | zrange d 0 -1 withscores
zinterstore d 2 a b weights 2 2 | zrange d 0 -1 withscores | zdiffstore d 2 a b | zrange d 0 -1 withscores
zinterstore d 2 a none | exists d | zinterstore d 2 a none | zunionstore s 1 a | type s | zunionstore a 2 a a
zrange a 0 -1 withscores | zdiffstore a 1 none | exists a | set s 1 | zdiffstore s 1 none | exists s
expireat b 1900000000 | zunionstore b 1 b | expiretime b | zunionstore d 2 b b aggregate max | zrange d 0 -1 withscores
zunionstore 1 | zunionstore d x b

zadd z 1 a 2 b 3 c 4 d | zrangestore d z 1 2 | zrange d 0 -1 withscores | zrangestore d z (1 3 byscore
zrange d 0 -1 withscores | zrangestore d z 3 1 byscore rev limit 1 1 | zrange d 0 -1 withscores | zrangestore d z 9 10
exists d | zrangestore d none 0 1 | zrangestore d z 0 -1 withscores | zrangestore d z - + bylex | zrange d 0 -1
zrangestore d z 0 1 rev | zrange d 0 -1 | zrangestore d z x 1 | zrangestore z z 0 0 | zrange z 0 -1 | set s 1
zrangestore d s 0 1 | zrangestore s z 0 0 | type s

set s 1 | zadd s 1 a | zadd s x a | zadd s nx xx 1 a | zincrby s 1 a | zincrby s x a | zrem s a | zcard s | zscore s a
zmscore s a | zrank s a | zrevrank s a | zrange s 0 1 | zrange s x 1 | zrevrange s 0 1 | zrangebyscore s 1 2
zrangebyscore s x 2 | zrangebylex s - + | zrangebylex s x + | zcount s 1 2 | zlexcount s - + | zremrangebyrank s 0 1
zremrangebyscore s 0 1 | zremrangebylex s - + | zpopmin s | zpopmax s 1 | zpopmax s x | zunion 1 s | zinter 2 none s
zdiff 1 s | zunion 1 s foo | zunionstore d 1 s | zinterstore d 2 s s | zdiffstore d 1 s | zintercard 1 s | zadd z 1 a
get z | append z x | incr z | getset z 1 | rpush z a | copy z y | zrange y 0 -1 withscores | rename y x | zadd z 2 b
zrange x 0 -1

zscan none 0 foo | zscan none x | zadd z 1 a 2 b 3 c | zscan z 0 | zscan z 0 match b | zscan z 0 count 1 | zscan z x
zscan z 0 count 0 | zscan z 0 count x | zscan z 0 foo | zscan z 0 match | zscan z | set s 1 | zscan s 0 | zscan s 0 foo

zadd z 1 a | zrandmember z | zrandmember z 5 | zrandmember z -3 | zrandmember z 2 withscores
zrandmember z -2 withscores | zrandmember z 0 | zrandmember none | zrandmember none 3 | zrandmember none 3 withscores
zrandmember z x | zrandmember z 1 foo | zrandmember z 1 withscores x | zrandmember z -9223372036854775808
zrandmember none x withscores | zrandmember z 9223372036854775807 withscores
zrandmember z -9223372036854775807 withscores | set s 1 | zrandmember s | zrandmember s 1
zrandmember z 9223372036854775807 | zrandmember z withscores | zrandmember z 4611686018427387903 withscores

sadd s a b c | zadd z 1 a 5 b 7 q | zunion 2 s z withscores | zinter 2 z s withscores
zinter 2 s z weights 10 1 withscores | zdiff 2 z s withscores | zdiff 2 s z withscores | zintercard 2 s z
zunion 1 s withscores | zunionstore d 2 s z weights 2 3 | zrange d 0 -1 withscores | zunion 2 s s withscores
zrangestore d s 0 1 | zadd s 1 a | zscore s a | sadd z 1 | smembers z | zinter 2 s s withscores | zdiff 1 s withscores
zunionstore s 1 s | type s | zinterstore d 3 s z z aggregate max

zadd z 1 a | expireat z 1900000000 | zadd z 2 b | expiretime z | zincrby z 1 a | zrem z a | expiretime z
zadd z 5 c 6 d | zpopmin z | zremrangebyrank z 0 0 | expiretime z | zpopmin z | expiretime z | zadd z 1 a | expiretime z
"""


def numeric(ours: Reply, theirs: Reply, tolerance: float = 0.0) -> bool:
    """As `same`, but that a double is a number, however it is printed."""
    if isinstance(ours, float):
        return isinstance(theirs, bytes) and math.isclose(float(theirs), ours, rel_tol=0.0, abs_tol=tolerance)
    items = ours if isinstance(ours, list) else ours.items if isinstance(ours, Pairs) else None
    if isinstance(items, list):
        alike = isinstance(theirs, list) and len(items) == len(theirs)
        return alike and all(numeric(*pair, tolerance) for pair in zip(items, theirs, strict=True))  # type: ignore[arg-type]
    return same(ours, theirs)


@pytest.mark.parametrize("sequence", sequences(SEQUENCES), ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for request in requests_of(sequence):
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert numeric(mine, other), f"{request}: {mine!r}, Redis says {other!r}"


def asked(*requests: str) -> Reply:
    """The last one's reply."""
    ours = Ours()
    return [ours.ask(*request) for line in requests for request in requests_of(line)][-1]


def test_a_rank_comes_with_its_score() -> None:
    """Since Redis 7.2."""
    added = "zadd z 1 a 2 b 3 c"
    assert asked(added, "zrank z b withscore") == [1, 2.0]
    assert asked(added, "zrevrank z a WITHSCORE") == [2, 1.0]
    assert asked(added, "zrank z q withscore") == asked(added, "zrank none b withscore") == NULL_ARRAY
    assert asked(added, "zrank z b withscores") == ReplyError("ERR syntax error")
    assert asked(added, "zrank z b withscore x") == ReplyError("ERR wrong number of arguments for 'zrank' command")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (3.0, "3"), (-3.0, "-3"), (0.1, "0.1"), (1e17, "100000000000000000"), (2.0**62, "4611686018427387904"),
        (5e18, "5e+18"), (1e21, "1e+21"), (123456789012345678.0, "123456789012345680"), (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-6, "1.5e-6"), (3.14159265358979, "3.14159265358979"), (12345.6789012, "1.23456789012e+4"), (-0.0, "-0"),
        (float("inf"), "inf"), (float("-inf"), "-inf"), (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"), (-1234.5, "-1234.5"), (4.7e18 + 1024, "4700000000000001000"),
    ],
)  # fmt: skip
def test_doubles_are_printed_as_redis_72_does(number: float, text: str) -> None:
    """Made with its own fpconv."""
    assert text_of_double(number) == text.encode()
    assert encode(number, 3) == b",%b\r\n" % text.encode()
    assert encode(number, 2) == b"$%d\r\n%b\r\n" % (len(text), text.encode())


def test_scores_are_pairs_in_resp3() -> None:
    added = "zadd z 1 a 2.5 b"
    assert encode(asked(added, "zrange z 0 -1 withscores"), 3) == (
        b"*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n"
    )
    assert encode(asked(added, "zpopmin z 1"), 3) == b"*1\r\n*2\r\n$1\r\na\r\n,1\r\n"
    assert encode(asked(added, "zpopmin z"), 3) == b"*2\r\n$1\r\na\r\n,1\r\n"
    assert encode(asked(added, "zmpop 1 z min"), 2) == b"*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert encode(asked(added, "zscore z b"), 3) == b",2.5\r\n"
    assert encode(asked(added, "zunion 1 z withscores"), 3) == encode(asked(added, "zrange z 0 -1 withscores"), 3)


# -- chance

SHAPES: list[tuple[bytes, ...]] = [
    (b"ZADD", b"k", b"f", b"m"),
    (b"ZADD", b"k", b"f", b"m", b"f", b"m", b"f", b"m"),
    (b"ZADD", b"k", *[b"f", b"m"] * 20),
    (b"ZADD", b"k", b"o", b"f", b"m", b"f", b"m"),
    (b"ZADD", b"k", b"o", b"o", b"f", b"m"),
    (b"ZADD", b"k", b"o", b"o", b"o", b"f", b"m"),
    (b"ZINCRBY", b"k", b"f", b"m"),
    (b"ZREM", b"k", b"m", b"m"),
    (b"ZCARD", b"k"),
    (b"ZSCORE", b"k", b"m"),
    (b"ZMSCORE", b"k", b"m", b"m"),
    (b"ZRANK", b"k", b"m"),
    (b"ZREVRANK", b"k", b"m"),
    (b"ZRANGE", b"k", b"n", b"n", b"r", b"r"),
    (b"ZRANGE", b"k", b"n", b"n", b"WITHSCORES"),
    (b"ZRANGE", b"k", b"b", b"b", b"BYSCORE", b"r", b"r"),
    (b"ZRANGE", b"k", b"b", b"b", b"BYSCORE", b"LIMIT", b"n", b"n", b"r"),
    (b"ZRANGE", b"l", b"x", b"x", b"BYLEX", b"r", b"LIMIT", b"n", b"n"),
    (b"ZREVRANGE", b"k", b"n", b"n", b"WITHSCORES"),
    (b"ZRANGEBYSCORE", b"k", b"b", b"b", b"LIMIT", b"n", b"n"),
    (b"ZREVRANGEBYSCORE", b"k", b"b", b"b", b"WITHSCORES"),
    (b"ZRANGEBYLEX", b"l", b"x", b"x"),
    (b"ZREVRANGEBYLEX", b"l", b"x", b"x"),
    (b"ZCOUNT", b"k", b"b", b"b"),
    (b"ZLEXCOUNT", b"l", b"x", b"x"),
    (b"ZREMRANGEBYRANK", b"k", b"n", b"n"),
    (b"ZREMRANGEBYSCORE", b"k", b"b", b"b"),
    (b"ZREMRANGEBYLEX", b"l", b"x", b"x"),
    (b"ZPOPMIN", b"k", b"c"),
    (b"ZPOPMAX", b"k"),
    (b"ZMPOP", b"2", b"k", b"k", b"e", b"COUNT", b"c"),
    (b"ZUNION", b"2", b"k", b"k", b"WITHSCORES"),
    (b"ZUNION", b"2", b"k", b"k", b"WEIGHTS", b"f", b"f", b"AGGREGATE", b"g", b"WITHSCORES"),
    (b"ZINTER", b"u", b"k", b"k", b"AGGREGATE", b"g", b"WITHSCORES"),
    (b"ZDIFF", b"2", b"k", b"k", b"WITHSCORES"),
    (b"ZINTERCARD", b"2", b"k", b"k", b"LIMIT", b"c"),
    (b"ZUNIONSTORE", b"k", b"2", b"k", b"k", b"WEIGHTS", b"w", b"w"),
    (b"ZINTERSTORE", b"k", b"u", b"k", b"k"),
    (b"ZDIFFSTORE", b"k", b"2", b"k", b"k"),
    (b"ZRANGESTORE", b"k", b"k", b"b", b"b", b"BYSCORE"),
    (b"ZADD", b"l", *[b"0", b"m"] * 10),
    (b"COPY", b"k", b"k"),
    (b"SET", b"s", b"1"),
    (b"DEL", b"s"),
    (b"TYPE", b"k"),
]
MEMBERS = [b"", b"z" * 300, *(b"m%d" % number for number in range(200))]
CHOICES = {
    b"k": [b"a", b"a", b"b", b"b", b"c", b"s"],
    b"l": [b"l", b"l", b"none"],
    b"m": [*MEMBERS, *MEMBERS[:40] * 4],
    b"f": [b"0", b"1", b"-1", b"2", b"2", b"3.25", b"7", b"100", b"-5e2", b"inf", b"-inf", b"0x1p1", b"x"],
    b"w": [b"1", b"0.5", b"2"],
    b"o": [b"NX", b"XX", b"GT", b"lt", b"ch", b"INCR"],
    b"n": [b"0", b"1", b"-1", b"3", b"-4", b"10", b"-20", b"150", b"x"],
    b"b": [b"-inf", b"+inf", b"(1", b"1", b"(2", b"2", b"0", b"(-1", b"7", b"(100", b"x"],
    b"x": [b"-", b"+", b"[m1", b"(m1", b"[m15", b"(m5", b"[", b"x"],
    b"r": [b"REV", b"WITHSCORES", b"withscores", b"rev", b"BYLEX"],
    b"c": [b"0", b"1", b"2", b"5", b"x"],
    b"e": [b"MIN", b"max", b"x"],
    b"g": [b"SUM", b"min", b"MAX", b"x"],
    b"u": [b"1", b"2", b"3", b"2", b"x"],
}


@pytest.mark.parametrize("seed", range(10))
def test_chance_finds_no_difference(theirs: Theirs, seed: int) -> None:
    rng = random.Random(seed)
    ours = Ours()
    for _ in range(500):
        shape = rng.choice(SHAPES)
        request = [shape[0], *(rng.choice(CHOICES.get(word, [word])) for word in shape[1:])]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert numeric(mine, other), f"{request}: {mine!r}, Redis says {other!r}"


# -- beside a dict that is sorted


@pytest.mark.parametrize("seed", range(6))
def test_a_sorted_set_is_a_dict_that_is_sorted(seed: int) -> None:
    """Over many chunks, wherever they are split and joined."""
    rng = random.Random(seed)
    model = {b"%d" % number: float(rng.randrange(500)) for number in range(rng.choice((100, 9000)))}
    found: SortedSet = sorted_set_of(dict(model))
    most = rng.choice((500, 10))
    for step in range(400):
        order = sorted((score, member) for member, score in model.items())
        start = rng.randrange(len(order))
        stop = min(len(order), start + rng.choice((1, 3, 50, 3000)))
        score, member = order[start]
        match rng.randrange(8):
            case 0 | 1 | 2:
                pairs = [
                    (b"%d" % rng.randrange(20_000), float(rng.randrange(most)))
                    for _ in range(rng.choice((1, 1, 50, 500)))
                ]
                found = found.with_scores(pairs)
                model.update(pairs)
            case 3:
                members = rng.sample(list(model), min(len(model) - 1, rng.choice((1, 5, 400))))
                found = found.without(members)
                for name in members:
                    del model[name]
            case 4 if step % 40 == 0:  # so many that the others are fewer
                stop = len(order) - 1 - len(order) // 5
                found = found.without_ranks(stop // 9, stop)
                for _, name in order[stop // 9 : stop]:
                    del model[name]
            case 4 if step % 4 == 0 and stop - start < len(order):
                found = found.without_ranks(start, stop)
                for _, name in order[start:stop]:
                    del model[name]
            case _:
                assert found.score(member) == score
                assert found.score(b"none") is None
                assert found.rank(member) == start
                assert list(zip(*found.between(start, stop), strict=True)) == [(m, s) for s, m in order[start:stop]]
                assert found.below(score) == sum(1 for s, _ in order if s < score)
                assert found.upto(score) == sum(1 for s, _ in order if s <= score)
        assert len(found) == len(model)
    assert dict(found.scores()) == model
    assert held(found.copy()) == held(found) == held(rebuilt(found))


@pytest.mark.parametrize("count", [100, 5000])
def test_members_of_one_score_are_in_order(count: int) -> None:
    rng = random.Random(1)
    members = sorted({rng.randbytes(rng.randrange(4)) for _ in range(count)})
    found = sorted_set_of(dict.fromkeys(members, 1.0))
    for member in [*rng.sample(members, 50), *(rng.randbytes(3) for _ in range(50))]:
        assert found.below_member(member) == sum(1 for other in members if other < member)
        assert found.upto_member(member) == sum(1 for other in members if other <= member)


def test_what_is_removed_must_be_there() -> None:
    """A patch of another history must not be half done."""
    for count in (10, 1000):
        found = sorted_set_of({b"%d" % number: 1.0 for number in range(count)})
        before = held(found)
        for body in [
            ("zrem", b"1", b"q"),
            ("zrem", b"1", b"1"),
            ("zcut", 0, count + 1),
            ("zcut", 3, 2),
            ("zset", b"x", b"m"),
        ]:
            with pytest.raises(Exception, match=r"."):
                patched(found, body)
            assert held(found) == before
        with pytest.raises(ValueError, match="number"):
            patched(found, ("zset", b"\x7f\xf8" + bytes(6), b"m"))


@pytest.mark.parametrize("seed", range(4))
def test_scores_that_are_the_same_do_not_hide_the_order_of_members(seed: int) -> None:
    """Places are sorted by scores alone; members of one score must come in their order all the same."""
    rng = random.Random(seed)
    for count in (0, 1, 2, 10, 300, 3000):
        for different in (1, 2, 50, 100_000):
            members = [b"%d" % number for number in range(count)]
            rng.shuffle(members)
            scores = [rng.choice((-0.0, float(rng.randrange(different)))) for _ in members]
            ordered = in_order(members, scores)
            assert [*zip(*ordered, strict=True)] == sorted(
                zip(members, scores, strict=True), key=lambda p: (p[1], p[0])
            )
            assert [*map(str, ordered[1])] == [*map(str, map(dict(zip(members, scores, strict=True)).get, ordered[0]))]


@pytest.mark.parametrize("count", [3, 1000])
def test_what_is_put_must_be_in_order(count: int) -> None:
    """It is believed to be when ranks are looked up."""
    members, scores = in_order([b"%d" % number for number in range(count)], [float(n // 2) for n in range(count)])
    body = ("zput", packed_scores(scores), *members)
    assert held(patched(None, body)) == held(sorted_set_of(dict(zip(members, scores, strict=True))))
    wrong = [
        (scores[:1] + scores[:0:-1], members),
        (scores, [members[1], members[0], *members[2:]]),
        (scores, [*members[:-1], members[0]]),
        (scores, [members[0], *members[:-1]]),
        (scores[1:], members),
        ([*scores[:-1], math.nan], members),
        ([math.nan, *scores[1:]], members),
    ]
    for bad, of in wrong:
        with pytest.raises(Exception, match=r"."):
            patched(None, ("zput", packed_scores(bad), *of))


@pytest.mark.parametrize("count", [10, 100, 3000])
def test_a_part_of_another_is_what_its_ranks_say(count: int) -> None:
    rng = random.Random(count)
    found = sorted_set_of({b"%d" % number: float(rng.randrange(50)) for number in range(count)})
    before = held(found)
    members, scores = found.between(0, count)
    for step in range(40):
        ends = sorted(rng.sample(range(count + 1), 2 * rng.randint(1, min(count // 2, 200))))
        if step % 4 == 0:  # nearly all
            ends = []
            for rank in sorted(rng.sample(range(count), count - count // 10)):
                ends[-1:] = [rank + 1] if ends and ends[-1] == rank else [*ends[-1:], rank, rank + 1]
        made = derived({b"a": found}.get, ("zpart", b"a", *ends))
        assert isinstance(made, SortedSet)
        ranks = [rank for start, stop in zip(ends[::2], ends[1::2], strict=True) for rank in range(start, stop)]
        assert held(made) == held(sorted_set_of({members[rank]: scores[rank] for rank in ranks}))
        assert dict(made.scores()) == {members[rank]: scores[rank] for rank in ranks}
        assert [made.rank(members[rank]) for rank in ranks] == list(range(len(ranks)))
        made.with_scores([(b"new", 1.0), (members[0], 7.0)])
    whole = derived({b"a": found}.get, ("zpart", b"a", 0, count))
    assert held(whole) == before  # type: ignore[arg-type]
    whole.with_scores([(b"new", 1.0)])  # type: ignore[union-attr]
    assert held(found) == before, "they share what is changed"
    for ranks in [(0, 0), (3, 2), (0, count + 1), (-1, 2), (0, 5, 4, 6), (5, 6, 1, 2), (0, 2, 2, 2)]:
        with pytest.raises(ValueError, match="ranks"):
            derived({b"a": found}.get, ("zpart", b"a", *ranks))
    for other in (None, b"string"):
        with pytest.raises(ValueError, match="sorted set"):
            derived({b"a": other}.get, ("zpart", b"a", 0, 1))


def test_parts_are_of_one_moment() -> None:
    """A sorted set that is being sent goes on changing; who is sent it must have it as it was."""
    found = sorted_set_of({b"%d" % number: float(number) for number in range(20_000)})
    before = held(found.copy())
    parts = found.parts()
    sent = [next(parts)]
    found.without_ranks(100, 12_000)
    found.with_scores([(b"new", 5.0), (b"15000", 1.0)])
    sent += parts
    assert len(sent) > 2
    assert max(map(size_of_body, sent)) < 2 * PART_BYTES
    made = None
    for part in sent:
        made = patched(made, part)  # type: ignore[arg-type]
    assert held(made) == before  # type: ignore[arg-type]


def changes_of(ours: Ours, *request: bytes) -> int:
    """Bytes that a request's changes take to travel."""
    row = find(request[0])
    assert row is not None
    assert row.run is not None
    changes, _ = row.run(ours.cells, request, NOW)
    assert changes
    return sum(size_of_body(body) for _, body, _ in changes)


@pytest.mark.parametrize(
    "request_",
    ["ZADD z 5 x", "ZADD z 7 m5", "ZINCRBY z 1 m5", "ZREM z m5", "ZPOPMIN z", "ZPOPMAX z 3", "ZREMRANGEBYRANK z 1 4",
     "ZREMRANGEBYSCORE z 1 4", "ZMPOP 1 z MIN", "ZREMRANGEBYRANK z 1 -1", "ZRANGESTORE d z 0 -1",
     "ZRANGESTORE d z 3 inf BYSCORE"],
)  # fmt: skip
def test_a_change_of_a_large_one_is_as_small_as_one_of_a_small_one(request_: str) -> None:
    """Or every score of a leaderboard would send the leaderboard."""
    small, large = Ours(), Ours()
    for ours, count in ((small, 10), (large, 100_000)):
        pairs = [word for number in range(count) for word in (b"%d" % number, b"m%d" % number)]
        ours.ask(b"ZADD", b"z", *pairs)
    request = request_.encode().split()
    assert changes_of(small, *request) == changes_of(large, *request) < 64


def test_chunks_do_not_become_many_small_ones() -> None:
    """Or finding a rank takes longer and longer."""
    found = sorted_set_of({b"%d" % number: float(number) for number in range(30_000)})
    assert isinstance(found, LargeSortedSet)
    rng = random.Random(1)
    members = list(found.scores())
    rng.shuffle(members)
    for member in members[:29_000]:
        found.without([member])
    assert len(found._members) <= 2000 // (CHUNK_MAX // 8)
    assert len(found._members) == len(found._scores) == len(found._last)


@pytest.mark.parametrize("count", [3, 100, 500, 5000])
def test_every_member_is_drawn_equally_often(count: int) -> None:
    ours = Ours()
    ours.ask(b"ZADD", b"z", *[word for number in range(count) for word in (b"%d" % (number % 7), b"%d" % number)])
    drawn = ours.ask(b"ZRANDMEMBER", b"z", b"%d" % (-40 * count))
    assert isinstance(drawn, list)
    counts = Counter(drawn)
    assert len(drawn) == 40 * count
    assert len(counts) == count
    assert sum((often - 40) ** 2 for often in counts.values()) / 40 < count + 6 * (2 * count) ** 0.5  # chi squared
    for some in (1, count // 4, count - 1, count, count + 5):
        chosen = ours.ask(b"ZRANDMEMBER", b"z", b"%d" % some)
        assert isinstance(chosen, list)
        assert len(set(chosen)) == len(chosen) == min(some, count)
    pairs = ours.ask(b"ZRANDMEMBER", b"z", b"2", b"WITHSCORES")
    assert isinstance(pairs, Pairs)
    assert pairs.items[1] == float(int(pairs.items[0]) % 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [100, 500, 3000])
def test_pages_list_every_member_that_stays(count: int) -> None:
    """Though others come and go meanwhile, and scores change."""
    ours = Ours()
    ours.ask(b"ZADD", b"z", *[word for number in range(count) for word in (b"%d.5" % number, b"m%d" % number)])
    seen: dict[bytes, bytes] = {}
    cursor, step = b"", 0
    while cursor != b"0":
        reply = ours.ask(b"ZSCAN", b"z", cursor or b"0", b"COUNT", b"50")
        assert isinstance(reply, list)
        cursor, page = reply  # type: ignore[assignment]
        seen.update(zip(page[::2], page[1::2], strict=True))  # type: ignore[index,arg-type]
        ours.ask(b"ZADD", b"z", b"%d" % step, b"new%d" % step)
        ours.ask(b"ZREM", b"z", b"new%d" % (step // 2))
        ours.ask(b"ZINCRBY", b"z", b"1", b"m7")
        if step == 2:  # more than stay, none of which counts
            ours.ask(b"ZADD", b"z", *[word for at in range(3 * count) for word in (b"-%d" % (at + 9), b"new-%d" % at)])
            ours.ask(b"ZREMRANGEBYSCORE", b"z", b"-inf", b"-9")
        step += 1
    assert {name: score for name, score in seen.items() if name[:1] == b"m" and name != b"m7"} == {
        b"m%d" % number: b"%d.5" % number for number in range(count) if number != 7
    }
    assert b"m7" in seen
    assert count < 500 or step > 5


def test_small_ones_are_small() -> None:
    """100 members of 10 bytes are 2 kB, and no object but one."""
    found = sorted_set_of({b"%010d" % number: number + 0.5 for number in range(100)})
    assert isinstance(found, SmallSortedSet)
    assert found.size < 2000
    assert isinstance(found.with_scores([(b"%d" % number, 1.0) for number in range(29)]), LargeSortedSet)
    assert isinstance(found.with_scores([(b"x" * 256, 1.0)]), LargeSortedSet)
