"""Real processes of two wire versions: what the next release has to hold when it replaces this one, node by node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench.processes import ask, free_port

PROGRAM = """
import os
from peerkv.gossip import member
oldest, newest = os.environ["WIRE_VERSIONS"].split("-")
member.PROTOCOL_VERSIONS = int(oldest), int(newest)
from peerkv.cli import main
main()
"""
KEYS = 40
WITHIN_S = 60.0


class Mixed:
    """Nodes by name, each of a program of its own version."""

    def __init__(self, *names: str) -> None:
        self.ports = {name: free_port() for name in names}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, versions: str) -> None:
        command = [sys.executable, "-P", "-c", PROGRAM, "node", "--name", name, "--port", str(self.ports[name])]
        others = [f"127.0.0.1:{self.ports[other]}" for other in self.processes if other != name]
        for other in others:
            command += ["--join", other]
        self.processes[name] = subprocess.Popen(
            [*command, "--log-level", "error"], env={**os.environ, "WIRE_VERSIONS": versions}
        )

    def stop(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def spoken(self, name: str) -> dict[str, int]:
        """The wire version that a node speaks with each other one; empty while not all have all their copies."""
        try:
            reply = ask(self.ports[name], "PEERKV", "STATUS")
            status = json.loads(reply.split(b"\r\n", 1)[1])
        except (OSError, ValueError, IndexError):
            return {}
        owners = [member for member in status["members"] if member["owner"] and member["liveness"] == "alive"]
        whole = 0 < status["slots"] == status["slots_with_all_copies"] and not status["changing"]
        if not whole or len(owners) != len(self.processes):
            return {}
        return {member["name"]: member["wire_version"] for member in owners if not member["me"]}

    def await_spoken(self, name: str, versions: dict[str, int]) -> None:
        until = time.monotonic() + WITHIN_S
        while (spoken := self.spoken(name)) != versions:
            assert time.monotonic() < until, spoken
            time.sleep(0.5)


@pytest.fixture
def three() -> Iterator[Mixed]:
    nodes = Mixed("n1", "n2", "n3")
    try:
        yield nodes
    finally:
        for name in nodes.processes:
            nodes.stop(name)


def test_a_cluster_of_two_versions_serves_and_is_replaced_node_by_node(three: Mixed) -> None:
    three.start("n1", "2-3")
    three.start("n2", "3-4")
    three.await_spoken("n1", {"n2": 3})
    three.start("n3", "3-4")
    three.await_spoken("n1", {"n2": 3, "n3": 3})
    three.await_spoken("n2", {"n1": 3, "n3": 4})
    for number in range(KEYS):
        assert ask(three.ports["n1"], "SET", f"k{number}", f"{number}") == b"+OK\r\n"
    three.stop("n1")
    three.start("n1", "3-4")
    three.await_spoken("n1", {"n2": 4, "n3": 4})
    for number in range(KEYS):
        text = b"%d" % number
        assert ask(three.ports["n1"], "GET", f"k{number}") == b"$%d\r\n%b\r\n" % (len(text), text)
