"""The redis-server that others are compared with, as fixtures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from bench.processes import redis as redis_server
from tests.differential.differences import OPTIONS, ORACLE
from tests.differential.sequences import payloads_of
from tests.differential.servers import Sockets


@pytest.fixture(scope="module")
def theirs() -> Iterator[Sockets]:
    """A redis-server 7.0: what others differ in is not written down here."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with redis_server(*OPTIONS) as port:
        server = Sockets([port])
        server.connect()
        if ORACLE not in server.ask(0, b"INFO server\r\n", 1)[0][1]:
            pytest.skip("no redis-server 7.0")
        yield server
        server.end()


@pytest.fixture(scope="module")
def payloads(theirs: Sockets) -> list[bytes]:
    """Of DUMP."""
    return payloads_of(theirs)
