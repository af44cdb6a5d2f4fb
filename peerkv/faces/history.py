"""What was typed at the prompt, kept for the next time: for its owner's eyes alone, without passwords, and bounded."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prompt_toolkit.history import History, InMemoryHistory

from peerkv.faces.render import text_of
from peerkv.resp import split_words

LINE_BYTES_MAX: Final = 4096
"""A line with more is kept for this time only."""
FILE_BYTES_MAX: Final = 256 << 10
"""Some thousand lines. A file twice as long is cut to it when a prompt begins."""


def history() -> History:
    """In $XDG_STATE_HOME/peerkv/history, or ~/.local/state/peerkv/history; where there is no home, or it cannot be
    written, for this time only."""
    try:
        return PrivateHistory(_directory() / "history")
    except (OSError, RuntimeError) as why:  # RuntimeError: nobody knows where the home is
        logging.getLogger("peerkv").debug("no history is kept: %s", why)
        return _Forgetful()


def _directory() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "peerkv"


def is_secret(line: str) -> bool:
    """Whether a line holds a password, or may: as redis-cli has it."""
    raw = line.encode("utf-8", "surrogateescape")
    words = [word.upper() for word in split_words(raw) or raw.replace(b'"', b"").replace(b"'", b"").split()]
    match words:
        case [b"AUTH" | b"SENTINEL", *_]:
            return True
        case [b"ACL", b"SETUSER" | b"DELUSER" | b"GETUSER", *_]:
            return True
        case [b"CONFIG", b"SET", *pairs]:
            return any(key.endswith((b"PASS", b"AUTH", b"USER")) for key in pairs)
        case [b"HELLO" | b"MIGRATE", *rest]:
            return b"AUTH" in rest or b"AUTH2" in rest
        case _:
            return False


def _record(line: str) -> bytes:
    """As prompt_toolkit's FileHistory writes a line, but for the time before it."""
    return b"+" + line.encode("utf-8", "surrogateescape").replace(b"\n", b" ") + b"\n"


class _Forgetful(InMemoryHistory):
    def append_string(self, string: str) -> None:
        if not is_secret(string):
            super().append_string(string)


class PrivateHistory(History):
    """A file of lines, the newest last. Raises OSError if it cannot be had."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = self._open(os.O_RDWR)
        try:
            lines = self._lines(descriptor)
            kept = [line for line in lines if not is_secret(line)]
            if os.fstat(descriptor).st_size > 2 * FILE_BYTES_MAX or len(kept) < len(lines):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"".join(map(_record, kept)))
        finally:
            os.close(descriptor)

    def _open(self, how: int) -> int:
        """Nobody else's, and no way to another file; one of an earlier version was everybody's to read."""
        flags = how | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{self._path} is no file")
            if found.st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    @staticmethod
    def _lines(descriptor: int) -> list[str]:
        """The oldest first, as far as they are among the last FILE_BYTES_MAX."""
        start = max(0, os.fstat(descriptor).st_size - FILE_BYTES_MAX)
        records = os.pread(descriptor, FILE_BYTES_MAX, start).split(b"\n")
        return [text_of(record[1:]) for record in records if record.startswith(b"+")]

    def load_history_strings(self) -> Iterable[str]:
        """The newest first."""
        try:
            descriptor = self._open(os.O_RDONLY)
        except OSError:
            return []
        try:
            return self._lines(descriptor)[::-1]
        finally:
            os.close(descriptor)

    def append_string(self, string: str) -> None:
        if not is_secret(string):
            super().append_string(string)

    def store_string(self, string: str) -> None:
        record = _record(string)
        if len(record) > LINE_BYTES_MAX:
            return
        try:
            descriptor = self._open(os.O_WRONLY)
            try:
                os.write(descriptor, record)
            finally:
                os.close(descriptor)
        except OSError:
            return  # a full disk; the line is kept for this time
