"""Several connections that block, are pushed to, time out, are unblocked: who gets what beside a real redis-server.

A story is lines of `connection: REQUEST`, `wait SECONDS`, or `new CONNECTION` (it is closed, and another one takes its
place). Behind each line both sides must have answered the same on all connections; a `>` in place of the colon leaves
that to the next line, as what times out does so at no exact moment; an
`!` says that the answers do not matter. Where 7.2 is another than 7.0 nothing is asked: scripts may have BLPOP and its
like, who is woken asks anew (so it is told what a key is now, and of all keys what they hold), too large timeouts are
out of range, and not negative.
"""

from __future__ import annotations

import re
import shlex
import socket
import time
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

import pytest

from peerkv.resp import encode_request
from tests.clients.alone import Alone, Client
from tests.differential.servers import PLACES, Sockets
from tests.differential.trees import Tree, Trees
from tests.sim.world import Connection, World

CONNECTIONS: Final = 6
PATIENCE_S: Final = 5.0
STEP_S: Final = 0.15
"""Virtual seconds in which three nodes have done what there is to do; shorter than any timeout that is on trial."""


class Side(Protocol):
    """One of the two that are compared."""

    def send(self, connection: int, request: tuple[bytes, ...]) -> None:
        """Send a request, and let everything come of it that does so at once."""

    def take(self) -> list[list[Tree]]:
        """What has come since, by connection."""

    def wait(self, seconds: float) -> None: ...

    def renew(self, connection: int) -> None:
        """Close a connection, and open another one."""

    def id_of(self, connection: int) -> bytes:
        """As CLIENT ID has it."""


class Real:
    """A redis-server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._control = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._control_trees = Trees()
        self._ask(b"FLUSHALL")
        self._sockets: list[socket.socket] = []
        self._ids: list[bytes] = []
        for _ in range(CONNECTIONS):
            self._open()
        self._trees = [Trees() for _ in range(CONNECTIONS)]
        self._got: list[list[Tree]] = [[] for _ in range(CONNECTIONS)]

    def _open(self) -> None:
        self._sockets.append(socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S))
        self._sockets[-1].sendall(encode_request((b"CLIENT", b"ID")))
        self._ids.append(self._sockets[-1].recv(100)[1:-2])
        self._sockets[-1].setblocking(False)

    def _ask(self, *request: bytes) -> Tree:
        self._control.sendall(encode_request(request))
        while True:
            replies = self._control_trees.feed(self._control.recv(1 << 16))
            if replies:
                return replies[0]  # type: ignore[return-value]

    def send(self, connection: int, request: tuple[bytes, ...]) -> None:
        self._sockets[connection].sendall(encode_request(request))
        until = time.monotonic() + PATIENCE_S
        before = len(self._got[connection])
        while time.monotonic() < until:
            self._read()
            if len(self._got[connection]) > before:
                break
            _, line = self._ask(b"CLIENT", b"LIST", b"ID", self._ids[connection])
            if b" flags=b" in bytes(line) or b" flags=xb" in bytes(line):  # type: ignore[arg-type]
                break
        self._ask(b"PING")
        self._read()

    def _read(self) -> None:
        for number, connection in enumerate(self._sockets):
            try:
                while data := connection.recv(1 << 16):
                    self._got[number] += self._trees[number].feed(data)  # type: ignore[arg-type]
            except BlockingIOError:
                pass

    def take(self) -> list[list[Tree]]:
        self._read()
        found, self._got = self._got, [[] for _ in range(CONNECTIONS)]
        return found

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)
        self._ask(b"PING")

    def renew(self, connection: int) -> None:
        self._sockets[connection].close()
        self._open()
        self._sockets[connection], self._ids[connection] = self._sockets.pop(), self._ids.pop()
        self._trees[connection] = Trees()

    def id_of(self, connection: int) -> bytes:
        return self._ids[connection]

    def end(self) -> None:
        for connection in (*self._sockets, self._control):
            connection.close()


class OneNode:
    """A node by itself."""

    def __init__(self) -> None:
        self._alone = Alone(wall=time.time())
        self._clients: list[Client] = []
        for _ in range(CONNECTIONS):
            self._open()

    def _open(self) -> None:
        client = Client(self._alone)
        client._parser = Trees()
        self._clients.append(client)

    def send(self, connection: int, request: tuple[bytes, ...]) -> None:
        self._clients[connection].send(request)
        self._alone.turns()

    def take(self) -> list[list[Tree]]:
        found = [list(client.replies) for client in self._clients]
        for client in self._clients:
            client.replies.clear()
        return found  # type: ignore[return-value]

    def wait(self, seconds: float) -> None:
        self._alone.now += seconds
        self._alone.turns()

    def renew(self, connection: int) -> None:
        client = self._clients[connection]
        del self._alone.clients[client.session.id]
        self._alone.node.close(self._alone.now, client.session)
        self._alone.turns()
        self._open()
        self._clients[connection] = self._clients.pop()

    def id_of(self, connection: int) -> bytes:
        return b"%d" % self._clients[connection].session.id


class ThreeNodes:
    """A cluster in one process; connections are spread over its nodes."""

    def __init__(self) -> None:
        self._world = World(7, wall=time.time())
        self._world.cluster(PLACES, master=False)
        self._world.run(8.0)
        self._names = list(self._world.hosts)
        self._connections: list[Connection] = []
        self._got: list[list[Tree]] = [[] for _ in range(CONNECTIONS)]
        for number in range(CONNECTIONS):
            self._open(number)

    def _open(self, number: int) -> None:
        connection = self._world.connect(self._names[number % PLACES])
        assert connection is not None, "it runs"
        connection.replies = Trees()
        connection.on_reply = self._got[number].append  # type: ignore[assignment]
        self._connections.insert(number, connection)

    def send(self, connection: int, request: tuple[bytes, ...]) -> None:
        self._connections[connection].arrive(encode_request(request))
        self._world.run(self._world.now + STEP_S)

    def take(self) -> list[list[Tree]]:
        found = [list(got) for got in self._got]
        for got in self._got:
            got.clear()
        return found

    def wait(self, seconds: float) -> None:
        self._world.run(self._world.now + seconds)

    def renew(self, connection: int) -> None:
        self._connections.pop(connection).close()
        self._world.run(self._world.now + STEP_S)
        self._open(connection)

    def id_of(self, connection: int) -> bytes:
        return b"%d" % self._connections[connection].session.id


def told(side: Side, story: str) -> list[tuple[str, list[list[Tree]]]]:
    """What a side makes of a story: by line, what has come on each connection."""
    found = []
    for line in filter(None, map(str.strip, story.splitlines())):
        if line.startswith("wait "):
            side.wait(float(line[5:]))
        elif line.startswith("new "):
            side.renew(int(line[4:]))
        else:
            connection, sign, text = line[0], line[1], line[2:]
            words = [word.encode().decode("unicode_escape").encode("latin-1") for word in shlex.split(text)]
            request = tuple(
                LIST if word == b"@list" else side.id_of(int(word[2:])) if word.startswith(b"id") else word
                for word in words
            )
            side.send(int(connection), request)
            if sign == "!":
                side.take()
            if sign != ":":
                continue
        found.append((line, side.take()))
    return found


LIST: Final = bytes.fromhex("1201020d0d0000000200816102816202ff0a0068eb0a891341bbb1")
"""DUMP of a list of a and b."""

STORIES: Final[dict[str, str]] = {
    "who came first has it first": """
        1: BLPOP l 0
        2: BRPOP l 0
        3: BLMPOP 0 2 m l LEFT COUNT 5
        0: RPUSH l a b
        0: RPUSH l c d e
        0: LRANGE l 0 -1
    """,
    "the first key that has something": """
        0: RPUSH {t}b 1 2
        1: BLPOP {t}a {t}b {t}c 0
        2: BLPOP {t}a {t}c 0
        0: RPUSH {t}c 3
        0: RPUSH {t}a 4
        0: EXISTS {t}a {t}c
    """,
    "time runs out": """
        1> BLPOP l 0.05
        2> BLMOVE l m LEFT LEFT 0.05
        3> BZPOPMIN z 0.05
        4> BRPOPLPUSH l m 0.05
        5> BLMPOP 0.05 1 l LEFT
        wait 0.4
        1> BZMPOP 0.05 1 z MIN
        2> XREAD BLOCK 50 STREAMS s $
        3> BZPOPMAX z 0.05
        4> BRPOP l m n 0.05
        wait 0.4
        0: RPUSH l x
        0: ZADD z 1 x
        0: LLEN l
    """,
    "time runs out for one who speaks RESP3": """
        1! HELLO 3
        1> BLPOP l 0.05
        wait 0.4
        1> BLMOVE l m LEFT LEFT 0.05
        wait 0.4
        1> XREAD BLOCK 50 STREAMS s $
        wait 0.4
        1> BZMPOP 0.05 1 z MIN
        wait 0.4
        1: BZPOPMIN z 0
        0: ZADD z 1.5 a
        1: XREAD BLOCK 0 STREAMS s $
        0: XADD s 1-1 f v
    """,
    "unblocked": """
        1: BLPOP l 0
        2: BLPOP l 0
        3: BZPOPMIN l 0
        4: XREAD BLOCK 0 STREAMS s $
        5: BLMOVE l m LEFT RIGHT 0
        0: CLIENT UNBLOCK id1
        0: CLIENT UNBLOCK id2 ERROR
        0: CLIENT UNBLOCK id3 TIMEOUT
        0: CLIENT UNBLOCK id4 error
        0: CLIENT UNBLOCK id5 timeout
        0: CLIENT UNBLOCK id5
        0: CLIENT UNBLOCK id5 NOSUCH
        0: CLIENT UNBLOCK x
        0: CLIENT UNBLOCK 99999999
        0: RPUSH l a
        0: LLEN l
    """,
    "in MULTI and in scripts nobody waits": """
        1: MULTI
        1: BLPOP l 0
        1: BRPOP l m 0
        1: BLMOVE l m LEFT RIGHT 0
        1: BRPOPLPUSH l m 0
        1: BLMPOP 0 1 l LEFT
        1: BZPOPMIN z 0
        1: BZPOPMAX z 0
        1: BZMPOP 0 1 z MAX
        1: XREAD BLOCK 0 STREAMS s $
        1: EXEC
        0: EVAL "return redis.call('BLMPOP', 0, 1, KEYS[1], 'LEFT')" 1 l
        0: EVAL "return redis.pcall('BZMPOP', 0, 1, KEYS[1], 'MIN')" 1 z
        0: EVAL "return redis.pcall('XREAD', 'COUNT', 1, 'STREAMS', KEYS[1], '0')" 1 s
        0: EVAL "return redis.pcall('XREAD', 'BLOCK', 0, 'STREAMS', KEYS[1], '0')" 1 s
        0: EVAL "return redis.pcall('xread', 'block', 'x', 'streams', KEYS[1], '0')" 1 s
        0: EVAL "return redis.pcall('XREAD', 'COUNT', 'x', 'BLOCK', 0, 'STREAMS', KEYS[1], '0')" 1 s
        0: EVAL "return redis.pcall('XREAD', 'STREAMS', 'BLOCK', '0')" 1 BLOCK
        0: EVAL "return redis.call('XREAD', 'NOSUCH', 'BLOCK', 0, 'STREAMS', KEYS[1], '0')" 1 s
        0: XGROUP CREATE s g $ MKSTREAM
        0: EVAL "return redis.pcall('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', KEYS[1], '>')" 1 s
        0: EVAL "return redis.pcall('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>')" 1 s
        0: MULTI
        0: XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        0: BLPOP l nan
        0: EXEC
        0: PING
    """,
    "what a transaction or a script pushes": """
        1: BLPOP l 0
        2: BLPOP l 0
        0: MULTI
        0: RPUSH l a
        0: LPOP l
        0: EXEC
        0: MULTI
        0: RPUSH l a
        0: DEL l
        0: LPUSH l b c
        0: EXEC
        3: BLPOP l 0
        0: EVAL "redis.call('RPUSH', KEYS[1], 'x') redis.call('LPOP', KEYS[1]) return redis.call('LLEN', KEYS[1])" 1 l
        0: EVAL "return redis.call('RPUSH', KEYS[1], 'y', 'z')" 1 l
        0: LRANGE l 0 -1
    """,
    "wrong types": """
        0: SET s v
        1: BLPOP s 0
        1: BLMOVE s l LEFT LEFT 0
        1: BZPOPMIN s 0
        1: BLMPOP 0 1 s LEFT
        1: BZMPOP 0 1 s MIN
        1: BLPOP l s 0
        1: XREAD BLOCK 0 STREAMS s $
        1: BLPOP l 0
        2: BZPOPMIN l 0
        0: SET l v
        0: DEL l
        0: ZADD l 1 one
        3: BZPOPMIN l 0
        0: DEL l
        0: ZADD l 1 two
        0: RPUSH l x
        0: DEL l
        0: RPUSH l y
        0: EXISTS l
    """,
    "a target of another type": """
        0: SET {t}m v
        1: BLMOVE {t}l {t}m LEFT LEFT 0
        2: BLPOP {t}l 0
        0: RPUSH {t}l a
        0: LRANGE {t}l 0 -1
        1: BRPOPLPUSH {t}n {t}m 0
        0: RPUSH {t}n b
        0: LRANGE {t}n 0 -1
        1: PING
    """,
    "a list and a sorted set are waited for in turn": """
        1: BLPOP k 0
        2: BZPOPMAX k 0
        3: BLPOP k 0
        4: BZPOPMAX k 0
        0: ZADD k 1 a
        0: RPUSH k x
        0: RPUSH k y
        0: ZADD k 2 b 3 c
        0: ZRANGE k 0 -1
    """,
    "moved along": """
        1: BLMOVE a b LEFT RIGHT 0
        2: BLMOVE b c RIGHT LEFT 0
        3: BRPOPLPUSH c a 0
        4: BLPOP a 0
        0: RPUSH a x
        0: LRANGE a 0 -1
        1: BLMOVE a a LEFT RIGHT 0
        0: RPUSH a y
        0: LRANGE a 0 -1
    """,
    "keys that are moved into place": """
        1: BLPOP l 0
        0: RPUSH {l}o a
        0: RENAME {l}o l
        1: BLPOP l 0
        0: RPUSH {l}o b
        0: RENAMENX {l}o l
        1: BLPOP l 0
        0: RPUSH {l}o c
        0: COPY {l}o l
        1: BLPOP l 0
        0: RPUSH {l}p 3 1 2
        0: SORT {l}p STORE l
        0: LRANGE l 0 -1
        0: DEL l
        1: BZPOPMIN z 0
        0: ZADD {z}o 2 b 1 a
        0: ZUNIONSTORE z 1 {z}o
        1: BZPOPMAX z 0
        0: ZRANGESTORE z {z}o 0 -1
        1: BZMPOP 0 1 z MAX
        0: DEL z
        0: ZDIFFSTORE z 1 {z}o
        1: BZPOPMIN z 0
        0: DEL z
        0: GEOADD z 1 1 here
        1: BZPOPMIN z 0
        0: ZINCRBY z 3 d
        1: BLPOP l 0
        0: LMOVE {l}p l LEFT LEFT
        1: BLPOP l 0
        0: LINSERT l BEFORE x y
        0: RPUSHX l x
        0: LPUSHX l x
        0: RPOPLPUSH {l}p l
    """,
    "what is renamed there is of another type": """
        1: BLPOP l 0
        0: ZADD {l}o 1 a
        0: RENAME {l}o l
        0: RPUSH {l}p b
        0: RENAME {l}p l
        0: EXISTS l
    """,
    "moved to another database": """
        1: BLPOP l 0
        2: SELECT 3
        2: BLPOP l 0
        0: RPUSH l a
        0: RPUSH l b
        0: MOVE l 3
        3: BLPOP m 0
        2: RPUSH m x
        2: COPY m m DB 0
        3: BLPOP m 0
        2: MOVE m 0
        0: EXISTS l m
    """,
    "bad timeouts": """
        1: BLPOP l -inf
        1: BLPOP l nan
        1: BLPOP l -1
        1: BLPOP l x
        1: BLPOP l ''
        1: BLPOP l ' 1'
        1: BLPOP l '1 '
        1: BLPOP l 1_0
        1: BLPOP l -1e300
        1: BLPOP l 1e
        1: BLPOP l -0x1
        1: BLPOP l infx
        1: BLPOP l 0x1g
        1: BLPOP l 0x
        1: BLPOP l 1,5
        1: BLMPOP -1 1 l LEFT
        1: BLMPOP x 1 l LEFT
        1: BLMPOP 0 0 l LEFT
        1: BLMPOP 0 x l LEFT
        1: BLMPOP 0 2 l LEFT
        1: BLMPOP 0 1 l NOSUCH
        1: BLMPOP 0 1 l LEFT COUNT 0
        1: BLMPOP 0 1 l LEFT COUNT -1
        1: BLMPOP 0 1 l LEFT COUNT x
        1: BLMPOP nan 0 l LEFT
        1: BZMPOP 0 1 z LEFT
        1: BLMOVE l m LEFT UP 0
        1: BLMOVE l m LEFT LEFT -3
        1: BLMOVE l m UP LEFT nan
        1: BRPOPLPUSH l m nan
        1: BZPOPMIN z -1
        1: BZPOPMAX z nan
        1: XREAD BLOCK -1 STREAMS s $
        1: XREAD BLOCK x STREAMS s $
        1: XREAD BLOCK 1.5 STREAMS s $
        1: XREAD BLOCK inf STREAMS s $
        1: XREAD BLOCK 9223372036854775808 STREAMS s $
        1: XREAD BLOCK 0 STREAMS s >
        1: XREAD BLOCK 0 STREAMS s x
        1: XREAD BLOCK
        1: XREADGROUP BLOCK 0 STREAMS s >
        1: XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        1: XREADGROUP GROUP g c BLOCK -1 STREAMS s >
        0: RPUSH l a
        1: BLPOP l nan
        1: BLPOP l -1
        1: BLPOP l
        1: PING
    """,
    "hexadecimal and small timeouts": """
        1> BLPOP l 0x0.1
        wait 0.4
        1> BLPOP l 1e-2
        wait 0.4
        1> BLPOP l .05
        wait 0.4
        1> BLPOP l 0.0000001
        wait 0.4
        1> XREAD BLOCK 1 STREAMS s 0
        wait 0.4
        1: BLPOP l -0.0005
        0: RPUSH l a
        1: BLPOP l 1000000
        0: RPUSH l a
    """,
    "readers of a stream": """
        0: XADD s 1-1 f old
        1: XREAD BLOCK 0 STREAMS s $
        2: XREAD BLOCK 0 STREAMS s t 1-1 0
        3: XREAD COUNT 1 BLOCK 0 STREAMS t s 0 5-0
        4: XREAD BLOCK 0 STREAMS s 0
        0: XADD s 2-1 f new
        0: XADD s 5-1 f newer
        1: XREAD BLOCK 0 STREAMS s $
        2: XREAD BLOCK 0 STREAMS {s}t s $ $
        0: XADD {s}t 1-1 f a
        0: XADD s 6-1 f b
        1: XREAD BLOCK 0 STREAMS s $
        0: DEL s
        0: XADD s 1-1 f again
        1: XREAD BLOCK 0 STREAMS s 5-0
        0: XADD s 7-1 f later
    """,
    "what becomes of a stream that is read": """
        1: XREAD BLOCK 0 STREAMS s $
        0: SET s v
        0: DEL s
        0: RPUSH s x
        0: DEL s
        0: XADD {s}o 3-3 f v
        0: RENAME {s}o s
        1: XREAD BLOCK 0 STREAMS s $
        0: XADD {s}o 4-4 f w
        0: COPY {s}o s REPLACE
        1: XREAD BLOCK 0 STREAMS t 3-0
        0: XGROUP CREATE t g $ MKSTREAM
        0: XADD t 2-0 f v
        0: XADD t 3-1 f v
    """,
    "a group": """
        0: XGROUP CREATE s g $ MKSTREAM
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS s >
        0: XADD s 1-1 f one
        1: XREADGROUP GROUP g a BLOCK 0 COUNT 1 STREAMS s >
        2: XREADGROUP GROUP g b BLOCK 0 NOACK STREAMS s >
        0: XADD s 1-2 f two
        0: XADD s 1-3 f three
        0: XPENDING s g
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS s 0
        1: XREADGROUP GROUP g nobody BLOCK 0 STREAMS s 0
        1> XREADGROUP GROUP g a BLOCK 50 STREAMS s >
        wait 0.4
        0: XINFO GROUPS s
        1: XREADGROUP GROUP nosuch a BLOCK 0 STREAMS s >
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS nosuch >
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS s $
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS s >
        0: XGROUP CREATE s h 0
        2: XREADGROUP GROUP h a BLOCK 0 STREAMS s >
        0: XADD s 2-0 f four
    """,
    "a group that is destroyed while one waits": """
        0: XGROUP CREATE s g $ MKSTREAM
        0: XGROUP CREATE s h $ MKSTREAM
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS s >
        2: XREADGROUP GROUP h a BLOCK 0 STREAMS s >
        0: XGROUP DESTROY s g
        0: XADD s 1-1 f v
    """,
    "a group that is set back while one waits": """
        0: XADD s 1-1 f v
        0: XGROUP CREATE s g $
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS s >
        0: XGROUP SETID s g 0
        0: XADD s 2-1 f w
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS s >
        0: XDEL s 1-1
        0: XGROUP DELCONSUMER s g a
        0: XADD s 3-1 f x
    """,
    "the stream of a group becomes something else": """
        0: XGROUP CREATE s g $ MKSTREAM
        1: XREADGROUP GROUP g a BLOCK 0 STREAMS s >
        0: SET s v
        0: DEL s
        0: PING
    """,
    "clients that go": """
        1: BLPOP l 0
        2: BLPOP l 0
        new 1
        0: RPUSH l a
        1: BLPOP l m 0
        new 1
        0: RPUSH l b
        0: LRANGE l 0 -1
        1: PING
    """,
    "behind one that waits": """
        1: BLPOP l 0
        1> SET k v
        0: GET k
        0: RPUSH l a
        0: GET k
    """,
    "deleted and emptied": """
        1: BLPOP l 0
        0: DEL l
        0: FLUSHALL
        0: RPUSH l a
        1: BLPOP l 0
        0: SET l v
        0: EXPIRE l 100
        0: FLUSHDB
        0: RPUSH l b
    """,
    "restored": """
        1: BLPOP l 0
        0: RESTORE l 0 @list
        0: LRANGE l 0 -1
    """,
}


SAID_BY_7_2: Final[dict[bytes, Tree]] = {
    b"NOGROUP the consumer group this client was blocked on no longer exists": (
        b"-",
        b"NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option",
    ),
    b"UNBLOCKED the stream key no longer exists": (
        b"-",
        b"WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
}
"""What 7.0 says, and what there is in its place to whoever asks anew."""


def of_7_2(connections: list[list[Tree]]) -> list[list[Tree]]:
    """What 7.0 has said, in the words of 7.2."""
    return [
        [(SAID_BY_7_2.get(bytes(reply[1]), reply) if reply[0] == b"-" else reply) for reply in replies]
        for replies in connections
    ]


OURS: Final[dict[str, Callable[[], Side]]] = {"alone": OneNode, "cluster": ThreeNodes}


@pytest.fixture(scope="module")
def port(theirs: Sockets) -> int:
    """The redis-server's."""
    return theirs._ports[0]


OF_A_NODE: Final = ("unblocked",)
"""Stories that name clients, which is done at their nodes."""


@pytest.mark.parametrize(
    ("ours", "story"),
    [(ours, story) for ours in OURS for story in STORIES if ours == "alone" or story not in OF_A_NODE],
)
def test_who_waits_has_what_redis_gives(port: int, ours: str, story: str) -> None:
    real = Real(port)
    try:
        wanted = told(real, STORIES[story])
    finally:
        real.end()
    wanted = [(line, of_7_2(connections)) for line, connections in wanted]
    assert told(OURS[ours](), STORIES[story]) == wanted


# -- at random


KEYS: Final = (b"{r}a", b"{r}b", b"{r}c")
"""Of one slot, so that of several that become something at one moment all sides know which was first."""
TARGET: Final = b"{r}target"
"""Nobody waits for it: of two keys that come to hold something by one another 7.0 gives what was there first, 7.2 and
we what is named first. (7.0 also forgets to wake anybody if SORT STORE or ZUNIONSTORE replaces what is of another
type.)"""
ENDS: Final = (b"LEFT", b"RIGHT")


def waiting(rng: Random) -> tuple[bytes, ...]:
    """A request that may wait."""
    some = rng.sample(KEYS, rng.randint(1, 3))
    one = rng.choice(KEYS)
    count = b"%d" % len(some)
    return rng.choice(
        (
            (rng.choice((b"BLPOP", b"BRPOP")), *some, b"0"),
            (rng.choice((b"BLPOP", b"BRPOP")), one, b"0"),
            (b"BLMOVE", one, TARGET, *rng.choices(ENDS, k=2), b"0"),
            (b"BLMPOP", b"0", count, *some, rng.choice(ENDS), b"COUNT", b"%d" % rng.randint(1, 3)),
            (rng.choice((b"BZPOPMIN", b"BZPOPMAX")), *some, b"0"),
            (b"BZMPOP", b"0", count, *some, rng.choice((b"MIN", b"MAX")), b"COUNT", b"%d" % rng.randint(1, 3)),
        )
    )


def changing(rng: Random) -> tuple[bytes, ...]:
    """A request that does not."""
    one, other = rng.sample(KEYS, 2)
    elements = [b"%d" % rng.randrange(100) for _ in range(rng.randint(1, 3))]
    push = b"redis.call('RPUSH', KEYS[1], unpack(ARGV)) redis.call('LPOP', KEYS[1]) return redis.call('LLEN', KEYS[1])"
    return rng.choice(
        (
            (rng.choice((b"RPUSH", b"LPUSH")), one, *elements),
            (rng.choice((b"RPUSH", b"LPUSH")), one, *elements),
            (rng.choice((b"RPUSH", b"LPUSH")), one, *elements),
            (b"ZADD", one, *[word for element in elements for word in (element, b"m" + element)]),
            (b"ZADD", one, *[word for element in elements for word in (element, b"m" + element)]),
            (b"DEL", one),
            (b"DEL", *KEYS),
            (b"SET", one, b"v"),
            (b"RENAME", one, other),
            (b"COPY", one, other, b"REPLACE"),
            (b"LMOVE", one, other, *rng.choices(ENDS, k=2)),
            (b"EVAL", push, b"1", one, *elements),
            (b"LPOP", one),
            (b"LTRIM", one, b"1", b"-1"),
        )
    )


def reading(rng: Random) -> tuple[bytes, ...]:
    """A request for entries of streams that may wait."""
    some = rng.sample(KEYS, rng.randint(1, 2))
    count = (b"COUNT", b"%d" % rng.randint(1, 2)) if rng.random() < 0.5 else ()
    if rng.random() < 0.5:
        ids = [rng.choice((b"$", b"$", b"0", b"%d-0" % rng.randrange(40))) for _ in some]
        return b"XREAD", *count, b"BLOCK", b"0", b"STREAMS", *some, *ids
    group, consumer = rng.choice((b"g", b"h")), rng.choice((b"one", b"two"))
    acknowledged = (b"NOACK",) if rng.random() < 0.3 else ()
    ids = [rng.choice((b">", b">", b">", b"0")) for _ in some[:1]]
    return b"XREADGROUP", b"GROUP", group, consumer, *count, b"BLOCK", b"0", *acknowledged, b"STREAMS", some[0], *ids


def streaming(rng: Random) -> tuple[bytes, ...]:
    """A request that does not, on streams. (None tells of consumers: whoever waits is one in 7.2 alone.)"""
    one, other = rng.sample(KEYS, 2)
    group = rng.choice((b"g", b"h"))
    add = b"XADD", one, b"%d-%d" % (rng.randrange(40), rng.randrange(1, 40)), b"f", b"v"
    return rng.choice(
        (
            add,
            add,
            add,
            (b"XADD", one, b"%d-*" % rng.randrange(40), b"f", b"v"),
            (b"XGROUP", b"CREATE", one, group, rng.choice((b"$", b"0")), b"MKSTREAM"),
            (b"XGROUP", b"CREATE", one, group, rng.choice((b"$", b"0")), b"MKSTREAM"),
            (b"XGROUP", b"SETID", one, group, rng.choice((b"$", b"0", b"5-0"))),
            (b"XGROUP", b"DESTROY", one, group),
            (b"XGROUP", b"DELCONSUMER", one, group, b"one"),
            (b"XTRIM", one, b"MAXLEN", b"1"),
            (b"XDEL", one, b"1-1"),
            (b"XPENDING", one, group),
            (b"RENAME", one, other),
            (b"COPY", one, other),
            (b"DEL", one),
            (b"SET", one, b"v"),
        )
    )


GONE: Final = re.compile(rb"UNBLOCKED |NOGROUP |WRONGTYPE ")
"""What is said, in one version or the other, of a stream or a group that is none, or none any more."""


def _alike(connections: list[list[Tree]]) -> list[list[Tree]]:
    return [
        [(b"-", b"gone") if reply[0] == b"-" and GONE.match(reply[1]) else reply for reply in replies]
        for replies in connections
    ]


def at_random(real: Real, ours: Side, seed: int, length: int, *, streams: bool = False) -> str:
    """What differs in a story of that seed, with how it came to that; empty: nothing does."""
    rng = Random(seed)
    busy: set[int] = set()
    told: list[str] = []
    for _ in range(length):
        free = [number for number in range(1, CONNECTIONS) if number not in busy]
        if free and rng.random() < 0.5:
            connection, request = rng.choice(free), reading(rng) if streams else waiting(rng)
        else:
            connection, request = 0, streaming(rng) if streams else changing(rng)
        told.append(f"{connection}: {b' '.join(request).decode()}")
        for side in (real, ours):
            side.send(connection, request)
        wanted, found = real.take(), ours.take()
        if streams:
            wanted, found = _alike(wanted), _alike(found)
        if wanted != found:
            return "\n".join([*told, f"redis: {wanted}", f"ours:  {found}"])
        busy.add(connection)
        busy -= {number for number, replies in enumerate(wanted) if replies}
    return ""


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("seed", range(1, 7))
def test_who_waits_has_what_redis_gives_whatever_happens(port: int, seed: int, streams: bool) -> None:
    """On one node: where there is something for several who wait at several nodes they ask at the same time."""
    real = Real(port)
    try:
        assert at_random(real, OneNode(), seed, 60, streams=streams) == ""
    finally:
        real.end()
