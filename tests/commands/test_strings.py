"""Options of commands on strings and of expiry in every order, beside a real redis-server; and what Valkey has."""

from __future__ import annotations

import random

import pytest

from peerkv.commands.table import find, keys_of
from peerkv.resp import Map, ReplyError
from tests.commands.keyspace import Ours, Theirs, same

TIMES = [
    b"1900000000",
    b"1950000000000",
    b"0",
    b"-1",
    b"x",
    b"9223372036854775807",
    b"9223372036854775",
    b"-9223372036854776",
]
WORDS = {
    b"k": [b"a", b"b"],
    b"s": [b"EX", b"px", b"EXAT", b"PXAT", b"KEEPTTL", b"NX", b"XX", b"GET", b"PERSIST", b"foo", *TIMES],
    b"t": TIMES,
    b"x": [b"NX", b"XX", b"GT", b"LT", b"foo"],
    b"l": [b"LEN", b"IDX", b"WITHMATCHLEN", b"MINMATCHLEN", b"2", b"-1", b"x"],
    b"v": [b"", b"1", b"ohmytext", b"mynewtext", b"aaaabbbbaaaa", b"abababab", b"xyz"],
}
SHAPES = [
    b"SET k v",
    b"SET k v s",
    b"SET k v s t",
    b"SET k v s s s",
    b"SET k v EXAT t PXAT t",
    b"SET k v EXAT t EXAT t",
    b"SET k v PXAT t GET PXAT t NX",
    b"GETEX k s",
    b"GETEX k s t",
    b"GETEX k PXAT t PXAT t",
    b"GETEX k s s s",
    b"SETEX k t v",
    b"PSETEX k t v",
    b"EXPIRE k t x",
    b"PEXPIRE k t",
    b"EXPIREAT k t x x",
    b"PEXPIREAT k t x",
    b"LCS a b",
    b"LCS b a",
    b"LCS k k l",
    b"LCS k k l l l",
    b"PEXPIRETIME k",
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
        if relative(request):
            continue  # the two clocks are not the same
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{request}: {mine!r}, Redis says {other!r}"
        for key in (b"a", b"b"):
            assert ours.ask(b"PEXPIRETIME", key) == theirs.ask(b"PEXPIRETIME", key), request
            assert same(ours.ask(b"GET", key), theirs.ask(b"GET", key)), request


def relative(request: list[bytes]) -> bool:
    """Whether a deadline would be counted from now."""
    words = [word.upper() for word in request]
    return {b"1900000000", b"1950000000000", b"9223372036854775"} & set(words) != set() and (
        words[0] in (b"SETEX", b"PSETEX", b"EXPIRE", b"PEXPIRE") or b"EX" in words or b"PX" in words
    )


def test_a_lifetime_may_be_said_twice() -> None:
    ours = Ours()
    ours.ask(b"SET", b"a", b"1")
    assert ours.ask(*b"GETEX a EX 10 EX 20".split()) == b"1"
    assert ours.ask(b"TTL", b"a") == 20
    assert ours.ask(*b"SET a 1 EX x EX 30".split()) == "OK"
    assert ours.ask(b"TTL", b"a") == 30
    assert ours.ask(*b"SET a 1 EX 10 PX 20".split()) == ReplyError("ERR syntax error")


@pytest.mark.parametrize(
    ("line", "dated"),
    [
        (b"SET k v EXAT 1000", b"SET k v PXAT 999900"),
        (b"SET k v EXAT 1 EXAT 1000 GET", b"SET k v PXAT 900 PXAT 999900 GET"),
        (b"SET k v IFEQ EXAT PXAT 1000", b"SET k v IFEQ EXAT PXAT 900"),
        (b"SET k v EXAT x", b"SET k v PXAT x"),
        (b"SET k v EXAT 9223372036854775807", b"SET k v PXAT 0"),
        (b"SET k v EXAT 5 PXAT 6", b"SET k v EXAT 5 PXAT 6"),
        (b"SET k v EXAT", b"SET k v EXAT"),
        (b"SET k EXAT NX", b"SET k EXAT NX"),
    ],
)
def test_wall_times_become_times_of_the_cluster(line: bytes, dated: bytes) -> None:
    """And what is an error remains the same error."""
    row = find(b"SET")
    assert row is not None
    assert row.dated is not None
    assert row.dated(line.split(), 100) == dated.split()


def test_set_if_equal() -> None:
    """Valkey's."""
    ours = Ours()
    assert ours.ask(*b"SET a 1 IFEQ 1".split()) is None
    assert ours.ask(b"EXISTS", b"a") == 0
    ours.ask(*b"SET a 1 EX 100".split())
    assert ours.ask(*b"SET a 2 IFEQ 1".split()) == "OK"
    assert ours.ask(b"TTL", b"a") == -1
    assert ours.ask(*b"SET a 3 IFEQ 1".split()) is None
    assert ours.ask(*b"SET a 3 IFEQ 1 GET".split()) == b"2"
    assert ours.ask(*b"SET a 3 GET IFEQ 2 EX 50".split()) == b"2"
    assert ours.ask(b"TTL", b"a") == 50
    assert ours.ask(*b"SET a 4 IFEQ 3 KEEPTTL".split()) == "OK"
    assert ours.ask(b"TTL", b"a") == 50
    ours.ask(*b"RPUSH l 1".split())
    wrong = "WRONGTYPE Operation against a key holding the wrong kind of value"
    assert ours.ask(*b"SET l 1 IFEQ 1".split()) == ReplyError(wrong)
    for line in (b"SET a 1 IFEQ", b"SET a 1 NX IFEQ 1", b"SET a 1 IFEQ 1 XX", b"SET a 1 IFEQ 1 IFEQ 1"):
        assert ours.ask(*line.split()) == ReplyError("ERR syntax error")
    assert ours.ask(b"GET", b"a") == b"4"


def test_delete_if_equal() -> None:
    """Valkey's."""
    ours = Ours()
    assert ours.ask(*b"DELIFEQ a 1".split()) == 0
    ours.ask(*b"SET a 1".split())
    assert ours.ask(*b"DELIFEQ a 2".split()) == 0
    assert ours.ask(*b"DELIFEQ a 1".split()) == 1
    ours.ask(*b"RPUSH l 1".split())
    assert isinstance(ours.ask(*b"DELIFEQ l 1".split()), ReplyError)
    assert ours.ask(b"EXISTS", b"a") == 0


def test_msetnx_without_a_last_value_is_an_error_of_its_own() -> None:
    """Whatever slots the values would be keys of."""
    row = find(b"MSETNX")
    assert row is not None
    assert list(keys_of(row, b"MSETNX a 1 b 2".split())) == [b"a", b"b"]
    assert list(keys_of(row, b"MSETNX a 1 b".split())) == [b"a"]
    assert Ours().ask(*b"MSETNX a 1 b".split()) == ReplyError("ERR wrong number of arguments for 'msetnx' command")


def test_a_common_subsequence_has_a_shape_of_its_own_in_resp3() -> None:
    ours = Ours()
    ours.ask(*b"SET a ohmytext".split())
    ours.ask(*b"SET b mynewtext".split())
    matches = [[[4, 7], [5, 8], 4]]
    assert ours.ask(*b"LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN".split()) == Map([b"matches", matches, b"len", 6])


def test_tables_that_would_be_too_large_are_refused() -> None:
    ours = Ours()
    ours.cells[b"a"] = ours.cells[b"b"] = (1, bytes(12_000), 0)
    error = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
    assert ours.ask(b"LCS", b"a", b"b") == ReplyError(error)
