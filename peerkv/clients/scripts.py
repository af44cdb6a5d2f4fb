"""EVAL, FCALL, SCRIPT and FUNCTION: which script is meant, and that the cluster knows it.

Scripts and libraries are two hashes that no client sees (`commands.scripts`), replicated like any others. A node keeps
the scripts that it has seen; of libraries it looks at every call whether it still knows the newest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.peer import Peer
from peerkv.agreement.survey import Asking
from peerkv.agreement.view import View
from peerkv.cbor import dump, load
from peerkv.clients.session import Services
from peerkv.commands.access import SYNTAX
from peerkv.commands.patterns import PATTERN_BYTES_MAX, PATTERN_TOO_LONG, matcher
from peerkv.commands.scripts import (
    AT_LEISURE,
    ENGINE,
    KEPT_BYTES_MAX,
    KEPT_MAX,
    LIBRARIES,
    SCRIPTS,
    handed,
    keep_request,
    library_request,
    scripted,
)
from peerkv.commands.table import CHANCE_BYTES, COMMANDS, Command, find_part, help_of, placed, subcommand_of
from peerkv.commands.transactions import look_request
from peerkv.resp import OK, CommandError, Map, Reply, ReplyError
from peerkv.scripting import sha1_of
from peerkv.transactions import Gathered, Transactions

if TYPE_CHECKING:
    from random import Random

NOT_BUSY: Final = ReplyError("NOTBUSY No scripts in execution right now.")
BAD_PAYLOAD: Final = ReplyError("ERR payload version or checksum are wrong")
PAYLOAD: Final = b"PKV1"
"""What FUNCTION DUMP answers begins with this; it is read by FUNCTION RESTORE here."""


class Scripts:
    """Of all connections of a node."""

    def __init__(
        self, services: Services, view: View, coordinator: Coordinator, transactions: Transactions, rng: Random
    ) -> None:
        self._services = services
        self._view = view
        self._coordinator = coordinator
        self._transactions = transactions
        self._rng = rng
        self._known: OrderedDict[bytes, bytes] = OrderedDict()
        """SHA1 -> script, those used last at the end."""
        self._known_bytes = 0
        self._libraries: dict[str, bytes] = {}
        """Function -> the code of its library, ..."""
        self._libraries_seen = -1
        """... as of this version of the hash."""

    # -- running

    def ready(self, row: Command, request: list[bytes], number: int) -> Asking[list[bytes]]:
        """A client's EVAL or FCALL of a database, as it is run. Raises CommandError if nobody can be asked for it."""
        library = b""
        if row.name.startswith("fcall"):
            code = yield from self._library_of(request[1].decode("utf-8", "surrogateescape"))
            if code is None:
                return [b"PEERKV.NOFUNCTION", b""]
            library = code
        elif row.name.startswith("evalsha"):
            source = yield from self._script_of(request[1].lower())
            if source is None:
                return [b"PEERKV.NOSCRIPT", b""]
            request = [b"EVAL_RO" if row.name.endswith("_ro") else b"EVAL", source, *request[2:]]
        else:
            yield from self._meet(request[1])
        if number:
            request = placed(request, number)
        skew = self._services.clock.skew_ms
        return scripted(request, handed(self._rng.randbytes(CHANCE_BYTES), skew, number, library))

    def _script_of(self, name: bytes) -> Asking[bytes | None]:
        source = self._known.get(name)
        if source is not None:
            self._known.move_to_end(name)
            return source
        source = yield from self._read([b"HGET", SCRIPTS, name])
        if isinstance(source, ReplyError):
            raise CommandError(source)
        if not isinstance(source, bytes) or sha1_of(source).encode() != name:
            return None
        self._keep(name, source)
        return source

    def _meet(self, source: bytes) -> Asking[None]:
        """A script is run: the cluster knows it from now on. (If it cannot be told, the script is run all the same.)"""
        name = sha1_of(source).encode()
        if name in self._known:
            self._known.move_to_end(name)
            return
        try:
            ENGINE.compiled(source)
        except CommandError:
            return  # who runs it says so
        if not isinstance((yield from self._write(keep_request(source))), ReplyError):
            self._keep(name, source)

    def _keep(self, name: bytes, source: bytes) -> None:
        self._known[name] = source
        self._known_bytes += len(source)
        while len(self._known) > KEPT_MAX or self._known_bytes > KEPT_BYTES_MAX:
            _, dropped = self._known.popitem(last=False)
            self._known_bytes -= len(dropped)

    def forget(self, _peer: Peer | None = None) -> None:
        """SCRIPT FLUSH, here or at a peer."""
        self._known.clear()
        self._known_bytes = 0

    def _library_of(self, function: str) -> Asking[bytes | None]:
        found = yield from self._read(look_request([LIBRARIES]), [LIBRARIES])
        if isinstance(found, ReplyError):
            raise CommandError(found)
        seen = found[0] if isinstance(found, list) else None
        if seen is None or seen != self._libraries_seen:
            codes = yield from self._codes()
            if codes is not None and isinstance(seen, int):
                libraries = [(ENGINE.library(code), code) for code in codes.values()]
                self._libraries = {each.name: code for library, code in libraries for each in library.functions}
                self._libraries_seen = seen
        return self._libraries.get(function)

    def _codes(self) -> Asking[dict[bytes, bytes] | None]:
        found = yield from self._read([b"HGETALL", LIBRARIES])
        if not isinstance(found, Map):
            return None
        return dict(zip(found.items[::2], found.items[1::2], strict=True))  # type: ignore[arg-type]

    # -- SCRIPT

    def script(self, request: Sequence[bytes]) -> Asking[Reply]:
        """What a SCRIPT command answers."""
        row = COMMANDS["script"]
        own = subcommand_of(row, request)
        if isinstance(own, ReplyError):
            return own
        match own.name.partition("|")[2]:
            case "load":
                try:
                    ENGINE.compiled(request[2])
                except CommandError as error:
                    return error.reply
                reply = yield from self._write(keep_request(request[2]))
                if isinstance(reply, ReplyError):
                    return reply
                name = sha1_of(request[2]).encode()
                self._keep(name, request[2])
                return name
            case "exists":
                reply = yield from self._read([b"HMGET", SCRIPTS, *[name.lower() for name in request[2:]]])
                return [int(source is not None) for source in reply] if isinstance(reply, list) else reply
            case "flush":
                if len(request) > 3 or (len(request) == 3 and request[2].upper() not in (b"ASYNC", b"SYNC")):
                    return ReplyError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
                reply = yield from self._write([b"PEERKV.DEL", SCRIPTS])
                self.forget()
                self._view.tell_all("scripts")
                return reply if isinstance(reply, ReplyError) else OK
            case "kill":
                return self._kill()
            case _:
                return help_of(row)

    def _kill(self) -> Reply:
        if not self._transactions.running:
            return NOT_BUSY
        AT_LEISURE.kill()
        return OK

    # -- FUNCTION

    def function(self, request: Sequence[bytes]) -> Asking[Reply]:
        """What a FUNCTION command answers."""
        row = COMMANDS["function"]
        own = subcommand_of(row, request)
        if isinstance(own, ReplyError):
            return own
        match own.name.partition("|")[2]:
            case "load":
                replaces = len(request) == 4 and request[2].upper() == b"REPLACE"
                if len(request) != 3 + replaces:
                    return ReplyError(f"ERR Unknown option given: {request[2].decode('utf-8', 'replace')}")
                return (yield from self._write(library_request(b"REPLACE" if replaces else b"LOAD", request[-1])))
            case "delete":
                return (yield from self._write(library_request(b"DELETE", request[2])))
            case "flush":
                if len(request) > 3 or (len(request) == 3 and request[2].upper() not in (b"ASYNC", b"SYNC")):
                    return ReplyError("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
                return (yield from self._write(library_request(b"FLUSH")))
            case "list":
                return (yield from self._list(request[2:]))
            case "dump":
                codes = yield from self._codes()
                return PAYLOAD + dump(list(codes.values())) if codes is not None else SYNTAX
            case "restore":
                return (yield from self._restore(request[2:]))
            case "stats":
                codes = yield from self._codes()
                libraries = [ENGINE.library(code) for code in (codes or {}).values()]
                count: list[Reply] = [b"libraries_count", len(libraries)]
                count += [b"functions_count", sum([len(library.functions) for library in libraries])]
                return Map([b"running_script", None, b"engines", Map([b"LUA", Map(count)])])
            case "kill":
                return self._kill()
            case _:
                return help_of(row)

    def _list(self, options: Sequence[bytes]) -> Asking[Reply]:
        matches: Callable[[bytes], object] = bool
        with_code = False
        words = iter(options)
        for word in words:
            if word.upper() == b"WITHCODE":
                with_code = True
            elif word.upper() == b"LIBRARYNAME":
                pattern = next(words, None)
                if pattern is None:
                    return ReplyError("ERR library name argument was not given")
                if len(pattern) > PATTERN_BYTES_MAX:
                    return PATTERN_TOO_LONG
                matches = matcher(pattern)
            else:
                return ReplyError(f"ERR Unknown argument {word.decode('utf-8', 'replace')}")
        codes = yield from self._codes()
        return [_described(code, with_code=with_code) for name, code in (codes or {}).items() if matches(name)]

    def _restore(self, arguments: Sequence[bytes]) -> Asking[Reply]:
        policy = arguments[1].upper() if len(arguments) > 1 else b"APPEND"
        if len(arguments) > 2 or policy not in (b"APPEND", b"FLUSH", b"REPLACE"):
            return ReplyError("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
        payload = arguments[0]
        try:
            codes: Any = load(payload[len(PAYLOAD) :]) if payload.startswith(PAYLOAD) else None
        except ValueError:
            codes = None
        if type(codes) is not list or not all(type(code) is bytes for code in codes):
            return BAD_PAYLOAD
        return (yield from self._write(library_request(b"RESTORE", policy, *codes)))

    # -- asking

    def _read(self, request: list[bytes], keys: list[bytes] | None = None) -> Asking[Any]:
        row = find_part(request[0])
        assert row is not None, "it is of the table"
        assert row.run is not None, "it is of the table"
        key = keys[0] if keys is not None else request[1]
        gathered = Gathered(1)
        now = self._services.clock.cluster_ms
        self._coordinator.reads.read(self._view.slot_of(key), request, row.run, now, gathered, 0, keys)
        yield gathered.event
        return gathered.replies[0]

    def _write(self, request: list[bytes]) -> Asking[Reply]:
        gathered = Gathered(1)
        self._coordinator.write(self._view.slot_of(request[1]), request, gathered, 0)
        yield gathered.event
        return gathered.replies[0]


def _described(code: bytes, *, with_code: bool) -> Reply:
    library = ENGINE.library(code)
    functions: list[Reply] = [
        Map(
            [
                b"name",
                each.name.encode("utf-8", "surrogateescape"),
                b"description",
                each.description.encode("utf-8", "surrogateescape") if each.description is not None else None,
                b"flags",
                [flag.encode() for flag in each.flags],
            ]
        )
        for each in library.functions
    ]
    items: list[Reply] = [b"library_name", library.name.encode("utf-8", "surrogateescape"), b"engine", b"LUA"]
    items += [b"functions", functions]
    return Map([*items, b"library_code", code] if with_code else items)
