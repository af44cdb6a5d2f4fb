"""Deadlines come due in order."""

from hypothesis import given
from hypothesis import strategies as st

from peerkv.store.expiry import Expiry


@given(st.lists(st.integers(1, 100)), st.integers(1, 100))
def test_what_is_due_comes_once_and_in_order(deadlines: list[int], now: int) -> None:
    expiry = Expiry()
    for deadline in deadlines:
        expiry.add(deadline, 3, b"k")
    assert expiry.next_deadline == min(deadlines, default=None)
    due = [deadline for deadline, _, _ in expiry.due(now, 1000)]
    assert due == sorted(deadline for deadline in deadlines if deadline <= now)
    assert len(expiry) == len(deadlines) - len(due)
    assert expiry.due(now, 1000) == []


def test_no_more_than_asked_for_at_once() -> None:
    expiry = Expiry()
    for deadline in range(10):
        expiry.add(deadline, 0, b"")
    assert len(expiry.due(99, 4)) == 4
    assert len(expiry) == 6
