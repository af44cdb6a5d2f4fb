"""Popular libraries at work while a node dies to which they do not talk: nothing is lost, and nothing done twice."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from bench.processes import cluster
from tests.libraries.test_libraries import PYTHON

FAULTS = {path.stem: path for path in sorted((Path(__file__).parent / "faults").glob("*.py"))}
WORK_S = 4.0
BEFORE_S = 1.5
PATIENCE_S = 90

pytestmark = [pytest.mark.alone, pytest.mark.skipif(not PYTHON.exists(), reason="make libraries installs them")]


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("program", list(FAULTS))
def test_nothing_is_lost_and_nothing_done_twice(program: str, size: int, tmp_path: Path) -> None:
    """A program is given two nodes and for how long it is to work; it says when it is at work, and looks at the end
    whether all is as its library promises."""
    with cluster(size) as members:
        ports = [str(members.ports[name]) for name in ("db1", "db2")]
        command = [str(PYTHON), "-P", "-W", "ignore", str(FAULTS[program]), *ports, str(WORK_S)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as working:
            assert working.stdout is not None
            assert working.stdout.readline() == "going\n"
            time.sleep(BEFORE_S)
            members.kill(f"db{size}")
            try:
                _, told = working.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                working.kill()
                raise
        assert working.returncode == 0, told[-3000:]
