"""Cluster time: adopted from the first cluster that is met, then approached, never jumped to, never taken back."""

from peerkv.clock import Clock

DAY_MS = 24 * 3600 * 1000


def test_cluster_time_goes_on_with_the_clock() -> None:
    clock = Clock(100.0, 1000.0)
    assert (clock.now, clock.cluster_ms) == (100.0, 1_000_000)
    clock.at(101.5)
    assert (clock.now, clock.cluster_ms) == (101.5, 1_001_500)
    assert clock.when(1_003_000) == 103.0


def test_a_cluster_that_is_met_gives_its_time() -> None:
    clock = Clock(100.0, 1000.0)
    clock.adopt(5_000)
    assert clock.cluster_ms == 5_000
    clock.at(101.0)
    assert clock.cluster_ms == 6_000


def test_a_peer_that_is_ahead_is_approached_by_a_thousandth() -> None:
    """So that no deadline comes noticeably early because of a clock elsewhere."""
    clock = Clock(0.0, 0.0)
    for second in range(1, 101):
        clock.at(second)
        clock.follow(DAY_MS)
    clock.at(101.0)
    assert clock.cluster_ms == 101_000 + 100


def test_a_peer_that_is_behind_changes_nothing() -> None:
    clock = Clock(0.0, 100.0)
    clock.at(10.0)
    clock.follow(0)
    clock.at(20.0)
    assert clock.cluster_ms == 120_000


def test_a_peer_is_not_overtaken() -> None:
    clock = Clock(0.0, 0.0)
    clock.at(10.0)
    clock.follow(10_003)
    clock.at(11.0)
    assert clock.cluster_ms == 11_003
