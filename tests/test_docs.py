"""docs/commands.md lists the table, no more and no less."""

from pathlib import Path

from peerkv.commands.table import COMMANDS, Kind

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
GROUPS = ("string", "generic", "connection", "server", "cluster")
WAYS = {
    Kind.READ: "majority",
    Kind.WRITE: "home",
    Kind.SPREAD: "split by slot",
    Kind.CLUSTER: "all slots",
    Kind.SESSION: "this node",
}


def rows() -> list[str]:
    lines: list[str] = []
    for group in GROUPS:
        lines += ["", f"## {group.capitalize()}", "", "| command | answered by | |", "|---|---|---|"]
        for row in sorted(COMMANDS.values(), key=lambda row: row.name):
            if row.group == group:
                usage = f"{row.name.upper()} {row.usage}".strip().replace("|", "\\|")
                lines.append(f"| `{usage}` | {WAYS[row.kind]} | {row.summary} |")
    return lines


def test_every_command_is_listed() -> None:
    """Run `python tests/test_docs.py` to write the lists anew."""
    listed = PAGE.read_text().splitlines()
    begin = listed.index("<!-- the table -->") + 1
    assert listed[begin:] == rows()


if __name__ == "__main__":
    head = PAGE.read_text().split("<!-- the table -->")[0]
    PAGE.write_text(head + "<!-- the table -->\n" + "\n".join(rows()) + "\n")
