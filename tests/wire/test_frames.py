"""Frames between peers: what goes in comes out, and rubbish is refused."""

from typing import Any

import cbor2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peerkv import wire
from peerkv.agreement.columns import COLUMNS
from peerkv.agreement.operation import Page, Prepare, Refused
from peerkv.agreement.peer import Peer
from peerkv.agreement.turn import Accepts
from peerkv.resp import Map, ReplyError
from peerkv.ring.keys import SLOTS

HELLO = wire.Hello("db1", 77, 5, 2, 99, (3, 3))
TICKET = 1 << 14 | 42


def encoded(peer: Peer) -> bytes:
    (payload,) = wire.Encoder(4, 5, 6).frames(peer)
    return payload


def full() -> Peer:
    """A peer that is to be told something in every column."""
    peer = Peer(9, "db2")
    peer.frames_sent, peer.frames_read = 8, 9
    peer.forwards += [TICKET, 0, [b"SET", b"k", b"v"], 2 << 14 | 42, TICKET, [b"GET", b"k"]]
    peer.report([3, 4, 5, 6], [ReplyError("ERR no \udcff"), None, [7, [b"x"]], "OK"])
    peer.hand_back(7, 1, 3)
    peer.insist(TICKET)
    segments = [
        (77, [[16426], [(1 << 61) + 1], [b"k"], [None], [0], [ReplyError("ERR value")]]),
        (78, [[16426, 32810], [2, 3], [b"k", [b"k", b"v", 0]], [b"v", None], [5, 0], ["OK", "OK"]]),
        (0, [[42], [4], [None], [None], [0]]),
    ]
    peer.offer(7, Accepts(segments, {42: 1 << 60}, {7: 1 << 20}, awaited=True))
    peer.acknowledge(7, [42], awaited=True)
    peer.probe(42, 1 << 60, urgent=True)
    peer.arrive(42, 1 << 61)
    peer.sequence = 12
    peer.reads += [b"k", -2, b"l", 1 << 61]
    peer.requests.append([b"GET", b"k"])
    peer.confirm(3, [0], [1, 7, 2, 0], [1, Map([b"f", b"v"])])
    peer.ask(8, Prepare([1, 2], [3, 4]))
    peer.answer(9, Page(True, [b"k", 1, b"v", 0, 0], 1, [], True, 1, [], [], [], 5))
    peer.answer(10, Refused())
    peer.tell("nack", 1, 3)
    peer.publish(0, 2, b"channel", b"message")
    peer.count(11, 3)
    return peer


def test_a_frame_carries_every_column() -> None:
    peer = full()
    frame = wire.decode_frame(encoded(peer))
    assert frame[:5] == (4, 5, 6, 8, 9)
    parts = {column.name: arguments for column, arguments in frame.unpacked(SLOTS)}
    assert list(parts) == [column.name for column in COLUMNS], "in the order in which they are to be taken in"
    tickets, befores, requests = parts["forwards"]
    assert (tickets, befores) == ([TICKET, 2 << 14 | 42], [0, TICKET])
    assert requests == [[b"SET", b"k", b"v"], [b"GET", b"k"]]
    assert parts["done"] == ([3, 4, 5, 6], peer.replies)
    assert parts["outcomes"] == ([7, 1, 3],)
    assert parts["insists"] == ([TICKET],)
    ((turn, accepts),) = parts["changes"][0]
    sent = peer.changes[1]
    assert (turn, accepts.segments, accepts.starts, accepts.awaited) == (7, sent.segments, sent.starts, True)
    assert accepts.marks == sent.marks
    assert parts["acks"] == ([7, [42]],)
    assert parts["probes"] == ([42, 1 << 60, True],)
    assert parts["settled"] == ([42, 1 << 61],)
    assert parts["reads"] == (12, [b"k", b"l"], [-2, 1 << 61], [[b"GET", b"k"]])
    assert parts["published"] == ([0], [2], [b"channel"], [b"message"])
    assert parts["heard_by"] == ([11], [3])
    assert parts["confirms"] == ([[3, [0], [1, 7, 2, 0], [1, Map([b"f", b"v"])]]],)
    assert parts["asks"] == ([(8, Prepare([1, 2], [3, 4]))],)
    assert parts["answers"] == ([(9, peer.answers[0][1]), (10, Refused())],)
    ((tell, values),) = parts["tells"][0]
    assert (tell.takes, values) == ("home.refuse", [1, 3])


def test_what_several_peers_are_to_accept_is_encoded_once() -> None:
    peer, other = full(), Peer(10, "db3")
    other.offer(8, peer.changes[1])
    encoder = wire.Encoder(4, 5, 6)
    assert encoder.frames(peer) == [encoded(peer)]
    peer.changes[1].segments.clear()
    (_, (turns,)) = wire.decode_frame(encoder.frames(other)[0]).unpacked(SLOTS)[0]
    assert len(turns[0][1].segments) == 3


def test_a_cleared_peer_has_nothing_to_say() -> None:
    peer = full()
    peer.clear()
    assert wire.decode_frame(encoded(peer)).parts == []


def all_of(frames: list[bytes]) -> dict[str, list[Any]]:
    """What stands in frames, one after another."""
    together: dict[str, list[Any]] = {}
    for payload in frames:
        for column, arguments in wire.decode_frame(payload).unpacked(SLOTS):
            for place, argument in enumerate(arguments):
                found = together.setdefault(f"{column.name} {place}", [])
                if isinstance(argument, list):
                    found += [list(item) if isinstance(item, tuple) else item for item in argument]
                else:
                    found.append(argument)
    return together


@given(st.integers(1, 40), st.integers(60, 4000), st.booleans())
def test_what_is_more_than_a_frame_goes_in_several(times: int, most: int, insists: bool) -> None:
    """Several values of 64 MiB in one turn are more than what a peer takes in one frame."""
    peer = Peer(9, "db2")
    peer.frames_sent = 5
    for number in range(times):
        ticket = number << 14 | 42
        peer.forwards += [ticket, ticket >> 1, [b"SET", b"k%d" % number, b"v" * (number * 31 % 97)]]
        if insists:
            peer.insist(ticket)
        peer.report([number], [b"r" * (number * 17 % 89)])
        peer.hand_back(number, 1, 3)
        peer.probe(number, number, urgent=bool(number & 1))
        peer.arrive(number, number + 1)
        peer.acknowledge(number, [number], awaited=True)
        peer.reads += [b"k%d" % number, number]
        peer.confirm(number, [0], [1, 5], [1, b"v" * number])
        peer.ask(number, Prepare([1], [number]))
        peer.answer(number, Refused(number))
        peer.tell("nack", number, 3)
    whole = wire.Encoder(4, 5, 6).frames(peer)
    assert len(whole) == 1
    assert peer.frames_sent == 5
    frames = wire.Encoder(4, 5, 6).frames(peer, most)
    assert all_of(frames) == all_of(whole)
    heads = [wire.decode_frame(payload)[:5] for payload in frames]
    assert heads == [(4, 5, 6, 5 + place, 0) for place in range(len(frames))]
    assert peer.frames_sent == 5 + len(frames) - 1
    assert len(frames) == 1 or times > 1 or len(whole[0]) > most
    for payload in frames:
        (*_, (column, arguments)) = wire.decode_frame(payload).unpacked(SLOTS)
        single = len(arguments[0]) == 1 if isinstance(arguments[0], list) else column.name == "reads"
        assert len(payload) <= most or single or len(arguments[0]) == column.width


def test_operations_are_insisted_on_in_the_frame_that_they_go_in() -> None:
    """A home forgets at the end of its turn what it was to insist on."""
    peer = Peer(9, "db2")
    for number in range(64):
        peer.forwards += [number << 14, 0, [b"SET", b"k", b"v" * 100]]
        if number % 5 == 0:
            peer.insist(number << 14)
    frames = wire.Encoder(4, 5, 6).frames(peer, 2000)
    assert len(frames) > 2
    for payload in frames:
        parts = {column.name: arguments for column, arguments in wire.decode_frame(payload).unpacked(SLOTS)}
        assert {ticket for ticket in parts["forwards"][0] if (ticket >> 14) % 5 == 0} <= set(parts["insists"][0])


def test_replies_that_are_all_alike_travel_once() -> None:
    peer = Peer(9, "db2")
    peer.report(list(range(100)), ["OK"] * 100)
    payload = encoded(peer)
    assert payload.count(b"OK") == 1
    ((_, (_, replies)),) = wire.decode_frame(payload).unpacked(SLOTS)
    assert replies == ["OK"] * 100


def test_requests_of_one_length_travel() -> None:
    peer = Peer(9, "db2")
    requests = [[b"SET", b"a", b"1"], [b"SET", b"b", b"2"]]
    peer.forwards += [1, 0, requests[0], 2, 0, requests[1]]
    ((_, arguments),) = wire.decode_frame(encoded(peer)).unpacked(SLOTS)
    assert arguments == ([1, 2], [0, 0], [tuple(request) for request in requests])


def test_columns_of_a_newer_version_are_passed_over() -> None:
    peer = Peer(9, "db2")
    peer.tell("nack", 1, 3, "more")
    peer.tell("later", 1)
    fields = [*cbor2.loads(encoded(peer)), 99, [1]]
    frame = wire.decode_frame(cbor2.dumps(fields))
    ((_, (told,)),) = frame.unpacked(SLOTS)
    assert [values for _, values in told] == [[1, 3]]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"frame|cannot be read"):
        wire.decode_frame(payload)


@given(st.recursive(st.none() | st.integers() | st.binary() | st.text(), st.lists, max_leaves=20))
def test_values_that_are_no_frame_are_refused(value: object) -> None:
    """Five integers, then codes and lists, would be one."""
    assume(not (type(value) is list and len(value) >= 5 and {type(item) for item in value[:5]} == {int}))
    with pytest.raises(ValueError, match=r"frame|cannot be read"):
        wire.decode_frame(cbor2.dumps(value))


@pytest.mark.parametrize(
    "head", [[-1, 0, 0], [1 << 62, 0, 0], [0, -1, 0], [0, 1 << 63, 0], [0, 0, -1], [0, 0, 1 << 50]]
)
def test_a_head_out_of_range_is_refused(head: list[int]) -> None:
    """An epoch that nothing can follow, a mark beyond all tickets, a clock of another age."""
    with pytest.raises(ValueError, match="head of a frame"):
        wire.decode_frame(cbor2.dumps([*head, 1, 1]))


def test_a_hello_says_who_and_to_whom() -> None:
    assert wire.decode_hello("peerkv", (3, 3), wire.encode_hello("peerkv", 3, HELLO)) == HELLO
    assert wire.kind_of(wire.encode_hello("peerkv", 3, HELLO)) == wire.Kind.HELLO
    refusal = wire.decode_hello("other", (3, 3), wire.encode_hello("peerkv", 3, HELLO))
    assert isinstance(refusal, wire.Refusal)
    assert "'peerkv'" in refusal.reason
    assert isinstance(
        wire.decode_hello("peerkv", (3, 3), wire.encode_hello("peerkv", 3, HELLO), welcome=True), wire.Refusal
    )


@given(st.binary(max_size=100))
def test_a_hello_of_any_bytes_is_refused(payload: bytes) -> None:
    assert isinstance(wire.decode_hello("peerkv", (3, 3), payload), wire.Refusal)
    assert isinstance(
        wire.decode_hello("peerkv", (3, 3), wire.MAGIC + bytes((1, wire.Kind.HELLO)) + payload), wire.Refusal
    )
