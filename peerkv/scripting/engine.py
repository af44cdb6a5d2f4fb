"""Runs scripts: compiles and keeps them, hands in what they are given, and makes a reply of what they return.

A run is a function of what is handed in: the script, its keys and arguments, what `call` answers, and `chance`. It
reads no clock; how long it may take is counted in steps of Lua's machine. What makes it end (a limit, `kill`, a
BaseException that `call` raises) passes out of it whatever the script does about errors (see sandbox.lua).
"""

from __future__ import annotations

import pkgutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Final, TypeAlias

from peerkv.resp import CommandError, Reply, ReplyError, size_of_reply
from peerkv.scripting.conversions import argument_of, error_of, from_lua, integer_of, to_lua
from peerkv.scripting.packing import BIT, STRUCT, pack_float, unpack_float
from peerkv.scripting.shebang import FLAGS, Shebang, is_name, of_library, of_script

try:
    import lupa.lua51 as lua51
except ImportError:  # its wheels are not everywhere
    lua51 = None

Call: TypeAlias = Callable[[list[bytes]], Reply]
"""Runs a command for a script. An error that the script is to have is returned as a ReplyError; what is raised ends the
run, and passes out of it."""

Log: TypeAlias = Callable[[int, bytes], None]
"""`(level, text)`: what a script has logged, level 0 (debug) to 3 (warning)."""

REDIS_VERSION: Final = "7.2.0"
NOT_INSTALLED: Final = ReplyError("ERR scripts cannot be run on this node: install `lupa` (pip install lupa)")
NO_MEMORY: Final = "ERR the script needs too much memory: at most {} bytes are allowed"
MARGIN_BYTES: Final = 256 << 20
"""Of memory beyond a script's limit: what a command answers is put into Lua's memory where there must be enough."""
_VALUE_BYTES: Final = 100
"""What a value of Lua's takes beside its text, at most."""
_PORTION: Final = 200
"""Values that are handed over at a time, where they are many."""
_FILES: Final = ("patterns", "cjson", "cmsgpack")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a script may take."""

    steps_max: int = 50_000_000
    """Instructions of Lua's machine, about half a second."""
    time_ns_max: int = 0
    """By the stopwatch, where there is one: commands, and what is done with long strings, take longer than steps. 0: no
    limit."""
    memory_bytes_max: int = 256 << 20
    source_bytes_max: int = 1 << 20
    """Of one script: 50 ms to compile it."""
    scripts_max: int = 1024
    """That are kept compiled, and ..."""
    script_bytes_max: int = 16 << 20
    """... their sources. Those that were used longest ago go first."""


class Stopped(BaseException):
    """A run was ended from outside; what it has changed is to be thrown away. (No `Exception`, so that nobody on the
    way takes it for a fault.)"""


class TooLong(Stopped):
    """It has used up its steps."""


class Killed(Stopped):
    """Somebody wants it to end."""


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """A script that is compiled."""

    sha1: str
    flags: frozenset[str]
    """Those of its first line."""
    function: Any
    generation: int
    """Of the runtime that it was compiled for."""
    size: int


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a library."""

    name: str
    description: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """What the code of a library says of itself."""

    name: str
    functions: tuple[Function, ...]


@dataclass(slots=True, eq=False)
class _Loaded:
    """A library that is compiled."""

    name: str
    function: Any
    generation: int
    size: int


@dataclass(slots=True)
class _Run:
    """What the functions that Lua calls work on."""

    call: Call
    log: Log
    out: BaseException | None = None
    too_large: bool = False
    """What a command has answered is."""
    registered: dict[str, tuple[Function, Any]] = field(default_factory=dict)


def sha1_of(source: bytes) -> str:
    """By what EVALSHA knows a script."""
    return sha1(source, usedforsecurity=False).hexdigest()


class Engine:
    """One at a time runs in it; only `kill` may be called from another thread."""

    def __init__(
        self,
        limits: Limits | None = None,
        known: Callable[[bytes], bool] | None = None,
        stopwatch: Callable[[], int] = int,
    ) -> None:
        """`known`: whether a command is called so (redis.acl_check_cmd). `stopwatch`: nanoseconds; without one no time
        passes."""
        self.limits = limits or Limits()
        self._stopwatch = stopwatch
        self._ends_at = 0
        """By the stopwatch; 0: not by it."""
        self._known = known or (lambda _name: False)
        self._kept: OrderedDict[bytes, Script | _Loaded] = OrderedDict()
        self._kept_bytes = 0
        self._api: Any = None
        self._runtime: Any = None
        self._generation = 0
        self._killed = False
        self._run: _Run | None = None
        self._fresh_bytes = 0

    # -- what is kept

    def compiled(self, source: bytes) -> Script:
        """A script, compiled now or before. Raises CommandError if it is none."""
        self._ready()
        kept = self._kept.get(source)
        if type(kept) is Script and kept.generation == self._generation:
            self._kept.move_to_end(source)
            return kept
        shebang = of_script(source)
        function = self._compile("compile", shebang, b"@user_script", "Error compiling script (new function): ")
        script = Script(sha1_of(source), shebang.flags, function, self._generation, len(source))
        self._keep(source, script)
        return script

    def _library(self, source: bytes) -> _Loaded:
        self._ready()
        kept = self._kept.get(source)
        if type(kept) is _Loaded and kept.generation == self._generation:
            self._kept.move_to_end(source)
            return kept
        shebang = of_library(source)
        function = self._compile("compile_library", shebang, b"@user_function", "Error compiling function: ")
        loaded = _Loaded(shebang.name, function, self._generation, len(source))
        self._keep(source, loaded)
        return loaded

    def _compile(self, how: str, shebang: Shebang, name: bytes, context: str) -> Any:
        most = self.limits.source_bytes_max
        if len(shebang.code) > most:
            raise CommandError(ReplyError(f"ERR a script may be {most} bytes long, this one is {len(shebang.code)}"))
        api = self._api
        try:
            compiled = api[how](shebang.code, name)
        except lua51.LuaError:  # of memory
            self._renew()
            raise CommandError(self._no_memory()) from None
        if type(compiled) is tuple:
            text = compiled[1].decode("utf-8", "surrogateescape")
            raise CommandError(ReplyError(f"ERR {context}{text}"))
        return compiled

    def _keep(self, source: bytes, entry: Script | _Loaded) -> None:
        old = self._kept.pop(source, None)
        self._kept_bytes += entry.size - (old.size if old is not None else 0)
        self._kept[source] = entry
        limits = self.limits
        while self._kept and (len(self._kept) > limits.scripts_max or self._kept_bytes > limits.script_bytes_max):
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= dropped.size

    # -- runs

    def run(
        self,
        script: Script,
        keys: Sequence[bytes],
        argv: Sequence[bytes],
        call: Call,
        *,
        chance: bytes = bytes(8),
        log: Log = lambda _level, _text: None,
    ) -> Reply:
        """Run a script of `compiled`. Raises TooLong, Killed, and what `call` raises; a script's own errors, and that
        it needs too much memory, are the reply."""
        if script.generation != self._generation:
            raise AssertionError("a script is compiled for the runtime that runs it")
        run = _Run(call, log)
        answer = self._go("run", script.function, keys, argv, chance, run)
        return self._reply(answer, run, script.sha1)

    def library(self, source: bytes) -> Library:
        """What is in a library's code. Raises CommandError if it is none, TooLong, Killed."""
        loaded = self._library(source)
        run = self._load(loaded)
        return Library(loaded.name, tuple(function for function, _ in run.registered.values()))

    def _load(self, loaded: _Loaded) -> _Run:
        run = _Run(_no_call, lambda _level, _text: None)
        self._run = run
        self._killed = False
        self._ends_at = 0
        try:
            answer = _several(self._api["load"](loaded.function, self.limits.steps_max))
        except lua51.LuaError:
            answer = (2, b"memory")
        finally:
            self._run = None
        reply = self._reply(answer, run, "")
        if answer[0] == 1:
            text = answer[1].decode("utf-8", "surrogateescape")
            raise CommandError(ReplyError(f"ERR Error registering functions: {text}"))
        if answer[0] == 2 and isinstance(reply, ReplyError):
            raise CommandError(reply)
        if not run.registered:
            raise CommandError(ReplyError("ERR No functions registered"))
        return run

    def call_function(
        self,
        source: bytes,
        name: str,
        keys: Sequence[bytes],
        argv: Sequence[bytes],
        call: Call,
        *,
        chance: bytes = bytes(8),
        log: Log = lambda _level, _text: None,
        allowed: Callable[[Function], ReplyError | None] = lambda _function: None,
    ) -> Reply:
        """Call a function of a library, which is loaded anew for it: nothing that an earlier call has left behind is
        seen. `allowed`: what is said instead of calling it. Otherwise as `run`."""
        loaded = self._library(source)
        run = self._load(loaded)
        found = run.registered.get(name)
        if found is None:
            return ReplyError("ERR Function not found")
        function, body = found
        refused = allowed(function)
        if refused is not None:
            return refused
        run.call, run.log = call, log
        return self._reply(self._go("call", body, keys, argv, chance, run), run, name)

    def kill(self) -> None:
        """Have what runs now end soon, with Killed. From any thread."""
        self._killed = True

    def _go(
        self, how: str, function: Any, keys: Sequence[bytes], argv: Sequence[bytes], chance: bytes, run: _Run
    ) -> tuple[Any, ...]:
        api = self._api
        size = sum(map(len, keys)) + sum(map(len, argv)) + _VALUE_BYTES * (len(keys) + len(argv))
        if size > self.limits.memory_bytes_max:
            return (2, b"memory")
        low, high = int.from_bytes(chance[:4], "big"), int.from_bytes(chance[4:8], "big")
        self._run = run
        most = self.limits.time_ns_max
        began = self._stopwatch() if most else 0
        self._ends_at = began + most if began else 0
        self._killed = False
        try:
            count = len(keys)
            if count + len(argv) <= _PORTION:
                found = api[how](function, self.limits.steps_max, low, high, count, *keys, *argv)
            else:
                for is_keys, values in ((True, keys), (False, argv)):
                    for at in range(0, len(values), _PORTION):
                        api[b"feed"](is_keys, *values[at : at + _PORTION])
                found = api[how](function, self.limits.steps_max, low, high, -1)
            if type(found) is tuple and found[0] == 5:
                tokens: list[Any] = []
                for at in range(1, found[1] + 1, _PORTION):
                    tokens += _several(api[b"fetch"](at, min(at + _PORTION - 1, found[1])))
                api[b"starve"]()
                found = (4, *tokens)
        except lua51.LuaError:  # of memory: what is handed over is too much
            return (2, b"memory")
        finally:
            self._run = None
        return _several(found)

    def _reply(self, answer: tuple[Any, ...], run: _Run, name: str) -> Reply:
        code = answer[0]
        if code == 0:
            value = answer[1] if len(answer) > 1 else None
            return value if value is None or type(value) is bytes else integer_of(value)
        if code == 4:
            return from_lua(iter(answer[1:]))
        if code == 3:
            return error_of(answer[1])
        if code == 1:
            text, source, line = answer[1:]
            return error_of(b"%b script: %b, on %b:%d." % (text, name.encode(), source, line))
        return self._aborted(answer, run)

    def _aborted(self, answer: tuple[Any, ...], run: _Run) -> Reply:
        why = answer[1]
        if run.out is not None:
            raise run.out
        if run.too_large:
            why = b"memory"
        if why == b"steps":
            raise TooLong
        if why == b"killed":
            raise Killed
        self._renew()
        if why == b"memory":
            return self._no_memory()
        return ReplyError("ERR the script was ended by a fault of the machine that runs it")

    def _no_memory(self) -> ReplyError:
        return ReplyError(NO_MEMORY.format(self.limits.memory_bytes_max))

    # -- the runtime

    def _renew(self) -> None:
        """The next run is in a new runtime: this one's memory may be full of what it has left."""
        self._runtime = self._api = None
        self._generation += 1
        self._kept.clear()
        self._kept_bytes = 0

    def _ready(self) -> Any:
        """The functions of sandbox.lua, in a runtime that has room."""
        if self._api is not None and self._runtime.get_memory_used() > self.limits.memory_bytes_max // 4:
            self._runtime.gccollect()
            if self._runtime.get_memory_used() > self.limits.memory_bytes_max // 4:
                self._renew()
        if self._api is None:
            self._begin()
        return self._api

    def _begin(self) -> None:
        if lua51 is None:
            raise CommandError(NOT_INSTALLED)
        runtime = lua51.LuaRuntime(
            encoding=None,
            source_encoding="latin-1",
            attribute_filter=_no_attribute,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            max_memory=self.limits.memory_bytes_max + MARGIN_BYTES,
        )
        major, minor, patch = map(int, REDIS_VERSION.split("."))
        table = runtime.table_from
        functions: dict[bytes, Any] = {
            b"log": lambda level, text: self._now.log(level, text),  # noqa: PLW0108 - of the run of then
            b"sha1": lambda text: sha1_of(text).encode(),
            b"find": lambda text, part, begin: text.find(part, begin),
            b"known": lambda *words: type(words[0]) is bytes and self._known(words[0]),
            b"register": self._register,
            b"pack_float": pack_float,
            b"unpack_float": unpack_float,
            **{b"bit_%b" % name.encode(): function for name, function in BIT.items()},
            **{b"struct_%b" % name.encode(): function for name, function in STRUCT.items()},
        }
        host: dict[bytes, Any] = {
            b"functions": table(functions),
            b"call": self._caller(table),
            b"look": self._look,
            b"memory_kb_max": self.limits.memory_bytes_max >> 10,
            b"version": REDIS_VERSION.encode(),
            b"version_number": major << 16 | minor << 8 | patch,
            b"patterns": _chunk(runtime, "patterns")(),
            b"cjson": _chunk(runtime, "cjson"),
            b"cmsgpack": _chunk(runtime, "cmsgpack"),
        }
        handed = table(host)
        self._runtime = runtime
        self._api = _Api(_chunk(runtime, "sandbox")(handed))

    def _look(self) -> bytes | bool:
        """Why the run is to end now, or False."""
        if self._killed:
            return b"killed"
        return b"steps" if self._is_late() else False

    def _is_late(self) -> bool:
        return self._ends_at != 0 and self._stopwatch() > self._ends_at

    @property
    def _now(self) -> _Run:
        assert self._run is not None, "only what runs calls"
        return self._run

    def _caller(self, table: Callable[[Any], Any]) -> Callable[..., Any]:
        def call(protocol: int, *values: Any) -> Any:
            run = self._now
            if not values:
                return b"ERR Please specify at least one argument for this redis lib call", b"err"
            arguments: list[bytes] = []
            for value in values:
                if type(value) is not bytes:
                    value = argument_of(value)
                    if value is None:
                        return b"ERR Lua redis lib command arguments must be strings or integers", b"err"
                arguments.append(value)
            try:
                if self._ends_at and self._is_late():
                    raise TooLong
                reply = run.call(arguments)
                kind = type(reply)
                if kind is int or (kind is bytes and len(reply) < MARGIN_BYTES // 2):  # type: ignore[arg-type]
                    return reply
                if kind is str:
                    return reply.encode("utf-8", "surrogateescape"), b"ok"  # type: ignore[union-attr]
                if kind is ReplyError:
                    return reply.text.encode("utf-8", "surrogateescape"), b"err"  # type: ignore[union-attr]
                if 2 * size_of_reply(reply) + _VALUE_BYTES * _count(reply) > MARGIN_BYTES:
                    run.too_large = True
                    return None, b"out"
                return to_lua(reply, protocol, table)
            except BaseException as out:
                run.out = out
                return None, b"out"

        return call

    def _register(self, *arguments: Any) -> bytes | None:
        """redis.register_function: what is wrong with it, or None."""
        try:
            function, body = _registration(arguments)
        except _Unregistered as wrong:
            return b"ERR " + str(wrong).encode("utf-8", "surrogateescape")
        registered = self._now.registered
        if function.name in registered:
            return b"ERR Function already exists in the library"
        if len(registered) >= FUNCTIONS_MAX:
            return b"ERR a library has at most %d functions" % FUNCTIONS_MAX
        registered[function.name] = function, body
        return None


FUNCTIONS_MAX: Final = 1024


class _Api(dict[Any, Any]):
    """The functions of sandbox.lua by their names, looked up once."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        for name in ("compile", "compile_library", "feed", "starve", "run", "load", "call", "fetch"):
            self[name] = self[name.encode()] = table[name.encode()]


class _Unregistered(Exception):
    pass


def _registration(arguments: Sequence[Any]) -> tuple[Function, Any]:
    count = len(arguments)
    if not 1 <= count <= 2:
        raise _Unregistered("wrong number of arguments to redis.register_function")
    name: Any = None
    body: Any = None
    description: str | None = None
    flags: tuple[str, ...] = ()
    if count == 1:
        if lua51.lua_type(arguments[0]) != "table":
            raise _Unregistered(
                "calling redis.register_function with a single argument is only applicable to Lua table (representing"
                " named arguments)."
            )
        for key, value in arguments[0].items():
            match key:
                case b"function_name":
                    name = argument_of(value)
                    if name is None:
                        raise _Unregistered("function_name argument given to redis.register_function must be a string")
                case b"description":
                    text = argument_of(value)
                    if text is None:
                        raise _Unregistered("description argument given to redis.register_function must be a string")
                    description = text.decode("utf-8", "surrogateescape")
                case b"callback":
                    body = value
                    if lua51.lua_type(body) != "function":
                        raise _Unregistered("callback argument given to redis.register_function must be a function")
                case b"flags":
                    flags = _flags(value)
                case _:
                    raise _Unregistered("unknown argument given to redis.register_function")
        if name is None:
            raise _Unregistered("redis.register_function must get a function name argument")
        if body is None:
            raise _Unregistered("redis.register_function must get a callback argument")
    else:
        name, body = argument_of(arguments[0]), arguments[1]
        if name is None:
            raise _Unregistered("first argument to redis.register_function must be a string")
        if lua51.lua_type(body) != "function":
            raise _Unregistered("second argument to redis.register_function must be a function")
    if not is_name(name):
        raise _Unregistered(
            "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
        )
    return Function(name.decode(), description, flags), body


def _flags(value: Any) -> tuple[str, ...]:
    if lua51.lua_type(value) != "table":
        raise _Unregistered("flags argument to redis.register_function must be a table representing function flags")
    found: list[str] = []
    at = 1
    while (flag := value[at]) is not None:
        name = flag.decode("utf-8", "surrogateescape") if type(flag) is bytes else ""
        if name not in FLAGS:
            raise _Unregistered("unknown flag given")
        if name not in found:
            found.append(name)
        at += 1
    return tuple(found)


def _no_call(_arguments: list[bytes]) -> Reply:
    return ReplyError("ERR redis.call cannot be used while a library is loaded")


def _count(reply: Reply) -> int:
    """Values in a reply."""
    items = reply if isinstance(reply, list) else getattr(reply, "items", None)
    if isinstance(reply, dict):
        items = [item for pair in reply.items() for item in pair]
    if not isinstance(items, list):
        return 1
    return 1 + sum([1 if type(item) is bytes or type(item) is int else _count(item) for item in items])


def _several(found: Any) -> tuple[Any, ...]:
    return found if type(found) is tuple else (found,)


def _chunk(runtime: Any, name: str) -> Any:
    source = pkgutil.get_data("peerkv.scripting", f"{name}.lua")
    assert source is not None, f"{name}.lua is a part of the package"
    return runtime.compile(source, name="=(peerkv)")


def _no_attribute(_value: object, _name: object, _is_setting: bool) -> str:
    raise AttributeError("nothing of Python's is for scripts")
