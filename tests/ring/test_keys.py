"""Slots are those of Redis Cluster."""

from binascii import crc_hqx

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerkv.ring.keys import SLOTS, slot_of


@pytest.mark.parametrize(
    ("key", "slot"),
    [(b"123456789", 0x31C3), (b"foo", 12182), (b"bar", 5061), (b"hello", 866), (b"", 0), (b"{user1000}.a", 3443)],
)
def test_the_slots_that_redis_computes(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot


@pytest.mark.parametrize(
    ("key", "counts"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"foo{bar", b"foo{bar"),
        (b"}{", b"}{"),
    ],
)
def test_only_the_first_tag_counts(key: bytes, counts: bytes) -> None:
    """The examples of the Redis Cluster specification."""
    assert slot_of(key) == crc_hqx(counts, 0) % SLOTS


@given(st.binary(), st.binary(), st.binary(min_size=1).filter(lambda tag: b"{" not in tag and b"}" not in tag))
def test_keys_of_one_tag_share_a_slot(before: bytes, after: bytes, tag: bytes) -> None:
    before = before.replace(b"{", b"")
    assert slot_of(before + b"{" + tag + b"}" + after) == slot_of(tag)
    assert 0 <= slot_of(before + after) < SLOTS
