"""INFO keyspace: what is told is as it is, and costs little however much there is."""

from __future__ import annotations

from collections.abc import Iterable
from unittest.mock import patch

import pytest

from peerkv.clients import keyspace
from peerkv.clients.keyspace import Counts, Keyspace
from peerkv.databases import RECORD
from tests.clients.alone import Alone, Client

KEYS = [b"key:%d" % number for number in range(100)]


@pytest.fixture
def alone() -> Alone:
    return Alone()


def told(client: Client) -> bytes:
    (reply,) = client.ask((b"INFO", b"keyspace"))
    assert isinstance(reply, bytes)
    return reply


def test_info_counts_keys_and_deadlines_as_they_are(alone: Alone) -> None:
    client = Client(alone)

    client.ask(*[(b"SET", key, b"x") for key in KEYS], (b"DEL", *KEYS[:3]))
    client.ask(*[(b"EXPIRE", KEYS[9], b"%d" % (100 + n)) for n in range(50)], (b"EXPIRE", KEYS[8], b"100"))
    assert b"db0:keys=97,expires=2," in told(client)
    client.ask((b"PERSIST", KEYS[9]))
    assert b"db0:keys=97,expires=1," in told(client)
    client.ask((b"SET", KEYS[8], b"new"))
    assert b"db0:keys=97,expires=0," in told(client)


# -- all clients together


def test_many_keys_of_other_databases_are_counted_some_at_a_time(alone: Alone) -> None:
    """A million of them would keep everybody for half a second whenever somebody asks for INFO."""
    client = Client(alone)
    looked: list[int] = []
    added = Keyspace._added

    def count(self: Keyspace, found: Counts, part: Iterable[tuple[int, bytes]]) -> Counts:
        part = list(part)
        looked.append(len(part))
        return added(self, found, part)

    def wait(milliseconds: int) -> None:
        for _ in range(milliseconds):
            alone.turn()

    client.ask((b"SELECT", b"2"), *[(b"SET", b"%d" % n, b"x") for n in range(1000)], (b"SELECT", b"0"))
    client.ask((b"SET", b"a", b"x", b"EX", b"100"))
    with patch.object(keyspace, "AT_ONCE", 99), patch.object(Keyspace, "_added", count):
        assert told(client) == b"# Keyspace\r\ndb0:keys=1,expires=1,avg_ttl=0\r\n", "of the others nothing yet"
        wait(300)
        assert b"db0:keys=1,expires=1,avg_ttl=0\r\ndb2:keys=1000,expires=0," in told(client)
        assert sum(looked) == 1000, "and not again, as that was just now"
        assert max(looked) == 99
        client.ask((b"SELECT", b"2"), *[(b"DEL", b"%d" % n) for n in range(990)], (b"SELECT", b"0"))
        wait(1000)
        told(client)
        wait(300)
        assert b"db0:keys=1,expires=1,avg_ttl=0\r\ndb2:keys=10," in told(client)


def test_what_the_cluster_keeps_as_keys_is_nobodys(alone: Alone) -> None:
    client = Client(alone)
    client.ask(*[(b"SET", b"key:%d" % n, b"x") for n in range(20)])
    slot = alone.node.view.slots[7]
    assert slot is not None
    slot.apply(slot.position + 1, [(RECORD + b"decision:%d" % n, b"C", 0) for n in range(3)])
    assert told(client) == b"# Keyspace\r\ndb0:keys=20,expires=0,avg_ttl=0\r\n"
