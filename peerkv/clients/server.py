"""Commands of the node: CONFIG, SLOWLOG, LATENCY, ACL, and CLUSTER as far as no other node need be asked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from peerkv import reports
from peerkv.clients import parameters
from peerkv.clients.session import Services
from peerkv.commands import catalogue
from peerkv.commands.access import SYNTAX
from peerkv.commands.slowlog import SLOWLOG
from peerkv.resp import OK, Reply, ReplyError, Verbatim, as_said, parse_integer
from peerkv.ring.keys import slot_of

SLOWLOG_COUNT: Final = 10


def config(services: Services, request: Sequence[bytes]) -> Reply:
    """CONFIG and its subcommands."""
    match [request[1].upper(), *request[2:]]:
        case [b"GET", *patterns]:
            return parameters.get(services, patterns)
        case [b"SET", *arguments]:
            return parameters.set_(services, arguments)
        case [b"RESETSTAT"]:
            services.reset_statistics()
            return OK
        case [b"REWRITE"]:
            return ReplyError("ERR The server is running without a config file")
        case _:
            return SYNTAX


def slowlog(services: Services, request: Sequence[bytes]) -> Reply:
    """SLOWLOG and its subcommands."""
    match [request[1].upper(), *request[2:]]:
        case [b"LEN"]:
            return len(SLOWLOG.entries)
        case [b"RESET"]:
            SLOWLOG.entries.clear()
            return OK
        case [b"GET", *arguments] if len(arguments) < 2:
            count = parse_integer(arguments[0]) if arguments else SLOWLOG_COUNT
            if count is None or count < -1:
                return ReplyError("ERR count should be greater than or equal to -1")
            skew = services.clock.skew_ms
            chosen = islice(SLOWLOG.entries, count if count >= 0 else None)
            return [
                [slow.id, (slow.at + skew) // 1000, slow.microseconds, list(slow.request), b"", b""] for slow in chosen
            ]
        case _:
            return unknown_form(request)


def latency(request: Sequence[bytes]) -> Reply:
    """LATENCY and its subcommands: as of a Redis whose latency monitor is off."""
    match [request[1].upper(), *request[2:]]:
        case [b"LATEST"] | [b"HISTORY", _]:
            return []
        case [b"RESET", *_]:
            return 0
        case [b"HISTOGRAM", *_]:
            return {}
        case [b"DOCTOR"]:
            return Verbatim(
                b"Latency is not monitored here. SLOWLOG GET tells which commands took long on this node.\n"
            )
        case [b"GRAPH", event]:
            return ReplyError(f"ERR No samples available for event '{as_said(event)}'")
        case _:
            return unknown_form(request)


CATEGORIES: Final = (
    *("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo"),
    *("stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting"),
)


def acl(request: Sequence[bytes]) -> Reply:
    """ACL and its subcommands: there is one user, who may do everything."""
    match [request[1].upper(), *request[2:]]:
        case [b"WHOAMI"]:
            return b"default"
        case [b"USERS"]:
            return [b"default"]
        case [b"LIST"]:
            return [b"user default on nopass sanitize-payload ~* &* +@all"]
        case [b"CAT"]:
            return [category.encode() for category in CATEGORIES]
        case [b"CAT", category]:
            name = category.decode("utf-8", "surrogateescape")
            if name.lower() not in CATEGORIES:
                return ReplyError(f"ERR Unknown category '{as_said(category[:128])}'")
            return [facts.name.encode() for facts in catalogue.served() if name.lower() in facts.categories]
        case _:
            return unknown_form(request)


def unknown_form(request: Sequence[bytes]) -> ReplyError:
    """What Redis says where there are more arguments than any form of a subcommand has."""
    name = request[0].decode("ascii").upper()
    return ReplyError(
        f"ERR unknown subcommand or wrong number of arguments for '{as_said(request[1][:128])}'. Try {name} HELP."
    )


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
