"""What lines mean, whoever types them: peerkv's dialect, any Redis command, and moving on to another member when a
node is gone."""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import trio

from peerkv.commands.catalogue import named
from peerkv.commands.table import COMMANDS
from peerkv.faces.client import Address, Client, ConnectionLost, Unreachable, shown_address
from peerkv.faces.render import dimmed, escaped, has_lines, plain, render, text_of, write
from peerkv.resp import Reply, ReplyError, split_words

PIPELINE_MAX: Final = 128
"""Lines of a pipe that are under way at once."""
LINE_BYTES_MAX: Final = 260 << 20
"""A value of 64 MiB with each byte typed as \\xHH, and more."""


class Outcome(IntEnum):
    """How a line went: the exit status of `peerkv connect`, which is that of the worst."""

    DONE = 0
    FAILED = 1
    NOT_OVERRIDDEN = 3
    """A plain SET found a value (2 is a wrong call of peerkv)."""


Show = Callable[[str, Outcome], None]


@dataclass(slots=True)
class _Line:
    """What was typed, and what is sent for it."""

    words: list[bytes]
    requests: list[list[bytes]]
    """Nothing is sent: what there is to say is said."""
    said: str = ""
    outcome: Outcome = Outcome.FAILED
    replies: list[Reply] = field(default_factory=list)
    lost: bool = False
    """Whether a node was lost already while this was under way."""

    def may_be_asked_again(self) -> bool:
        """Its node was lost: only questions are asked again, and once. What is not says why it ends here."""
        self.replies.clear()
        name = escaped(text_of(self.words[0].upper()))
        if not only_reads(self.words):
            self.said = f"whether {name} was done is not known: look"
        elif self.lost:
            self.said = f"{name} was asked twice in vain"
        else:
            self.lost = True
            return True
        self.requests = []
        return False


class Shell:
    """Runs lines, whoever types them, and renders what comes back."""

    def __init__(self, client: Client, *, redis: bool, terminal: bool) -> None:
        self.client = client
        self.terminal = terminal
        self._redis = redis

    @property
    def prompt(self) -> str:
        database = f"/{self.client.database}" if self.client.database else ""
        return f"peerkv[{shown_address(self.client.address)}{database}]>> "

    async def run(self, line: str | bytes) -> tuple[str, Outcome]:
        """What to print for a line, and how it went. Raises Unreachable."""
        return await self._run_one(self._line(line))

    async def run_words(self, words: list[bytes]) -> tuple[str, Outcome]:
        """The same for a command that is split already."""
        return await self._run_one(self._words(words))

    async def _run_one(self, line: _Line) -> tuple[str, Outcome]:
        shown: list[tuple[str, Outcome]] = []
        await self._run([line], lambda *what: shown.append(what))
        return shown[0]

    async def run_all(self, lines: Sequence[bytes], show: Show) -> None:
        """The same for lines that do not wait for each other's replies; `show` gets what to print for each, in order.
        Raises Unreachable."""
        await self._run(list(map(self._line, lines)), show)

    # -- what is sent

    def _line(self, line: str | bytes) -> _Line:
        words = split_words(line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line)
        if words is None:
            return _Line([], [], "Invalid argument(s): a quote is not closed")
        return self._words(words) if words else _Line([], [], "", Outcome.DONE)

    def _words(self, words: list[bytes]) -> _Line:
        match [word.upper() for word in words]:
            case [b"CLIENT", b"REPLY", b"OFF" | b"SKIP"]:
                text = "(error) ERR CLIENT REPLY OFF and SKIP are for programs: the prompt awaits every reply"
                return _Line(words, [], text)
            case [b"HELP", *_]:
                return _Line(words, [], help_of(words[1:], redis=self._redis), Outcome.DONE)
            case [b"SET", _, _] if not self._redis:
                return _Line(words, [[*words, b"NX"]])
            case [b"GET", _] if not self._redis:
                return _Line(words, [words, [b"PTTL", words[1]]])
            case _:
                return _Line(words, [words])

    # -- and what comes back

    async def _run(self, lines: list[_Line], show: Show) -> None:
        waiting = deque(lines)
        asked = self.client.address
        lost: ConnectionLost | None = None

        def show_first(text: str, outcome: Outcome, behind: str = "\n") -> None:
            nonlocal asked, lost
            waiting.popleft()
            if lost is not None or self.client.address != asked:
                text = f"{_moved(asked, self.client.address, lost)}{behind}{text}"
                asked, lost = self.client.address, None
            show(text, outcome)

        def show_said() -> None:
            while waiting and not waiting[0].requests:
                show_first(waiting[0].said, waiting[0].outcome, "; ")

        def answered(reply: Reply) -> None:
            line = waiting[0]
            line.replies.append(reply)
            if len(line.replies) == len(line.requests):
                show_first(*self._rendered(line))
                show_said()

        show_said()
        while waiting:
            try:
                await self.client.ask_all([request for line in waiting for request in line.requests], answered)
            except ConnectionLost as now:
                lost = now
                unknown = [line.said for line in waiting if line.requests and not line.may_be_asked_again()]
                try:
                    await self.client.connect()
                except Unreachable as error:
                    raise Unreachable("; ".join([str(error), *unknown[:1]])) from None
                show_said()

    def _rendered(self, line: _Line) -> tuple[str, Outcome]:
        words, reply = line.words, line.replies[0]
        good = Outcome.FAILED if isinstance(reply, ReplyError) else Outcome.DONE
        if not self._redis and good is Outcome.DONE:
            match words[0].upper():
                case b"SET" if len(words) == 3 and reply is None:
                    return "Can't Override", Outcome.NOT_OVERRIDDEN
                case b"EXPIRE" if len(words) == 3 and reply == 1:
                    return "OK", good
                case b"GET" if len(words) == 2 and reply is None:
                    return ("0 " + dimmed("(no such key)") if self.terminal else "0"), good
                case b"GET" if len(words) == 2 and isinstance(reply, bytes):
                    return plain(reply, terminal=self.terminal) + _time_to_live(line.replies[1]), good
        return render(reply, terminal=self.terminal, lines=has_lines(words)), good


def _time_to_live(reply: Reply) -> str:
    if not isinstance(reply, int) or reply < 0:
        return ""
    seconds = -(-reply // 1000)
    return f" | TTL: {seconds} second{'' if seconds == 1 else 's'}"


def only_reads(words: Sequence[bytes]) -> bool:
    """Whether a command may be sent once more, to another node: not, if it changes keys or the node that it meets, or
    (WAIT) asks about the connection that is gone."""
    facts = named(words[0])
    if facts is not None and facts.subcommands and len(words) > 1:
        facts = named(b"|".join(words[:2])) or facts
    return facts is not None and facts.name != "wait" and not {"write", "admin"} & {*facts.flags}


def _moved(before: Address, now: Address, lost: ConnectionLost | None) -> str:
    if before == now:
        return f"{shown_address(before)} {lost}; connected again"
    return f"{shown_address(before)} does not answer any more; now at {shown_address(now)}"


def help_of(words: Sequence[bytes], *, redis: bool) -> str:
    """What `help`, or `help COMMAND`, prints."""
    if words:
        row = COMMANDS.get(words[0].decode("ascii", "replace").lower())
        if row is None:
            return (
                f"there is no command {escaped(text_of(words[0]))}; Tab behind its first letters shows which there are"
            )
        parts = f" ({', '.join(sorted(row.subcommands))})" if row.subcommands else ""
        return f"{row.name.upper()} {row.usage}{parts}\n  {row.summary}"
    return (_HELP_REDIS if redis else _HELP) + _HELP_ALWAYS


_HELP: Final = """\
SET key value       a new key; one that is there stays as it is: Can't Override
GET key             its value, and its time to live if it has one; 0 if there is no such key
EXPIRE key seconds  gives it a time to live
"""
_HELP_REDIS: Final = """\
Every command as Redis has it.
"""
_HELP_ALWAYS: Final = """\
Any other command, and any other form of these, is sent as it is typed; words with blanks in "quotes".
help COMMAND        what a command takes; Tab completes its name
exit, quit, Ctrl-D  leave; Ctrl-C leaves a command that takes long"""


async def run_lines(client: Client, *, redis: bool) -> tuple[int, Outcome]:
    """Commands from a pipe, one a line, until it ends or says `exit` or `quit`: how many, and how the worst of them
    went. Raises Unreachable.

    What has come is sent together, at most PIPELINE_MAX lines at a time, and read on when it is answered.
    """
    shell = Shell(client, redis=redis, terminal=sys.stdout is not None and sys.stdout.isatty())
    count, worst = 0, Outcome.DONE

    def show(text: str, outcome: Outcome) -> None:
        nonlocal worst
        if outcome is Outcome.FAILED or worst is Outcome.DONE:
            worst = outcome
        if text:
            write(text, terminal=shell.terminal)

    await client.learn()
    async with aclosing(_lines_of_stdin()) as parts:
        async for lines in parts:
            count += len(lines)
            leaving = next((number for number, line in enumerate(lines) if leaves(line)), len(lines))
            await shell.run_all(lines[:leaving], show)
            if leaving < len(lines):
                break
    return count, worst


async def _lines_of_stdin() -> AsyncGenerator[list[bytes], None]:
    """What has come, in parts of at most PIPELINE_MAX lines. Raises ValueError for a line that is too long."""
    if sys.stdin is None:
        return
    descriptor = sys.stdin.fileno()
    unfinished = bytearray()
    while data := await trio.to_thread.run_sync(_read_some, descriptor, abandon_on_cancel=True):
        unfinished += data
        if b"\n" in data:
            *lines, rest = bytes(unfinished).split(b"\n")
            unfinished = bytearray(rest)
            for first in range(0, len(lines), PIPELINE_MAX):
                yield lines[first : first + PIPELINE_MAX]
        if len(unfinished) > LINE_BYTES_MAX:
            raise ValueError(f"a line of more than {LINE_BYTES_MAX >> 20} MiB: no command is so long")
    if unfinished:
        yield [bytes(unfinished)]


def _read_some(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, 1 << 16)
        except BlockingIOError:  # somebody has set the pipe so
            select.select([descriptor], [], [])


def leaves(line: bytes) -> bool:
    return line.strip().lower() in (b"quit", b"exit")
