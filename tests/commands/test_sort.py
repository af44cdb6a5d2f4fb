"""SORT beside a real redis-server."""

from __future__ import annotations

import random

import pytest

from peerkv.commands.table import COMMANDS, keys_of
from tests.commands.keyspace import Ours, Theirs, same

SEQUENCES = [
    (
        "rpush l 3 1 2|sort l|sort l desc|sort l limit 0 2|sort l limit 1 -1|sort l limit -5 1|"
        "sort l limit 5 1|sort l limit 0 0"
    ),
    "rpush l 10 9 1e1 0x10 -1 ' 5' .5 5.|sort l|sort l alpha|sort l alpha desc limit 1 3|sort l alpha limit 2 1",
    "rpush l 1 abc|sort l|sort l alpha|sort l by nosort|sort l by nosort desc limit 0 1|sort l by nosort limit 1 5",
    "rpush l 1 ''|sort l|rpush l inf -inf|sort l|rpush l nan|sort l|sort l limit 0 0|sort l store d|exists d",
    "rpush l 1e400|sort l|del l|rpush l 1e-400|sort l|del l|rpush l 5e-324 0|sort l|del l|rpush l 1_0|sort l|del l",
    (
        "rpush l 0x1p3 0x.8 INFINITY +7 -0 0|sort l|rpush l 0x|sort l|lpush m 1x|sort m|lpush n 1e|sort n|"
        "rpush o '1 '|sort o"
    ),
    (
        "sort none|sort none store d|set s 1|sort s|sort_ro s|sort s store d|sort none store s|exists s|"
        "sort none alpha get #"
    ),
    (
        "rpush l 1 2|sort l foo|sort l limit 1|sort l limit x 1|sort l limit 1 x|sort l get|sort l by|"
        "sort l store|sort_ro l store d"
    ),
    "rpush l 2 1|sort l store d|lrange d 0 -1|sort l limit 5 5 store d|exists d|sort l store l|lrange l 0 -1|type l",
    "rpush l 2 1|set d old ex 100|sort l get # get nothing get # store d|lrange d 0 -1|ttl d|sort l get nothing",
    "sadd s 3 1 2|sort s|sort s desc|sort s alpha|sort s by nosort store d|lrange d 0 -1|sort s limit 1 1",
    "zadd z 3 a 2 b 1 c|sort z by nosort|sort z by nosort desc|sort z by nosort limit 1 1|sort z alpha|sort z",
    "zadd z 3 a 2 b 1 c|sort z by nosort desc limit 1 5|sort z by nosort desc limit 0 2 store d|lrange d 0 -1",
    "rpush {t}l 1 2 3|mset {t}w1 30 {t}w2 20 {t}w3 10|sort {t}l by {t}w*|sort {t}l by {t}w* desc get # get {t}w*",
    "rpush {t}l 1 2 3|mset {t}w1 x {t}w3 y|sort {t}l by {t}w*|sort {t}l by {t}w* alpha|sort {t}l by {t}w* alpha desc",
    (
        "rpush {t}l 1 2 3|hset {t}h1 f 9 g x|hset {t}h3 f -9|sort {t}l by {t}h*->f|"
        "sort {t}l by {t}h*->f get {t}h*->g get #"
    ),
    (
        "rpush {t}l 1 2|set {t}w1 5|hset {t}w2 f 1|sort {t}l get {t}w*|sort {t}l get {t}w*->f|"
        "sort {t}l get {t}w*->|sort {t}l by {t}w*->f"
    ),
    (
        "rpush {t}l 1 2|set {t}w1-> 5|sort {t}l get {t}w*->|sort_ro {t}l get {t}w*-> desc|"
        "sort {t}l by {t}w* by nosort desc"
    ),
    (
        "rpush {t}l 2 1|sort {t}l by nosort by {t}w*|sort {t}l asc desc asc|sort {t}l store {t}d store {t}e|"
        "exists {t}d {t}e"
    ),
]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for line in sequence.split("|"):
        request = [part if index % 2 else part.split() for index, part in enumerate(line.encode().split(b"'"))]
        words = [word for part in request for word in (part if isinstance(part, list) else [part])]
        mine, other = ours.ask(*words), theirs.ask(*words)
        if words[0] == b"ttl":
            continue
        assert same(mine, other), f"{line}: {mine!r}, Redis says {other!r}"


WORDS = {
    b"k": [b"{t}a", b"{t}b", b"{t}c", b"{t}s", b"{t}z"],
    b"d": [b"{t}a", b"{t}d"],
    b"e": [b"1", b"2", b"3", b"10", b"-4", b"2.5", b"7e1", b"x", b"abc", b"", b"9007199254740993"],
    b"n": [b"1", b"2", b"3", b"10", b"-4", b"2.5", b"70"],
    b"i": [b"0", b"1", b"2", b"-1", b"5", b"x"],
    b"p": [b"{t}w*", b"nosort", b"{t}h*->f", b"#"],
    b"o": [b"ASC", b"desc", b"ALPHA", b"alpha"],
}
SHAPES = [
    b"RPUSH {t}a n n n",
    b"RPUSH {t}b e e",
    b"SADD {t}s n e",
    b"ZADD {t}z n n n n",
    b"SET {t}w1 n",
    b"SET {t}w2 e",
    b"HSET {t}h1 f n",
    b"HSET {t}h3 f e",
    b"DEL k",
    b"SORT k",
    b"SORT k o o",
    b"SORT k LIMIT i i o",
    b"SORT k BY p o GET # GET p",
    b"SORT k BY p LIMIT i i",
    b"SORT k ALPHA BY p LIMIT i i o",
    b"SORT k STORE d o",
    b"SORT k BY p GET p STORE d ALPHA",
    b"SORT_RO k BY p GET # o",
    b"LRANGE d 0 -1",
]


def in_no_order(request: list[bytes]) -> bool:
    """Whether what Redis answers depends on its hash tables."""
    by = request[request.index(b"BY") + 1] if b"BY" in request else b""
    is_set, is_zset = request[1] == b"{t}s", request[1] == b"{t}z"
    ties = b"*" in by and bool({b"ALPHA", b"alpha"} & {*request})
    return (is_set and by != b"" and b"*" not in by) or (ties and (is_set or is_zset or b"LIMIT" in request))


@pytest.mark.parametrize("seed", range(8))
def test_chance_finds_no_difference(theirs: Theirs, seed: int) -> None:
    rng = random.Random(seed)
    ours = Ours()
    for _ in range(600):
        request = [rng.choice(WORDS.get(word, [word])) for word in rng.choice(SHAPES).split()]
        if in_no_order(request):
            continue
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{request}: {mine!r}, Redis says {other!r}"


@pytest.mark.parametrize("desc", [[], [b"DESC"]])
def test_few_of_many_are_the_first_of_all(desc: list[bytes]) -> None:
    """They are found without sorting the others."""
    rng = random.Random(6)
    ours = Ours()
    items = [b"%d" % rng.randrange(300) for _ in range(1000)]
    ours.ask(b"RPUSH", b"l", *items)
    for options in ([], [b"ALPHA"]):
        whole = ours.ask(b"SORT", b"l", *options, *desc)
        assert isinstance(whole, list)
        assert ours.ask(b"SORT", b"l", b"LIMIT", b"3", b"50", *options, *desc) == whole[3:53]


@pytest.mark.parametrize("pattern", [b"w*", b"{u}w*", b"w*{t}", b"{*}t", b"{}w*", b"{t*}", b"{t*"])
def test_patterns_mean_keys_of_any_slot(pattern: bytes) -> None:
    ours = Ours()
    ours.ask(b"RPUSH", b"{t}l", b"1", b"2")
    ours.ask(b"SET", pattern.replace(b"*", b"1"), b"9")
    ours.ask(b"SET", pattern.replace(b"*", b"2"), b"5")
    assert ours.ask(b"SORT", b"{t}l", b"BY", pattern, b"GET", b"#", b"GET", pattern) == [b"2", b"5", b"1", b"9"]


def test_keys_are_what_is_sorted_and_where_it_is_kept() -> None:
    row = COMMANDS["sort"]
    for line, keys in (
        (b"SORT a", [b"a"]),
        (b"SORT a STORE b", [b"a", b"b"]),
        (b"sort a BY store GET STORE LIMIT STORE STORE store d STORE e DESC", [b"a", b"e"]),
        (b"SORT a STORE", [b"a"]),
    ):
        assert list(keys_of(row, line.split())) == keys
    assert list(keys_of(COMMANDS["sort_ro"], b"SORT_RO a STORE b".split())) == [b"a"]
