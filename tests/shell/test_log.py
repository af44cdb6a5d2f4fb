"""A log that nobody reads, that says the same again and again, or what strangers have chosen."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peerkv.shell.log import ALIKE_MAX, KINDS_MAX, MESSAGE_MAX, REPEAT_AFTER_S, NodeLog, escaped

Opened = Callable[[int | Path], tuple[NodeLog, logging.Logger]]


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def opened(time: Time) -> Iterator[Callable[[int | Path], tuple[NodeLog, logging.Logger]]]:
    """Makes a log that is closed at the end."""
    with contextlib.ExitStack() as handlers:

        def make(target: int | Path) -> tuple[NodeLog, logging.Logger]:
            handler = NodeLog(target, "db1", clock=time)
            handlers.callback(handler.close)
            log = logging.Logger("test")
            log.addHandler(handler)
            return handler, log

        yield make


def lines(reader: int) -> list[str]:
    os.set_blocking(reader, False)
    text = b""
    while True:
        try:
            data = os.read(reader, 1 << 20)
        except BlockingIOError:
            break
        if not data:
            break
        text += data
    return [line.split(": ", 1)[1] for line in text.decode().splitlines()]


def distinct(number: int) -> str:
    """Lines that are not alike."""
    return f"line {'abcdefghij'[number % 10]}{'abcdefghij'[number // 10 % 10]}{'abcdefghij'[number // 100 % 10]}"


def test_a_pipe_that_nobody_reads_is_not_waited_for(pipe: tuple[int, int], opened: Opened, time: Time) -> None:
    """A log driver that hangs must not hang the node; what is missing is said once somebody reads again."""
    reader, writer = pipe
    _, log = opened(writer)
    assert os.get_blocking(writer)  # as others have it, too
    for number in range(1000):
        log.info("%s %s", distinct(number), "x" * 1000)
    written = lines(reader)
    assert 10 < len(written) < 900
    assert written == [f"{distinct(number)} {'x' * 1000}" for number in range(len(written))]
    log.info("again")
    rest = lines(reader)
    dropped = 1000 - len(written)
    assert [line for line in rest if not line.startswith("line")] == [
        f"{dropped} lines are missing here: nobody read the log",
        "again",
    ]


def test_a_socket_that_nobody_reads(opened: Opened, time: Time) -> None:
    """As systemd gives it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _, log = opened(ours.fileno())
        for number in range(1000):
            log.info("%s %s", distinct(number), "x" * 1500)
        theirs.setblocking(False)
        while True:
            try:
                theirs.recv(1 << 20)
            except BlockingIOError:
                break
        log.info("again")
        assert b"lines are missing here" in theirs.recv(1 << 20)


def test_repeated_lines_are_counted(pipe: tuple[int, int], opened: Opened, time: Time) -> None:
    reader, writer = pipe
    handler, log = opened(writer)
    for _ in range(50):
        log.warning("a seed cannot be reached")
    log.warning("something else")
    assert lines(reader) == ["a seed cannot be reached", "something else"]
    time.now += REPEAT_AFTER_S
    handler.flush()
    assert lines(reader) == ["49 more like this within 10 s: a seed cannot be reached"]
    log.warning("a seed cannot be reached")
    assert lines(reader) == ["a seed cannot be reached"]


def test_lines_that_differ_in_numbers_are_counted_beyond_some(
    pipe: tuple[int, int], opened: Opened, time: Time
) -> None:
    """A stranger makes a line with each connection, each with another port."""
    reader, writer = pipe
    handler, log = opened(writer)
    for port in range(10_000):
        log.warning("127.0.0.1:%d sends rubbish", port)
    assert len(lines(reader)) == ALIKE_MAX
    time.now += REPEAT_AFTER_S
    handler.flush()
    assert lines(reader) == [f"{10_000 - ALIKE_MAX} more like this within 10 s: 127.0.0.1:9999 sends rubbish"]


def test_kinds_of_lines_without_end(pipe: tuple[int, int], opened: Opened, time: Time) -> None:
    _, writer = pipe
    handler, log = opened(writer)
    for number in range(2000):
        log.warning("line %s", "x" * number)
    assert len(handler._same) == len(handler._alike) == KINDS_MAX


def test_what_is_counted_is_said_at_the_end(pipe: tuple[int, int], opened: Opened, time: Time) -> None:
    reader, writer = pipe
    handler, log = opened(writer)
    for _ in range(2):
        log.warning("so it is")
    handler.close()
    assert lines(reader) == ["so it is", "this once more within 10 s: so it is"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Ünïcode too", "plain text, Ünïcode too"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[2Jclear", "\\x1b[2Jclear"),
        ("turned \u202e round", "turned \\u202e round"),
        (os.fsdecode(b"\xff"), "\\udcff"),
        ("x" * 3000, "x" * MESSAGE_MAX + "... (3000 characters)"),
    ],
)
def test_what_strangers_chose_is_escaped(
    text: str, shown: str, pipe: tuple[int, int], opened: Opened, time: Time
) -> None:
    """A name with a line break in it would write lines of its own; one with escapes would write on a terminal."""
    assert escaped(text) == shown
    reader, writer = pipe
    opened(writer)[1].info("%s", text)
    assert lines(reader) == [shown]


def test_a_traceback_is_indented_and_a_bad_line_is_said(pipe: tuple[int, int], opened: Opened, time: Time) -> None:
    reader, writer = pipe
    _, log = opened(writer)
    try:
        raise ValueError("a\n2026-01-01 INFO db1: forged")
    except ValueError:
        log.exception("a connection is closed")
    log.info("%d", "no number")
    os.set_blocking(reader, False)
    first, *traceback, last = os.read(reader, 1 << 20).decode().splitlines()
    assert first.endswith("a connection is closed")
    assert traceback
    assert all(line.startswith("    ") for line in traceback)
    assert "cannot be made" in last


def test_a_file(tmp_path: Path, opened: Opened, time: Time) -> None:
    with pytest.raises(OSError, match="No such file"):
        NodeLog(tmp_path / "nowhere" / "log", "db1")
    path = tmp_path / "log"
    path.write_text("earlier\n")
    opened(path)[1].info("later")
    assert path.read_text().splitlines()[0] == "earlier"
    assert path.read_text().splitlines()[1].endswith("db1: later")
