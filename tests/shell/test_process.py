"""What a node asks of its process; a process of its own for what cannot be undone."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.processes import ask, free_port, running
from peerkv.shell.process import FILES_KEPT, clients_possible, is_outgoing


def test_clients_possible() -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert clients_possible() == files - min(FILES_KEPT, files // 4)


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_clients_leave_files_for_the_nodes_own_work() -> None:
    """Otherwise a node that is full of clients cannot dial, be dialled, or look up a name: it is dead to its peers."""
    first, second = free_port(), free_port()
    node = [sys.executable, "-m", "peerkv", "node", "--port"]
    few = ["prlimit", "--nofile=100:100", *node, str(first)]

    def alone() -> bool:
        try:
            return ask(first, "PING") == b"+PONG\r\n"
        except OSError:
            return False

    with running(few) as _:
        until(alone)
        clients = [socket.create_connection(("127.0.0.1", first)) for _ in range(90)]
        full = b"-ERR max number of clients reached\r\n"
        refused = 0
        for client in clients:
            client.settimeout(5)
            try:
                client.sendall(b"PING\r\n")
                refused += client.recv(100) == full
            except ConnectionError:  # its PING came after the refusal
                refused += 1
        assert 90 - 75 <= refused <= 90 - 75 + 1  # who asked whether the node is there may not have gone yet
        with running([*node, str(second), "--join", f"127.0.0.1:{first}"]):

            def joined() -> bool:
                clients[0].sendall(b"INFO peerkv\r\n")
                return b"peers_up:1" in clients[0].recv(65536)

            until(joined)
        for client in clients:
            client.close()


def test_the_limit_is_raised() -> None:
    code = (
        "import resource; from peerkv.shell.process import prepare; prepare();"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run(
        ["prlimit", "--nofile=100:300", sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(300, 300)\n"


def test_ports_of_outgoing_connections() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not is_outgoing(first - 1)
    assert not is_outgoing(last + 1)
    reserved = Path("/proc/sys/net/ipv4/ip_local_reserved_ports").read_text().strip()
    assert is_outgoing(first) or reserved
