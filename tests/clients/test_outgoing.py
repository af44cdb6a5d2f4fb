"""Replies on their way out: in order, some MiB at a time, and to the end."""

from __future__ import annotations

import pytest

from peerkv.resp import Reply
from tests.clients.alone import Alone, Client

VALUE = b"x" * 700_000


@pytest.fixture
def alone() -> Alone:
    return Alone()


@pytest.mark.parametrize(
    "last",
    [
        pytest.param([(b"EXEC",)], id="what others must wait for"),
        pytest.param([(b"QUIT",)], id="the last of all"),
        pytest.param([(b"INFO", b"server")] * 3, id="what uses up a share"),
    ],
)
def test_what_is_answered_at_once_with_more_than_is_sent_at_a_time_is_all_sent(
    alone: Alone, last: list[tuple[bytes, ...]]
) -> None:
    """The client got the first of it, and nothing ever after."""
    client = Client(alone)
    client.ask((b"SET", b"k", VALUE))
    replies: list[Reply] = client.ask(*[(b"GET", b"k")] * 3, *last)
    assert replies[:3] == [VALUE] * 3
    assert len(replies) == 3 + len(last)
    if last[0] != (b"QUIT",):
        assert client.ask((b"PING",)) == ["PONG"]
