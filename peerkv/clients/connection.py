"""The commands that concern a client's connection, the node, or the cluster as the node sees it: answered at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from peerkv import reports
from peerkv.clients import server
from peerkv.clients.session import Services, Session
from peerkv.commands import catalogue
from peerkv.commands.table import Command, arity_error, help_of, subcommand_of
from peerkv.resp import OK, Reply, ReplyError, Verbatim, parse_integer

SYNTAX: Final = ReplyError("ERR syntax error")
NO_REPLY: Final = ReplyError("no reply")
"""CLIENT REPLY OFF and SKIP answer nothing, not even this."""
CLIENT_TYPES: Final = (b"NORMAL", b"MASTER", b"REPLICA", b"SLAVE", b"PUBSUB")
WRONG_PASSWORD: Final = ReplyError("WRONGPASS invalid username-password pair or user is disabled.")
NAME_BYTES_MAX: Final = 512


def run(services: Services, session: Session, command: Command, request: Sequence[bytes]) -> Reply:
    """Answer a command of kind SESSION."""
    if command.subcommands and len(request) > 1:
        subcommand = subcommand_of(command, request)
        if isinstance(subcommand, ReplyError):
            return subcommand
        if subcommand.name.endswith("|help"):
            return help_of(command)
    match command.name:
        case "ping":
            if len(request) > 2:
                return arity_error(command)
            return request[1] if len(request) == 2 else "PONG"
        case "echo":
            return request[1]
        case "hello":
            return _hello(session, request)
        case "auth":
            if len(request) > 3:
                return SYNTAX
            if len(request) == 3:
                return OK if request[1] == b"default" else WRONG_PASSWORD
            return ReplyError(
                "ERR AUTH <password> called without any password configured for the default user."
                " Are you sure your configuration is correct?"
            )
        case "select":
            return _select(request)
        case "quit":
            session.closing = True
            return OK
        case "reset":
            _reset(session)
            return "RESET"
        case "client":
            return _client(services, session, request)
        case "command":
            return catalogue.command(request)
        case "info":
            return reports.info(services.settings, services.process, services.statistics(), request[1:])
        case "config":
            return server.config(services, request)
        case "time":
            seconds, milliseconds = divmod(services.clock.cluster_ms + services.clock.skew_ms, 1000)
            return [b"%d" % seconds, b"%d" % (milliseconds * 1000)]
        case "cluster":
            return server.cluster(services, request)
        case "readonly" | "readwrite":
            session.any_copy = command.name == "readonly"
            return OK
        case "asking":
            return OK  # every read is served, and linearizable, at any node
        case "waitaof":
            return ReplyError("ERR WAITAOF cannot be used: there is no append-only file here, copies are in memory")
        case "lolwut":
            return Verbatim(f"peerkv, in the manner of Redis {reports.REDIS_VERSION}\n".encode())
        case _:
            raise AssertionError(f"{command.name} is no command of a session")


def _hello(session: Session, request: Sequence[bytes]) -> Reply:
    protocol = session.protocol
    if len(request) > 1:
        version = parse_integer(request[1])
        if version is None:
            return ReplyError("ERR Protocol version is not an integer or out of range")
        if version not in (2, 3):
            return ReplyError("NOPROTO unsupported protocol version")
        protocol = version
    name = None
    options = iter(request[2:])
    for option in options:
        match option.upper():
            case b"AUTH":
                user, password = next(options, None), next(options, None)
                if user is None or password is None:
                    return _hello_syntax(option)
                if user != b"default":
                    return WRONG_PASSWORD
            case b"SETNAME":
                name = next(options, None)
                if name is None:
                    return _hello_syntax(option)
                if not _is_name(name):
                    return _bad_name("Client names")
            case _:
                return _hello_syntax(option)
    session.protocol = protocol
    if name is not None:
        session.name = name
    return {
        b"server": b"redis",
        b"version": reports.REDIS_VERSION.encode(),
        b"proto": protocol,
        b"id": session.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }


def _hello_syntax(option: bytes) -> ReplyError:
    return ReplyError(f"ERR Syntax error in HELLO option '{option.decode('utf-8', 'surrogateescape')}'")


def _select(request: Sequence[bytes]) -> Reply:
    index = parse_integer(request[1])
    if index is None:
        return ReplyError("ERR value is not an integer or out of range")
    if index != 0:
        return ReplyError("ERR DB index is out of range: there is one keyspace here, 0")
    return OK


def _reset(session: Session) -> None:
    session.protocol = 2
    session.name = b""
    session.muted = session.skips = session.any_copy = False


# -- CLIENT


def _is_name(name: bytes) -> bool:
    return len(name) <= NAME_BYTES_MAX and all(33 <= char <= 126 for char in name)


def _bad_name(what: str) -> ReplyError:
    return ReplyError(f"ERR {what} cannot contain spaces, newlines or special characters.")


def _client(services: Services, session: Session, request: Sequence[bytes]) -> Reply:
    match [request[1].upper(), *request[2:]]:
        case [b"ID"]:
            return session.id
        case [b"GETNAME"]:
            return session.name or None
        case [b"SETNAME", name]:
            if not _is_name(name):
                return _bad_name("Client names")
            session.name = name
            return OK
        case [b"SETINFO", attribute, value]:
            return _set_info(session, attribute, value)
        case [b"INFO"]:
            return Verbatim(_described(services, session) + b"\n")
        case [b"LIST", *options]:
            return _list(services, options)
        case [b"KILL", *options] if options:
            return _kill(services, session, options)
        case [b"NO-EVICT" | b"NO-TOUCH", switch] if switch.upper() in (b"ON", b"OFF"):
            return OK
        case [b"REPLY", switch]:
            return _reply_mode(session, switch)
        case [b"GETREDIR"]:
            return -1
        case [b"UNPAUSE"]:
            return OK
        case [b"TRACKING" | b"PAUSE" | b"CACHING" as subcommand, *_]:
            return ReplyError(f"ERR CLIENT {subcommand.decode()} is not supported here")
        case _:
            return SYNTAX


def _set_info(session: Session, attribute: bytes, value: bytes) -> Reply:
    match attribute.upper():
        case b"LIB-NAME":
            if not _is_name(value):
                return _bad_name("lib-name")
            session.library = value
        case b"LIB-VER":
            if not _is_name(value):
                return _bad_name("lib-ver")
            session.library_version = value
        case _:
            return ReplyError(f"ERR Unrecognized option '{attribute.decode('utf-8', 'surrogateescape')}'")
    return OK


def _reply_mode(session: Session, switch: bytes) -> Reply:
    match switch.upper():
        case b"ON":
            session.muted = session.skips = False
            return OK
        case b"OFF":
            session.muted = True
            return NO_REPLY
        case b"SKIP":
            session.skips = not session.muted
            return NO_REPLY
        case _:
            return SYNTAX


def _described(services: Services, session: Session) -> bytes:
    now = services.clock.now
    fields: tuple[tuple[str, object], ...] = (
        ("id", session.id),
        ("addr", session.address),
        ("laddr", session.local),
        *((("fd", session.fd),) if session.fd >= 0 else ()),
        ("name", session.name.decode()),
        ("age", int(now - session.opened)),
        ("idle", int(now - session.last_active)),
        ("flags", "N"),
        ("db", 0),
        ("sub", 0),
        ("psub", 0),
        ("ssub", 0),
        ("multi", -1),
        ("qbuf", session.requests.unfinished),
        ("omem", session.unread),
        ("cmd", session.last_command or "NULL"),
        ("user", "default"),
        ("redir", -1),
        ("resp", session.protocol),
        ("lib-name", session.library.decode()),
        ("lib-ver", session.library_version.decode()),
    )
    return " ".join(f"{key}={value}" for key, value in fields).encode()


def _list(services: Services, options: Sequence[bytes]) -> Reply:
    chosen: Iterable[Session] = services.sessions.values()
    match [option.upper() for option in options]:
        case []:
            pass
        case [b"TYPE", kind]:
            if kind not in CLIENT_TYPES:
                return ReplyError(f"ERR Unknown client type '{options[1].decode('utf-8', 'surrogateescape')}'")
            chosen = chosen if kind == b"NORMAL" else ()
        case [b"ID", _, *_]:
            ids = [parse_integer(option) for option in options[1:]]
            if any(number is None or number < 1 for number in ids):
                return ReplyError("ERR Invalid client ID")
            chosen = [session for session in chosen if session.id in ids]
        case _:
            return SYNTAX
    return Verbatim(b"".join(_described(services, session) + b"\n" for session in chosen))


def _kill(services: Services, session: Session, options: Sequence[bytes]) -> Reply:
    sessions = list(services.sessions.values())
    if len(options) == 1:
        address = options[0].decode("utf-8", "surrogateescape")
        found = [other for other in sessions if other.address == address]
        if not found:
            return ReplyError("ERR No such client")
        _end(services, session, found[0])
        return OK
    if len(options) % 2:
        return SYNTAX
    spares_me = True
    chosen = sessions
    for name, value in zip(options[::2], options[1::2], strict=True):
        text = value.decode("utf-8", "surrogateescape")
        match name.upper():
            case b"ID":
                number = parse_integer(value)
                if number is None or number < 1:
                    return ReplyError("ERR client-id should be greater than 0")
                chosen = [other for other in chosen if other.id == number]
            case b"ADDR":
                chosen = [other for other in chosen if other.address == text]
            case b"LADDR":
                chosen = [other for other in chosen if other.local == text]
            case b"TYPE":
                if text.upper().encode() not in CLIENT_TYPES:
                    return ReplyError(f"ERR Unknown client type '{text}'")
                chosen = chosen if text.lower() == "normal" else []
            case b"USER":
                if text != "default":
                    return ReplyError(f"ERR No such user '{text}'")
            case b"SKIPME":
                if text.lower() not in ("yes", "no"):
                    return SYNTAX
                spares_me = text.lower() == "yes"
            case _:
                return SYNTAX
    killed = [other for other in chosen if not (spares_me and other is session)]
    for other in killed:
        _end(services, session, other)
    return len(killed)


def _end(services: Services, session: Session, other: Session) -> None:
    """Others are cut off at once; who kills itself gets its reply first."""
    if other is session:
        session.closing = True
    else:
        services.kill(other)
