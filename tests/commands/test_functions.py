"""Libraries of functions beside a real redis-server."""

from __future__ import annotations

from typing import Any

import pytest

from peerkv.commands import scripts
from peerkv.resp import CommandError, ReplyError
from peerkv.scripting import Library
from tests.commands.keyspace import Theirs
from tests.commands.scripts import Scripted, in_resp, raw

LIBRARIES = [
    "redis.register_function('f', function(keys, args) return {keys[1], args[1], #keys} end)",
    "redis.register_function{function_name='f', callback=function(k) redis.call('set', k[1], 'x') end,"  # noqa: ISC004
    " description='a b', flags={'no-writes','allow-oom'}}",
    "redis.register_function{function_name='f', callback=function(k) redis.call('get', k[1]) end,"  # noqa: ISC004
    " flags={'no-writes'}}",
    "return 1",
    "local x = +",
    "redis.call('get','x')",
    "redis.pcall('get','x')",
    "redis.setresp(3)",
    "return KEYS",
    "x = 1",
    "return y",
    "redis.register_function()",
    "redis.register_function(1)",
    "redis.register_function('f')",
    "redis.register_function('f', 1)",
    "redis.register_function(1, function() end)",
    "redis.register_function({}, function() end)",
    "redis.register_function('f', function() end, 3)",
    "redis.register_function('a-b', function() end)",
    "redis.register_function('', function() end)",
    "redis.register_function('f', function() end) redis.register_function('f', function() end)",
    "redis.register_function('f', function() end) redis.register_function('g', function() end)",
    "redis.register_function{}",
    "redis.register_function{function_name='f'}",
    "redis.register_function{callback=function() end}",
    "redis.register_function{function_name='f', callback=1}",
    "redis.register_function{function_name={}, callback=function() end}",
    "redis.register_function{function_name='f', callback=function() end, flags={'x'}}",
    "redis.register_function{function_name='f', callback=function() end, flags=1}",
    "redis.register_function{function_name='f', callback=function() end, flags={1}}",
    "redis.register_function{function_name='f', callback=function() end, description={}}",
    "redis.register_function{function_name='f', callback=function() end, foo=1}",
    "redis.register_function{function_name='f', callback=function() end, [1]=1}",
    "redis.register_function('f', function(k, a) error('x') end)",
    "redis.register_function('f', function(k, a)\n return redis.call('incr', 's') end)",
    "redis.register_function('f', function(k, a) return KEYS end)",
    "redis.register_function('f', function(k, a) z=1 end)",
    "redis.register_function('f', function(k, a) local x=nil; x.y=1 end)",
    "local r=redis redis.register_function('f', function(k, a) return {type(r.call)} end)",
    "redis.register_function('f', function(k, a) return redis.register_function('g', function() end) end)",
    "redis.register_function('f', function(k, a) return {cjson.encode({1}), math.max(1,2), redis.sha1hex('')} end)",
    "redis.log(redis.LOG_NOTICE, 'x') redis.register_function('f', function() return redis.call('hgetall', 'h') end)",
    "local function h() return 5 end redis.register_function('f', function() return h() end)",
    "redis.register_function('f', function() return redis.sha1hex() end)",
    "redis.register_function('f', function() return redis.error_reply('My error') end)",
    "redis.register_function('f', function(k, a) return #a end)",
]
CODES = [
    *(f"#!lua name=lib\n{code}" for code in LIBRARIES),
    "redis.register_function('f', function() end)",
    "#!lua\nreturn 1",
    "#!lua name=\nreturn 1",
    "#!lua name=a-b\nreturn 1",
    "#!js name=x\nreturn 1",
    "#!lua name=x foo=y\nx",
    "#!lua name=x name=y\nx",
    "#!lua name=x",
    "#! lua name=lib\nreturn 1",
    "#!LUA name=lib\nredis.register_function('f', function() return 1 end)",
    "#!lua NAME=lib\nredis.register_function('f', function() return 1 end)",
]
CALLS = [
    (b"FCALL", b"f", b"1", b"k1", b"a1"),
    (b"FCALL_RO", b"f", b"1", b"k1", b"a1"),
    (b"FCALL", b"f", b"x"),
    (b"FCALL", b"f", b"-1"),
    (b"FCALL", b"f", b"5", b"a"),
]


def taken(source: bytes) -> Library | ReplyError:
    try:
        return scripts.ENGINE.library(source)
    except CommandError as error:
        return error.reply


@pytest.mark.parametrize("code", CODES)
def test_a_library_is_taken_listed_and_called_as_by_redis(theirs: Theirs, code: str) -> None:
    source = code.encode()
    theirs.ask(b"FUNCTION", b"FLUSH")
    ours = Scripted()
    ours.eval("redis.call('SET', 's', 'abc') redis.call('HSET', 'h', 'a', '1')")
    theirs.ask(b"SET", b"s", b"abc")
    theirs.ask(b"HSET", b"h", b"a", b"1")
    loaded = raw(theirs, b"FUNCTION", b"LOAD", source)
    library = taken(source)
    assert in_resp(library.name.encode() if isinstance(library, Library) else library) == loaded
    if isinstance(library, ReplyError):
        return
    listed: Any = theirs.ask(b"FUNCTION", b"LIST")
    functions = [dict(zip(row[::2], row[1::2], strict=True)) for row in listed[0][5]]
    assert sorted(
        (function[b"name"], function[b"description"], sorted(function[b"flags"])) for function in functions
    ) == (
        sorted(
            (
                function.name.encode(),
                function.description and function.description.encode(),
                sorted(flag.encode() for flag in function.flags),
            )
            for function in library.functions
        )
    )
    if not any(function.name == "f" for function in library.functions):
        return
    for request in CALLS:
        assert in_resp(ours.run(*request, library=source)) == raw(theirs, *request)


def test_what_a_call_leaves_behind_is_not_seen_by_the_next() -> None:
    """In Redis it is; here a call is a function of what it is given, wherever it runs."""
    code = b"#!lua name=lib\nlocal n = 0 redis.register_function('f', function() n = n + 1 return n end)"
    ours = Scripted()
    assert [ours.run(b"FCALL", b"f", b"0", library=code) for _ in range(3)] == [1, 1, 1]


def test_a_library_has_not_more_functions_than_is_allowed() -> None:
    code = "#!lua name=lib\nfor i = 1, 2000 do redis.register_function('f' .. i, function() end) end"
    with pytest.raises(CommandError) as refused:
        scripts.ENGINE.library(code.encode())
    assert "at most 1024 functions" in refused.value.reply.text


def test_a_function_that_is_not_there() -> None:
    code = b"#!lua name=lib\nredis.register_function('f', function() end)"
    assert in_resp(Scripted().run(b"FCALL", b"g", b"0", library=code)) == b"-ERR Function not found\r\n"
