"""A few seeds in every run of the tests; `make sim` runs hundreds."""

import os
import subprocess
import sys

import pytest

from peerkv.ring.placement import _part
from tests.sim.scenario import run_seed


@pytest.mark.parametrize("seed", [3, 8, 1004, 3073, 4005, 4015, 30039])
def test_seeds(seed: int) -> None:
    """Whole clusters through half a minute of faults."""
    assert run_seed(seed, 30.0, 256).problems == []


@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_transactions_on_few_keys(seed: int) -> None:
    """Clients that meet, on nodes that die in the middle of what they do for them."""
    assert run_seed(seed, 10.0, 256, crowded=True).problems == []


def test_a_seed_with_all_slots() -> None:
    """As many as ship; what takes time by the slot shows here alone."""
    assert run_seed(1, 8.0, 16384).problems == []


def test_a_seed_in_which_no_list_was_begun() -> None:
    """Its clients of transactions have nothing to read in the end; they waited for the answers to nothing."""
    assert run_seed(1810704, 3.0, 256).problems == []


@pytest.mark.parametrize("seed", [2, 1004])
def test_epochs_that_nodes_enter_late(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all slots and many members it takes turns to work out who owns what; each node goes by the last epoch until
    then, for up to 0.4 s here, and hears of later ones meanwhile."""
    monkeypatch.setattr("peerkv.ring.placement.PART", 64)
    monkeypatch.setattr("peerkv.node.ENTERED_AT_ONCE", 0)
    monkeypatch.setattr("peerkv.node.ENTERING_PAUSE_S", 0.03)
    _part.cache_clear()
    try:
        assert run_seed(seed, 8.0, 256).problems == []
    finally:
        _part.cache_clear()


def test_the_same_seed_is_the_same_run() -> None:
    one, other = run_seed(42, 5.0), run_seed(42, 5.0)
    assert (one.operations, one.unknown, one.faults) == (other.operations, other.unknown, other.faults)
    assert one.operations > 200


def test_a_seed_replays_in_another_process() -> None:
    """Where sets of names are gone through in another order."""
    program = "from tests.sim.scenario import run_seed; r = run_seed(4, 6.0, 256, crowded=True); print(r)"
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": chance, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for chance in "01"
    ]
    assert said[0] == said[1] != b""
