"""A few seeds in every run of the tests; `make sim` runs hundreds."""

import pytest

from tests.sim.scenario import run_seed


@pytest.mark.parametrize("seed", [3, 8, 1004, 3073, 4005, 30039])
def test_seeds(seed: int) -> None:
    """Whole clusters through half a minute of faults."""
    assert run_seed(seed, 30.0, 256).problems == []


def test_a_seed_with_all_slots() -> None:
    """As many as ship; what takes time by the slot shows here alone."""
    assert run_seed(1, 8.0, 16384).problems == []


def test_the_same_seed_is_the_same_run() -> None:
    one, other = run_seed(42, 5.0), run_seed(42, 5.0)
    assert (one.operations, one.unknown, one.faults) == (other.operations, other.unknown, other.faults)
    assert one.operations > 200
