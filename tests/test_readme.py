"""README's session, typed at a terminal: what it shows is what happens."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import free_port

ROOT = Path(__file__).parents[1]
PEERKV = [sys.executable, "-P", "-m", "peerkv"]
TO_LIVE_S = 5
"""Instead of the session's 20 s."""
ACCEPTED, AWAITED = b"\x1b[?2004l", b"\x1b[?2004h"
"""A prompt tells the terminal when it ends and when it begins."""
REMARK = re.compile(r"\x1b\[2m.*?\x1b\[0m")
"""Dimmed text, which README leaves out."""


def session() -> list[str]:
    (block,) = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return block.splitlines()


class Terminal:
    """`peerkv up` with the repository's cluster.ini, at other ports."""

    def __init__(self, directory: Path) -> None:
        self.ports: dict[str, str] = {}
        config = re.sub(r"(?<=port = )\d+", self._free, (ROOT / "cluster.ini").read_text())
        (directory / "cluster.ini").write_text(config)
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            os.environ.update(
                TERM="xterm",
                PROMPT_TOOLKIT_NO_CPR="1",
                NO_COLOR="",
                TMPDIR=str(directory),
                XDG_STATE_HOME=str(directory),
            )
            os.execv(sys.executable, [*PEERKV, "up"])
        self._seen = b""

    def _free(self, port: re.Match[str]) -> str:
        return self.ports.setdefault(port[0], str(free_port()))

    def read_until(self, end: bytes) -> str:
        """What came up to it, and is not read again."""
        until = time.monotonic() + 60
        while end not in self._seen:
            assert time.monotonic() < until, f"{end!r} did not come; this did: {self._seen!r}"
            if select.select([self._terminal], [], [], 0.2)[0]:
                self._seen += os.read(self._terminal, 65536)
        before, _, self._seen = self._seen.partition(end)
        return before.decode()

    def type(self, line: str) -> str:
        """What it answers; once the line stands behind its prompt."""
        os.write(self._terminal, line.encode() + b"\r")
        typed = self.read_until(ACCEPTED)
        assert f"peerkv[127.0.0.1:{self.ports['7001']}]>> {line}" in typed
        return REMARK.sub("", self.read_until(AWAITED)).strip()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        self.read_until(b"all nodes have stopped")
        _, status = os.waitpid(self.pid, 0)
        os.close(self._terminal)
        assert os.waitstatus_to_exitcode(status) == 0


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    running = Terminal(tmp_path)
    yield running
    running.end()


def test_make_run_is_peerkv_up() -> None:
    assert session()[0] == "$ make run"
    recipe = (ROOT / "Makefile").read_text().partition("\nrun:")[2].splitlines()[1]
    assert recipe == "\t@$(BIN)/peerkv up"


def test_the_session_of_the_readme(terminal: Terminal) -> None:
    """Its first lines are what `up` says, each of the others what is typed and what answers that."""
    lines = session()
    first = next(number for number, line in enumerate(lines) if ">> " in line)
    said = terminal.read_until(AWAITED)
    for line in lines[1:first]:
        for port, free in terminal.ports.items():
            line = line.replace(port, free)
        assert re.search(re.escape(line).replace(r"/tmp/peerkv\-logs\-\.\.\.", r"\S*/peerkv-logs-\S+"), said), said
    prompts, answers = lines[first::2], lines[first + 1 :: 2]
    for prompt, answer in zip(prompts, answers, strict=True):
        where, _, line = prompt.partition(">> ")
        assert where == "peerkv[127.0.0.1:7001]"
        line = re.sub(r"(?<=^expire horse )20$", str(TO_LIVE_S), line)
        if answer == "0":
            time.sleep(TO_LIVE_S)
        wanted = re.escape(answer).replace(r"13\ seconds", r"[1-5]\ seconds?")
        assert re.fullmatch(wanted, shown := terminal.type(line)), f"{line}: {shown!r} instead of {answer!r}"
