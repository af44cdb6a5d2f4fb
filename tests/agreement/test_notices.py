"""Rules N1 to N4: what is told of changes, when, by whom if a home dies, and how much of it is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from peerkv.agreement import notices
from peerkv.agreement.columns import TELLS
from peerkv.agreement.home import Home
from peerkv.agreement.notices import Notice, Notices, size_of
from peerkv.node import Node
from peerkv.resp import Reply
from peerkv.ring.keys import SLOTS
from tests.sim.world import Connection, World

NODES = ("db1", "db2", "db3")
SLOW_S = 0.05
KEYS = [b"key:%d" % number for number in range(12)]
KILLED_AFTER = range(1, 26)
"""Frames of the home."""


class Story:
    """A cluster whose every node has a subscriber."""

    def __init__(self, seed: int = 7, nodes: Sequence[str] = NODES) -> None:
        self.nodes = nodes
        self.world = World(seed, 256)
        self.world.cluster(len(nodes))
        self.world.run(4.0)
        self.ask("db1", (b"CONFIG", b"SET", b"notify-keyspace-events", b"KEA"))
        self.heard: dict[str, list[tuple[bytes, bytes]]] = {name: [] for name in nodes}
        self.on_heard: Callable[[bytes], None] = lambda _key: None
        for name in nodes:
            self._subscribe(name)
        self.world.run(self.world.now + 0.5)

    def _subscribe(self, name: str) -> None:
        def take(reply: Reply) -> None:
            if isinstance(reply, list) and reply[0] == b"pmessage":
                channel, text = reply[2], reply[3]
                assert isinstance(channel, bytes)
                assert isinstance(text, bytes)
                event = channel.partition(b":")[2], text
                self.heard[name].append(event)
                self.on_heard(event[0])

        connection = self.connect(name)
        connection.on_reply = take
        connection.send((b"PSUBSCRIBE", b"__keyspace@*__:*"))

    def connect(self, name: str) -> Connection:
        connection = self.world.connect(name)
        assert connection is not None, f"{name} listens"
        return connection

    def ask(self, name: str, *requests: tuple[bytes, ...], within: float = 1.0) -> list[Reply]:
        connection = self.connect(name)
        replies: list[Reply] = []
        connection.on_reply = replies.append
        connection.send(*requests)
        self.world.run(self.world.now + within)
        return replies

    def home_of(self, key: bytes) -> str:
        """Which node is home of it."""
        for name in self.nodes:
            node = self.world.hosts[name].node
            if node is not None and node.view.slot_of(key) in node.home.homes:
                return name
        raise AssertionError("nobody is home")


def test_every_node_is_told_once_of_every_change() -> None:
    story = Story()
    wanted: Counter[tuple[bytes, bytes]] = Counter()
    for number, key in enumerate(KEYS):
        story.ask(NODES[number % 3], (b"SET", key, b"1"), (b"INCR", key), (b"EXPIRE", key, b"1"), within=0.1)
        wanted.update([(key, b"set"), (key, b"incrby"), (key, b"expire"), (key, b"expired")])
    story.world.run(story.world.now + 3.0)
    for name in NODES:
        assert Counter(story.heard[name]) == wanted
        by_key = {key: [event for heard, event in story.heard[name] if heard == key] for key in KEYS}
        assert set(map(tuple, by_key.values())) == {(b"set", b"incrby", b"expire", b"expired")}, "in order"


def test_who_is_told_of_a_change_sees_it_on_every_node() -> None:
    """A node that is no owner hears of it before the owners do, reads from two of them, and its client keeps the old
    value in its cache for ever."""
    story = Story(nodes=(*NODES, "db4"))
    seen: list[Reply] = []
    readers = [story.connect(name) for name in story.nodes]
    for reader in readers:
        reader.on_reply = seen.append

    def read(key: bytes) -> None:
        for reader in readers:
            reader.send((b"GET", key))

    story.on_heard = read
    for key in KEYS:
        home = story.world.hosts[story.home_of(key)].node
        assert home is not None
        others = [peer.name for peer in home.view.others[home.view.slot_of(key)]]
        story.world.paths = {(home.settings.name, owner): (0.0, SLOW_S) for owner in others}
        story.ask("db2", (b"SET", key, b"new"), within=10 * SLOW_S)
    story.world.run(story.world.now + 1.0)
    assert seen == [b"new"] * (len(KEYS) * len(story.nodes) ** 2)


@pytest.mark.parametrize("frames", KILLED_AFTER)
def test_what_was_acknowledged_is_told_though_its_home_dies(frames: int) -> None:
    """The home dies at any moment between the request and the message; the client is answered by others."""
    story = Story(frames)
    key = next(key for key in KEYS if story.home_of(key) == "db1")
    story.world.hosts["db1"].after_frames(frames, story.world.hosts["db1"].kill)
    writer = story.connect("db2")
    answered: list[Reply] = []
    writer.on_reply = answered.append
    for number in range(8):
        writer.send((b"RPUSH", key, b"%d" % number))
        story.world.run(story.world.now + 0.003)
    story.world.run(story.world.now + 6.0)
    assert answered == list(range(1, 9))
    assert story.world.hosts["db1"].node is None
    for name in ("db2", "db3"):
        assert story.heard[name].count((key, b"rpush")) >= 8


def test_a_home_that_is_deposed_before_it_knows_what_is_chosen_tells_it() -> None:
    """db1 runs it, db3 accepts it and answers its client; db2, which has it not, takes over before db1 hears of it."""
    story = Story()
    key = next(key for key in KEYS if story.home_of(key) == "db1")
    story.world.paths = {("db1", "db2"): (0.0, SLOW_S), ("db3", "db1"): (0.0, SLOW_S)}
    writer = story.connect("db3")
    answered: list[Reply] = []
    writer.on_reply = answered.append
    writer.send((b"SET", key, b"1"))
    while not answered:
        story.world.step()
    rival = story.world.hosts["db2"]
    node = rival.node
    assert node is not None
    rival.input(lambda _now: node.takeover.want([node.view.slot_of(key)]))
    story.world.run(story.world.now + 2.0)
    assert story.home_of(key) == "db2"
    assert [(key, b"set") in heard for heard in story.heard.values()] == [True] * 3


def test_a_read_of_what_is_not_there_is_told_on_every_node_once() -> None:
    """Any owner could answer it, and tell nobody; so it is the home that is asked while somebody wants to know."""
    story = Story()
    one, other = KEYS[:2]
    assert story.ask("db1", (b"GET", one), (b"MGET", one, other)) == [None, [None, None]]
    story.ask("db2", (b"CONFIG", b"SET", b"notify-keyspace-events", b"KAm"))
    story.world.run(story.world.now + 0.5)
    assert not any(story.heard.values())
    for name in NODES:
        assert story.ask(name, (b"SET", one, b"1"), (b"GET", one), (b"GET", other))[2] is None
    assert story.ask("db3", (b"MGET", one, other, b"none")) == [[b"1", None, None]]
    assert story.ask("db1", (b"MULTI",), (b"GET", b"none"), (b"EXEC",))[-1] == [None]
    for name in NODES:
        assert [event for event in story.heard[name] if event[0] == one] == [(one, b"set")] * 3
        assert [event for event in story.heard[name] if event[0] == other] == [(other, b"keymiss")] * 4
        assert [event for event in story.heard[name] if event[0] == b"none"] == [(b"none", b"keymiss")] * 2


def test_reads_of_several_slots_at_one_moment_tell_of_what_is_not_there_once() -> None:
    story = Story()
    story.ask("db2", (b"CONFIG", b"SET", b"notify-keyspace-events", b"Km"), (b"SADD", KEYS[0], b"x"))
    assert story.ask("db3", (b"SUNION", *KEYS[:3]))[-1] == [b"x"]
    assert story.ask("db1", (b"MULTI",), (b"GET", KEYS[1]), (b"GET", KEYS[2]), (b"EXEC",))[-1] == [None, None]
    for name in NODES:
        assert Counter(story.heard[name]) == Counter({(key, b"keymiss"): 2 for key in KEYS[1:3]})


def test_what_nodes_ask_each_other_is_no_look_at_a_key() -> None:
    """WATCH, holds, and what is noted for clients that track."""
    story = Story()
    one, other = KEYS[:2]
    story.ask("db2", (b"CONFIG", b"SET", b"notify-keyspace-events", b"Km"))
    story.ask("db1", (b"WATCH", one, other), (b"MULTI",), (b"SET", one, b"1"), (b"SET", other, b"1"), (b"EXEC",))
    story.ask("db3", (b"CLIENT", b"TRACKING", b"ON"), (b"MULTI",), (b"GET", one), (b"GET", b"none"), (b"EXEC",))
    story.ask("db3", (b"CLIENT", b"TRACKING", b"ON"), (b"OBJECT", b"ENCODING", b"none"), (b"GET", b"none"))
    for name in NODES:
        assert story.heard[name] == [(b"none", b"keymiss")] * 2


def test_nothing_is_told_of_what_the_cluster_keeps_for_itself() -> None:
    story = Story()
    story.ask("db1", (b"EVAL", b"return 1", b"0"), (b"SCRIPT", b"FLUSH"), (b"PING",))
    assert not any(story.heard.values())


def test_no_message_is_lost_when_a_node_joins() -> None:
    """Those that cross the change of the topology are in frames of another epoch (E1): db3 learns of it last."""
    story = Story()
    world = story.world
    world.paths = {("db1", "db3"): (0.0, SLOW_S), ("db2", "db3"): (0.0, SLOW_S)}
    publishers = [story.connect(name) for name in NODES]
    settings = world.hosts["db3"].settings
    seeds = tuple(("127.0.0.1", host.settings.port) for host in world.hosts.values())
    world.paths["db4", "db3"] = 0.0, SLOW_S
    world.add(replace(settings, name="db4", port=7009, peer_port=17009, seeds=seeds))
    world.run(world.now + 1.5)
    count = 1000
    for number in range(count):
        for publisher in publishers:
            publisher.send((b"PUBLISH", b"__keyspace@0__:%d" % number, b"m"))
        world.run(world.now + 0.001)
    node = world.hosts["db1"].node
    assert node is not None
    assert node.view.epoch > 1, "it is on its way into the cluster"
    world.run(world.now + 10.0)
    for name in NODES:
        assert Counter(story.heard[name]) == Counter({(b"%d" % number, b"m"): 3 for number in range(count)})


def test_a_transaction_over_several_slots_tells_of_what_it_does() -> None:
    story = Story()
    one, other = KEYS[:2]
    commands = ((b"SET", one, b"1"), (b"RENAME", one, other), (b"LPUSH", b"l", b"x"), (b"LPOP", b"l"))
    assert story.ask("db3", (b"MULTI",), *commands, (b"EXEC",))[-1] == ["OK", "OK", 1, b"x"]
    wanted = [(one, b"set"), (one, b"rename_from"), (other, b"rename_to")]
    wanted += [(b"l", event) for event in (b"lpush", b"lpop", b"del")]
    for name in NODES:
        assert Counter(story.heard[name]) == Counter(wanted)
        for key in (one, b"l"):
            assert [e for e in story.heard[name] if e[0] == key] == [e for e in wanted if e[0] == key]


def test_what_is_told_is_a_setting_of_the_cluster() -> None:
    """It is made anywhere, the later one holds, and who comes back learns it."""
    story = Story()
    shown = [story.ask(name, (b"CONFIG", b"GET", b"notify-keyspace-events"))[0] for name in NODES]
    assert shown == [[b"notify-keyspace-events", b"AKE"]] * 3
    story.world.hosts["db3"].kill()
    story.ask("db2", (b"CONFIG", b"SET", b"notify-keyspace-events", b"xE"))
    story.world.hosts["db3"].start()
    story.world.run(story.world.now + 5.0)
    for name in NODES:
        assert story.ask(name, (b"CONFIG", b"GET", b"notify-keyspace-events"))[0] == [b"notify-keyspace-events", b"xE"]


def test_nothing_is_looked_at_when_nobody_observes_any_more() -> None:
    """All slots would take the long way from the first CONFIG SET on."""
    story = Story()
    node = story.world.hosts["db1"].node
    assert node is not None
    assert sum(node.home.timed) == len(node.home.homes)
    story.ask("db2", (b"CONFIG", b"SET", b"notify-keyspace-events", b""), (b"SET", KEYS[0], b"1", b"EX", b"100"))
    home = story.world.hosts[story.home_of(KEYS[0])].node
    assert home is not None
    assert sum(home.home.timed) == 1, "of the key that has a deadline"
    assert not story.heard["db1"]


def test_operations_are_run_in_line_where_nobody_observes_and_only_there() -> None:
    """Each would take twice as long, of everybody (`kernel.batches.run`)."""
    story = Story()
    calls: list[bytes] = []
    whole = Home.run_one

    def run_one(self: Home, origin: Any, ticket: int, request: Sequence[bytes], after: int) -> None:
        calls.append(request[1])
        whole(self, origin, ticket, request, after)

    def count() -> int:
        calls.clear()
        story.ask("db2", *[(b"SET", key, b"1") for key in KEYS])
        return len(calls)

    with patch.object(Home, "run_one", run_one):
        assert count() == len(KEYS)
        for nothing in (b"", b"A", b"KEed"):
            story.ask("db2", (b"CONFIG", b"SET", b"notify-keyspace-events", nothing))
            assert count() == 0
        story.ask("db3", (b"CONFIG", b"SET", b"notify-keyspace-events", b"Kx"))
        assert count() == len(KEYS)


# -- bounds


class _Peer:
    up = True
    process = 1

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def tell(self, *what: Any) -> None:
        self.said.append(what)


def _notices() -> tuple[Any, list[Notice], Any]:
    peer: Any = _Peer()
    found: Any = Notices(SimpleNamespace(peers={1: peer}))  # type: ignore[arg-type]
    told: list[Notice] = []
    found.listeners.append(told.extend)
    return found, told, peer


def _notice(number: int, size: int = 10) -> Notice:
    return 1, number, (), [(4, b"del", b"%0*d" % (size, number))]


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_what_is_beyond_the_bound_is_told_at_once_the_oldest_first(size: int) -> None:
    """A home whose owners are slow would keep more and more."""
    most = min(notices.NOTICES_MAX, notices.BYTES_MAX // size_of(_notice(0, size)))
    found, told, _ = _notices()
    for number in range(most + 5):
        found.note("home", number, 1, _notice(number, size))
    assert [ticket for _, ticket, _, _ in told] == [*range(5)]
    assert found.counters.told_early == 5
    assert "5 were told before" in found.look(1)
    assert not found.look(1), "once"
    found.chosen("home", most + 5)
    assert [ticket for _, ticket, _, _ in told] == [*range(most + 5)]
    assert (found.counters.told, found.untold) == (most + 5, {})


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_an_owner_keeps_no_more_than_it_may(size: int) -> None:
    most = min(notices.NOTICES_MAX, notices.BYTES_MAX // size_of(_notice(0, size)))
    found, told, peer = _notices()
    for number in range(most + 5):
        found.keep(peer, number, [_notice(number, size)])
    assert found.counters.dropped == 5
    assert "5 were not kept" in found.look(1)
    found.told_by(peer, 6)
    found.lost(peer)
    assert [ticket for _, ticket, _, _ in told] == [*range(7, most + 5)]
    assert found.counters.stood_in == most - 2


def test_owners_are_told_what_they_need_keep_no_more_when_it_is_on_its_way() -> None:
    found, _, peer = _notices()
    found.offered(peer, 3, [_notice(1)])
    found.note("home", 1, 3, _notice(1))
    found.look(3)
    found.chosen("home", 1)
    found.look(4)
    assert [what for what in peer.said if what[0] == "told"] == [("told", 0), ("told", 2)]
    found.look(5)
    found.look(6)
    assert peer.said[-1] == ("told", 4), "and nothing behind that"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("notices", [1, [[1, 2, [b"k"]]]]),
        ("notices", [1, [[1, 2, ["k"], []]]]),
        ("notices", [1, [[1, 2, [b"k"], [1, b"del"]]]]),
        ("notices", [1, [[1, 2, [b"k"], [1 << 16, b"del", b"k"]]]]),
        ("notices", [1, [[1, -2, [b"k"], []]]]),
        ("notices", [1, [None]]),
        ("notices", [-1, []]),
        ("told", [-1]),
        ("notifies", [1 << 16, 1]),
        ("notifies", [1, b"1"]),
    ],
)
def test_what_no_peer_says_is_refused(name: str, values: list[Any]) -> None:
    tell = TELLS[name]
    with pytest.raises((ValueError, TypeError)):
        [check(value, SLOTS) for check, value in zip(tell.checks, values, strict=True)]


# -- the test of the tests


def test_who_tells_before_it_is_chosen_is_noticed() -> None:
    """N1."""

    def note(self: Notices, _home: Any, _position: int, _turn: int, notice: Notice) -> None:
        self._tell([notice])

    with patch.object(Notices, "note", note), pytest.raises(AssertionError):
        test_who_is_told_of_a_change_sees_it_on_every_node()


def test_owners_that_do_not_stand_in_for_a_home_are_noticed() -> None:
    """N2: the home has died between the changes and the messages."""

    def lost(self: Notices, home: Any) -> None:
        while home in self._kept:
            self._let_go(home)

    def keep(self: Notices, home: Any, turn: int, found: list[Notice]) -> None:
        if home.up:
            whole(self, home, turn, found)

    whole = Notices.keep
    with patch.object(Notices, "lost", lost), patch.object(Notices, "keep", keep):
        untold = sum(map(_is_untold, KILLED_AFTER))
    assert untold


def test_a_home_that_forgets_what_it_has_not_told_when_it_is_deposed_is_noticed() -> None:
    """N1."""

    def drop(self: Notices, home: Any) -> None:
        while home in self.untold:
            self._taken(home, self.untold[home])

    with patch.object(Notices, "drop", drop), pytest.raises(AssertionError):
        test_a_home_that_is_deposed_before_it_knows_what_is_chosen_tells_it()


def test_messages_that_are_not_read_in_another_epoch_are_noticed() -> None:
    with patch.object(Node, "_take_messages"), pytest.raises(AssertionError):
        test_no_message_is_lost_when_a_node_joins()


def _is_untold(frames: int) -> bool:
    try:
        test_what_was_acknowledged_is_told_though_its_home_dies(frames)
    except AssertionError:
        return True
    return False
