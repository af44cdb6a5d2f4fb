"""CLIENT PAUSE: who waits, and what comes of it in the end."""

from __future__ import annotations

import pytest

from peerkv.resp import ReplyError
from tests.clients.alone import Alone, Client


@pytest.fixture
def alone() -> Alone:
    return Alone()


def test_paused_clients_wait_and_go_on_in_order(alone: Alone) -> None:
    first, second = Client(alone), Client(alone)
    assert first.ask((b"SET", b"a", b"0"), (b"CLIENT", b"PAUSE", b"500"), (b"SET", b"a", b"1")) == ["OK", "OK"]
    third = Client(alone)
    assert second.ask((b"PING",), (b"NOTHING",)) == third.ask((b"GET", b"a")) == []
    second.send((b"APPEND", b"a", b"2"))
    alone.turn()
    assert second.held, "who waits is not read from any further"
    alone.now += 0.3
    alone.turns()
    assert first.replies == ["OK", "OK"]
    alone.now += 0.3
    alone.turns()
    assert first.replies == ["OK", "OK", "OK"]
    assert isinstance(second.replies[1], ReplyError)
    assert [second.replies[0], second.replies[2]] == ["PONG", 2]
    assert len(third.replies) == 1
    assert not second.held
    assert first.session.ordinary


def test_only_what_writes_waits_where_that_is_wanted(alone: Alone) -> None:
    client, other = Client(alone), Client(alone)
    pause = (b"CLIENT", b"PAUSE", b"60000", b"WRITE")
    assert client.ask((b"SET", b"a", b"1"), pause, (b"GET", b"a"), (b"CONFIG", b"GET", b"timeout")) == [
        "OK",
        "OK",
        b"1",
        [b"timeout", b"0"],
    ]
    assert other.ask((b"GET", b"a"), (b"FLUSHALL",), (b"GET", b"a")) == [b"1"]
    assert client.ask((b"CLIENT", b"REPLY", b"SKIP"), (b"SET", b"a", b"2"), (b"GET", b"a")) == []
    third = Client(alone)
    assert third.ask((b"CLIENT", b"UNPAUSE")) == ["OK"]
    assert other.replies == [b"1", "OK", None]
    assert client.replies == [b"2"], "whose reply was not wanted has none when it has waited"


def test_a_stricter_pause_holds_and_can_be_ended_by_whoever_looks_after_the_node(alone: Alone) -> None:
    client, other = Client(alone), Client(alone)
    client.ask((b"CLIENT", b"PAUSE", b"60000", b"WRITE"), (b"CLIENT", b"PAUSE", b"1", b"ALL"))
    assert client.ask((b"PING",)) == []
    alone.now += 1
    alone.turns()
    assert client.replies == [], "the longer one holds"
    assert other.ask((b"PEERKV", b"HELP"), (b"CLIENT", b"UNPAUSE"))[1:] == ["OK"]
    assert client.replies == ["PONG"]
    for _ in range(100):
        other.ask((b"CLIENT", b"PAUSE", b"60000"), (b"CLIENT", b"UNPAUSE"))
    assert other.ask((b"PING",)) == ["PONG"]
    alone.now += 1
    alone.turns()
    assert alone.node.operations.wake_at is None, "nobody waits for pauses that are over"
