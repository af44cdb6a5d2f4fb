from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from bench.processes import redis as redis_server
from tests.commands.keyspace import Theirs


@pytest.fixture(scope="session")
def _redis_port() -> Iterator[int]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with redis_server() as port:
        yield port


@pytest.fixture
def theirs(_redis_port: int) -> Iterator[Theirs]:
    """A real redis-server, empty."""
    client = Theirs(_redis_port)
    client.ask(b"FLUSHALL")
    yield client
    client.close()
