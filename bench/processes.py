"""Servers to measure, as processes of their own on free loopback ports: redis-server and nodes of peerkv."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from resource import getpagesize

PEER_PORT_OFFSET = 10_000
READY_WITHIN_S = 60.0
"""Generous: five nodes take some three seconds on two processors that have nothing else to do."""


def free_port() -> int:
    """A port that is free, and whose peer port is."""
    while True:
        with socket.socket() as client:
            client.bind(("127.0.0.1", 0))
            port = int(client.getsockname()[1])
            if port + PEER_PORT_OFFSET > 65535:
                continue
            with contextlib.suppress(OSError), socket.socket() as peer:
                peer.bind(("127.0.0.1", port + PEER_PORT_OFFSET))
                return port


def ask(port: int, *arguments: str) -> bytes:
    """One command on a connection of its own; the raw reply as far as it came at once."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        request = b"".join(b"$%d\r\n%s\r\n" % (len(a), a.encode()) for a in arguments)
        connection.sendall(b"*%d\r\n%s" % (len(arguments), request))
        return connection.recv(1 << 20)


@contextlib.contextmanager
def running(*commands: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended afterwards."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += [_start(command) for command in commands]
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            _end(process)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listener(port: int) -> int:
    """The process that listens there, by its socket's inode."""
    wanted = f"{port:04X}"
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{wanted}") and line.split()[3] == "0A"
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]") in inodes:
                    return int(process.name)
        except OSError:
            continue
    raise RuntimeError(f"nobody listens at port {port}")


def resident(process: int) -> int:
    """Bytes of memory that a process takes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * getpagesize()


def processor_s(process: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def redis_command(port: int, *options: str) -> list[str]:
    """A redis-server without persistence."""
    server = shutil.which("redis-server")
    if server is None:
        sys.exit("bench: redis-server is not installed; the ratios are to it (apt install redis-server redis-tools)")
    nothing_kept = ["--save", "", "--appendonly", "no", "--dir", tempfile.gettempdir(), "--dbfilename", f"{port}.rdb"]
    return [server, "--port", str(port), "--bind", "127.0.0.1", *nothing_kept, *options]


def node_command(name: str, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "peerkv", "node", "--name", name, "--port", str(port), *options]


@contextlib.contextmanager
def redis(*options: str) -> Iterator[int]:
    port = free_port()
    with running(redis_command(port, *options)):
        _await(lambda: ask(port, "PING").startswith(b"+PONG"))
        yield port


@contextlib.contextmanager
def redis_with_replicas(count: int) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(redis("--repl-diskless-sync-delay", "0"))
        for _ in range(count):
            stack.enter_context(redis("--replicaof", "127.0.0.1", str(primary)))
        _await(lambda: ask(primary, "INFO", "replication").count(b"state=online") == count)
        yield primary


@contextlib.contextmanager
def alone() -> Iterator[int]:
    """One node by itself."""
    port = free_port()
    with running(node_command("alone", port)):
        _await(lambda: _whole(port))
        yield port


class Cluster:
    """A master and some data nodes, each a process that can be killed, paused and started again."""

    def __init__(self, data: int, directory: Path, options: str = "") -> None:
        self.names = [f"db{number}" for number in range(1, data + 1)]
        self.ports = {name: free_port() for name in ("master", *self.names)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._directory = directory
        self._config = directory / "cluster.ini"
        lines = [f"[cluster]\nname = {directory.name}\nexpect = {data}\n{options}\n"]
        for name, port in self.ports.items():
            lines.append(f"[{name}]\nrole = {'master' if name == 'master' else 'data'}\nport = {port}\n")
        self._config.write_text("\n".join(lines))

    def start(self, *names: str) -> None:
        """Start nodes, all of them by default; their logs are beside the configuration."""
        for name in names or self.ports:
            command = [sys.executable, "-m", "peerkv", "node", name, "--config", str(self._config)]
            with (self._directory / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def join(self, *names: str) -> None:
        """Start nodes that are not in the configuration; they join the cluster."""
        seed = f"127.0.0.1:{self.ports[self.names[0]]}"
        for name in names:
            port = self.ports[name] = free_port()
            self.names.append(name)
            command = node_command(name, port, "--join", seed, "--cluster", self._directory.name)
            with (self._directory / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def leave(self, name: str, within: float = 30.0) -> None:
        """SIGTERM, and wait until it has handed its share back and ended."""
        self.processes[name].terminate()
        self.processes[name].wait(within)

    def whole(self, *names: str) -> bool:
        """Whether every slot has all its copies, as these nodes see it."""
        with contextlib.suppress(OSError, ValueError):
            return all(_whole(self.ports[name]) for name in names or self.names)
        return False

    def await_whole(self) -> None:
        """Until every slot has all its copies, as each data node sees it."""
        _await(self.whole)

    def send(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        """kill -9, and wait until it is gone."""
        self.processes[name].kill()
        self.processes[name].wait()

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text(errors="replace")

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            _end(process)


@contextlib.contextmanager
def cluster(data: int, options: str = "") -> Iterator[Cluster]:
    """A cluster that is ready, and is ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="peerkv-") as directory:
        members = Cluster(data, Path(directory), options)
        try:
            members.start()
            members.await_whole()
            yield members
        finally:
            members.end()


def _whole(port: int) -> bool:
    reply = ask(port, "PEERKV", "STATUS")
    if not reply.startswith(b"$"):
        return False
    status = json.loads(reply.split(b"\r\n", 1)[1])
    return 0 < status["slots"] == status["slots_with_all_copies"] and not status["changing"] and not status["joining"]


def _await(condition: object) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while True:
        with contextlib.suppress(OSError, ValueError):
            if condition():  # type: ignore[operator]
                return
        if time.monotonic() > until:
            sys.exit("bench: a server did not become ready in time")
        time.sleep(0.05)
