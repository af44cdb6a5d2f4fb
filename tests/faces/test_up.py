"""What a node is called that nobody has named; the rest of `up` runs in tests/test_cli.py."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from peerkv.faces import up
from peerkv.faces.up import default_name


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the engine was asked; it knows of 172.18.0.3, and is slow for 172.18.0.4."""
    questions: list[list[str]] = []

    def answer(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        questions.append(command)
        if command[-1] == "172.18.0.3":
            return subprocess.CompletedProcess(command, 0, "172.18.0.3      peerkv_node_1.peerkv_default\n", "")
        raise subprocess.TimeoutExpired(command, 5) if command[-1] == "172.18.0.4" else FileNotFoundError(command[0])

    monkeypatch.setattr(up.subprocess, "run", answer)
    return questions


@pytest.mark.parametrize(
    ("machine", "address", "name"),
    [
        ("db1", "172.18.0.3", "db1"),
        ("3f2a9c0b1d4e", "172.18.0.3", "peerkv_node_1"),
        ("3f2a9c0b1d4e", "172.18.0.4", "3f2a9c0b1d4e"),
        ("3f2a9c0b1d4e", "172.18.0.5", "3f2a9c0b1d4e"),
        ("x" * 100, "172.18.0.3", "x" * 64),
    ],
)
def test_a_node_on_any_address_is_called_as_its_container(
    monkeypatch: pytest.MonkeyPatch, asked: list[list[str]], machine: str, address: str, name: str
) -> None:
    """Members were numbers of containers, and one that was made anew was a stranger."""
    monkeypatch.setattr(up.socket, "gethostname", lambda: machine)
    monkeypatch.setattr(up.socket, "gethostbyname", lambda _name: address)
    for host in ("0.0.0.0", "::"):
        assert default_name(host, 6379) == name
    assert bool(asked) == (len(machine) == 12)


def test_a_node_on_one_address_is_called_as_that(asked: list[list[str]]) -> None:
    assert default_name("10.0.0.5", 6379) == "10.0.0.5:6379"
    assert asked == []
