"""Real processes, everything at once through all nodes, the machine overcommitted: nobody is taken for dead, and when
the load is over the cluster is as well as before."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest
import redis

from bench.overload import burst
from bench.processes import cluster

LOAD_S = 15.0
WELL_AFTER_S = 10.0

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="redis-benchmark is not installed"),
]


def test_a_cluster_that_was_overloaded_is_well_again() -> None:
    """SET, GET and INCR by 200 clients with 64 commands each under way through every node, and FLUSHALL in between. It
    was unusable for minutes: what waited for longer than a hedge was sent again and took slots over."""
    with cluster(3) as members:
        ports = [members.ports[name] for name in members.names]
        until = time.monotonic() + LOAD_S
        loads: list[subprocess.Popen[str]] = []
        for port, test in zip(ports, ("set", "get", "incr"), strict=True):
            loads.append(burst(port, test, 200, 64, 10_000_000))
        clients = [redis.Redis(port=port, socket_timeout=60.0) for port in ports]
        gentle: list[object] = []
        while time.monotonic() < until:
            for number, client in enumerate(clients):
                gentle.append(client.set(f"gentle:{number}", "v"))
            if len(gentle) % 30 == 0:
                clients[0].flushall()
            time.sleep(0.05)
        for load in loads:
            assert load.poll() is None, f"redis-benchmark gave up: {load.communicate()}"
            load.kill()
            load.communicate()
        assert all(gentle)
        time.sleep(WELL_AFTER_S)
        waits: list[float] = []
        for number in range(60):
            for client in clients:
                began = time.monotonic()
                assert client.set(f"after:{number}", "v")
                assert client.get(f"after:{number}") == b"v"
                waits.append(time.monotonic() - began)
        assert sorted(waits)[len(waits) // 2] < 1.0, "the usual request takes a second although the load is over"
        assert members.whole()
        for client in clients:
            told = client.info("peerkv")
            assert told["replies_uncertain"] == 0
            assert told["replies_no_quorum"] == 0
            client.close()
