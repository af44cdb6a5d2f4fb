"""What is known of each command without running it: `facts.json`, read once.

Of every command and subcommand of Redis 7.2, and of those that are served beyond: how many arguments it takes, its
flags, where its keys are, which arguments there are. The file is written by `python -m tests.commands.facts`.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from peerkv.resp import parse_integer

Argument: TypeAlias = Mapping[str, Any]
"""Of a command, as COMMAND DOCS has it: name, type, token, flags, arguments."""

KeySpec: TypeAlias = tuple[tuple[str, ...], tuple[Any, ...], tuple[Any, ...]]
"""As in Redis's key specifications: (flags, where the search begins: `index AT`, `keyword WORD FROM` or `unknown`,
which keys are found there: `range LAST STEP LIMIT`, `keynum COUNT_AT FIRST STEP` or `unknown`)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one command or subcommand."""

    name: str
    """In full: `config|get`."""
    arity: int
    """Arguments with the name, and, of a subcommand, that of its command; negative: at least that many."""
    flags: tuple[str, ...]
    keys: tuple[int, int, int]
    """(first, last, step) as in COMMAND INFO; (0, 0, 0): none, or only the specifications can say where."""
    group: str
    since: str
    """The version of Redis that had it first; `beyond` this may be another program's."""
    categories: tuple[str, ...] = ()
    specs: tuple[KeySpec, ...] = ()
    tips: tuple[str, ...] = ()
    deprecated: str = ""
    """Since when."""
    internal: bool = False
    """Between servers, or for Redis's own tests."""
    arguments: Sequence[Argument] = ()
    beyond: bool = False
    """It is none of Redis 7.2."""
    subcommands: dict[str, Facts] = field(default_factory=dict)
    """By their own names: `get`."""

    @property
    def usage(self) -> str:
        """Its arguments as Redis documents them, e.g. `key value [NX | XX]`."""
        if self.subcommands:
            return "subcommand [argument ...]"
        return " ".join(map(_shown, self.arguments))


def _shown(argument: Argument) -> str:
    kind, token, flags = argument["type"], argument.get("token", ""), argument.get("flags", ())
    match kind:
        case "oneof":
            choices = " | ".join(map(_shown, argument["arguments"]))
            shown = choices if "optional" in flags and not token else f"<{choices}>"
        case "block":
            shown = " ".join(map(_shown, argument["arguments"]))
        case "pure-token":
            shown, token = token, ""
        case _:
            shown = argument.get("display_text", argument["name"])
    repeats = "multiple" in flags
    if "multiple_token" in flags:
        shown, token = f"{token} {shown}", ""
    if repeats:
        shown = f"{shown} [{shown} ...]"
    if token:
        shown = f"{token} {shown}"
    return f"[{shown}]" if "optional" in flags else shown


def _read() -> dict[str, Facts]:
    content = pkgutil.get_data("peerkv.commands", "facts.json")
    assert content is not None, "facts.json is a part of the package"
    parts = json.loads(content)
    known: dict[str, Facts] = {}
    for part in ("redis", "beyond"):
        for name, row in parts[part].items():
            facts = known[name] = Facts(
                name,
                row["arity"],
                tuple(row["flags"].split()),
                tuple(row["keys"]),
                row["group"],
                row["since"],
                tuple(row.get("categories", "").split()),
                tuple(map(_spec, row.get("specs", ()))),
                tuple(row.get("tips", "").split()),
                row.get("deprecated", ""),
                row.get("internal", False),
                row.get("arguments", ()),
                part == "beyond",
            )
            container, _, own = name.partition("|")
            if own:
                known[container].subcommands[own] = facts
    return known


def _spec(texts: Sequence[str]) -> KeySpec:
    flags, *places = texts
    begin, find = (
        (kind, *[int(word) if word.lstrip("-").isdigit() else word for word in words])
        for kind, *words in map(str.split, places)
    )
    return tuple(flags.split()), begin, find


FACTS: Final = _read()
"""By full name; commands before their subcommands."""


# -- keys by specification


def located(facts: Facts, request: Sequence[bytes]) -> list[tuple[int, tuple[str, ...]]] | None:
    """Where a request's keys are by its specifications, and the flags of each. None: they cannot say, or the request is
    none that the command would take."""
    found: list[tuple[int, tuple[str, ...]]] = []
    count = len(request)
    for flags, begin, find in facts.specs:
        if "not_key" in flags:
            continue
        first = _begin(begin, request)
        if first is None or "incomplete" in flags:
            return None
        if not first or (first == count and begin[0] == "keyword"):
            continue
        match find:
            case ("range", last, step, limit):
                if last >= 0:
                    last += first
                elif limit:
                    last += first + (count - first) // limit
                else:
                    last += count
            case ("keynum", at, skips, step):
                number = parse_integer(request[first + at]) if first + at < count else None
                if number is None or not 0 <= number <= count:
                    return None
                first += skips
                last = first + number - 1
            case _:
                return None
        if not first <= last < count:
            return None
        found += [(place, flags) for place in range(first, last + 1, step)]
    return found


def _begin(begin: tuple[Any, ...], request: Sequence[bytes]) -> int | None:
    """Where the search of keys begins; 0: the keyword is not there; None: nobody can say."""
    match begin:
        case ("index", at):
            return int(at)
        case ("keyword", word, first):
            keyword = word.encode()
            places = range(first, len(request)) if first > 0 else range(len(request) + first, 1, -1)
            return next((at + 1 for at in places if at < len(request) and request[at].upper() == keyword), 0)
        case _:
            return None
