"""Faults that users of a cluster meet, each a program of its own: with the path of peerkv it exits 0 if all is right, 1
if not, 2 if it cannot be tried here.

They mostly wait, so some run at the same time. One by itself: python3 tests/cases/09-history-private .venv/bin/peerkv
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PEERKV = Path(sys.executable).parent / "peerkv"
AT_ONCE = 4
WITHIN_S = 300
"""For one case; on a machine at rest the longest takes a minute."""
LONG = ("35", "31", "02", "04", "17", "21", "50", "18", "37")
"""These are begun first."""
CASES = sorted(
    (path.name for path in HERE.iterdir() if re.match(r"[0-9]{2}-", path.name)),
    key=lambda case: (LONG.index(case[:2]) if case[:2] in LONG else len(LONG), case),
)

Outcome = tuple[int, str]


class Running:
    """Cases as processes."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._processes: list[subprocess.Popen[str]] = []
        self._outcomes: dict[str, Future[Outcome]] = {}

    def begin(self, cases: list[str]) -> None:
        for case in cases:
            if case not in self._outcomes:
                self._outcomes[case] = self._pool.submit(self._run, case)

    def outcome(self, case: str) -> Outcome:
        return self._outcomes[case].result()

    def _run(self, case: str) -> Outcome:
        process = subprocess.Popen(
            [sys.executable, str(HERE / case), str(PEERKV)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that its nodes can be ended with it
        )
        self._processes.append(process)
        try:
            output, _ = process.communicate(timeout=WITHIN_S)
        except subprocess.TimeoutExpired:
            self._end(process)
            output = f"it was not done within {WITHIN_S} s"
        return process.returncode or 0, output.strip()

    def end(self) -> None:
        """What was begun and is of no interest any more, as after a first failure of pytest -x."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            if process.poll() is None:
                self._end(process)
        self._pool.shutdown()

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def begun(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Outcome]]:
    """The outcome of a case, by its name; all that are to run are begun with the first."""
    running = Running()
    names = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]

    def outcome(case: str) -> Outcome:
        alone = "PYTEST_XDIST_WORKER" in os.environ  # others may run in other workers, and would run twice
        running.begin([case] if alone else [name.params["case"] for name in names if name is not None])
        return running.outcome(case)

    yield outcome
    running.end()


@pytest.mark.parametrize("case", CASES)
def test_case(begun: Callable[[str], Outcome], case: str) -> None:
    status, output = begun(case)
    if status == 2:
        pytest.skip(output.splitlines()[-1])
    assert status == 0, output


def test_there_are_cases() -> None:
    assert len(CASES) > 20
    for case in CASES:
        text = (HERE / case).read_text()
        assert text.startswith('#!/usr/bin/env python3\n"""'), f"{case} does not say what it shows"
        assert "finish(" in text
