"""Scripts beside a real redis-server: the same scripts, the same bytes."""

from __future__ import annotations

import pytest

from peerkv.commands import scripts
from peerkv.databases import in_database
from peerkv.resp import ReplyError
from peerkv.scripting import TooLong
from peerkv.store.cell import Cell
from peerkv.store.scratch import Elsewhere, Occupied, Scratch
from peerkv.store.values.held import HELD, Held
from tests.commands.keyspace import NOW, Theirs
from tests.commands.scripts import Scripted, in_resp, raw
from tests.scripting.tables import SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_answers_as_in_redis(theirs: Theirs, script: str) -> None:
    ours = Scripted()
    for ask in (lambda *request: raw(theirs, *request), lambda *request: in_resp(ours.run(*request))):
        for line in (b"SET n 5", b"SET s abc", b"RPUSH l a b c", b"HSET h f 1 g 2", b"SADD z m", b"ZADD o 1 a 2.5 b"):
            name, *arguments = line.split()
            code = b"return redis.call('%b', unpack(ARGV))" % name
            ask(b"EVAL", code, b"0", *arguments)
    request = (b"EVAL", script.encode("utf-8", "surrogateescape"), b"2", b"k{1}", b"l", b"x", b"7", b"\xff\0")
    assert in_resp(ours.run(*request)) == raw(theirs, *request)


REQUESTS = [
    (b"EVAL", b"return 1", b"x"),
    (b"EVAL", b"return 1", b"-1"),
    (b"EVAL", b"return 1", b"3", b"a"),
    (b"EVAL", b"return 1", b"99999999999999999999"),
    (b"EVAL", b"return #KEYS", b"0", b"a"),
    (b"EVAL_RO", b"return redis.call('GET', KEYS[1])", b"1", b"a"),
    (b"EVAL_RO", b"return redis.call('SET', KEYS[1], 1)", b"1", b"a"),
    (b"EVAL_RO", b"return redis.pcall('DEL', KEYS[1])", b"1", b"a"),
    (b"EVAL_RO", b"#!lua\nreturn 1", b"0"),
    (b"EVAL_RO", b"#!lua flags=no-writes\nreturn 1", b"0"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_requests_are_taken_and_refused_as_by_redis(theirs: Theirs, request_: tuple[bytes, ...]) -> None:
    assert in_resp(Scripted().run(*request_)) == raw(theirs, *request_)


def test_an_error_does_not_undo_what_came_before(theirs: Theirs) -> None:
    ours = Scripted()
    script = b"redis.call('SET', 'a', 1) redis.call('INCR', 'a') redis.call('LPUSH', 'a', 1) redis.call('SET', 'a', 9)"
    assert in_resp(ours.run(b"EVAL", script, b"0")) == raw(theirs, b"EVAL", script, b"0")
    assert ours.eval("return redis.call('GET', 'a')") == b"2"
    assert theirs.ask(b"GET", b"a") == b"2"


def test_changes_are_those_of_all_commands_in_order() -> None:
    argument = scripts.handed(bytes(8))
    script = b"redis.call('SET', 'a', 1) redis.call('SET', 'b', 2, 'PX', 50) return redis.call('MGET', 'a', 'b')"
    changes, reply = scripts.eval_({}, [b"EVAL", script, b"0", argument], NOW)
    assert list(changes) == [(b"a", b"1", 0), (b"b", b"2", NOW + 50)]
    assert reply == [b"1", b"2"]


@pytest.mark.parametrize("script", [b"redis.call('GET', 'far')", b"while true do pcall(redis.call, 'GET', 'far') end"])
def test_a_key_that_is_elsewhere_or_held_ends_the_run(script: bytes) -> None:
    request = [b"EVAL", b"redis.call('SET', 'near', 1) " + script, b"0", scripts.handed(bytes(8))]
    outer = Scratch({}, NOW, elsewhere=lambda key: key == b"far")
    with pytest.raises(Elsewhere) as elsewhere:
        scripts.eval_(outer, request, NOW)
    assert elsewhere.value.key == b"far"
    assert outer.changes == []
    held: dict[bytes, Cell] = {b"far": (1, Held(b"x", 0, 1, 2, []), HELD)}
    with pytest.raises(Occupied):
        scripts.eval_(held, request, NOW)
    assert Scripted().eval("return 1") == 1


def test_a_script_that_does_not_end_is_ended() -> None:
    with pytest.raises(TooLong):
        Scripted().eval("while true do pcall(redis.call, 'GET', 'a') end")


def test_a_script_works_in_its_clients_database_and_in_wall_time() -> None:
    ours = Scripted(database=2, skew=7000)
    key = in_database(b"a", 2)
    assert ours.run(b"EVAL", b"redis.call('SET', KEYS[1], 'x') return KEYS[1]", b"1", key) == b"a"
    assert ours.slot.cells[key][1] == b"x"
    assert ours.eval("redis.call('SELECT', 0) return redis.call('SET', 'a', 'y') and redis.call('GET', 'a')") == b"y"
    assert ours.slot.cells[b"a"][1] == b"y"
    assert ours.eval("return redis.call('GET', 'a')") == b"x"
    assert ours.eval("return redis.call('TIME')") == [b"%d" % ((NOW + 7000) // 1000), b"0"]
    script = "redis.call('SET', 'a', 1, 'PXAT', ARGV[1]) return redis.call('PTTL', 'a')"
    assert ours.run(b"EVAL", script.encode(), b"0", b"%d" % (NOW + 8000)) == 1000
    assert isinstance(ours.eval("return redis.call('SELECT', 16)"), ReplyError)


def test_what_concerns_every_slot_is_refused_with_a_reason() -> None:
    for name in ("DBSIZE", "KEYS *", "SCAN 0", "FLUSHALL", "RANDOMKEY"):
        words = ", ".join(f"'{word}'" for word in name.split())
        reply = Scripted().eval(f"return redis.pcall({words})")
        assert isinstance(reply, ReplyError)
        assert "every slot" in reply.text, name


def test_what_is_drawn_depends_on_chance_alone() -> None:
    cells: dict[bytes, Cell] = {}
    script = (
        b"redis.call('SADD', 's', 1, 2, 3, 4, 5, 6, 7) return {redis.call('SPOP', 's'), redis.call('SPOP', 's', 2)}"
    )
    answers = [
        scripts.eval_(cells, [b"EVAL", script, b"0", scripts.handed(b"%08d" % number)], NOW)
        for number in (1, 1, 2, 3, 4)
    ]
    assert answers[0] == answers[1]
    assert len({repr(answer) for answer in answers}) > 1


def test_a_request_that_lacks_what_is_handed_over_is_an_error() -> None:
    for last in (b"", bytes(8), bytes(16), bytes(16) + b"\x63"):
        request = [b"EVAL", b"return 1", b"0", last]
        with pytest.raises(scripts.CommandError):
            scripts.eval_({}, request, NOW)
