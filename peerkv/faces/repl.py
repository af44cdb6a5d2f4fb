"""The prompt: peerkv's dialect, any Redis command, completion, and moving on to another member when a node is gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from peerkv.commands.table import COMMANDS
from peerkv.faces.client import Client, ConnectionLost, Unreachable
from peerkv.resp import Reply, ReplyError, Verbatim, split_words

PROMPT_ENDS_WITHIN_S: Final = 2.0
"""After that the terminal may be left as the prompt had it."""


class Shell:
    """Runs lines, whoever types them, and renders what comes back."""

    def __init__(self, client: Client, *, redis: bool, terminal: bool) -> None:
        self.client = client
        self._redis = redis
        self._terminal = terminal

    @property
    def prompt(self) -> str:
        host, port = self.client.address
        return f"peerkv[{host}:{port}]>> "

    async def run(self, line: str) -> tuple[str, bool]:
        """What to print for a line, and whether it went well."""
        words = split_words(line.encode("utf-8", "surrogateescape"))
        if words is None:
            return "Invalid argument(s): a quote is not closed", False
        return await self.run_words(words) if words else ("", True)

    async def run_words(self, words: list[bytes]) -> tuple[str, bool]:
        """The same for a command that is split already. Raises Unreachable."""
        match [word.upper() for word in words]:
            case [b"CLIENT", b"REPLY", b"OFF" | b"SKIP"]:
                return "(error) ERR CLIENT REPLY OFF and SKIP are for programs: the prompt awaits every reply", False
        name = words[0].upper()
        reading = _only_reads(name)
        before = self.client.address
        try:
            reply = await self.client.ask(self._sent(words))
        except ConnectionLost as lost:
            unknown = "" if reading else f"; whether {name.decode(errors='replace')} was done is not known: look"
            try:
                await self.client.connect()
            except Unreachable as error:
                raise Unreachable(f"{error}{unknown}") from None
            moved = _moved(before, self.client.address, lost)
            if not reading:
                return f"{moved}{unknown}", False
            try:
                reply = await self.client.ask(self._sent(words))
            except ConnectionLost as again:
                return f"{moved}; it {again}, too", False
            text, good = await self._rendered(words, reply)
            return f"{moved}\n{text}", good
        text, good = await self._rendered(words, reply)
        if self.client.address != before:
            text = f"{_moved(before, self.client.address)}\n{text}"
        return text, good

    def _sent(self, words: list[bytes]) -> list[bytes]:
        plain_set = not self._redis and len(words) == 3 and words[0].upper() == b"SET"
        return [*words, b"NX"] if plain_set else words

    async def _rendered(self, words: list[bytes], reply: Reply) -> tuple[str, bool]:
        if self._redis or isinstance(reply, ReplyError):
            return render(reply), not isinstance(reply, ReplyError)
        match words[0].upper():
            case b"SET" if len(words) == 3 and reply is None:
                return "Can't Override", True
            case b"EXPIRE" if len(words) == 3 and reply == 1:
                return "OK", True
            case b"GET" if len(words) == 2:
                if reply is None:
                    return ("0 \x1b[2m(no such key)\x1b[0m" if self._terminal else "0"), True
                text = _text(reply) if isinstance(reply, bytes) else render(reply)
                try:
                    left = await self.client.ask([b"PTTL", words[1]])
                except (ConnectionLost, Unreachable):
                    left = -1
                if isinstance(left, int) and left >= 0:
                    seconds = -(-left // 1000)
                    return f"{text} | TTL: {seconds} second{'' if seconds == 1 else 's'}", True
                return text, True
            case _:
                return render(reply), True


def _only_reads(name: bytes) -> bool:
    """Whether a command may be sent once more, to another node: not, if it changes keys or the node that it meets, or
    (WAIT) asks about the connection that is gone."""
    row = COMMANDS.get(name.decode("ascii", "replace").lower())
    return row is not None and row.name != "wait" and not row.flags & {"write", "admin"}


def _moved(before: tuple[str, int], now: tuple[str, int], lost: object = "") -> str:
    if before == now:
        return f"{before[0]}:{before[1]} {lost}; connected again"
    return f"{before[0]}:{before[1]} does not answer any more; now at {now[0]}:{now[1]}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def render(reply: Reply, indent: str = "") -> str:
    """A reply as redis-cli shows it on a terminal."""
    match reply:
        case None:
            return "(nil)"
        case bool():
            return f"({str(reply).lower()})"
        case int():
            return f"(integer) {reply}"
        case float():
            return f"(double) {reply:g}"
        case str():
            return reply
        case bytes():
            return '"' + _text(reply).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        case Verbatim(text):
            return _text(text).rstrip("\r\n")
        case ReplyError(text):
            return f"(error) {text}"
        case []:
            return "(empty array)"
        case list():
            width = len(str(len(reply)))
            inner = indent + " " * (width + 2)
            return f"\n{indent}".join(
                f"{number:>{width}}) {render(element, inner)}" for number, element in enumerate(reply, 1)
            )
        case dict():
            inner = indent + "   "
            return f"\n{indent}".join(f"{render(key)} => {render(value, inner)}" for key, value in reply.items())


class _Commands(Completer):
    """Completes names of commands, and of their subcommands."""

    def get_completions(self, document: Document, _complete_event: CompleteEvent) -> Iterable[Completion]:
        words = document.text_before_cursor.split(" ")
        if len(words) == 1:
            names: Iterable[str] = COMMANDS
        elif len(words) == 2 and words[0].lower() in COMMANDS:
            names = COMMANDS[words[0].lower()].subcommands
        else:
            return
        typed = words[-1]
        for name in sorted(names):
            if typed and name.startswith(typed.lower()):
                shown = name.upper() if typed[0].isupper() else name
                row = COMMANDS.get(name)
                yield Completion(shown, -len(typed), display_meta=row.usage if row is not None else "")


def _hint(text: str) -> str:
    """What the command that is being typed takes."""
    row = COMMANDS.get(text.split(" ")[0].lower())
    return f"{row.name.upper()} {row.usage}" if row is not None else "Ctrl-D leaves"


async def converse(client: Client, *, redis: bool) -> None:
    """The prompt, until Ctrl-D or `quit`. Raises Unreachable when no member answers any more."""
    shell = Shell(client, redis=redis, terminal=True)
    await _learn(client)
    session: PromptSession[str] = PromptSession(
        history=_history(),
        completer=_Commands(),
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        bottom_toolbar=lambda: HTML("<b>{}</b>").format(_hint(session.default_buffer.text)),
    )
    while True:
        try:
            line = await _read_line(session, shell.prompt)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if line.strip().lower() in ("quit", "exit"):
            return
        text, _ = await shell.run(line)
        if text:
            print(text)
        await _learn(client)


async def _read_line(session: PromptSession[str], prompt: str) -> str:
    """A line at the terminal; cancelled, the prompt ends and leaves the terminal as it was."""

    token = trio.lowlevel.current_trio_token()
    ended = trio.Event()

    def read() -> str:
        try:
            with patch_stdout():
                return session.prompt(prompt, in_thread=True)
        finally:
            token.run_sync_soon(ended.set)

    try:
        return await trio.to_thread.run_sync(read, abandon_on_cancel=True)
    except trio.Cancelled:
        loop = session.app.loop
        if loop is not None:
            loop.call_soon_threadsafe(partial(session.app.exit, exception=EOFError))
        with trio.move_on_after(PROMPT_ENDS_WITHIN_S, shield=True):
            await ended.wait()
        raise


async def run_lines(client: Client, *, redis: bool) -> bool:
    """Commands from a pipe, one a line; whether all went well."""
    shell = Shell(client, redis=redis, terminal=sys.stdout.isatty())
    await _learn(client)
    good = True
    async for line in trio.wrap_file(sys.stdin):
        text, went_well = await shell.run(line.rstrip("\n"))
        good = good and went_well
        if text:
            print(text, flush=True)
    return good


async def _learn(client: Client) -> None:
    """Where to go when this node dies."""
    try:
        await client.status()
    except (ConnectionLost, ValueError):
        return


def _history() -> FileHistory | InMemoryHistory:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "peerkv"
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(state / "history"))
