"""RESP: what Redis reads and refuses, in whatever pieces it comes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerkv.resp import Replies, Reply, ReplyError, Requests, Verbatim, encode, encode_request, split_words

requests_strategy = st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=5), max_size=8)


def parser() -> Requests:
    return Requests(request_bytes_max=10_000, inline_bytes_max=1_000)


@given(requests_strategy, st.randoms(use_true_random=False))
def test_requests_come_out_whole_whatever_the_pieces(requests: list[list[bytes]], chance: random.Random) -> None:
    data = b"".join(encode_request(request) for request in requests)
    whole, pieces = parser(), parser()
    assert whole.feed(data) == requests
    found = []
    while data:
        size = chance.randint(1, len(data))
        found += pieces.feed(data[:size])
        data = data[size:]
    assert found == requests
    assert whole.error is pieces.error is None


@pytest.mark.parametrize(
    ("data", "requests", "error"),
    [
        (b"PING\r\n", [[b"PING"]], None),
        (b"set a 'b c'\n", [[b"set", b"a", b"b c"]], None),
        (b"\r\n  \r\n*0\r\n*-1\r\n", [], None),
        (b'get "a\n', [], "unbalanced quotes in request"),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n:4\r\n", [[b"PING"]], "expected '$', got ':'"),
        (b"*1\r\n+PING\r\n", [], "expected '$', got '+'"),
        (b"*9999999\r\n", [], "invalid multibulk length"),
        (b"*abc\r\n", [], "invalid multibulk length"),
        (b"*1\r\n$600000000\r\n", [], "invalid bulk length"),
        (b"*1\r\n$-1\r\n", [], "invalid bulk length"),
        (b"*1\r\n$20000\r\n", [], "invalid bulk length"),
        (b"*3\r\n$6000\r\n" + b"x" * 6000 + b"\r\n$6000\r\n", [], "invalid bulk length"),
        (b"x" * 2000, [], "too big inline request"),
        (b"*" + b"1" * 2000, [], "too big mbulk count string"),
        (b"*2\r\n*1\r\n$1\r\na\r\n$1\r\nb\r\n", [], "expected '$', got '*'"),
    ],
)
def test_what_is_read_and_what_is_refused(data: bytes, requests: list[list[bytes]], error: str | None) -> None:
    for step in (len(data), 7, 1):
        reader = parser()
        found = [request for at in range(0, len(data), step) for request in reader.feed(data[at : at + step])]
        assert found == requests
        assert reader.error == (error and f"ERR Protocol error: {error}")


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_rubbish_never_raises(pieces: list[bytes]) -> None:
    reader = parser()
    for piece in pieces:
        for request in reader.feed(piece):
            assert all(type(argument) is bytes for argument in request)


replies_strategy = st.recursive(
    st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.binary() | st.just("OK") | st.just(ReplyError("ERR x")),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(replies_strategy), st.sampled_from([2, 3]))
def test_replies_come_back(replies: list[Reply], protocol: int) -> None:
    data = b"".join(encode(reply, protocol) for reply in replies)
    assert Replies().feed(data) == replies
    slow = Replies()
    assert [reply for at in range(len(data)) for reply in slow.feed(data[at : at + 1])] == replies


@pytest.mark.parametrize(
    ("reply", "two", "three"),
    [
        (True, b":1\r\n", b"#t\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        ({b"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        (Verbatim(b"hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
        (ReplyError("ERR a\r\nb"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
    ],
)
def test_what_differs_between_the_protocols(reply: Reply, two: bytes, three: bytes) -> None:
    assert (encode(reply, 2), encode(reply, 3)) == (two, three)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'set "a\\x41\\n" b', [b"set", b"aA\n", b"b"]),
        (b"'it\\'s'", [b"it's"]),
        (b'"a"b', None),
        (b'"a', None),
        (b"   ", []),
    ],
)
def test_words_of_a_line(line: bytes, words: list[bytes] | None) -> None:
    assert split_words(line) == words
