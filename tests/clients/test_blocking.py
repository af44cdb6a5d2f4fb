"""Clients that wait until there is something to take: on a node alone turn by turn, and on a cluster of processes."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.processes import Cluster
from peerkv.agreement.view import View
from peerkv.clients.blocking import ENDED_PER_TURN, ROUNDS
from peerkv.commands.blocking import put_back
from peerkv.resp import Reply, ReplyError
from peerkv.ring.keys import slot_of
from tests.clients.alone import Alone, Client

BLOCKED = 10_000
BLOCKED_BYTES = 6_000
"""A client that waits takes less than this, its connection's session and what the test keeps of it included."""
FEW = 200
NOBODY_WAITS_S = 10.0


def _waits(alone: Alone, *request: bytes) -> Client:
    client = Client(alone)
    assert client.ask(request) == []
    return client


def _go(alone: Alone, client: Client) -> None:
    """Its connection is closed from its end."""
    del alone.clients[client.session.id]
    alone.node.close(alone.now, client.session)


def _pass(alone: Alone, seconds: float) -> None:
    """Time in which nothing comes in."""
    alone.now += seconds
    alone.turns()


# -- a node alone


def test_what_is_there_is_taken_at_once() -> None:
    alone = Alone()
    client = Client(alone)
    client.ask((b"RPUSH", b"l", b"1", b"2", b"3"), (b"ZADD", b"z", b"1", b"one", b"2", b"two"))
    assert client.ask(
        (b"BLPOP", b"none", b"l", b"0"),
        (b"BRPOP", b"l", b"0"),
        (b"BLMOVE", b"l", b"m", b"LEFT", b"RIGHT", b"0"),
        (b"BZPOPMAX", b"z", b"0"),
        (b"BZMPOP", b"0", b"1", b"z", b"MIN"),
        (b"BLMPOP", b"0", b"2", b"l", b"m", b"LEFT", b"COUNT", b"5"),
    ) == [
        [b"l", b"1"],
        [b"l", b"3"],
        b"2",
        [b"z", b"two", b"2"],
        [b"z", [[b"one", b"1"]]],
        [b"m", [b"2"]],
    ]


def test_who_came_first_is_served_first() -> None:
    alone = Alone()
    waiters = [_waits(alone, b"BLPOP", b"l", b"0") for _ in range(4)]
    pusher = Client(alone)
    pusher.ask((b"RPUSH", b"l", b"a"))
    pusher.ask((b"RPUSH", b"l", b"b", b"c"))
    assert [waiter.replies for waiter in waiters] == [[[b"l", b"a"]], [[b"l", b"b"]], [[b"l", b"c"]], []]
    assert pusher.ask((b"LLEN", b"l")) == [0]


def test_a_key_of_another_slot_wakes_as_well_and_the_first_that_has_something_is_taken() -> None:
    alone = Alone()
    waiter = _waits(alone, b"BRPOP", b"one", b"two", b"three", b"0")
    pusher = Client(alone)
    pusher.ask((b"MULTI",), (b"RPUSH", b"three", b"3"), (b"RPUSH", b"two", b"2"), (b"EXEC",))
    assert waiter.replies == [[b"two", b"2"]]
    assert pusher.ask((b"LRANGE", b"three", b"0", b"-1")) == [[b"3"]]
    assert waiter.ask((b"PING",)) == ["PONG"]


def test_time_runs_out_at_its_deadline_and_not_before() -> None:
    alone = Alone()
    waiters = [_waits(alone, b"BLPOP", b"l", b"0.5"), _waits(alone, b"BLMOVE", b"l", b"m", b"LEFT", b"LEFT", b"2")]
    forever = _waits(alone, b"BZPOPMIN", b"l", b"0")
    _pass(alone, 0.4)
    assert [waiter.replies for waiter in waiters] == [[], []]
    _pass(alone, 0.2)
    assert waiters[0].replies[0] is None
    assert waiters[1].replies == []
    _pass(alone, 2.0)
    assert len(waiters[1].replies) == 1
    _pass(alone, 100_000.0)
    assert forever.replies == []
    assert len(alone.node.dispatcher.blocking._waiters) == 1


@pytest.mark.parametrize(
    ("timeout", "says"),
    [
        (b"-1", "negative"),
        (b"x", "not a float"),
        (b"nan", "not a float"),
        (b"1e999", "out of range"),
        (b"inf", "out of range"),
        (b"-inf", "negative"),
    ],
)
def test_a_timeout_that_is_none_is_refused(timeout: bytes, says: str) -> None:
    (reply,) = Client(Alone()).ask((b"BLPOP", b"l", timeout))
    assert isinstance(reply, ReplyError)
    assert says in reply.text


def test_requests_behind_it_wait_for_it() -> None:
    alone = Alone()
    waiter = Client(alone)
    assert waiter.ask((b"BLPOP", b"l", b"0"), (b"SET", b"k", b"v"), (b"GET", b"k")) == []
    other = Client(alone)
    assert other.ask((b"GET", b"k"), (b"RPUSH", b"l", b"x")) == [None, 1]
    assert waiter.replies == [[b"l", b"x"], "OK", b"v"]


def test_transactions_and_scripts_do_not_wait() -> None:
    client = Client(Alone())
    replies = client.ask(
        (b"MULTI",), (b"BLPOP", b"l", b"0"), (b"BLMOVE", b"l", b"m", b"LEFT", b"LEFT", b"0"), (b"EXEC",)
    )
    assert replies[-1] == [None, None]
    (reply,) = client.ask((b"EVAL", b"return redis.call('BLPOP', KEYS[1], 0)", b"1", b"l"))
    assert reply is None


def test_what_a_transaction_or_a_script_pushes_and_takes_itself_wakes_nobody() -> None:
    alone = Alone()
    waiter = _waits(alone, b"BLPOP", b"l", b"0")
    other = Client(alone)
    other.ask((b"MULTI",), (b"RPUSH", b"l", b"x"), (b"LPOP", b"l"), (b"EXEC",))
    other.ask((b"EVAL", b"redis.call('RPUSH', KEYS[1], 'y') return redis.call('DEL', KEYS[1])", b"1", b"l"))
    assert waiter.replies == []
    other.ask((b"EVAL", b"return redis.call('RPUSH', KEYS[1], 'z')", b"1", b"l"))
    assert waiter.replies == [[b"l", b"z"]]


def test_what_is_moved_or_renamed_there_wakes_as_well() -> None:
    alone = Alone()
    one, two = _waits(alone, b"BLMOVE", b"a", b"b", b"LEFT", b"LEFT", b"0"), _waits(alone, b"BLPOP", b"b", b"0")
    pusher = Client(alone)
    pusher.ask((b"RPUSH", b"a", b"x"))
    assert (one.replies, two.replies) == ([b"x"], [[b"b", b"x"]])
    renamed = _waits(alone, b"BLPOP", b"c", b"0")
    pusher.ask((b"RPUSH", b"d", b"y"), (b"RENAME", b"d", b"c"))
    assert renamed.replies == [[b"c", b"y"]]


def test_wrong_types() -> None:
    """What is of another type when one asks is an error; what becomes so while one waits is waited out."""
    alone = Alone()
    client = Client(alone)
    client.ask((b"SET", b"s", b"v"))
    (reply,) = client.ask((b"BLPOP", b"s", b"0"))
    assert isinstance(reply, ReplyError)
    assert reply.text.startswith("WRONGTYPE")
    waiter = _waits(alone, b"BLPOP", b"l", b"0")
    client.ask((b"SET", b"l", b"v"))
    client.ask((b"DEL", b"l"))
    client.ask((b"ZADD", b"l", b"1", b"m"))
    assert waiter.replies == []
    client.ask((b"DEL", b"l"), (b"RPUSH", b"l", b"x"))
    assert waiter.replies == [[b"l", b"x"]]


def test_client_unblock() -> None:
    alone = Alone()
    waiters = [_waits(alone, b"BLPOP", b"l", b"0") for _ in range(3)]
    ids = [b"%d" % waiter.session.id for waiter in waiters]
    other = Client(alone)
    assert other.ask((b"CLIENT", b"UNBLOCK", ids[0]), (b"CLIENT", b"UNBLOCK", ids[1], b"ERROR")) == [1, 1]
    assert waiters[0].replies[0] is None
    error = waiters[1].replies[0]
    assert isinstance(error, ReplyError)
    assert error.text.startswith("UNBLOCKED")
    assert other.ask((b"CLIENT", b"UNBLOCK", ids[0]), (b"CLIENT", b"UNBLOCK", b"999999")) == [0, 0]
    other.ask((b"RPUSH", b"l", b"x", b"y"))
    assert waiters[2].replies == [[b"l", b"x"]]
    assert waiters[0].ask((b"LPOP", b"l")) == [b"y"]


def test_a_client_that_is_gone_takes_nothing() -> None:
    alone = Alone()
    gone, waiter = _waits(alone, b"BLPOP", b"l", b"0"), _waits(alone, b"BLPOP", b"l", b"0")
    _go(alone, gone)
    alone.turns()
    other = Client(alone)
    other.ask((b"RPUSH", b"l", b"x"))
    assert waiter.replies == [[b"l", b"x"]]
    assert gone.replies == []
    assert alone.node.home.interests.waiters == 0
    assert alone.node.dispatcher.blocking._waiters == {}


ELEMENTS = (b"RPUSH", b"k", b"a", b"b"), (b"LRANGE", b"k", b"0", b"-1")
MEMBERS = (b"ZADD", b"k", b"1.5", b"a", b"inf", b"b"), (b"ZRANGE", b"k", b"0", b"-1", b"WITHSCORES")
OF_ONE = (b"0", b"1", b"k")


@pytest.mark.parametrize(
    ("fill", "look", "takes"),
    [
        (*ELEMENTS, (b"BLPOP", b"k", b"0")),
        (*ELEMENTS, (b"BRPOP", b"k", b"0")),
        (*ELEMENTS, (b"BLMPOP", *OF_ONE, b"LEFT", b"COUNT", b"2")),
        (*ELEMENTS, (b"BLMPOP", *OF_ONE, b"RIGHT", b"COUNT", b"2")),
        (*MEMBERS, (b"BZPOPMIN", b"k", b"0")),
        (*MEMBERS, (b"BZPOPMAX", b"k", b"0")),
        (*MEMBERS, (b"BZMPOP", *OF_ONE, b"MAX", b"COUNT", b"2")),
    ],
)
def test_what_was_taken_for_a_client_that_is_gone_is_put_back(
    fill: tuple[bytes, ...], look: tuple[bytes, ...], takes: tuple[bytes, ...]
) -> None:
    """I4."""
    client = Client(Alone())
    client.ask(fill)
    before = client.ask(look)
    (reply,) = client.ask(takes)
    assert client.ask(look) != before
    undo = put_back(takes, reply)
    assert undo is not None
    client.ask(undo)
    assert client.ask(look) == before


def test_what_has_taken_nothing_or_was_moved_needs_no_undoing() -> None:
    assert put_back((b"BLPOP", b"k", b"0"), None) is None
    assert put_back((b"BLMOVE", b"k", b"l", b"LEFT", b"LEFT", b"0"), b"x") is None


def test_databases_are_apart() -> None:
    alone = Alone()
    waiter = Client(alone)
    waiter.ask((b"SELECT", b"3"))
    assert waiter.ask((b"BLPOP", b"l", b"0")) == []
    other = Client(alone)
    other.ask((b"RPUSH", b"l", b"0"))
    assert waiter.replies == []
    other.ask((b"SELECT", b"3"), (b"RPUSH", b"l", b"3"))
    assert waiter.replies == [[b"l", b"3"]]


def test_xread_waits_for_what_comes_after_it_and_all_readers_have_it() -> None:
    alone = Alone()
    other = Client(alone)
    other.ask((b"XADD", b"s", b"1-1", b"f", b"old"))
    readers = [_waits(alone, b"XREAD", b"BLOCK", b"0", b"STREAMS", b"s", b"t", b"$", b"$") for _ in range(3)]
    timed = _waits(alone, b"XREAD", b"BLOCK", b"300", b"STREAMS", b"t", b"0")
    other.ask((b"XADD", b"s", b"2-1", b"f", b"new"))
    for reader in readers:
        assert reader.replies == [[[b"s", [[b"2-1", [b"f", b"new"]]]]]]
    _pass(alone, 0.5)
    assert timed.replies == [None]


def test_xreadgroup_gives_an_entry_to_one_of_those_who_wait() -> None:
    alone = Alone()
    other = Client(alone)
    other.ask((b"XGROUP", b"CREATE", b"s", b"g", b"$", b"MKSTREAM"))
    read = (b"XREADGROUP", b"GROUP", b"g")
    readers = [_waits(alone, *read, name, b"BLOCK", b"0", b"STREAMS", b"s", b">") for name in (b"a", b"b")]
    other.ask((b"XADD", b"s", b"1-1", b"f", b"one"))
    assert sorted(len(reader.replies) for reader in readers) == [0, 1]
    other.ask((b"XADD", b"s", b"1-2", b"f", b"two"))
    found: list[Reply] = [reply for reader in readers for reply in reader.replies]
    one, two = [[b"s", [[b"1-1", [b"f", b"one"]]]]], [[b"s", [[b"1-2", [b"f", b"two"]]]]]
    assert found in ([one, two], [two, one])


def test_where_what_has_come_last_cannot_be_found_out_the_error_is_answered() -> None:
    """`$` is found out first; a node ended by that what it asked for was an error."""
    client = Client(Alone())
    replies = client.ask((b"RPUSH", b"l", b"x"), (b"XREAD", b"BLOCK", b"0", b"STREAMS", b"l", b"$"), (b"PING",))
    assert isinstance(replies[1], ReplyError)
    assert replies[2] == "PONG"


def test_a_client_that_is_killed_takes_nothing() -> None:
    """What came for it in the turn in which it was killed was written to nobody."""
    alone = Alone()
    waiter = _waits(alone, b"BLPOP", b"l", b"0")
    other = Client(alone)
    other.send((b"CLIENT", b"KILL", b"ID", b"%d" % waiter.session.id), (b"RPUSH", b"l", b"x"))
    alone.turns()
    assert waiter.cut_off
    assert other.ask((b"LRANGE", b"l", b"0", b"-1")) == [[b"x"]]


def test_what_could_not_be_put_back_is_put_back_later_unless_it_may_be_there_already() -> None:
    """I4."""
    alone = Alone()
    blocking, other = alone.node.dispatcher.blocking, Client(alone)
    for text, there in (("NOQUORUM nothing was done", [b"x"]), ("UNCERTAIN it may be there", [])):
        blocking._has_put_back([b"LPUSH", b"l", b"x"], ReplyError(text))
        _pass(alone, 1.0)
        assert other.ask((b"LRANGE", b"l", b"0", b"-1"), (b"DEL", b"l"))[0] == there


def test_who_told_somebody_who_is_not_home_asks_again_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that moves would have all who wait for its keys ask in one turn; those who came first ask first."""
    monkeypatch.setattr("peerkv.clients.blocking.ASTRAY_AT_ONCE", 2)
    alone = Alone()
    for _ in range(5):
        _waits(alone, b"BLPOP", b"l", b"0")
    blocking = alone.node.dispatcher.blocking
    numbers = list(blocking._waiters)
    blocking.astray(alone.node.view.me, numbers[::-1])
    for count in (2, 4, 5, 5):
        blocking.look()
        assert [number for number, waiter in blocking._waiters.items() if waiter.event.set_] == numbers[:count]


def test_what_is_to_be_put_back_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerkv.clients.blocking.OWED_MAX", 3)
    blocking = Alone().node.dispatcher.blocking
    for _ in range(10):
        blocking._has_put_back([b"LPUSH", b"l", b"x"], ReplyError("NOQUORUM"))
    assert len(blocking._owed) == 3


def test_many_that_wait_take_little_and_a_push_wakes_one() -> None:
    alone = Alone()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        waiters = []
        for _ in range(BLOCKED):
            waiter = Client(alone)
            waiter.send((b"BLPOP", b"l", b"0"))
            waiters.append(waiter)
        alone.turns()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / BLOCKED < BLOCKED_BYTES
    assert alone.node.home.interests.waiters == BLOCKED
    asked = alone.node.coordinator.writes
    Client(alone).ask((b"RPUSH", b"l", b"x"))
    assert [waiter.replies for waiter in waiters if waiter.replies] == [[[b"l", b"x"]]]
    assert waiters[0].replies
    assert alone.node.coordinator.writes - asked <= 2, "nobody else has asked"
    for waiter in waiters:
        _go(alone, waiter)
    alone.turns()
    assert alone.node.home.interests.waiters == 0


def test_of_many_that_are_woken_at_a_time_some_ask_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand at once had replies UNCERTAIN in a healthy cluster: all were under way together."""
    monkeypatch.setattr("peerkv.clients.blocking.ASKS_PER_TURN", 16)
    alone = Alone()
    waiters = [Client(alone) for _ in range(FEW)]
    for number, waiter in enumerate(waiters):
        waiter.send((b"BLPOP", b"l%d" % number, b"0"))
    alone.turns()
    asked: list[int] = []
    start = alone.node.transactions.start
    monkeypatch.setattr(alone.node.transactions, "start", lambda *work: (asked.append(1), start(*work)))
    Client(alone).send(*[(b"RPUSH", b"l%d" % number, b"x") for number in range(FEW)])
    most = 0
    while alone.wake_at <= alone.now + 0.001 or alone.node.more or not asked:
        before = len(asked)
        alone.turn()
        most = max(most, len(asked) - before)
    assert [waiter.replies for waiter in waiters] == [[[b"l%d" % number, b"x"]] for number in range(FEW)]
    assert len(asked) == FEW
    assert most == 16


def test_nobody_asks_while_too_much_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Alone()
    waiter = _waits(alone, b"BLPOP", b"l", b"0")
    crowded = True
    monkeypatch.setattr(type(alone.node.coordinator), "crowded", property(lambda _: crowded))
    alone.node.dispatcher.blocking.woken(alone.node.view.me, [b"l"], [waiter.session.waiter.number])
    alone.turns()
    assert len(alone.node.dispatcher.blocking.queue) == 1
    crowded = False
    alone.turns()
    assert not alone.node.dispatcher.blocking.queue
    assert Client(alone).ask((b"RPUSH", b"l", b"x")) == [1]
    assert waiter.replies == [[b"l", b"x"]]


def test_deadlines_of_those_that_have_ended_have_a_bound() -> None:
    """A worker that waits for an hour at most, and gets something at once each time, left one behind each time."""
    alone = Alone()
    worker, other = Client(alone), Client(alone)
    for _ in range(3 * ENDED_PER_TURN):
        worker.ask((b"BLPOP", b"l", b"3600"))
        other.ask((b"RPUSH", b"l", b"x"))
    assert len(alone.node.dispatcher.blocking._deadlines) <= ENDED_PER_TURN + 3


def test_of_many_whose_time_is_up_some_are_let_go_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerkv.clients.blocking.ENDED_PER_TURN", 16)
    alone = Alone()
    waiters = [_waits(alone, b"BLPOP", b"l", b"1") for _ in range(FEW)]
    alone.now += 2.0
    alone.turn()
    assert sum([waiter.replies == [None] for waiter in waiters]) <= 16
    alone.turns()
    assert all(waiter.replies == [None] for waiter in waiters)


def test_who_waits_is_not_looked_at_while_all_homes_are_who_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand that wait took a fifth of a processor: several times a second each of them was."""
    alone = Alone()
    for number in range(FEW):
        Client(alone).send((b"BLPOP", b"l%d" % number, b"0"))
    alone.turns()
    _pass(alone, 1.0)
    blocking = alone.node.dispatcher.blocking
    told: list[int] = []
    tell = blocking._tell
    monkeypatch.setattr(blocking, "_tell", lambda waiters: (told.append(len(waiters)), tell(waiters)))
    looked: list[bytes] = []
    monkeypatch.setattr(View, "slot_of", lambda view, key: looked.append(key) or slot_of(key, view.mask))
    for _ in range(2 * ROUNDS):
        blocking.look()
    assert len(told) == 2 * ROUNDS
    assert 2 * FEW <= sum(told) <= 2 * FEW + 2 * ROUNDS
    assert len(looked) <= 2 * sum(told), "theirs and no others"


# -- a cluster


class Waiter(threading.Thread):
    """A client that waits in the background."""

    def __init__(self, port: int, *request: str) -> None:
        super().__init__(daemon=True)
        self.client = redis.Redis(port=port, socket_timeout=20, decode_responses=True, retry=Retry(NoBackoff(), 0))
        self.id = int(self.client.client_id())
        self.request = request
        self.reply: object = None
        self.start()

    def run(self) -> None:
        try:
            self.reply = self.client.execute_command(*self.request)
        except redis.RedisError as error:
            self.reply = error

    def end(self) -> object:
        """What it was answered."""
        self.join(20)
        assert not self.is_alive(), "it still waits"
        return self.reply


def test_a_new_home_is_told_of_those_who_wait_in_the_order_in_which_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Alone()
    for _ in range(30):
        _waits(alone, b"BLPOP", b"k", b"0")
    blocking = alone.node.dispatcher.blocking
    blocking.link_up(alone.node.view.me)
    told: list[int] = []
    monkeypatch.setattr(alone.node.home, "take_interest", lambda _peer, _keys, numbers, _everyone: told.extend(numbers))
    blocking.look()
    assert told == sorted(told)
    assert len(told) == 30


@contextmanager
def _connected(members: Cluster, name: str) -> Iterator[redis.Redis]:
    with redis.Redis(port=members.ports[name], decode_responses=True) as client:
        yield client


def _blocked(client: redis.Redis, count: int) -> None:
    until = time.monotonic() + NOBODY_WAITS_S
    while int(client.info("clients")["blocked_clients"]) != count:
        assert time.monotonic() < until, "so many do not wait"
        time.sleep(0.01)


@pytest.mark.parametrize("at", ["master", "db1", "db2", "db3"])
def test_a_push_at_any_node_is_taken_at_any_other(members: Cluster, at: str) -> None:
    keys = [f"at:{at}:{number}" for number in range(4)]
    with _connected(members, at) as here:
        for other in ("db1", "db2", "db3", "master"):
            waiter = Waiter(members.ports[at], "BLPOP", *keys, "0")
            _blocked(here, 1)
            with _connected(members, other) as client:
                client.rpush(keys[2], other)
            assert waiter.end() == (keys[2], other)


def test_everything_pushed_is_taken_once_by_waiters_of_all_nodes(members: Cluster) -> None:
    waiters = [
        Waiter(members.ports[name], "BLPOP", "once:1", "once:2", "0")
        for name in ("db1", "db2", "db3")
        for _ in range(5)
    ]
    with _connected(members, "db1") as client:
        for number in range(len(waiters)):
            client.rpush(f"once:{1 + number % 2}", str(number))
        found = [waiter.end() for waiter in waiters]
        assert sorted(int(reply[1]) for reply in found if isinstance(reply, tuple)) == list(range(len(waiters)))
        assert client.exists("once:1", "once:2") == 0


def test_unblock_and_kill_on_a_cluster(members: Cluster) -> None:
    with _connected(members, "db2") as here, _connected(members, "db1") as other:
        waiters = [Waiter(members.ports["db2"], "BRPOP", "gone:1", "gone:2", "0") for _ in range(3)]
        _blocked(here, 3)
        assert here.execute_command("CLIENT", "UNBLOCK", waiters[0].id) == 1
        assert here.execute_command("CLIENT", "UNBLOCK", waiters[1].id, "ERROR") == 1
        assert waiters[0].end() is None
        assert str(waiters[1].end()).startswith("UNBLOCKED")
        here.execute_command("CLIENT", "KILL", "ID", waiters[2].id)
        assert isinstance(waiters[2].end(), redis.ConnectionError)
        _blocked(here, 0)
        other.rpush("gone:1", "x")
        assert here.lrange("gone:1", 0, -1) == ["x"]
        here.delete("gone:1")
