"""Clients that are closed from here: what all of them together have is bounded."""

from __future__ import annotations

import pytest

from peerkv.resp import Requests
from tests.clients.alone import Alone, Client


def test_unfinished_requests_of_all_clients_together_have_a_bound() -> None:
    """25 connections with 60 MiB each were 1.5 GB."""
    alone = Alone(clients_bytes_max=1 << 20)
    clients = [Client(alone) for _ in range(8)]
    part = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000000\r\n"
    for number, client in enumerate(clients):
        alone.node.receive(alone.now, client.session, part + bytes(200_000 + 1000 * number))
    alone.now += 1
    alone.turn()
    killed = [client for client in clients if client.session.closing]
    assert killed == clients[-3:], "those that have the most"
    assert Client(alone).ask((b"PING",)) == ["PONG"]


def test_clients_are_weighed_when_enough_has_come_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 idle connections took 3 % of a processor: four times a second each of them was."""
    alone = Alone(clients_bytes_max=1 << 20)
    clients = [Client(alone) for _ in range(4)]
    weighed: list[Requests] = []
    unfinished = Requests.unfinished.fget
    assert unfinished is not None
    monkeypatch.setattr(Requests, "unfinished", property(lambda own: weighed.append(own) or unfinished(own)))
    clients[0].ask((b"SET", b"k", b"x" * 50_000))

    def look() -> int:
        weighed.clear()
        alone.now += 1
        alone.turns()
        return len(weighed)

    assert look() == 0
    clients[0].ask((b"SET", b"k", b"x" * 50_000))
    assert look() == 4, "as far as is known there is more than 1 MiB"
    assert look() == 0
    clients[1].ask((b"CONFIG", b"RESETSTAT"))
    assert look() == 4
    part = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000000\r\n" + bytes((1 << 20) - 200)
    alone.node.receive(alone.now, clients[2].session, part)
    assert look() == 4
    assert not clients[2].session.closing
    alone.node.receive(alone.now, clients[3].session, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\n" + bytes(90))
    assert look() == 4
    assert clients[2].session.closing


def test_what_all_clients_together_have_not_read_has_a_bound() -> None:
    alone = Alone(clients_bytes_max=5 << 20)
    writer = Client(alone)
    writer.ask((b"SET", b"k", b"x" * 900_000))
    clients = [Client(alone) for _ in range(8)]
    for client in clients:
        client.reads = False
        client.send((b"GET", b"k"))
    alone.turn()
    alone.now += 1
    alone.turn()
    assert sum(client.session.closing for client in clients) == 3
    assert writer.ask((b"PING",)) == ["PONG"]


def test_many_small_arguments_of_an_unfinished_request_count_as_what_they_take() -> None:
    alone = Alone()
    session = Client(alone).session
    alone.node.receive(alone.now, session, b"*100000\r\n" + b"$2\r\nab\r\n" * 50_000)
    assert session.requests.unfinished > 50_000 * 50
    alone.node.receive(alone.now, session, b"$2\r\nab\r\n" * 50_000)
    assert session.requests.unfinished == 0


def test_whoever_asked_not_to_be_closed_is_closed_last() -> None:
    """CLIENT NO-EVICT, where all clients together have too much that is unfinished."""
    alone = Alone(clients_bytes_max=1 << 20)
    clients = [Client(alone) for _ in range(3)]
    clients[2].ask((b"CLIENT", b"NO-EVICT", b"ON"))
    for number, client in enumerate(clients):
        part = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000000\r\n" + bytes(400_000 + number)
        alone.node.receive(alone.now, client.session, part)
    alone.now += 1
    alone.turns()
    assert [client.cut_off for client in clients] == [False, True, False]


def test_who_says_nothing_for_too_long_is_closed_unless_it_waits() -> None:
    alone = Alone(client_timeout=10)
    silent, waits, speaks = (Client(alone) for _ in range(3))
    waits.send((b"BLPOP", b"l", b"0"))
    alone.now += 8
    assert speaks.ask((b"PING",)) == ["PONG"]
    alone.now += 4
    alone.turns()
    assert [client.cut_off for client in (silent, waits, speaks)] == [True, False, False]
