"""Transactions of one node that want the same keys: in turn, together where that is the same, and never for long."""

from __future__ import annotations

import random

import pytest

from peerkv.resp import Reply, ReplyError
from peerkv.store.cell import SEQUENCE_MASK
from peerkv.transactions import Work
from peerkv.transactions.turns import TOGETHER_MAX, Answer, Turns
from tests.agreement.test_nodes import cluster, node

NOQUORUM = ReplyError("NOQUORUM nothing was done")


class Begun:
    """What is begun, and ends when a test has it end."""

    def __init__(self) -> None:
        self.turns = Turns(self._begin, lambda key: key[0])
        self.begun: list[tuple[Work, Answer]] = []
        self.order: dict[bytes, list[int]] = {}
        """Who has had a key, one after another."""
        self.replies: dict[int, Reply] = {}
        self._count = 0

    def _begin(self, work: Work, answer: Answer) -> None:
        self.begun.append((work, answer))
        for _, key, number in work.requests:
            self.order.setdefault(key, []).append(int(number))

    def take(self, *keys: bytes, now: float = 0.0, **how: object) -> int:
        """A transaction that appends its number to all of these keys; slots are first letters."""
        self._count += 1
        number = self._count
        requests = [[b"APPEND", key, b"%d" % number] for key in keys]
        work = Work(requests, dict.fromkeys(keys), **{"apart": True, **how})  # type: ignore[arg-type]
        self.turns.take(work, lambda reply: self.replies.__setitem__(number, reply), now)
        return number

    @property
    def numbers(self) -> list[list[int]]:
        """Who is under way, together or not."""
        return [list(dict.fromkeys(int(request[2]) for request in work.requests)) for work, _ in self.begun]

    def end(self, at: int = 0, reply: Reply = None) -> None:
        work, answer = self.begun.pop(at)
        answer([bytes(request[2]) for request in work.requests] if reply is None else reply)
        self.turns.leave(work)


@pytest.fixture
def begun() -> Begun:
    return Begun()


def test_who_wants_what_nobody_has_is_begun_at_once(begun: Begun) -> None:
    begun.take(b"a1", b"b1")
    begun.take(b"a2", b"b2")
    assert begun.numbers == [[1], [2]]


def test_who_wants_the_same_waits_and_is_begun_with_others_that_do(begun: Begun) -> None:
    for _ in range(4):
        begun.take(b"a1", b"b1")
    assert (begun.numbers, len(begun.turns)) == ([[1]], 1)
    begun.end()
    assert begun.numbers == [[2, 3, 4]]
    begun.take(b"a1", b"b1")
    begun.end()
    assert begun.replies == {number: [b"%d" % number] * 2 for number in range(1, 5)}
    begun.end()
    begun.take(b"a1")
    assert begun.numbers == [[6]]


@pytest.mark.parametrize(
    ("keys", "how"),
    [
        ((b"a1", b"b1", b"c1"), {}),
        ((b"a1",), {}),
        ((b"a1", b"b1"), {"seen": {b"a1": 5}}),
        ((b"a1", b"b1"), {"apart": False}),
        ((b"a1", b"b1"), {"joins": False}),
    ],
)
def test_who_may_fail_where_others_do_not_is_begun_alone(
    begun: Begun, keys: tuple[bytes, ...], how: dict[str, object]
) -> None:
    begun.take(b"a1", b"b1")
    begun.take(b"a1", b"b1")
    begun.take(*keys, **how)
    begun.take(b"a1", b"b1")
    begun.end()
    assert begun.numbers == [[2]]
    begun.end()
    assert begun.numbers == [[3]]
    begun.end()
    assert begun.numbers == [[4]]


def test_scripts_are_begun_alone(begun: Begun) -> None:
    begun.take(b"a1")
    for _ in range(2):
        work = Work([[b"EVAL", b"return 1", b"1", b"a1"]], {b"a1": None}, apart=True)
        begun.turns.take(work, lambda _reply: None, 0.0)
    assert len(begun.turns) == 2


def test_other_keys_of_the_same_slots_may_be_among_them(begun: Begun) -> None:
    begun.take(b"a1", b"b1")
    begun.take(b"a1", b"b1")
    begun.take(b"a1", b"b2")
    begun.take(b"a2", b"b2")
    assert begun.numbers == [[1]]
    begun.end()
    assert begun.numbers == [[2, 3, 4]]


def test_not_too_many_are_begun_together(begun: Begun) -> None:
    begun.take(b"a1", b"b1")
    for _ in range(TOGETHER_MAX + 1):
        begun.take(b"a1", b"b1")
    begun.end()
    assert [len(numbers) for numbers in begun.numbers] == [TOGETHER_MAX]
    begun.end()
    assert begun.numbers == [[TOGETHER_MAX + 2]]


def test_what_fails_for_one_of_them_is_done_one_by_one(begun: Begun) -> None:
    for _ in range(4):
        begun.take(b"a1", b"b1")
    begun.end()
    begun.end(reply=ReplyError("ERR the reply would be of 70000000 bytes"))
    assert begun.numbers == [[2]]
    begun.take(b"a1", b"b1")
    for number in range(2, 6):
        assert begun.numbers == [[number]]
        begun.end()
    assert begun.replies[4] == [b"4", b"4"]


def test_what_fails_for_all_is_said_to_all(begun: Begun) -> None:
    for _ in range(3):
        begun.take(b"a1", b"b1")
    begun.end()
    begun.end(reply=NOQUORUM)
    assert begun.begun == []
    assert (begun.replies[2], begun.replies[3]) == (NOQUORUM, NOQUORUM)


def test_nobody_waits_for_long(begun: Begun) -> None:
    begun.take(b"a1", b"b1", now=1.0)
    begun.take(b"a1", now=1.1)
    begun.take(b"a1", b"c1", now=1.3)
    begun.turns.look(1.2)
    assert begun.numbers == [[1], [2]]
    begun.end(1)
    assert begun.numbers == [[1]]
    begun.end()
    assert begun.numbers == [[3]]
    begun.end()
    assert (begun.turns._lines, len(begun.turns)) == ({}, 0)


def test_everybody_has_its_turn_in_order_whatever_comes() -> None:
    rng = random.Random(7)
    for patient in [True, False] * 150:
        begun = Begun()
        now = 0.0
        while begun.begun or begun._count < 40:
            now += 0.1
            if begun._count < 40 and rng.random() < 0.6:
                begun.take(*rng.sample([b"a1", b"a2", b"b1", b"b2", b"c1"], rng.randint(1, 3)), now=now)
            elif not patient and rng.random() < 0.2:
                begun.turns.look(now - rng.random())
            elif begun.begun:
                begun.end(rng.randrange(len(begun.begun)))
            wanted = [key for work, _ in begun.begun for key in work.keys]
            assert not patient or len(wanted) == len(set(wanted))
        assert sorted(begun.replies) == list(range(1, begun._count + 1))
        assert (begun.turns._lines, len(begun.turns)) == ({}, 0)
        for key, numbers in begun.order.items():
            assert not patient or numbers == sorted(numbers), key


def test_many_clients_of_a_node_change_the_same_keys_by_a_few_transactions() -> None:
    world = cluster(3)
    clients = 40
    replies: list[Reply] = []
    for _ in range(clients):
        connection = world.connect("db1")
        assert connection is not None
        connection.on_reply = replies.append
        connection.send((b"MULTI",), (b"INCR", b"hot.a"), (b"INCR", b"hot.b"), (b"EXEC",))
    world.run(world.now + 2.0)
    counted = [reply for reply in replies if isinstance(reply, list)]
    assert sorted(counted, key=str) == sorted([[n, n] for n in range(1, clients + 1)], key=str)
    counters = node(world, "db1").transactions.counters
    assert (counters.committed, counters.aborted, counters.retried) == (clients, 0, 0)
    view = node(world, "db1").view
    for key in (b"hot.a", b"hot.b"):
        assert view.copies.positions[view.slot_of(key)] & SEQUENCE_MASK < clients / 4
