"""The log of a node's process: lines that never hold the node up, and say nothing twice.

A pipe that nobody reads (a log driver that hangs) is written without waiting: what it does not take is dropped, and
counted in the line that it takes next. A line that comes again within ten seconds is counted, too, and so are the many
that differ in their numbers only, which strangers can cause as fast as they can connect. Characters that are not for
display are escaped: part of many lines was chosen by somebody else.
"""

from __future__ import annotations

import logging
import os
import re
import select
import socket
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

REPEAT_AFTER_S: Final = 10.0
ALIKE_MAX: Final = 30
"""Lines that differ in their numbers only, in that time."""
KINDS_MAX: Final = 512
"""Kinds of lines that are counted at a time."""
MESSAGE_MAX: Final = 2000
"""Characters of one message."""
PIECE_BYTES: Final = 4096
"""PIPE_BUF: a pipe takes so much as a whole or not at all."""

_NUMBER: Final = re.compile(r"\d+")


def escaped(text: str) -> str:
    """Text of one line: what is not for display as Python writes it in a literal, and not without end."""
    if len(text) > MESSAGE_MAX:
        text = f"{text[:MESSAGE_MAX]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


class Lines(logging.Formatter):
    """One line a record; a traceback's lines are indented, so that no line of it looks like a record."""

    def __init__(self, name: str) -> None:
        super().__init__("%(asctime)s %(levelname)-7s " + escaped(name).replace("%", "%%") + ": %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(f"    {escaped(line)}" for line in text.splitlines())


@dataclass(slots=True)
class _Said:
    since: float
    lines: int
    withheld: int
    last: logging.LogRecord


class NodeLog(logging.Handler):
    """Writes to a file descriptor (not owned) or, opened here, to a file."""

    def __init__(self, target: int | Path, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises OSError for a file that cannot be written."""
        self._owned = ExitStack()
        if isinstance(target, int):
            self._put = _without_waiting(target, self._owned)
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            self._put = _writer(os.open(target, flags, 0o644), self._owned)
        super().__init__()  # not before: logging closes at the end of the program what has begun
        self.setFormatter(Lines(name))
        self._clock = clock
        self._rest = b""
        """Of a line that was taken in part."""
        self._dropped = 0
        self._same: OrderedDict[str, _Said] = OrderedDict()
        self._alike: OrderedDict[str, _Said] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info is not None and record.exc_info[0] is not None:
                text += record.exc_info[0].__name__
            now = self._clock()
            if self._counted(self._same, text, record, now, 1) and self._counted(
                self._alike, _NUMBER.sub("#", text), record, now, ALIKE_MAX
            ):
                self._write(self.format(record))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """A line that cannot be made; logging's own way would be to write to stderr, and wait for who reads it."""
        self._write(f"a line of the log cannot be made: {escaped(repr(record.msg))}")

    def flush(self) -> None:
        """Say what has been counted and is due; to be called now and then."""
        self._settle(self._clock() - REPEAT_AFTER_S)

    def close(self) -> None:
        """Say everything that has been counted."""
        self._settle(inf)
        self._put = len  # nothing is written any more
        self._owned.close()
        super().close()

    def _settle(self, before: float) -> None:
        with self.lock:  # type: ignore[union-attr]
            for table in (self._same, self._alike):
                while table:
                    key, said = next(iter(table.items()))
                    if said.since > before:
                        break
                    self._forget(table, key)
            self._write()

    def _counted(
        self, table: OrderedDict[str, _Said], key: str, record: logging.LogRecord, now: float, most: int
    ) -> bool:
        """Whether a line of this kind may be written now."""
        said = table.get(key)
        if said is not None and now - said.since >= REPEAT_AFTER_S:
            self._forget(table, key)
            said = None
        if said is None:
            table[key] = _Said(now, 1, 0, record)
            if len(table) > KINDS_MAX:
                self._forget(table, next(iter(table)))
            return True
        if said.lines < most:
            said.lines += 1
            return True
        said.withheld += 1
        said.last = record
        return False

    def _forget(self, table: OrderedDict[str, _Said], key: str) -> None:
        said = table.pop(key)
        if said.withheld:
            last = said.last
            what = "this once more" if said.lines == said.withheld == 1 else f"{said.withheld} more like this"
            text = f"{what} within {REPEAT_AFTER_S:g} s: {last.getMessage()}"
            self._write(self.format(logging.LogRecord(last.name, last.levelno, "", 0, text, None, None)))

    def _write(self, line: str = "") -> None:
        """A line, behind what came before it."""
        rest, self._rest = self._rest, b""
        if rest and (not self._take(rest) or self._rest):
            self._rest = self._rest or rest
            self._dropped += bool(line)
            return
        text = f"{line}\n" if line else ""
        if self._dropped:
            note = f"{self._dropped} lines are missing here: nobody read the log"
            text = self.format(logging.LogRecord("peerkv", logging.WARNING, "", 0, note, None, None)) + "\n" + text
        if text and not self._take(text.encode("utf-8", "backslashreplace")):
            self._dropped += bool(line)
        else:
            self._dropped = 0

    def _take(self, data: bytes) -> bool:
        """Whether any of it was taken; what was not is the rest then."""
        for at in range(0, len(data), PIECE_BYTES):
            piece = data[at : at + PIECE_BYTES]
            try:
                count = self._put(piece)
            except OSError:
                count = 0
            if count < len(piece):
                if at + count:
                    self._rest = data[at + count :]
                return bool(at + count)
        return True


def _writer(fd: int, owned: ExitStack) -> Callable[[bytes], int]:
    owned.callback(os.close, fd)
    return lambda data: os.write(fd, data)


def _without_waiting(fd: int, owned: ExitStack) -> Callable[[bytes], int]:
    """How to write to a descriptor that others may share: O_NONBLOCK would be theirs, too, so it is opened once more
    where that can be done."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return lambda data: os.write(fd, data)
    if stat.S_ISSOCK(mode):
        sender = owned.enter_context(socket.socket(fileno=os.dup(fd)))
        return lambda data: sender.send(data, socket.MSG_DONTWAIT)
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return _writer(os.open(f"/proc/self/fd/{fd}", flags), owned)
    except OSError:  # somebody else's terminal, or no /proc
        ready = select.poll()
        ready.register(fd, select.POLLOUT)
        return lambda data: os.write(fd, data) if ready.poll(0) else 0
