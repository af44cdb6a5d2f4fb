"""The engine by itself: limits hold whatever a script does, what `call` raises passes out, nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from peerkv.resp import CommandError, Reply, ReplyError
from peerkv.scripting import Engine, Killed, Limits, TooLong
from tests.scripting.odd import ODD


class Away(BaseException):
    """As a key that is elsewhere."""


def answered(arguments: list[bytes]) -> Reply:
    if arguments[0] == b"AWAY":
        raise Away
    return arguments[1] if len(arguments) > 1 else b"x" * 1000


def run(
    engine: Engine, script: str, keys: Sequence[bytes] = (), argv: Sequence[bytes] = (), chance: bytes = bytes(8)
) -> Reply:
    source = script.encode("utf-8", "surrogateescape")
    return engine.run(engine.compiled(source), keys, argv, answered, chance=chance)


def small(**limits: int) -> Engine:
    return Engine(Limits(**{"steps_max": 200_000, "memory_bytes_max": 32 << 20, **limits}))


CATCHERS = [
    "%s",
    "pcall(function() %s end) return 1",
    "while true do pcall(function() %s end) end",
    "xpcall(function() %s end, function(e) return e end) return 1",
    "xpcall(function() %s end, function(e) while true do end end) return 1",
    "coroutine.resume(coroutine.create(function() %s end)) return 1",
    "pcall(coroutine.wrap(function() %s end)) return 1",
    "while true do coroutine.resume(coroutine.create(function() %s end)) end",
    "local function f() pcall(f) %s end f() return 1",
    "return pcall(pcall, function() %s end)",
    "pcall(string.gsub, 'x', 'x', function() %s end) return 1",
    "pcall(table.sort, {1, 2}, function() %s end) return 1",
    "pcall(load, function() %s end) return 1",
    "pcall(function() return setmetatable({}, {__index = function() %s end}).x end) return 1",
    "pcall(tostring, setmetatable({}, {__tostring = function() %s end})) return 1",
    "pcall(cjson.encode, {1, function() end}) pcall(function() %s end) return 1",
]


@pytest.mark.parametrize("catcher", CATCHERS)
def test_what_call_raises_passes_out_of_all_frames(catcher: str) -> None:
    engine = small()
    for _ in range(2):
        with pytest.raises(Away):
            run(engine, catcher.replace("%s", "redis.call('AWAY')"))
        with pytest.raises(Away):
            run(engine, catcher.replace("%s", "redis.pcall('AWAY')"))
        assert run(engine, "return redis.call('ECHO', 'still')") == b"still"


@pytest.mark.parametrize("catcher", CATCHERS)
def test_a_run_that_is_too_long_ends_whatever_catches_it(catcher: str) -> None:
    engine = small()
    with pytest.raises(TooLong):
        run(engine, catcher.replace("%s", "while true do end"))
    assert run(engine, "return 7") == 7


LONG = [
    "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end",
    "while true do coroutine.wrap(function() end)() end",
    "return ('a'):rep(20000):find('.-.-.-.-b')",
    "return ('a'):rep(20000):match('a*a*a*a*b')",
    "return ('a'):rep(20000):gsub('a-a-a-a-b', '')",
    "for x in ('a'):rep(20000):gmatch('(.-)(.-)(.-)(.-)b') do end",
    "return (('a'):rep(100)):find(('a?'):rep(100) .. ('a'):rep(100) .. 'b')",
    "while true do ('x'):rep(1e6) end",
    "while true do (''):rep(1e9) end",
    "local t = {} for i = 1, 20000 do t[i] = i % 7 end while true do table.sort(t) end",
    "local t = {} for i = 1, 20000 do t[i] = 'x' end while true do table.concat(t) end",
    "local t = {} for i = 1, 20000 do t[i] = 'x' end while true do table.insert(t, 1, 'x') end",
    "local t = {} for i = 1, 20000 do t[i] = i end while true do cjson.encode(t) end",
    "local s = ('x'):rep(1e6) while true do redis.sha1hex(s) end",
    "local s = '[' .. ('1,'):rep(1e5) .. '1]' while true do cjson.decode(s) end",
    "local s = ('\\1'):rep(1e5) while true do cmsgpack.unpack_limit(s, 1000) end",
    "while true do loadstring(('x=1 '):rep(10000)) end",
    "local s = ('a'):rep(2e6) while true do s:find(('a'):rep(1e6) .. 'b', 1, true) end",
]


@pytest.mark.parametrize("script", LONG)
def test_what_takes_long_within_one_step_is_counted(script: str) -> None:
    engine = small()
    with pytest.raises(TooLong):
        run(engine, script)
    assert run(engine, "return 7") == 7


def test_the_steps_of_a_run_are_the_same_every_time() -> None:
    """Two nodes that run a script must not disagree about whether it is too long."""
    script = "local n = 0 while true do n = n + 1 redis.call('COUNT', n) end"
    engine = small()
    counts: list[int] = []

    def count(arguments: list[bytes]) -> Reply:
        counts[-1] = int(arguments[1])
        return 0

    for _ in range(3):
        counts.append(0)
        with pytest.raises(TooLong):
            engine.run(engine.compiled(script.encode()), [], [], count)
        run(engine, "return 1")
    assert len(set(counts)) == 1
    assert counts[0] > 1000


MUCH = [
    "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} pcall(function() while true do t[#t + 1] = ('x'):rep(100000) .. #t end end) return 1",
    "local t = {} while true do pcall(function() while true do t[#t + 1] = ('x'):rep(99999) .. #t end end) end",
    "local t = {} for i = 1, 1e5 do t[i] = redis.call('GET') .. i end return t",
    "local r = {} for i = 1, 40 do r[i] = coroutine.wrap(function() return ('x'):rep(1e6) .. i end)() end return r",
]


@pytest.mark.parametrize("script", MUCH)
def test_a_script_that_needs_too_much_memory_gets_an_error(script: str) -> None:
    engine = small(steps_max=10_000_000)
    for _ in range(2):
        reply = run(engine, script)
        assert isinstance(reply, ReplyError)
        assert "too much memory" in reply.text
        assert run(engine, "return {1, cjson.encode({a = 1})}") == [1, b'{"a":1}']


def test_arguments_that_do_not_fit_are_an_error_too() -> None:
    engine = small()
    reply = run(engine, "return #ARGV", argv=[b"x" * 1_000_000 + b"%d" % number for number in range(40)])
    assert isinstance(reply, ReplyError)
    assert "too much memory" in reply.text
    assert run(engine, "return 7") == 7


def test_many_arguments_and_many_results_arrive() -> None:
    engine = small()
    keys, argv = [b"k%d" % number for number in range(1000)], [b"a%d" % number for number in range(30_000)]
    assert run(engine, "return {KEYS[1000], #KEYS, ARGV[30000], #ARGV}", keys, argv) == [
        b"k999",
        1000,
        b"a29999",
        30000,
    ]
    assert run(engine, "return ARGV", keys, argv) == argv
    assert run(engine, "return {#KEYS, #ARGV}", [b"k"]) == [1, 0]


def test_what_is_returned_has_limits() -> None:
    engine = Engine()
    deep = run(engine, "local t = {} for i = 1, 1000 do t = {t} end return t")
    assert deep == ReplyError("ERR reached lua stack limit")
    assert isinstance(run(engine, "local t = {} t[1] = t return t"), ReplyError)
    wide = run(engine, "local t = {} for i = 1, 1048577 do t[i] = 1 end return t")
    assert isinstance(wide, ReplyError)
    assert "too much" in wide.text
    large = run(engine, "local s = ('x'):rep(4194304) local t = {} for i = 1, 17 do t[i] = s end return t")
    assert isinstance(large, ReplyError)


def test_a_run_is_killed_from_another_thread() -> None:
    engine = Engine(Limits(steps_max=1 << 40))
    began = threading.Event()

    def tell(_arguments: list[bytes]) -> Reply:
        began.set()
        return 0

    def kill() -> None:
        began.wait(60)
        engine.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(Killed):
        engine.run(engine.compiled(b"redis.call('BEGUN') while true do pcall(error) end"), [], [], tell)
    thread.join()
    assert run(engine, "return 7") == 7


@pytest.mark.parametrize("script", ["while true do pcall(redis.call, 'GET') end", "while true do pcall(error) end"])
def test_a_run_ends_when_its_time_by_the_stopwatch_is_over(script: str) -> None:
    """Commands that take long, and copies of long strings, are few steps."""
    readings: list[int] = []

    def stopwatch() -> int:
        readings.append(0)
        return 1_000_000 * len(readings)

    engine = Engine(Limits(steps_max=1 << 40, time_ns_max=20_000_000), stopwatch=stopwatch)
    with pytest.raises(TooLong):
        run(engine, script)
    assert len(readings) < 30
    assert run(engine, "return redis.call('ECHO', 'x')") == b"x"


def test_without_a_stopwatch_no_time_passes() -> None:
    engine = Engine(Limits(time_ns_max=1))
    assert run(engine, "for i = 1, 100000 do redis.call('GET') end return 7") == 7


def test_a_source_is_bounded() -> None:
    engine = Engine(Limits(source_bytes_max=1000))
    assert run(engine, "return 1 --" + "x" * 900) == 1
    with pytest.raises(CommandError):
        engine.compiled(b"return 1 --" + b"x" * 1000)
    with pytest.raises(CommandError):
        engine.library(b"#!lua name=x\nredis.register_function('f', function() end) --" + b"x" * 1000)


def test_scripts_that_are_kept_are_bounded() -> None:
    engine = Engine(Limits(scripts_max=10, script_bytes_max=1000))
    first = engine.compiled(b"return 0")
    for number in range(1, 30):
        assert run(engine, f"return {number}") == number
    assert len(engine._kept) == 10
    for number in range(30):
        assert run(engine, f"return {number} -- {'x' * 200}") == number
    assert engine._kept_bytes <= 1000
    assert engine.compiled(b"return 0") is not first
    assert run(engine, f"return 1 -- {'x' * 2000}") == 1
    assert engine._kept_bytes <= 1000


def test_chance_is_what_is_handed_in() -> None:
    engine = Engine()
    script = "return {tostring(math.random()), math.random(10), math.random(5, 9), tostring(math.random())}"
    first = run(engine, script, chance=b"12345678")
    assert run(engine, script, chance=b"12345678") == first
    assert run(engine, script, chance=b"12345679") != first
    assert run(engine, script, chance=b"02345678") != first
    drawn = run(engine, "local t = {} for i = 1, 60000 do local n = math.random(6) t[n] = (t[n] or 0) + 1 end return t")
    assert isinstance(drawn, list)
    assert len(drawn) == 6
    assert all(9500 < number < 10500 for number in drawn)  # type: ignore[operator]


LEFT = [
    "rawset(_G, 'x', 1)",
    "x = 1",
    "string.x = 1",
    "rawset(string, 'x', 1)",
    "table.insert(string, 1)",
    "table.insert(_G, 'x')",
    "setmetatable(_G, nil)",
    "setmetatable(string, {})",
    "getmetatable('').__index = {}",
    "getmetatable('').x = 1",
    "rawset(getmetatable(''), '__index', {})",
    "getmetatable(_G).__index = nil",
    "getmetatable(string).__index.x = 1",
    "redis.call = nil",
    "cjson.null = 1",
    "for k, v in pairs(_G) do _G[k] = nil end",
    "local f = next f(_G)(1)",
    "KEYS = {}",
    "rawset(KEYS, 1, 'x') KEYS[2] = 'y' ARGV.z = 1",
    "cjson.encode_sparse_array(true) cjson.encode_max_depth(1) cjson.encode_number_precision(3)",
    "math.randomseed(1)",
    "redis.setresp(3)",
    "collectgarbage('stop')",
    "debug.sethook()",
    "local e = getfenv() e.x = 1",
    "setfenv(1, {})",
    "setfenv(0, {})",
    "loadstring('x = 1')()",
    "load(function() return nil end)() loadstring('rawset(_G, \"x\", 1)')()",
    "require('os').exit(1)",
    "package.loaded.x = 1",
    "python.eval('1')",
    "coroutine.wrap(function() x = 1 end)()",
    "coroutine.create(function() end).x = 1",
    "local t = newproxy(true)",
    "redis.call.x = 1",
    "getmetatable(redis.call).__index = 1",
    "getmetatable(cjson.null).__gc(cjson.null)",
    "local ok, e = pcall(error, cjson.null) getmetatable(e).x = 1",
    "xpcall(function() x = 1 end, function(e) x = 1 end)",
    "string.gsub('x', 'x', function() string.y = 1 end)",
]
SEEN = (
    "local t = {} local function look(name, v, deep)"
    " t[#t + 1] = name .. ':' .. type(v)"
    " if type(v) == 'table' and deep < 2 then for k, w in pairs(v) do look(name .. '.' .. tostring(k), w, deep + 1)"
    " end end end look('_G', _G, 0) table.sort(t)"
    " return {table.concat(t, ' '), #KEYS, #ARGV, tostring(math.random()), cjson.encode({0.123456, {{}}}),"
    " tostring(({pcall(cjson.encode, {[99] = 1})})[1]), tostring(getmetatable('').__index == string),"
    " ('x'):upper(), tostring(redis.call('ECHO', 'y')), type(redis.pcall('ECHO'))}"
)


@pytest.mark.parametrize("script", LEFT)
def test_nothing_that_a_script_leaves_is_seen_by_another(script: str) -> None:
    engine = small()
    before = run(engine, SEEN)
    run(engine, script)
    run(engine, script, [b"a"], [b"b"])
    assert run(engine, SEEN) == before


def test_there_is_no_way_to_what_is_outside() -> None:
    engine = small()
    names = "io require dofile loadfile print debug package python newproxy getfenv setfenv module"
    for name in names.split():
        reply = run(engine, f"return {name}")
        assert isinstance(reply, ReplyError), name
        assert "nonexistent global variable" in reply.text
    assert run(engine, "local t = {} for k in pairs(os) do t[#t + 1] = k end return t") == [b"clock"]
    assert run(
        engine, "return {type(redis.call), type(string.rep), type(bit.band), type(struct.pack), type(cjson.encode)}"
    ) == ([b"function"] * 5)


def test_bytecode_is_not_taken() -> None:
    engine = small()
    code = "'\\27Lua\\81\\0\\1\\4\\8\\4\\8\\0'"
    assert run(engine, f"return type(loadstring({code}))") == b"nil"
    assert (
        run(engine, f"local once = {code} return type(load(function() local s = once once = nil return s end))")
        == b"nil"
    )
    pieces = "local t = {'\\27', 'Lua'} return type(load(function() return table.remove(t, 1) end))"
    assert run(engine, pieces) == b"nil"
    with pytest.raises(CommandError):
        engine.compiled(b"\x1bLuaQ\0\1\4\x08\4\x08\0")
    with pytest.raises(CommandError):
        engine.compiled(b"#!lua\n\x1bLuaQ")
    assert run(engine, "return type(string.dump)") == b"nil"


def test_what_c_would_overflow_on_is_refused() -> None:
    engine = small(steps_max=5_000_000)
    assert isinstance(run(engine, "return ('a'):rep(1e6):find(('a?'):rep(1e5))"), ReplyError)
    assert isinstance(run(engine, "return ('x'):find(('('):rep(1e5))"), ReplyError)
    assert isinstance(run(engine, "local function f() return f() + 1 end return f()"), ReplyError)
    assert isinstance(run(engine, "return loadstring(('('):rep(1e4) .. '1')()"), ReplyError)
    assert isinstance(run(engine, "return unpack({}, 1, 1e7)"), ReplyError)
    assert isinstance(run(engine, "return ('x'):rep(1e9)"), ReplyError)
    assert isinstance(run(engine, "return string.format('%99999d', 1)"), ReplyError)
    assert isinstance(run(engine, "local t = {} for i = 1, 3e5 do t = {t} end return cjson.encode(t)"), ReplyError)
    assert run(engine, "local function f() return pcall(f) end return type(f())") == b"boolean"
    assert run(engine, "return 7") == 7


@pytest.mark.parametrize("script", ODD)
def test_an_odd_script_ends_and_leaves_the_engine_as_it_was(script: str) -> None:
    """A crash here ends a node, and an exception that nobody has raised for a script is a fault of ours."""
    engine = Engine(Limits(steps_max=1_000_000))
    before = run(engine, SEEN)
    try:
        reply = run(engine, script)
    except TooLong:
        reply = None
    assert not isinstance(reply, ReplyError) or "(peerkv)" not in reply.text
    assert run(engine, SEEN) == before
