from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands.keyspace import Theirs


@pytest.fixture
def theirs(redis_port: int) -> Iterator[Theirs]:
    """A real redis-server, empty."""
    client = Theirs(redis_port)
    client.ask(b"FLUSHALL")
    yield client
    client.close()
