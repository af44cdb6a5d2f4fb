"""The faces on real processes: up, connect, status, explain, node."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import free_port
from peerkv.cli import main
from peerkv.faces.dialect import Outcome

PEERKV = [sys.executable, "-P", "-m", "peerkv"]


def run(
    *arguments: str, lines: str = "", timeout: float = 30, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PEERKV, *arguments],
        input=lines,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=directory,
    )


class Up:
    """A running `peerkv up` without a terminal."""

    def __init__(self, directory: Path) -> None:
        self.ports = {name: free_port() for name in ("master", "db1", "db2", "db3")}
        self.config = directory / "cluster.ini"
        nodes = [
            f"[{name}]\nrole = {'master' if name == 'master' else 'data'}\nport = {port}\n"
            for name, port in self.ports.items()
        ]
        self.config.write_text("[cluster]\nexpect = 3\n" + "".join(nodes))
        self.logs = directory / "logs"
        self.process = subprocess.Popen(
            [*PEERKV, "up", "--config", str(self.config), "--logs", str(self.logs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if "the cluster is ready" in line:
                break

    def pid_of(self, name: str) -> int:
        command = ["pgrep", "-f", f"peerkv node {name} --config {self.config}"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])

    def end(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=20)
        return rest


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"))
    yield running
    if running.process.poll() is None:
        running.end()


def test_up_names_what_it_starts(up: Up) -> None:
    assert up.lines[0] == f"logs in {up.logs}"
    for name, port in up.ports.items():
        assert any(line.startswith(f"{name} (") and line.endswith(f"127.0.0.1:{port}") for line in up.lines)
    assert f"peerkv connect 127.0.0.1:{up.ports['db1']}" in up.lines[-1]


@pytest.mark.parametrize("node", ["master", "db1", "db2", "db3"])
@pytest.mark.parametrize("case", ["lower", "upper", "mixed"])
def test_the_dialect_through_any_node(up: Up, node: str, case: str) -> None:
    key = f"horse.{node}.{case}"
    lines = f"set {key} 4\nexpire {key} 20\nget {key}\nget {key}.none\nset {key} 5\nset {key} 6 xx\nget {key}\n"
    words = {"lower": str.lower, "upper": str.upper, "mixed": str.title}[case]
    lines = "\n".join(f"{words(line.split(' ')[0])} {' '.join(line.split(' ')[1:])}" for line in lines.splitlines())
    done = run("connect", f"127.0.0.1:{up.ports[node]}", lines=lines + "\n")
    assert done.returncode == Outcome.NOT_OVERRIDDEN, done.stderr
    first, second, third, *rest = done.stdout.splitlines()
    assert (first, second) == ("OK", "OK")
    assert third.startswith("4 | TTL: ")
    assert third.endswith(" seconds")
    assert rest == ["0", "Can't Override", "OK", "6"]


def test_a_key_that_has_expired_reads_0(up: Up) -> None:
    address = f"127.0.0.1:{up.ports['db1']}"
    assert run("connect", address, "set", "short", "1", "px", "50").stdout == "OK\n"
    time.sleep(0.2)
    assert run("connect", f"127.0.0.1:{up.ports['db2']}", "get", "short").stdout == "0\n"


def test_one_command_and_its_exit_status(up: Up) -> None:
    address = f"127.0.0.1:{up.ports['db3']}"
    assert run("connect", address, "ping").stdout == "PONG\n"
    failed = run("connect", address, "incr", "a", "b")
    assert failed.returncode == 1
    assert failed.stdout == "(error) ERR wrong number of arguments for 'incr' command\n"
    assert run("connect", "--redis", address, "get", "no-such-key").stdout == "(nil)\n"
    assert run("connect", address, "set", "once", "1").returncode == 0
    again = run("connect", address, "set", "once", "2")
    assert (again.stdout, again.returncode) == ("Can't Override\n", Outcome.NOT_OVERRIDDEN)


def test_a_pipe_gets_what_a_value_is(up: Up) -> None:
    """Bytes that are no UTF-8 were escaped, or, typed into the pipe, a traceback."""
    raw = bytes(byte for byte in range(256) if byte not in b"\0\n")
    quoted = b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    lines = b"set bytes " + quoted + b"\nget bytes\ninfo server\nexit\nset never 1\n"
    address = f"127.0.0.1:{up.ports['db1']}"
    done = subprocess.run([*PEERKV, "connect", address], input=lines, capture_output=True, timeout=30, check=False)
    assert done.stdout.startswith(b"OK\n" + raw + b"\n# Server\r\nredis_version:")
    assert (done.stderr, done.returncode) == (b"", 0)
    assert run("connect", address, "get", "never").stdout == "0\n"


@pytest.mark.parametrize(
    ("redirection", "status", "error"),
    [
        (">/dev/full", 1, "Error: No space left on device\n"),
        (">&-", 0, ""),
        ("<&-", 0, ""),
        ("| true", 1, ""),
    ],
)
def test_output_that_nobody_takes_is_no_traceback(up: Up, redirection: str, status: int, error: str) -> None:
    script = f'set -o pipefail; "$0" -P -m peerkv connect 127.0.0.1:{up.ports["db1"]} get a {redirection}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == error
    assert done.returncode == status or "|" in redirection


def test_ctrl_c_gives_the_prompt_back(up: Up) -> None:
    """It ended the prompt, and left of what was asked for nothing but a traceback."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*PEERKV, "connect", f"127.0.0.1:{up.ports['db1']}"])
    _read_until(terminal, b">>")
    os.write(terminal, b"wait 9 60000\r")
    # again and again, as one that comes while the prompt still has the terminal is a key
    _read_until(terminal, b"interrupted; whether WAIT was done is not known: look", typing=b"\x03")
    _read_until(terminal, b">>")
    os.write(terminal, b"ping\r")
    _read_until(terminal, b"PONG")
    _read_until(terminal, b">>")
    os.write(terminal, b"exit\r")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0


def test_the_words_of_a_command_are_its_own(up: Up) -> None:
    """`set k -h` printed a help text."""
    at = f"127.0.0.1:{up.ports['db1']}"
    assert run("connect", at, "set", "dash", "-h").stdout.strip() == "OK"
    assert run("connect", at, "set", "dashes", "-1h").stdout.strip() == "OK"
    assert run("connect", at, "echo", "--redis").stdout.strip() == "--redis"


def test_status_and_explain(up: Up) -> None:
    address = f"127.0.0.1:{up.ports['db1']}"
    done = run("status", address, "--json", "--wait", "5")
    status = json.loads(done.stdout)
    assert done.returncode == 0
    assert status["slots"] == status["slots_with_all_copies"] == 16384
    assert {member["name"] for member in status["members"]} == set(up.ports)
    assert "3 copies each: every slot has all its copies\n" in run("status", address).stdout
    run("connect", address, "set", "explained", "value")
    explained = json.loads(run("explain", "explained", address).stdout)
    assert explained["value_bytes"] == 5
    assert {owner["name"] for owner in explained["owners"]} == {"db1", "db2", "db3"}
    assert sum(owner["home"] for owner in explained["owners"]) == 1


def test_a_taken_port_is_one_line(up: Up) -> None:
    again = run("up", "--config", str(up.config))
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) == 1
    assert str(up.ports["master"]) in again.stderr
    node = run("node", "db1", "--config", str(up.config))
    assert node.returncode == 1
    assert f"port {up.ports['db1']} (clients of db1)" in node.stderr.splitlines()[-1]


def test_the_prompt_moves_on_when_its_node_hangs(up: Up) -> None:
    """A node that is stopped takes connections: the prompt came back to it again and again."""
    at = f"127.0.0.1:{up.ports['db3']}"
    os.kill(up.pid_of("db3"), signal.SIGSTOP)
    try:
        refused = run("connect", at, "set", "hung", "1")
        assert refused.stderr == f"Error: no node answers at {at}\n"
    finally:
        os.kill(up.pid_of("db3"), signal.SIGCONT)
    prompt = subprocess.Popen([*PEERKV, "connect", at], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert prompt.stdin is not None
    assert prompt.stdout is not None
    with prompt:
        prompt.stdin.write("set hung 1\n")
        prompt.stdin.flush()
        assert prompt.stdout.readline() == "OK\n"
        os.kill(up.pid_of("db3"), signal.SIGSTOP)
        try:
            output, _ = prompt.communicate("incr hung\nget hung\n", timeout=30)
        finally:
            os.kill(up.pid_of("db3"), signal.SIGCONT)
    moved, value = output.splitlines()
    assert re.fullmatch(rf"{at} does not answer any more; now at 127.0.0.1:\d+; whether INCR was done .*: look", moved)
    assert value == "1"


def test_the_prompt_moves_on_when_its_node_dies(up: Up) -> None:
    """On a terminal; last, as it kills a node."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*PEERKV, "connect", f"127.0.0.1:{up.ports['db3']}"])
    seen = _read_until(terminal, b">>")
    os.write(terminal, b"set prompt 1\r")
    seen += _read_until(terminal, b"OK")
    os.kill(up.pid_of("db3"), signal.SIGKILL)
    os.write(terminal, b"get prompt\r")
    seen += _read_until(terminal, b"now at")
    seen += _read_until(terminal, b">>")
    os.write(terminal, b"\x04")
    os.waitpid(pid, 0)
    os.close(terminal)
    assert re.search(rb"does not answer any more; now at 127.0.0.1:\d+\s+1\s", seen)


def _read_until(terminal: int, text: bytes, typing: bytes = b"") -> bytes:
    seen = b""
    until = time.monotonic() + 15
    while text not in seen:
        os.write(terminal, typing)
        assert time.monotonic() < until, f"{text!r} did not come; this did: {seen!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
    return seen


def test_up_stops_everything(up: Up) -> None:
    assert "all nodes have stopped" in up.end()
    assert up.process.returncode == 0
    for port in up.ports.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_a_config_with_errors_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "cluster.ini"
    config.write_text("[db1]\nport = none\n")
    done = run("up", "--config", str(config))
    assert done.returncode == 1
    assert "[db1] port = none: allowed is a whole number" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["node", "--config", "cluster.ini", "--port", "7009"], "goes with the NAME"),
        (["node", "db1", "--port", "7009"], "--port does not go with NAME"),
    ],
)
def test_what_a_node_would_ignore_is_refused(arguments: list[str], text: str) -> None:
    refused = run(*arguments)
    assert refused.returncode == 2
    assert text in refused.stderr


TEXT = "allowed is 1 to 64 printable characters without blanks"


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--name", "x" * 100, TEXT),
        ("--name", "a b", TEXT),
        ("--zone", "a b", TEXT),
        ("--cluster", "a\x01", TEXT),
        ("--host", "a..b", "allowed is a host name or an address"),
        ("--forget-after", "nan", "allowed is seconds, more than 0 and at most 86400"),
    ],
)
def test_an_option_takes_what_cluster_ini_takes(option: str, value: str, allowed: str) -> None:
    """Such a node ran, and its name was in everybody's logs and tables."""
    refused = run("node", option, value)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == f"Error: Invalid value for '{option}': {value!r}: {allowed}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["node", "--log-file", "none/log"], "--log-file none/log cannot be written: No such file or directory; "),
        (["node", "--log-file", "."], "'.' is a directory"),
        (
            ["node", "--host", "::1%none"],
            "on ::1%none: Name or service not known; the host must be a name or an address of this machine",
        ),
        (
            ["node", "--host", "192.0.2.1"],
            r"on 192.0.2.1: Cannot assign requested address; the host must be a name or an address of this machine",
        ),
        (["up", "--logs", "cluster.ini"], "'cluster.ini' is a file"),
        (["up", "--logs", "cluster.ini/logs"], "the log cluster.ini/logs cannot be written: Not a directory"),
        (["up", "--config", "elsewhere.ini"], r"\(clients of a\) on ::1%none: Name or service not known; the host"),
    ],
)
def test_what_the_machine_refuses_is_one_line(tmp_path: Path, arguments: list[str], text: str) -> None:
    """These were tracebacks, or "Unknown error -2"."""
    (tmp_path / "cluster.ini").write_text(f"[a]\nport = {free_port()}\n")
    (tmp_path / "elsewhere.ini").write_text("[a]\nport = 6379\nhost = ::1%none\n")
    refused = run(*arguments, directory=tmp_path)
    assert refused.returncode in (1, 2)
    assert re.search(text, refused.stderr.splitlines()[-1])
    assert "Traceback" not in refused.stderr


def test_up_runs_the_lines_of_its_pipe(tmp_path: Path) -> None:
    """They were ignored, without a word. And [a/b] was a log in a directory that did not exist: a traceback."""
    config = tmp_path / "cluster.ini"
    config.write_text(f"[a/b]\nport = {free_port()}\n")
    done = run("up", "--config", str(config), "--logs", str(tmp_path), lines="set horse 4\nset horse 5\nget horse\n")
    assert done.stdout.splitlines()[-4:] == ["OK", "Can't Override", "4", "all nodes have stopped"]
    assert done.returncode == Outcome.NOT_OVERRIDDEN
    assert (tmp_path / "a%2Fb.log").exists()


def test_every_option_of_a_node_is_a_variable_too() -> None:
    """PEERKV_NODE_JOIN was ignored, and the node founded a cluster of its own."""
    node = main.commands["node"]
    for option in node.params:
        name = option.opts[0].removeprefix("--").replace("-", "_").upper()
        if option.opts[0].startswith("--") and option.name not in ("config", "parent"):
            variable = option.envvar or f"PEERKV_NODE_{(option.name or '').upper()}"
            assert variable == f"PEERKV_NODE_{name}"


def test_status_waits_for_a_node_that_is_not_there_yet(tmp_path: Path) -> None:
    """As in a rolling restart. And its one copy was told to be "3 copies each"."""
    port = free_port()
    waiting = subprocess.Popen(
        [*PEERKV, "status", f"127.0.0.1:{port}", "--wait", "20"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(1.0)
    node = subprocess.Popen([*PEERKV, "node", "--port", str(port), "--log-file", str(tmp_path / "log")])
    try:
        output, _ = waiting.communicate(timeout=30)
        assert waiting.returncode == 0
        assert b"1 of 3 wanted copies each: every slot has all its copies that 1 data node can hold" in output
    finally:
        waiting.kill()
        node.send_signal(signal.SIGINT)
        node.wait(10)


def test_a_node_leaves_that_knows_no_address_of_its_own(tmp_path: Path) -> None:
    """Alone on 0.0.0.0 it was looked for at ":PORT", where nobody is."""
    address = f"127.0.0.1:{free_port()}"
    options = ["--name", "one", "--host", "0.0.0.0", "--port", address.partition(":")[2]]
    node = subprocess.Popen([*PEERKV, "node", *options, "--log-file", str(tmp_path / "log")])
    try:
        assert run("status", address, "--wait", "20").returncode == 0
        left = run("leave", "one", address)
        assert left.stdout == "one is leaving; peerkv status shows how far it is\n", left.stderr
        assert node.wait(10) == 0
    finally:
        node.kill()
        node.wait()


def test_help_says_whom_a_command_asks() -> None:
    """It did not, and whoever had other ports found no node at 127.0.0.1:7001."""
    for name in ("status", "explain", "leave", "forget", "connect"):
        command = main.commands[name]
        address = next(parameter for parameter in command.params if parameter.name == "address")
        assert command.help is not None
        assert ("there is no default" if address.required else f"the default is {address.default}.") in command.help


def test_sigterm_ends_up_at_its_prompt(tmp_path: Path) -> None:
    """It waited until somebody pressed Enter."""
    config = tmp_path / "cluster.ini"
    config.write_text(f"[db1]\nport = {free_port()}\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*PEERKV, "up", "--config", str(config), "--logs", str(tmp_path)])
    _read_until(terminal, b"]>>")
    os.kill(pid, signal.SIGTERM)
    _read_until(terminal, b"all nodes have stopped")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
