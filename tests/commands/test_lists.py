"""Lists beside a real redis-server, and beside a Python list."""

from __future__ import annotations

import random

import pytest

from peerkv.commands.table import find
from peerkv.resp import ReplyError
from peerkv.store.values import PART_BYTES, patched, size_of_body
from peerkv.store.values.lists import NODE_ITEMS, LargeList, List, SmallList, putting
from tests.commands.keyspace import NOW, Ours, Theirs, held, rebuilt, requests_of, same, sequences

SEQUENCES = """
rpush l a b c | lrange l 0 -1 | lpush l x y | lrange l 0 -1 | llen l | llen none | type l | lpushx none a
rpushx none a | lpushx l p

lpush l | rpush l | lpop | lrange l 0 | rpushx l q w | lrange l -2 -1 | lrange l 2 1 | lrange l -100 100
lrange l 5 10 | lrange l x 1

rpush l a b c d e | lpop l | rpop l | lpop l 2 | lrange l 0 -1 | rpop l 5 | exists l | lpop l | lpop l 1 | rpop l 0
lpop l -1 | lpop l x

rpush l a b c d e | rpop l 2 | lpop l 0 | lpop l 2 3 | lpop l 9223372036854775807 | lpop l 9223372036854775808
exists l

rpush l a b c | lindex l 0 | lindex l -1 | lindex l 3 | lindex l -4 | lindex l x | lindex none x | lindex none 0

rpush l a b c | lset l 0 x | lset l -1 z | lset l 3 q | lset l -4 q | lset l x q | lset none 0 q | lset none x q
lrange l 0 -1

rpush l a b a c | linsert l before a x | linsert l after a y | linsert l AFTER c z | linsert l before none q
lrange l 0 -1 | linsert none before a x | linsert l foo a x | linsert none foo a x | llen l

rpush l a b a c a d a | lrem l 2 a | lrange l 0 -1 | lrem l -1 a | lrange l 0 -1 | lrem l 0 a | lrem l 0 a
lrem l x a | lrem none 0 a | lrem none x a | lrange l 0 -1 | lrem l 9223372036854775807 b
lrem l -9223372036854775808 c | lrem l 1 d | exists l

rpush l a b c d e f | ltrim l 1 -2 | lrange l 0 -1 | ltrim l 0 -1 | ltrim l -2 -1 | lrange l 0 -1 | ltrim l x 1
ltrim none x 1 | ltrim none 0 1 | ltrim l 5 10 | exists l | rpush l a b | ltrim l 1 0 | exists l | rpush l a b c
ltrim l 0 0 | lrange l 0 -1

rpush l a b c 1 2 3 c c | lpos l c | lpos l c rank 2 | lpos l c rank -1 | lpos l c count 2 | lpos l c count 0
lpos l q | lpos l q count 0 | lpos l c rank -1 count 2 | lpos l c rank 5 | lpos l c rank 5 count 0 | lpos l c maxlen 2
lpos l c maxlen 3

rpush l a b c 1 2 3 c c | lpos l c rank 0 | lpos l c count -1 | lpos l c maxlen -1 | lpos l c foo | lpos l c rank
lpos l c rank x | lpos l c rank 9223372036854775807 | lpos l c count x | lpos none c | lpos none c count 1
lpos l c rank -1 maxlen 1 count 0 | lpos l c rank -2 maxlen 1 count 0 | lpos l c rank -3 count 0 | lpos none c rank 0

rpush l a b c | lmove l m left right | lmove l m right left | lrange m 0 -1 | lmove l l left right
lmove l m left left | exists l | lmove l m left right | lmove l m foo right | lmove l m left foo
lmove m m left right | lmove m m right left | lmove m m left left | lrange m 0 -1

rpush l a b c | rpoplpush l l | lrange l 0 -1 | rpoplpush l m | rpoplpush none m | set s 1 | rpoplpush l s
rpoplpush s l | rpoplpush none s | lmove l s left left | lmove s l left left | lrange l 0 -1 | rpoplpush s s

rpush l a b c d | lmpop 1 l left | lmpop 2 none l right count 2 | lmpop 1 l left count 10 | exists l
lmpop 1 none left | lmpop 0 l left | lmpop x l left | lmpop 2 l left | lmpop 1 l foo | lmpop 1 l left count
lmpop 1 l left count 0 | lmpop -1 l left

rpush l a b c d | lmpop 1 l left count x | lmpop 1 l left count 1 count 1 | lmpop 1 l left foo 1 | lmpop 9 l left
lmpop 9223372036854775807 l left | set s 1 | lmpop 2 s l left | lmpop 2 none s left | lmpop 2 l s left
lmpop 1 l left count 1 x

set s 1 | lpush s a | rpush s a | lpushx s a | rpushx s a | lpop s | rpop s | lpop s 2 | lpop s x | lrange s 0 -1
lrange s x 0 | lindex s 0 | lindex s x | lset s 0 a | lset s x a | linsert s before a b | lrem s 0 a | ltrim s 0 0
ltrim s x 0 | lpos s a | lpos s a rank 0 | llen s

rpush l a | get l | append l x | incr l | getrange l 0 1 | setrange l 0 x | strlen l | getset l 1 | getdel l
setnx l 1 | set l 1 get | set l 1 | get l

rpush l a b | copy l m | lpop l | lrange m 0 -1 | rename m l | lrange l 0 -1 | expireat l 1900000000 | rpush l c
expiretime l | lpop l | expiretime l | lrem l 1 b | lset l 0 z | expiretime l | lpop l | rpush l n | expiretime l

rpush l a | expireat l 1900000000 | rpush m b | lmove m l left left | expiretime l | lmove l l left right
expiretime l | lmove l n left left | expiretime n | expiretime l
"""


@pytest.mark.parametrize("sequence", sequences(SEQUENCES), ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for request in requests_of(sequence):
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{request}: {mine!r}, Redis says {other!r}"


def test_a_rank_has_limits() -> None:
    """Since Redis 7.2."""
    ours = Ours()
    ours.ask(b"RPUSH", b"l", b"a")
    reply = ours.ask(b"LPOS", b"l", b"a", b"RANK", b"%d" % -(1 << 63))
    most = (1 << 63) - 1
    assert reply == ReplyError(f"ERR value is out of range, value must between {-most} and {most}")


KEYS = [b"a", b"b", b"s"]
ELEMENTS = [b"", b"1", b"2", b"x", b"yy", b"12", b"z" * 300]
NUMBERS = [b"0", b"1", b"-1", b"2", b"-3", b"70", b"-70", b"200", b"x", b"-9223372036854775808"]
SHAPES: list[tuple[bytes, ...]] = [
    (b"RPUSH", b"k", b"e"),
    (b"LPUSH", b"k", b"e", b"e", b"e"),
    (b"RPUSH", b"k", *[b"e"] * 30),
    (b"LPUSH", b"k", *[b"e"] * 90),
    (b"RPUSH", b"k", *[b"f"] * 140),
    (b"LPUSHX", b"k", b"e"),
    (b"RPUSHX", b"k", b"e", b"e"),
    (b"LPOP", b"k"),
    (b"RPOP", b"k"),
    (b"LPOP", b"k", b"c"),
    (b"RPOP", b"k", b"c"),
    (b"LLEN", b"k"),
    (b"LRANGE", b"k", b"n", b"n"),
    (b"LRANGE", b"k", b"0", b"-1"),
    (b"LINDEX", b"k", b"n"),
    (b"LSET", b"k", b"n", b"e"),
    (b"LINSERT", b"k", b"w", b"e", b"e"),
    (b"LREM", b"k", b"n", b"e"),
    (b"LTRIM", b"k", b"n", b"-1"),
    (b"LTRIM", b"k", b"0", b"n"),
    (b"LPOS", b"k", b"e"),
    (b"LPOS", b"k", b"e", b"RANK", b"r", b"COUNT", b"n"),
    (b"LPOS", b"k", b"e", b"COUNT", b"n", b"MAXLEN", b"n"),
    (b"LMOVE", b"k", b"k", b"d", b"d"),
    (b"RPOPLPUSH", b"k", b"k"),
    (b"LMPOP", b"2", b"k", b"k", b"d", b"COUNT", b"c"),
    (b"LMPOP", b"m", b"k", b"k", b"d"),
    (b"COPY", b"k", b"k"),
    (b"RENAME", b"k", b"k"),
    (b"TYPE", b"k"),
    (b"SET", b"s", b"1"),
    (b"DEL", b"s"),
]
CHOICES = {
    b"k": [b"a", b"a", b"a", b"b", b"b", b"s"],
    b"e": ELEMENTS,
    b"f": ELEMENTS[:-1],
    b"n": NUMBERS,
    b"r": NUMBERS[:-1],
    b"c": [b"0", b"1", b"2", b"5", b"100", b"-1", b"x"],
    b"d": [b"LEFT", b"right", b"LEFT", b"right", b"x"],
    b"w": [b"BEFORE", b"after", b"x"],
    b"m": [b"0", b"1", b"2", b"3", b"x"],
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


@pytest.mark.parametrize("seed", range(6))
def test_a_list_is_a_python_list(seed: int) -> None:
    """Over many nodes of both kinds, wherever they are split and joined."""
    rng = random.Random(seed)
    found, model = LargeList(), list[bytes]()

    def some(count: int) -> list[bytes]:
        return [
            rng.randbytes(rng.choice((0, 1, 3, 200, 255, 256, 600) if rng.random() < 0.2 else (1, 2)))
            for _ in range(count)
        ]

    for _ in range(3000):
        index = rng.randrange(len(model)) if model else 0
        match rng.randrange(9):
            case 0 | 1:
                items = some(rng.choice((1, 1, 1, 2, 100, 300)))
                found.push_right(items)
                model += items
            case 2 | 3:
                items = some(rng.choice((1, 1, 1, 2, 100, 300)))
                found.push_left(items)
                model[:0] = items[::-1]
            case 4:
                left, right = sorted((rng.randrange(len(model) // 8 + 2), rng.randrange(len(model) // 8 + 2)))
                if left + right <= len(model):
                    found.cut(left, right)
                    model = model[left : len(model) - right]
            case 5 if model:
                (model[index],) = items = some(1)
                found.set(index, items[0])
            case 6 if model:
                items = some(1)
                model.insert(index, items[0])
                found.insert(index, items[0])
            case 7 if model:
                backwards, often = rng.random() < 0.5, model.count(model[index])
                count = rng.choice((1, often, rng.randint(1, often)))
                at = [at for at, item in enumerate(model) if item == model[index]]
                doomed = set(at[-count:] if backwards else at[:count])
                found.remove(model[index], count, backwards=backwards)
                model = [item for at, item in enumerate(model) if at not in doomed]
            case _ if model:
                assert found.at(index) == model[index]
                stop = rng.randint(index, len(model))
                assert found.between(index, stop) == model[index:stop]
                places = [at for at, item in enumerate(model) if item == model[index]]
                assert list(found.places(model[index])) == places
                assert found.often(model[index], 5) == min(5, len(places))
                assert list(found.places(model[index], backwards=True)) == places[::-1]
        assert len(found) == len(model)
    assert found.between(0, len(found)) == model
    assert found.copy().between(0, len(found)) == model


def test_parts_are_of_one_moment() -> None:
    """A list that is being sent goes on changing; who is sent it must have it as it was."""
    found = LargeList()
    found.push_right([b"%d" % number for number in range(20_000)])
    before = held(found.copy())
    parts = found.parts()
    sent = [next(parts)]
    found.cut(5000, 5000)
    found.set(100, b"other")
    found.push_right([b"more"] * 1000)
    sent += parts
    assert len(sent) > 2
    assert max(map(size_of_body, sent)) < 2 * PART_BYTES
    made = None
    for part in sent:
        made = rebuilt_by(made, part)
    assert held(made) == before


def rebuilt_by(value: object, part: tuple[object, ...]) -> List:
    from peerkv.store.values import patched

    made = patched(value, part)  # type: ignore[arg-type]
    assert isinstance(made, List)
    return made


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
    ["LPUSH l x", "RPUSH l x", "LPOP l", "RPOP l", "LSET l 5 x", "LINSERT l BEFORE 5 x", "LREM l 1 5", "LTRIM l 1 -1"],
)
def test_a_change_of_a_long_list_is_as_small_as_one_of_a_short_list(request_: str) -> None:
    """Or every push of a long queue would send the queue."""
    short, long = Ours(), Ours()
    short.ask(b"RPUSH", b"l", *[b"%d" % number for number in range(10)])
    long.ask(b"RPUSH", b"l", *[b"%d" % number for number in range(100_000)])
    request = request_.encode().split()
    assert changes_of(short, *request) == changes_of(long, *request) < 64


def test_a_queue_does_not_become_a_list_of_small_nodes() -> None:
    """What is removed from everywhere leaves nodes behind that must be joined: or 200 bytes are kept for one."""
    found = LargeList()
    elements = [b"%d" % number for number in range(50 * NODE_ITEMS)]
    found.push_right(elements)
    random.Random(1).shuffle(elements)
    for element in elements[NODE_ITEMS:]:
        found.remove(element, 1)
    assert len(found._nodes) <= 6
    assert held(rebuilt(found)) == held(found)


def test_lists_are_small() -> None:
    """100,000 elements of 10 bytes are 1.3 MB, not 5.7."""
    found = LargeList()
    for number in range(100_000):
        found.push_right([b"%010d" % number])
    assert found.size < 1_500_000
    assert list(found.places(b"%010d" % 77_777)) == [77_777]


def test_a_list_of_one_row_is_that_row() -> None:
    """Or a million lists of three elements would take 240 MB."""
    ours = Ours()
    for count in range(1, 200):
        ours.ask(b"RPUSH", b"l", b"%d" % count)
        value = ours.cells[b"l"][1]
        assert isinstance(value, SmallList if count <= NODE_ITEMS else LargeList)
        assert value.size < 60 + 5 * count + 200 * (count > NODE_ITEMS)
    ours.ask(b"LTRIM", b"l", b"0", b"99")
    assert isinstance(ours.cells[b"l"][1], SmallList)
    ours.ask(b"LSET", b"l", b"5", b"x" * 256)
    assert isinstance(ours.cells[b"l"][1], LargeList)
    ours.ask(b"LSET", b"l", b"5", b"5")
    assert isinstance(ours.cells[b"l"][1], SmallList)


@pytest.mark.parametrize("long", [0, 1, 40])
def test_what_is_put_stands_as_if_it_had_been_pushed(long: int) -> None:
    """It comes as the rows that it is going to be, of short elements and of long ones in turns."""
    rng = random.Random(long)
    for count in (1, 100, 128, 129, 5000):
        items = [b"%d" % rng.randrange(1 << 60) * rng.choice((1, 1, 1, long or 1)) for _ in range(count)] + [b""]
        body = putting(items)
        found = patched(b"whatever was there", body)
        assert held(found) == held(patched(None, ("rpush", *items)))
        assert held(rebuilt(found)) == held(found)  # type: ignore[arg-type]
        assert size_of_body(body) < sum(map(len, items)) + 2 * (len(items) + 10)
        assert not isinstance(found, LargeList) or len(found._nodes) < 3 + count / 60
        if isinstance(found, LargeList):
            found.set(0, b"other")
            assert body == putting(items), "what travels is shared with what is changed"


def test_rows_that_are_none_are_refused() -> None:
    for rows in [(b"\1\1", b"a"), (b"\1", b"ab"), (b"\0" * (NODE_ITEMS + 1), b""), (b"\xff" * 17, b"x" * 255 * 17)]:
        with pytest.raises(ValueError, match="row"):
            patched(None, ("lput", *rows))
