"""Busy is not dead: bursts on a healthy cluster whose turns take time; `python -m tests.sim --burst` runs more."""

import pytest

from tests.sim.burst import run_burst


@pytest.mark.parametrize("seed", [1, 18, 29])
def test_a_busy_cluster_is_not_taken_for_dead(seed: int) -> None:
    """1: 80 clients times 32 through one of three nodes; 18: 300 times 64; 29: 300 times 64 through all of them."""
    assert run_burst(seed).problems == []
