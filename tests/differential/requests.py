"""Random requests, good and bad, out of what the table of commands knows of their arguments.

A good request is a walk through the command's tree of arguments (`facts.json`), with values from small pools, so that
commands meet each other's keys and elements; a bad one is a good one of which something was left out, doubled, changed
for another thing, or put elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from peerkv.commands.facts import FACTS, Argument, Facts
from peerkv.commands.table import COMMANDS, Kind
from tests.differential.differences import NOT_ASKED, TEMPLATES, UNKNOWN_TO_7_0

# -- pools

KEYS: Final[dict[str, list[bytes]]] = {
    "string": [b"{x}s1", b"{x}s2", b"{x}n1", b"s3", b"s4", b"{x}w1", b"{x}w2", b"{x}wm1"],
    "bitmap": [b"{x}b1", b"{x}b2", b"{x}b3", b"b4"],
    "hash": [b"{x}h1", b"{x}h2", b"h3", b"{x}hm1", b"{x}h5"],
    "list": [b"{x}l1", b"{x}l2", b"{x}l3", b"l4"],
    "set": [b"{x}t1", b"{x}t2", b"{x}t3", b"t4", b"{x}i1", b"{x}i2"],
    "sorted-set": [b"{x}z1", b"{x}z2", b"{x}z3", b"z4"],
    "hyperloglog": [b"{x}p1", b"{x}p2", b"{x}p3", b"p4"],
    "geo": [b"{x}g1", b"{x}g2", b"g3"],
    "stream": [b"{x}r1", b"{x}r2", b"r3"],
}
"""By the group of commands that are mostly asked of them."""
EVEN: Final = [b"{x}y1", b"{x}y2", b"y3"]
"""Sorted sets whose members have one score, mostly."""
MISSING: Final = [b"{x}none", b"none", b""]
DATA_GROUPS: Final = tuple(KEYS)
ALL_KEYS: Final = {*[key for pool in KEYS.values() for key in pool], *MISSING, *EVEN} - {b""}

BIG: Final = [b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808"]
NOT_INTEGERS: Final = [b"x", b"", b"1.5", b" 1", b"01", b"+1", b"-0", b"1e3", b"0x10"]
SMALL: Final = [b"0", b"1", b"-1", b"2", b"3", b"5", b"-2", b"10", b"-10", b"100", b"-100"]
VALUES: Final = [
    *(b"", b"0", b"1", b"-7", b"10", b"3.5", b"abc", b"m1", b"9223372036854775807", b"x" * 30, b"y" * 70, b"\x00\xff"),
    *(b"a\r\nb", b"1e2", b"0.1", b" 12", b"foobar", b"ohmytext", b"mynewtext", b"\xc3\xa9", b"z" * 600),
]
ELEMENTS: Final = [
    *(b"m1", b"m2", b"m3", b"m4", b"m5", b"a", b"b", b"c", b"1", b"2", b"3", b"17", b"-5", b"70000", b"5000000000"),
    *(b"", b"1.5", b"e" * 65, b"\x00\xff\r\n", b"m\xc3\xa9", b"9223372036854775807", b"01", b"f"),
]
SCORES: Final = [
    *(b"0", b"1", b"2", b"3", b"-1", b"1.5", b"-2.25", b"10", b"1e3", b"0.1", b"3.0", b"1e-7", b"123456789.125"),
    *(b"inf", b"-inf", b"+inf", b"nan", b"x", b"", b"1e308", b"-0", b"0x10", b"17179869184", b"9007199254740993"),
    *(b"1e17", b"1e21", b"-1e300", b"5e-324", b"0.30000000000000004", b"1 ", b" 1"),
]
BORDERS: Final = [b"-inf", b"+inf", b"(1", b"1", b"(-inf", b"0", b"2", b"(2", b"10", b"-1", b"inf", b"x", b"(x", b"("]
LEXICAL: Final = [b"-", b"+", b"[a", b"(a", b"[b", b"(c", b"[m2", b"(m4", b"[", b"(", b"a", b"", b"[f", b"--"]
PATTERNS: Final = [
    *(b"*", b"{x}*", b"?3", b"[hls]*", b"{x}[^hl]1", b"m?", b"m[1-3]", b"\\*", b"", b"{x}s1", b"*1", b"[", b"nosuch*"),
]
SORT_PATTERNS: Final = [b"{x}w*", b"{x}h*->f", b"{x}hm1->*", b"nosort", b"#", b"{x}nosuch*", b"{x}w*->", b"{x}h*->m1"]
SECONDS: Final = [b"0", b"-1", b"x", b"", b"9223372036854775807", b"9223372036854775", b"1e3"]
LIFETIMES: Final = {"seconds": 1, "milliseconds": 1000, "ttl": 1000}
UNIX_S: Final = [b"4102444800", b"4102444801", b"4000000000", b"1", b"0", b"-1", b"x", b"9223372036854775807"]
UNIX_MS: Final = [b"4102444800000", b"4102444800001", b"4000000000123", b"1", b"0", b"-1", b"x", b"9223372036854775807"]
OFFSETS: Final = [b"0", b"1", b"2", b"7", b"8", b"31", b"100", b"511", b"4000", b"-1", b"x", b"4294967296", b"#1"]
BYTE_OFFSETS: Final = [b"0", b"1", b"2", b"5", b"20", b"600", b"-1", b"x", b"536870912", b"9223372036854775807"]
ENCODINGS: Final = [b"u8", b"i8", b"u1", b"i5", b"u63", b"i64", b"u64", b"i65", b"u0", b"x", b"u", b"i16", b"u32"]
RADII: Final = [b"100", b"1000", b"0", b"20000", b"0.5", b"1e7", b"-1", b"x", b"nan"]
COUNTS: Final = [b"0", b"1", b"2", b"3", b"7", b"200", b"-1", b"-3", b"-20", b"x", b"", b"9223372036854775807", b"1.5"]
"""Not the most negative ones: of them Redis would draw as many elements."""
NEW_IDS: Final = [*[b"9-*"] * 8, b"5-*", b"3-1", b"9-3", b"1-1", b"0-0", b"9", b"x", b"9-x", b"", b"7-7-7"]
"""In whatever order they come, most of them are above the last one."""
IDS: Final = [
    *[b"9-%d" % number for number in range(9)],
    b"0",
    b"5-0",
    b"3-1",
    b"5",
    b"9",
    b"1-1",
    b"x",
    b"-",
    b"+",
    b"",
]
ENDS: Final = [b"-", b"+", b"0", b"9-3", b"(9-1", b"5", b"(5-1", b"9", b"+", b"-", b"(0", b"x", b"(", b"(-"]
IDLE: Final = [b"0", b"0", b"10000000", b"-1", b"x", b"9223372036854775807"]
"""As long as a test does not take, if at all."""
GROUPS_OF_CONSUMERS: Final = [b"gr1", b"gr1", b"gr2", b"", b"nosuch"]
CONSUMERS: Final = [b"me", b"you", b"they", b"nosuch"]
POOLS: Final[dict[str, list[bytes]]] = {
    "bit": [b"0", b"1", b"0", b"1", b"2", b"x", b"-1"],
    "by-pattern": SORT_PATTERNS,
    "get-pattern": SORT_PATTERNS,
    "consumer": CONSUMERS,
    "consumername": CONSUMERS,
    "count": COUNTS,
    "cursor": [b"0", b"0", b"0", b"0", b"17", b"x", b"-1", b"", b"18446744073709551616"],
    "db": [b"0", b"1", b"2", b"1", b"x", b"-1", b"16"],
    "destination-db": [b"0", b"1", b"2", b"0", b"x", b"-1", b"99999"],
    "element": ELEMENTS,
    "encoding": ENCODINGS,
    "end": ENDS,
    "entries-read": [b"0", b"-1", b"3", b"-2", b"x"],
    "field": ELEMENTS,
    "frequency": [b"1", b"255", b"256", b"x", b"-1"],
    "group": GROUPS_OF_CONSUMERS,
    "groupname": GROUPS_OF_CONSUMERS,
    "height": RADII,
    "id": IDS,
    "latitude": [b"38.115556", b"37.502669", b"0", b"52.5", b"-33.9", b"85.06", b"-85.05112878", b"x", b"nan"],
    "longitude": [b"13.361389", b"15.087269", b"0", b"-0.1", b"179.9", b"-180", b"181", b"x", b""],
    "max": BORDERS,
    "member": ELEMENTS,
    "member1": ELEMENTS,
    "member2": ELEMENTS,
    "milliseconds": SECONDS,
    "min": BORDERS,
    "min-idle-time": IDLE,
    "ms": IDLE,
    "pattern": PATTERNS,
    "pivot": ELEMENTS,
    "radius": RADII,
    "score": SCORES,
    "seconds": SECONDS,
    "serialized-value": [b"", b"x", b"\x00\x01a\n\x00", b"z" * 20],
    "ttl": [b"0", b"0", b"100000", b"-1", b"x", b"4102444800000"],
    "type": [b"string", b"hash", b"list", b"set", b"zset", b"stream", b"nosuch", b"HASH"],
    "unix-time-milliseconds": UNIX_MS,
    "unix-time-seconds": UNIX_S,
    "value": VALUES,
    "width": RADII,
    "weight": [b"1", b"2", b"0.5", b"-1", b"0", b"inf", b"x", b"nan", b"1e400"],
}
"""By the name of an argument."""
OF_COMMANDS: Final[dict[tuple[str, str], list[bytes]]] = {
    ("xadd", "id"): NEW_IDS,
    ("xadd", "threshold"): [b"5", b"2", b"9-3", b"0", b"9-1", b"x", b"-1"],
    ("xtrim", "threshold"): [b"8", b"5", b"9-2", b"0", b"x", b"-1"],
    **{
        (name, border): ENDS
        for name in ("xrange", "xrevrange", "xpending", "xautoclaim")
        for border in ("start", "end")
    },
    ("xread", "id"): [*IDS, b"$", b">"],
    ("xreadgroup", "id"): [*[b">"] * 12, *IDS, b"$"],
    ("xgroup|create", "id"): [b"0", b"0", b"9-1", b"5", b"x"],
    ("setrange", "offset"): BYTE_OFFSETS,
    ("setbit", "offset"): OFFSETS,
    ("getbit", "offset"): OFFSETS,
    ("bitfield", "offset"): OFFSETS,
    ("bitfield_ro", "offset"): OFFSETS,
    ("incrbyfloat", "increment"): [b"0.1", b"1", b"-2.5", b"1e3", b"x", b"", b"inf", b"nan", b"1e400", b"0x1p3"],
    ("hincrbyfloat", "increment"): [b"0.1", b"1", b"-2.5", b"1e3", b"x", b"", b"inf", b"nan", b"1e400", b" 1"],
    ("zincrby", "increment"): SCORES,
    **{
        (f"{name}lex", border): LEXICAL
        for name in ("zrangeby", "zrevrangeby", "zremrangeby")
        for border in ("min", "max")
    },
    ("zlexcount", "min"): LEXICAL,
    ("zlexcount", "max"): LEXICAL,
}
"""By command and name, where that is another thing than elsewhere."""
GARBAGE: Final = [
    b"x",
    b"",
    b"-1",
    b"0",
    b"\xff\x00",
    b"(1",
    b"nx",
    b"LIMIT",
    b"withscores",
    b"9" * 30,
    b"COUNT",
    b"{x}s1",
]
UNKNOWN: Final = [b"NOSUCH", b"GETS", b"", b"\xff", b"get ", b"SET\r\n", b"CONFIG|GET"]


# -- what there is to ask


def asked() -> list[tuple[str, Facts]]:
    """Commands and subcommands that a redis-server 7.0 serves as well."""
    found: list[tuple[str, Facts]] = []
    for name, row in COMMANDS.items():
        names = [f"{name}|{own}" for own in row.subcommands] or [name]
        found += [(full, FACTS[full]) for full in names if full in FACTS]
    return [
        (n, f) for n, f in found if not f.beyond and n not in UNKNOWN_TO_7_0 and n.partition("|")[0] not in NOT_ASKED
    ]


ASKED: Final = dict(asked())
GROUPS: Final[dict[str, list[str]]] = {}
for _name, _facts in ASKED.items():
    GROUPS.setdefault(_facts.group, []).append(_name)


class _Count:
    """Stands where a request says how many keys follow, until that is known."""


class Requests:
    """A source of requests; `payloads` are some of DUMP."""

    def __init__(self, rng: random.Random, payloads: Sequence[bytes], only: Sequence[str] = ()) -> None:
        """`only`: of these commands or groups; else of some groups that are chosen now, and generic ones."""
        self._rng = rng
        self._payloads = payloads
        focus = [group for group in only if group in GROUPS] or rng.sample(DATA_GROUPS, rng.choice((1, 2, 2, 3)))
        self._groups = [group for group in focus if group in GROUPS] or ["string"]
        self._names = [name for name in only if name in ASKED]
        self.keys = [key for group in self._groups for key in KEYS.get(group, KEYS["string"])]

    def request(self) -> list[bytes]:
        """The next one."""
        rng = self._rng
        chance = rng.random()
        if chance < 0.04:
            return self._growing()
        if chance < 0.05:
            return [rng.choice(UNKNOWN), *rng.choices(GARBAGE, k=rng.randrange(4))]
        if self._names and chance < 0.6:
            name = rng.choice(self._names)
        elif chance < 0.75:
            name = rng.choice(GROUPS[rng.choice(self._groups)])
        elif chance < 0.9:
            name = rng.choice(GROUPS["generic"])
        elif chance < 0.95:
            name = rng.choice(GROUPS[rng.choice(("connection", "server"))])
        else:
            name = rng.choice(list(ASKED))
        return self.of(name)

    def of(self, name: str) -> list[bytes]:
        """A request of a command."""
        rng = self._rng
        if name == "zadd" and rng.random() < 0.2:
            pairs = [word for _ in range(rng.randrange(1, 6)) for word in (b"0", rng.choice(ELEMENTS))]
            return [b"ZADD", rng.choice(EVEN), *pairs]
        if name in TEMPLATES:
            return [b"" if word == "''" else word.encode() for word in rng.choice(TEMPLATES[name]).split()]
        facts = ASKED[name]
        words: list[bytes | type[_Count]] = [word.encode() for word in name.split("|")]
        options = [self._argument(name, argument) for argument in facts.arguments]
        if rng.random() < 0.3:
            options = self._shuffled(facts.arguments, options)
        for option in options:
            words += option
        request = self._counted(words)
        self._fit_borders(name, request)
        _balance(name, request)
        request = [self._cased(word) if at == 0 else word for at, word in enumerate(request)]
        request = self._spoilt(request) if rng.random() < 0.22 else request
        return [word for word in request if word.upper() != b"BLOCK"]  # without it there may be an error, but no wait

    # -- arguments

    def _argument(self, name: str, argument: Argument) -> list[bytes | type[_Count]]:
        rng = self._rng
        flags = argument.get("flags", ())
        if "optional" in flags and rng.random() < 0.6:
            return []
        token = argument.get("token", "")
        made: list[bytes | type[_Count]] = []
        for turn in range(rng.choice((1, 1, 2, 2, 3, 4)) if "multiple" in flags else 1):
            if token and (not turn or "multiple_token" in flags):
                made.append(self._cased(token.encode()))
            match argument["type"]:
                case "oneof":
                    made += self._argument(name, _sure(rng.choice(argument["arguments"])))
                case "block":
                    for part in argument["arguments"]:
                        made += self._argument(name, part)
                case "pure-token":
                    pass
                case _:
                    made.append(self._value(name, argument))
        return made

    def _value(self, name: str, argument: Argument) -> bytes | type[_Count]:
        rng = self._rng
        kind, named = argument["type"], argument["name"]
        if kind == "key":
            return self._key(name)
        if named == "numkeys":
            return _Count if rng.random() < 0.9 else rng.choice([b"0", b"-1", b"100", b"x", b"1", b"2"])
        if named == "serialized-value" and self._payloads and rng.random() < 0.9:
            return self._payload()
        if named in LIFETIMES and rng.random() < 0.6:
            return b"%d" % (LIFETIMES[named] * rng.randrange(100, 1_000_000))  # two that are the same would race
        pool = OF_COMMANDS.get((name, named)) or POOLS.get(named)
        if kind == "integer" and named in ("increment", "decrement", "value"):
            pool = OF_COMMANDS.get((name, named)) or [*SMALL, *BIG, *NOT_INTEGERS]
        if pool is not None:
            good = len(pool) * 2 // 3
            return rng.choice(pool if rng.random() < 0.4 or good < 3 else pool[:good])
        if kind == "double":
            return rng.choice(SCORES)
        if kind == "integer":
            return rng.choice(SMALL if rng.random() < 0.85 else [*BIG, *NOT_INTEGERS])
        return rng.choice(VALUES if rng.random() < 0.5 else ELEMENTS)

    def _key(self, name: str) -> bytes:
        rng = self._rng
        row = COMMANDS[name.partition("|")[0]]
        chance = rng.random()
        if "lex" in name and chance < 0.9:
            keys = EVEN
        elif chance < 0.8:
            keys = KEYS.get(ASKED[name].group, self.keys)
        elif chance < 0.97:
            keys = self.keys
        else:
            keys = [*MISSING, *[key for pool in KEYS.values() for key in pool]]
        if row.kind is not Kind.SPREAD and not row.one_key and rng.random() < 0.7:
            keys = [key for key in keys if key.startswith(b"{x}")]
        return rng.choice(keys)

    def _payload(self) -> bytes:
        rng = self._rng
        payload = rng.choice(self._payloads)
        if rng.random() < 0.1:
            at = rng.randrange(len(payload))
            payload = payload[:at] + bytes([rng.randrange(256)]) + payload[at + 1 :]
        return payload

    def _counted(self, words: list[bytes | type[_Count]]) -> list[bytes]:
        """How many keys there are is known from where they end: they are all that begins with a pool's letter."""
        keys = {*[key for pool in KEYS.values() for key in pool], *MISSING, *EVEN}
        request: list[bytes] = []
        for at, word in enumerate(words):
            if isinstance(word, bytes):
                request.append(word)
                continue
            count = 0
            while at + 1 + count < len(words) and words[at + 1 + count] in keys:
                count += 1
            request.append(b"%d" % count)
        return request

    def _fit_borders(self, name: str, request: list[bytes]) -> None:
        """ZRANGE takes indexes, scores or strings, as a later argument says."""
        if name not in ("zrange", "zrangestore"):
            return
        first = 2 if name == "zrange" else 3
        options = {word.upper() for word in request[first + 2 :]}
        if b"BYLEX" in options and self._rng.random() < 0.9:
            request[first - 1] = self._rng.choice(EVEN)
        pool = LEXICAL if b"BYLEX" in options else BORDERS if b"BYSCORE" in options else SMALL
        for at in (first, first + 1):
            if self._rng.random() < 0.95:
                request[at] = self._rng.choice(pool)

    def _shuffled(
        self, arguments: Sequence[Argument], options: list[list[bytes | type[_Count]]]
    ) -> list[list[bytes | type[_Count]]]:
        """What is optional and stands at the end, in another order."""
        last = max([at for at, one in enumerate(arguments) if "optional" not in one.get("flags", ())], default=-1)
        tail = options[last + 1 :]
        self._rng.shuffle(tail)
        return options[: last + 1] + tail

    def _cased(self, word: bytes) -> bytes:
        return self._rng.choice((word, word, word.upper(), word.lower(), word.title()))

    def _spoilt(self, request: list[bytes]) -> list[bytes]:
        rng = self._rng
        for _ in range(rng.choice((1, 1, 1, 2))):
            at = rng.randrange(1, len(request) + 1)
            match rng.randrange(7):
                case 0:
                    del request[at:]
                case 1:
                    del request[at : at + 1]
                case 2:
                    request[at:at] = request[at - 1 : at] if at > 1 else []
                case 3 if at < len(request):
                    request[at] = rng.choice(GARBAGE)
                case 4:
                    request.insert(at, rng.choice(GARBAGE))
                case 5 if 1 < at < len(request):
                    request[at - 1], request[at] = request[at], request[at - 1]
                case _:
                    request += request[-rng.choice((1, 2)) :] if len(request) > 2 else []
        return request

    # -- collections that are large

    def _growing(self) -> list[bytes]:
        """Many elements at a time: what Redis holds otherwise then."""
        rng = self._rng
        first, count = rng.randrange(400), rng.choice((20, 130, 150, 520))
        numbers = range(first, first + count)
        match rng.choice([group for group in self._groups if group in KEYS] or ["string"]):
            case "hash":
                pairs = [word for n in numbers for word in (b"f%d" % n, b"v%d" % n)]
                return [b"HSET", rng.choice(KEYS["hash"]), *pairs]
            case "list":
                return [rng.choice((b"RPUSH", b"LPUSH")), rng.choice(KEYS["list"]), *[b"e%d" % n for n in numbers]]
            case "set":
                form = rng.choice((b"%d", b"m%d"))
                return [b"SADD", rng.choice(KEYS["set"]), *[form % n for n in numbers]]
            case "sorted-set":
                if rng.random() < 0.3:
                    return [b"ZADD", rng.choice(EVEN), *[word for n in numbers for word in (b"0", b"m%d" % n)]]
                step = rng.choice((1, 3, 50))
                pairs = [word for n in numbers for word in (b"%d" % (n // step), b"m%d" % n)]
                return [b"ZADD", rng.choice(KEYS["sorted-set"]), *pairs]
            case "hyperloglog":
                return [b"PFADD", rng.choice(KEYS["hyperloglog"]), *[b"p%d" % n for n in numbers]]
            case "stream":
                pairs = [word for n in range(count // 5) for word in (b"f%d" % n, b"v%d" % n)]
                return [b"XADD", rng.choice(KEYS["stream"]), b"9-*", *pairs]
            case "bitmap":
                return [b"SETBIT", rng.choice(KEYS["bitmap"]), b"%d" % rng.randrange(40_000), b"1"]
            case _:
                return [b"APPEND", rng.choice(KEYS["string"]), bytes(rng.choices(b"abcdefgh", k=rng.choice((50, 700))))]


def _balance(name: str, request: list[bytes]) -> None:
    """As many ids as keys."""
    if name in ("xread", "xreadgroup"):
        begin = 1 + [word.upper() for word in request].index(b"STREAMS")
        keys = sum(word in ALL_KEYS for word in request[begin:])
        ids = request[begin + keys :]
        request[begin + keys :] = [ids[at % len(ids)] for at in range(keys)]


def _sure(argument: Argument) -> Argument:
    """An argument that was chosen already: it is there."""
    flags = [flag for flag in argument.get("flags", ()) if flag != "optional"]
    return {**argument, "flags": flags}
