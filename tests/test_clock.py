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


def watched(clock: Clock, ahead_s: float, seconds: int) -> None:
    """Its wall clock is so far ahead for so long, looked at every second."""
    for _ in range(seconds):
        clock.at(clock.now + 1)
        clock.look(clock.cluster_ms / 1000 + ahead_s)
        clock.agree([])


def test_a_wall_clock_that_is_set_right_counts_once_it_is_steady() -> None:
    """What NTP sets twenty years forward moves what clients say in wall time, and no deadline."""
    clock = Clock(100.0, 1000.0)
    before = clock.cluster_ms
    watched(clock, 0.2, 10)
    assert clock.skew_ms == 0
    watched(clock, 20 * 365 * 86400, 5)
    assert clock.skew_ms == 0
    watched(clock, 20 * 365 * 86400, 2)
    assert clock.skew_ms == 20 * 365 * DAY_MS
    assert clock.cluster_ms == before + 17_000


def test_a_wall_clock_that_jumps_forth_and_back_changes_nothing() -> None:
    clock = Clock(100.0, 1000.0)
    for _ in range(10):
        watched(clock, 366 * 86400, 3)
        watched(clock, 0, 3)
    assert clock.skew_ms == 0


def test_the_middle_one_of_all_wall_clocks_holds() -> None:
    clock = Clock()
    clock.own_skew_ms = 3_600_000  # ours is wrong
    clock.agree([0, 0])
    assert clock.skew_ms == 0
    clock.agree([3_600_000, 0])
    assert clock.skew_ms == 3_600_000
    clock.agree([])
    assert clock.skew_ms == 3_600_000
    clock.own_skew_ms = 0
    clock.agree([3_600_000])  # of two the later one
    assert clock.skew_ms == 3_600_000


def test_a_wall_clock_beyond_all_measure_is_none() -> None:
    clock = Clock()
    clock.at(1.0)
    for second in range(2, 20):
        clock.at(float(second))
        clock.look(1e300)
    assert clock.own_skew_ms == 0
