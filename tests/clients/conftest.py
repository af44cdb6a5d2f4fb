"""One cluster for all tests of client libraries."""

from collections.abc import Iterator

import pytest

from bench.processes import Cluster, cluster


@pytest.fixture(scope="session")
def members() -> Iterator[Cluster]:
    with cluster(3) as running:
        yield running


@pytest.fixture(params=["master", "db1", "db2", "db3"])
def port(members: Cluster, request: pytest.FixtureRequest) -> int:
    """The client port of each node in turn."""
    return members.ports[request.param]
