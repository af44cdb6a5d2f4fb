"""Keyspace notifications beside a real redis-server's: the same events of every key in the same order, whatever is
asked for, by itself or in a transaction or a script."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import pytest

from peerkv.commands.table import COMMANDS, Kind
from peerkv.resp import encode_request
from tests.clients.alone import Alone, Client
from tests.differential.differences import LEXICAL, OF_7_2, POPS
from tests.differential.requests import ASKED, DATA_GROUPS, KEYS, Requests
from tests.differential.sequences import full_name
from tests.differential.servers import PATIENCE_S, Sockets
from tests.differential.trees import Trees, is_error

SEQUENCES = 25
LENGTH = 60
CLASSES = b"KEg$lshztn"
PLAYER, LISTENER = 0, 1

Events: TypeAlias = dict[bytes, list[bytes]]
"""By channel, in order."""

SCRIPT = b"local r = {} for i = 1, #ARGV do r[i] = ARGV[i] end return redis.pcall(unpack(r))"
DIFFERENT_IN_7_0 = dict.fromkeys(("xclaim", "xautoclaim"), "in 7.2 there is a consumer also where nothing was claimed")
"""Commands, and why they are not asked."""
NAMES = [
    name
    for name, facts in ASKED.items()
    if COMMANDS[name.partition("|")[0]].kind in (Kind.READ, Kind.WRITE, Kind.SPREAD)
    and facts.group in (*DATA_GROUPS, "generic")
    and name not in {*POPS, *LEXICAL, *DIFFERENT_IN_7_0}
]


class Ours:
    def __init__(self) -> None:
        self._alone = Alone()
        self._player, self._listener = Client(self._alone), Client(self._alone)
        self._player._parser = self._listener._parser = Trees()
        self._player._parser = Trees()
        self._player.ask((b"CONFIG", b"SET", b"notify-keyspace-events", CLASSES))
        self._listener.ask((b"PSUBSCRIBE", b"__key*__:*"))

    def ask(self, requests: Sequence[Sequence[bytes]]) -> tuple[bool, Events]:
        """Whether the last one was answered by an error, and what was told."""
        self._listener.replies = []
        replies = self._player.ask(*requests)
        until = self._alone.now + PATIENCE_S
        while len(replies) < len(requests) and self._alone.now < until:
            self._alone.turn()
            replies = self._player.replies
        return is_error(replies[-1]), _events(self._listener.replies)


class Theirs:
    def __init__(self, server: Sockets) -> None:
        self._server = server
        server.connect()
        server.ask(PLAYER, encode_request((b"CONFIG", b"SET", b"notify-keyspace-events", CLASSES)), 1)
        server.ask(LISTENER, encode_request((b"PSUBSCRIBE", b"__key*__:*")), 1)

    def ask(self, requests: Sequence[Sequence[bytes]]) -> tuple[bool, Events]:
        replies = self._server.ask(PLAYER, b"".join(map(encode_request, requests)), len(requests))
        told = self._server.ask(LISTENER, b"PING\r\n", 1)
        while b"pong" not in [leaf for _, leaf in told[-1][1][:1]]:
            told += self._server.ask(LISTENER, b"", 1)
        return is_error(replies[-1]), _events(told[:-1])

    def end(self) -> None:
        self._server.ask(PLAYER, encode_request((b"CONFIG", b"SET", b"notify-keyspace-events", b"")), 1)


def _events(messages: Sequence[object]) -> Events:
    """By the key's own channel. What is told on that of the event is the same, turned round."""
    found: Events = {}
    turned: Events = {}
    for message in messages:
        _, (_, _, (_, channel), (_, text)) = message  # type: ignore[misc]
        before, _, rest = channel.partition(b"@")
        database, _, name = rest.partition(b"__:")
        if before == b"__keyspace":
            found.setdefault(database + b" " + name, []).append(text)
        else:
            turned.setdefault(database + b" " + text, []).append(name)
    assert found == turned
    return found


@pytest.fixture
def sides(theirs: Sockets) -> Iterator[tuple[Ours, Theirs]]:
    other = Theirs(theirs)
    yield Ours(), other
    other.end()


def _is_asked(request: Sequence[bytes]) -> bool:
    name = full_name(request)
    return bool(request) and not (
        name in {*POPS, *LEXICAL, *DIFFERENT_IN_7_0} or (name in OF_7_2 and OF_7_2[name](request))
    )


def _made(requests: Requests, rng: random.Random) -> list[tuple[bytes, ...]]:
    """What is asked for together."""
    several = [tuple(requests.of(rng.choice(NAMES))) for _ in range(rng.choice((1, 1, 1, 1, 3, 5)))]
    several = [request for request in several if _is_asked(request)]
    if len(several) == 1 and rng.random() < 0.2:
        keys = [word for word in several[0] if word in ALL_KEYS]
        return [(b"EVAL", SCRIPT, b"%d" % len(keys), *keys, *several[0])]
    if len(several) > 1:
        return [(b"MULTI",), *several, (b"EXEC",)]
    return several


ALL_KEYS = {key for pool in KEYS.values() for key in pool}


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_the_same_is_told(sides: tuple[Ours, Theirs], payloads: list[bytes], seed: int) -> None:
    ours, theirs = sides
    for side in sides:
        side.ask([(b"FLUSHALL",)])
    rng = random.Random(seed)
    requests = Requests(rng, payloads)
    for _ in range(LENGTH):
        together = _made(requests, rng)
        if not together:
            continue
        mine, other = ours.ask(together), theirs.ask(together)
        if mine[0] != other[0]:
            return  # they hold different things from here on; why they may is seen elsewhere
        assert mine[1] == other[1], together
