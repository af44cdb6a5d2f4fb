"""The commands that concern a client's connection, the node, or the cluster as the node sees it: answered at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from peerkv import reports
from peerkv.clients import server
from peerkv.clients.session import CHANNELS, PATTERNS, SHARDS, Services, Session, Voice
from peerkv.commands import catalogue
from peerkv.commands.access import INTEGER_MAX, NOT_AN_INTEGER, SYNTAX, database
from peerkv.commands.table import Command, arity_error
from peerkv.resp import OK, CommandError, Reply, ReplyError, Verbatim, as_said, parse_integer

NO_REPLY: Final = ReplyError("no reply")
"""CLIENT REPLY OFF and SKIP answer nothing, not even this."""
CLIENT_TYPES: Final = (b"NORMAL", b"MASTER", b"REPLICA", b"SLAVE", b"PUBSUB")
WRONG_PASSWORD: Final = ReplyError("WRONGPASS invalid username-password pair or user is disabled.")
NAME_BYTES_MAX: Final = 512


def run(services: Services, session: Session, command: Command, request: Sequence[bytes]) -> Reply:
    """Answer a command of kind SESSION; what it says of a subcommand is known to fit."""
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
            return _select(session, request)
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
        case "slowlog":
            return server.slowlog(services, request)
        case "latency":
            return server.latency(request)
        case "acl":
            return server.acl(request)
        case "module":
            return []
        case "role":
            return [b"master", 0, []]
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
    name = user = None
    options = iter(request[2:])
    for option in options:
        match option.upper():
            case b"AUTH":
                user, password = next(options, None), next(options, None)
                if user is None or password is None:
                    return _hello_syntax(option)
            case b"SETNAME":
                name = next(options, None)
                if name is None:
                    return _hello_syntax(option)
                if not _is_name(name):
                    return _bad_name("Client names")
            case _:
                return _hello_syntax(option)
    if user not in (None, b"default"):
        return WRONG_PASSWORD
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
    return ReplyError(f"ERR Syntax error in HELLO option '{as_said(option)}'")


def _select(session: Session, request: Sequence[bytes]) -> Reply:
    try:
        session.become(database=database(request[1]))
    except CommandError as error:
        return error.reply
    return OK


def _reset(session: Session) -> None:
    session.protocol = 2
    session.name = b""
    session.any_copy = session.no_evict = session.no_touch = False
    session.aloud = session.voice is Voice.MUTED
    session.become(voice=Voice.SPEAKS, database=0)


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
        case [b"NO-EVICT" | b"NO-TOUCH" as what, switch] if switch.upper() in (b"ON", b"OFF"):
            setattr(session, what.decode().lower().replace("-", "_"), switch.upper() == b"ON")
            return OK
        case [b"REPLY", switch]:
            return _reply_mode(session, switch)
        case [b"PAUSE", *arguments]:
            return _pause(services, arguments) if len(arguments) < 3 else server.unknown_form(request)
        case [b"UNPAUSE"]:
            services.unpause()
            return OK
        case [b"UNBLOCK", *arguments]:
            return _unblock(services, arguments) if len(arguments) < 3 else server.unknown_form(request)
        case _:
            return SYNTAX


def _set_info(session: Session, attribute: bytes, value: bytes) -> Reply:
    attributes = {b"LIB-NAME": "library", b"LIB-VER": "library_version"}
    if attribute.upper() not in attributes:
        return ReplyError(f"ERR Unrecognized option '{as_said(attribute)}'")
    if not _is_name(value):
        return _bad_name(as_said(attribute))
    setattr(session, attributes[attribute.upper()], value)
    return OK


def _reply_mode(session: Session, switch: bytes) -> Reply:
    match switch.upper():
        case b"ON":
            session.become(voice=Voice.SPEAKS)
            session.aloud = True
            return OK
        case b"OFF":
            session.become(voice=Voice.MUTED)
            return NO_REPLY
        case b"SKIP":
            if session.voice is not Voice.MUTED:
                session.become(voice=Voice.SKIPS)
            return NO_REPLY
        case _:
            return SYNTAX


def _pause(services: Services, arguments: Sequence[bytes]) -> Reply:
    mode = arguments[1].upper() if len(arguments) > 1 else b"ALL"
    if mode not in (b"ALL", b"WRITE"):
        return ReplyError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    milliseconds = parse_integer(arguments[0])
    if milliseconds is None:
        return ReplyError("ERR timeout is not an integer or out of range")
    if milliseconds < 0:
        return ReplyError("ERR timeout is negative")
    if milliseconds > INTEGER_MAX - services.clock.cluster_ms:
        return ReplyError("ERR timeout is out of range")
    services.pause(milliseconds, mode == b"WRITE")
    return OK


def _unblock(services: Services, arguments: Sequence[bytes]) -> Reply:
    reason = arguments[1].upper() if len(arguments) > 1 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        return ReplyError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    number = parse_integer(arguments[0])
    if number is None:
        return NOT_AN_INTEGER
    found = services.sessions.get(number)
    if found is None or not found.blocked:
        return 0
    found.unblock = reason.decode().lower()
    services.unblocked(found)
    return 1


def _last(session: Session) -> str:
    """The last command that a connection has asked for."""
    if session.last is None:
        return "NULL"
    return session.subcommand if session.subcommand.startswith(f"{session.last.name}|") else session.last.name


def _flags(session: Session) -> str:
    flags = (
        ("O", session.monitors),
        ("P", any(session.subscriptions)),
        ("x", session.queue is not None),
        ("b", session.blocked),
        ("t", session.tracker is not None),
        ("R", session.tracker is not None and session.tracker.broken),
        ("B", session.tracker is not None and session.tracker.bcast),
        ("c", session.closing),
        ("r", session.any_copy),
        ("e", session.no_evict),
        ("T", session.no_touch),
    )
    return "".join([flag for flag, holds in flags if holds]) or "N"


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
        ("flags", _flags(session)),
        ("db", session.database),
        ("sub", len(session.subscriptions[CHANNELS])),
        ("psub", len(session.subscriptions[PATTERNS])),
        ("ssub", len(session.subscriptions[SHARDS])),
        ("multi", len(session.queue.commands) if session.queue is not None else -1),
        ("qbuf", session.requests.unfinished),
        ("omem", session.unread),
        ("cmd", _last(session)),
        ("user", "default"),
        ("redir", session.tracker.redirect if session.tracker is not None else -1),
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
                return ReplyError(f"ERR Unknown client type '{as_said(options[1])}'")
            if kind not in (b"NORMAL", b"PUBSUB"):
                chosen = ()
            chosen = [each for each in chosen if any(each.subscriptions) == (kind == b"PUBSUB")]
        case [b"ID", _, *_]:
            ids = [parse_integer(option) for option in options[1:]]
            if None in ids:
                return ReplyError("ERR Invalid client ID")
            chosen = [services.sessions[number] for number in ids if number in services.sessions]
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
    wanted: dict[str, object] = {}
    spares_me = True
    parts = iter(options)
    for name in parts:
        value = next(parts, None)
        if value is None:
            return SYNTAX
        text = value.decode("utf-8", "surrogateescape")
        match name.upper():
            case b"ID":
                number = parse_integer(value)
                if number is None or number < 1:
                    return ReplyError("ERR client-id should be greater than 0")
                wanted["id"] = number
            case b"ADDR":
                wanted["address"] = text
            case b"LADDR":
                wanted["local"] = text
            case b"TYPE":
                if value.upper() not in CLIENT_TYPES:
                    return ReplyError(f"ERR Unknown client type '{text}'")
                sessions = sessions if value.upper() == b"NORMAL" else []
            case b"USER":
                if text != "default":
                    return ReplyError(f"ERR No such user '{text}'")
            case b"SKIPME":
                if text.lower() not in ("yes", "no"):
                    return SYNTAX
                spares_me = text.lower() == "yes"
            case _:
                return SYNTAX
    chosen = [other for other in sessions if all(getattr(other, what) == value for what, value in wanted.items())]
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
