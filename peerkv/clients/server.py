"""CONFIG, and CLUSTER as far as no other node need be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peerkv import reports
from peerkv.clients.session import Services
from peerkv.commands.patterns import matcher
from peerkv.resp import OK, Reply, ReplyError
from peerkv.ring.keys import slot_of
from peerkv.settings import Settings

SYNTAX: Final = ReplyError("ERR syntax error")


def _parameters(settings: Settings) -> dict[bytes, bytes]:
    """What clients and tools ask a Redis for, as far as it means something here."""
    return {
        b"appendonly": b"no",
        b"bind": settings.host.encode(),
        b"cluster-enabled": b"no",
        b"databases": b"1",
        b"maxclients": b"%d" % settings.clients_max,
        b"maxmemory": b"0",
        b"maxmemory-policy": b"noeviction",
        b"notify-keyspace-events": b"",
        b"port": b"%d" % settings.port,
        b"proto-max-bulk-len": b"%d" % settings.request_bytes_max,
        b"save": b"",
        b"tcp-keepalive": b"%d" % settings.tcp_keepalive,
        b"timeout": b"0",
    }


def config(services: Services, request: Sequence[bytes]) -> Reply:
    """CONFIG and its subcommands."""
    match [request[1].upper(), *request[2:]]:
        case [b"GET", *patterns] if patterns:
            matchers = [matcher(pattern.lower()) for pattern in patterns]
            parameters = _parameters(services.settings)
            return {name: value for name, value in parameters.items() if any(match(name) for match in matchers)}
        case [b"RESETSTAT"]:
            services.reset_statistics()
            return OK
        case [b"REWRITE"]:
            return ReplyError("ERR The server is running without a config file")
        case [b"SET", _, _, *_]:
            return ReplyError("ERR CONFIG SET is not supported: change cluster.ini and restart the node")
        case _:
            return SYNTAX


def cluster(services: Services, request: Sequence[bytes]) -> Reply:
    """CLUSTER and its subcommands, but for those that ask the owners of a slot."""
    match [request[1].upper(), *request[2:]]:
        case [b"INFO"]:
            return reports.cluster_info(services.topology, services.members(), services.ready)
        case [b"MYID" | b"MYSHARDID"]:
            return reports.node_id(services.process).encode()
        case [b"KEYSLOT", key]:
            return slot_of(key, services.settings.slots - 1)
        case [b"SLOTS"]:
            return reports.cluster_slots(services.topology, tuple(services.members()))
        case [b"SHARDS"]:
            return reports.cluster_shards(services.topology, tuple(services.members()))
        case [b"NODES"]:
            return reports.cluster_nodes(services.topology, tuple(services.members()), services.process)
        case [b"LINKS"]:
            return []
        case [b"ADDSLOTS" | b"MEET" | b"FORGET" | b"FAILOVER" | b"RESET" | b"SETSLOT" | b"REPLICATE", *_]:
            return ReplyError("ERR this cluster looks after itself: slots follow from its members (see PEERKV STATUS)")
        case _:
            return SYNTAX
