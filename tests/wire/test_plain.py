"""What a stranger may have decoded: nothing that costs more than its bytes."""

import struct
from datetime import UTC, datetime

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerkv.wire.plain import check_plain

DEPTH = 4
plain = st.recursive(
    st.integers(0, (1 << 64) - 1) | st.text(max_size=300) | st.binary(max_size=300) | st.booleans() | st.none(),
    lambda values: st.lists(values, max_size=40),
    max_leaves=60,
)


def depth(value: object) -> int:
    return 1 + max([depth(item) for item in value], default=0) if isinstance(value, list) else 0


@given(plain)
def test_plain_values_pass(value: object) -> None:
    encoded = b"pk" + cbor2.dumps(value)
    if depth(value) <= DEPTH:
        check_plain(encoded, 2, DEPTH)
    else:
        with pytest.raises(ValueError, match="lists in more than 4 lists"):
            check_plain(encoded, 2, DEPTH)


@given(plain, st.data())
def test_what_is_cut_off_or_goes_on_is_refused(value: object, data: st.DataObject) -> None:
    encoded = cbor2.dumps(value)
    for other in (encoded[: data.draw(st.integers(0, len(encoded) - 1))], encoded + b"\0"):
        with pytest.raises(ValueError, match=r"ends too early|behind the end|lists in more"):
            check_plain(other, 0, DEPTH)


@pytest.mark.parametrize(
    "value",
    [{}, {1: 2}, {1, 2}, -1, 1 << 64, 1.5, datetime(2026, 1, 1, tzinfo=UTC), cbor2.CBORTag(29, 0), [[{}]]],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="neither a number nor a text nor a list"):
        check_plain(cbor2.dumps([value]), 0, DEPTH)


@pytest.mark.parametrize("head", [b"\x9f", b"\x5f", b"\x7f", b"\x1c", b"\xff", b"\xf8\x14", b"\xe0"])
def test_lengths_that_are_not_told_and_unknown_constants_are_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"not told|neither"):
        check_plain(head + b"\xff", 0, DEPTH)


@given(st.sampled_from([0x9B, 0x5B, 0x7B]), st.integers(1, (1 << 64) - 1))
def test_nothing_is_made_of_the_size_that_is_announced(head: int, count: int) -> None:
    with pytest.raises(ValueError, match="ends too early"):
        check_plain(bytes([head]) + struct.pack(">Q", count), 0, DEPTH)


@given(st.binary(max_size=200))
def test_what_passes_can_be_decoded_or_is_no_text(payload: bytes) -> None:
    """Any bytes: no other error than ValueError, and nothing but plain values."""
    try:
        check_plain(payload, 0, DEPTH)
    except ValueError:
        return
    try:
        decoded = cbor2.loads(payload)
    except cbor2.CBORDecodeError:  # bytes that are no UTF-8
        return
    assert depth(decoded) <= DEPTH
