"""How the tests are shared out when several processes run them (`make test`), and the redis-server of each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from bench.processes import redis as redis_server

SINGLE = ("cases", "sim")
"""Each test of these rooms may run anywhere; those of any other file share fixtures, and stay together."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        rooms = item.path.parts
        if not any(room in rooms for room in SINGLE):
            item.add_marker(pytest.mark.xdist_group("clients" if "clients" in rooms else item.path.name))


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """A real redis-server; skips where there is none."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with redis_server() as port:
        yield port
