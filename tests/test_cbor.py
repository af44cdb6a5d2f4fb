"""CBOR without what is not used: whatever else a decoder would make of bytes is refused before it is made."""

import struct
from collections.abc import Iterator

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerkv.cbor import DEPTH_MAX, ERROR_TAG, dump, load, load_one
from peerkv.resp import ReplyError

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary()
    | st.text()
    | st.builds(ReplyError, st.text()),
    st.lists,
    max_leaves=20,
)


@given(plain)
def test_what_is_dumped_is_loaded(value: object) -> None:
    def depth(item: object) -> int:
        return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0

    if depth(value) <= DEPTH_MAX:
        assert load(dump(value)) == value


@given(st.binary(max_size=200))
def test_bytes_are_loaded_or_refused(payload: bytes) -> None:
    try:
        load(payload)
    except ValueError:
        pass


def tags() -> Iterator[bytes]:
    for tag in (*range(1024), *range(1024, 70_000, 13), 1004, 43_000, 55_799):
        if tag != ERROR_TAG:
            yield dump_tag(tag)


def dump_tag(tag: int) -> bytes:
    if tag < 24:
        return bytes([0xC0 | tag])
    if tag < 256:
        return bytes([0xD8, tag])
    return b"\xd9" + struct.pack(">H", tag) if tag < 1 << 16 else b"\xda" + struct.pack(">I", tag)


def test_no_tag_but_the_one_is_taken() -> None:
    """A decoder makes sets, dates, patterns, big numbers and references of them, and its next release may make more."""
    for head in tags():
        for content in (b"\x00", b"\x41a", b"\x61a", b"\x82\x01\x02"):
            with pytest.raises(ValueError, match="cannot be read"):
                load(head + content)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(cbor2.dumps({1: 2}), id="map"),
        pytest.param(cbor2.dumps({"a": 2}), id="map of texts"),
        pytest.param(cbor2.dumps({1, 2}), id="set"),
        pytest.param(cbor2.dumps(1 << 64), id="big number"),
        pytest.param(b"\x9f\x01\xff", id="list of no length"),
        pytest.param(b"\x5f\x41a\xff", id="bytes of no length"),
        pytest.param(b"\x81" * (DEPTH_MAX + 1) + b"\x00", id="too deep"),
        pytest.param(b"\xc6" * 100_000 + b"\x00", id="tags within tags"),
        pytest.param(b"\x9b" + struct.pack(">Q", 1 << 40), id="list longer than there are bytes"),
        pytest.param(b"\x5b" + struct.pack(">Q", 1 << 40), id="bytes longer than there are"),
        pytest.param(b"\xbb" + struct.pack(">Q", 1 << 40), id="map longer than there are bytes"),
        pytest.param(dump_tag(ERROR_TAG) + b"\x00", id="an error that is a number"),
        pytest.param(b"\x61\xff", id="text that is none"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_not_used_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load(payload)


def test_what_does_not_travel_is_not_sent() -> None:
    with pytest.raises(TypeError, match="does not travel"):
        dump(object())


@given(plain)
def test_a_message_is_all_that_there_is(value: object) -> None:
    """What a stranger sends is exactly one value."""
    payload = b"head" + dump([value])
    try:
        assert load_one(payload, 4, DEPTH_MAX) == [value]
    except ValueError:
        return  # too deep
    for other in (payload[:-1], payload + b"\0"):
        with pytest.raises(ValueError, match=r"cannot be read|behind the end"):
            load_one(other, 4, DEPTH_MAX)


def test_a_message_is_as_deep_as_it_may_be() -> None:
    assert load_one(dump([[[[1]]]]), 0, 4) == [[[[1]]]]
    with pytest.raises(ValueError, match="depth"):
        load_one(dump([[[[[1]]]]]), 0, 4)
