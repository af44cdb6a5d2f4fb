"""Popular libraries as they come, each on one node of a cluster of three. `make libraries` installs them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from bench.processes import Cluster, cluster
from bench.processes import redis as redis_server
from peerkv.commands.catalogue import named
from tests.libraries.catalogue import LACKS, LIBRARY, PROGRAMS

PYTHON = Path(__file__).parents[2] / ".venv-libraries" / "bin" / "python"
PATIENCE_S = 60
FAILS_WITHIN_S = 12
"""A program that lacks something may wait for it for ever."""

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make libraries installs them")


@pytest.fixture(scope="module")
def members() -> Iterator[Cluster]:
    with cluster(3) as running:
        yield running


@pytest.fixture(scope="module")
def theirs() -> Iterator[int]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with redis_server() as port:
        yield port


def run(program: str, directory: Path, *ports: int, within: float = PATIENCE_S) -> None:
    """Without the tests' own directory on the path: programs are named like what they import."""
    command = [str(PYTHON), "-P", "-W", "ignore", str(PROGRAMS[program]), *map(str, ports)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, cwd=directory, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def missing(program: str) -> pytest.MarkDecorator | tuple[()]:
    lacks = LACKS.get(program)
    return pytest.mark.xfail(strict=True, reason=f"lacks {lacks}") if lacks else ()


@pytest.mark.parametrize("program", [pytest.param(name, marks=missing(name)) for name in PROGRAMS])
def test_it_works_on_a_node_of_three(program: str, members: Cluster, tmp_path: Path) -> None:
    within = FAILS_WITHIN_S if program in LACKS else PATIENCE_S
    run(program, tmp_path, members.ports["db1"], members.ports["db2"], within=within)


@pytest.mark.parametrize("program", LACKS)
def test_what_it_lacks_is_all_that_keeps_it_from_working(program: str, theirs: int, tmp_path: Path) -> None:
    """It works on a redis-server, and these are the commands that it sends and that are not served here; some it sends
    only where there is time for them."""
    with redis.Redis(port=theirs) as client:
        client.flushall()
        client.script_flush()
        client.config_resetstat()
        run(program, tmp_path, theirs, theirs)
        sent = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    absent = {name.partition("|")[0].upper() for name in sent if named(name.encode()) is None}
    assert absent
    assert absent <= set(LACKS[program].split())


def test_every_program_is_one_of_the_catalogue() -> None:
    assert set(PROGRAMS) == set(LIBRARY)
    assert set(LACKS) <= set(LIBRARY)
