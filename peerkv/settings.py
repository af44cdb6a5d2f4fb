"""Every knob of a node, with its unit and where its default comes from; built by `config`, read by everybody.

Those of `LIVE` may be changed while the node runs (CONFIG SET): whoever goes by them reads them here each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

PEER_PORT_OFFSET: Final = 10_000
"""Where nothing else is said the peer port is the client port plus this, as Redis Cluster's bus does."""
PORT_MAX: Final = 65535

Seed: TypeAlias = tuple[str, int] | tuple[str, int, int]
"""A node to meet first: its client address and, where that is not PEER_PORT_OFFSET higher, its peer port."""


class Role(Enum):
    """What a node is for. A MASTER only introduces others to each other; it owns no slot."""

    DATA = "data"
    MASTER = "master"


class Recover(Enum):
    """Who decides that a cluster goes on although something is lost: an operator, or, for caches, nobody: once it has
    been so for `forget_after`."""

    ASK = "ask"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """SWIM and Lifeguard; defaults measured in simulation for a LAN (times in seconds)."""

    probe_interval: float = 0.5
    probe_timeout: float = 0.25
    indirect_probes: int = 3
    suspicion_mult: int = 4
    suspicion_max_mult: int = 6
    gossip_interval: float = 0.2
    gossip_fanout: int = 3
    retransmit_mult: int = 4
    sync_interval: float = 15.0
    """Full state exchange with one random member; longer beyond 32 members."""
    reconnect_interval: float = 5.0
    """How often a member that is held down is contacted again."""
    seed_interval: float = 10.0
    """How often a configured seed that is not a live member is contacted again."""
    datagram_bytes_max: int = 1232
    """IPv6's minimum MTU less headers: fits any path without fragments."""
    forget_left_after: float = 600.0
    """How long a member that left is remembered, and shown."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One node's configuration. Times in seconds, sizes in bytes, unless the name says otherwise."""

    name: str = "node"
    """Stable name; the node's places on the ring follow from it. At most 64 characters."""
    cluster: str = "peerkv"
    """Clusters of different names never mix."""
    role: Role = Role.DATA
    host: str = "127.0.0.1"
    """The address that is listened on."""
    port: int = 6379
    """For clients. 0: any that is free, `Serving.port` then."""
    peer_port: int = 0
    """Where peers reach this node: frames by TCP, gossip by UDP. 0: `port` plus PEER_PORT_OFFSET, or, where that is 0
    as well, any that is free."""
    announce_host: str = ""
    """The address that others are told; empty: `host`, or, where that is 0.0.0.0, the one that peers see."""
    announce_port: int = 0
    """The client port that others are told; 0: `port`."""
    announce_peer_port: int = 0
    """The peer port that others are told; 0: `announce_port` plus PEER_PORT_OFFSET where that is given, else
    `peer_port`."""
    seeds: tuple[Seed, ...] = ()
    """Client addresses of nodes to meet first; none: a data node is a cluster of one, a master waits for others."""
    expect: int = 0
    """Data members that must have met before the cluster is born; 0: for a master one, while a data node leaves it to
    the master, or to those that know."""
    replicas: int = 3
    """Owners of each slot (as far as there are members)."""
    slots: int = 16384
    """Slots of the cluster, a power of two: for programs that simulate it; fixed when the cluster is born."""
    zone: str = ""
    """A slot's owners are in different zones as far as there are enough."""
    weight: int = 1
    """1 to 16: the share of slots relative to others."""

    read_hedge: float = 0.05
    """An owner of whom nothing is heard for this long while a read waits: the others are asked too."""
    write_hedge: float = 0.2
    """A home of which nothing is heard for this long while a write waits: the next owner takes the slot."""
    request_timeout: float = 3.0
    """A request unfinished after this long answers NOQUORUM or UNCERTAIN; while a majority of its owners is heard,
    three times as long."""
    in_flight_max: int = 4096
    """Operations of a node's clients under way at homes; beyond it clients are not read from until some have ended."""
    in_flight_min: int = 256
    """... and from so many on, if the oldest of them has been under way for ..."""
    queue_time: float = 0.05
    """... so long: what is sent now would wait behind it."""
    follow_least: int = 200
    """Operations a second for homes in the whole cluster, from which on homes go where the load comes from."""
    round_patience: float = 0.2
    """How long a home waits for owners' promises before it asks again."""

    recover: Recover = Recover.ASK
    """What to do where a majority of a slot's owners is lost."""
    forget_after: float = 60.0
    """A member that has been down for this long is removed, and its copies are made again elsewhere."""
    leave_grace: float = 30.0
    """How long a node that is to go hands its share back; after that it goes anyway. 0: at once."""
    fill_rate: int = 64 << 20
    """Bytes a second that a node fetches to fill its copies, as far as no request waits for them."""

    atomic_multi_key: bool = False
    """MGET, MSET, DEL, EXISTS, TOUCH and UNLINK of keys of several slots take effect at one moment, as transactions;
    otherwise each slot's keys do, in a third of the time."""
    notify_keyspace_events: str = ""
    """Classes of events that subscribers are told of keys, in Redis's letters; of the whole cluster, once one of its
    nodes has changed it."""
    clients_max: int = 10_000
    """Beyond it a client is told so and closed. Fewer where the process may not open so many files."""
    client_timeout: int = 0
    """Seconds of silence after which a client that waits for nothing is closed; 0: never."""
    tcp_keepalive: int = 300
    """Seconds of silence after which a connection's other side is asked whether it is there, as in Redis; three times
    a third of that without an answer close it."""
    client_output_bytes_max: int = 256 << 20
    """Replies that a client has not read yet; beyond it the connection is closed, as by Redis's output buffer limit."""
    pubsub_output_bytes_max: int = 32 << 20
    """Messages that a subscriber has not read yet; beyond it the connection is closed."""
    tracking_table_max_keys: int = 1_000_000
    """Keys that the clients of a node have read and are to be told of when they change (CLIENT TRACKING); beyond it
    they are told to forget the oldest."""
    clients_bytes_max: int = 512 << 20
    """Of all clients together: replies that they have not read, and requests that have not come as a whole; beyond it
    the connections with the most are closed."""
    request_bytes_max: int = 64 << 20
    """One request of a client, all arguments together; beyond it the connection is closed."""
    inline_bytes_max: int = 64 << 10
    """One inline command line, as in Redis."""
    frame_bytes_max: int = 256 << 20
    """One frame between peers; a longer one closes the link."""
    link_backlog_bytes_max: int = 256 << 20
    """Bytes queued for a peer that does not read; beyond it the link is closed and the peer is caught up later."""

    log_level: str = "info"
    gossip: GossipSettings = field(default_factory=GossipSettings)

    def __post_init__(self) -> None:
        if not self.peer_port and self.port:
            object.__setattr__(self, "peer_port", self.port + PEER_PORT_OFFSET)

    def change(self, name: str, value: object) -> None:
        """Change what may be changed while a node runs."""
        assert name in LIVE, f"{name} holds for a node's whole life"
        object.__setattr__(self, name, value)

    @property
    def announced(self) -> Seed:
        """Where others find this node."""
        port = self.announce_port or self.port
        usual = port + PEER_PORT_OFFSET
        peer_port = self.announce_peer_port or (usual if self.announce_port else self.peer_port)
        host = self.announce_host or self.host
        return (host, port) if peer_port == usual else (host, port, peer_port)


LIVE: Final = frozenset(
    {
        "atomic_multi_key",
        "client_output_bytes_max",
        "client_timeout",
        "clients_bytes_max",
        "clients_max",
        "follow_least",
        "forget_after",
        "in_flight_max",
        "in_flight_min",
        "leave_grace",
        "link_backlog_bytes_max",
        "log_level",
        "notify_keyspace_events",
        "pubsub_output_bytes_max",
        "queue_time",
        "read_hedge",
        "request_timeout",
        "round_patience",
        "tcp_keepalive",
        "tracking_table_max_keys",
        "write_hedge",
    }
)


def peer_address(seed: Seed) -> tuple[str, int]:
    """Where a seed's peers reach it."""
    return seed[0], seed[2] if len(seed) == 3 else seed[1] + PEER_PORT_OFFSET


def address_text(host: str, port: int) -> str:
    """An address as people and Redis write it: 127.0.0.1:7001, [::1]:7001."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def seed_text(seed: Seed) -> str:
    """A seed as it is configured."""
    return address_text(seed[0], seed[1]) + (f"@{seed[2]}" if len(seed) == 3 else "")
