"""Popular libraries at work while a node dies to which they do not talk: nothing is lost, and nothing done twice."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.processes import Cluster, cluster
from tests.libraries.test_libraries import PYTHON

FAULTS = {path.stem: path for path in sorted((Path(__file__).parent / "faults").glob("*.py"))}
PUSHED = ("celery_work", "channels_work", "faststream_work", "pubsub_work", "rq_work", "saq_work", "walrus_work")
"""They wait for what they are sent."""
WORK_S = 4.0
LONG_S = 9.0
DEAD_S = 0.5
BEFORE_S = 1.5
PATIENCE_S = 90

pytestmark = [pytest.mark.few, pytest.mark.skipif(not PYTHON.exists(), reason="make libraries installs them")]


@contextmanager
def at_work(program: str, members: Cluster, seconds: float, directory: Path) -> Iterator[None]:
    """A program is given two nodes and for how long it is to work; it says when it is at work, and looks at the end
    whether all is as its library promises."""
    ports = [str(members.ports[name]) for name in ("db1", "db2")]
    command = [str(PYTHON), "-P", "-W", "ignore", str(FAULTS[program]), *ports, str(seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=directory) as working:
        try:
            assert working.stdout is not None
            assert working.stdout.readline() == "going\n"
            time.sleep(BEFORE_S)
            yield
            _, told = working.communicate(timeout=PATIENCE_S)
        except BaseException:
            working.kill()
            raise
    assert working.returncode == 0, told[-3000:]


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("program", list(FAULTS))
def test_nothing_is_lost_and_nothing_done_twice(program: str, size: int, tmp_path: Path) -> None:
    with cluster(size) as members, at_work(program, members, WORK_S, tmp_path):
        members.kill(f"db{size}")


@pytest.mark.parametrize("program", PUSHED)
def test_nor_where_the_node_comes_back_empty(program: str, tmp_path: Path) -> None:
    """It is another life of the node, which is given its share again, and fetches it, while the program works."""
    with cluster(3) as members, at_work(program, members, LONG_S, tmp_path):
        members.kill("db3")
        time.sleep(DEAD_S)
        members.start("db3")
