"""Commands of many keys: in pieces, and one reply."""

from __future__ import annotations

import pytest

from peerkv.clients.spreading import PIECE_ARGUMENTS
from peerkv.resp import ReplyError
from tests.clients.alone import Alone, Client


@pytest.fixture
def alone() -> Alone:
    return Alone()


def keys(count: int) -> list[bytes]:
    return [b"key:%d" % number for number in range(count)]


def test_a_command_of_many_keys_is_run_piece_by_piece(alone: Alone) -> None:
    count = 10 * PIECE_ARGUMENTS + 7
    client, other = Client(alone), Client(alone)
    pairs = [part for key in keys(count) for part in (key, b"of " + key)]
    client.send((b"SET", b"before", b"1"), (b"MSET", *pairs), (b"GET", keys(count)[-1]))
    other.send((b"PING",))
    alone.turn()
    assert other.replies == ["PONG"]
    assert len(client.replies) < 3
    alone.turns()
    assert client.replies == ["OK", "OK", b"of " + keys(count)[-1]]
    assert client.ask((b"MGET", *keys(count), b"none"))[0] == [*[b"of " + key for key in keys(count)], None]
    assert client.ask((b"EXISTS", *keys(count), b"none")) == [count]
    assert client.ask((b"DEL", *keys(count), *keys(10)), (b"DBSIZE",)) == [count, 1]


def test_the_last_of_a_key_that_is_named_twice_counts_in_a_command_of_many_keys(alone: Alone) -> None:
    client = Client(alone)
    pairs = [part for key in keys(2000) for part in (key, b"x")]
    assert client.ask((b"MSET", b"twice", b"first", *pairs, b"twice", b"last"), (b"GET", b"twice")) == ["OK", b"last"]


def test_an_argument_too_few_in_a_command_of_many_keys_changes_nothing(alone: Alone) -> None:
    client = Client(alone)
    (reply,) = client.ask((b"MSET", *keys(2001)))
    assert reply == ReplyError("ERR wrong number of arguments for 'mset' command")
    assert client.ask((b"DBSIZE",)) == [0]


def test_a_client_that_goes_in_the_middle_of_a_command_of_many_keys_leaves_nothing_behind(alone: Alone) -> None:
    client = Client(alone)
    client.send((b"MGET", *keys(20_000)), (b"PING",))
    alone.turn()
    alone.node.close(alone.now, client.session)
    alone.turns()
    assert not alone.node.dispatcher.waits
    assert client.session.spreading is None
