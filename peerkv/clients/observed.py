"""How often commands were called, and how long they take: INFO commandstats.

Calls are counted by the rows of the table. Nothing else may cost a command anything that could be measured: now and
then one buffer of a client is timed, from its requests to their replies or to the frames that leave for other nodes.
What passes until those have answered is no time that this node has worked. The shell, who has the clock, does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from peerkv.commands.catalogue import named
from peerkv.commands.table import COMMANDS, Kind, find


class CommandStatistics(NamedTuple):
    """What is known of one command."""

    name: str
    calls: int
    usec_per_call: float
    """As far as it was timed."""
    rejected: int
    failed: int


class Observed:
    """What a node has been asked for."""

    def __init__(self) -> None:
        self.subcommands: Counter[str] = Counter()
        """Those of the connection and the node, in full."""
        self._timed: dict[str, tuple[int, int]] = {}
        """(requests, nanoseconds)"""

    def time(self, requests: Sequence[Sequence[bytes]], nanoseconds: int) -> None:
        """They took so long; it is known for what, if they are all of one kind."""
        names = set(map(_full_name, requests)) or {""}
        name = names.pop()
        if name and not names:
            count, total = self._timed.get(name, (0, 0))
            self._timed[name] = count + len(requests), total + nanoseconds

    def clear(self) -> None:
        """CONFIG RESETSTAT."""
        self.subcommands.clear()
        self._timed.clear()
        for row in COMMANDS.values():
            row.calls = row.rejected = row.errors = 0

    def told(self) -> Iterator[CommandStatistics]:
        """Of commands that have been timed."""
        for name, (count, nanoseconds) in sorted(self._timed.items()):
            row = COMMANDS.get(name)
            rejected = row.rejected if row is not None else 0
            yield CommandStatistics(
                name,
                row.calls if row is not None else self.subcommands[name],
                nanoseconds / count / 1000,
                rejected,
                row.errors - rejected if row is not None else 0,
            )


def _full_name(request: Sequence[bytes]) -> str:
    """As it is counted; empty: there is no such command."""
    row = find(request[0])
    if row is None:
        return ""
    if row.kind is not Kind.SESSION or not row.subcommands or len(request) < 2:
        return row.name
    facts = named(b"|".join(request[:2]))
    return facts.name if facts is not None else ""
