"""Commands that took long (SLOWLOG): who is measured, and what is kept of it.

A command of constant time costs little more than looking at a clock twice, and cannot take long: it is not measured.
All others are, where they are run: at the home for a write, at an owner for a read. Of the client nothing is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from peerkv.commands.facts import Facts
from peerkv.databases import bare_key
from peerkv.store.cell import Cells

ENTRIES_MAX: Final = 1 << 20
"""The most that may be kept."""
ARGUMENTS_MAX: Final = 32
ARGUMENT_BYTES_MAX: Final = 128
"""As much is kept of each, as in Redis."""
_CONSTANT: Final = ("string",)
"""Groups whose commands take no longer than their arguments, or what they return, is long; but ..."""
_LONG: Final = ("lcs",)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Slow:
    """A command that took long."""

    id: int
    at: int
    """Cluster milliseconds."""
    microseconds: int
    request: tuple[bytes, ...]


class Slowlog:
    """The last commands that took long in this process, which is one node."""

    def __init__(self) -> None:
        self.stopwatch: Callable[[], int] = int
        """Nanoseconds; given by who runs a node. Where nobody has given one, no time passes."""
        self.threshold_us = 10_000
        """Negative: nothing is noted."""
        self.entries: deque[Slow] = deque(maxlen=128)
        """The newest first."""
        self._id = 0

    @property
    def max_entries(self) -> int:
        return self.entries.maxlen or 0

    @max_entries.setter
    def max_entries(self, most: int) -> None:
        self.entries = deque(list(self.entries)[:most], maxlen=most)

    def note(self, request: Sequence[bytes], nanoseconds: int, now: int) -> None:
        """A command took so long."""
        if not 0 <= self.threshold_us <= nanoseconds // 1000 or not self.max_entries:
            return
        kept = [_cut(bare_key(argument)) for argument in request[:ARGUMENTS_MAX]]
        if len(request) > ARGUMENTS_MAX:
            kept[-1] = b"... (%d more arguments)" % (len(request) - ARGUMENTS_MAX + 1)
        self.entries.appendleft(Slow(self._id, now, nanoseconds // 1000, tuple(kept)))
        self._id += 1


def _cut(argument: bytes) -> bytes:
    if len(argument) <= ARGUMENT_BYTES_MAX:
        return argument
    return b"%b... (%d more bytes)" % (argument[:ARGUMENT_BYTES_MAX], len(argument) - ARGUMENT_BYTES_MAX)


SLOWLOG: Final = Slowlog()


def may_take_long(facts: Facts) -> bool:
    """Whether a command is measured."""
    return "fast" not in facts.flags and (facts.group not in _CONSTANT or facts.name in _LONG)


Run: TypeAlias = Callable[[Cells, Sequence[bytes], int], Result]


def measured(run: Run[Result], hidden: int) -> Run[Result]:
    """The same function of cells, measured. `hidden`: so many of the last arguments are none that a client has said."""
    log = SLOWLOG

    def timed(cells: Cells, request: Sequence[bytes], now: int) -> Result:
        began = log.stopwatch()
        try:
            return run(cells, request, now)
        finally:
            took = log.stopwatch() - began
            if took >= 1000 * log.threshold_us:
                log.note(request[: len(request) - hidden], took, now)

    return timed
