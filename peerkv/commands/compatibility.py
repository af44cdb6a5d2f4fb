"""Where what is served differs from Redis 7.2, and why the rest is not: for docs/compatibility.md. Sentences only."""

from __future__ import annotations

from typing import Final

from peerkv.commands.facts import Facts

_LISTED: Final = "keys that KEYS lists are not of one moment"
_SCRIPT: Final = f"500 million steps of Lua's machine (some seconds) and 256 MiB at most; no SCAN, FLUSHALL; {_LISTED}"
_WHOLE_CLUSTER: Final = "means the whole cluster, slot by slot, and is no snapshot"
_LENGTH: Final = "a string is at most 64 MiB long"
_STORED: Final = "a result of at most 64 MiB"
_FOUND: Final = "with COUNT or STOREDIST a result of at most 64 MiB"
_PARTS: Final = "atomic per slot, not over several"
_PAGES: Final = "at most 4,096 elements a page, whatever COUNT says; the first pages of a large one may be empty"
_DRAWS: Final = "at most 1,048,576 draws with repetitions, 256 MiB in all"
_UNMONITORED: Final = "as in a Redis with `latency-monitor-threshold 0` and `latency-tracking no`"
_THIS_NODE: Final = "tells of this node only"

DIFFERS: Final[dict[str, str]] = {
    "append": _LENGTH,
    "asking": "does nothing: there is no redirection",
    "auth": "there are no passwords: only the user `default` is known",
    "bitfield": _LENGTH,
    "client|info": "has no fields for what is not measured here",
    "client|kill": "connections of this node only",
    "client|list": "connections of this node only; has no fields for what is not measured here",
    "client|no-evict": "where all clients together hold too much, such a client is closed last",
    "client|no-touch": "nothing is evicted here by its age: it is noted, and shown by CLIENT LIST",
    "client|pause": "clients of this node only; PEERKV and CLIENT UNPAUSE are let through",
    "client|tracking": "of scripts the keys that they declare are tracked; a hash whose fields have deadlines is to be"
    " forgotten as soon as it is read, and with BCAST nothing is told of fields that expire; where a home is lost,"
    " clients are told to forget what they have;"
    " redis-py's own cache asks for a server that says it is 7.4, as this one does not",
    "client|unblock": "of this node",
    "cluster|info": "the whole cluster is one, whichever owner answers; nobody is a replica of another",
    "cluster|links": "is empty",
    "cluster|myshardid": "is the node's own id: every node is a shard",
    "cluster|nodes": "every member is a master, with the slots of which it is asked first",
    "cluster|shards": "every member is a shard, with the slots of which it is asked first",
    "command|docs": "summaries are our own; no complexity, no history",
    "config|get": "parameters that mean something here; what cannot be changed tells what is so",
    "config|rewrite": "always an error: what is set at run time lasts until the node ends",
    "config|set": "parameters that can be changed at run time; others only to what they are",
    "dbsize": _WHOLE_CLUSTER,
    "debug": "SLEEP only, which has the connection wait, and nobody else",
    "del": _PARTS,
    "dump": "in encodings that Redis 5 and later read; streams need 7.0 (and lose when consumers were active), fields"
    " with deadlines 7.4",
    "exists": _PARTS,
    "eval": _SCRIPT,
    "eval_ro": _SCRIPT,
    "evalsha": _SCRIPT,
    "evalsha_ro": _SCRIPT,
    "fcall": _SCRIPT,
    "fcall_ro": _SCRIPT,
    "flushall": f"{_WHOLE_CLUSTER}; ASYNC is as SYNC",
    "flushdb": f"{_WHOLE_CLUSTER}; ASYNC is as SYNC",
    "function|dump": "in a form that only FUNCTION RESTORE here reads",
    "function|kill": "as SCRIPT KILL",
    "function|restore": "what FUNCTION DUMP here has answered",
    "function|stats": "never tells of a script that runs",
    "geopos": "coordinates with as many digits as a double has, and not always 17",
    "georadius": f"coordinates as by GEOPOS; {_FOUND}",
    "georadius_ro": "coordinates as by GEOPOS",
    "georadiusbymember": f"coordinates as by GEOPOS; {_FOUND}",
    "georadiusbymember_ro": "coordinates as by GEOPOS",
    "geosearch": "coordinates as by GEOPOS",
    "geosearchstore": _FOUND,
    "hello": "mode is `standalone`: no client need know of the cluster",
    "hrandfield": _DRAWS,
    "hscan": f"{_PAGES}; NOVALUES is that of Redis 7.4",
    "info": f"{_THIS_NODE}; has no fields for what is not measured here, and a section `peerkv`; times of commandstats"
    " are of samples, of what the client's node does at once, and a command is listed once it was in one",
    "keys": f"{_WHOLE_CLUSTER}; a pattern of at most 4,096 bytes",
    "latency|doctor": "says that latency is not monitored",
    "latency|graph": _UNMONITORED,
    "latency|histogram": _UNMONITORED,
    "latency|history": _UNMONITORED,
    "latency|latest": _UNMONITORED,
    "latency|reset": _UNMONITORED,
    "lolwut": "one line",
    "memory|usage": "the memory that it takes here, on one node",
    "mget": _PARTS,
    "mset": _PARTS,
    "multi": f"SCAN, DBSIZE, FLUSHALL and others that concern every slot cannot be queued; {_LISTED}",
    "monitor": "clients of this node only (PEERKV MONITOR: of all); what scripts call is not shown",
    "object|encoding": "as Redis would hold what is there now; what has once been large may still be so there",
    "object|freq": "always an error: nothing is evicted by its use",
    "object|idletime": "always 0: nobody notes when a key is read",
    "object|refcount": "always 1",
    "pfadd": "one that is answered INVALIDOBJ has added nothing",
    "pfcount": "never writes the estimate into the key",
    "publish": "answers 0 in a script, and counts the nodes that say so within a second",
    "pubsub|numpat": "different patterns of the whole cluster",
    "randomkey": "of the whole cluster",
    "script|flush": "a node that cannot be reached meanwhile may still know its scripts",
    "script|kill": "of this node, and what has run for some milliseconds; nothing of it has been changed then",
    "role": "always that of a master without replicas",
    "readonly": "matters only where no quorum can be reached: any copy answers then, be it old",
    "restore": "nothing is evicted by its age: IDLETIME and FREQ are not kept",
    "scan": f"{_WHOLE_CLUSTER}; at most 10,000 keys are looked at in one call, whatever COUNT says",
    "sdiffstore": _STORED,
    "set": "knows IFEQ, too (Valkey's)",
    "setbit": _LENGTH,
    "setrange": _LENGTH,
    "sinterstore": _STORED,
    "srandmember": _DRAWS,
    "sscan": _PAGES,
    "sunionstore": "a result of up to 128 members is of at most 64 MiB",
    "slowlog|get": f"{_THIS_NODE}; what cannot take long (GET, SET, ...) is not measured; the client is not known",
    "time": "the time that the cluster agrees on, in milliseconds",
    "touch": _PARTS,
    "unlink": f"{_PARTS}; the same as DEL",
    "wait": "counts owners beside the home, of the slot that the connection wrote last",
    "waitaof": "always an error: there is no append-only file",
    "xinfo|stream": "radix-tree-keys and -nodes tell of nodes as they are here",
    "zdiffstore": _STORED,
    "zinterstore": _STORED,
    "zrandmember": _DRAWS,
    "zscan": _PAGES,
    "zunionstore": _STORED,
    "zadd": "there is one zero: a score of -0 is 0, by whatever command",
}
"""By full name (`config|get`)."""

_NOT_YET: Final = "not yet"
_IN_MEMORY: Final = "data is in memory only; copies of it are on other nodes"
_MEMBERS: Final = "the cluster looks after itself: slots follow from its members (see PEERKV)"
_REPLICATION: Final = "there are no masters and replicas, but owners of slots, who need no telling"

ABSENT: Final[dict[str, str]] = {
    # groups
    "scripting": _NOT_YET,
    "cluster": _MEMBERS,
    # containers and commands
    **dict.fromkeys(("bgrewriteaof", "bgsave", "lastsave", "save"), _IN_MEMORY),
    **dict.fromkeys(("failover", "psync", "replconf", "replicaof", "slaveof", "sync"), _REPLICATION),
    **dict.fromkeys(
        [f"acl|{name}" for name in ("deluser", "dryrun", "genpass", "getuser", "load", "log", "save", "setuser")],
        "there is one user, who needs no password: keep the ports inside",
    ),
    **dict.fromkeys([f"module|{name}" for name in ("load", "loadex", "unload")], "modules are not loaded"),
    "cluster|count-failure-reports": "members' deaths are agreed on by gossip, without reports that could be counted",
    "cluster|replicas": _REPLICATION,
    "cluster|slaves": _REPLICATION,
    "memory|doctor": "INFO and PEERKV STATUS tell how a node is",
    "memory|malloc-stats": "there is no allocator of its own",
    "memory|purge": "there is no allocator of its own",
    "memory|stats": "INFO tells what is measured",
    "migrate": "keys are where the cluster puts them; DUMP and RESTORE copy them elsewhere",
    "pfdebug": "for Redis's own tests",
    "pfselftest": "for Redis's own tests",
    "restore-asking": "between servers of Redis",
    "shutdown": "PEERKV LEAVE hands the node's share back first; so does SIGTERM",
    "swapdb": "keys are held under the number of their database: all of both would have to be renamed at once",
    # what is served in other versions of this page
    "stream": _NOT_YET,
    "generic": _NOT_YET,
    "server": _NOT_YET,
    "connection": _NOT_YET,
    "string": _NOT_YET,
}
"""By full name, by container, or by group."""


def why_not(facts: Facts) -> str:
    """Why a command is not served."""
    container = facts.name.partition("|")[0]
    return ABSENT.get(facts.name) or ABSENT.get(container) or ABSENT[facts.group]
