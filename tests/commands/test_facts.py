"""COMMAND, and the facts behind it, beside a real redis-server: what is served is described as Redis describes it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from peerkv.commands.catalogue import command, named, served
from peerkv.commands.facts import FACTS, Argument, Facts, located
from peerkv.commands.table import COMMANDS, Kind, find, help_of, keys_of, subcommand_of
from peerkv.resp import Prepared, Reply, ReplyError
from tests.commands.facts import CHANGED_BY_7_2, PAGE, made, told
from tests.commands.keyspace import Theirs, plain, same


def ask(*request: str | bytes) -> Reply:
    """As the connection's commands do: only what there is is run."""
    words = [word.encode() if isinstance(word, str) else word for word in (b"COMMAND", *request)]
    row = COMMANDS["command"]
    if len(words) > 1:
        subcommand = subcommand_of(row, words)
        if isinstance(subcommand, ReplyError):
            return subcommand
    reply = command(words)
    return reply.reply if isinstance(reply, Prepared) else reply


def unordered(told: Any) -> Any:
    """Maps of what RESP2 has as lists of names and values, and lists of flags, in any order."""
    told = flat(told)
    if not isinstance(told, list):
        return told
    return sorted(map(unordered, told), key=repr)


def flat(told: Any) -> Any:
    if isinstance(told, dict):
        return [flat(part) for item in told.items() for part in item]
    told = plain(told)
    return [flat(item) for item in told] if isinstance(told, list) else told


def of_redis() -> list[Facts]:
    """What is served, and is in a server of 7.0 as it is in 7.2."""
    return [facts for facts in served() if not facts.beyond and facts.name not in CHANGED_BY_7_2]


@pytest.fixture
def seven(theirs: Theirs) -> Theirs:
    """A server of 7.0: what others differ in is not written down here."""
    version = theirs.ask(b"INFO", b"server")
    assert isinstance(version, bytes)
    if b"redis_version:7.0." not in version:
        pytest.skip("no redis-server 7.0")
    return theirs


def test_the_file_is_what_the_server_says(seven: Theirs) -> None:
    """Run `python -m tests.commands.facts` to write it anew."""
    assert PAGE.read_text() == made(told(seven.port))


# -- what rows say


def test_every_row_says_what_it_does_in_one_sentence() -> None:
    for row in COMMANDS.values():
        assert row.summary.endswith("."), row.name
        assert row.facts is FACTS[row.name]


def test_a_command_that_writes_says_so() -> None:
    for row in COMMANDS.values():
        parts = [FACTS[f"{row.name}|{own}"] for own in row.subcommands] or [row.facts]
        if row.kind is Kind.READ:
            assert not any("write" in facts.flags for facts in parts), row.name
        if row.kind is Kind.WRITE and row.name != "sort_ro":  # it is run at home for the keys that patterns stand for
            assert any("write" in facts.flags for facts in parts), row.name


def test_every_subcommand_that_is_served_is_known() -> None:
    for row in COMMANDS.values():
        assert {*row.subcommands} <= {*row.facts.subcommands}, row.name
        assert len({*row.subcommands}) == len(row.subcommands), row.name


def test_where_keys_are_is_said_of_every_command_that_has_some() -> None:
    """Specifications cannot say it of SORT."""
    for row in COMMANDS.values():
        unknown = any("unknown" in spec[1] for spec in row.facts.specs)
        if row.facts.specs and not row.subcommands:
            assert row.keys_at is not None or (row.keys[0] > 0 and not unknown), row.name


# -- COMMAND


def test_info_is_that_of_redis(seven: Theirs) -> None:
    names = [facts.name for facts in of_redis()]
    replies = ask("INFO", *names)
    theirs = seven.ask(b"COMMAND", b"INFO", *[name.encode() for name in names])
    assert isinstance(replies, list)
    assert isinstance(theirs, list)
    for name, ours, other in zip(names, replies, theirs, strict=True):
        assert isinstance(ours, list)
        assert isinstance(other, list)
        assert ours[:2] == other[:2]
        assert unordered(ours[2:8]) == unordered(other[2:8]), name
        specs = [[*spec] for spec in other[8]]
        for spec in specs:
            if b"notes" in spec:  # sentences are left out
                at = spec.index(b"notes")
                del spec[at : at + 2]
        assert unordered(ours[8]) == unordered(specs), name
        theirs_by_name = {subcommand[0] for subcommand in other[9]}
        changed = {name.encode() for name in CHANGED_BY_7_2}
        assert {subcommand[0] for subcommand in ours[9]} <= theirs_by_name | changed


def test_docs_are_those_of_redis_but_for_sentences(seven: Theirs) -> None:
    names = [facts.name for facts in of_redis()]
    ours = ask("DOCS", *names)
    theirs = paired(seven.ask(b"COMMAND", b"DOCS", *[name.encode() for name in names]))
    assert isinstance(ours, dict)
    assert ours.keys() == theirs.keys()
    for name in names:
        mine, other = ours[name.encode()], paired(theirs[name.encode()])
        assert isinstance(mine, dict)
        for key in (b"since", b"group", b"deprecated_since"):
            assert mine.get(key) == other.get(key), name
        assert unordered(mine.get(b"arguments")) == unordered(_as_in_7_2(other.get(b"arguments"))), name


def paired(told: Any) -> dict[Any, Any]:
    return dict(zip(told[::2], told[1::2], strict=True))


def _as_in_7_2(arguments: Any) -> Any:
    """All names with hyphens, and what is shown of each that is no choice and no block."""
    if arguments is None:
        return None
    found = []
    for argument in map(paired, arguments):
        argument[b"name"] = argument[b"name"].replace(b"_", b"-")
        if b"arguments" in argument:
            argument[b"arguments"] = _as_in_7_2(argument[b"arguments"])
        else:
            argument.setdefault(b"display_text", argument[b"name"])
        found.append([part for item in argument.items() for part in item])
    return found


def test_names_and_subcommands_are_found_in_any_case() -> None:
    (get, config, none, foreign) = ask("INFO", "GeT", "Config|GET", "config|nothing", "nothing|get")  # type: ignore[misc]
    assert get[0] == b"get"
    assert config[0] == b"config|get"
    assert none is foreign is None
    assert ask("DOCS", "nothing") == {}


def test_lists_are_filtered(seven: Theirs) -> None:
    everything = ask("LIST")
    assert isinstance(everything, list)
    assert len(everything) > ask("COUNT") == len(COMMANDS)  # type: ignore[operator]
    assert b"config|get" in everything
    assert ask("LIST", "FILTERBY", "MODULE", "json") == []
    assert ask("LIST", "FILTERBY", "ACLCAT", "nothing") == []
    names = {facts.name.encode() for facts in of_redis()}
    filters = ("pattern *get*", "pattern CONFIG|*", "aclcat fast", "ACLCAT string", "aclcat dangerous", "pattern x")
    for words in filters:
        ours, other = (
            ask("LIST", "FILTERBY", *words.split()),
            seven.ask(*f"COMMAND LIST FILTERBY {words}".encode().split()),
        )
        assert isinstance(ours, list)
        assert isinstance(other, list)
        assert names & {*ours} == names & {*other}, words
    for words in ("FILTERBY", "FILTERBY PATTERN", "FILTERBY colour red", "x", "FILTERBY PATTERN a b"):
        assert same(ask("LIST", *words.split()), seven.ask(*f"COMMAND LIST {words}".encode().split())), words


@pytest.mark.parametrize(
    "words",
    ["NOTHING", "COUNT 1", "GETKEYS", "GETKEYSANDFLAGS", "GETKEYS NOTHING a", "GETKEYS PING x", "GETKEYS GET a b"],
)
def test_errors_are_those_of_redis(theirs: Theirs, words: str) -> None:
    if words in ("GETKEYS", "GETKEYSANDFLAGS"):
        assert ask(*words.split()) == ReplyError(f"ERR wrong number of arguments for 'command|{words.lower()}' command")
    else:
        assert same(ask(*words.split()), theirs.ask(b"COMMAND", *words.encode().split()))


def test_help_names_what_is_served() -> None:
    for row in COMMANDS.values():
        if row.subcommands:
            assert "help" in row.subcommands, row.name
            first, *lines = help_of(row)  # type: ignore[misc]
            assert row.name.upper() in first
            assert [line.split()[0].lower() for line in lines] == sorted(row.subcommands)


# -- keys

TREES = [facts for facts in of_redis() if facts.specs and facts.arguments]


def written(facts: Facts, rng: random.Random) -> list[bytes]:
    """A request as the tree of its arguments allows it."""
    words: list[bytes] = []
    for argument in facts.arguments:
        _write(argument, words, rng)
    return [*facts.name.encode().split(b"|"), *words]


def _write(argument: Argument, words: list[bytes], rng: random.Random) -> None:
    flags = argument.get("flags", ())
    if "optional" in flags and rng.random() < 0.5:
        return
    for repeated in range(rng.randrange(1, 4) if "multiple" in flags else 1):
        if "token" in argument and (not repeated or "multiple_token" in flags):
            words.append(argument["token"].encode())
        match argument["type"]:
            case "oneof":
                _write(rng.choice(argument["arguments"]), words, rng)
            case "block":
                for part in argument["arguments"]:
                    _write(part, words, rng)
            case "integer":
                words.append(b"%d" % rng.randrange(-1, 4))
            case "pure-token":
                pass
            case _:
                words.append(rng.choice([b"a", b"b", b"store", b"GET", b"", b"1"]))


@pytest.mark.parametrize("facts", TREES, ids=lambda facts: facts.name)
def test_keys_are_where_redis_finds_them(theirs: Theirs, facts: Facts) -> None:
    """Whoever routes by another key sends a command where its cells are not."""
    rng = random.Random(facts.name)
    for _ in range(40):
        request = written(facts, rng)
        if len(request) > 2 and rng.random() < 0.2:
            request = request[: rng.randrange(2, len(request) + 1)]
        if len(request) == 1:
            continue  # Redis 7.0 wants more for GETKEYS, 7.2 does not
        for subcommand in (b"GETKEYS", b"GETKEYSANDFLAGS"):
            ours, other = ask(subcommand, *request), theirs.ask(b"COMMAND", subcommand, *request)
            assert unordered(ours) == unordered(other) or same(ours, other), request
        row = find(request[0])
        keys = ask(b"GETKEYS", *request)
        assert row is not None
        if isinstance(keys, list):
            assert keys == list(keys_of(row, request)), "requests are routed by the same keys"


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ("zunionstore d 2 a b weights 1 2", [1, 3, 4]),
        ("zunionstore d 3 a b", None),
        ("zunionstore d x a b", None),
        ("sintercard 2 a b limit 1", [2, 3]),
        ("sintercard 0 a", None),
        ("eval script 0 argument", None),
        ("georadius k 1 2 3 m store d", [1, 7]),
        ("georadius k 1 2 3 m count 5", [1]),
        ("georadius k 1 2 3 m storedist", [1]),
        ("xread count 1 streams a b c 1 2 3", [4, 5, 6]),
        ("xread count 1", []),
        ("lmpop 2 a b left", [2, 3]),
        ("bitop and d a b c", [2, 3, 4, 5]),
        ("mset a 1 b 2", [1, 3]),
        ("blpop a b c 0", [1, 2, 3]),
        ("sort a store b", None),
        ("migrate h 1 k 0 9 keys a b", None),
    ],
)
def test_specifications_say_where_keys_are(words: str, places: list[int] | None) -> None:
    """Of commands that are not served yet, too."""
    request: Sequence[bytes] = words.encode().split()
    found = located(FACTS[request[0].decode()], request)
    assert (found if found is None else [at for at, _ in found]) == places


def test_a_name_is_that_of_one_command() -> None:
    assert named(b"OBJECT|nothing") is None
    assert [facts for facts in FACTS.values() if facts.beyond and "|" not in facts.name]
