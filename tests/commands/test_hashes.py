"""Commands on hashes beside a real redis-server, and what it cannot tell: draws, pages, deadlines of fields.

Deadlines of fields are of Redis 7.4, so their answers are written down here, after its documentation and its source.
"""

from __future__ import annotations

import random
from collections import Counter
from time import perf_counter

import pytest

from peerkv.commands.hashes import DEADLINE_MAX, DUE_MAX
from peerkv.commands.table import find, find_part
from peerkv.resp import CommandError, Map, Pairs, Reply, ReplyError
from peerkv.store.values.hashes import LargeHash, SmallHash
from peerkv.store.values.keyed import SMALL_MAX
from tests.commands.keyspace import NOW, Ours, Theirs, plain, same, same_items

SEQUENCES = [
    (
        "hset h a 1 b 2|hset h a 3 c 4|hget h a|hget h z|hmget h a z c|hlen h|hexists h a|"
        "hexists h z|hstrlen h a|hgetall h"
    ),
    (
        "hset h a 1 a 2 b 3|hlen h|hget h a|hkeys h|hvals h|hdel h a a z|hlen h|hdel h b|exists h|"
        "type h|hdel h b|hgetall h"
    ),
    "hset h a|hset h a 1 b|hset h|hset|hmset h a|hmset h a 1 b|hmset h a 1 b 2|hgetall h|hmset h a 5|hget h a|type h",
    "hsetnx h a 1|hsetnx h a 2|hget h a|hsetnx h b 3|hlen h|hsetnx h|hget h|hdel h|hlen|hstrlen h|hstrlen h z|hkeys",
    "hget none a|hmget none a b|hlen none|hexists none a|hkeys none|hvals none|hgetall none|hdel none a|hstrlen none a",
    "set s 1|hset s a 1|hset s a|hsetnx s a 1|hget s a|hmget s a|hmset s a 1|hdel s a|hlen s|hexists s a|hkeys s|get s",
    "set s 1|hvals s|hgetall s|hstrlen s a|hincrby s a 1|hincrby s a x|hincrbyfloat s a 1|hincrbyfloat s a x|hscan s 0",
    "set s 1|hrandfield s|hrandfield s 2|hrandfield s x|hrandfield s 2 foo|hscan s 0 foo|hscan s x|del s|hset s a 1",
    "hset h a 1|get h|incr h|append h x|strlen h|getrange h 0 1|setrange h 0 x|getset h 5|set h 1 get|set h 1|hget h a",
    "hincrby h a 5|hincrby h a -7|hget h a|hset h b abc|hincrby h b 1|hincrby h b x|hset h c 9223372036854775807",
    (
        "hset h c 9223372036854775807|hincrby h c 1|hincrby h c -1|hincrby h c 9223372036854775808|"
        "hset h d ''|hincrby h d 1"
    ),
    "hset h c -9223372036854775808|hincrby h c -1|hset h e 01|hincrby h e 1|hincrby h e|hincrby h z 0|hget h z",
    (
        "hincrbyfloat h a 0.1|hincrbyfloat h a 0.2|hincrbyfloat h a 5.0e3|hincrbyfloat h a -5000.3|"
        "hget h a|hincrbyfloat h a"
    ),
    "hincrbyfloat h a abc|hincrbyfloat h a inf|hincrbyfloat h a -inf|hincrbyfloat h a nan|hincrbyfloat h a ''|exists h",
    (
        "hset h a abc|hincrbyfloat h a 1|hset h a inf|hincrbyfloat h a 1|hset h a 0x10|"
        "hincrbyfloat h a 1|hincrbyfloat h a 1e2"
    ),
    "hset h a 1e4932|hincrbyfloat h a 1e4932|hincrbyfloat h a 1e5000|hset h a 1e5000|hincrbyfloat h a 1|hset h b ''",
    "hset h b ''|hincrbyfloat h b 1|hget h b|hset h '' x|hget h ''|hgetall h|hdel h ''|hdel h b|exists h",
    "hset h a 1|expireat h 1900000000|hset h b 2|expiretime h|hdel h a|expiretime h|hincrby h b 1|hincrbyfloat h b 1",
    "hset h a 1|expireat h 1900000000|hsetnx h c 3|hmset h d 4|expiretime h|hdel h a c d|hset h a 1|expiretime h",
    (
        "hset h a 1|hrandfield h|hrandfield h 1|hrandfield h -2|hrandfield h 0|hrandfield h x|"
        "hrandfield h 1 foo|hrandfield"
    ),
    (
        "hset h a 1|hrandfield h 5 withvalues|hrandfield h -2 withvalues|"
        "hrandfield h 1 withvalues x|hrandfield h 0 withvalues"
    ),
    "hrandfield none|hrandfield none 2|hrandfield none -2 withvalues|hrandfield none x|hrandfield none 2 foo",
    "hset h a 1|hrandfield h 9223372036854775807 withvalues|hrandfield h -9223372036854775808|hrandfield h",
    "hset h a 1|hrandfield h -4611686018427387905 withvalues|hrandfield h 9223372036854775807|hrandfield h 99999",
    (
        "hset h a 1 b 2|hscan h 0|hscan h x|hscan h 1a|hscan h 0 foo|hscan h 0 count 0|"
        "hscan h 0 count x|hscan h|hscan h ''"
    ),
    (
        "hset h a 1 b 2|hscan h 0 match a|hscan h 0 count 5 match z|hscan h 0 match|"
        "hscan h 0 count|hscan h 0 match a count 1"
    ),
    "hset h a 1|hscan none 0 foo|hscan none x|hscan h 18446744073709551616|hscan h 0 match [|hscan h 0 count -1",
    "hset h a 1|rename h i|hgetall i|copy i j|hset i a 2|hgetall j|hdel j a|hgetall i|exists j|del i|hgetall i",
    f"hset h a {'x' * 5000}|hget h a|hset h b 1|hgetall h|hdel h a|hgetall h|hincrby h b 1|hdel h b|exists h",
]


def words_of(line: str) -> list[bytes]:
    return [b"" if word == "''" else word.encode() for word in line.split(" ")]


def pairs_of(reply: Reply) -> Reply:
    reply = plain(reply)
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list):
        return [reply[0], *pairs_of(reply[1])]  # type: ignore[misc]
    return list(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply  # type: ignore[arg-type]


def alike(name: bytes, mine: Reply, other: Reply) -> bool:
    """Whether that is the same answer, as far as Redis says in which order."""
    if isinstance(mine, ReplyError) or isinstance(other, ReplyError):
        return same(mine, other)
    match name.upper():
        case b"HGETALL":
            return same_items(pairs_of(mine), pairs_of(other))
        case b"HSCAN":
            return same(mine, other) or same_items(pairs_of(mine)[1:], pairs_of(other)[1:])  # type: ignore[index]
        case b"HKEYS" | b"HVALS" | b"HRANDFIELD":
            return same_items(mine, other)
        case _:
            return same(mine, other)


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for line in sequence.split("|"):
        request = words_of(line)
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert alike(request[0], mine, other), f"{line}: {mine!r}, Redis says {other!r}"


KEYS = [b"a", b"b", b"c", b"h"]
FIELDS = [b"%d" % number for number in range(10)] + [b"", b"f" * 70, b"\0\xff"]
VALUES = [b"0", b"1", b"-7", b"abc", b"9223372036854775807", b"3.5", b"", b"x" * 70, b"y" * 5000]
SHAPES = [
    *[b"HSET k f v f v"] * 5,
    *[b"HSET k many"] * 2,
    *[b"HDEL k f f"] * 3,
    b"HSET k f v f",
    b"HMSET k f v",
    b"HSETNX k f v",
    b"HGET k f",
    b"HMGET k f f f",
    b"HLEN k",
    b"HSTRLEN k f",
    b"HEXISTS k f",
    b"HKEYS k",
    b"HVALS k",
    b"HGETALL k",
    b"HINCRBY k f n",
    b"HINCRBY k f n",
    b"HINCRBYFLOAT k f d",
    b"HINCRBYFLOAT k f d",
    b"HRANDFIELD k 9999",
    b"HRANDFIELD k 9999 WITHVALUES",
    b"HRANDFIELD k 0",
    b"HSET string f v",
    b"HINCRBY string f n",
    b"HINCRBYFLOAT string f d",
    b"GET k",
    b"SADD k f",
    b"SET string2 v",
    b"DEL k",
    b"RENAME k k",
    b"COPY k k REPLACE",
    b"EXPIREAT k 1900000000",
    b"PERSIST k",
    b"EXPIRETIME k",
    b"TYPE k",
    b"EXISTS k k",
]


@pytest.mark.parametrize("seed", range(8))
def test_chance_finds_no_difference(theirs: Theirs, seed: int) -> None:
    """Small hashes become large ones and back, keys change their types, and every answer is Redis's."""
    rng = random.Random(seed)
    ours = Ours(seed)
    for side in (ours, theirs):
        side.ask(b"SET", b"string", b"x")
    choices = {
        b"k": KEYS,
        b"f": FIELDS,
        b"v": VALUES,
        b"n": [b"0", b"1", b"-5", b"x", b"9223372036854775807"],
        b"d": [b"1", b"0.5", b"-2.25", b"x", b"inf"],
    }
    for _ in range(600):
        request: list[bytes] = []
        for word in rng.choice(SHAPES).split(b" "):
            if word == b"many":
                first = rng.randrange(300)
                for number in range(first, first + rng.randrange(1, 150)):
                    request += (b"%d" % number, rng.choice(VALUES[:6]))
            else:
                request.append(rng.choice(choices.get(word, [word])))
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert alike(request[0], mine, other), f"{request}: {mine!r}, Redis says {other!r}"


# -- pages and draws


def whole(ours: Ours, key: bytes, count: int = 10, *options: bytes) -> list[bytes]:
    """All that HSCAN lists, page by page."""
    found: list[bytes] = []
    cursor: Reply = b"0"
    while True:
        page = ours.ask(b"HSCAN", key, cursor, b"COUNT", b"%d" % count, *options)  # type: ignore[arg-type]
        assert isinstance(page, list)
        cursor = page[0]
        found += page[1]  # type: ignore[arg-type]
        if cursor == b"0":
            return found


def apply(ours: Ours, *changes: tuple[bytes, tuple[object, ...], int]) -> None:
    for slot in (ours.slot, ours.other):
        slot.apply(slot.position + 1, changes)


def filled(count: int) -> Ours:
    ours = Ours()
    for first in range(0, count, 1000):
        fields = [word % number for number in range(first, min(count, first + 1000)) for word in (b"f%d", b"v%d")]
        apply(ours, (b"h", ("hset", 0, *fields), 0))
    return ours


@pytest.mark.parametrize("size", [1, 7, SMALL_MAX, SMALL_MAX + 1, 1023, 1024, 10_000])
def test_every_field_is_listed_once(size: int) -> None:
    found = whole(filled(size), b"h", 100)
    assert sorted(zip(found[::2], found[1::2], strict=True)) == sorted((b"f%d" % n, b"v%d" % n) for n in range(size))
    assert sorted(whole(filled(size), b"h", 100, b"NOVALUES")) == sorted(b"f%d" % n for n in range(size))
    matching = whole(filled(size), b"h", 100, b"MATCH", b"f1*", b"NOVALUES")
    assert sorted(matching) == sorted(b"f%d" % n for n in range(size) if str(n).startswith("1"))


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize("expired", [0, 5])
@pytest.mark.parametrize("options", [(), (b"3",), (b"-5",), (b"15",)])
def test_all_fields_are_drawn_equally_often(size: int, expired: int, options: tuple[bytes, ...]) -> None:
    """Those that have expired are not drawn, and change no other's chance."""
    rng = random.Random(7)
    ours = filled(size)
    if expired:
        apply(ours, (b"h", ("hexpire", 0, *[item for n in range(expired) for item in (b"f%d" % n, NOW)]), 0))
    row = find(b"HRANDFIELD")
    assert row is not None
    assert row.run is not None
    counts: Counter[bytes] = Counter()
    while counts.total() < 100 * size:
        _, found = row.run(ours.cells, [b"HRANDFIELD", b"h", *options, rng.randbytes(8)], ours.now)
        counts.update(found if isinstance(found, list) else [found])  # type: ignore[list-item]
    live = size - expired
    assert set(counts) == {b"f%d" % n for n in range(expired, size)}
    each = counts.total() / live
    assert sum((count - each) ** 2 / each for count in counts.values()) < live + 4 * (2 * live) ** 0.5


def test_drawn_values_are_those_of_their_fields() -> None:
    for size in (50, 500):
        for count in (b"5", b"-5", b"45", b"9999"):
            found = filled(size).ask(b"HRANDFIELD", b"h", count, b"WITHVALUES")
            assert isinstance(found, Pairs)
            assert found.items[1::2] == [b"v" + field[1:] for field in found.items[::2]]  # type: ignore[index]


def test_draws_without_end_are_refused() -> None:
    ours = Ours()
    ours.ask(b"HSET", b"h", b"f", b"x" * (1 << 20))
    assert isinstance(ours.ask(b"HRANDFIELD", b"h", b"-300", b"WITHVALUES"), ReplyError)
    assert isinstance(ours.ask(b"HRANDFIELD", b"h", b"-2000000"), ReplyError)
    assert len(ours.ask(b"HRANDFIELD", b"h", b"-300")) == 300  # type: ignore[arg-type]


def test_replies_have_the_shapes_of_resp_3() -> None:
    ours = Ours()
    ours.ask(b"HSET", b"h", b"a", b"1")
    assert ours.ask(b"HGETALL", b"h") == Map([b"a", b"1"])
    assert ours.ask(b"HRANDFIELD", b"h", b"1", b"WITHVALUES") == Pairs([b"a", b"1"])
    assert ours.ask(b"HSCAN", b"h", b"0") == [b"0", [b"a", b"1"]]


# -- deadlines of fields

SECOND = 1000
NOT_FIELDS = ReplyError("ERR Mandatory argument FIELDS is missing or not at the right position")
NO_MATCH = ReplyError("ERR The `numfields` parameter must match the number of arguments")
NOT_POSITIVE = ReplyError("ERR Parameter `numFields` should be greater than 0")
NOT_POSITIVE_EITHER = ReplyError("ERR Number of fields must be a positive integer")
NOT_AN_INTEGER = ReplyError("ERR value is not an integer or out of range")
NEGATIVE = ReplyError("ERR invalid expire time, must be >= 0")
WRONG_TYPE = ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")


def too_late(name: str) -> ReplyError:
    return ReplyError(f"ERR invalid expire time in '{name}' command")


def arity(name: str) -> ReplyError:
    return ReplyError(f"ERR wrong number of arguments for '{name}' command")


DEADLINES: list[list[tuple[str | int, object]]] = [
    # lines and their answers; a number lets so many milliseconds pass
    [
        ("hset h a 1 b 2 c 3", 3),
        ("hexpire h 10 fields 2 a z", [1, -2]),
        ("httl h fields 3 a b z", [10, -1, -2]),
        ("hpttl h fields 1 a", [10_000]),
        (1, None),
        ("httl h fields 1 a", [10]),  # seconds that have begun, where TTL rounds
        ("hpttl h fields 1 a", [9_999]),
        ("hpexpiretime h fields 2 a b", [NOW + 10_000, -1]),
        ("hexpiretime h fields 1 a", [NOW // 1000 + 10]),
        (9_998, None),
        ("hget h a", b"1"),
        (1, None),
        ("hget h a", None),
        ("hmget h a b", [None, b"2"]),
        ("hlen h", 2),
        ("hexists h a", 0),
        ("hstrlen h a", 0),
        ("hkeys h", [b"b", b"c"]),
        ("hvals h", [b"2", b"3"]),
        ("hgetall h", [b"b", b"2", b"c", b"3"]),
        ("hscan h 0", [b"0", [b"b", b"2", b"c", b"3"]]),
        ("hscan h 0 novalues", [b"0", [b"b", b"c"]]),
        ("httl h fields 1 a", [-2]),
        ("hpersist h fields 2 a b", [-2, -1]),
        ("hdel h a", 0),
        ("hexpire h 10 fields 1 a", [-2]),
        ("hrandfield h 5", [b"b", b"c"]),
        ("hsetnx h a 4", 1),
        ("hget h a", b"4"),
        ("httl h fields 1 a", [-1]),
    ],
    [  # conditions
        ("hset h a 1", 1),
        ("hexpire h 10 xx fields 1 a", [0]),
        ("hexpire h 10 gt fields 1 a", [0]),
        ("hexpire h 10 NX FIELDS 1 a", [1]),
        ("hexpire h 20 nx fields 1 a", [0]),
        ("hexpire h 10 gt fields 1 a", [0]),
        ("hexpire h 9 gt fields 1 a", [0]),
        ("hexpire h 11 gt fields 1 a", [1]),
        ("hexpire h 11 lt fields 1 a", [0]),
        ("hexpire h 12 lt fields 1 a", [0]),
        ("hexpire h 5 lt fields 1 a", [1]),
        ("hexpire h 50 xx fields 1 a", [1]),
        ("httl h fields 1 a", [50]),
        ("hpersist h fields 1 a", [1]),
        ("hpersist h fields 1 a", [-1]),
        ("hexpire h 10 lt fields 1 a", [1]),  # a field without a deadline lives longer than any
        ("hexpire h 30 nx fields 2 a a", [0, 0]),
        ("hpersist h fields 2 a a", [1, -1]),
        ("hexpire h 30 nx fields 2 a a", [1, 0]),
    ],
    [  # at once, and in the past
        ("hset h a 1 b 2", 2),
        ("hexpire h 0 fields 1 a", [2]),
        ("hgetall h", [b"b", b"2"]),
        ("hset h a 1", 1),
        ("hpexpireat h 1 fields 2 a a", [2, -2]),
        ("hexpireat h 0 gt fields 1 b", [0]),
        ("hexpireat h 0 xx fields 1 b", [0]),
        ("hexpireat h 1 lt fields 1 b", [2]),
        ("exists h", 0),
        ("type h", b"none"),
    ],
    [  # dates
        ("hset h a 1 b 2", 2),
        ("hexpireat h 1800000000 fields 1 a", [1]),
        ("hexpiretime h fields 2 a b", [1_800_000_000, -1]),
        ("hpexpireat h 1800000000001 fields 1 b", [1]),
        ("hexpiretime h fields 1 b", [1_800_000_001]),
        ("hpexpiretime h fields 3 b a z", [1_800_000_000_001, 1_800_000_000_000, -2]),
        ("httl h fields 1 a", [100_000_000]),
    ],
    [  # what writes do to a deadline
        ("hset h a 1 b 2 c 3 d 4.5 e 5", 5),
        ("hexpire h 10 fields 5 a b c d e", [1, 1, 1, 1, 1]),
        ("hset h a 1", 0),
        ("hincrby h b 1", 3),
        ("hincrbyfloat h d 1", b"5.5"),
        ("hsetnx h e 1", 0),
        ("hmset h c 1", b"OK"),
        ("httl h fields 5 a b c d e", [-1, 10, -1, 10, 10]),
        ("rename h i", b"OK"),
        ("httl i fields 2 a b", [-1, 10]),
        ("copy i j", 1),
        ("hdel i b", 1),
        ("httl j fields 2 a b", [-1, 10]),
        ("hset i b 1", 1),
        ("httl i fields 1 b", [-1]),
        (10_000, None),
        ("hkeys j", [b"a", b"c"]),
        ("hincrby j b 1", 1),  # the old value is gone, and so is its deadline
        ("httl j fields 1 b", [-1]),
        ("hincrbyfloat j d 1", b"1"),
    ],
    [  # a hash whose fields have all expired is none
        ("hset h a 1 b 2", 2),
        ("pexpireat h 1900000000000", 1),
        ("hpexpire h 5 fields 2 a b", [1, 1]),
        (5, None),
        ("hget h a", None),
        ("hlen h", 0),
        ("hgetall h", []),
        ("hscan h 0", [b"0", []]),
        ("hrandfield h", None),
        ("hrandfield h 2", []),
        ("hdel h a", 0),
        ("hpersist h fields 1 a", [-2]),
        ("hexpire h 10 fields 1 a", [-2]),
        ("hset h c 3", 1),
        ("hgetall h", [b"c", b"3"]),
        ("pexpiretime h", -1),  # another hash, which has no deadline
    ],
    [("hset h a 1", 1), ("hpexpire h 5 fields 1 a", [1]), (5, None), ("hsetnx h a 2", 1), ("hget h a", b"2")],
    [("hset h a 1", 1), ("hpexpire h 5 fields 1 a", [1]), (5, None), ("hincrby h a 2", 2), ("hlen h", 1)],
    [("hset h a 1", 1), ("hpexpire h 5 fields 1 a", [1]), (5, None), ("del h", 1), ("exists h", 0)],
    [("hset h a 1 b 2", 2), ("hpexpire h 5 fields 1 a", [1]), (5, None), ("hdel h b", 1), ("exists h", 0)],
    [
        ("hset h a 1 b 2", 2),
        ("hpexpire h 5 fields 1 a", [1]),
        (5, None),
        ("hexpire h 0 fields 1 b", [2]),
        ("exists h", 0),
    ],
    [("hset h a 1", 1), ("hpexpire h 5 fields 1 a", [1]), (5, None), ("set h x", b"OK"), ("get h", b"x")],
    [  # a key that is none, or something else
        ("hexpire none 10 fields 2 a b", [-2, -2]),
        ("httl none fields 2 a b", [-2, -2]),
        ("hpersist none fields 1 a", [-2]),
        ("hexpiretime none fields 1 a", [-2]),
        ("set s 1", b"OK"),
        ("hexpire s x y z", arity("hexpire")),
        ("hexpire s x y z 1", WRONG_TYPE),
        ("httl s x y z", WRONG_TYPE),
        ("hpersist s x y z", WRONG_TYPE),
        ("hpexpiretime s x y z", WRONG_TYPE),
    ],
    [  # wrong arguments
        ("hset h a 1", 1),
        ("hexpire h 10 fields 1", arity("hexpire")),
        ("httl h fields 1", arity("httl")),
        ("hpersist h fields 1", arity("hpersist")),
        ("hexpire h x fields 1 a", NOT_AN_INTEGER),
        ("hexpire h -1 fields 1 a", NEGATIVE),
        ("hpexpireat h -1 fields 1 a", NEGATIVE),
        ("hexpire h 9223372036854775807 fields 1 a", too_late("hexpire")),
        (f"hpexpire h {DEADLINE_MAX - NOW + 1} fields 1 a", too_late("hpexpire")),
        (f"hpexpireat h {DEADLINE_MAX + 1} fields 1 a", too_late("hpexpireat")),
        (f"hexpireat h {DEADLINE_MAX // 1000 + 1} fields 1 a", too_late("hexpireat")),
        ("hexpire h 10 foo 1 a", NOT_FIELDS),
        ("hexpire h 10 nx xx fields 1 a", NOT_FIELDS),
        ("hexpire h 10 fields 0 a", NOT_POSITIVE),
        ("hexpire h 10 fields x a", NOT_POSITIVE),
        ("hexpire h 10 fields 2 a", NO_MATCH),
        ("hexpire h 10 fields 1 a b", NO_MATCH),
        ("hexpire h 10 nx fields 1", NO_MATCH),
        ("httl h foo 1 a", NOT_FIELDS),
        ("httl h fields 0 a", NOT_POSITIVE_EITHER),
        ("hpttl h fields x a", NOT_POSITIVE_EITHER),
        ("hexpiretime h fields 2 a", NO_MATCH),
        ("hpersist h fields 1 a b", NO_MATCH),
        ("hpersist h 1 fields a", NOT_FIELDS),
        (f"hpexpireat h {DEADLINE_MAX} fields 1 a", [1]),
    ],
]


@pytest.mark.parametrize("sequence", DEADLINES, ids=lambda sequence: str(sequence[1][0]))
def test_deadlines_of_fields(sequence: list[tuple[str | int, object]]) -> None:
    ours = Ours()
    for line, answer in sequence:
        if isinstance(line, int):
            ours.now += line
        else:
            reply = plain(ours.ask(*words_of(line)))
            assert reply == answer, line


def test_what_has_expired_leaves_the_memory_with_the_next_write() -> None:
    ours = filled(500)
    ours.ask(b"HPEXPIRE", b"h", b"5", b"FIELDS", b"100", *[b"f%d" % number for number in range(100)])
    ours.now += 5
    value = ours.cells[b"h"][1]
    assert isinstance(value, LargeHash)
    assert len(value) == 500
    ours.ask(b"HSET", b"h", b"f200", b"x")
    assert len(value) == 400
    assert not value.deadlines


def test_a_command_removes_only_so_many_expired_fields() -> None:
    """100,000 that expire at once are not 100 ms of whoever writes next; nobody sees those that are left."""
    count = 3 * DUE_MAX + 5
    ours = filled(count)
    apply(ours, (b"h", ("hexpire", 0, *[item for n in range(count - 1) for item in (b"f%d" % n, NOW + 5)]), 0))
    ours.now += 5
    value = ours.cells[b"h"][1]
    assert isinstance(value, LargeHash)
    assert ours.ask(b"HSET", b"h", b"f0", b"new", b"f3", b"new") == 2
    assert len(value) > DUE_MAX
    assert sorted(ours.ask(b"HKEYS", b"h")) == sorted([b"f0", b"f3", b"f%d" % (count - 1)])  # type: ignore[arg-type, type-var]
    assert ours.ask(b"HLEN", b"h") == 3
    for _ in range(3):
        ours.ask(b"HINCRBY", b"h", b"n", b"1")
    assert len(value) == 4
    assert ours.ask(b"HGET", b"h", b"f0") == b"new"


def test_a_hash_that_is_gone_is_made_anew_however_many_fields_it_had() -> None:
    count = 2 * DUE_MAX
    ours = filled(count)
    apply(ours, (b"h", ("hexpire", 0, *[item for n in range(count) for item in (b"f%d" % n, NOW + 5)]), NOW + SECOND))
    ours.now += 5
    assert ours.ask(b"HSET", b"h", b"f5", b"x") == 1
    assert ours.ask(b"HGETALL", b"h") == Map([b"f5", b"x"])
    assert ours.ask(b"PTTL", b"h") == -1
    assert isinstance(ours.cells[b"h"][1], SmallHash)


@pytest.mark.parametrize("seed", range(5))
def test_chance_finds_no_difference_from_a_dict(seed: int) -> None:
    """A model of a few lines knows which fields live; the keyspace compares two owners, and what is made of parts."""
    rng = random.Random(seed)
    ours = Ours(seed)
    model: dict[bytes, tuple[bytes, int]] = {}
    for _ in range(1500):
        model = {field: pair for field, pair in model.items() if not 0 < pair[1] <= ours.now}
        field, other = (b"%d" % rng.randrange(rng.choice([5, 200])) for _ in range(2))
        match rng.randrange(9):
            case 0 | 1:
                value = b"%d" % rng.randrange(100)
                assert ours.ask(b"HSET", b"h", field, value) == int(field not in model)
                model[field] = (value, 0)
            case 2:
                value, deadline = model.get(field, (b"0", 0))
                assert ours.ask(b"HINCRBY", b"h", field, b"1") == int(value) + 1
                model[field] = (b"%d" % (int(value) + 1), deadline)
            case 3:
                pair = {field, other}
                assert ours.ask(b"HDEL", b"h", field, other) == len(pair & set(model))
                model = {name: held for name, held in model.items() if name not in pair}
            case 4 | 5:
                wait = rng.randrange(0, 100)
                replies = []
                for name in (field, other):
                    replies.append(-2 if name not in model else 1 if wait else 2)
                    if name in model and wait:
                        model[name] = (model[name][0], ours.now + wait)
                    elif name in model:
                        del model[name]
                assert ours.ask(b"HPEXPIRE", b"h", b"%d" % wait, b"FIELDS", b"2", field, other) == replies
            case 6:
                answer = -2 if field not in model else 1 if model[field][1] else -1
                assert ours.ask(b"HPERSIST", b"h", b"FIELDS", b"1", field) == [answer]
                if field in model:
                    model[field] = (model[field][0], 0)
            case 7:
                answer = -2 if field not in model else model[field][1] - ours.now if model[field][1] else -1
                assert ours.ask(b"HPTTL", b"h", b"FIELDS", b"1", field) == [answer]
            case 8:
                ours.now += rng.randrange(20)
                model = {name: held for name, held in model.items() if not 0 < held[1] <= ours.now}
        assert ours.ask(b"HLEN", b"h") == len(model)
        assert ours.ask(b"HGET", b"h", field) == model.get(field, (None,))[0]
        assert sorted(ours.ask(b"HKEYS", b"h")) == sorted(model)  # type: ignore[arg-type, type-var]


def test_dates_of_fields_are_by_the_wall() -> None:
    """Cluster time is behind the wall by 1234 ms: what a client says and reads is by the wall."""
    ours, skew = Ours(), 1234
    ours.ask(b"HSET", b"h", b"a", b"1", b"b", b"2")

    def ask(*request: bytes) -> Reply:
        row = find(request[0])
        assert row is not None
        assert row.dated is not None
        dated = row.dated(request, skew)
        row = find_part(dated[0])
        assert row is not None
        assert row.run is not None
        changes, reply = row.run(ours.cells, dated, ours.now)
        for slot in (ours.slot, ours.other):
            slot.apply(slot.position + 1, changes)
        return reply

    assert ask(b"hexpireat", b"h", b"1800000000", b"fields", b"1", b"a") == [1]
    assert ask(b"HPEXPIREAT", b"h", b"1800000000500", b"nx", b"FIELDS", b"1", b"b") == [1]
    assert ours.ask(b"HPEXPIRETIME", b"h", b"FIELDS", b"2", b"a", b"b") == [1_799_999_998_766, 1_799_999_999_266]
    assert ask(b"hpexpiretime", b"h", b"fields", b"3", b"a", b"b", b"z") == [1_800_000_000_000, 1_800_000_000_500, -2]
    assert ask(b"HEXPIRETIME", b"h", b"FIELDS", b"2", b"a", b"b") == [1_800_000_000, 1_800_000_001]
    with pytest.raises(CommandError, match="invalid expire time in 'hexpireat'"):
        ask(b"HEXPIREAT", b"h", b"%d" % (DEADLINE_MAX // 1000 + 5000), b"FIELDS", b"1", b"a")
    with pytest.raises(CommandError, match="not an integer"):
        ask(b"HEXPIREAT", b"h", b"x", b"FIELDS", b"1", b"a")
    assert find(b"PEERKV.HEXPIRETIME") is None


# -- large hashes


def test_a_change_of_a_large_hash_ships_what_it_changes() -> None:
    ours = filled(10_000)
    for line, length in (
        (b"HSET h f5 x", 4),
        (b"HDEL h f6", 3),
        (b"HINCRBY h n 1", 4),
        (b"HSETNX h new x", 4),
        (b"HEXPIRE h 10 FIELDS 1 f7", 4),
    ):
        request = line.split(b" ")
        row = find(request[0])
        assert row is not None
        assert row.run is not None
        ((_, body, _),), _ = row.run(ours.cells, request, ours.now)  # type: ignore[misc]
        assert len(body) == length  # type: ignore[arg-type]


SMALL_COMMANDS = [
    b"HSET h n%d x",
    b"HSET h f%d x",
    b"HGET h f%d",
    b"HMGET h f%d f1 f2",
    b"HDEL h f%d",
    b"HINCRBY h count 1",
    b"HLEN h",
    b"HRANDFIELD h",
    b"HRANDFIELD h 10 WITHVALUES",
    b"HRANDFIELD h -10",
    b"HSCAN h 0",
    b"HEXPIRE h 100 FIELDS 1 f5%d",
    b"HTTL h FIELDS 1 f5%d",
    b"HPERSIST h FIELDS 1 f5%d",
]


@pytest.mark.alone
@pytest.mark.parametrize("deadlines", [False, True])
def test_no_command_of_bounded_reply_takes_a_turn_of_a_hash_of_100_000(deadlines: bool) -> None:
    """Half of the fields have expired, in the second case, and many are left by each that writes."""
    ours = filled(100_000)
    if deadlines:
        for first in range(0, 100_000, 1000):
            numbers = range(first, first + 1000)
            expiring = [item for n in numbers for item in (b"f%d" % n, NOW + 5 + n % 2 * 10_000_000)]
            apply(ours, (b"h", ("hexpire", 0, *expiring), 0))
        ours.now += 5
    for line in SMALL_COMMANDS:
        row = find(line.split(b" ")[0])
        assert row is not None
        assert row.run is not None
        took = []
        for number in range(20):
            request = [word % number if b"%" in word else word for word in line.split(b" ")]
            if row.chance:
                request.append(b"%08d" % number)
            begun = perf_counter()
            changes, _ = row.run(ours.cells, request, ours.now)
            ours.slot.apply(ours.slot.position + 1, changes)
            took.append(perf_counter() - begun)
        assert sorted(took)[10] < 0.020, line
