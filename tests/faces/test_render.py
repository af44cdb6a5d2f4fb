"""What a terminal may show, and what a pipe gets."""

from __future__ import annotations

import io
import sys

import pytest

from peerkv.faces.render import escape_what_streams_lack, escaped, has_lines, plain, quoted, render, write
from peerkv.resp import Reply, ReplyError, Verbatim

EVIL = b"\x1b]0;owned\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ä 漢 🐎", "plain, ä 漢 🐎"),
        ("\n\r\t\a\b\0\x7f", r"\n\r\t\a\b\x00\x7f"),
        ("\x9b", r"\xc2\x9b"),  # one character is enough to command an old terminal
        ("a\u202eb", r"a\xe2\x80\xaeb"),  # what follows would be read from right to left
        ("\udcff", r"\xff"),
    ],
)
def test_a_terminal_is_never_commanded(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(
    "reply",
    [
        EVIL,
        EVIL.decode(),
        ReplyError(f"ERR {EVIL.decode()}"),
        Verbatim(EVIL),
        [EVIL, [EVIL]],
        {EVIL: EVIL},
    ],
)
def test_no_reply_of_any_kind_commands_a_terminal(reply: Reply) -> None:
    """KEYS showed what GET did not, and INFO what both did not."""
    for lines in (False, True):
        assert render(reply, terminal=True, lines=lines).replace("\n", "").isprintable()


def test_a_value_with_escapes_is_in_quotes() -> None:
    r"""Without them a value of a backslash and an n could not be told from a line end."""
    assert plain(b"4", terminal=True) == "4"
    assert plain(rb"\n", terminal=True) == r"\n"
    assert plain(b"\n", terminal=True) == r'"\n"'
    assert plain(b"\n", terminal=False) == "\n"


def test_what_is_shown_in_quotes_can_be_typed_again() -> None:
    from peerkv.resp import split_words

    raw = bytes(range(256)) + "ä\u202e".encode()
    assert split_words(quoted(raw).encode()) == [raw]


@pytest.mark.parametrize(
    ("reply", "shown", "piped"),
    [
        (None, "(nil)", "(nil)"),
        (7, "(integer) 7", "(integer) 7"),
        ([], "(empty array)", "(empty array)"),
        ({}, "(empty array)", "(empty array)"),
        (b'a "b"', r'"a \"b\""', 'a "b"'),
        ([b"a", [b"b", 1]], '1) "a"\n2) 1) "b"\n   2) (integer) 1', "a\nb\n(integer) 1"),
        ({b"k": b"v"}, '"k" => "v"', "k => v"),
    ],
)
def test_replies(reply: Reply, shown: str, piped: str) -> None:
    assert render(reply, terminal=True) == shown
    assert render(reply, terminal=False) == piped


def test_a_text_of_many_lines_is_shown_as_lines() -> None:
    r"""INFO was one line with \r\n in it."""
    info = b"# Server\r\nredis_version:7\r\n\r\n# Clients\r\n"
    assert render(info, terminal=True, lines=True) == "# Server\nredis_version:7\n\n# Clients"
    assert render(info, terminal=False, lines=True) == "# Server\r\nredis_version:7\r\n\r\n# Clients"
    for words in ([b"info"], [b"INFO", b"peerkv"], [b"client", b"LIST"], [b"CLUSTER", b"NODES"]):
        assert has_lines(words)
    for words in ([b"get", b"info"], [b"client"], [b"client", b"getname"]):
        assert not has_lines(words)


class _Terminal(io.TextIOWrapper):
    """Stdout with an encoding."""

    def __init__(self, encoding: str) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding=encoding, write_through=True)


@pytest.mark.parametrize(
    ("encoding", "sent"), [("ascii", rb"h\xc3\xa9 4"), ("latin-1", b"h\xe9 4"), ("utf-8", b"h\xc3\xa9 4")]
)
def test_what_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch, encoding: str, sent: bytes) -> None:
    """GETDEL deleted the key, and its reply was an error of the terminal's."""
    terminal = _Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    escape_what_streams_lack()
    write("hé 4", terminal=True)
    assert terminal.raw_bytes.getvalue() == sent + b"\n"


def test_a_pipe_gets_any_bytes_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = _Terminal("ascii")
    monkeypatch.setattr(sys, "stdout", pipe)
    raw = bytes(range(256))
    write(render(raw, terminal=False), terminal=False)
    assert pipe.raw_bytes.getvalue() == raw + b"\n"


def test_no_stdout_is_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    escape_what_streams_lack()
    write("text", terminal=False)
