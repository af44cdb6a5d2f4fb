"""CLIENT TRACKING on a cluster: whoever changes a key, at whatever node, whoever is home of it, and whoever dies."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from peerkv.agreement.home import Home
from peerkv.agreement.peer import Peer
from peerkv.agreement.tracked import Tracked
from peerkv.clients.broadcasting import ANEW, Broadcasting
from peerkv.clients.session import Session
from peerkv.clients.tracking import Tracking
from peerkv.node import Node
from peerkv.resp import Reply
from tests.clients.alone import Alone, Client
from tests.sim.world import Connection, World

KEYS = [b"k%d" % number for number in range(12)]
NAMES = ("db1", "db2", "db3", "db4")


class Cache:
    """A client that keeps what it has read until it is told that it is another."""

    def __init__(self, world: World, name: str, *options: bytes) -> None:
        self.world = world
        self.options = options
        self.held: dict[bytes, Reply] = {}
        self.told: list[Reply] = []
        self.asked: deque[bytes] = deque()
        self.again = False
        """It reads at once what it is to forget."""
        self.connection: Connection | None = None
        self.connect(name)

    def connect(self, name: str) -> None:
        self.held.clear()
        self.asked.clear()
        connection = self.connection = self.world.connect(name)
        if connection is None:
            return
        connection.on_reply = self.hear
        connection.on_lost = self.lost
        self.asked += [b"", b""]
        connection.send((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON", *self.options))

    def lost(self) -> None:
        self.connection = None
        self.held.clear()

    def hear(self, reply: Reply) -> None:
        if isinstance(reply, list) and reply and reply[0] == b"invalidate":
            self.told.append(reply[1])
            if reply[1] is None:
                self.held.clear()
            else:
                for key in reply[1]:  # type: ignore[union-attr]
                    self.held.pop(key, None)  # type: ignore[arg-type]
                if self.again:
                    self.get(*reply[1])  # type: ignore[misc]
            return
        key = self.asked.popleft()
        if key and (reply is None or isinstance(reply, bytes)):
            self.held[key] = reply

    def get(self, *keys: bytes) -> None:
        if self.connection is not None:
            self.asked += keys
            self.connection.send(*((b"GET", key) for key in keys))


def cluster(seed: int, count: int = 3, replicas: int = 3) -> World:
    world = World(seed, 256)
    world.cluster(count, replicas)
    world.run(4.0)
    for name in NAMES[:count]:
        node(world, name).settings.change("follow_least", 1 << 30)  # homes stay where they are
    return world


def node(world: World, name: str) -> Node:
    found = world.hosts[name].node
    assert found is not None, f"{name} runs"
    return found


def cut(world: World, one: str, other: str) -> None:
    world.cuts |= {(one, other), (other, one)}


def ask(world: World, name: str, *requests: tuple[bytes, ...], within: float = 0.2) -> list[Reply]:
    connection = world.connect(name)
    assert connection is not None
    replies: list[Reply] = []
    connection.on_reply = replies.append
    connection.send(*requests)
    world.run(world.now + within)
    connection.close()
    return replies


def key_at(world: World, home: str) -> bytes:
    """One whose home that node is."""
    at = node(world, home)
    return next(key for key in (b"x%d" % n for n in range(10_000)) if at.view.slot_of(key) in at.home.homes)


@pytest.fixture(scope="module")
def still() -> World:
    return cluster(3)


@pytest.mark.parametrize("home", ["db1", "db2", "db3"])
@pytest.mark.parametrize("writer", ["db1", "db2", "db3"])
def test_a_change_by_any_node_is_told_wherever_the_home_is(still: World, writer: str, home: str) -> None:
    key = key_at(still, home)
    reader = Cache(still, "db1")
    reader.get(key)
    still.run(still.now + 0.2)
    before = reader.held[key]
    ask(still, writer, (b"INCR", key))
    assert reader.told == [[key]]
    assert key not in reader.held
    reader.get(key)
    still.run(still.now + 0.2)
    assert reader.held[key] != before
    ask(still, writer, (b"MULTI",), (b"INCR", key), (b"INCR", b"another"), (b"EXEC",))
    assert key not in reader.held


def test_one_that_was_read_by_many_is_told_to_all_and_is_forgotten(still: World) -> None:
    key = key_at(still, "db2")
    readers = [Cache(still, name) for name in ("db1", "db1", "db2", "db3")]
    for reader in readers:
        reader.get(key)
    still.run(still.now + 0.2)
    ask(still, "db3", (b"INCR", key), (b"INCR", key))
    assert [reader.told for reader in readers] == [[[key]]] * 4
    assert not any(key in of_slot.keys for of_slot in node(still, "db1").dispatcher.tracking._slots.values())


def test_flushall_anywhere_has_everybody_forget_everything(still: World) -> None:
    readers = [Cache(still, name) for name in ("db1", "db2", "db3")]
    still.run(still.now + 0.2)
    ask(still, "db2", (b"FLUSHALL",), within=2.0)
    assert [reader.told[-1] for reader in readers] == [None] * 3


def test_who_does_not_loop_is_told_of_others_behind_its_own(still: World) -> None:
    """A home that forgot the key with its own change would lose the other one."""
    key = key_at(still, "db2")
    reader = Cache(still, "db1", b"NOLOOP")
    reader.get(key)
    still.run(still.now + 0.2)
    assert reader.connection is not None
    reader.asked.append(b"")
    reader.connection.send((b"SET", key, b"own"))
    still.run(still.now + 0.2)
    assert reader.told == []
    ask(still, "db3", (b"SET", key, b"other"))
    assert reader.told == [[key]]


@pytest.mark.parametrize("writer", ["db1", "db2", "db3"])
def test_clients_with_prefixes_are_told_of_changes_by_any_node(still: World, writer: str) -> None:
    readers = [Cache(still, name, b"BCAST", b"PREFIX", b"p:") for name in ("db1", "db2", "db3")]
    still.run(still.now + 1.0)
    for reader in readers:
        reader.told.clear()
    ask(still, writer, (b"SET", b"p:1", b"v"), (b"SET", b"q:1", b"v"))
    assert [reader.told for reader in readers] == [[[b"p:1"]]] * 3
    for reader in readers:
        assert reader.connection is not None
        reader.connection.close()
    still.run(still.now + 1.0)
    assert not any(node(still, name).home.notices.keys for name in ("db1", "db2", "db3"))


def test_keys_beyond_the_limit_are_forgotten_and_their_clients_told() -> None:
    world = cluster(5)
    world.hosts["db1"].node.settings.change("tracking_table_max_keys", 10)  # type: ignore[union-attr]
    reader = Cache(world, "db1")
    reader.get(*(b"y%d" % number for number in range(50)))
    world.run(world.now + 1.0)
    assert len(reader.held) == node(world, "db1").dispatcher.tracking.keys == 10
    world.run(world.now + 1.0)
    assert sum(node(world, name).home.tracked.keys for name in ("db1", "db2", "db3")) == 10


def test_the_death_of_a_home_has_clients_forget_what_it_was_to_tell_of() -> None:
    world = cluster(7)
    key = key_at(world, "db2")
    reader = Cache(world, "db1")
    reader.get(key)
    world.run(world.now + 0.2)
    assert key in reader.held
    world.hosts["db2"].kill()
    ask(world, "db3", (b"INCR", key), within=3.0)
    assert key not in reader.held


def test_a_home_that_is_cut_off_from_the_other_owners_tells_so() -> None:
    """Its own links to the reader stand: nobody else would tell the reader that there is another home."""
    world = cluster(9)
    key = key_at(world, "db2")
    reader = Cache(world, "db1")
    reader.get(key)
    world.run(world.now + 0.2)
    cut(world, "db2", "db3")
    world.run(world.now + 2.0)
    ask(world, "db3", (b"SET", key, b"new"), within=3.0)
    assert reader.held.get(key) in (None, b"new")


# -- what is told of prefixes


def prefixed(world: World, home: str) -> bytes:
    at = node(world, home)
    return next(key for key in (b"p:%d" % n for n in range(10_000)) if at.view.slot_of(key) in at.home.homes)


def test_the_prefixes_of_a_node_that_is_an_epoch_behind_are_known() -> None:
    """It says so once; who does not read it, as it comes from another epoch, tells it of nothing ever after."""
    world = cluster(21)
    world.paths = {(name, "db3"): (0.0, 0.05) for name in ("db1", "db2", "db4", "master")}
    seeds = tuple(("127.0.0.1", host.settings.port) for host in world.hosts.values())
    settings = world.hosts["db3"].settings
    world.add(replace(settings, name="db4", port=7009, peer_port=17009, seeds=seeds))
    while node(world, "db1").view.epoch == node(world, "db3").view.epoch:
        world.run(world.now + 0.001)
    assert node(world, "db1").view.epoch > node(world, "db3").view.epoch
    reader = Cache(world, "db3", b"BCAST", b"PREFIX", b"p:")
    world.run(world.now + 15.0)
    reader.told.clear()
    key = prefixed(world, "db1")
    ask(world, "db2", (b"INCR", key))
    assert reader.told == [[key]]


def test_a_second_client_with_a_prefix_that_not_all_know_yet_forgets_what_they_did_not_tell() -> None:
    """db1 -> db2: slow. Both clients begin; the second reads; db2 changes it, and has not heard of the prefix."""
    world = cluster(22)
    world.paths = {("db1", "db2"): (0.0, 0.4)}
    key = prefixed(world, "db2")
    readers = [Cache(world, "db1", b"BCAST", b"PREFIX", b"p:") for _ in range(2)]
    readers[1].get(key)
    world.run(world.now + 0.25)
    assert key in readers[1].held
    ask(world, "db2", (b"INCR", key), within=2.0)
    assert key not in readers[1].held


def test_who_could_not_be_told_for_a_moment_forgets_what_it_has() -> None:
    """A peer dials us anew: we are told to forget, and read; it changes a key before it learns that its link stands."""
    alone = Alone()
    reader = Client(alone)
    reader.ask((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON", b"BCAST"))
    reader.replies = []
    alone.node.dispatcher.tracking.broadcasting.hear(alone.node.view.peer(7, "other"), [], ANEW, 0)
    alone.turns()
    assert reader.replies == [[b"invalidate", None]]


def test_what_is_told_before_it_is_chosen_is_told_again_when_it_is() -> None:
    """home (run, accepted by nobody yet) | PREPARE by next: deposed, tells of it   | a copy is sent
    next                                 | PREPARE .......                         | ......... is home, has the change
    reader                               |              told; reads of next, third: as before, and keeps that
    """
    world = cluster(23, 4)
    reader_at = "db4"
    key = next(
        key
        for key in (b"p:%d" % number for number in range(10_000))
        if reader_at not in [peer.name for peer in node(world, reader_at).view.order[slot(world, key)]]
    )
    number = slot(world, key)
    coming, third, home = (peer.name for peer in node(world, reader_at).view.order[number])
    take_over(world, home, number)
    world.run(world.now + 1.0)
    assert number in node(world, home).home.homes
    reader = Cache(world, reader_at, b"BCAST", b"PREFIX", b"p:")
    world.run(world.now + 1.0)
    reader.get(key)
    world.run(world.now + 0.2)
    reader.again = True
    slow = 0.0, 0.03
    world.paths = dict.fromkeys(((home, coming), (coming, home), (home, third), (third, home)), slow)
    world.paths[coming, third] = world.paths[third, coming] = 0.0, 0.3
    take_over(world, coming, number)
    assert ask(world, home, (b"INCR", key), within=3.0) == [1]
    assert number in node(world, coming).home.homes
    assert reader.held.get(key) in (None, b"1")


def slot(world: World, key: bytes) -> int:
    return node(world, "db1").view.slot_of(key)


def take_over(world: World, name: str, number: int) -> None:
    at = node(world, name)
    world.hosts[name].input(lambda _now: at.takeover.want([number]))


def test_prefixes_are_known_in_spite_of_a_load_that_never_ends() -> None:
    """Of five owners three must accept; some change always waits for that."""
    world = cluster(24, 5, replicas=5)
    writers = [world.connect(f"db{number}") for number in range(1, 6)]

    def write() -> None:
        for number, writer in enumerate(writers):
            assert writer is not None
            writer.send(*((b"INCR", b"%d:%d" % (number, key)) for key in range(20)))
        world.after(0.0005, write)

    write()
    reader = Cache(world, "db1", b"BCAST", b"PREFIX", b"p:")
    world.run(world.now + 2.0)
    assert reader.told == [None]


# -- one's own changes


def test_who_does_not_loop_is_not_told_of_its_own_transactions() -> None:
    world = cluster(25)
    keys = [key_at(world, "db2"), key_at(world, "db3")]
    reader = Cache(world, "db1", b"NOLOOP")
    reader.get(*keys)
    world.run(world.now + 0.2)
    assert reader.connection is not None
    script = b"redis.call('SET', KEYS[1], ARGV[1]); redis.call('SET', KEYS[2], ARGV[1])"
    own: list[tuple[bytes, ...]] = [
        (b"MULTI",),
        *((b"SET", key, b"own") for key in keys),
        (b"EXEC",),
        (b"MULTI",),
        (b"SET", keys[0], b"own"),
        (b"EXEC",),
        (b"EVAL", script, b"2", *keys, b"own"),
        (b"MSETNX", keys[0], b"own", keys[1], b"own"),
    ]
    reader.asked += [b""] * len(own)
    reader.connection.send(*own)
    world.run(world.now + 1.0)
    assert not reader.asked
    assert reader.told == []
    ask(world, "db3", *((b"SET", key, b"other") for key in keys))
    assert sorted(reader.told) == sorted([[key] for key in keys])  # type: ignore[type-var]


@pytest.mark.parametrize("options", [(), (b"BCAST",)], ids=["read", "bcast"])
@pytest.mark.parametrize("seed", [0, 2, 5])
def test_no_cache_is_stale_once_the_cluster_is_quiet_whoever_was_killed_meanwhile(
    seed: int, options: tuple[bytes, ...]
) -> None:
    assert stale(seed, *options) == []


def _forgets_when_deposed(patch: pytest.MonkeyPatch) -> None:
    def drop(tracked: Tracked, number: int) -> None:
        for of_node in tracked._nodes.values():
            tracked._add(number, -len(of_node.pop(number, ())))

    patch.setattr(Tracked, "drop", drop)


def _notes_most_reads(patch: pytest.MonkeyPatch) -> None:
    """As if it noted before or after the read, and missed what comes in between."""
    note, count = Tracked.note, iter(range(1 << 30))

    def noted(tracked: Tracked, number: int, keys: Sequence[bytes], peer: Peer, ticket: int) -> int:
        lost = next(count) % 4 == 0
        return tracked._view.me.process if lost else note(tracked, number, keys, peer, ticket)

    patch.setattr(Tracked, "note", noted)


def _trusts_that_it_is_home(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Home, "look", lambda _home, _hedge: None)


def _tells_before_the_reply(patch: pytest.MonkeyPatch) -> None:
    changed = Tracking.changed

    def told(tracking: Tracking, peer: Peer, keys: list[bytes], processes: list[int], tickets: list[int]) -> None:
        pending, tracking._pending = tracking._pending, {}
        changed(tracking, peer, keys, processes, tickets)
        tracking._pending = pending

    patch.setattr(Tracking, "changed", told)


def _trusts_lost_homes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tracking, "lose", lambda _tracking, _peer: None)
    patch.setattr(Tracking, "look", lambda _tracking: None)


def _broadcasts_before_replies(patch: pytest.MonkeyPatch) -> None:
    def at_once(tracking: Tracking, session: Session, keys: Sequence[bytes] | None) -> None:
        tracking._tell_keys(session, keys)

    patch.setattr(Tracking, "_tell_behind", at_once)


def _misses_nothing_it_thinks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broadcasting, "forget_all", lambda _broadcasting: None)
    patch.setattr(Broadcasting, "_known", lambda _broadcasting, _peer, _number: None)


@pytest.mark.parametrize(
    ("mutant", "seed", "options"),
    [
        (_forgets_when_deposed, 0, ()),
        (_notes_most_reads, 0, ()),
        (_trusts_that_it_is_home, 2, ()),
        (_tells_before_the_reply, 2, ()),
        (_trusts_lost_homes, 0, ()),
        (_broadcasts_before_replies, 5, (b"BCAST",)),
        (_misses_nothing_it_thinks, 0, (b"BCAST",)),
    ],
)
def test_a_rule_that_is_left_out_makes_caches_stale(
    monkeypatch: pytest.MonkeyPatch,
    mutant: Callable[[pytest.MonkeyPatch], None],
    seed: int,
    options: tuple[bytes, ...],
) -> None:
    mutant(monkeypatch)
    assert any(stale(again, *options) for again in (seed, seed + 1, seed + 2, seed + 3))


def stale(seed: int, *options: bytes, rounds: int = 3) -> list[tuple[bytes, Reply, Reply]]:
    """What caches hold that is another in the end of some round, in which a node was killed or cut off from another."""
    rng = random.Random(seed)
    world = cluster(100 + seed, 4)
    caches = [Cache(world, name, *options) for name in NAMES for _ in range(2)]
    found: list[tuple[bytes, Reply, Reply]] = []
    held = 0
    for _ in range(rounds):
        down = ""
        for step in range(40):
            up = [name for name in NAMES if name != down]
            for cache in caches:
                if cache.connection is None:
                    cache.connect(rng.choice(up))
                asked = rng.choices(KEYS, k=rng.randrange(4))
                cache.get(*(key for key in asked if key not in cache.held))
            for _ in range(rng.randrange(3)):
                writer = world.connect(rng.choice(up))
                if writer is not None:
                    writer.send((b"INCR", rng.choice(KEYS)), (b"DEL", rng.choice(KEYS)))
            if step == 15 and rng.random() < 0.5:
                down = rng.choice(NAMES)
                world.hosts[down].kill()
            elif step == 15:
                cut(world, *rng.sample(NAMES, 2))
            world.run(world.now + rng.uniform(0.001, 0.1))
        world.run(world.now + 3.0)
        found += look(world, caches, next(name for name in NAMES if name != down))
        held += sum(len(cache.held) for cache in caches)
        world.heal()
        if down:
            world.hosts[down].start()
        world.run(world.now + 5.0)
    assert held > 0 or options, "what is broadcast is forgotten whenever a link breaks"
    return found


def look(world: World, caches: list[Cache], name: str) -> list[tuple[bytes, Reply, Reply]]:
    (values,) = ask(world, name, (b"MGET", *KEYS), within=2.0)
    assert isinstance(values, list)
    now = dict(zip(KEYS, values, strict=True))
    return [(key, held, now[key]) for cache in caches for key, held in cache.held.items() if held != now[key]]
