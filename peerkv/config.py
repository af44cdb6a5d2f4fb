"""cluster.ini -> the settings of every node in it, or an error that names section, key, value and what is allowed."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any, Final

from peerkv.commands.events import flags_of
from peerkv.ring.placement import WEIGHT_MAX
from peerkv.settings import PEER_PORT_OFFSET, PORT_MAX, Recover, Role, Seed, Settings, peer_address

NAME_MAX: Final = 64
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class ConfigError(Exception):
    """What is wrong with a configuration, one line each."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a cluster.ini says: its nodes, masters first."""

    name: str
    nodes: tuple[Settings, ...]

    def node(self, name: str) -> Settings:
        """The settings of one node. Raises ConfigError for a name that is none of them."""
        for settings in self.nodes:
            if settings.name == name:
                return settings
        known = ", ".join(settings.name for settings in self.nodes)
        raise ConfigError(f"there is no node {name!r} in the configuration: its nodes are {known}")


class _Bad(ValueError):
    """What is allowed instead."""


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise _Bad(f"a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise _Bad(f"a whole number from {low} to {high}")
        return value

    return parse


def _seconds(text: str) -> float:
    value = _float(text)
    if not 0 < value <= 86400:
        raise _Bad("seconds, more than 0 and at most 86400")
    return value


def _grace(text: str) -> float:
    value = _float(text)
    if not 0 <= value <= 86400:
        raise _Bad("seconds, from 0 to 86400")
    return value


def _float(text: str) -> float:
    """NaN, which is in no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return nan


def _role(text: str) -> Role:
    try:
        return Role(text.lower())
    except ValueError:
        raise _Bad("data or master") from None


def _recover(text: str) -> Recover:
    try:
        return Recover(text.lower())
    except ValueError:
        raise _Bad("ask or auto") from None


def _yes(text: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise _Bad("yes or no")
    return text.lower() == "yes"


def _text(text: str) -> str:
    if not text or len(text) > NAME_MAX or not text.isprintable() or any(char.isspace() for char in text):
        raise _Bad(f"1 to {NAME_MAX} printable characters without blanks")
    return text


def _host(text: str) -> str:
    if not _is_host(text):
        raise _Bad("a host name or an address")
    return text


def _is_host(text: str) -> bool:
    try:
        text.encode("idna")  # sockets raise what is no OSError for the likes of a..b
    except UnicodeError:
        return False
    return 0 < len(text) <= 255 and text.isprintable() and not any(char.isspace() for char in text)


def _level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise _Bad(", ".join(LOG_LEVELS))
    return text.lower()


def _event_classes(text: str) -> str:
    if flags_of(text) is None:
        raise _Bad("letters of Ag$lshzxeKEtmdn")
    return text


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, of a client port. Raises ValueError that says what is allowed."""
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = host or "127.0.0.1"
    if not _is_host(host) or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= PORT_MAX:
        raise _Bad(f"HOST:PORT with a port from 1 to {PORT_MAX}")
    return host, int(port)


def parse_seed(text: str) -> Seed:
    """HOST:PORT, or HOST:PORT@PEERPORT, as Redis Cluster writes it, where the peer port is not PORT + 10000. Raises
    ValueError that says what is allowed."""
    address, at, peer_port = text.strip().partition("@")
    host, port = parse_address(address)
    if not at:
        if port + PEER_PORT_OFFSET > PORT_MAX:
            raise _Bad(f"HOST:PORT@PEERPORT: {port} + {PEER_PORT_OFFSET} is no port")
        return host, port
    if not peer_port.isascii() or not peer_port.isdigit() or not 1 <= int(peer_port) <= PORT_MAX:
        raise _Bad(f"HOST:PORT@PEERPORT with ports from 1 to {PORT_MAX}")
    return (host, port) if int(peer_port) == port + PEER_PORT_OFFSET else (host, port, int(peer_port))


def _seeds(text: str) -> tuple[Seed, ...]:
    return tuple(parse_seed(part) for part in text.replace(",", " ").split())


def peer_port_fault(settings: Settings) -> str:
    """What is wrong with a peer port that follows from the client port, with the way out; empty: nothing."""
    for key, announced, port in (
        ("peer_port", "", settings.peer_port),
        ("announce_peer_port", "announced ", peer_address(settings.announced)[1]),
    ):
        if port > PORT_MAX:
            return f"the {announced}peer port would be port + {PEER_PORT_OFFSET} = {port}: set {key}"
    return ""


_SHARED: Final[dict[str, Callable[[str], Any]]] = {
    "replicas": _number(1, 7),
    "read_hedge": _seconds,
    "write_hedge": _seconds,
    "request_timeout": _seconds,
    "atomic_multi_key": _yes,
    "notify_keyspace_events": _event_classes,
    "clients_max": _number(1, 1_000_000),
    "forget_after": _seconds,
    "leave_grace": _grace,
    "recover": _recover,
    "fill_rate": _number(1 << 16, 1 << 40),
    "log_level": _level,
}
"""Keys of [cluster] that hold for every node; a node's own section may say otherwise."""
_CLUSTER: Final[dict[str, Callable[[str], Any]]] = {"name": _text, "expect": _number(1, 1000), "seeds": _seeds}
_NODE: Final[dict[str, Callable[[str], Any]]] = {
    "role": _role,
    "host": _host,
    "port": _number(1, PORT_MAX),
    "peer_port": _number(1, PORT_MAX),
    "announce_host": _host,
    "announce_port": _number(1, PORT_MAX),
    "announce_peer_port": _number(1, PORT_MAX),
    "zone": _text,
    "weight": _number(1, WEIGHT_MAX),
}


def parse_value(key: str, text: str) -> Any:
    """What a key of cluster.ini means. Raises ValueError that says what is allowed."""
    return {**_CLUSTER, **_NODE, **_SHARED}[key](text)


def load(path: Path) -> Cluster:
    """Read a cluster.ini. Raises ConfigError with everything that is wrong with it."""
    parser = configparser.ConfigParser(interpolation=None, default_section="\0")
    try:
        parser.read_string(path.read_text(), str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    errors: list[str] = []
    shared = _read(parser, "cluster", {**_CLUSTER, **_SHARED}, errors) if parser.has_section("cluster") else {}
    name = shared.pop("name", "peerkv")
    expect = shared.pop("expect", 0)
    seeds = shared.pop("seeds", ())
    nodes: list[Settings] = []
    taken: dict[tuple[str, int], str] = {}
    for section in parser.sections():
        if section == "cluster":
            continue
        try:
            _text(section)
        except _Bad as allowed:
            errors.append(f"[{section}]: a node's name is {allowed}")
        values = _read(parser, section, {**_NODE, **_SHARED}, errors)
        if not parser.has_option(section, "port"):
            errors.append(f"[{section}] has no port: a number from 1 to {PORT_MAX} is needed")
        node = Settings(**{**shared, **values, "name": section, "cluster": name})
        nodes.append(node)
        if "port" in values and (fault := peer_port_fault(node)):
            errors.append(f"[{section}] port = {node.port}: {fault}")
        if "port" not in values or ("host" not in values and parser.has_option(section, "host")):
            continue  # the default in its place is nobody's wish: whose it is already is no news
        for port in (node.port, node.peer_port):
            other = taken.setdefault((node.host, port), node.name)
            if other != node.name:
                errors.append(f"[{node.name}] port = {node.port}: {node.host}:{port} is {other}'s already")
                break
    if not nodes:
        errors.append("there is no node: a section [name] with a port is one")
    data = sum(node.role is Role.DATA for node in nodes)
    if expect > data and not seeds:
        errors.append(f"[cluster] expect = {expect}: there are only {data} data nodes")
    if errors:
        raise ConfigError("\n".join(f"{path}: {error}" for error in errors))
    return Cluster(name, _joined(nodes, expect or data, seeds))


def _joined(nodes: list[Settings], expect: int, seeds: tuple[Seed, ...]) -> tuple[Settings, ...]:
    """Who joins whom: everybody everybody else, the masters first, so that whoever restarts finds who is left."""
    masters = [node for node in nodes if node.role is Role.MASTER]
    ordered = masters + [node for node in nodes if node.role is not Role.MASTER]
    known = seeds or tuple(node.announced for node in ordered)
    joined = []
    for node in ordered:
        mine = tuple(seed for seed in known if seed != node.announced)
        joined.append(replace(node, seeds=mine, expect=expect))
    return tuple(joined)


def _read(
    parser: configparser.ConfigParser, section: str, keys: dict[str, Callable[[str], Any]], errors: list[str]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in parser.items(section):
        parse = keys.get(key)
        if parse is None:
            errors.append(f"[{section}] {key} = {text}: there is no such key here; there are {', '.join(sorted(keys))}")
            continue
        try:
            values[key] = parse(text)
        except _Bad as allowed:
            errors.append(f"[{section}] {key} = {text}: allowed is {allowed}")
    return values
