"""Commands that are no functions of cells: of the whole cluster, of the connection, of the node. Rows only."""

from __future__ import annotations

from typing import Final

from peerkv.commands.table import Kind, known

CLUSTER, SESSION = Kind.CLUSTER, Kind.SESSION

_OF_THE_CLUSTER: Final[dict[str, str]] = {
    "dbsize": "Tells how many keys the cluster has.",
    "scan": "Lists the keys of the cluster, page by page.",
    "keys": "Lists all keys of the cluster that match a pattern.",
    "randomkey": "Returns any key of the cluster.",
    "flushall": "Deletes all keys of the cluster.",
    "flushdb": "Deletes all keys of the cluster.",
    "debug": "SLEEP has this connection wait, and nobody else.",
    "exec": "Runs what was queued since MULTI, at one moment.",
    "watch": "Has EXEC do nothing if one of these keys changes before it.",
    "wait": "Waits until the last write of this connection is on more owners than a majority.",
}
for _name, _summary in _OF_THE_CLUSTER.items():
    known(_name, CLUSTER, _summary)
known(
    "peerkv",
    CLUSTER,
    "Tells of the cluster and of a key, as JSON; has this node leave; gives up a member; goes on after a loss; shows"
    " what all clients ask for.",
    usage="STATUS | EXPLAIN key | LEAVE | FORGET name | RECOVER [ACCEPT-LOSS] | MONITOR | HELP",
    subcommands="status explain leave forget recover monitor help",
)

_OF_THE_CONNECTION: Final[dict[str, str]] = {
    "subscribe": "Has messages of channels sent to this connection.",
    "unsubscribe": "Ends that, of some channels or of all.",
    "psubscribe": "Has messages sent of all channels that match patterns.",
    "punsubscribe": "Ends that, of some patterns or of all.",
    "ssubscribe": "Has messages of shard channels sent to this connection.",
    "sunsubscribe": "Ends that, of some shard channels or of all.",
    "publish": "Sends a message to the subscribers of a channel, whatever nodes they are at.",
    "spublish": "Sends a message to the subscribers of a shard channel, whatever nodes they are at.",
    "readonly": "Where no quorum can be reached, reads are answered from any copy, be it old.",
    "readwrite": "Undoes READONLY.",
    "asking": "Does nothing: there is no redirection.",
    "auth": "Says who the client is; there is one user, `default`.",
    "echo": "Returns what it was given.",
    "hello": "Says which protocol the client speaks, and asks what is here.",
    "ping": "Answers PONG, or what it was given.",
    "quit": "Has the connection closed.",
    "reset": "Makes the connection as if it were new.",
    "monitor": "Has all that clients of this node ask for shown to this connection.",
    "multi": "Has what follows queued, to be run at one moment by EXEC.",
    "discard": "Drops what was queued, and watches nothing.",
    "unwatch": "Watches nothing.",
    "select": "Chooses one of the sixteen databases for this connection.",
    "info": "Tells about this node.",
    "lolwut": "Tells the version.",
    "time": "Returns the cluster's time.",
    "role": "Returns that of a master without replicas.",
    "waitaof": "Always an error: there is no append-only file.",
}
for _name, _summary in _OF_THE_CONNECTION.items():
    known(_name, SESSION, _summary)
known(
    "cluster",
    SESSION,
    "Tells clients that know clusters where slots are.",
    subcommands="countkeysinslot getkeysinslot help info keyslot links myid myshardid nodes shards slots",
)
known(
    "client",
    SESSION,
    "Tells about and changes connections.",
    subcommands="caching getname getredir help id info kill list no-evict no-touch pause reply setinfo setname tracking"
    " trackinginfo unblock unpause",
)
known(
    "command",
    SESSION,
    "Tells about all commands.",
    usage="[subcommand [argument ...]]",
    subcommands="count docs getkeys getkeysandflags help info list",
)
known(
    "config",
    SESSION,
    "Tells the configuration, and changes what can be changed.",
    subcommands="get help resetstat rewrite set",
)
known(
    "script",
    CLUSTER,
    "Has the cluster know scripts, or forget them.",
    subcommands="exists flush help kill load",
)
known(
    "function",
    CLUSTER,
    "Has the cluster know libraries of functions, tells of them, or forgets them.",
    subcommands="delete dump flush help kill list load restore stats",
)
known(
    "pubsub",
    CLUSTER,
    "Tells who has subscribed to what, in the whole cluster.",
    subcommands="channels help numpat numsub shardchannels shardnumsub",
)
known("slowlog", SESSION, "Tells which commands took long on this node.", subcommands="get help len reset")
known(
    "latency",
    SESSION,
    "As of a server that does not monitor its latency.",
    subcommands="doctor graph help histogram history latest reset",
)
known("acl", SESSION, "Tells of the one user there is.", subcommands="cat help list users whoami")
known("module", SESSION, "Tells that no module is loaded.", subcommands="help list")
