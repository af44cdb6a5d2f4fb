"""Deadlines come due in order, each key's last one and no other."""

import random

from hypothesis import given
from hypothesis import strategies as st

from peerkv.store.expiry import SPAN_BITS, SPANS_LEAST, Expiry

SPAN = 1 << SPAN_BITS


@given(st.lists(st.tuples(st.integers(1, 5000), st.sampled_from([b"a", b"b", b"c", b"d"]))), st.integers(1, 6000))
def test_the_last_deadline_of_each_key_is_due_once_its_span_has_passed(
    deadlines: list[tuple[int, bytes]], now: int
) -> None:
    expiry = Expiry()
    for deadline, key in deadlines:
        expiry.add(deadline, 3, key)
    last = {key: deadline for deadline, key in deadlines}
    assert len(expiry) == len(last)
    due = expiry.due(now, 1000)
    passed = {key for key, deadline in last.items() if (deadline // SPAN + 1) * SPAN <= now}
    assert {key for _, key in due} == passed
    spans = [last[key] // SPAN for _, key in due]
    assert spans == sorted(spans)
    assert len(expiry) == len(last) - len(passed)
    assert expiry.due(now, 1000) == []
    following = expiry.next_deadline
    left = [deadline for key, deadline in last.items() if key not in passed]
    assert following == min([(deadline // SPAN + 1) * SPAN for deadline in left], default=None)


def test_no_more_than_asked_for_at_once() -> None:
    expiry = Expiry()
    for number in range(10):
        expiry.add(number, 0, b"%d" % number)
    assert len(expiry.due(99, 4)) == 4
    assert len(expiry) == 6


def test_one_entry_a_key_however_often_its_deadline_changes() -> None:
    """10,000 EXPIREs of one key were 10,001 entries until the last of them was due."""
    expiry, rng = Expiry(), random.Random(1)
    for _ in range(10_000):
        expiry.add(rng.randrange(1 << 40), 0, b"k")
    assert len(expiry) == 1
    assert expiry.entries <= 2 + SPANS_LEAST + 2


def test_a_key_without_a_deadline_any_more_is_not_counted_and_never_due() -> None:
    expiry = Expiry()
    expiry.add(10, 0, b"k")
    expiry.add(10, 0, b"other")
    expiry.discard(0, b"k")
    expiry.discard(0, b"never had one")
    assert len(expiry) == 1
    assert expiry.due(1000, 10) == [(0, b"other")]


def test_slots_that_were_handed_over_and_came_back_have_each_key_once() -> None:
    expiry = Expiry()
    for _ in range(100):
        expiry.add(10, 7, b"k")
        expiry.forget(7)
        assert len(expiry) == 0
    expiry.add(500, 7, b"k")
    assert expiry.due(200, 10) == []
    assert expiry.due(600, 10) == [(7, b"k")]
    assert expiry.entries == 0
