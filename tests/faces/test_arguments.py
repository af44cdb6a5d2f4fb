"""What is typed, what the environment says, and errors in one line."""

from __future__ import annotations

import errno
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from peerkv import cli
from peerkv.cli import main
from peerkv.faces import arguments
from peerkv.faces.arguments import Address, Connect, NodeOption, own_address
from peerkv.faces.client import ConnectionLost

SERVICE = "tcp://10.96.0.12:6379"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PEERKV_ADDRESS", "PEERKV_NODE_HOST", "PEERKV_NODE_PORT", "PEERKV_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost", ("localhost", 7001)),
        ("db1.example", ("db1.example", 7001)),
        ("127.0.0.1:7005", ("127.0.0.1", 7005)),
        (":7005", ("127.0.0.1", 7005)),
        ("7005", ("127.0.0.1", 7005)),
        ("[::1]:7005", ("::1", 7005)),
        ("[::1]", ("::1", 7001)),
        ("::1", ("::1", 7001)),
        ("fe80::1%eth0", ("fe80::1%eth0", 7001)),
    ],
)
def test_a_port_may_be_missing(text: str, address: tuple[str, int]) -> None:
    """`connect localhost` was refused, and ::1 was port 1 of a host called ":"."""
    assert Address(port_may_be_missing=True).convert(text, None, None) == address


@pytest.mark.parametrize("text", ["", "localhost:", "localhost:port", "a b", "localhost:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not HOST:PORT"):
        Address(port_may_be_missing=True).convert(text, None, None)


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, ""),
        ({"PEERKV_ADDRESS": "db1:7005", "PEERKV_NODE_PORT": "6379"}, "db1:7005"),
        ({"PEERKV_NODE_PORT": "6379"}, "[127.0.0.1]:6379"),
        ({"PEERKV_NODE_PORT": "6379", "PEERKV_NODE_HOST": "0.0.0.0"}, "[127.0.0.1]:6379"),
        ({"PEERKV_NODE_PORT": "6379", "PEERKV_NODE_HOST": "10.0.0.5"}, "[10.0.0.5]:6379"),
        ({"PEERKV_NODE_PORT": SERVICE}, "[127.0.0.1]:6379"),
    ],
)
def test_a_container_s_own_node_is_found(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str
) -> None:
    """`docker exec NODE peerkv status` looked for a node at 127.0.0.1:7001."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert own_address() == address
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(cli, "_with_client", lambda at, *_rest, **_options: asked.append(at) or {})
    monkeypatch.setattr("peerkv.faces.status.show", lambda _found: None)
    monkeypatch.setattr("peerkv.faces.status.is_whole", lambda _found: True)
    for words in (["status"], ["status", "localhost"]):
        assert CliRunner().invoke(main, words).exit_code == 0
    host, port = Address().convert(address or "127.0.0.1:7001", None, None)
    assert asked == [(host, port), ("localhost", port)]


@click.command()
@click.option("--port", cls=NodeOption, type=int, default=6379)
@click.option("--announce-port", cls=NodeOption, type=int, default=0)
@click.option("--name", "own_name", cls=NodeOption, envvar="PEERKV_NODE_NAME")
@click.pass_context
def _node(context: click.Context, **options: object) -> None:
    click.echo((options, context.meta.get(arguments.IGNORED)))


@pytest.mark.parametrize(
    ("variables", "options", "ignored"),
    [
        ({"PORT": "7005", "NAME": "a"}, {"port": 7005, "announce_port": 0, "own_name": "a"}, []),
        ({"PORT": SERVICE}, {"port": 6379, "announce_port": 0, "own_name": None}, ["PORT"]),
        ({"ANNOUNCE_PORT": SERVICE}, {"port": 6379, "announce_port": 0, "own_name": None}, ["ANNOUNCE_PORT"]),
        ({"PORT": SERVICE, "NAME": "/web/x"}, {"port": 6379, "announce_port": 0, "own_name": None}, ["PORT", "NAME"]),
        ({"NAME": "/web/x"}, {"port": 6379, "announce_port": 0, "own_name": "/web/x"}, []),
    ],
)
def test_the_variables_of_a_service_do_not_configure_a_node(
    variables: dict[str, str], options: dict[str, object], ignored: list[str]
) -> None:
    """A service called peerkv-node kept every node from starting."""
    environment = {f"PEERKV_NODE_{name}": value for name, value in variables.items()}
    shown = CliRunner().invoke(_node, [], env=environment, auto_envvar_prefix="PEERKV_NODE")
    assert shown.exit_code == 0, shown.output
    text = shown.output.strip()
    assert text.startswith(f"({options}, ")
    assert text.count("is ignored: Kubernetes and Docker set such for a service") == len(ignored)
    for name in ignored:
        assert f"PEERKV_NODE_{name}={environment[f'PEERKV_NODE_{name}']} is ignored" in text


@pytest.mark.parametrize(
    ("words", "redis", "command"),
    [
        (["at:1", "get", "a"], False, ("get", "a")),
        (["--redis", "at:1", "get", "a"], True, ("get", "a")),
        (["at:1", "--redis", "get", "a"], True, ("get", "a")),
        (["at:1", "--redis"], True, ()),
        (["at:1", "echo", "--redis"], False, ("echo", "--redis")),
        (["at:1", "set", "k", "-h"], False, ("set", "k", "-h")),
        (["at:1", "--", "set", "k", "-1"], False, ("set", "k", "-1")),
        ([], False, ()),
    ],
)
def test_options_may_stand_behind_the_address(words: list[str], redis: bool, command: tuple[str, ...]) -> None:
    """`connect ADDRESS --redis` sent a command called --redis."""
    connect = main.commands["connect"]
    assert isinstance(connect, Connect)
    with connect.make_context("connect", list(words)) as context:
        assert context.params["redis"] is redis
        assert context.params["command"] == command


def test_an_option_that_is_none_is_no_command() -> None:
    refused = CliRunner().invoke(main, ["connect", "at:1", "--rediss", "get", "a"])
    assert refused.exit_code == 2
    assert "No such option" in refused.output


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionLost("broke the connection"), "Error: broke the connection"),
        (OSError(errno.ENOSPC, "No space left on device"), "Error: No space left on device"),
        (
            AssertionError("a\x1b[31m"),
            r"Error: AssertionError: a\x1b[31m (a fault of peerkv: PEERKV_TRACEBACK=1 shows where)",
        ),
        (ExceptionGroup("", [ExceptionGroup("", [OSError(errno.ENOSPC, "full", "file")])]), "Error: file: full"),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), "Aborted!"),
    ],
)
def test_a_traceback_is_never_what_a_user_sees(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, text: str
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_with_client", fail)
    refused = CliRunner().invoke(main, ["leave", "a"])
    assert refused.exit_code == 1
    assert refused.output.strip() == text


def test_up_without_a_temporary_directory_says_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only root file system, which was a traceback of tempfile's."""

    def none(**_options: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.mkdtemp", none)
    config = tmp_path / "cluster.ini"
    config.write_text("[db1]\nport = 47123\n")
    refused = CliRunner().invoke(main, ["up", "--config", str(config)])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: no temporary directory can be written for the nodes' logs: ")
    assert refused.output.endswith("; --logs names another\n")
