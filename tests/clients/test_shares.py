"""Shares: no client keeps the others waiting, and none fills the node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from peerkv.clients import pipeline
from peerkv.clients.connection import run as run_session
from peerkv.clients.outgoing import UNREAD_MAX
from peerkv.clients.shares import SHARE_UNITS, SMALL, TURN_UNITS
from peerkv.commands.table import AT_ONCE, COMMANDS, SPELLED
from peerkv.resp import Prepared, Reply, ReplyError
from peerkv.ring.keys import slot_of
from peerkv.store.cell import Cells
from tests.clients.alone import Alone, Client


@pytest.fixture
def alone() -> Alone:
    return Alone()


def test_a_client_has_its_share_of_a_turn_and_no_more(alone: Alone) -> None:
    """100,000 of its commands were one turn, and another client waited for all of them."""
    client = Client(alone)
    client.send(*[(b"PING",)] * 3000)
    before = 0
    while len(client.replies) < 3000:
        alone.turn()
        assert len(client.replies) - before <= SHARE_UNITS
        before = len(client.replies)
    assert not alone.node.more


def test_what_is_costly_counts_for_what_it_costs(alone: Alone) -> None:
    """60 KB of INFO kept a node for 60 s, so that its peers removed it."""
    client = Client(alone)
    client.send(*[(b"INFO",)] * 1000)
    alone.turn()
    assert 0 < len(client.replies) <= SHARE_UNITS // 64 + 1
    alone.turns()
    assert len(client.replies) == 1000


def test_many_that_ask_for_much_share_a_turn_and_have_their_turns_in_order(alone: Alone) -> None:
    clients = [Client(alone) for _ in range(40)]
    for client in clients:
        client.send(*[(b"GET", b"k")] * 1000)
    for _ in range(20):
        before = sum(len(client.replies) for client in clients)
        alone.turn()
        assert sum(len(client.replies) for client in clients) - before <= TURN_UNITS
    counts = [len(client.replies) for client in clients]
    assert max(counts) - min(counts) <= SHARE_UNITS
    alone.turns()
    assert [len(client.replies) for client in clients] == [1000] * 40


def test_who_asks_for_little_does_not_wait_for_them(alone: Alone) -> None:
    for _ in range(40):
        Client(alone).send(*[(b"GET", b"k")] * 1000)
    gentle = Client(alone)
    for round_ in range(20):
        gentle.send(*[(b"SET", b"mine", b"%d" % round_), (b"GET", b"mine")] * (SMALL // 2))
        alone.turn()
        assert len(gentle.replies) == (round_ + 1) * SMALL
        assert gentle.replies[-1] == b"%d" % round_
    assert alone.node.more


def test_nothing_is_run_for_a_client_that_does_not_read(alone: Alone) -> None:
    client = Client(alone)
    client.ask((b"SET", b"k", b"x" * 10_000))
    client.replies.clear()
    client.reads = False
    client.send(*[(b"GET", b"k")] * 2000)
    assert alone.turns() < 50
    assert client.unread <= 2 * UNREAD_MAX
    assert client.session.backlog
    client.send(*[(b"GET", b"k")] * 10)
    alone.turns()
    assert client.held, "nor is more read of it"
    client.reads = True
    while len(client.replies) < 2010:
        client.read()
        alone.turns()
    assert client.replies == [b"x" * 10_000] * 2010
    assert not client.held


def test_values_that_commands_make_count_too(alone: Alone) -> None:
    """25 APPENDs to a value of 60 MiB held the node for seconds."""
    client = Client(alone)
    client.ask((b"SET", b"k", b"x" * (1 << 20)))
    client.replies.clear()
    client.send(*[(b"APPEND", b"k", b"y")] * 25)
    alone.turn()
    assert len(client.replies) <= pipeline.CHANGED_BYTES_MAX // (1 << 20) + 1
    alone.turns()
    assert client.replies == [(1 << 20) + number for number in range(1, 26)]


def test_a_faulty_command_costs_its_client_an_error_on_a_node_by_itself(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the connection of whoever sent it, and the replies of what came before were lost."""

    def fails(_cells: Cells, _request: Sequence[bytes], _now: int) -> tuple[tuple[()], Reply]:
        raise ZeroDivisionError

    faulty = replace(COMMANDS["append"], run=fails)
    for names in (SPELLED, AT_ONCE):
        monkeypatch.setitem(names, b"APPEND", faulty)  # type: ignore[arg-type]
    client = Client(alone)
    request = (b"APPEND", b"k", b"x")
    error = ReplyError("ERR internal fault in 'APPEND', nothing was done: ZeroDivisionError")
    assert client.ask((b"SET", b"k", b"v"), request, (b"GET", b"k")) == ["OK", error, b"v"]
    deadline = (b"SET", b"k", b"v", b"EX", b"1000")
    assert client.ask(deadline, request, (b"GET", b"k")) == ["OK", error, b"v"]


# -- what is asked for often is made once


def test_what_a_cluster_looks_like_is_made_once_and_not_for_every_client_that_asks(alone: Alone) -> None:
    """60 KB of CLUSTER SLOTS took a node 10.7 GB, and for ever."""
    client = Client(alone)
    for request in (
        (b"CLUSTER", b"SLOTS"),
        (b"CLUSTER", b"SHARDS"),
        (b"CLUSTER", b"NODES"),
        (b"COMMAND",),
        (b"COMMAND", b"DOCS"),
    ):
        command = COMMANDS[request[0].decode().lower()]
        first, second = (run_session(alone.node, client.session, command, request) for _ in range(2))
        assert isinstance(first, Prepared)
        assert first is second
        assert first.encoded(3) is first.encoded(3)
        assert client.ask(request, request) == [client.replies[0]] * 2


def test_another_member_is_seen_in_what_was_made_before(alone: Alone) -> None:
    before = Client(alone).ask((b"CLUSTER", b"NODES"))
    me = alone.node.gossip.members[alone.node.settings.name]
    alone.node.gossip.members["other"] = replace(me, name="other", process=7, client_port=7777)
    after = Client(alone).ask((b"CLUSTER", b"NODES"))
    assert before != after
    assert isinstance(after[0], bytes)
    assert b":7777@" in after[0]


# -- commands that concern every slot


def keys(count: int) -> list[bytes]:
    return [b"key:%d" % number for number in range(count)]


def fill(alone: Alone, count: int) -> Client:
    client = Client(alone)
    client.ask((b"MSET", *[part for key in keys(count) for part in (key, b"x")]))
    return client


@pytest.mark.parametrize(
    ("request_", "turns_at_least"),
    [((b"FLUSHALL",), 20), ((b"KEYS", b"*"), 20), ((b"DBSIZE",), 16), ((b"SCAN", b"0", b"COUNT", b"10000"), 8)],
)
def test_what_concerns_every_slot_leaves_room_for_others(
    alone: Alone, request_: Sequence[bytes], turns_at_least: int
) -> None:
    """FLUSHALL of a million keys took 6 s, and another client's SET waited half of that."""
    client, other = fill(alone, 20_000), Client(alone)
    client.replies.clear()
    client.send(request_)
    turns = 0
    while not client.replies:
        other.send((b"SET", b"mine", b"%d" % turns), (b"GET", b"mine"))
        alone.turn()
        turns += 1
        assert other.replies[-1] == b"%d" % (turns - 1)
        assert len(other.replies) == 2 * turns
    assert turns >= turns_at_least


def test_flushall_clears_large_slots_in_steps(alone: Alone) -> None:
    client = Client(alone)
    for first in range(0, 3000, 500):
        numbers = range(first, first + 500)
        client.ask((b"MSET", *[part for number in numbers for part in (b"{t}%d" % number, b"x")]))
    number = slot_of(b"{t}")
    before = alone.node.view.copies.positions[number]
    assert client.ask((b"DBSIZE",)) == [3000]
    assert client.ask((b"FLUSHALL",), (b"DBSIZE",)) == ["OK", 0]
    assert alone.node.view.copies.positions[number] - before >= 3


def test_keys_beyond_what_a_client_may_be_sent_is_an_error() -> None:
    alone = Alone(client_output_bytes_max=100_000)
    client = fill(alone, 20_000)
    (reply,) = client.ask((b"KEYS", b"*"))
    assert isinstance(reply, ReplyError)
    assert "SCAN" in reply.text
    assert client.ask((b"KEYS", b"key:1")) == [[b"key:1"]]
    assert client.ask((b"KEYS", b"none")) == [[]]
