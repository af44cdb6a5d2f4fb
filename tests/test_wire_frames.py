"""Frames between peers: what goes in comes out, and rubbish is refused."""

import cbor2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peerkv import wire
from peerkv.agreement.operation import CellAnswers, Fetch, KeyPage, Message, Page, Prepare, Refused
from peerkv.agreement.peer import Peer
from peerkv.agreement.turn import Accepts
from peerkv.resp import ReplyError

HELLO = wire.Hello("db1", 77, 5, 2, 99)


def test_a_frame_carries_every_column() -> None:
    peer = Peer(9, "db2")
    peer.forwards += [1 << 14 | 42, 0, [b"SET", b"k", b"v"], 1 << 90, 1 << 14 | 42, [b"GET", b"k"]]
    peer.done += [3, 4, 5, 6]
    peer.replies += [ReplyError("ERR no \udcff"), None, 7, "OK"]
    peer.outcomes += [7, 1, 3]
    peer.insists += [1 << 14 | 42]
    segments = [
        (77, [[16426], [(1 << 70) + 1], [b"k"], [None], [0], [ReplyError("ERR value")]]),
        (78, [[16426, 32810], [2, 3], [b"k", [b"k", b"v", 0]], [b"v", None], [5, 0], ["OK", "OK"]]),
        (0, [[42], [4], [None], [None], [0]]),
    ]
    accepts = Accepts(segments, {42: 1 << 60}, {7: 1 << 20}, awaited=True)
    peer.changes += [7, accepts]
    peer.acks += [7, [42]]
    peer.probes += [42, 1 << 60, True]
    peer.settled += [42, 1 << 61]
    peer.sequence = 12
    peer.reads += [b"k", -1]
    peer.confirms.append([3, [0], [1, 0, None, 0]])
    peer.asks.append((8, Prepare([1, 2], [3, 4])))
    peer.answers += [(9, Page(True, [b"k", 1, b"v", 0], 1, True, 1, [], [], [], 5)), (10, Refused())]
    peer.tells.append(("nack", 1, 3))
    frame = wire.decode_frame(wire.encode_frame(4, 5, 6, peer, {}))
    assert frame[:3] == (4, 5, 6)
    parts = dict(frame.parts)
    assert list(parts) == sorted(range(13)), "all kinds, in the order in which they are to be taken in"
    assert wire.forwards(parts[wire.FORWARDS]) == (
        [1 << 14 | 42, 1 << 90],
        [0, 1 << 14 | 42],
        [[b"SET", b"k", b"v"], [b"GET", b"k"]],
    )
    assert wire.done(parts[wire.DONE]) == ([3, 4, 5, 6], peer.replies)
    assert parts[wire.OUTCOMES] == [7, 1, 3]
    assert parts[wire.INSISTS] == [1 << 14 | 42]
    ((turn, changes),) = wire.changes(parts[wire.CHANGES])
    assert (turn, changes.segments, changes.starts, changes.awaited) == (7, segments, accepts.starts, True)
    assert [parts[code] for code in (wire.ACKS, wire.PROBES, wire.SETTLED)] == [
        [7, [42]],
        [42, 1 << 60, True],
        [42, 1 << 61],
    ]
    assert wire.reads(parts[wire.READS]) == (12, [b"k"], [-1])
    assert parts[wire.CONFIRMS] == [[3, [0], [1, 0, None, 0]]]
    assert wire.messages(parts[wire.ASKS]) == [(8, Prepare([1, 2], [3, 4]))]
    assert wire.messages(parts[wire.ANSWERS]) == [
        (9, Page(True, [b"k", 1, b"v", 0], 1, True, 1, [], [], [], 5)),
        (10, Refused()),
    ]
    assert parts[wire.TELLS] == [["nack", 1, 3]]


@pytest.mark.parametrize("message", [Fetch(1, 2, 3, True), CellAnswers([1], [None], [0]), KeyPage([[b"a"], []], 7)])
def test_messages_travel(message: Message) -> None:
    peer = Peer(9, "db2")
    peer.asks.append((1, message))
    ((_, asks),) = wire.decode_frame(wire.encode_frame(0, 0, 0, peer, {})).parts
    assert wire.messages(asks) == [(1, message)]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not a frame"):
        wire.decode_frame(payload)


@given(st.recursive(st.none() | st.integers() | st.binary() | st.text(), st.lists, max_leaves=20))
def test_values_that_are_no_frame_are_refused(value: object) -> None:
    """Three integers, then codes and lists, would be one."""
    assume(not (type(value) is list and len(value) >= 5 and {type(item) for item in value[:3]} == {int}))
    with pytest.raises(ValueError, match="not a frame"):
        wire.decode_frame(cbor2.dumps(value))


@pytest.mark.parametrize("column", [[[1, 99, []]], [[1, 0, []]], [[1]], [1], [[1, -1, [1, 2, 3]]]])
def test_messages_that_are_none_are_refused(column: list[object]) -> None:
    with pytest.raises((ValueError, TypeError, IndexError)):
        wire.messages(column)


def test_a_hello_says_who_and_to_whom() -> None:
    assert wire.decode_hello("peerkv", wire.encode_hello("peerkv", HELLO)) == HELLO
    assert wire.kind_of(wire.encode_hello("peerkv", HELLO)) == wire.Kind.HELLO
    refusal = wire.decode_hello("other", wire.encode_hello("peerkv", HELLO))
    assert isinstance(refusal, wire.Refusal)
    assert "'peerkv'" in refusal.reason
    assert isinstance(wire.decode_hello("peerkv", wire.encode_hello("peerkv", HELLO), welcome=True), wire.Refusal)


@given(st.binary(max_size=100))
def test_a_hello_of_any_bytes_is_refused(payload: bytes) -> None:
    assert isinstance(wire.decode_hello("peerkv", payload), wire.Refusal)
    assert isinstance(wire.decode_hello("peerkv", wire.MAGIC + bytes((1, wire.Kind.HELLO)) + payload), wire.Refusal)


def test_requests_of_one_length_travel() -> None:
    peer = Peer(9, "db2")
    requests = [[b"SET", b"a", b"1"], [b"SET", b"b", b"2"]]
    peer.forwards += [1, 0, requests[0], 2, 0, requests[1]]
    ((_, content),) = wire.decode_frame(wire.encode_frame(0, 0, 0, peer, {})).parts
    assert wire.forwards(content) == ([1, 2], [0, 0], [tuple(request) for request in requests])


@pytest.mark.parametrize("counts", [[10**8], [0, 3], [2, 2], [-1, 4]])
def test_requests_of_other_lengths_than_announced_are_refused(counts: list[int]) -> None:
    """Before anything is made of that size."""
    with pytest.raises(ValueError, match="other lengths"):
        wire.forwards([[1] * len(counts), [], counts, [b"SET", b"k", b"v"]])


def test_what_is_no_slot_and_no_ballot_is_refused() -> None:
    assert wire.slots([0, 16383]) == [0, 16383]
    for numbers in ([-1], [16384], [1, "1"], [True]):
        with pytest.raises(ValueError, match="not numbers of slots"):
            wire.slots(numbers)
    with pytest.raises(ValueError, match="not a ballot"):
        wire.ballot(1 << 400)
