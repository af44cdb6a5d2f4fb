"""Scripts beside a real redis-server: the same scripts, the same bytes."""

from __future__ import annotations

import pytest

from peerkv.commands import scripts
from peerkv.commands.scripts import eval_, handed, scripted
from peerkv.commands.table import CHANCE_BYTES
from peerkv.databases import in_database
from peerkv.resp import ReplyError
from peerkv.scripting import TooLong
from peerkv.store.cell import Cell
from peerkv.store.scratch import Elsewhere, Occupied, Scratch, Unlisted
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


REPLIES = [
    "return redis.call('HGETALL', 'h')",
    "return redis.call('ZRANGE', 'o', 0, -1, 'WITHSCORES')",
    "return redis.call('ZSCORE', 'o', 'b')",
    "return redis.call('SMEMBERS', 'z')",
    "return redis.call('GET', 'none')",
    "return redis.call('LRANGE', 'l', 0, -1)",
    "return redis.call('LPOP', 'none', 2)",
    "return redis.call('SET', 's', 1)",
    "return redis.pcall('INCR', 'h')",
    "return redis.call('HRANDFIELD', 'h', 5, 'WITHVALUES')[1]",
    "return redis.call('SISMEMBER', 'z', 'm')",
    "return redis.call('INCRBYFLOAT', 'f', 1.5)",
    "return redis.call('GEOPOS', 'none', 'x')",
    "return redis.call('TYPE', 'l')",
    "return redis.call('OBJECT', 'REFCOUNT', 'l')",
    "return {true, false, 1.5, {double = 2.5}, {map = {a = 1}}, {set = {x = true}}, {ok = 'k'}, {err = 'E'}, nil, 1}",
    "return {double = 3}",
    "return {verbatim_string = {format = 'txt', string = 'x'}}",
    "local r = redis.call('HGETALL', 'h') return {type(r.map), #r, r[1]}",
    "local r = redis.call('SMEMBERS', 'z') return {type(r.set), #r, r[1]}",
    "local r = redis.call('ZSCORE', 'o', 'b') return {type(r), type(r) == 'table' and tostring(r.double)}",
    "return tostring(redis.call('GET', 'none'))",
    "return tostring(redis.call('MGET', 'n', 'none')[2])",
    "return {map = {[{1, 2}] = {map = {x = {set = {y = true}}}}}}",
]


@pytest.mark.parametrize("script", REPLIES)
@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_of_both_protocols_on_both_sides(theirs: Theirs, script: str, protocol: int) -> None:
    """A client that speaks either, and a script that has asked for either."""
    ours = Scripted()
    theirs.ask(b"HELLO", b"%d" % protocol)
    for line in (b"SET n 5", b"SET s abc", b"RPUSH l a b c", b"HSET h f 1", b"SADD z m", b"ZADD o 1 a 2.5 b"):
        theirs.ask(*line.split())
        ours.run(b"EVAL", b"return redis.call('%b', unpack(ARGV))" % line.split()[0], b"0", *line.split()[1:])
    for setting in ("", "redis.setresp(2) ", "redis.setresp(3) "):
        request = (b"EVAL", (setting + script).encode(), b"0")
        assert in_resp(ours.run(*request), protocol) == raw(theirs, *request), setting


LOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
EXTEND = (
    "local held = redis.call('get', KEYS[1]) if not held or held ~= ARGV[1] then return 0 end"
    " local left = redis.call('pttl', KEYS[1]) if left < 0 then left = 0 end"
    " redis.call('pexpire', KEYS[1], ARGV[2] + left) return 1"
)
WINDOW = (
    "local count = redis.call('incr', KEYS[1]) if tonumber(count) == 1 then redis.call('expire', KEYS[1], ARGV[2]) end"
    " if count > tonumber(ARGV[1]) then return {0, redis.call('ttl', KEYS[1])} end return {count, -1}"
)
MOVING = (
    "local entries = redis.call('lrange', KEYS[1], 0, tonumber(ARGV[1]) - 1) local oldest = entries[tonumber(ARGV[1])]"
    " if oldest and tonumber(oldest) >= tonumber(ARGV[3]) - tonumber(ARGV[2]) then return false end"
    " redis.call('lpush', KEYS[1], ARGV[3]) redis.call('ltrim', KEYS[1], 0, ARGV[1] - 1)"
    " redis.call('expire', KEYS[1], ARGV[2]) return true"
)
SORTED_WINDOW = (
    "redis.call('zremrangebyscore', KEYS[1], '-inf', '(' .. (ARGV[3] - ARGV[2]))"
    " local used = redis.call('zcard', KEYS[1])"
    " if used < tonumber(ARGV[1]) then redis.call('zadd', KEYS[1], ARGV[3], ARGV[3] .. ':' .. used)"
    " return {1, ARGV[1] - used - 1} end"
    " local first = redis.call('zrange', KEYS[1], 0, 0, 'WITHSCORES') return {0, first[2]}"
)
BUCKET = (
    "local state = redis.call('hmget', KEYS[1], 'tokens', 'at') local tokens = tonumber(state[1]) or tonumber(ARGV[1])"
    " local at = tonumber(state[2]) or tonumber(ARGV[3])"
    " tokens = math.min(tonumber(ARGV[1]), tokens + math.max(0, ARGV[3] - at) * ARGV[2])"
    " local ok = tokens >= 1 if ok then tokens = tokens - 1 end"
    " redis.call('hset', KEYS[1], 'tokens', tostring(tokens), 'at', ARGV[3]) return {ok and 1 or 0, tostring(tokens)}"
)
ADD_JOB = (
    "local options = cmsgpack.unpack(ARGV[2]) local id = redis.call('incr', KEYS[1] .. ':id')"
    " local key = KEYS[1] .. ':' .. id"
    " redis.call('hmset', key, 'name', options[1], 'data', ARGV[1], 'opts', cjson.encode(options[2]), 'priority',"
    " options[2].priority or 0) if options[2].delay and options[2].delay > 0 then"
    " redis.call('zadd', KEYS[1] .. ':delayed', options[2].delay * 4096 + bit.band(id, 4095), id) else"
    " redis.call('lpush', KEYS[1] .. ':wait', id) end return tostring(id)"
)
TAKE_JOB = (
    "local id = redis.call('rpoplpush', KEYS[1] .. ':wait', KEYS[1] .. ':active') if not id then return nil end"
    " local job = redis.call('hgetall', KEYS[1] .. ':' .. id) local found = {} for at = 1, #job, 2 do"
    " found[job[at]] = job[at + 1] end return {id, found.name, found.data, #found}"
)
SWEEP = (
    "local found = redis.call('zrangebyscore', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 2) for _, each in ipairs(found) do"
    " if redis.call('zrem', KEYS[1], each) == 1 then redis.call('rpush', KEYS[2], each) end end"
    " return {#found, redis.call('llen', KEYS[2]), unpack(found)}"
)
COMPARE = (
    "local given = cjson.decode(ARGV[1]) local changed = {} for at, key in ipairs(KEYS) do"
    " if redis.call('get', key) ~= given[at] then redis.call('set', key, given[at]) changed[#changed + 1] = key end end"
    " return {#changed, cjson.encode(changed), redis.sha1hex(table.concat(changed))}"
)
STORIES: list[list[tuple[str, tuple[bytes, ...], tuple[bytes, ...]]]] = [
    [
        ("return redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', 5000)", (b"lock",), (b"me",)),
        (LOCK, (b"lock",), (b"you",)),
        (LOCK, (b"lock",), (b"me",)),
        (LOCK, (b"lock",), (b"me",)),
        (EXTEND, (b"lock",), (b"me", b"5")),
    ],
    [
        ("return redis.call('set', KEYS[1], 'me', 'PX', 100000)", (b"l",), ()),
        (EXTEND, (b"l",), (b"me", b"5000")),
        (EXTEND, (b"l",), (b"you", b"5")),
        ("return redis.call('pttl', KEYS[1]) > 100000", (b"l",), ()),
    ],
    [(WINDOW, (b"w",), (b"3", b"100"))] * 5,
    [(MOVING, (b"m",), (b"2", b"10", at)) for at in (b"100", b"101", b"102", b"111", b"112", b"113")],
    [(SORTED_WINDOW, (b"s",), (b"2", b"10", at)) for at in (b"100", b"101", b"102", b"111", b"112", b"113")],
    [(BUCKET, (b"b",), (b"2", b"0.5", at)) for at in (b"100", b"100", b"100", b"101", b"102", b"110", b"110.25")],
    [
        (ADD_JOB, (b"q",), (b'{"x":1}', b"\x92\xa4mail\x81\xa8priority\x05")),
        (ADD_JOB, (b"q",), (b'{"x":2}', b"\x92\xa4mail\x80")),
        (ADD_JOB, (b"q",), (b'{"x":3}', b"\x92\xa4late\x81\xa5delay\xcd\x03\xe8")),
        *[(TAKE_JOB, (b"q",), ())] * 3,
        ("return redis.call('zrange', KEYS[1], 0, -1, 'WITHSCORES')", (b"q:delayed",), ()),
        ("return redis.call('hget', KEYS[1], 'opts')", (b"q:1",), ()),
    ],
    [
        ("for at = 1, 5 do redis.call('zadd', KEYS[1], at, 'job' .. at) end return 'ok'", (b"z",), ()),
        *[(SWEEP, (b"z", b"r"), (b"4",))] * 3,
    ],
    [(COMPARE, (b"a", b"b"), (b'["x","y"]',)), (COMPARE, (b"a", b"b"), (b'["x","z"]',)), (COMPARE, (), (b"[]",))],
]


@pytest.mark.parametrize("story", STORIES, ids=range(len(STORIES)))
def test_what_libraries_do_by_scripts(
    theirs: Theirs, story: list[tuple[str, tuple[bytes, ...], tuple[bytes, ...]]]
) -> None:
    """Locks, limits of rates, queues: as programs have them that know nothing of slots."""
    ours = Scripted()
    for script, keys, argv in story:
        request = (b"EVAL", script.encode(), b"%d" % len(keys), *keys, *argv)
        assert in_resp(ours.run(*request)) == raw(theirs, *request), script


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
    for name in ("DBSIZE", "SCAN 0", "FLUSHALL", "RANDOMKEY"):
        words = ", ".join(f"'{word}'" for word in name.split())
        reply = Scripted().eval(f"return redis.pcall({words})")
        assert isinstance(reply, ReplyError)
        assert "every slot" in reply.text, name


def test_keys_are_listed_for_a_script_by_who_runs_it() -> None:
    """It asks for them, whatever it does about errors, and is begun anew with them."""
    ours = Scripted()
    with pytest.raises(Unlisted) as unlisted:
        ours.eval("return redis.pcall('KEYS', 'a*')")
    assert (unlisted.value.pattern, unlisted.value.database) == (b"a*", 0)
    request = scripted([b"EVAL", b"return redis.call('KEYS', 'a*')", b"0"], handed(bytes(CHANCE_BYTES)))
    scratch = Scratch({}, NOW, listed={(b"a*", 0): [b"a1", b"a2"]})
    assert eval_(scratch, request, NOW)[1] == [b"a1", b"a2"]


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
