"""The faces of a cluster that changes: node --join, leave, forget, status --wait, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench.processes import free_port

PEERKV = [sys.executable, "-P", "-m", "peerkv"]
KEYS = 60


def run(*arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PEERKV, *arguments], input=lines, capture_output=True, text=True, timeout=90, check=False)


class Nodes:
    """Nodes that were started by hand: the first one alone, the others told to join it."""

    def __init__(self, *names: str) -> None:
        self.ports = {name: free_port() for name in names}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.first = f"127.0.0.1:{self.ports[names[0]]}"
        for name in names:
            self.start(name)

    def start(self, name: str) -> None:
        command = [*PEERKV, "node", "--name", name, "--port", str(self.ports[name]), "--log-level", "error"]
        if self.processes:
            command += ["--join", self.first]
        self.processes[name] = subprocess.Popen(command)

    def await_members(self, *names: str) -> None:
        """Until these are the members and every slot has all its copies."""
        until = time.monotonic() + 60
        while True:
            done = run("status", self.first, "--wait", "60", "--json")
            status = json.loads(done.stdout) if done.stdout.startswith("{") else {"members": []}
            members = sorted(member["name"] for member in status["members"] if member["owner"])
            if done.returncode == 0 and members == sorted(names):
                return
            assert time.monotonic() < until, done.stdout[-2000:] + done.stderr
            time.sleep(0.2)

    def write(self) -> None:
        assert (
            run("connect", "--redis", self.first, lines="".join(f"set k{n} {n}\n" for n in range(KEYS))).returncode == 0
        )

    def check(self, name: str) -> None:
        asked = "".join(f"get k{n}\n" for n in range(KEYS))
        done = run("connect", "--redis", f"127.0.0.1:{self.ports[name]}", lines=asked)
        assert done.stdout.split() == [f"{n}" for n in range(KEYS)]

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def five() -> Iterator[Nodes]:
    nodes = Nodes("n1", "n2", "n3", "n4", "n5")
    try:
        yield nodes
    finally:
        nodes.end()


def test_five_of_one_second_are_one_cluster_that_shrinks(five: Nodes) -> None:
    five.await_members("n1", "n2", "n3", "n4", "n5")
    five.write()

    assert "leaving" in run("leave", "n2", five.first).stdout
    assert five.processes["n2"].wait(40) == 0
    five.await_members("n1", "n3", "n4", "n5")
    five.check("n3")

    refused = run("forget", "n4", five.first)
    assert refused.returncode == 1
    assert "n4 is alive" in refused.stderr
    five.processes["n4"].kill()
    five.processes["n4"].wait()
    until = time.monotonic() + 30
    while run("forget", "n4", five.first).returncode != 0:
        assert time.monotonic() < until
        time.sleep(0.3)
    five.await_members("n1", "n3", "n5")
    five.check("n5")

    assert "nobody is not a member" in run("forget", "nobody", five.first).stderr
    assert "no living node 'n4'" in run("leave", "n4", five.first).stderr


def test_a_second_sigterm_ends_a_node_that_cannot_hand_its_share_back() -> None:
    nodes = Nodes("n1", "n2")
    try:
        nodes.await_members("n1", "n2")
        nodes.processes["n2"].send_signal(signal.SIGSTOP)
        leaving = nodes.processes["n1"]
        leaving.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            leaving.wait(3)
        leaving.terminate()
        leaving.wait(5)
    finally:
        nodes.end()
