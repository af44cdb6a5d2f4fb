"""The prompt's history: private, without passwords, bounded, and no reason to fail."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.history import FileHistory

from peerkv.faces import history as module
from peerkv.faces.history import PrivateHistory, history, is_secret


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """Whatever the umask; and what an earlier version left open is closed."""
    path = tmp_path / "peerkv" / "history"
    PrivateHistory(path).append_string("set a secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    assert list(PrivateHistory(path).load_history_strings()) == ["set a secret"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "line",
    [
        "AUTH secret",
        "  auth default secret",
        'auth "sec ret',  # a quote is not closed
        '"auth" secret',
        "hello 3 AUTH default secret setname x",
        "config set requirepass secret",
        "CONFIG SET maxclients 5 masterauth secret",
        "ACL SETUSER joe >secret",
        "migrate host 6379 key 0 1 AUTH secret",
        "migrate host 6379 key 0 1 AUTH2 joe secret",
    ],
)
def test_passwords_are_not_kept(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history"
    kept = PrivateHistory(path)
    kept.append_string(line)
    assert kept.get_strings() == []
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "line", ["set auth 1", "hello 3", "config get requirepass", "config set maxclients 5", "get a", ""]
)
def test_what_is_no_password_is_kept(line: str) -> None:
    assert not is_secret(line)


def test_a_password_that_an_earlier_version_kept_goes(tmp_path: Path) -> None:
    path = tmp_path / "history"
    earlier = FileHistory(str(path))
    for line in ("get a", "auth secret", "# set b"):
        earlier.append_string(line)
    assert list(PrivateHistory(path).load_history_strings()) == ["# set b", "get a"]
    assert b"secret" not in path.read_bytes()


def test_the_newest_lines_are_kept_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grew for ever, and was read whole at every start."""
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 1000)
    path = tmp_path / "history"
    for _ in range(3):
        kept = PrivateHistory(path)
        for number in range(100):
            kept.append_string(f"get key{number:04}")
        kept.append_string("set long " + "x" * module.LINE_BYTES_MAX)
    assert path.stat().st_size < 2 * 1000 + 100 * 13
    lines = list(PrivateHistory(path).load_history_strings())
    assert lines[:2] == ["get key0099", "get key0098"]
    assert path.stat().st_size <= 1000


def test_a_line_of_any_bytes_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "history"
    PrivateHistory(path).append_string("get \udcff ä")
    assert list(PrivateHistory(path).load_history_strings()) == ["get \udcff ä"]


@pytest.mark.parametrize("home", ["", "/proc/none", "relative"])
def test_without_a_home_the_prompt_remembers_for_this_time(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """The prompt ended with a traceback for a user id that has no entry."""

    def nobody(_: object = None) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setenv("XDG_STATE_HOME", home)
    kept = history()
    kept.append_string("get a")
    kept.append_string("auth secret")
    assert kept.get_strings() == ["get a"]


def test_nobody_leads_it_to_another_file(tmp_path: Path) -> None:
    """A link would have somebody else's file written and made unreadable."""
    (tmp_path / "other").write_text("kept")
    (tmp_path / "peerkv").mkdir()
    (tmp_path / "peerkv" / "history").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="history"):
        PrivateHistory(tmp_path / "peerkv" / "history")
    assert (tmp_path / "other").read_text() == "kept"


def test_a_full_disk_does_not_end_the_prompt(tmp_path: Path) -> None:
    kept = PrivateHistory(tmp_path / "history")
    (tmp_path / "history").unlink()
    (tmp_path / "history").mkdir()
    kept.append_string("get a")
    assert kept.get_strings() == ["get a"]
