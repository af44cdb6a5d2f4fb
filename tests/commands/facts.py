"""Writes peerkv/commands/facts.json: what a redis-server 7.0 says of its commands, and by hand what 7.2 has changed and
what is served beyond. `python -m tests.commands.facts`

Only facts are kept (names, numbers, flags, versions); sentences are not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import redis

from bench.processes import redis as redis_server

PAGE = Path(__file__).parents[2] / "peerkv" / "commands" / "facts.json"

Facts: TypeAlias = dict[str, Any]


# -- what a server says


def told(port: int) -> dict[str, Facts]:
    """Every command and subcommand of a server, by its full name (`config|get`)."""
    with redis.Redis(port=port, protocol=3) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("COMMAND")
        rows = connection.read_response(disable_decoding=True)
        connection.send_command("COMMAND", "DOCS")
        documents = connection.read_response(disable_decoding=True)
        client.connection_pool.release(connection)
    found: dict[str, Facts] = {}
    for row in rows:
        _add(found, row, documents[row[0]])
    return dict(sorted(found.items()))


def _add(found: dict[str, Facts], row: list[Any], document: dict[bytes, Any]) -> None:
    row, document = _text(row), _text(document)
    name, arity, flags, first, last, step, categories, tips, specs, subcommands = row
    facts: Facts = {
        "arity": arity,
        "flags": " ".join(flags),
        "categories": " ".join([category.removeprefix("@") for category in categories]),
        "keys": [first, last, step],
        "specs": [_spec(spec) for spec in specs],
        "tips": " ".join(tips),
        "group": document["group"],
        "since": document["since"],
        "deprecated": document.get("deprecated_since", ""),
        "internal": "syscmd" in document.get("doc_flags", ()),
        "arguments": [_argument(argument) for argument in document.get("arguments", ())],
    }
    found[name] = {key: value for key, value in facts.items() if value or key in ("arity", "flags", "keys")}
    for subcommand in subcommands:
        _add(found, subcommand, document["subcommands"][subcommand[0]])


def _text(told: Any) -> Any:
    match told:
        case bytes():
            return told.decode()
        case dict():
            return {_text(key): _text(value) for key, value in told.items()}
        case list() | set():
            return [_text(item) for item in told]
        case _:
            return told


def _spec(spec: Facts) -> list[str]:
    """[flags, where the search begins, which keys are found there]"""
    begin, find = spec["begin_search"], spec["find_keys"]
    parts = [[part["type"], *map(str, part["spec"].values())] for part in (begin, find)]
    return [" ".join(spec["flags"]), *[" ".join(part) for part in parts]]


def _argument(argument: Facts) -> Facts:
    kept = {key: value for key, value in argument.items() if key not in ("summary", "arguments")}
    kept["name"] = kept["name"].replace("_", "-")  # as 7.2 writes all of them
    if "arguments" in argument:
        kept["arguments"] = [_argument(part) for part in argument["arguments"]]
    return kept


# -- by hand


def value(name: str, kind: str = "string", token: str = "", *flags: str, **more: Any) -> Facts:
    return {
        "name": name,
        "type": kind,
        **({"token": token} if token else {}),
        **more,
        **({"flags": list(flags)} if flags else {}),
    }


def key(name: str = "key", spec: int = 0, *flags: str, token: str = "", **more: Any) -> Facts:
    return value(name, "key", token, *flags, key_spec_index=spec, **more)


def word(token: str, *flags: str, name: str = "", **more: Any) -> Facts:
    return value(name or token.lower(), "pure-token", token, *flags, **more)


def one_of(name: str, *choices: Facts, token: str = "", flags: tuple[str, ...] = (), **more: Any) -> Facts:
    return {**value(name, "oneof", token, *flags, **more), "arguments": list(choices)}


def block(name: str, *parts: Facts, token: str = "", flags: tuple[str, ...] = (), **more: Any) -> Facts:
    return {**value(name, "block", token, *flags, **more), "arguments": list(parts)}


OPTIONAL, MULTIPLE = "optional", "multiple"
ON_OFF = one_of("enabled", word("ON"), word("OFF"))
TO_ALL_NODES = "request_policy:all_nodes response_policy:all_succeeded"
RANK = [key(), value("member"), word("WITHSCORE", OPTIONAL)]
COMMAND_AND_ARGUMENTS = [value("command"), value("arg", "string", "", OPTIONAL, MULTIPLE)]
UNITS = one_of("unit", *[word(unit) for unit in ("m", "km", "ft", "mi")])
MEMBERS_IF_ANY = [key(), value("member", "string", "", MULTIPLE, OPTIONAL)]


def _radius(*centre: Facts, any_since: dict[str, str]) -> list[Facts]:
    return [
        key(),
        *centre,
        value("radius", "double"),
        UNITS,
        *[word(option, OPTIONAL) for option in ("WITHCOORD", "WITHDIST", "WITHHASH")],
        block("count-block", value("count", "integer", "COUNT"), word("ANY", OPTIONAL, **any_since), flags=(OPTIONAL,)),
        one_of("order", word("ASC"), word("DESC"), flags=(OPTIONAL,)),
        one_of(
            "store",
            key("storekey", 1, token="STORE", display_text="key"),
            key("storedistkey", 2, token="STOREDIST", display_text="key"),
            flags=(OPTIONAL,),
        ),
    ]


def _client_types(*names: tuple[str, str], **more: Any) -> Facts:
    choices = [word(name, **({"since": since} if since else {})) for name, since in names]
    return one_of("client-type", *choices, token="TYPE", flags=(OPTIONAL,), **more)


NORMAL, MASTER, PUBSUB = ("normal", ""), ("master", ""), ("pubsub", "")
SORT_PATTERNS = {
    "by-pattern": value("by-pattern", "pattern", "BY", OPTIONAL, key_spec_index=1, display_text="pattern"),
    "get-pattern": value(
        "get-pattern", "pattern", "GET", OPTIONAL, MULTIPLE, "multiple_token", key_spec_index=1, display_text="pattern"
    ),
}
_SORT = [
    key(),
    SORT_PATTERNS["by-pattern"],
    block("limit", value("offset", "integer"), value("count", "integer"), token="LIMIT", flags=(OPTIONAL,)),
    SORT_PATTERNS["get-pattern"],
    one_of("order", word("ASC"), word("DESC"), flags=(OPTIONAL,)),
    word("ALPHA", OPTIONAL, name="sorting"),
]

CHANGED_BY_7_2: dict[str, Facts] = {
    **{
        name: {"tips": TO_ALL_NODES}
        for name in ("acl|deluser", "acl|save", "acl|setuser", "client|setname", "config|resetstat", "config|rewrite")
    },
    "bitop": {
        "arguments": [
            one_of("operation", *[word(name) for name in ("AND", "OR", "XOR", "NOT")]),
            key("destkey"),
            key("key", 1, MULTIPLE),
        ]
    },
    **{
        name: {"flags": flags}
        for name, flags in {
            "blmove": "write denyoom blocking",
            "blpop": "write blocking",
            "brpop": "write blocking",
            "brpoplpush": "write denyoom blocking",
            "bzpopmax": "write blocking fast",
            "bzpopmin": "write blocking fast",
            "cluster|shards": "loading stale",
            "cluster|slots": "loading stale",
            "wait": "",
        }.items()
    },
    "client|kill": {
        "arguments": [
            one_of(
                "filter",
                value("old-format", deprecated_since="2.8.12", display_text="ip:port"),
                one_of(
                    "new-format",
                    value("client-id", "integer", "ID", OPTIONAL, since="2.8.12"),
                    _client_types(
                        NORMAL, ("master", "3.2.0"), ("slave", ""), ("replica", "5.0.0"), PUBSUB, since="2.8.12"
                    ),
                    value("username", "string", "USER", OPTIONAL),
                    value("addr", "string", "ADDR", OPTIONAL, display_text="ip:port"),
                    value("laddr", "string", "LADDR", OPTIONAL, since="6.2.0", display_text="ip:port"),
                    one_of("skipme", word("YES"), word("NO"), token="SKIPME", flags=(OPTIONAL,)),
                    flags=(MULTIPLE,),
                ),
            )
        ]
    },
    "client|list": {
        "arguments": [
            _client_types(NORMAL, MASTER, ("replica", ""), PUBSUB, since="5.0.0"),
            value("client-id", "integer", "ID", OPTIONAL, MULTIPLE, since="6.2.0"),
        ]
    },
    "client|no-touch": {
        "arity": 3,
        "flags": "noscript loading stale",
        "categories": "slow connection",
        "keys": [0, 0, 0],
        "group": "connection",
        "since": "7.2.0",
        "arguments": [ON_OFF],
    },
    "client|pause": {"since": "3.0.0"},
    "client|setinfo": {
        "arity": 4,
        "flags": "noscript loading stale",
        "categories": "slow connection",
        "keys": [0, 0, 0],
        "tips": TO_ALL_NODES,
        "group": "connection",
        "since": "7.2.0",
        "arguments": [
            one_of("attr", value("libname", "string", "lib-name"), value("libver", "string", "lib-ver")),
        ],
    },
    "cluster|myshardid": {
        "arity": 2,
        "flags": "stale",
        "categories": "slow",
        "keys": [0, 0, 0],
        "tips": "nondeterministic_output",
        "group": "cluster",
        "since": "7.2.0",
    },
    "command|getkeys": {"arity": -3, "arguments": COMMAND_AND_ARGUMENTS},
    "command|getkeysandflags": {"arity": -3, "arguments": COMMAND_AND_ARGUMENTS},
    "config|get": {"arguments": [value("parameter", "string", "", MULTIPLE)]},
    "geohash": {"arguments": MEMBERS_IF_ANY},
    "geopos": {"arguments": MEMBERS_IF_ANY},
    "georadius": {
        "arguments": _radius(value("longitude", "double"), value("latitude", "double"), any_since={"since": "6.2.0"})
    },
    "georadiusbymember": {"arguments": _radius(value("member"), any_since={})},
    "latency|reset": {"tips": "request_policy:all_nodes response_policy:agg_sum"},
    "lcs": {
        "arguments": [
            key("key1"),
            key("key2"),
            word("LEN", OPTIONAL),
            word("IDX", OPTIONAL),
            value("min-match-len", "integer", "MINMATCHLEN", OPTIONAL),
            word("WITHMATCHLEN", OPTIONAL),
        ]
    },
    "msetnx": {"tips": ""},
    "pfmerge": {"arguments": [key("destkey"), key("sourcekey", 1, OPTIONAL, MULTIPLE)]},
    "psubscribe": {"arguments": [value("pattern", "pattern", "", MULTIPLE)]},
    "randomkey": {"tips": "request_policy:all_shards response_policy:special nondeterministic_output"},
    "scan": {"tips": "nondeterministic_output request_policy:special response_policy:special"},
    "sort": {"arguments": [*_SORT, key("destination", 2, OPTIONAL, token="STORE")]},
    "sort_ro": {"arguments": _SORT},
    "waitaof": {
        "arity": 4,
        "flags": "noscript",
        "categories": "slow connection",
        "keys": [0, 0, 0],
        "tips": "request_policy:all_shards response_policy:agg_min",
        "group": "generic",
        "since": "7.2.0",
        "arguments": [value(name, "integer") for name in ("numlocal", "numreplicas", "timeout")],
    },
    "zrank": {"arity": -3, "arguments": RANK},
    "zrevrank": {"arity": -3, "arguments": RANK},
}


def _of_fields(access: str, *time: Facts) -> Facts:
    """HEXPIRE and its like, of Redis 7.4."""
    reads = access == "read"
    condition = one_of("condition", *[word(name) for name in ("NX", "XX", "GT", "LT")], flags=(OPTIONAL,))
    fields = block("fields", value("numfields", "integer"), value("field", "string", "", MULTIPLE), token="FIELDS")
    flags = "readonly fast" if reads else "write denyoom fast" if time else "write fast"
    return {
        "arity": -6 if time else -5,
        "flags": flags,
        "categories": f"{access} hash fast",
        "keys": [1, 1, 1],
        "specs": [["RO access" if reads else "RW update", "index 1", "range 0 1 0"]],
        "group": "hash",
        "since": "7.4.0",
        "arguments": [key(), *time, *((condition,) if time else ()), fields],
    }


BEYOND: dict[str, Facts] = {
    "delifeq": {
        "arity": 3,
        "flags": "write fast",
        "categories": "write string fast",
        "keys": [1, 1, 1],
        "specs": [["RM delete", "index 1", "range 0 1 0"]],
        "group": "string",
        "since": "9.0.0",
        "arguments": [key(), value("value")],
    },
    "hexpire": _of_fields("write", value("seconds", "integer")),
    "hexpireat": _of_fields("write", value("unix-time-seconds", "unix-time")),
    "hexpiretime": _of_fields("read"),
    "hpersist": _of_fields("write"),
    "hpexpire": _of_fields("write", value("milliseconds", "integer")),
    "hpexpireat": _of_fields("write", value("unix-time-milliseconds", "unix-time")),
    "hpexpiretime": _of_fields("read"),
    "hpttl": _of_fields("read"),
    "httl": _of_fields("read"),
    "peerkv": {
        "arity": -2,
        "flags": "admin",
        "categories": "admin slow dangerous",
        "keys": [0, 0, 0],
        "group": "cluster",
        "since": "7.2.0",
    },
    **{
        f"peerkv|{name}": {
            "arity": arity,
            "flags": flags,
            "categories": "admin slow dangerous",
            "keys": [0, 0, 0],
            "group": "cluster",
            "since": "7.2.0",
            **({"arguments": arguments} if arguments else {}),
        }
        for name, arity, flags, arguments in (
            ("explain", 3, "", [value("key")]),
            ("forget", 3, "admin", [value("name")]),
            ("help", 2, "", []),
            ("leave", 2, "admin", []),
            ("monitor", 2, "admin", []),
            ("recover", -2, "admin", [word("ACCEPT-LOSS", OPTIONAL)]),
            ("status", 2, "", []),
        )
    },
}


def made(told_by_server: dict[str, Facts]) -> str:
    """The file: a line for each command."""
    known = dict(told_by_server)
    for name, facts in CHANGED_BY_7_2.items():
        known[name] = {key: value for key, value in {**known.get(name, {}), **facts}.items() if value or key == "flags"}
    parts = [
        f'"{part}": {{\n'
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in sorted(rows.items()))
        + "\n}"
        for part, rows in (("redis", known), ("beyond", BEYOND))
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    with redis_server() as port:
        PAGE.write_text(made(told(port)))
