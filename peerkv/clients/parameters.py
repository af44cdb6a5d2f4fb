"""CONFIG: what clients and tools ask a Redis for, as far as it means something here, and what can be changed.

A parameter either is a setting of the node, which can be changed if it is one of `settings.LIVE`, or tells what is so
here and cannot be otherwise: it can be set to that, as programs do to be sure of it, and to nothing else. Settings that
Redis does not have are called `peerkv-...`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

from peerkv.clients.session import Services
from peerkv.commands.access import INTEGER_MAX, SYNTAX
from peerkv.commands.events import flags_of
from peerkv.commands.patterns import matcher
from peerkv.commands.slowlog import ENTRIES_MAX, SLOWLOG
from peerkv.resp import OK, Reply, ReplyError, parse_integer
from peerkv.settings import LIVE, Settings

INT_MAX: Final = (1 << 31) - 1
UINT_MAX: Final = (1 << 32) - 1
BYTES_LEAST: Final = 1 << 20
BYTES_MOST: Final = 1 << 40
SECONDS_MOST: Final = 86400.0
KEEPALIVE_MOST: Final = 32767
"""As Linux has it."""


class Wrong(ValueError):
    """Why a parameter cannot be set to that, as Redis says it."""


Parse: TypeAlias = Callable[[str], Any]
"""Text -> a setting's value. Raises Wrong."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of CONFIG's."""

    show: Callable[[Services], str]
    parse: Parse | None = None
    """None: it cannot be changed."""
    apply: Callable[[Services, Any], None] = lambda _services, _value: None
    immutable: bool = False
    """Redis itself cannot change it."""


def get(services: Services, patterns: Sequence[bytes]) -> Reply:
    """CONFIG GET pattern [pattern ...]: by a name as it was said, or all that a pattern matches."""
    found: dict[Reply, Reply] = {}
    for pattern in patterns:
        name = pattern.decode("utf-8", "surrogateescape").lower()
        if re.search(r"[*?\[]", name):
            matches = matcher(name.encode("utf-8", "surrogateescape"))
            found |= {known.encode(): _shown(services, known) for known in PARAMETERS if matches(known.encode())}
        elif name in PARAMETERS:
            found[pattern] = _shown(services, name)
    return found


def _shown(services: Services, name: str) -> bytes:
    return PARAMETERS[name].show(services).encode()


def set_(services: Services, arguments: Sequence[bytes]) -> Reply:
    """CONFIG SET parameter value [parameter value ...]: all of them, or none."""
    if len(arguments) % 2:
        return SYNTAX
    texts = [argument.decode("utf-8", "surrogateescape") for argument in arguments]
    said = list(zip(texts[::2], texts[1::2], strict=True))
    for name, _ in said:
        if name.lower() not in PARAMETERS:
            return ReplyError(f"ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
    values: dict[str, Any] = {}
    for name, text in said:
        try:
            if PARAMETERS[name.lower()].immutable:
                raise Wrong("can't set immutable config")
            if name.lower() in values:
                raise Wrong("duplicate parameter")
            values[name.lower()] = _parsed(services, name.lower(), text)
        except Wrong as wrong:
            return ReplyError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {wrong}")
    for name, value in values.items():
        PARAMETERS[name].apply(services, value)
    return OK


def _parsed(services: Services, name: str, text: str) -> Any:
    parameter = PARAMETERS[name]
    if parameter.parse is not None:
        if name == "maxclients" and int(parameter.parse(text)) > services.usage.clients_possible:
            raise Wrong(
                "The operating system is not able to handle the specified number of clients, try with"
                f" {services.usage.clients_possible}"
            )
        return parameter.parse(text)
    shown = parameter.show(services)
    if text.lower() != shown.lower():
        raise Wrong(f"it is '{shown}' here, and cannot be otherwise")
    return None


# -- values


def _integer(low: int, high: int) -> Parse:
    def parse(text: str) -> int:
        value = parse_integer(text.encode("utf-8", "surrogateescape"))
        if value is None:
            raise Wrong("argument couldn't be parsed into an integer")
        return _within(value, low, high)

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= SECONDS_MOST:
        raise Wrong(f"argument must be seconds, more than 0 and at most {SECONDS_MOST:g}")
    return value


_UNITS: Final = {"": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 10**6, "mb": 1 << 20, "g": 10**9, "gb": 1 << 30}
_MEMORY: Final = re.compile(r"([0-9]{1,18})([a-z]*)")


def _memory(text: str) -> int:
    found = _MEMORY.fullmatch(text.lower())
    if found is None or found[2] not in _UNITS:
        raise Wrong("argument must be a memory value")
    return _within(int(found[1]) * _UNITS[found[2]], BYTES_LEAST, BYTES_MOST)


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise Wrong(f"argument must be between {low} and {high} inclusive")
    return value


_LEVELS: Final = {"debug": "debug", "verbose": "debug", "notice": "info", "warning": "warning", "nothing": "error"}
_SHOWN_LEVELS: Final = {"debug": "debug", "info": "notice", "warning": "warning", "error": "nothing"}


def _yes(text: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise ValueError("argument must be 'yes' or 'no'")
    return text.lower() == "yes"


def _level(text: str) -> str:
    if text.lower() not in _LEVELS:
        raise Wrong(f"argument(s) must be one of the following: {', '.join(_LEVELS)}")
    return _LEVELS[text.lower()]


def _event_classes(text: str) -> str:
    if flags_of(text) is None:
        raise Wrong("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
    return text


def _output_limits(text: str) -> dict[str, int]:
    """As Redis writes them: class, hard limit, soft limit, seconds. Ours are of the classes normal and pubsub, and
    hard."""
    words = text.split()
    if not words or len(words) % 4:
        raise Wrong("Wrong number of arguments in buffer limit configuration.")
    limits = {words[at].lower(): words[at + 1 : at + 4] for at in range(0, len(words), 4)}
    if limits.keys() - {"normal", "slave", "replica", "pubsub"}:
        raise Wrong("Invalid client class specified in buffer limit configuration.")
    found: dict[str, int] = {}
    for name, (hard, *soft) in limits.items():
        if (name == "normal" and soft == ["0", "0"]) or (name == "pubsub" and hard != "0" and soft == ["0", "0"]):
            found[_LIMITS[name]] = _memory(hard)
        elif [hard, *soft] != ["0"] * 3:
            raise Wrong("only hard limits of the classes normal and pubsub can be set here")
    return found


def _set_output_limits(services: Services, limits: dict[str, int]) -> None:
    for name, limit in limits.items():
        services.settings.change(name, limit)


_LIMITS: Final = {"normal": "client_output_bytes_max", "pubsub": "pubsub_output_bytes_max"}


# -- all of them


def _setting(name: str, parse: Parse, show: Callable[[Any], str] = str) -> Parameter:
    assert name in LIVE, f"{name} cannot be changed"
    return Parameter(
        lambda services: show(getattr(services.settings, name)),
        parse,
        lambda services, value: services.settings.change(name, value),
    )


def _told(name: str) -> Parameter:
    return Parameter(lambda services: _plain(getattr(services.settings, name)), immutable=True)


def _plain(value: object) -> str:
    return str(getattr(value, "value", value))


def _fixed(value: str, *, immutable: bool = False) -> Parameter:
    return Parameter(lambda _services: value, immutable=immutable)


_SO_IT_IS: Final = {
    "activedefrag": "no",
    "appendonly": "no",
    "latency-monitor-threshold": "0",
    "latency-tracking": "no",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "protected-mode": "no",
    "requirepass": "",
    "save": "",
    # from which sizes on OBJECT ENCODING tells another encoding
    "hash-max-listpack-entries": "512",
    "hash-max-listpack-value": "64",
    "hash-max-ziplist-entries": "512",
    "hash-max-ziplist-value": "64",
    "hll-sparse-max-bytes": "3000",
    "list-compress-depth": "0",
    "list-max-listpack-size": "-2",
    "list-max-ziplist-size": "-2",
    "set-max-intset-entries": "512",
    "set-max-listpack-entries": "128",
    "set-max-listpack-value": "64",
    "zset-max-listpack-entries": "128",
    "zset-max-listpack-value": "64",
    "zset-max-ziplist-entries": "128",
    "zset-max-ziplist-value": "64",
}
_FOR_GOOD: Final = {
    "cluster-enabled": "no",
    "daemonize": "no",
    "databases": "16",
    "io-threads": "1",
    "tls-port": "0",
    "unixsocket": "",
}

_REDIS: Final[dict[str, Parameter]] = {
    **{name: _fixed(value) for name, value in _SO_IT_IS.items()},
    **{name: _fixed(value, immutable=True) for name, value in _FOR_GOOD.items()},
    "bind": _told("host"),
    "client-output-buffer-limit": Parameter(
        lambda services: (
            f"normal {services.settings.client_output_bytes_max} 0 0 slave 0 0 0"
            f" pubsub {services.settings.pubsub_output_bytes_max} 0 0"
        ),
        _output_limits,
        _set_output_limits,
    ),
    "loglevel": _setting("log_level", _level, _SHOWN_LEVELS.__getitem__),
    "maxclients": _setting("clients_max", _integer(1, UINT_MAX)),
    "maxmemory-clients": _setting("clients_bytes_max", _memory),
    "notify-keyspace-events": Parameter(
        lambda services: services.settings.notify_keyspace_events,
        _event_classes,
        lambda services, letters: services.notify(letters),
    ),
    "port": _told("port"),
    "slowlog-log-slower-than": Parameter(
        lambda _services: str(SLOWLOG.threshold_us),
        _integer(-1, INTEGER_MAX),
        lambda _services, value: setattr(SLOWLOG, "threshold_us", value),
    ),
    "slowlog-max-len": Parameter(
        lambda _services: str(SLOWLOG.max_entries),
        _integer(0, ENTRIES_MAX),
        lambda _services, value: setattr(SLOWLOG, "max_entries", value),
    ),
    "proto-max-bulk-len": _told("request_bytes_max"),
    "tcp-keepalive": _setting("tcp_keepalive", _integer(1, KEEPALIVE_MOST)),
    "tracking-table-max-keys": _setting("tracking_table_max_keys", _integer(0, 1 << 24)),
    "timeout": _setting("client_timeout", _integer(0, INT_MAX)),
}
_OURS: Final[dict[str, Parameter]] = {
    **{
        name: _setting(name, _seconds)
        for name in ("read_hedge", "write_hedge", "request_timeout", "queue_time", "round_patience", "forget_after")
    },
    "atomic_multi_key": _setting("atomic_multi_key", _yes, lambda atomic: "yes" if atomic else "no"),
    "leave_grace": _setting("leave_grace", lambda text: 0.0 if text == "0" else _seconds(text)),
    "follow_least": _setting("follow_least", _integer(1, INT_MAX)),
    "in_flight_max": _setting("in_flight_max", _integer(1, 1 << 20)),
    "in_flight_min": _setting("in_flight_min", _integer(1, 1 << 20)),
    "link_backlog_bytes_max": _setting("link_backlog_bytes_max", _memory),
    **{
        field.name: _told(field.name)
        for field in fields(Settings)
        if field.name not in LIVE and field.name not in ("gossip", "host", "port", "request_bytes_max", "seeds")
    },
}

PARAMETERS: Final[dict[str, Parameter]] = dict(
    sorted([*_REDIS.items(), *[(f"peerkv-{name.replace('_', '-')}", ours) for name, ours in _OURS.items()]])
)
"""By name."""
