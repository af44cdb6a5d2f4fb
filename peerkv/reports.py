"""What a node tells about itself in Redis's words: INFO, the CLUSTER family."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from peerkv import __version__
from peerkv.gossip.member import Liveness, Member
from peerkv.metrics import Metric
from peerkv.resp import Prepared, Reply, Verbatim, encode
from peerkv.ring.topology import Topology
from peerkv.settings import Role, Settings

REDIS_VERSION: Final = "7.2.4"
"""The Redis whose behaviour is followed; clients choose features by it."""
SECTIONS: Final = (
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "errorstats",
    "cluster",
    "keyspace",
    "peerkv",
)
"""Those that are told if nobody asks for others, ..."""
ALL: Final = (*SECTIONS, "commandstats", "latencystats")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the node's process uses, as who runs it has last seen."""

    resident_bytes: int = 0
    peak_bytes: int = 0
    user_s: float = 0.0
    system_s: float = 0.0
    process_id: int = 0
    """0: not known, and not told: somebody may send it a signal."""
    system: str = ""
    """Kernel, its release, machine."""
    clients_possible: int = 1 << 30
    """With the files that it may open."""


@dataclass(slots=True)
class Statistics:
    """What a node counts of itself, for INFO."""

    uptime_s: int = 0
    clients: int = 0
    connections: int = 0
    """Ever received."""
    refused: int = 0
    """Connections beyond `clients_max`."""
    commands: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """Error replies by their codes."""
    observed: tuple[tuple[str, int, float, int, int], ...] = ()
    """(command, calls, microseconds a call, rejected, failed)"""
    blocked: int = 0
    tracking: tuple[int, int, int] = (0, 0, 0)
    """Clients that track, keys that they have read, prefixes that they have."""
    """Clients that wait in a command."""
    operations_a_second: int = 0
    keyspace: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Per database: keys in this node's copies; those with a deadline, of slots that it is home of."""
    measured: tuple[tuple[Metric, int], ...] = ()
    """What its engines have counted and measured."""
    usage: Usage = field(default_factory=Usage)


def info(settings: Settings, process: int, statistics: Statistics, wanted: Sequence[bytes]) -> Reply:
    """INFO [section ...]"""
    names = [name.decode("ascii", "replace").lower() for name in wanted]
    chosen = [
        section
        for name in names or ("default",)
        for section in (ALL if name in ("all", "everything") else SECTIONS if name == "default" else (name,))
    ]
    texts = [
        f"# {section.capitalize()}\r\n" + "".join(f"{key}:{value}\r\n" for key, value in lines)
        for section in dict.fromkeys(chosen)
        if (lines := _section(section, settings, process, statistics)) is not None
    ]
    return Verbatim("\r\n".join(texts).encode())


def _section(
    name: str, settings: Settings, process: int, statistics: Statistics
) -> Iterable[tuple[str, object]] | None:
    s = statistics
    match name:
        case "server":
            return (
                ("redis_version", REDIS_VERSION),
                ("redis_mode", "standalone"),
                ("peerkv_version", __version__),
                *((("os", s.usage.system),) if s.usage.system else ()),
                ("arch_bits", sys.maxsize.bit_length() + 1),
                *((("process_id", s.usage.process_id),) if s.usage.process_id else ()),
                ("run_id", node_id(process)),
                ("tcp_port", settings.port),
                ("uptime_in_seconds", s.uptime_s),
                ("uptime_in_days", s.uptime_s // 86400),
            )
        case "clients":
            return (
                ("connected_clients", s.clients),
                ("blocked_clients", s.blocked),
                ("tracking_clients", s.tracking[0]),
                ("maxclients", settings.clients_max),
            )
        case "memory":
            return (
                ("used_memory", s.usage.resident_bytes),
                ("used_memory_human", f"{s.usage.resident_bytes / (1 << 20):.2f}M"),
                ("used_memory_rss", s.usage.resident_bytes),
                ("used_memory_peak", s.usage.peak_bytes),
                ("maxmemory", 0),
                ("maxmemory_policy", "noeviction"),
            )
        case "persistence":
            return (("loading", 0), ("aof_enabled", 0))
        case "stats":
            return (
                ("total_connections_received", s.connections),
                ("total_commands_processed", s.commands),
                ("instantaneous_ops_per_sec", s.operations_a_second),
                ("total_net_input_bytes", s.input_bytes),
                ("total_net_output_bytes", s.output_bytes),
                ("rejected_connections", s.refused),
                ("evicted_keys", 0),
                ("tracking_total_keys", s.tracking[1]),
                ("tracking_total_prefixes", s.tracking[2]),
                ("total_error_replies", sum(s.errors.values())),
            )
        case "replication":
            return (("role", "master"), ("connected_slaves", 0), ("master_replid", node_id(process)))
        case "cpu":
            return (("used_cpu_sys", f"{s.usage.system_s:.6f}"), ("used_cpu_user", f"{s.usage.user_s:.6f}"))
        case "modules":
            return ()
        case "errorstats":
            return [(f"errorstat_{code}", f"count={count}") for code, count in sorted(s.errors.items())]
        case "commandstats":
            return [
                (f"cmdstat_{name}", f"{_time_of(calls, usec)},rejected_calls={rejected},failed_calls={failed}")
                for name, calls, usec, rejected, failed in s.observed
            ]
        case "latencystats":
            return ()
        case "cluster":
            return (("cluster_enabled", 0),)
        case "keyspace":
            return [(f"db{n}", f"keys={keys},expires={ending},avg_ttl=0") for n, (keys, ending) in s.keyspace.items()]
        case "peerkv":
            return (
                ("name", settings.name),
                ("role", settings.role.value),
                ("cluster", settings.cluster),
                *[(metric.name, value) for metric, value in s.measured],
            )
        case _:
            return None


def _time_of(calls: int, usec: float) -> str:
    return f"calls={calls},usec={calls * usec:.0f},usec_per_call={usec:.2f}"


# -- CLUSTER


def node_id(process: int) -> str:
    """A process as Redis Cluster names nodes: 40 hexadecimal digits."""
    return f"{process:040x}"


@lru_cache(maxsize=2)
def _ranges(topology: Topology) -> list[tuple[int, int, tuple[int, ...]]]:
    """(first slot, last slot, owners' numbers): neighbouring slots of the same owners in the same order."""
    ranges: list[tuple[int, int, tuple[int, ...]]] = []
    kinds, _ = topology.kinds
    first = 0
    for slot in range(1, topology.slots + 1):
        if slot == topology.slots or kinds[slot] != kinds[first]:
            ranges.append((first, slot - 1, topology.order(first)))
            first = slot
    return ranges


def cluster_info(topology: Topology | None, members: Sequence[Member], reachable: bool) -> Reply:
    data = [member for member in members if member.role is Role.DATA and member.live]
    epoch = topology.epoch if topology is not None else 0
    slots = topology.slots if topology is not None else 0
    lines = (
        ("cluster_enabled", 1),
        ("cluster_state", "ok" if reachable else "fail"),
        ("cluster_slots_assigned", slots),
        ("cluster_slots_ok", slots if reachable else 0),
        ("cluster_slots_pfail", 0),
        ("cluster_slots_fail", 0 if reachable else slots),
        ("cluster_known_nodes", len(members)),
        ("cluster_size", len(topology.members) if topology is not None else len(data)),
        ("cluster_current_epoch", epoch),
        ("cluster_my_epoch", epoch),
    )
    return Verbatim("".join(f"{key}:{value}\r\n" for key, value in lines).encode())


def _located(topology: Topology, members: Sequence[Member]) -> dict[int, Member]:
    """The topology's members that are known to gossip, by number."""
    by_process = {member.process: member for member in members}
    return {
        number: by_process[owner.process] for number, owner in topology.by_number.items() if owner.process in by_process
    }


@lru_cache(maxsize=4)
def cluster_slots(topology: Topology | None, members: tuple[Member, ...]) -> Prepared:
    """[first slot, last slot, node, node, ...] per range. There are thousands, of few kinds of owners: what is the same
    in many is encoded once (20 ms; one by one they took 300)."""
    if topology is None:
        return Prepared([])
    located = _located(topology, members)
    nodes: dict[int, bytes] = {}
    for number, member in located.items():
        if member.live:
            host: Reply = member.client_host.encode()
            nodes[number] = encode([host, member.client_port, node_id(member.process).encode(), []], 2)
    of_owners: dict[tuple[int, ...], tuple[int, bytes]] = {}
    entries: list[bytes] = []
    for first, last, owners in _ranges(topology):
        found = of_owners.get(owners)
        if found is None:
            known = [nodes[number] for number in owners if number in nodes]
            found = of_owners[owners] = len(known), b"".join(known)
        count, encoded = found
        if count:
            entries.append(b"*%d\r\n:%d\r\n:%d\r\n%b" % (count + 2, first, last, encoded))
    return Prepared.of(b"*%d\r\n%b" % (len(entries), b"".join(entries)))


@lru_cache(maxsize=4)
def cluster_shards(topology: Topology | None, members: tuple[Member, ...]) -> Prepared:
    """Slots by who is asked first; each such member is a shard of its own, as its own master."""
    return Prepared(_cluster_shards(topology, members))


def _cluster_shards(topology: Topology | None, members: Sequence[Member]) -> Reply:
    if topology is None:
        return []
    located = _located(topology, members)
    firsts: dict[int, list[Reply]] = {number: [] for number in sorted(located)}
    for first, last, owners in _ranges(topology):
        number = next((number for number in owners if number in located and located[number].live), 0)
        if number:
            firsts[number] += [first, last]
    shards: list[Reply] = []
    for number, ranges in firsts.items():
        member = located[number]
        node: Reply = {
            b"id": node_id(member.process).encode(),
            b"port": member.client_port,
            b"ip": member.client_host.encode(),
            b"endpoint": member.client_host.encode(),
            b"role": b"master",
            b"replication-offset": 0,
            b"health": b"online" if member.live else b"failed",
        }
        shards.append({b"slots": ranges, b"nodes": [node]})
    return shards


@lru_cache(maxsize=4)
def cluster_nodes(topology: Topology | None, members: tuple[Member, ...], me: int) -> Prepared:
    return Prepared(_cluster_nodes(topology, members, me))


def _cluster_nodes(topology: Topology | None, members: Sequence[Member], me: int) -> Reply:
    located = _located(topology, members) if topology is not None else {}
    slots: dict[int, list[str]] = {}
    for first, last, owners in _ranges(topology) if topology is not None else ():
        number = next((number for number in owners if number in located and located[number].live), 0)
        if number:
            process = located[number].process
            slots.setdefault(process, []).append(str(first) if first == last else f"{first}-{last}")
    lines = []
    for member in members:
        if member.liveness is Liveness.LEFT:
            continue
        flags = ["myself"] if member.process == me else []
        flags.append("master")
        if not member.live:
            flags.append("fail")
        elif member.liveness is Liveness.SUSPECT:
            flags.append("fail?")
        address = f"{member.client_host}:{member.client_port}@{member.peer_port}"
        state = "connected" if member.live else "disconnected"
        fields = [node_id(member.process), address, ",".join(flags), "-", "0", "0", str(member.epoch), state]
        lines.append(" ".join([*fields, *slots.get(member.process, ())]))
    return Verbatim("".join(line + "\n" for line in lines).encode())
