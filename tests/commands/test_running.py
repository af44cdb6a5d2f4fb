"""Requests that are run one after another on one scratch: each sees what those before it have done, and nobody else."""

from __future__ import annotations

import random

import pytest

from peerkv.commands.running import RUNNABLE, prepared, row_of, run_on
from peerkv.commands.table import CHANCE_BYTES
from peerkv.databases import in_database
from peerkv.resp import Reply, ReplyError
from peerkv.store.cell import Cell
from peerkv.store.scratch import Elsewhere, Occupied, Scratch
from peerkv.store.values.held import HELD, Held
from tests.commands.keyspace import NOW, Theirs, requests_of, same, same_items, sequences

SEQUENCES = """
SET a 1 | INCR a | GET a | APPEND a x | INCR a | GET a | STRLEN a | DEL a | GET a | EXISTS a

MSET a 1 b 2 c 3 | MGET a b c d | DEL a c x | EXISTS a b b c | MGET a b | MSET a | UNLINK b b | TOUCH a b

RPUSH l a b c | LPUSH l z | LRANGE l 0 -1 | LPOP l | RPOP l 2 | LLEN l | LMOVE l m LEFT RIGHT | EXISTS l | LRANGE m 0 -1

HSET h a 1 b 2 | HINCRBY h a 5 | HGETALL h | HDEL h a b | EXISTS h | HSET h c 3 | HGET h c | GET h | HINCRBY h c x

SADD s a b c | SREM s a | SCARD s | SADD t b | SMOVE s t c | SUNIONSTORE u s t | SMEMBERS u | SINTER s t | RENAME u w

ZADD z 1 a 2 b | ZINCRBY z 5 a | ZRANGE z 0 -1 WITHSCORES | ZPOPMIN z | ZSCORE z a | ZADD z NX 9 a | ZCARD z | COPY z y

SET a 1 EX 100 | TTL a | PERSIST a | TTL a | EXPIRE a -1 | EXISTS a | SET a 2 | RENAME a b | GET b | RENAME a c | TYPE b

GET | NOSUCH a b | OBJECT NOSUCH a | OBJECT ENCODING nosuch | SET a 5 | OBJECT ENCODING a | SPOP a | SET a 1 NX EX

SADD s a | SPOP s | EXISTS s | SRANDMEMBER s | SADD s b | SRANDMEMBER s 3 | SPOP s 9 | EXISTS s | HRANDFIELD none
"""


class Together:
    """What is asked is run on one scratch."""

    def __init__(self, cells: dict[bytes, Cell] | None = None, database: int = 0, skew: int = 0) -> None:
        self.scratch = Scratch(cells or {}, NOW)
        self._database = database
        self._skew = skew
        self._rng = random.Random(0)

    def ask(self, *request: bytes) -> Reply:
        row = row_of(request)
        if isinstance(row, ReplyError):
            return row
        assert row.kind in RUNNABLE
        ready = prepared(
            row,
            list(request),
            skew=self._skew,
            database=self._database,
            chance=lambda: self._rng.randbytes(CHANCE_BYTES),
        )
        return run_on(self.scratch, ready, NOW)


@pytest.mark.parametrize("sequence", sequences(SEQUENCES), ids=range(len(sequences(SEQUENCES))))
def test_what_is_run_together_answers_as_one_after_another(theirs: Theirs, sequence: str) -> None:
    ours = Together()
    for request in requests_of(sequence):
        mine, other = ours.ask(*request), theirs.ask(*request)
        compare = same_items if request[0] in (b"SMEMBERS", b"SINTER") else same
        assert compare(mine, other), (request, mine, other)


def test_nothing_is_seen_outside() -> None:
    cells: dict[bytes, Cell] = {b"a": (1, b"1", 0)}
    ours = Together(cells)
    assert ours.ask(b"INCR", b"a") == 2
    assert ours.ask(b"MSET", b"b", b"x", b"c", b"y") == "OK"
    assert cells == {b"a": (1, b"1", 0)}
    assert ours.scratch.changes == [(b"a", b"2", 0), (b"b", b"x", 0), (b"c", b"y", 0)]


def test_a_command_that_fails_changes_nothing_and_leaves_what_came_before() -> None:
    ours = Together()
    ours.ask(b"SET", b"a", b"x")
    error = ours.ask(b"INCR", b"a")
    assert isinstance(error, ReplyError)
    assert ours.scratch.changes == [(b"a", b"x", 0)]


def test_a_key_that_is_elsewhere_or_held_ends_it() -> None:
    cells: dict[bytes, Cell] = {b"h": (1, Held(b"old", 0, 7, 9, []), HELD)}
    with pytest.raises(Occupied) as occupied:
        run_on(Scratch(cells, NOW), [b"GET", b"h"], NOW)
    assert occupied.value.key == b"h"
    away = Scratch({}, NOW, elsewhere=lambda key: key == b"far")
    assert run_on(away, [b"SET", b"near", b"1"], NOW) == "OK"
    with pytest.raises(Elsewhere) as found:
        run_on(away, [b"MGET", b"near", b"far"], NOW)
    assert found.value.key == b"far"


def test_databases_and_wall_time_are_seen_to_once() -> None:
    ours = Together(database=3, skew=5000)
    ours.ask(b"SET", b"a", b"1", b"PXAT", b"%d" % (NOW + 15_000))
    assert ours.scratch.changes == [(in_database(b"a", 3), b"1", NOW + 10_000)]
    assert ours.ask(b"EXPIREAT", b"a", b"%d" % ((NOW + 25_000) // 1000)) == 1
    assert ours.ask(b"PTTL", b"a") == 20_000
