"""Real processes lose their memory together: what is left is kept, and every cluster serves again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from bench.load import encode
from bench.processes import Cluster, ask, cluster

KEYS = [f"key:{number}" for number in range(200)]
WITHIN_S = 60.0
"""Generous: a cluster serves again after some seconds."""


def until(what: Callable[[], Any]) -> Any:
    """What becomes true in time."""
    end = time.monotonic() + WITHIN_S
    while True:
        try:
            found = what()
        except OSError:
            found = None
        if found:
            return found
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)


def replied(port: int, *words: str) -> Any:
    """What PEERKV answers, in JSON."""
    reply = ask(port, "PEERKV", *words)
    return json.loads(reply.split(b"\r\n", 1)[1]) if reply.startswith(b"$") else None


def peerkv(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "peerkv", *words], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def set_all(port: int) -> list[bytes]:
    """Every key is set again, all at once: each answer takes its time where there is no majority."""
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as connection:
        connection.sendall(b"".join(encode(b"SET", key.encode(), key.encode()) for key in KEYS))
        lines = connection.makefile("rb")
        return [lines.readline().rstrip() for _ in KEYS]


def kill_together(members: Cluster, *names: str) -> None:
    for name in names:
        members.send(name, signal.SIGKILL)
    for name in names:
        members.processes[name].wait()


def test_two_of_five_at_once_are_one_command() -> None:
    """Slots of which both had copies stay dead until somebody says that what is left will do."""
    with cluster(5) as members:
        port = members.ports["db3"]
        for key in KEYS:
            assert ask(port, "SET", key, key) == b"+OK\r\n"
        members.await_whole()  # whatever was acknowledged is in every copy
        kill_together(members, "db1", "db2")
        members.start("db1", "db2")
        shown = until(lambda: replied(port, "RECOVER"))
        assert shown["lost"] == ["db1", "db2"]
        kept = shown["keys_kept"]
        dead = [reply for reply in set_all(port) if reply != b"+OK"]
        assert 0 < kept <= len(dead) < len(KEYS)
        address = f"127.0.0.1:{port}"
        done = peerkv("recover", address)
        assert (done.returncode, f"{kept} keys in 1 copy" in done.stdout) == (1, True), done.stdout + done.stderr
        done = peerkv("recover", address, "--accept-loss")
        assert done.returncode == 0, done.stderr
        members.await_whole()
        for name in members.names:
            for key in KEYS:
                assert ask(members.ports[name], "GET", key).split(b"\r\n")[1] == key.encode()
        assert peerkv("recover", address).returncode == 0


@pytest.mark.parametrize("master", [True, False])
def test_all_of_three_serve_again_by_themselves(master: bool) -> None:
    """Under a master that lives and remembers what nobody has; and under none, as they know how many they are."""
    with cluster(3) as members:
        port = members.ports["db2"]
        assert ask(port, "SET", "k", "v") == b"+OK\r\n"
        before = replied(port, "STATUS")["cluster_id"]
        kill_together(members, *members.names, *([] if master else ["master"]))
        members.start(*members.names)
        until(lambda: ask(port, "SET", "k", "w") == b"+OK\r\n")
        members.await_whole()
        found = replied(port, "STATUS")
        assert found["cluster_id"] != before
        assert ask(members.ports["db3"], "GET", "k") == b"$1\r\nw\r\n"
        if master:
            assert found["succeeds"] == [before]
            assert f"all data of cluster {before} is lost" in members.log("master")
