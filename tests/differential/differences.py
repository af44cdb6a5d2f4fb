"""Where replies may differ from a redis-server 7.0's, as data: what docs/compatibility.md says, what has no order, what
is drawn, what depends on time or on the node, and where 7.2 is another than 7.0.

Whatever is not in here is to be the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Final, TypeAlias

from peerkv.commands.table import COMMANDS
from peerkv.resp.replies import text_of_double
from tests.differential.trees import Tree, is_error, is_null, leaves, shape, shown

ORACLE: Final = b"7.0."
"""The version beside which all this holds."""

OPTIONS: Final = ("--enable-debug-command", "yes")
"""What that server is started with."""

NOT_ASKED: Final[dict[str, str]] = {
    "cluster": "a redis-server that is no cluster has none of it",
    "readonly": "likewise",
    "readwrite": "likewise",
    "asking": "likewise",
    "peerkv": "is our own",
    "quit": "closes the connection: asked at the end of sequences",
    **dict.fromkeys(("function", "fcall", "fcall_ro", "script"), "concerns every sequence: tests/scripting"),
    **dict.fromkeys(
        ("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe"), "answer several times"
    ),
    **dict.fromkeys(
        ("blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin"), "would wait"
    ),
    "monitor": "tells at any time",
    **dict.fromkeys(("multi", "exec", "discard", "watch", "unwatch"), "asked in blocks"),
}
"""Commands, and why they are not among the random ones."""

UNKNOWN_TO_7_0: Final = frozenset(
    ("waitaof", "xsetid", "client|no-touch", "client|setinfo", "cluster|myshardid", "command|getkeysandflags")
)
"""Of Redis 7.2, or otherwise served there."""


def _blocks(request: Sequence[bytes]) -> bool:
    return b"BLOCK" in [word.upper() for word in request]


def _by_clock_or_nodes(request: Sequence[bytes]) -> bool:
    return b"*" in request[2:] or b"~" in request[2:]


OF_7_2: Final[dict[str, Callable[[Sequence[bytes]], bool]]] = {
    "xadd": _by_clock_or_nodes,
    "xtrim": _by_clock_or_nodes,
    "xread": _blocks,
    "xreadgroup": _blocks,
    "set": lambda request: any(word.upper() == b"IFEQ" for word in request[3:]),
    "zrank": lambda request: len(request) > 3,
    "zrevrank": lambda request: len(request) > 3,
}
"""Forms that 7.0 does not know, and that are not asked: WITHSCORE, and Valkey's IFEQ; ids that a clock gives; what is
trimmed by nodes, and what would wait."""

SCRIPT: Final = b"return{KEYS,ARGV}"
"""One that is known before a sequence begins, ..."""
DIGEST: Final = sha1(SCRIPT, usedforsecurity=False).hexdigest()
"""... by this."""
TEMPLATES: Final[dict[str, list[str]]] = {
    "acl|cat": ["ACL CAT nosuch", "ACL CAT a b"],
    "acl|users": ["ACL USERS", "ACL USERS x"],
    "acl|whoami": ["ACL WHOAMI", "ACL WHOAMI x", "ACL NOSUCH", "ACL"],
    "auth": ["AUTH x", "AUTH default x", "AUTH nosuch x", "AUTH", "AUTH a b c"],
    "client|caching": ["CLIENT CACHING yes", "CLIENT CACHING no", "CLIENT CACHING"],
    "client|kill": [
        *("CLIENT KILL ID 99999999", "CLIENT KILL 1.2.3.4:5", "CLIENT KILL TYPE nosuch", "CLIENT KILL ID x"),
        *("CLIENT KILL ADDR 1.2.3.4:5 SKIPME yes", "CLIENT KILL USER nosuch", "CLIENT KILL ID", "CLIENT KILL ID 0"),
        *("CLIENT KILL SKIPME maybe", "CLIENT KILL LADDR 1.2.3.4:5", "CLIENT KILL TYPE pubsub", "CLIENT KILL a b"),
        *("CLIENT KILL ID 99999999 ID 99999998", "CLIENT KILL ADDR 1.2.3.4:5 x", "CLIENT KILL"),
    ],
    "client|list": [
        "CLIENT LIST",
        "CLIENT LIST TYPE normal",
        "CLIENT LIST TYPE x",
        "CLIENT LIST ID x",
        "CLIENT LIST x",
    ],
    "client|no-evict": ["CLIENT NO-EVICT on", "CLIENT NO-EVICT off", "CLIENT NO-EVICT x", "CLIENT NO-EVICT"],
    "client|pause": ["CLIENT PAUSE 0", "CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 0 nosuch", "CLIENT PAUSE"],
    "client|reply": ["CLIENT REPLY on", "CLIENT REPLY x", "CLIENT REPLY"],
    "client|setname": ["CLIENT SETNAME me", "CLIENT SETNAME ''", "CLIENT SETNAME a\tb", "CLIENT SETNAME"],
    "client|tracking": ["CLIENT TRACKING off", "CLIENT TRACKING", "CLIENT TRACKING x"],
    "client|unblock": [
        "CLIENT UNBLOCK 99999999",
        "CLIENT UNBLOCK x",
        "CLIENT UNBLOCK 99999999 error",
        "CLIENT UNBLOCK",
    ],
    "command|getkeys": [
        *("COMMAND GETKEYS get a", "COMMAND GETKEYS mset a 1 b 2", "COMMAND GETKEYS zunionstore d 2 a b"),
        *("COMMAND GETKEYS sort a by w* store d", "COMMAND GETKEYS nosuch a", "COMMAND GETKEYS ping x"),
        *(
            "COMMAND GETKEYS get a b",
            "COMMAND GETKEYS zunion 3 a b",
            "COMMAND GETKEYS lmpop 1 a left",
            "COMMAND GETKEYS",
        ),
        *("COMMAND GETKEYS object encoding k", "COMMAND GETKEYS set a 1 get", "COMMAND GETKEYS mset a 1 b"),
    ],
    "config|get": ["CONFIG GET maxmemory", "CONFIG GET nosuch", "CONFIG GET", "CONFIG GET maxmemory appendonly"],
    "config|set": [
        *("CONFIG SET", "CONFIG SET maxmemory", "CONFIG SET nosuch 1", "CONFIG SET timeout x", "CONFIG SET timeout 0"),
        *("CONFIG SET maxmemory 0 nosuch 1", "CONFIG SET slowlog-max-len 128 slowlog-max-len 128"),
    ],
    "debug": ["DEBUG SLEEP 0", "DEBUG SLEEP"],
    "latency|doctor": ["LATENCY DOCTOR x"],
    "latency|histogram": ["LATENCY HISTOGRAM nosuch"],
    "eval": [
        *("EVAL return{KEYS,ARGV,1.9,false,true,{1,nil,2},{ok='a'},{err='b'}} 2 k1 k2 a1", "EVAL return 0", "EVAL 1"),
        *("EVAL return(redis.call('incrby',KEYS[1],ARGV[1])) 1 {x}n1 5", "EVAL error('x') 0", "EVAL return -1"),
        *("EVAL return(redis.call('set',KEYS[1],redis.call('type',KEYS[2]).ok)) 2 {x}s1 l4", "EVAL return 9 x"),
        *("EVAL return(redis.pcall('rpush',KEYS[1],unpack(ARGV))) 1 {x}l1 a b c", "EVAL syntax( 0", "EVAL return x"),
        *("EVAL return{redis.call('rename',KEYS[1],KEYS[2]),redis.call('ttl',KEYS[2])} 2 {x}s1 s3", "EVAL"),
        *("EVAL redis.call('del',KEYS[1])return(redis.call('exists',KEYS[1],KEYS[2])) 2 {x}h1 h3",),
    ],
    "eval_ro": [
        *("EVAL_RO return(redis.call('get',KEYS[1])) 1 {x}s1", "EVAL_RO return(redis.pcall('del',KEYS[1])) 1 {x}s1"),
        *("EVAL_RO return{redis.call('type',KEYS[1]),redis.call('strlen',KEYS[2])} 2 {x}l1 s3", "EVAL_RO return 2 a"),
    ],
    "evalsha": [f"EVALSHA {DIGEST} 2 a l4 x", "EVALSHA " + 40 * "0" + " 0", "EVALSHA x 0", "EVALSHA x", "EVALSHA x 1"],
    "evalsha_ro": [f"EVALSHA_RO {DIGEST} 1 a", "EVALSHA_RO " + 40 * "0" + " 0", "EVALSHA_RO x 0", "EVALSHA_RO x 2 a"],
    "hello": ["HELLO", "HELLO 2", "HELLO 3", "HELLO 4", "HELLO x", "HELLO 3 SETNAME me", "HELLO 3 AUTH a", "HELLO 3 x"],
    "info": ["INFO", "INFO server", "INFO nosuch", "INFO server memory", "INFO everything"],
    "lolwut": ["LOLWUT"],
    "select": [
        "SELECT 0",
        "SELECT 1",
        "SELECT 2",
        "SELECT 0",
        "SELECT x",
        "SELECT 16",
        "SELECT -1",
        "SELECT 99999",
        "SELECT",
    ],
    "wait": ["WAIT 0 10", "WAIT x 0", "WAIT 0 x", "WAIT 0 -1", "WAIT"],
}
"""What is asked of commands that would stop the server, change its settings, or tell of others."""

UNORDERED: Final = frozenset(
    ["smembers", "sinter", "sunion", "sdiff", "hkeys", "hvals", "keys", "client|trackinginfo", "spop"]
)
"""Their elements have no order."""
UNORDERED_PAIRS: Final = frozenset(("hgetall",))
"""Likewise, each with what belongs to it."""
DRAWS: Final[dict[str, tuple[bytes, ...]]] = {
    "srandmember": (b"SMEMBERS",),
    "hrandfield": (b"HGETALL",),
    "zrandmember": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    "randomkey": (b"KEYS", b"*"),
}
"""Their elements are drawn: how to have all of which they may be."""
POPS: Final = frozenset(("spop",))
"""What they have drawn is gone."""
PAGES: Final = frozenset(("scan", "hscan", "sscan", "zscan"))
"""Their cursors and the order of their elements differ: all pages together are to be the same."""
LEXICAL: Final[dict[str, int]] = {
    **dict.fromkeys(("zrangebylex", "zrevrangebylex", "zremrangebylex", "zlexcount", "zrange"), 1),
    "zrangestore": 2,
}
"""Where their key is: of members with several scores it is not specified what they answer, and they are not asked."""
SORTS: Final = frozenset(("sort", "sort_ro"))
"""Redis takes an error of an earlier command for its own, unless SCAN has come between (errno)."""
ONE_AT_A_TIME: Final = frozenset((*DRAWS, *POPS, *PAGES, *LEXICAL, "pfcount", "dbsize", *SORTS))
"""More is asked before anything else happens."""
TIMES: Final = frozenset(("ttl", "pttl", "expiretime", "pexpiretime", "time"))
NODE_SPECIFIC: Final[dict[str, str]] = {
    "client|id": "connections are counted by each",
    "client|info": "has other fields",
    "client|list": "has other fields, and other connections",
    "command": "not all of it is served",
    "command|count": "not all of it is served",
    "command|docs": "summaries are our own",
    "command|info": "some of it is of 7.2: tests/commands/test_facts.py",
    "command|list": "not all of it is served",
    "config|get": "not all of them mean something here",
    "dump": "other encodings: tests/commands/test_dump.py",
    "hello": "versions and numbers of connections",
    "info": "has other fields",
    "lolwut": "one line",
    "memory|usage": "the memory that it takes here",
    "object|idletime": "always 0",
    "object|refcount": "always 1",
    "wait": "counts owners",
    "xgroup|createconsumer": "XCLAIM has made it in 7.2 even where it has claimed nothing",
    "xinfo|consumers": "7.2 makes them earlier, and tells when they were active",
    "xinfo|groups": "7.2 knows better how many entries a group has before it",
    "xinfo|stream": "likewise",
    **dict.fromkeys([f"{name}|help" for name, row in COMMANDS.items() if row.subcommands], "only what is served"),
    "role": "has no replicas to tell of",
    "slowlog|get": "what took long here",
    "slowlog|len": "what took long here",
    "acl|list": "7.2 says more of the user",
}
"""Only the type of the reply is compared, and whether it is an error."""
LARGE_ENCODINGS: Final = {
    b"hashtable": {b"listpack", b"intset"},
    b"skiplist": {b"listpack"},
    b"quicklist": {b"listpack"},
    b"raw": {b"embstr", b"int"},
    b"embstr": {b"int"},
}
"""OBJECT ENCODING: what has once been large, or a sum of floats, stays so there; 7.0 has no small lists."""
DOUBLES: Final = frozenset(
    (
        *("zscore", "zmscore", "zincrby", "zadd", "zrange", "zrevrange", "zrangebyscore", "zrevrangebyscore"),
        *("zpopmin", "zpopmax", "zmpop", "zrandmember", "zunion", "zinter", "zdiff", "zscan"),
    )
)
"""Redis 7.2 prints the shortest text of a double, 7.0 seventeen digits."""
ZEROS: Final = {b"0", b"-0"}
"""The same score: small sorted sets there lose its sign, large ones do not."""

COORDINATES: Final = frozenset(
    ("geopos", "geosearch", "georadius", "georadius_ro", "georadiusbymember", "georadiusbymember_ro")
)
"""They have as many digits as a double has, and not always 17 decimals."""


EXPIRED_MAX: Final = 8
"""DBSIZE counts what has expired until it is dropped, here and there: so many keys of a sequence, at most."""


# -- texts of errors

ERRORS: Final[list[tuple[str, bytes, str]]] = [
    ("pfcount", b"", "-'INVALIDOBJ"),  # it is asked otherwise there, where what is remembered would be told
    ("debug", b"ERR DEBUG SLEEP seconds is all", "-"),
    ("xread", b"ERR Unbalanced 'xread'", '-"ERR Unbalanced XREAD'),
    ("xreadgroup", b"ERR Unbalanced 'xreadgroup'", '-"ERR Unbalanced XREAD'),
    ("xadd", b"ERR The ID specified in XADD is equal or smaller", "-'ERR Elements are too large"),
    ("lpos", b"ERR value is out of range, value must between", ""),
]
"""Command, what we say, and what 7.0 does; how either begins."""


# -- comparing

SAME: Final = "same"

Ask: TypeAlias = Callable[..., Tree]
"""One more request of the redis-server."""


class Asked:
    """A request, its two replies, and what is needed to judge them."""

    def __init__(self, name: str, request: Sequence[bytes], ours: Tree, theirs: Tree, ahead_ms: int, ask: Ask) -> None:
        self.name = name
        """In full: `object|encoding`."""
        self.request = request
        self.ours = ours
        self.theirs = theirs
        self.ahead_ms = ahead_ms
        """Our clock is ahead of theirs by so much."""
        self.ask = ask


def alike(asked: Asked) -> str:
    """Why two replies are alike: they are the same, or which difference is allowed; empty: they are not alike."""
    name, ours, theirs = asked.name, asked.ours, asked.theirs
    if ours == theirs:
        return SAME
    if is_error(ours) or is_error(theirs):
        return "errors of 7.0" if _same_error(asked) else ""
    reasons: tuple[tuple[str, bool, Callable[[Asked], bool]], ...] = (
        ("of the node", name in NODE_SPECIFIC, _same_kind),
        ("times", name in TIMES, _same_times),
        ("times", name == "xpending", _same_pending),
        ("doubles", name in DOUBLES, _same_doubles),
        ("coordinates", name in COORDINATES, _same_coordinates),
        ("no places", name in COORDINATES, _is_no_place),
        ("what has expired", name == "dbsize", _counts_expired),
        ("what has expired", name == "memory|usage", _has_expired),
        ("no order", name in UNORDERED, _same_elements),
        ("no order", name in UNORDERED_PAIRS, _same_pairs),
        ("no order", name in SORTS, _sorted_in_any_order),
        ("drawn", name in DRAWS, _drawn),
        ("encodings", name == "object|encoding", _has_been_large),
    )
    return next((reason for reason, concerns, holds in reasons if concerns and holds(asked)), "")


def _same_kind(asked: Asked) -> bool:
    return asked.ours[0] == asked.theirs[0] and is_null(asked.ours) == is_null(asked.theirs)


def _counts_expired(asked: Asked) -> bool:
    live = len(leaves(asked.ask(b"KEYS", b"*")))
    return live <= int(asked.ours[1]) <= live + EXPIRED_MAX


def _has_expired(asked: Asked) -> bool:
    """What has expired there takes memory still."""
    return is_null(asked.ours) and asked.ask(b"EXISTS", asked.request[2]) == (b":", b"0")


def _sorted_in_any_order(asked: Asked) -> bool:
    if not is_in_any_order(asked.request):
        return False
    limited = b"LIMIT" in [word.upper() for word in asked.request]
    return shape(asked.ours) == shape(asked.theirs) if limited else _same_elements(asked)


def _has_been_large(asked: Asked) -> bool:
    return asked.ours[1] in LARGE_ENCODINGS.get(asked.theirs[1], ())


def is_in_any_order(request: Sequence[bytes]) -> bool:
    """Whether a SORT leaves open in which order some elements come: it is not to sort a set, or to sort by texts of
    which several are the same."""
    options = [word.upper() for word in request]
    patterns = [request[at + 1] for at, word in enumerate(options[:-1]) if word == b"BY"]
    return any(b"*" not in pattern or b"ALPHA" in options for pattern in patterns)


def _same_error(asked: Asked) -> bool:
    for name, ours, theirs in ERRORS:
        if asked.name == name and asked.ours[1].startswith(ours) and shown(asked.theirs).startswith(theirs):
            return True
    return False


TOLERANCE_MS: Final = 5000


def _same_times(asked: Asked) -> bool:
    if shape(asked.ours) != shape(asked.theirs):
        return False
    ours, theirs = (int(leaves(tree)[0]) for tree in (asked.ours, asked.theirs))
    if min(ours, theirs) < 0:
        return False
    unit = 1 if asked.name.startswith("p") else 1000
    apart = (ours - theirs) * unit
    return any(abs(apart - ahead) <= TOLERANCE_MS for ahead in (0, asked.ahead_ms, -asked.ahead_ms))


def _same_pending(asked: Asked) -> bool:
    """But for how long ago it was delivered, which is the third of four."""
    if shape(asked.ours) != shape(asked.theirs) or len(asked.request) < 4:
        return False
    pairs = enumerate(zip(leaves(asked.ours), leaves(asked.theirs), strict=True))
    return all(
        mine == other or (at % 4 == 2 and abs(int(mine) - int(other)) < TOLERANCE_MS) for at, (mine, other) in pairs
    )


def _same_doubles(asked: Asked) -> bool:
    if shape(asked.ours) != shape(asked.theirs):
        return False
    pairs = zip(leaves(asked.ours), leaves(asked.theirs), strict=True)
    return all(mine == other or _as_7_2(other) == mine or {mine, other} == ZEROS for mine, other in pairs)


def _same_coordinates(asked: Asked) -> bool:
    if shape(asked.ours) != shape(asked.theirs):
        return False
    pairs = zip(leaves(asked.ours), leaves(asked.theirs), strict=True)
    return all(mine == other or _near(mine, other) for mine, other in pairs)


def _is_no_place(asked: Asked) -> bool:
    """Whether there are scores that are no places: what C makes of them is not defined."""
    ends = [asked.ask(b"ZRANGE", asked.request[1], end, end, b"WITHSCORES") for end in (b"0", b"-1")]
    scores = [float(leaves(end)[-1]) for end in ends if not is_error(end) and end[1]]
    return any(not 0 <= score < 1 << 52 for score in scores)


def _near(mine: bytes, other: bytes) -> bool:
    try:
        return abs(float(mine) - float(other)) <= 1e-17
    except ValueError:
        return False


def _as_7_2(text: bytes) -> bytes | None:
    try:
        return text_of_double(float(text))
    except (TypeError, ValueError):
        return None


def _same_elements(asked: Asked, step: int = 1) -> bool:
    return shape(asked.ours) == shape(asked.theirs) and _items(asked.ours, step) == _items(asked.theirs, step)


def _same_pairs(asked: Asked) -> bool:
    return _same_elements(asked, 2)


def _items(tree: Tree, step: int) -> Counter[tuple[bytes, ...]]:
    flat = leaves(tree)
    return Counter([tuple(flat[at : at + step]) for at in range(0, len(flat), step)])


def _drawn(asked: Asked) -> bool:
    """Whether all that we have drawn is there, different things where that is asked for, and as much as they drew."""
    if shape(asked.ours) != shape(asked.theirs):
        return False
    query = DRAWS[asked.name]
    arguments = (query[0], *query[1:]) if asked.name == "randomkey" else (query[0], asked.request[1], *query[1:])
    found = leaves(asked.ask(*arguments))
    drawn = leaves(asked.ours)
    paired = len(asked.request) > 3
    if asked.name in ("hrandfield", "zrandmember"):
        there = dict(zip(found[::2], found[1::2], strict=True))
        if paired:
            pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
            if any(there.get(member) != what and _as_7_2(there.get(member) or b"") != what for member, what in pairs):
                return False
            drawn = drawn[::2]
    else:
        there = dict.fromkeys(found)
    repeats = len(asked.request) > 2 and asked.request[2].startswith(b"-")
    return set(drawn) <= set(there) and (repeats or len(set(drawn)) == len(drawn))
