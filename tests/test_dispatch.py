"""Clients of whole nodes under the simulated network: order, one reply each, and nobody hurt by another's input."""

from __future__ import annotations

import pytest

from peerkv.resp import Reply, ReplyError, encode_request
from tests.sim.world import Connection, World


class Talk:
    """One client, and what it was answered."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        connection = world.connect(name)
        assert connection is not None
        self.connection: Connection = connection
        self.replies: list[Reply] = []
        connection.on_reply = self.replies.append

    def send(self, *requests: tuple[bytes, ...]) -> None:
        self.connection.send(*requests)

    def raw(self, data: bytes) -> None:
        """One buffer, whatever is in it."""
        self.connection.arrive(data)

    def ask(self, *requests: tuple[bytes, ...]) -> list[Reply]:
        self.replies.clear()
        self.send(*requests)
        self.world.run(self.world.now + 2.0)
        return list(self.replies)


@pytest.fixture(scope="module")
def world() -> World:
    running = World(3)
    running.cluster(3)
    running.run(8.0)
    return running


@pytest.fixture
def talk(world: World) -> Talk:
    return Talk(world, "db2")


def test_an_error_that_repeats_bytes_that_are_no_text_comes_back_from_any_home(talk: Talk) -> None:
    """It ended the home, and then the next one."""
    for number in range(12):
        key = b"k%d" % number
        (reply,) = talk.ask((b"EXPIRE", key, b"10", b"\xff"))
        assert reply == ReplyError("ERR Unsupported option \udcff")


def test_error_replies_are_counted_by_their_codes(talk: Talk) -> None:
    talk.ask((b"CONFIG", b"RESETSTAT"))
    talk.ask((b"NONSENSE",), (b"SET", b"k", b"text"), (b"INCR", b"k"), (b"MGET", b"k"))
    (reply,) = talk.ask((b"INFO", b"stats", b"errorstats"))
    assert isinstance(reply, bytes)
    assert {b"total_error_replies:2", b"errorstat_ERR:count=2"} <= set(reply.split())


def test_flushall_is_over_before_what_the_same_client_sends_later(talk: Talk) -> None:
    """A SET acknowledged behind a FLUSHALL was gone."""
    for number in range(5):
        talk.ask(*[(b"SET", b"key%d" % n, b"old") for n in range(50)])
        talk.send((b"FLUSHALL",))
        talk.world.run(talk.world.now + 0.002)
        talk.send((b"SET", b"key%d" % number, b"new"))
        assert talk.ask((b"GET", b"key%d" % number), (b"DBSIZE",))[-2:] == [b"new", 1]


def test_a_protocol_changed_a_thousand_times_in_one_buffer_is_no_recursion(talk: Talk) -> None:
    talk.raw(b"DBSIZE\r\n" + b"HELLO 3\r\nHELLO 2\r\n" * 600 + b"PING\r\n")
    talk.world.run(talk.world.now + 2.0)
    assert len(talk.replies) == 1202
    assert talk.replies[-1] == "PONG"


def test_what_came_before_a_protocol_error_is_run(talk: Talk) -> None:
    requests = [(b"DBSIZE",), (b"SET", b"before", b"1"), (b"ECHO", b"done")]
    talk.raw(b"".join(map(encode_request, requests)) + b"*1\r\nx\r\n")
    talk.world.run(talk.world.now + 2.0)
    assert talk.replies[1:3] == ["OK", b"done"]
    assert isinstance(talk.replies[3], ReplyError)
    assert talk.connection.session.closing


def test_client_reply_skip_covers_the_next_command_and_no_other(talk: Talk) -> None:
    skip = (b"CLIENT", b"REPLY", b"SKIP")
    assert talk.ask(skip, (b"FOO",), (b"ECHO", b"x")) == [b"x"]
    assert talk.ask(skip, (b"GET",), (b"ECHO", b"x")) == [b"x"]
    assert talk.ask((b"GET", b"a"), skip, (b"SET", b"a", b"2"), (b"ECHO", b"x")) == [None, b"x"]
    assert talk.ask((b"SET", b"a", b"1"), skip, (b"DBSIZE",), (b"ECHO", b"x")) == ["OK", b"x"]
    assert talk.ask(skip, (b"HELLO", b"2"), (b"ECHO", b"x")) == [b"x"]


def test_client_kill_cuts_off_a_client_that_waits(world: World, talk: Talk) -> None:
    victim = Talk(world, "db2")
    victim.send((b"WAIT", b"9", b"0"), (b"SET", b"never", b"1"))
    world.run(world.now + 0.1)
    session = victim.connection.session
    assert talk.ask((b"CLIENT", b"KILL", b"ID", b"%d" % session.id)) == [1]
    assert session.closing
    assert not session.backlog
    assert talk.ask((b"CLIENT", b"KILL", b"SKIPME", b"maybe")) == [ReplyError("ERR syntax error")]


def test_a_client_gets_more_than_it_may_be_sent_at_a_time_bit_by_bit(world: World) -> None:
    """36 KB of requests were 1.5 GB of replies."""
    talk = Talk(world, "db3")
    talk.ask((b"SET", b"big", b"x" * 1_000_000))
    assert talk.ask(*[(b"GET", b"big")] * 300) == [b"x" * 1_000_000] * 300


def test_a_reply_that_is_too_large_is_an_error_that_says_so(world: World) -> None:
    talk = Talk(world, "db3")
    talk.ask((b"SET", b"big", b"x" * 1_000_000))
    reply, after = talk.ask((b"MGET", *[b"big"] * 300), (b"PING",))
    assert reply == ReplyError("ERR the reply would be of 300000000 bytes, at most 268435456 are allowed")
    assert after == "PONG"


def test_a_value_that_no_frame_could_carry_is_refused(talk: Talk) -> None:
    """It broke the links between the nodes, again and again."""
    (reply,) = talk.ask((b"SETRANGE", b"large", b"%d" % (64 << 20), b"x"))
    assert isinstance(reply, ReplyError)
    assert "maximum allowed size" in reply.text


def test_wall_time_is_right_soon_after_the_clocks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that start before NTP has set their clocks: EXPIREAT in 100 s must not be in twenty years, and what has
    600 s to live must keep them."""
    world = World(3)
    world.cluster(3, master=False)
    hosts = [world.hosts[name] for name in ("db1", "db2", "db3")]
    world.run(8.0)
    talk = Talk(world, "db2")
    years = 20 * 365 * 86400
    cluster_s = hosts[0].node.clock.cluster_ms // 1000
    talk.ask((b"SET", b"lock", b"v", b"EX", b"600"))

    def look(seconds: int, *wrong: str) -> None:
        for _ in range(seconds):
            world.run(world.now + 1.0)
            for host in hosts:
                node = host.node
                late = 0 if host.settings.name in wrong else years
                host.input(lambda now, node=node, late=late: node.wall(now, node.clock.cluster_ms / 1000 + late))

    look(10, "db1", "db2")  # one of three says so
    (told,) = talk.ask((b"TIME",))
    assert abs(int(told[0]) - cluster_s) < 60
    look(10, "db1")
    clock = hosts[1].node.clock
    now = clock.cluster_ms // 1000 + years
    requests = [
        (b"SET", b"k", b"v"),
        (b"EXPIREAT", b"k", b"%d" % (now + 100)),
        (b"TTL", b"k"),
        (b"EXPIRETIME", b"k"),
        (b"SET", b"s", b"v", b"EXAT", b"%d" % (now + 200)),
        (b"TTL", b"s"),
        (b"PEXPIRETIME", b"s"),
        (b"GETEX", b"s", b"PXAT", b"%d" % ((now + 300) * 1000)),
        (b"TTL", b"s"),
        (b"TTL", b"lock"),
        (b"TIME",),
        (b"EXPIREAT", b"k", b"-9223372036854775808"),
        (b"EXPIREAT", b"k", b"9223372036854775807"),
        (b"SET", b"k", b"v", b"EXAT", b"0"),
        (b"EXPIRETIME", b"none"),
        (b"EXPIREAT", b"k", b"%d" % (now - 1)),
        (b"EXISTS", b"k"),
        (b"EXPIRETIME", b"k", b"5"),
    ]
    replies = talk.ask(*requests)
    assert replies[:2] == ["OK", 1]
    for reply, near in ((replies[2], 100), (replies[5], 200), (replies[8], 300), (replies[9], 580)):
        assert near - 5 <= reply <= near
    assert abs(replies[3] - now - 100) <= 1
    assert abs(replies[6] - (now + 200) * 1000) <= 1000
    assert abs(int(replies[10][0]) - now) < 5
    assert isinstance(replies[11], ReplyError)
    assert isinstance(replies[12], ReplyError)
    assert isinstance(replies[13], ReplyError)
    assert replies[14:17] == [-2, 1, 0]
    assert replies[17] == ReplyError("ERR wrong number of arguments for 'expiretime' command")

    look(10)
    monkeypatch.setattr("peerkv.node.TELL_SKEW_S", 1e9)
    host = world.hosts["db3"]
    host.kill()
    host.start()  # it learns cluster time, and the skew, as it is linked
    while host.node.topology is None:
        look(1)
    look(1)
    (told,) = Talk(world, "db3").ask((b"TIME",))
    assert abs(int(told[0]) - host.node.clock.cluster_ms // 1000 - years) < 5
    assert host.node.clock.own_skew_ms == 0


KINDS = {
    b"string": [(b"SET", b"%b:string"), (b"APPEND", b"%b:appended")],
    b"list": [(b"RPUSH", b"%b:list")],
    b"set": [(b"SADD", b"%b:set")],
}


def test_scan_finds_keys_of_a_type_wherever_they_are(world: World) -> None:
    """It knew strings only."""
    everybody = [Talk(world, name) for name in ("db1", "db2", "db3")]
    everybody[0].ask((b"FLUSHALL",))
    expected: dict[bytes, set[bytes]] = {kind: set() for kind in (*KINDS, b"hash")}
    for number in range(12):
        for kind, requests in KINDS.items():
            for name, key in requests:
                everybody[0].send((name, key % (b"%d" % number), b"x"))
                expected[kind].add(key % (b"%d" % number))
        everybody[0].send((b"HSET", b"%d:hash" % number, b"f", b"v"))
        expected[b"hash"].add(b"%d:hash" % number)
    everybody[0].ask((b"SET", b"gone", b"1", b"PX", b"1"))
    world.run(world.now + 1.0)
    for talk in everybody:
        for kind in (*expected, b"STRING", b"zset", b"nothing"):
            found: set[bytes] = set()
            cursor = b"0"
            while True:
                (reply,) = talk.ask((b"SCAN", cursor, b"COUNT", b"20", b"TYPE", kind))
                assert isinstance(reply, list)
                cursor, keys = reply  # type: ignore[assignment]
                found |= set(keys)  # type: ignore[arg-type]
                if cursor == b"0":
                    break
            assert found == expected.get(kind.lower(), set()), kind


def test_what_is_gone_is_listed_no_more() -> None:
    """An owner that is behind has keys whose end was acknowledged: FLUSHALL, and KEYS listed them once in forty."""
    world = World(1)
    world.cluster(3, master=False)
    world.run(8.0)
    talks = [Talk(world, name) for name in ("db1", "db2", "db3")]

    def ask(number: int, *request: bytes) -> Reply:
        talk = talks[number % 3]
        talk.replies.clear()
        talk.send(request)
        while not talk.replies:
            world.step()
        return talk.replies[0]

    for number in range(60):
        for key in range(8):
            ask(number, b"SET", b"k%d" % key, b"v", b"EX", b"1000")
        assert ask(number + 1, b"FLUSHALL") == "OK"
        assert ask(number + 2, b"KEYS", b"*") == []


def test_what_has_expired_is_not_listed() -> None:
    """Redis leaves it out, although it is dropped later."""
    world = World(2)
    world.cluster(3, master=False)
    world.run(8.0)
    talk = Talk(world, "db1")
    talk.send(*[(b"SET", b"k%d" % key, b"v", b"PX", b"20") for key in range(50)])
    world.run(world.now + 0.03)
    talk.replies.clear()
    talk.send((b"KEYS", b"*"), (b"SCAN", b"0", b"COUNT", b"100"), (b"RANDOMKEY",))
    while len(talk.replies) < 3:
        world.step()
    assert talk.replies == [[], [b"0", []], None]
