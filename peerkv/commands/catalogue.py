"""COMMAND and its subcommands: what the table and the facts say of the commands that are served, in Redis's shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from peerkv.commands.access import SYNTAX
from peerkv.commands.facts import FACTS, Argument, Facts, KeySpec, located
from peerkv.commands.patterns import matcher
from peerkv.commands.table import COMMANDS, find, fits
from peerkv.resp import Prepared, Reply, ReplyError, Set

_INVALID: Final = ReplyError("ERR Invalid command specified")
_NO_KEYS: Final = ReplyError("ERR The command has no key arguments")
_ARITY: Final = ReplyError("ERR Invalid number of arguments specified for command")
_ARGUMENTS: Final = ReplyError("ERR Invalid arguments specified for command")


def command(request: Sequence[bytes]) -> Reply:
    """COMMAND [subcommand [argument ...]], of which it is known that there is such a one."""
    match [argument.upper() for argument in request[1:2]]:
        case [b"COUNT"]:
            return len(COMMANDS)
        case [] | [b"INFO"]:
            return _informed(request[2:])
        case [b"DOCS"]:
            return _documented(request[2:])
        case [b"LIST"]:
            return _listed(request[2:])
    found = _keys(request[2:])
    if isinstance(found, ReplyError):
        return found
    if request[1].upper() == b"GETKEYS":
        return [request[2 + at] for at, _ in found]
    return [[request[2 + at], Set(list(flags))] for at, flags in found]


def named(name: bytes) -> Facts | None:
    """The command or subcommand of that full name (`config|get`), in any case, if it is served."""
    container, _, own = name.decode("utf-8", "surrogateescape").lower().partition("|")
    row = COMMANDS.get(container)
    if row is None or (own and own not in row.subcommands):
        return None
    return FACTS[f"{container}|{own}"] if own else row.facts


def served() -> Iterator[Facts]:
    """Every command that is served, each before its subcommands."""
    for row in COMMANDS.values():
        yield row.facts
        for own in row.subcommands:
            yield FACTS[f"{row.name}|{own}"]


def prepare() -> None:
    """Make what is the same for everybody who asks: 50 ms of the first node of a process, before it serves."""
    for prepared in (_all_described(), _all_documented()):
        for protocol in (2, 3):
            prepared.encoded(protocol)


# -- INFO


@lru_cache(maxsize=1)
def _all_described() -> Prepared:
    return Prepared([_described(row.facts) for row in COMMANDS.values()])


def _informed(names: Sequence[bytes]) -> Reply:
    if not names:
        return _all_described()
    return [_described(facts) if facts is not None else None for facts in map(named, names)]


def _described(facts: Facts) -> Reply:
    return [
        facts.name.encode(),
        facts.arity,
        Set(list(facts.flags)),
        *facts.keys,
        Set([f"@{category}" for category in facts.categories]),
        Set([tip.encode() for tip in facts.tips]),
        [_specified(spec) for spec in facts.specs],
        [_described(subcommand) for subcommand in _subcommands(facts)],
    ]


_BEGIN: Final = {"index": (b"index",), "keyword": (b"keyword", b"startfrom"), "unknown": ()}
_FIND: Final = {
    "range": (b"lastkey", b"keystep", b"limit"),
    "keynum": (b"keynumidx", b"firstkey", b"keystep"),
    "unknown": (),
}


def _specified(spec: KeySpec) -> Reply:
    flags, (begin, *begin_values), (find_, *find_values) = spec
    begins: Reply = dict(zip(_BEGIN[begin], map(_value, begin_values), strict=True))
    finds: Reply = dict(zip(_FIND[find_], map(_value, find_values), strict=True))
    return {
        b"flags": Set(list(flags)),
        b"begin_search": {b"type": begin.encode(), b"spec": begins},
        b"find_keys": {b"type": find_.encode(), b"spec": finds},
    }


def _value(value: str | int) -> Reply:
    return value.encode() if isinstance(value, str) else value


def _subcommands(facts: Facts) -> list[Facts]:
    row = COMMANDS.get(facts.name)
    return [FACTS[f"{facts.name}|{own}"] for own in row.subcommands] if row is not None else []


# -- DOCS


@lru_cache(maxsize=1)
def _all_documented() -> Prepared:
    return Prepared({row.name.encode(): _document(row.facts) for row in COMMANDS.values()})


def _documented(names: Sequence[bytes]) -> Reply:
    if not names:
        return _all_documented()
    return {facts.name.encode(): _document(facts) for facts in map(named, names) if facts is not None}


def _document(facts: Facts) -> Reply:
    row = COMMANDS.get(facts.name)
    document: dict[Reply, Reply] = {
        b"summary": (row.summary if row is not None else "").encode(),
        b"since": facts.since.encode(),
        b"group": facts.group.encode(),
    }
    if facts.deprecated:
        document[b"doc_flags"] = Set(["deprecated"])
        document[b"deprecated_since"] = facts.deprecated.encode()
    if facts.arguments:
        document[b"arguments"] = [_argument(argument) for argument in facts.arguments]
    subcommands = _subcommands(facts)
    if subcommands:
        document[b"subcommands"] = {subcommand.name.encode(): _document(subcommand) for subcommand in subcommands}
    return document


def _argument(argument: Argument) -> Reply:
    kind = argument["type"]
    shown: dict[Reply, Reply] = {b"name": argument["name"].encode(), b"type": kind.encode()}
    if kind not in ("oneof", "block"):
        shown[b"display_text"] = argument.get("display_text", argument["name"]).encode()
    if "key_spec_index" in argument:
        shown[b"key_spec_index"] = argument["key_spec_index"]
    for key in ("token", "since", "deprecated_since"):
        if key in argument:
            shown[key.encode()] = argument[key].encode()
    if "flags" in argument:
        shown[b"flags"] = Set(list(argument["flags"]))
    if "arguments" in argument:
        shown[b"arguments"] = [_argument(part) for part in argument["arguments"]]
    return shown


# -- LIST


def _listed(options: Sequence[bytes]) -> Reply:
    match [option.upper() for option in options[:2]]:
        case []:
            chosen = served()
        case [b"FILTERBY", by] if len(options) == 3 and by in _FILTERS:
            chosen = filter(_FILTERS[by](options[2]), served())
        case _:
            return SYNTAX
    return [facts.name.encode() for facts in chosen]


def _of_category(category: bytes) -> Callable[[Facts], object]:
    name = category.decode("utf-8", "surrogateescape").lower()
    return lambda facts: name in facts.categories


def _of_pattern(pattern: bytes) -> Callable[[Facts], object]:
    matches = matcher(pattern, ignore_case=True)
    return lambda facts: matches(facts.name.encode())


_FILTERS: Final[dict[bytes, Callable[[bytes], Callable[[Facts], object]]]] = {
    b"MODULE": lambda _module: lambda _facts: False,
    b"ACLCAT": _of_category,
    b"PATTERN": _of_pattern,
}


# -- GETKEYS


def _keys(request: Sequence[bytes]) -> list[tuple[int, tuple[str, ...]]] | ReplyError:
    """Where a request's keys are, and what it does to each."""
    row = find(request[0])
    if row is None:
        return _INVALID
    facts = row.facts
    if row.subcommands and len(request) > 1:
        own = named(b"%b|%b" % (row.name.encode(), request[1]))
        if own is None:
            return _INVALID
        facts = own
    if all("not_key" in flags for flags, _, _ in facts.specs):
        return _NO_KEYS
    if not fits(facts, request):
        return _ARITY
    found = located(facts, request)
    if found is None:
        places = row.keys_at(request) if row.keys_at is not None else ()
        found = [(at, facts.specs[-1 if number else 0][0]) for number, at in enumerate(places)]
    if not found:
        return [] if "no_mandatory_keys" in facts.flags else _ARGUMENTS
    flags_of = _VARIABLE.get(facts.name)
    return [(at, flags_of(request) if flags_of is not None else flags) for at, flags in found]


def _flags_of_set(request: Sequence[bytes]) -> tuple[str, ...]:
    gets = any(argument.upper() == b"GET" for argument in request[3:])
    return ("RW", "access", "update") if gets else ("OW", "update")


def _flags_of_bitfield(request: Sequence[bytes]) -> tuple[str, ...]:
    at = 2
    while at < len(request):
        match request[at].upper():
            case b"GET" if at + 2 < len(request):
                at += 3
            case b"OVERFLOW" if at + 1 < len(request):
                at += 2
            case _:
                return ("RW", "access", "update")
    return ("RO", "access")


_VARIABLE: Final[dict[str, Callable[[Sequence[bytes]], tuple[str, ...]]]] = {
    "set": _flags_of_set,
    "bitfield": _flags_of_bitfield,
}
"""Commands whose flags depend on what is asked."""
