"""The table of Redis commands: what each is called, how many arguments it takes, where its keys are, how it is run.

Arity, flags and key positions are Redis's (`COMMAND INFO`). Everything that must know a command by name asks this
table: clients, COMMAND, the prompt's completion, and the documentation's test. Rows stand where their functions do:
`strings`, `keys`, `admin`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, TypeAlias

from peerkv.resp import Reply, ReplyError
from peerkv.store.cell import Cells, Change

Effect: TypeAlias = tuple[Sequence[Change], Reply]
"""What a command does to a slot's cells, and what it answers."""

Run: TypeAlias = Callable[[Cells, Sequence[bytes], int], Effect]
"""`(cells, request, now) -> (changes, reply)`: the request with its name, cluster time in milliseconds. Must be pure:
it is run again elsewhere when a home dies before its change was chosen. A wrong argument is answered by a ReplyError in
the reply, with no changes, or by raising CommandError."""


Dated: TypeAlias = Callable[[Sequence[bytes], int], list[bytes]]
"""`(request, skew) -> request`: what a client says in wall time, in cluster time, which is behind it by so many
milliseconds. It is done once, where the client is; all that is run is in cluster time."""


KeysAt: TypeAlias = Callable[[Sequence[bytes]], Sequence[int]]
CHANCE_BYTES: Final = 8


class Kind(Enum):
    """How a command reaches the data."""

    READ = "read"
    """One key; runs where the client is, on the cell that a majority agrees on."""
    WRITE = "write"
    """Keys of one slot; runs at the slot's home (CROSSSLOT otherwise)."""
    SPREAD = "spread"
    """Many keys of any slots; split into commands of one slot each, replies joined."""
    CLUSTER = "cluster"
    """Concerns every slot; an operation of the coordinator."""
    SESSION = "session"
    """Concerns the connection or the node alone."""


Part: TypeAlias = tuple[bytes, list[bytes]]
"""(a key that says the slot, a READ or WRITE request)"""


@dataclass(frozen=True, slots=True)
class Spread:
    """How a command of many slots is run as commands of one slot each."""

    split: Callable[[Sequence[bytes]], list[Part] | ReplyError]
    join: Callable[[list[Reply]], Reply]
    """The parts' replies as one, in order of the parts as merged."""
    merge: Callable[[list[list[bytes]]], list[bytes]] | None = None
    """Requests of one slot as one request; None: parts stay single (reads)."""


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table."""

    name: str
    kind: Kind
    arity: int
    """Arguments with the name; negative: at least that many."""
    flags: frozenset[str]
    keys: tuple[int, int, int]
    """(first, last, step) as in COMMAND INFO; (0, 0, 0): none; last -1: to the end."""
    summary: str
    """One line, for COMMAND DOCS, the prompt and the documentation."""
    usage: str
    """The arguments as Redis documents them, e.g. `key value [NX | XX]`; the prompt shows it."""
    group: str
    """Redis's: string, generic, connection, server, cluster."""
    since: str
    run: Run | None = None
    """For READ and WRITE."""
    dated: Dated | None = None
    """For those that may have wall time in them."""
    spread: Spread | None = None
    """For SPREAD."""
    subcommands: tuple[str, ...] = ()
    keys_at: KeysAt | None = None
    """Where `keys` cannot say where they are: (request) -> the places of the keys."""
    chance: bool = False
    """Behind what the client has said stands one more argument, of `CHANCE_BYTES` that the coordinator has drawn: what
    is run remains pure."""


COMMANDS: Final[dict[str, Command]] = {}
"""What clients may call, by lower-case name."""

SPELLED: Final[dict[bytes, Command]] = {}
"""Names as they came lately, so that finding one is one look-up."""
_SPELLED_MAX: Final = 4096
_PARTS: Final[dict[bytes, Command]] = {}
"""What homes run but no client may call: parts of SPREAD commands."""

ONE_KEY: Final = (1, 1, 1)
NO_KEY: Final = (0, 0, 0)


def command(
    name: str,
    kind: Kind,
    arity: int,
    usage: str,
    summary: str,
    *,
    keys: tuple[int, int, int] = ONE_KEY,
    flags: str = "",
    group: str = "string",
    since: str = "1.0.0",
    dated: Dated | None = None,
    keys_at: KeysAt | None = None,
    chance: bool = False,
) -> Callable[[Run], Run]:
    """Makes a function of cells a row of the table."""

    def add(run: Run) -> Run:
        access = "readonly" if kind is Kind.READ else "write"
        COMMANDS[name] = Command(
            name,
            kind,
            arity,
            frozenset((access, *flags.split())),
            keys,
            summary,
            usage,
            group,
            since,
            run,
            dated,
            keys_at=keys_at,
            chance=chance,
        )
        return run

    return add


def part(name: bytes, kind: Kind, keys: tuple[int, int, int] = (1, -1, 1)) -> Callable[[Run], Run]:
    """Makes a function of cells something that homes run as a part of another command."""

    def add(run: Run) -> Run:
        _PARTS[name] = Command(name.decode(), kind, -2, frozenset(), keys, "", "", "", "", run)
        return run

    return add


def find(name: bytes) -> Command | None:
    """The command that a client means, in any case."""
    found = SPELLED.get(name)
    if found is None:
        try:
            found = COMMANDS.get(name.decode("ascii").lower())
        except UnicodeDecodeError:
            return None
        if found is not None and len(SPELLED) < _SPELLED_MAX:
            SPELLED[name] = found
    return found


def find_part(name: bytes) -> Command | None:
    """What a home is to run: a client's command, or a part of one."""
    return SPELLED.get(name) or _PARTS.get(name) or find(name)


AsHome: TypeAlias = Callable[[Cells, Sequence[bytes], int], tuple[Sequence[Change] | None, Reply]]
"""As `Run`, but the changes of what never has any are None."""


class _Runs(dict[bytes, AsHome]):
    """Filled as names come."""

    def __missing__(self, name: bytes) -> AsHome:
        row = find_part(name)
        if row is None or row.run is None:  # from a coordinator of a newer version
            return lambda _cells, request, _now: (None, unknown(request))
        found = _only_reads(row.run) if row.kind is Kind.READ else row.run
        if len(self) < _SPELLED_MAX:
            self[name] = found
        return found


def _only_reads(run: Run) -> AsHome:
    return lambda cells, request, now: (None, run(cells, request, now)[1])


RUNS: Final = _Runs()
"""How a home runs a request, by its name as it was spelled."""


KeysOf: TypeAlias = Callable[[Sequence[bytes]], Sequence[bytes]]


class _KeysOf(dict[bytes, KeysOf]):
    """Filled as names come."""

    def __missing__(self, name: bytes) -> KeysOf:
        row = find_part(name)
        if row is None:  # from a coordinator of a newer version
            return lambda request: request[1:]
        found = _first_key if row.keys == ONE_KEY else partial(keys_of, row)
        if len(self) < _SPELLED_MAX:
            self[name] = found
        return found


def _first_key(request: Sequence[bytes]) -> Sequence[bytes]:
    return (request[1],)


KEYS: Final = _KeysOf()
"""Which the keys of a request are, by its name as it was spelled."""


def keys_of(row: Command, request: Sequence[bytes]) -> Sequence[bytes]:
    """The keys among a request's arguments."""
    if row.keys_at is not None:
        return [request[at] for at in row.keys_at(request) if at < len(request)]
    first, last, step = row.keys
    if first == 0:
        return ()
    return request[first : len(request) + last + 1 if last < 0 else last + 1 : step]


def arity_error(row: Command) -> ReplyError:
    """What Redis says to too few or too many arguments."""
    return ReplyError(f"ERR wrong number of arguments for '{row.name}' command")


def unknown(request: Sequence[bytes]) -> ReplyError:
    """What Redis says to a name that is none."""
    name = request[0].decode("utf-8", "surrogateescape")
    beginning = ""
    for argument in request[1:]:
        if len(beginning) >= 128:
            break
        beginning += f"'{argument[: 128 - len(beginning)].decode('utf-8', 'surrogateescape')}' "
    return ReplyError(f"ERR unknown command '{name:.128}', with args beginning with: {beginning}")
