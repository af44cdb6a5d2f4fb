"""A keyspace of one slot for tests of commands, and a real redis-server beside it.

Whatever a command changes goes over the wire to a second copy of the slot, as it would to another owner, and both hold
the same afterwards; so does what is made of a value's parts. So every test of a command is one of its patches, too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from peerkv.agreement.checks import bodies_of
from peerkv.cbor import dump, load
from peerkv.commands.table import CHANCE_BYTES, Kind, arity_error, find, find_part, keys_of
from peerkv.kernel.slot import Copies
from peerkv.resp import CommandError, Map, Named, NullArray, Pairs, Reply, ReplyError, Set
from peerkv.store.cell import Cell, Value
from peerkv.store.values import Collection, Patch, patched

NOW = 1_700_000_000_000


def held(value: Value | None) -> Any:
    """What a value holds, to be compared: its parts, as they travel."""
    return [value.TYPE, *[load(dump(list(part))) for part in value.parts()]] if isinstance(value, Collection) else value


def in_parts(value: Value) -> Iterator[bytes | Patch]:
    """Bodies that, one after another, make a value out of nothing."""
    return value.parts() if isinstance(value, Collection) else iter((value,))


def rebuilt(value: Value) -> Value | None:
    """A value out of its parts."""
    made: Value | None = None
    for part in in_parts(value):
        made = part if type(part) is bytes else patched(made, bodies_of(load(dump([list(part)])))[0])
    return made


class Ours:
    """Commands on a keyspace of one slot, at a time that stands still unless it is moved."""

    def __init__(self, seed: int = 0) -> None:
        copies, others = Copies(1), Copies(1)
        self.slot, self.other = copies.add(0), others.add(0)
        self.now = NOW
        self._rng = random.Random(seed)

    @property
    def cells(self) -> dict[bytes, Cell]:
        return self.slot.cells

    def ask(self, *request: bytes) -> Reply:
        row = find(request[0])
        assert row is not None, request
        if len(request) != row.arity if row.arity > 0 else len(request) < -row.arity:
            return arity_error(row)
        if row.spread is None:
            return self._run([*request, self._rng.randbytes(CHANCE_BYTES)] if row.chance else request)
        parts = row.spread.split(request)
        if isinstance(parts, ReplyError):
            return parts
        requests = [part for _, part in parts]
        if row.spread.merge is not None:
            requests = [row.spread.merge(requests)]
        return row.spread.join([self._run(part) for part in requests])

    def _run(self, request: Sequence[bytes]) -> Reply:
        row = find_part(request[0])
        assert row is not None
        assert row.run is not None
        self._expire(keys_of(row, request))
        try:
            changes, reply = row.run(self.cells, request, self.now)
        except CommandError as error:
            return error.reply
        assert not (changes and row.kind is Kind.READ), request
        assert len({key for key, _, _ in changes}) == len(changes), f"a key is changed twice: {request!r}"
        if changes:
            travelled = load(dump([body if type(body) is not tuple else list(body) for _, body, _ in changes]))
            self.slot.apply(self.slot.position + 1, changes)
            bodies = bodies_of(travelled)
            there = [(key, body, deadline) for (key, _, deadline), body in zip(changes, bodies, strict=True)]
            self.other.apply(self.other.position + 1, there)
            for key, _, _ in changes:
                self._compare(key)
        return reply

    def _expire(self, keys: Sequence[bytes]) -> None:
        """As the home does before a command runs."""
        for key in keys:
            cell = self.cells.get(key)
            if cell is not None and cell[1] is not None and 0 < cell[2] <= self.now:
                for slot in (self.slot, self.other):
                    slot.apply(slot.position + 1, [(key, None, 0)])

    def _compare(self, key: bytes) -> None:
        ours, theirs = self.slot.cells[key], self.other.cells[key]
        assert ours[0] == theirs[0]
        assert ours[2] == theirs[2]
        assert held(ours[1]) == held(theirs[1]), f"two owners hold different values of {key!r}"
        if ours[1] is not None:
            assert held(rebuilt(ours[1])) == held(ours[1]), f"{key!r} is not what its parts are"
            empty = isinstance(ours[1], Collection) and not len(ours[1]) and not ours[1].STAYS
            assert not empty, f"an empty collection at {key!r}"


class Theirs:
    """A connection to a redis-server."""

    def __init__(self, port: int, protocol: int = 2) -> None:
        self.port = port
        self._client = redis.Redis(port=port, protocol=protocol)
        self._connection = self._client.connection_pool.get_connection()

    def ask(self, *request: bytes) -> Reply:
        self._connection.send_command(*request)
        try:
            reply = self._connection.read_response()
        except redis.ResponseError as error:
            return ReplyError(str(error))
        return reply  # type: ignore[no-any-return]

    def close(self) -> None:
        self._connection.disconnect()
        self._client.close()


def plain(reply: Reply) -> Reply:
    """A reply as redis-py has it over RESP2."""
    if isinstance(reply, str):
        return reply.encode()
    if isinstance(reply, float):
        return repr(reply).removesuffix(".0").encode()
    if isinstance(reply, NullArray):
        return None
    if isinstance(reply, (Map, Pairs, Set)):
        reply = reply.items
    if isinstance(reply, Named):
        reply = reply.pairs
    return [plain(item) for item in reply] if isinstance(reply, list) else reply


def same(ours: Reply, theirs: Reply) -> bool:
    """Error texts lose their ERR in redis-py."""
    if isinstance(ours, ReplyError):
        return isinstance(theirs, ReplyError) and ours.text.removeprefix("ERR ") == theirs.text.removeprefix("ERR ")
    return plain(ours) == theirs


def same_items(ours: Reply, theirs: Reply) -> bool:
    """Likewise, in whatever order."""
    ours = plain(ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return sorted(ours) == sorted(theirs)  # type: ignore[type-var]
    return same(ours, theirs)


def sequences(text: str) -> list[str]:
    """A table of sequences of commands: an empty line is between two of them."""
    return text.strip().split("\n\n")


def requests_of(sequence: str) -> list[list[bytes]]:
    """Commands of a sequence, one a line or with bars between them; '' is an empty argument."""
    lines = sequence.replace("|", "\n").split("\n")
    return [[b"" if word == "''" else word.encode() for word in line.split()] for line in lines]
