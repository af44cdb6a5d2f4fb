"""Three processes beside a real redis-server, by sockets; more of it, in process, is in tests/differential."""

from __future__ import annotations

import pytest

from bench.processes import Cluster
from tests.differential.oracle import payloads, theirs
from tests.differential.sequences import Comparison, made, shortened
from tests.differential.servers import Sockets

__all__ = ["payloads", "theirs"]


def test_three_processes_answer_as_redis_does_whichever_is_asked(
    members: Cluster,
    theirs: Sockets,
    payloads: list[bytes],
) -> None:
    ours = Sockets([members.ports[name] for name in members.names])
    comparison = Comparison(ours, theirs)
    for seed in range(2000, 2006):
        found = comparison.run(made(seed, payloads))
        if found is not None:
            pytest.fail(f"seed {seed}: {shortened(comparison, found)}")
    ours.end()
