"""Sequences of requests: made by chance, sent to both sides, judged reply by reply, and cut short where they differ."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from peerkv.commands.table import COMMANDS, Kind, find, fits, keys_of
from peerkv.resp import encode_request
from peerkv.ring.keys import slot_of
from tests.differential.differences import (
    LEXICAL,
    OF_7_2,
    ONE_AT_A_TIME,
    PAGES,
    POPS,
    SCRIPT,
    SORTS,
    Asked,
    alike,
    is_in_any_order,
)
from tests.differential.requests import Requests
from tests.differential.servers import PLACES, Server
from tests.differential.trees import Tree, is_error, leaves, shape, shown

LENGTH: Final = 60
"""Requests of a sequence, about."""
PAGES_MAX: Final = 2000
EXPIRES_S: Final = 0.03
BROKEN: Final = [
    *(b"*1\r\nx\r\n", b"*3\r\n$-1\r\n", b'set "a\r\n', b"*3000000000\r\n", b'GET "a"b\r\n', b"*1\r\n$99999999999\r\n"),
    *(b"*x\r\n", b"*1\r\n$x\r\n", b"GET 'a\r\n", b"*2\r\n$3\r\nGET\r\n:1\r\n", b"*-5\r\nQUIT\r\n", b"\r\n\r\nQUIT\r\n"),
    *(b"QUIT\r\nPING\r\n", b"*0\r\nQUIT\r\n", b"quit now\r\n"),
]
"""What ends a connection."""


@dataclass(frozen=True)
class Buffer:
    """What is sent at a time, to one place."""

    place: int
    requests: tuple[tuple[bytes, ...], ...]
    inline: bool = False
    wait: float = 0.0
    """Seconds to pass afterwards."""
    silent: bool = False
    """Not all of it is answered; the last request is."""
    broken: bytes = b""
    """In place of requests: the connection is closed."""
    block: bool = False
    """From MULTI to its end."""
    apart: bool = False
    """Each is sent when the one before has been answered."""

    @property
    def data(self) -> bytes:
        return self.broken or b"".join([_inline(r) if self.inline else encode_request(r) for r in self.requests])


@dataclass(frozen=True)
class Story:
    """Buffers, one after another."""

    protocol: int
    buffers: tuple[Buffer, ...]


@dataclass
class Difference:
    """Two replies that should be the same."""

    sequence: Story
    request: tuple[bytes, ...]
    ours: str
    theirs: str
    told: list[str] = field(default_factory=list)

    @property
    def kind(self) -> tuple[str, str, str]:
        """What it has in common with others that are the same fault, probably."""
        return full_name(self.request), _essence(self.ours), _essence(self.theirs)

    def __str__(self) -> str:
        lines = [f"RESP{self.sequence.protocol}"]
        for buffer in self.sequence.buffers:
            told = buffer.broken.decode("latin-1").encode("unicode_escape").decode()
            told = told or " | ".join([_inline(request).decode().strip() for request in buffer.requests])
            form = "inline " * buffer.inline + "apart " * buffer.apart + f"wait {buffer.wait} s " * bool(buffer.wait)
            lines.append(f"    at {buffer.place}: {form}{told[:2000]}")
        lines += [f"  {_inline(self.request).decode().strip()[:300]}"]
        lines += [f"    ours:   {self.ours[:600]}", f"    theirs: {self.theirs[:600]}"]
        return "\n".join(lines)


def _essence(text: str) -> str:
    return text[:40] if text.startswith("-") else text[:1]


def _inline(request: Sequence[bytes]) -> bytes:
    return b" ".join(map(_word, request)) + b"\r\n"


def _word(word: bytes) -> bytes:
    if word and all(33 <= char < 127 and char not in b"\"'\\" for char in word):
        return word
    plain = {char: b"%c" % char for char in range(32, 127) if char not in b'"\\'}
    return b'"%b"' % b"".join([plain.get(char, b"\\x%02x" % char) for char in word])


def full_name(request: Sequence[bytes]) -> str:
    """As facts have it: `object|encoding`."""
    row = find(request[0])
    if row is None:
        return "?"
    own = request[1].decode("latin-1").lower() if len(request) > 1 else ""
    return f"{row.name}|{own}" if own in row.subcommands else row.name


# -- making


def made(seed: int, payloads: Sequence[bytes], length: int = LENGTH, only: Sequence[str] = ()) -> Story:
    """A sequence by chance."""
    rng = random.Random(seed)
    requests = Requests(rng, payloads, only)
    pipelined = rng.random() < 0.35
    inline = rng.random() < 0.2
    buffers: list[Buffer] = []
    count = 0
    while count < length:
        place = rng.randrange(PLACES)
        chance = rng.random()
        if chance < 0.01:
            buffers += _expiring(rng, requests, place)
        elif chance < 0.02:
            buffers.append(_silent(rng, requests, place))
        elif chance < (0.1 if pipelined else 0.04):
            buffers += _block(rng, requests, place)
        else:
            several = [tuple(requests.request()) for _ in range(rng.randrange(2, 30) if pipelined else 1)]
            buffers += _split(place, [request for request in several if request], inline and rng.random() < 0.7)
        count += len(buffers[-1].requests)
    if rng.random() < 0.15:
        buffers.append(Buffer(rng.randrange(PLACES), (), broken=rng.choice(BROKEN)))
    return Story(rng.choice((2, 3)), tuple(buffers))


def _split(place: int, requests: list[tuple[bytes, ...]], inline: bool) -> list[Buffer]:
    """Requests of which more must be asked are alone in a buffer."""
    buffers: list[Buffer] = []
    together: list[tuple[bytes, ...]] = []
    for request in requests:
        if full_name(request) in ONE_AT_A_TIME:
            if together:
                buffers.append(Buffer(place, tuple(together), inline))
            buffers.append(Buffer(place, (request,), inline))
            together = []
        else:
            together.append(request)
    if together:
        buffers.append(Buffer(place, tuple(together), inline))
    # An inline request without a first word is none.
    return [replace(b, inline=b.inline and all(len(b"".join(r)) < 2000 for r in b.requests)) for b in buffers]


def _expiring(rng: random.Random, requests: Requests, place: int) -> list[Buffer]:
    key = rng.choice(requests.keys)
    lifetime = b"%d" % (EXPIRES_S * 1000)
    request = rng.choice([(b"PEXPIRE", key, lifetime), (b"SET", key, b"brief", b"PX", lifetime)])
    return [Buffer(place, (request,), wait=2 * EXPIRES_S)]


def _block(rng: random.Random, requests: Requests, place: int) -> list[Buffer]:
    """MULTI, and what is queued; perhaps keys are watched before it, and perhaps somebody changes one of them."""
    buffers: list[Buffer] = []
    chance = rng.random()
    if chance < 0.5:
        watched = [rng.choice(requests.keys) for _ in range(rng.randrange(1, 4))]
        if chance < 0.05:
            buffers += [Buffer(place, ((b"PEXPIRE", watched[0], b"%d" % (EXPIRES_S * 1000)),))]
        buffers.append(Buffer(place, ((b"WATCH", *watched),), wait=2 * EXPIRES_S if chance < 0.05 else 0.0))
        if chance < 0.3:
            elsewhere = rng.randrange(PLACES)
            changing = [tuple(requests.request()) for _ in range(rng.randrange(1, 4))]
            buffers += _split(elsewhere, [r for r in changing if r and full_name(r) not in ONE_AT_A_TIME], False)
        if chance > 0.47:
            buffers.append(Buffer(place, ((b"UNWATCH",),)))
    queued = [tuple(requests.request()) for _ in range(rng.choice((0, 1, 2, 3, 5, 12)))]
    if rng.random() < 0.1:
        queued.insert(rng.randrange(len(queued) + 1), rng.choice(IN_BLOCKS))
    queued = [r for r in queued if r and is_queued(full_name(r))]
    end = rng.choice(((b"EXEC",),) * 8 + ((b"DISCARD",), (b"EXEC", b"now")))
    whole = ((b"MULTI",), *queued, end)
    buffers.append(Buffer(place, whole, block=True, apart=rng.random() < 0.3))
    if len(end) > 1:
        buffers.append(Buffer(place, ((b"DISCARD",),)))
    return buffers


IN_BLOCKS: Final[tuple[tuple[bytes, ...], ...]] = (
    *((b"MULTI",), (b"WATCH", b"{x}s1"), (b"UNWATCH",), (b"SELECT", b"1"), (b"SELECT", b"16"), (b"SELECT", b"x")),
    *(
        (b"GET",),
        (b"NOSUCH", b"a"),
        (b"CLIENT", b"NOSUCH"),
        (b"OBJECT", b"NOSUCH", b"k"),
        (b"DISCARD", b"x"),
        (b"multi", b"x"),
    ),
)
"""What is not often a part of a transaction."""


def is_queued(name: str) -> bool:
    """Whether it may be part of a block: nothing more need be asked before anything else happens, it does not concern
    every slot, and the connection stays as it is."""
    row = COMMANDS.get(name.partition("|")[0])
    return (row is None or row.kind is not Kind.CLUSTER or name == "keys") and name not in {
        *ONE_AT_A_TIME,
        "hello",
        "reset",
        "client|reply",
    }


def _silent(rng: random.Random, requests: Requests, place: int) -> Buffer:
    """CLIENT REPLY, and what it silences."""
    quiet = [tuple(requests.request()) for _ in range(3)]
    quiet = [r for r in quiet if r and full_name(r) not in ONE_AT_A_TIME and r[0].upper() not in (b"CLIENT", b"RESET")]
    quiet = quiet or [(b"PING",)]
    echo = (b"ECHO", b"the last one")
    if rng.random() < 0.5:
        return Buffer(place, ((b"CLIENT", b"REPLY", b"SKIP"), quiet[0], echo), silent=True)
    return Buffer(place, ((b"CLIENT", b"REPLY", b"OFF"), *quiet, (b"CLIENT", b"REPLY", b"ON"), echo), silent=True)


# -- running


class Comparison:
    """Our side and theirs."""

    def __init__(self, ours: Server, theirs: Server) -> None:
        self._ours = ours
        self._theirs = theirs
        self.requests = 0
        self.errors: Counter[bool] = Counter()
        """Requests that were answered by an error, and others."""
        self.reasons: Counter[str] = Counter()
        """Why replies were alike."""
        self.names: Counter[str] = Counter()
        """What has been asked, and not answered by an error."""
        self._held = self._merged = False
        """Keys of several slots were asked for together: for whoever watches those that were only looked at, they are
        as good as changed here."""
        # HyperLogLogs were merged: there that is a change even where nothing comes of it.
        self._added_in_part = False
        """PFADD of several elements met a fault in what was a HyperLogLog: there those before it stay added."""

    def run(self, sequence: Story) -> Difference | None:
        """The first difference, if there is one."""
        ours, theirs = self._ours, self._theirs
        for server in (ours, theirs):
            server.connect()
            for place in range(PLACES):
                server.ask(place, b"HELLO 3\r\n" if sequence.protocol == 3 else b"PING\r\n", 1)
            server.ask(0, b"FLUSHALL\r\n", 1)
            server.ask(0, encode_request((b"SCRIPT", b"LOAD", SCRIPT)), 1)
        self._ahead_ms = self._clock(ours) - self._clock(theirs)
        self._held = self._merged = self._added_in_part = False
        for buffer in sequence.buffers:
            found = self._send(sequence, buffer)
            if self._added_in_part:
                self.reasons["added in part"] += 1
                return None  # likewise
            if found is not None:
                if self._may_abort(found):
                    self.reasons["as good as changed"] += 1
                    return None  # from here on they hold different things
                return found
            self._held = self._held or self._holds(buffer)
            self._merged = self._merged or any(full_name(request) == "pfmerge" for request in buffer.requests)
        return None if sequence.buffers[-1].broken else self._look(sequence)

    def _holds(self, buffer: Buffer) -> bool:
        """Whether it concerned keys of several slots together."""
        mask = self._ours.slots - 1
        groups: list[set[int]] = [set()]
        for request in buffer.requests:
            row = find(request[0])
            own = (
                {slot_of(key, mask) for key in keys_of(row, request)}
                if row is not None and fits(row, request)
                else set()
            )
            if buffer.block:
                groups[0] |= own
            elif row is not None and row.kind is not Kind.SPREAD:
                groups.append(own)
        return any(len(group) > 1 for group in groups)

    def _may_abort(self, found: Difference) -> bool:
        """Whether only one side says that a watched key has changed, and may."""
        if found.request != (b"EXEC",):
            return False
        ours, theirs = (told.endswith("nil") for told in (found.ours, found.theirs))
        return (ours and self._held and found.theirs[:1] == "*") or (theirs and self._merged and found.ours[:1] == "*")

    def _clock(self, server: Server) -> int:
        seconds, microseconds = leaves(server.ask(0, b"TIME\r\n", 1)[0])
        return int(seconds) * 1000 + int(microseconds) // 1000

    def _send(self, sequence: Story, buffer: Buffer) -> Difference | None:
        ours, theirs, place = self._ours, self._theirs, buffer.place
        if buffer.broken:
            return self._break(sequence, buffer)
        if buffer.block:
            return self._queue(sequence, buffer)
        if any(self._unasked(place, request) for request in buffer.requests):
            asked = [(b"PING",) if self._unasked(place, request) else request for request in buffer.requests]
            buffer = replace(buffer, requests=tuple(asked))
        requests = buffer.requests
        first = requests[0]
        name = full_name(first)
        if name in POPS:
            return self._pop(sequence, place, first)
        count = len(requests)
        if buffer.silent:
            count = 1 if requests[0][2] == b"SKIP" else 2
            requests = requests[-count:]
        mine = ours.ask(place, buffer.data, count)
        if name in SORTS:
            self._ask_theirs(place, b"SCAN", b"0", b"COUNT", b"1")
        if name == "pfcount" and len(first) == 2:  # of one key it writes into that there
            buffer = replace(buffer, requests=((*first, first[1]),))
        other = theirs.ask(place, buffer.data, count)
        self.requests += count
        if buffer.wait:
            ours.wait(buffer.wait)
            theirs.wait(buffer.wait)
        if len(mine) != count or len(other) != count:
            return Difference(sequence, first, f"{len(mine)} replies", f"{len(other)} replies of {count}")
        for request, one, two in zip(requests, mine, other, strict=True):
            found = self._judge(sequence, place, request, one, two)
            if found is not None:
                return found
            if full_name(request) == "pfadd" and is_error(one) and b"INVALIDOBJ" in leaves(one)[0]:
                self._added_in_part = True
                break
        return None

    def _unasked(self, place: int, request: Sequence[bytes]) -> bool:
        """Whether it is not for both: it is of Redis 7.2, or its patterns mean keys of several slots, which is an error
        here (CROSSSLOT), or it is not specified what it answers."""
        name = full_name(request)
        if (name in OF_7_2 and OF_7_2[name](request)) or (name in LEXICAL and self._has_several_scores(place, request)):
            return True
        return name in SORTS and (self._sorts_by_other_slots(request) or _stores_any_order(request))

    def _has_several_scores(self, place: int, request: Sequence[bytes]) -> bool:
        """Whether members of several scores are asked for by their names."""
        name = full_name(request)
        if len(request) <= LEXICAL[name] or ("lex" not in name and b"BYLEX" not in map(bytes.upper, request)):
            return False
        key = request[LEXICAL[name]]
        ends = [self._ask_theirs(place, b"ZRANGE", key, end, end, b"WITHSCORES") for end in (b"0", b"-1")]
        return len({leaves(end)[-1] for end in ends if not is_error(end) and end[1]}) > 1

    def _sorts_by_other_slots(self, request: Sequence[bytes]) -> bool:
        """Whether it has patterns of keys that are elsewhere than the one that is sorted."""
        mask = self._ours.slots - 1
        options = [word.upper() for word in request]
        patterns = [request[at + 1] for at, word in enumerate(options[:-1]) if word in (b"BY", b"GET")]
        return any(slot_of(word, mask) != slot_of(request[1], mask) for word in patterns if b"*" in word)

    def _judge(
        self, sequence: Story, place: int, request: tuple[bytes, ...], ours: Tree, theirs: Tree
    ) -> Difference | None:
        name = full_name(request)
        self.errors[is_error(ours)] += 1
        if not is_error(ours):
            self.names[name] += 1
        if name in PAGES and not is_error(ours) and not is_error(theirs):
            return self._walk(sequence, place, name, request, ours, theirs)
        why = alike(Asked(name, request, ours, theirs, self._ahead_ms, partial(self._ask_theirs, place)))
        if why:
            self.reasons[why] += 1
            return None
        return Difference(sequence, request, shown(ours), shown(theirs))

    def _queue(self, sequence: Story, buffer: Buffer) -> Difference | None:
        """What is queued is answered at the end of its block, all at once."""
        place = buffer.place
        requests = tuple((b"PING",) if self._unasked(place, request) else request for request in buffer.requests)
        buffer = replace(buffer, requests=requests)
        mine, other = (self._ask_block(server, buffer) for server in (self._ours, self._theirs))
        self.requests += len(requests)
        if len(mine) != len(requests) or len(other) != len(requests):
            return Difference(sequence, (b"MULTI",), f"{len(mine)} replies", f"{len(other)} of {len(requests)}")
        pairs = list(zip(requests, mine, other, strict=True))
        if requests[-1] == (b"EXEC",) and isinstance(mine[-1][1], list) and isinstance(other[-1][1], list):
            queued = [request for request, reply in zip(requests, mine, strict=True) if reply == QUEUED]
            if mine[-1][0] == other[-1][0] and len(mine[-1][1]) == len(other[-1][1]) == len(queued):
                pairs[-1:] = zip(queued, mine[-1][1], other[-1][1], strict=True)
                self.names["exec"] += 1
        for request, one, two in pairs:
            found = self._judge(sequence, place, request, one, two)
            if found is not None:
                return found
        return None

    @staticmethod
    def _ask_block(server: Server, buffer: Buffer) -> list[Tree]:
        if not buffer.apart:
            return server.ask(buffer.place, buffer.data, len(buffer.requests))
        return [tree for r in buffer.requests for tree in server.ask(buffer.place, encode_request(r), 1)]

    def _ask_theirs(self, place: int, *request: bytes) -> Tree:
        """One more request, in the database that is selected there."""
        return self._theirs.ask(place, encode_request(request), 1)[0]

    def _break(self, sequence: Story, buffer: Buffer) -> Difference | None:
        """What ends a connection ends it, with the same last words."""
        told: list[str] = []
        for server in (self._ours, self._theirs):
            replies = server.ask(buffer.place, buffer.data, 1)
            told.append(" ".join(map(shown, replies)) + (" closed" if server.closed(buffer.place) else " open"))
        if told[0] == told[1]:
            return None
        return Difference(sequence, (buffer.broken,), told[0], told[1])

    def _pop(self, sequence: Story, place: int, request: tuple[bytes, ...]) -> Difference | None:
        """What we have drawn must be there, as many as they would have drawn; then it is gone there, too."""
        data = encode_request(request)
        ours = self._ours.ask(place, data, 1)[0]
        if is_error(ours) or not [leaf for leaf in leaves(ours) if leaf is not None]:
            return self._judge(sequence, place, request, ours, self._theirs.ask(place, data, 1)[0])
        self.names["spop"] += 1
        key, copied = request[1], b"{" + request[1] + b"} copied"
        self._ask_theirs(place, b"COPY", key, copied)
        theirs = self._theirs.ask(place, encode_request((request[0], copied, *request[2:])), 1)[0]
        self._ask_theirs(place, b"DEL", copied)
        members = leaves(ours)
        gone = self._ask_theirs(place, b"SREM", key, *members)
        if shape(ours) == shape(theirs) and gone == (b":", b"%d" % len(members)):
            return None
        return Difference(sequence, request, shown(ours), f"{shown(theirs)}, or other members ({shown(gone)} there)")

    def _walk(
        self, sequence: Story, place: int, name: str, request: tuple[bytes, ...], ours: Tree, theirs: Tree
    ) -> Difference | None:
        """All pages together hold the same."""
        if shape((ours[0], ours[1][:1])) != shape((theirs[0], theirs[1][:1])) or ours[1][1][0] != theirs[1][1][0]:
            return Difference(sequence, request, shown(ours), shown(theirs))
        at = 1 if name == "scan" else 2
        found = [self._pages(server, place, request, at) for server in (self._ours, self._theirs)]
        if name == "scan" or found[0] == found[1]:
            found = [set(pages) for pages in found]  # type: ignore[misc]
        if found[0] == found[1]:
            return None
        if name == "zscan":
            found = [{(member, float(score)) for member, score in pages} for pages in found]  # type: ignore[misc]
            if found[0] == found[1]:
                return None
        return Difference(sequence, request, f"pages of {found[0]}", f"pages of {found[1]}")

    def _pages(self, server: Server, place: int, request: tuple[bytes, ...], at: int) -> set[tuple[bytes, ...]]:
        step = 2 if full_name(request) in ("hscan", "zscan") else 1
        cursor = b"0"
        items: set[tuple[bytes, ...]] = set()
        for _ in range(PAGES_MAX):
            asked = (*request[:at], cursor, *request[at + 1 :])
            reply = server.ask(place, encode_request(asked), 1)[0]
            flat = leaves(reply)
            cursor, flat = flat[0], flat[1:]
            items |= {tuple(flat[n : n + step]) for n in range(0, len(flat), step)}
            if cursor == b"0":
                break
        return items

    def _look(self, sequence: Story) -> Difference | None:
        """All that is held at the end, in the databases that sequences use."""
        for database in DATABASES:
            place = len(database) % PLACES
            for request in ((b"RESET",), (b"SELECT", database), (b"KEYS", b"*")):
                found = self._both(sequence, place, request)
                if isinstance(found, Difference):
                    return found
            for key in leaves(found):
                kind = self._ask_theirs(place, b"TYPE", key)[1]
                if kind not in WHOLE:
                    continue  # it has just expired
                for request in ((b"TYPE", key), WHOLE[kind](key), (b"PEXPIRETIME", key)):
                    found = self._both(sequence, place, request)
                    if isinstance(found, Difference):
                        return found
        return None

    def _both(self, sequence: Story, place: int, request: tuple[bytes, ...]) -> Difference | Tree:
        """What both answer, or that they differ."""
        ours, theirs = (server.ask(place, encode_request(request), 1)[0] for server in (self._ours, self._theirs))
        return self._judge(sequence, place, request, ours, theirs) or theirs


QUEUED: Final = (b"+", b"QUEUED")
DATABASES: Final = (b"0", b"1", b"2")
WHOLE: Final = {
    b"string": lambda key: (b"GET", key),
    b"hash": lambda key: (b"HGETALL", key),
    b"list": lambda key: (b"LRANGE", key, b"0", b"-1"),
    b"set": lambda key: (b"SMEMBERS", key),
    b"zset": lambda key: (b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"),
}


def _stores_any_order(request: Sequence[bytes]) -> bool:
    return is_in_any_order(request) and b"ALPHA" in map(bytes.upper, request) and b"STORE" in map(bytes.upper, request)


# -- cutting short


def shortened(comparison: Comparison, found: Difference, tries: int = 400) -> Difference:
    """The same difference after fewer requests, as far as that is found."""
    best = found
    buffers = _taken_apart(found.sequence.buffers)
    again = comparison.run(replace(found.sequence, buffers=buffers))
    if again is None or again.kind != found.kind:
        buffers = found.sequence.buffers
    else:
        best = again
    size = max(1, len(buffers) // 2)
    while tries > 0:
        at, shrunk = 0, False
        while at < len(buffers) and tries > 0:
            fewer = buffers[:at] + buffers[at + size :]
            tries -= 1
            again = comparison.run(replace(found.sequence, buffers=fewer)) if fewer else None
            if again is not None and again.kind == found.kind:
                buffers, best, shrunk = fewer, again, True
            else:
                at += size
        if size == 1 and not shrunk:
            break
        size = max(1, size // 2)
    for at, buffer in enumerate(buffers):
        for request in buffer.requests[1:-1] if buffer.block else ():
            fewer = (*buffers[:at], _without(buffers[at], request), *buffers[at + 1 :])
            again = comparison.run(replace(found.sequence, buffers=fewer))
            if again is not None and again.kind == found.kind:
                buffers, best = fewer, again
    return best


def _without(buffer: Buffer, request: tuple[bytes, ...]) -> Buffer:
    return replace(buffer, requests=tuple([other for other in buffer.requests if other is not request]))


def _taken_apart(buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
    """One request each."""
    return tuple(
        part
        for buffer in buffers
        for part in (
            [buffer]
            if buffer.silent or buffer.broken or buffer.wait or buffer.block
            else [replace(buffer, requests=(request,)) for request in buffer.requests]
        )
    )


# -- payloads of DUMP


def payloads_of(server: Server) -> list[bytes]:
    """What DUMP says of values of all kinds."""
    server.connect()
    server.ask(0, b"FLUSHALL\r\n", 1)
    many = [b"%d" % n for n in range(300)]
    values = [
        *((b"SET", b"x"), (b"SET", b"12345"), (b"SET", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")),
        *((b"RPUSH", b"a", b"1", b"m1"), (b"RPUSH", *many), (b"SADD", b"1", b"2", b"3"), (b"SADD", b"a", b"m1")),
        *((b"SADD", *[b"m" + n for n in many]), (b"HSET", b"a", b"1", b"m1", b"2"), (b"HSET", *many)),
        *((b"ZADD", b"1", b"a", b"2.5", b"m1"), (b"ZADD", *many), (b"PFADD", b"a", b"b")),
        *((b"XADD", b"3-1", b"a", b"1"), (b"XADD", b"3-1", *many)),
    ]
    payloads: list[bytes] = []
    for name, *rest in values:
        server.ask(0, encode_request((name, b"value", *rest)), 1)
        payloads.append(server.ask(0, encode_request((b"DUMP", b"value")), 1)[0][1])
        server.ask(0, b"DEL value\r\n", 1)
    return payloads


def served() -> set[str]:
    """All that is served, by its full name."""
    return {f"{name}|{own}" if own else name for name, row in COMMANDS.items() for own in row.subcommands or ("",)}
