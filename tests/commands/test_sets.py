"""Commands on sets beside a real redis-server, and what it cannot tell: draws, pages, large sets."""

from __future__ import annotations

import random
from collections import Counter
from time import perf_counter

import pytest

from peerkv.commands.elements import DRAWS_MAX, numbers_from
from peerkv.commands.table import find, keys_of
from peerkv.resp import Reply, ReplyError, Set
from peerkv.store.values import derived
from peerkv.store.values.keyed import SMALL_MAX
from tests.commands.keyspace import Ours, Theirs, same, same_items

SEQUENCES = [
    "sadd s a b a|sadd s b c|scard s|sismember s a|sismember s z|smismember s a z b|smembers s|srem s a z a|smembers s",
    "sadd s a|srem s a|exists s|type s|scard s|smembers s|sismember s a|smismember s a|srem s a|sadd s|srem s|smembers",
    "set s 1|sadd s a|srem s a|scard s|sismember s a|smismember s a|smembers s|smove s t a|smove t s a|sscan s 0|get s",
    "sadd s a|smove t s a|set t 1|smove s t a|smove s t z|del t|smove s t z|smove s s a|smove s s z|smove s t a",
    "sadd s a b|sadd t a|smove s t a|smembers s|smembers t|smove s t b|exists s|smembers t|smove s t|type t",
    "sadd s a b|expireat s 1900000000|sadd s c|expiretime s|srem s a|expiretime s|srem s b c|sadd s a|expiretime s",
    "sadd a 1 2|sadd b 2 3|expireat b 1900000000|smove a b 1|expiretime b|sunionstore b a b|expiretime b|smembers b",
    "sadd a 1 2 3|sadd b 2 3 4|sadd c 3 4 5|sinter a b c|sunion a b c|sdiff a b|sdiff a b c|sdiff c a|sinter a",
    "sadd a 1 2 3|sinter a none|sinter none|sunion a none|sunion none|sdiff a none|sdiff none a|sinter a a|sdiff a a",
    "sadd a 1|set s x|sinter a s|sinter none s|sinter s none|sunion a s|sdiff none s|sdiff a s|sdiffstore d none s",
    "sadd a 1 2 3|sadd b 2 3|sinterstore d a b|smembers d|sunionstore d a b|smembers d|sdiffstore d a b|smembers d",
    "sadd a 1 2 3|sadd b 9|sinterstore a a a|smembers a|sinterstore a a b|exists a|set s x|sdiffstore s a b|exists s",
    "set s x|sadd a 1|sunionstore s a|type s|sunionstore s none|exists s|sinterstore s none|sinterstore s|sinter",
    "sadd a 1 2 3|sadd b 2 3|sintercard 2 a b|sintercard 2 a b limit 1|sintercard 2 a b limit 0|sintercard 1 a limit",
    "sadd a 1|sintercard 0 a|sintercard x a|sintercard -1 a|sintercard 2 a|sintercard 1 a limit x|sintercard 1 a a",
    "sadd a 1|sintercard 1 a limit -1|sintercard 1 a foo 1|sintercard 1 a limit 1 limit 2|sintercard 2 a none",
    "set s x|sadd a 1|sintercard 2 a s|sintercard 2 none s|sintercard 1 s limit -1|sintercard 1|sintercard 0",
    "sadd s a|spop s 1 2|spop s -1|spop s x|spop s 0|spop none|spop none 1|spop none -1|spop|spop s|exists s|spop s",
    "sadd s a b c|spop s 5|exists s|set s x|spop s|spop s 0|spop s -1|spop s 1|sadd t a|spop t 1|type t",
    "sadd s a|srandmember s|srandmember s 1|srandmember s -2|srandmember s 0|srandmember s x|srandmember s 1 2",
    "srandmember none|srandmember none 2|srandmember none -2|srandmember none x|set s 1|srandmember s|srandmember s 1",
    "set s 1|srandmember s 1 2|srandmember s x|srandmember none -9223372036854775808|sadd t a|srandmember t",
    "sadd s a b c|srandmember s 3|srandmember s 100|srandmember s 9223372036854775807|scard s",
    "sadd s 1 2 3|sscan s 0|sscan s x|sscan s 1a|sscan s -|sscan s 0 foo|sscan s 0 count 0|sscan s 0 count x|sscan s",
    "sadd s 1 2 3|sscan s ''|sscan s 0 count|sscan s 0 match|sscan s 0 match 2|sscan s 0 count 5 match 9",
    "sadd s 1 2|sscan none 0 foo|sscan none x|sscan s 0 novalues|sscan s 18446744073709551616|set t 1|sscan t 0 foo",
    "sadd s a b c|rename s t|smembers t|copy t u|srem t a|smembers u|sadd u z|smembers t|del t|smembers t|smembers u",
]


def words_of(line: str) -> list[bytes]:
    return [b"" if word == "''" else word.encode() for word in line.split(" ")]


def listed(reply: Reply) -> Reply:
    """A page as what it lists, in order; another reply as it is."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list):
        return [reply[0], *sorted(reply[1])]  # type: ignore[type-var]
    return reply


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for line in sequence.split("|"):
        request = words_of(line)
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same_items(listed(mine), listed(other)), f"{line}: {mine!r}, Redis says {other!r}"


KEYS = [b"a", b"b", b"c", b"s"]
MEMBERS = [b"%d" % number for number in range(12)] + [b"", b"x" * 70, b"y" * 5000, b"\0\xff"]
SHAPES = [
    *[b"SADD k m m m"] * 5,
    *[b"SADD k many"] * 2,
    *[b"SREM k m m"] * 3,
    b"SREM k many",
    b"SCARD k",
    b"SISMEMBER k m",
    b"SMISMEMBER k m m",
    b"SMEMBERS k",
    b"SMOVE k k m",
    b"SMOVE k k m",
    b"SINTER k k",
    b"SINTER k k k",
    b"SINTERCARD 2 k k",
    b"SINTERCARD n k k",
    b"SINTERCARD 2 k k LIMIT n",
    b"SINTERSTORE k k k",
    b"SUNION k k",
    b"SUNIONSTORE k k k",
    b"SDIFF k k",
    b"SDIFFSTORE k k k",
    b"SPOP k 0",
    b"SPOP k 9999",
    b"SRANDMEMBER k 9999",
    b"SRANDMEMBER k 0",
    b"SSCAN k n",
    b"SSCAN k 0 MATCH 1* COUNT 9999",
    b"SADD k",
    b"SADD string m",
    b"SMOVE k string m",
    b"SUNION k string",
    b"SINTER string k",
    b"SDIFFSTORE k string k",
    b"SUNIONSTORE string2 k",
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
    """Small sets become large ones and back, keys change their types, and every answer is Redis's."""
    rng = random.Random(seed)
    ours = Ours(seed)
    for side in (ours, theirs):
        side.ask(b"SET", b"string", b"x")
    for _ in range(600):
        request: list[bytes] = []
        for word in rng.choice(SHAPES).split(b" "):
            if word == b"k":
                request.append(rng.choice(KEYS))
            elif word == b"m":
                request.append(rng.choice(MEMBERS))
            elif word == b"n":
                request.append(rng.choice([b"0", b"1", b"2", b"3", b"-1", b"x"]))
            elif word == b"many":
                first = rng.randrange(300)
                request += [b"%d" % number for number in range(first, first + rng.randrange(1, 200))]
            else:
                request.append(word)
        mine, other = ours.ask(*request), theirs.ask(*request)
        if request[0] == b"SSCAN" and not isinstance(mine, ReplyError) and not isinstance(other, ReplyError):
            if len(request) > 3:
                listing = [bytes(member) for member in whole(ours, request[1], b"1*")]  # Redis's may be of many pages
                there = {m for m in theirs.ask(b"SMEMBERS", request[1]) if m.startswith(b"1")}  # type: ignore[union-attr]
                assert sorted(listing) == sorted(there)
            continue
        assert same_items(mine, other), f"{request}: {mine!r}, Redis says {other!r}"


def whole(ours: Ours, key: bytes, pattern: bytes = b"*", count: int = 10) -> list[bytes]:
    """All members, page by page."""
    found: list[bytes] = []
    cursor: Reply = b"0"
    while True:
        page = ours.ask(b"SSCAN", key, cursor, b"MATCH", pattern, b"COUNT", b"%d" % count)  # type: ignore[arg-type]
        assert isinstance(page, list)
        cursor = page[0]
        found += page[1]  # type: ignore[arg-type]
        if cursor == b"0":
            return found


def filled(count: int, key: bytes = b"s", prefix: bytes = b"m") -> Ours:
    ours = Ours()
    for first in range(0, count, 1000):
        members = [prefix + b"%d" % number for number in range(first, min(count, first + 1000))]
        ours.slot.apply(ours.slot.position + 1, [(key, ("sadd", *members), 0)])
        ours.other.apply(ours.other.position + 1, [(key, ("sadd", *members), 0)])
    return ours


@pytest.mark.parametrize("size", [1, 7, SMALL_MAX, SMALL_MAX + 1, 1023, 1024, 10_000])
def test_every_member_is_listed_once(size: int) -> None:
    assert sorted(whole(filled(size), b"s", count=100)) == sorted(b"m%d" % number for number in range(size))


def test_a_small_set_is_one_page_like_redis_s() -> None:
    assert filled(SMALL_MAX).ask(b"SSCAN", b"s", b"0", b"COUNT", b"1")[0] == b"0"  # type: ignore[index]


@pytest.mark.parametrize("size", [300, 3000])
def test_a_scan_goes_on_at_another_node_while_members_come_and_go(size: int) -> None:
    """A client's next page is answered by whichever node it is connected to by then."""
    rng = random.Random(size)
    one = filled(size)
    stays = {b"m%d" % number for number in range(0, size, 2)}
    found: list[bytes] = []
    cursor: Reply = b"0"
    while True:
        node = rng.choice([one.slot, one.other])
        row = find(b"SSCAN")
        assert row is not None
        assert row.run is not None
        _, page = row.run(node.cells, [b"SSCAN", b"s", cursor, b"COUNT", b"40"], one.now)  # type: ignore[list-item]
        cursor, members = page  # type: ignore[misc]
        found += members  # type: ignore[arg-type]
        if cursor == b"0":
            break
        goes = b"m%d" % (2 * rng.randrange(size // 2) + 1)
        for request in ([b"SREM", b"s", goes], [b"SADD", b"s", b"new%d" % rng.randrange(50)], [b"SADD", b"s", goes]):
            one.ask(*request)
    assert stays <= set(found)


# -- draws


def chances(rng: random.Random) -> bytes:
    return rng.randbytes(8)


def drawn(ours: Ours, *request: bytes, chance: bytes) -> Reply:
    """A READ with chance that is known."""
    row = find(request[0])
    assert row is not None
    assert row.run is not None
    return row.run(ours.cells, [*request, chance], ours.now)[1]


def chi_square(counts: Counter[bytes], size: int) -> float:
    each = counts.total() / size
    return sum((counts[b"m%d" % number] - each) ** 2 / each for number in range(size))


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize(
    "request_", [(b"SRANDMEMBER", b"s"), (b"SRANDMEMBER", b"s", b"3"), (b"SRANDMEMBER", b"s", b"-5")]
)
def test_all_members_are_drawn_equally_often(size: int, request_: tuple[bytes, ...]) -> None:
    """Redis's own bound: 73 at 18 degrees of freedom or so."""
    rng = random.Random(5)
    ours = filled(size)
    counts: Counter[bytes] = Counter()
    while counts.total() < 100 * size:
        found = drawn(ours, *request_, chance=chances(rng))
        counts.update(found if isinstance(found, list) else [found])  # type: ignore[list-item]
    assert chi_square(counts, size) < size + 4 * (2 * size) ** 0.5


def test_what_was_removed_and_came_back_is_drawn_as_often_as_the_others() -> None:
    """It would be drawn twice as often if it stood twice in the list that is drawn from."""
    rng = random.Random(6)
    ours = filled(200)
    ours.ask(b"SRANDMEMBER", b"s")
    back = [b"m%d" % number for number in range(0, 160, 2)]
    ours.ask(b"SREM", b"s", *back)
    ours.ask(b"SRANDMEMBER", b"s")
    ours.ask(b"SADD", b"s", *back)
    counts: Counter[bytes] = Counter(drawn(ours, b"SRANDMEMBER", b"s", chance=chances(rng)) for _ in range(20_000))  # type: ignore[misc]
    assert chi_square(counts, 200) < 200 + 4 * 20


@pytest.mark.parametrize("size", [50, 500])
@pytest.mark.parametrize("count", [1, 7, 40, 49])
def test_a_sample_has_no_member_twice(size: int, count: int) -> None:
    ours = filled(size)
    found = ours.ask(b"SRANDMEMBER", b"s", b"%d" % count)
    assert isinstance(found, list)
    assert len(set(found)) == len(found) == count  # type: ignore[arg-type]
    assert set(found) <= set(whole(ours, b"s"))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [50, 500])
@pytest.mark.parametrize("count", [b"", b"3", b"40"])
def test_pops_take_every_member_once(size: int, count: bytes) -> None:
    ours = filled(size)
    popped: list[bytes] = []
    while True:
        found = ours.ask(b"SPOP", b"s", *([count] if count else []))
        found = found.items if isinstance(found, Set) else [found] if found is not None else []
        if not found:
            break
        popped += found  # type: ignore[arg-type]
        assert sorted([*popped, *whole(ours, b"s")]) == sorted(b"m%d" % number for number in range(size))
    assert ours.ask(b"EXISTS", b"s") == 0


def test_the_same_chance_draws_the_same_of_the_same_set() -> None:
    """What a command does may be worked out again by another home."""
    for size in (50, 500):
        assert drawn(filled(size), b"SRANDMEMBER", b"s", b"-9", chance=b"12345678") == drawn(
            filled(size), b"SRANDMEMBER", b"s", b"-9", chance=b"12345678"
        )


def test_draws_without_end_are_refused() -> None:
    """Redis answers for hours."""
    reply = filled(5).ask(b"SRANDMEMBER", b"s", b"-%d" % (DRAWS_MAX + 1))
    assert isinstance(reply, ReplyError)
    assert len(filled(5).ask(b"SRANDMEMBER", b"s", b"-1000")) == 1000  # type: ignore[arg-type]


def test_numbers_have_64_bits() -> None:
    numbers = numbers_from(b"\0" * 8)
    seen = 0
    for _ in range(200):
        seen |= next(numbers)
    assert seen == (1 << 64) - 1


# -- large sets


def test_a_change_of_a_large_set_ships_what_it_changes() -> None:
    ours = filled(10_000)
    for request in ([b"SADD", b"s", b"new", b"m1"], [b"SREM", b"s", b"m5", b"none"], [b"SPOP", b"s", b"\0" * 8]):
        row = find(request[0])
        assert row is not None
        assert row.run is not None
        ((_, body, _),), _ = row.run(ours.cells, request, ours.now)  # type: ignore[misc]
        assert len(body) == 2  # type: ignore[arg-type]


SMALL_COMMANDS = [
    b"SADD s n%d",
    b"SREM s m%d",
    b"SISMEMBER s m%d",
    b"SPOP s",
    b"SPOP s 10",
    b"SRANDMEMBER s",
    b"SRANDMEMBER s 10",
    b"SRANDMEMBER s -10",
    b"SSCAN s 0",
    b"SMOVE s t m%d",
    b"SCARD s",
    b"SINTERCARD 2 s s LIMIT 10",
]


@pytest.mark.alone
def test_no_command_of_bounded_reply_takes_a_turn_of_a_set_of_100_000() -> None:
    """20 ms of one client are 20 ms of all others. Medians, as a test's machine has other things to do."""
    ours = filled(100_000)
    for line in SMALL_COMMANDS:
        row = find(line.split(b" ")[0])
        assert row is not None
        assert row.run is not None
        took = []
        for number in range(40):
            request = [word % number if b"%" in word else word for word in line.split(b" ")]
            if row.chance:
                request.append(b"%08d" % number)
            begun = perf_counter()
            changes, _ = row.run(ours.cells, request, ours.now)
            ours.slot.apply(ours.slot.position + 1, changes)
            took.append(perf_counter() - begun)
        assert sorted(took)[20] < 0.020, line


def test_where_the_keys_of_sintercard_are() -> None:
    row = find(b"SINTERCARD")
    assert row is not None
    assert keys_of(row, [b"SINTERCARD", b"2", b"a", b"b", b"LIMIT", b"1"]) == [b"a", b"b"]
    assert keys_of(row, [b"SINTERCARD", b"9", b"a"]) == []
    assert keys_of(row, [b"SINTERCARD", b"x", b"a"]) == []


def test_replies_are_sets_where_the_protocol_has_them() -> None:
    ours = Ours()
    ours.ask(b"SADD", b"s", b"a")
    for request in (b"SMEMBERS s", b"SINTER s", b"SUNION s", b"SDIFF s", b"SPOP s 1"):
        assert ours.ask(*request.split(b" ")) == Set([b"a"])


def test_a_result_that_cannot_be_shipped_is_refused() -> None:
    """It is stored by naming its members, and they must fit into a frame."""
    ours = Ours()
    for number in range(5):
        ours.ask(b"SADD", b"s%d" % number, b"%d" % number * (15 << 20))
    keys = [b"s%d" % number for number in range(5)]
    assert isinstance(ours.ask(b"SUNIONSTORE", b"d", *keys), ReplyError)
    assert ours.ask(b"SUNIONSTORE", b"d", *keys[:4]) == 4
    assert not same(ours.ask(b"EXISTS", b"d"), 0)


def test_a_large_union_is_made_by_every_owner_of_its_own_sets() -> None:
    """It does not travel; whoever applies it later must not look at sets that have changed since."""
    ours = filled(1000)
    ours.ask(b"SADD", b"t", *[b"t%d" % number for number in range(500)], b"m1")
    row = find(b"SUNIONSTORE")
    assert row is not None
    assert row.run is not None
    changes, reply = row.run(ours.cells, [b"SUNIONSTORE", b"d", b"s", b"none", b"t", b"s"], ours.now)
    assert (changes, reply) == (((b"d", ("sunite", b"s", b"t"), 0),), 1500)
    union = ours.ask(b"SUNION", b"s", b"t")
    for target in (b"d", b"t"):
        ours.ask(b"SUNIONSTORE", target, b"s", b"t")
        assert ours.ask(b"SMEMBERS", target) == union
    ours.ask(b"SREM", b"s", b"m5")
    ours.ask(b"SADD", b"d", b"new")
    assert ours.ask(b"SISMEMBER", b"d", b"m5") == ours.ask(b"SISMEMBER", b"t", b"m5") == 1
    assert ours.ask(b"SISMEMBER", b"s", b"new") == ours.ask(b"SISMEMBER", b"t", b"new") == 0
    for value in (None, b"text"):
        with pytest.raises(TypeError):
            derived({b"s": value}.get, ("sunite", b"s"))
