"""HyperLogLogs beside a real redis-server: the same bytes, the same estimates, and what one makes the other reads."""

from __future__ import annotations

import random

import pytest

from peerkv.commands.table import find
from peerkv.resp import ReplyError
from peerkv.store.values.hyperloglogs import EMPTY, densely, grown, larger_of, registers_of
from tests.commands.keyspace import NOW, Ours, Theirs, same


def without_estimate(value: object) -> bytes:
    """PFCOUNT is a read here, and writes an estimate into the value there."""
    assert isinstance(value, bytes)
    return value[:8] + value[16:]


SEQUENCES = [
    "pfadd a|pfadd a|pfcount a|pfadd a x y z|pfadd a x y z|pfcount a|strlen a|pfcount none|pfcount a none|pfadd b x q",
    "pfadd a 1 2 3|pfadd b 3 4|pfcount a b|pfcount b b a|pfmerge c a b|pfcount c|pfmerge a|pfmerge c|pfcount c none",
    "pfadd a 1|expireat a 1900000000|pfadd a 2|pfmerge a b|expiretime a|pfmerge n|exists n|pfcount n|type n",
    "set s abc|pfadd s 1|pfcount s|pfcount none s|pfmerge a s|pfmerge s|set s ''|pfcount s",
    "set s HYLL|pfadd s 1|set s HYLL000000000000|pfadd s 1|pfcount s|pfmerge s s|append s x|pfadd s 1",
    (
        "rpush l 1|pfadd l 1|pfcount l|pfcount none l|pfmerge a l|pfmerge l a|pfadd a 1|set s x|"
        "pfcount a s l|pfcount a l s"
    ),
    "pfadd|pfcount|pfmerge|pfadd a ''|pfcount a|pfadd a ''",
]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    for line in sequence.split("|"):
        request = [b"" if word == "''" else word.encode() for word in line.split(" ")]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{line}: {mine!r}, Redis says {other!r}"


def test_elements_one_by_one_make_the_same_bytes(theirs: Theirs) -> None:
    """From the first element, over the change to the dense encoding, to many."""
    ours = Ours()
    rng = random.Random(1)
    for number in range(2500):
        element = rng.randbytes(rng.randrange(20))
        assert ours.ask(b"PFADD", b"a", element) == theirs.ask(b"PFADD", b"a", element)
        if number % 10 == 0 or 1500 < number < 1700:
            mine, other = ours.ask(b"GET", b"a"), theirs.ask(b"GET", b"a")
            assert without_estimate(mine) == without_estimate(other), number
        if number % 100 == 0:
            assert ours.ask(b"PFCOUNT", b"a") == theirs.ask(b"PFCOUNT", b"a")
    assert ours.ask(b"STRLEN", b"a") == 12304


@pytest.mark.parametrize("seed", range(4))
def test_chance_finds_no_difference(theirs: Theirs, seed: int) -> None:
    """Adding and merging, few and many at a time, with HyperLogLogs that the other one has made."""
    rng = random.Random(seed)
    ours = Ours()
    keys = [b"a", b"b", b"c", b"d"]
    for _ in range(300):
        key = rng.choice(keys)
        request: list[bytes]
        match rng.randrange(7):
            case 0 | 1 | 2:
                count = rng.choice([0, 1, 1, 3, 20, 400])
                request = [b"PFADD", key, *[b"%d" % rng.randrange(1 << 20) for _ in range(count)]]
            case 3:
                request = [b"PFMERGE", *rng.choices(keys, k=rng.randrange(1, 4))]
            case 4:
                request = [b"DEL", key]
            case 5:
                value = theirs.ask(b"GET", key)
                request = [b"SET", key, value] if isinstance(value, bytes) else [b"EXISTS", key]
            case _:
                value = ours.ask(b"GET", key)
                request = [b"SET", key, value] if isinstance(value, bytes) else [b"EXISTS", key]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{request}: {mine!r}, Redis says {other!r}"
        counts = [b"PFCOUNT", *rng.choices(keys, k=rng.randrange(1, 4))]
        assert ours.ask(*counts) == theirs.ask(*counts), counts


@pytest.mark.parametrize("count", [0, 1, 2, 10, 1000, 20_000, 100_000])
def test_estimates_are_redis_own(theirs: Theirs, count: int) -> None:
    value = grown(EMPTY, [])[0]
    ours = Ours()
    ours.ask(b"SET", b"a", value)
    for first in range(0, count, 10_000):
        ours.ask(b"PFADD", b"a", *[b"element %d" % number for number in range(first, min(first + 10_000, count))])
    made = ours.ask(b"GET", b"a")
    assert isinstance(made, bytes)
    theirs.ask(b"SET", b"a", made)
    estimated = ours.ask(b"PFCOUNT", b"a")
    assert estimated == theirs.ask(b"PFCOUNT", b"a")
    assert isinstance(estimated, int)
    assert abs(estimated - count) <= 0.03 * count


def test_what_is_no_hyperloglog_is_said_to_be_corrupted() -> None:
    """Whatever a client puts behind the head, it is neither believed nor made large."""
    ours = Ours()
    head = EMPTY[:16]
    for rest in (b"", b"\x7f", b"\x7f\xff" * 100_000, b"\x7f\xff\x00", b"\x7f\xfe", b"\x80" * 5000, b"\x00" * 5000):
        ours.ask(b"SET", b"a", head + rest)
        for request in ([b"PFCOUNT", b"a"], [b"PFCOUNT", b"a", b"b"], [b"PFMERGE", b"b", b"a"]):
            assert ours.ask(*request) == ReplyError("INVALIDOBJ Corrupted HLL object detected"), (request, rest[:4])
    ours.ask(b"SET", b"a", head + b"\x80")
    assert isinstance(ours.ask(b"PFADD", b"a", b"x"), ReplyError)


def test_what_turns_out_to_be_corrupted_gets_nothing(theirs: Theirs) -> None:
    """There those elements stay that were added before one met the fault; here an error has done nothing."""
    ours = Ours()
    odd = EMPTY[:16] + b"\xff\xc2\x84J;"  # SETRANGE has made a value of what was a run of zeros
    for server in (ours, theirs):
        server.ask(b"SET", b"a", odd)
        reply = server.ask(b"PFADD", b"a", b"p28", b"p10", b"p0")
        assert reply == ReplyError("INVALIDOBJ Corrupted HLL object detected")
    assert ours.ask(b"GET", b"a") == odd != theirs.ask(b"GET", b"a")


def test_an_element_ships_the_register_that_it_changes() -> None:
    """Not the 12 KB in which it stands."""
    ours = Ours()
    ours.ask(b"PFADD", b"a", *[b"%d" % number for number in range(5000)])
    row = find(b"PFADD")
    assert row is not None
    assert row.run is not None
    new = next(
        b"%d" % number for number in range(5000, 9000) if row.run(ours.cells, [b"PFADD", b"a", b"%d" % number], NOW)[0]
    )
    (_, body, _), *others = row.run(ours.cells, [b"PFADD", b"a", new], NOW)[0]
    assert not others
    assert isinstance(body, tuple)
    assert body[0] == "registers"
    assert len(body[1]) == 3
    assert row.run(ours.cells, [b"PFADD", b"a", b"1"], NOW) == ((), 0)


def test_the_larger_registers_are_those_of_a_loop() -> None:
    rng = random.Random(3)
    one, other = (bytes(rng.randrange(64) for _ in range(1 << 14)) for _ in range(2))
    assert larger_of(one, other) == bytes(map(max, one, other))


def test_both_encodings_hold_the_same() -> None:
    value = grown(EMPTY, [(number * 37 & 0x3FFF, number % 30 + 1) for number in range(900)])[0]
    assert registers_of(densely(value)) == registers_of(value)
