"""docs/commands.md lists the table of commands, docs/compatibility.md all of Redis, docs/protocol.md the messages,
docs/operating.md what is measured."""

import re
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any, get_args

import cbor2

from peerkv.agreement.columns import COLUMNS, TELLS
from peerkv.agreement.messages import MESSAGES
from peerkv.commands.catalogue import named
from peerkv.commands.compatibility import ABSENT, DIFFERS, why_not
from peerkv.commands.facts import FACTS
from peerkv.commands.table import COMMANDS
from peerkv.commands.table import Kind as Way
from peerkv.gossip.messages import Body, Datagram, ExchangeAnswer, ExchangeRequest
from peerkv.node import Node
from peerkv.settings import Settings
from peerkv.wire.envelope import ENVELOPE_BYTES, Kind
from peerkv.wire.frames import Hello
from peerkv.wire.gossip import encode_datagram
from tests.libraries import catalogue as libraries

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
PROTOCOL = PAGE.parent / "protocol.md"
COMPATIBILITY = PAGE.parent / "compatibility.md"
OPERATING = PAGE.parent / "operating.md"
PROGRAMS = "<!-- the libraries -->"
GROUPS = (
    "string",
    "bitmap",
    "hash",
    "list",
    "set",
    "sorted-set",
    "geo",
    "hyperloglog",
    "stream",
    "generic",
    "transactions",
    "scripting",
    "pubsub",
    "connection",
    "server",
    "cluster",
)
WAYS = {
    Way.READ: "majority",
    Way.WRITE: "home",
    Way.SPREAD: "split by slot",
    Way.SCRIPT: "transaction",
    Way.CLUSTER: "all slots",
    Way.SESSION: "this node",
}


def rows() -> list[str]:
    lines: list[str] = []
    for group in GROUPS:
        of_group = sorted([row for row in COMMANDS.values() if row.group == group], key=lambda row: row.name)
        if of_group:
            lines += ["", f"## {group.capitalize()}", "", "| command | answered by | |", "|---|---|---|"]
        for row in of_group:
            usage = f"{row.name.upper()} {row.usage}".strip().replace("|", "\\|")
            lines.append(f"| `{usage}` | {WAYS[row.kind]} | {row.summary} |")
    assert {row.group for row in COMMANDS.values()} <= {*GROUPS}
    return lines


def test_every_command_is_listed() -> None:
    """Run `python tests/test_docs.py` to write the lists anew."""
    listed = PAGE.read_text().splitlines()
    begin = listed.index("<!-- the table -->") + 1
    assert listed[begin:] == rows()


def compatibility() -> list[str]:
    """Every command and subcommand of Redis 7.2."""
    lines: list[str] = []
    for group in GROUPS:
        lines += ["", f"## {group.capitalize()}", "", "| command | |", "|---|---|"]
        for name, facts in sorted(FACTS.items()):
            container = name.partition("|")[0]
            if facts.group != group or facts.beyond:
                continue
            if named(name.encode()) is not None:
                answer = f"differs: {DIFFERS[name]}" if name in DIFFERS else "yes"
            elif name == container or container in COMMANDS:
                answer = f"no: {why_not(facts)}"
            else:
                continue
            lines.append(f"| `{name.upper().replace('|', ' ')}` | {answer} |")
    return lines


def test_every_command_of_redis_is_listed() -> None:
    """Run `python -m tests.test_docs` to write the list anew."""
    listed = COMPATIBILITY.read_text().splitlines()
    begin, end = listed.index("<!-- the table -->") + 1, listed.index(PROGRAMS)
    assert listed[begin:end] == [*compatibility(), ""]
    of_redis = {f"| `{name.upper()}`" for name, facts in FACTS.items() if not facts.beyond and "|" not in name}
    assert of_redis <= {line.rpartition(" | ")[0] for line in listed}


def test_every_library_that_is_tried_is_listed() -> None:
    """Run `python -m tests.test_docs` to write the list anew."""
    listed = COMPATIBILITY.read_text().splitlines()
    assert listed[listed.index(PROGRAMS) + 1 :] == ["", *libraries.rows()]


def test_what_differs_is_served_and_what_is_absent_is_not() -> None:
    assert [name for name in DIFFERS if named(name.encode()) is None] == []
    assert [name for name in ABSENT if name in FACTS and named(name.encode()) is not None and name not in GROUPS] == []


def table(title: str, heads: str, lines: Iterable[tuple[object, ...]]) -> list[str]:
    columns = heads.split(", ")
    rule = "|" + "---|" * len(columns)
    return ["", f"### {title}", "", f"| {' | '.join(columns)} |", rule, *[_line(line) for line in lines]]


def _line(cells: tuple[object, ...]) -> str:
    return "| " + " | ".join([str(cell) for cell in cells]).replace("|  |", "| |") + " |"


def fields_of(kind: type[Any]) -> str:
    return ", ".join(kind.__dataclass_fields__)


def meaning(kind: type[Any]) -> str:
    """The first sentence of its docstring; none that a dataclass has made."""
    text = " ".join((kind.__doc__ or "").split())
    return "" if text.startswith(f"{kind.__name__}(") else re.split(r"(?<=[.?]) ", text)[0]


def bodies() -> list[type[Any]]:
    """Of datagrams, by their codes on the wire."""
    kinds = list(get_args(Body))
    made = [kind(*[0] * len(kind.__dataclass_fields__)) for kind in kinds]
    sent = [encode_datagram("c", 3, Datagram("n", 1, 1, 1, 1, body)) for body in made]
    codes = [cbor2.loads(payload[ENVELOPE_BYTES:])[6][0] for payload in sent]
    assert sorted(codes) == list(range(len(kinds)))
    return [kind for _, kind in sorted(zip(codes, kinds, strict=True), key=lambda row: row[0])]


def message_tables() -> list[str]:
    streams = ((Kind.EXCHANGE_REQUEST, ExchangeRequest), (Kind.EXCHANGE_ANSWER, ExchangeAnswer), (Kind.HELLO, Hello))
    return [
        *table(
            "Columns of a frame",
            "code, column, an item is",
            [(c.code, f"`{c.name}`", c.fields) for c in COLUMNS],
        ),
        *table(
            "Questions and answers (`asks`, `answers`)",
            "number, message, fields, meaning",
            [(n, f"`{kind.__name__}`", fields_of(kind), meaning(kind)) for n, (kind, _) in enumerate(MESSAGES)],
        ),
        *table(
            "What is told (`tells`)",
            "name, fields",
            [(f"`{name}`", tell.fields) for name, tell in TELLS.items()],
        ),
        *table(
            "Datagrams",
            "code, body, fields, meaning",
            [(n, f"`{kind.__name__}`", fields_of(kind), meaning(kind)) for n, kind in enumerate(bodies())],
        ),
        *table(
            "First frames on a stream",
            "kind, message, fields, meaning",
            [(int(kind), f"`{of.__name__}`", fields_of(of), meaning(of)) for kind, of in streams],
        ),
    ]


def test_every_message_is_listed() -> None:
    """Run `python -m tests.test_docs` to write the tables anew."""
    listed = PROTOCOL.read_text().splitlines()
    begin = listed.index(TABLES) + 1
    assert listed[begin:] == message_tables()


def measured() -> list[str]:
    node = Node(Settings(name="n1"), Random(0), 0.0, 0.0)
    lines = ["", "| name | unit | what it tells |", "|---|---|---|"]
    for metric, _ in node.metrics:
        unit = metric.unit or ("since the start" if metric.grows else "now")
        lines.append(f"| {metric.name} | {unit} | {metric.meaning} |")
    return lines


def test_all_that_is_measured_is_listed() -> None:
    """Run `python -m tests.test_docs` to write the table anew."""
    text = OPERATING.read_text()
    assert text[text.index(METRICS) + len(METRICS) : text.index(AFTER_METRICS)].splitlines()[1:] == measured()


METRICS = "<!-- metrics -->"
AFTER_METRICS = "\n## Docker\n"
TABLES = "<!-- the tables -->"

if __name__ == "__main__":
    head = PROTOCOL.read_text().split(TABLES)[0]
    PROTOCOL.write_text(head + TABLES + "\n" + "\n".join(message_tables()) + "\n")
    text = OPERATING.read_text()
    before, after = text[: text.index(METRICS)], text[text.index(AFTER_METRICS) :]
    OPERATING.write_text(before + METRICS + "\n" + "\n".join(measured()) + "\n" + after)
    head = PAGE.read_text().split("<!-- the table -->")[0]
    PAGE.write_text(head + "<!-- the table -->\n" + "\n".join(rows()) + "\n")
    head = COMPATIBILITY.read_text().split("<!-- the table -->")[0]
    lines = [*compatibility(), "", PROGRAMS, "", *libraries.rows()]
    COMPATIBILITY.write_text(head + "<!-- the table -->\n" + "\n".join(lines) + "\n")
