"""The prompt: a line at a terminal, completion, a history, and Ctrl-C for what takes long."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Final

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.patch_stdout import patch_stdout

from peerkv.commands.facts import FACTS
from peerkv.commands.table import COMMANDS
from peerkv.faces.client import Client, first_of
from peerkv.faces.dialect import Shell, leaves, only_reads
from peerkv.faces.history import history
from peerkv.faces.render import escaped, write

PROMPT_ENDS_WITHIN_S: Final = 2.0
"""After that the terminal may be left as the prompt had it."""


async def converse(client: Client, *, redis: bool) -> None:
    """The prompt, until Ctrl-D, `exit` or `quit`. Raises Unreachable when no member answers any more."""
    shell = Shell(client, redis=redis, terminal=True)
    await client.learn()
    session: PromptSession[str] = PromptSession(
        history=history(),
        completer=_Commands(),
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        bottom_toolbar=lambda: HTML("<b>{}</b>").format(_hint(session.default_buffer.text)),
    )
    running = _Running()
    try:
        async with trio.open_nursery() as nursery:
            # one for all commands: Ctrl-C that comes when one has just ended is not to end the prompt
            with trio.open_signal_receiver(signal.SIGINT) as interrupts:
                nursery.start_soon(running.interrupt_by, interrupts)
                await _lines(session, shell, running)
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first_of(group) from None


async def _lines(session: PromptSession[str], shell: Shell, running: _Running) -> None:
    while True:
        try:
            line = await _read_line(session, shell.prompt)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if leaves(line.encode("utf-8", "surrogateescape")):
            return
        await running.run(shell, line)


class _Running:
    """The command that is under way; Ctrl-C ends it and gives the prompt back."""

    def __init__(self) -> None:
        self._line = ""
        self._scope: trio.CancelScope | None = None
        self._answered = False

    async def run(self, shell: Shell, line: str) -> None:
        """Run a line and write its reply. Interrupted, the connection is closed, as the reply may come at any time."""
        self._line, self._answered = line, False
        with trio.CancelScope() as self._scope:
            text, _ = await shell.run(line)
            self._answered = True
            if text:
                write(text, terminal=True)
            await shell.client.learn()
        self._scope = None

    async def interrupt_by(self, interrupts: AsyncIterator[int]) -> None:
        """While the prompt has the terminal, Ctrl-C is a key; one that comes before it has is for no command."""
        async for _ in interrupts:
            if self._scope is not None and not self._scope.cancel_called:
                if not self._answered:
                    write(f"interrupted{_doubt(self._line)}", terminal=True)
                self._scope.cancel()


def _doubt(line: str) -> str:
    words = line.split()
    if only_reads([word.encode(errors="replace") for word in words]):
        return ""
    return f"; whether {escaped(words[0].upper())} was done is not known: look"


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
    words = text.split()[:2]
    row = COMMANDS.get(words[0].lower()) if words else None
    if row is None:
        return "Ctrl-D leaves"
    if len(words) > 1 and words[1].lower() in row.subcommands:
        subcommand = FACTS[f"{row.name}|{words[1].lower()}"]
        return f"{row.name.upper()} {words[1].upper()} {subcommand.usage}"
    return f"{row.name.upper()} {row.usage}"
