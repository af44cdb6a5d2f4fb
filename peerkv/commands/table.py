"""The table of Redis commands: what each is called, how many arguments it takes, where its keys are, how it is run.

What can be known without running it (arity, flags, keys, arguments) is in `facts`; a row adds which way it goes and the
function that runs it. Everything that must know a command by name asks this table: clients, COMMAND, the prompt's
completion, and the documentation's test. Rows stand where their functions do: `strings`, `keys`, `admin`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Final, TypeAlias

from peerkv.commands.facts import FACTS, Facts, located
from peerkv.commands.slowlog import may_take_long, measured
from peerkv.databases import in_database
from peerkv.resp import Reply, ReplyError, as_said
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


@dataclass(frozen=True, slots=True)
class Waits:
    """What a command that has found nothing waits for."""

    timeout: float
    """Seconds; 0: for ever."""
    keys: Sequence[bytes]
    """One of these is to change."""
    request: Sequence[bytes]
    """What is to be asked for then."""
    everyone: bool = False
    """A change is for all who wait, as nothing is taken; otherwise for as many as there is something for."""
    asks: Sequence[bytes] = ()
    """A READ that is to be run first of all, and ..."""
    begun: Callable[[Reply], Waits] | None = None
    """... what is to be waited for by what that answers."""
    source: Sequence[bytes] = ()
    """A READ of what is waited for, if the request has other keys, too: it tells which of them is of another type."""
    of_its_type: bool = True
    """That a key is of another type while one waits is waited out; otherwise it is answered."""


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
    SCRIPT = "script"
    """Names keys, and may look at others; runs as a transaction."""
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


@dataclass(slots=True, eq=False)
class Command:
    """One row of the table. Nothing of it changes but what is counted, of all nodes of the process, which are one."""

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
    """Those that are served."""
    keys_at: KeysAt | None = None
    """Where neither `keys` nor specifications can say where they are: (request) -> the places of the keys; none where
    it is no request that the command would take."""
    chance: bool = False
    """Behind what the client has said stands one more argument, of `CHANCE_BYTES` that the coordinator has drawn: what
    is run remains pure."""
    wanders: Callable[[Sequence[bytes]], bool] | None = None
    """Whether a request may look at keys that it does not name."""
    blocks: Callable[[Sequence[bytes]], Waits | None] | None = None
    """What a request waits for as long as it is answered nil; None: it does not. Raises CommandError."""
    waits: bool = True
    """It is not run while a transaction holds one of its keys."""
    calls: int = field(default=0, init=False)
    """Since the node began, or its statistics were reset; ..."""
    rejected: int = field(default=0, init=False)
    """... and those that were not run, as they had too many or too few arguments, or keys of several slots."""
    errors: int = field(default=0, init=False)
    """Error replies, those included."""
    one_key: bool = field(init=False)
    """Its only key is its first argument."""

    def __post_init__(self) -> None:
        self.keys_at = _keys_at(self.facts) or self.keys_at
        self.one_key = self.keys_at is None and self.keys == ONE_KEY

    @property
    def facts(self) -> Facts:
        """All that is known of it."""
        return FACTS.get(self.name) or Facts(
            self.name, self.arity, tuple(sorted(self.flags)), self.keys, self.group, self.since
        )


def _keys_at(facts: Facts) -> KeysAt | None:
    """By specifications, where (first, last, step) cannot say it, and they can."""
    if any(subcommand.specs for subcommand in facts.subcommands.values()):
        return partial(_keys_of_subcommand, facts)
    cannot = any("incomplete" in flags or begin[0] == "unknown" for flags, begin, _ in facts.specs)
    return partial(_keys_by_specs, facts) if "movablekeys" in facts.flags and not cannot else None


def _keys_of_subcommand(facts: Facts, request: Sequence[bytes]) -> Sequence[int]:
    own = facts.subcommands.get(request[1].decode("ascii", "replace").lower()) if len(request) > 1 else None
    return _keys_by_specs(own, request) if own is not None and fits(own, request) else ()


def _keys_by_specs(facts: Facts, request: Sequence[bytes]) -> Sequence[int]:
    return [at for at, _ in located(facts, request) or ()]


COMMANDS: Final[dict[str, Command]] = {}
"""What clients may call, by lower-case name."""

SPELLED: Final[dict[bytes, Command]] = {}
"""Names as they came lately, so that finding one is one look-up."""
_SPELLED_MAX: Final = 4096
_PARTS: Final[dict[bytes, Command]] = {}
"""What homes run but no client may call: parts of SPREAD commands."""

ONE_KEY: Final = (1, 1, 1)
WHOLE_SLOT: Final = "PEERKV.CLEAR"
"""What concerns all keys of a slot, whatever they are."""


def command(
    name: str,
    kind: Kind,
    summary: str,
    *,
    usage: str = "",
    subcommands: str = "",
    dated: Dated | None = None,
    keys_at: KeysAt | None = None,
    chance: bool = False,
    wanders: Callable[[Sequence[bytes]], bool] | None = None,
    blocks: Callable[[Sequence[bytes]], Waits | None] | None = None,
) -> Callable[[Run], Run]:
    """Makes a function of cells a row of the table, with what `facts` know of the command. `usage`: if it takes more
    than these say."""

    def add(run: Run) -> Run:
        slow = may_take_long(FACTS[name])
        timed = measured(run, int(chance)) if slow else run
        _add(name, kind, summary, usage, subcommands, timed, dated, keys_at, chance, wanders=wanders, blocks=blocks)
        return run

    return add


def known(
    name: str, kind: Kind, summary: str, *, spread: Spread | None = None, subcommands: str = "", usage: str = ""
) -> None:
    """Makes a command that is run otherwise than as a function of cells a row of the table."""
    _add(name, kind, summary, usage, subcommands, spread=spread)


def _add(
    name: str,
    kind: Kind,
    summary: str,
    usage: str,
    subcommands: str,
    run: Run | None = None,
    dated: Dated | None = None,
    keys_at: KeysAt | None = None,
    chance: bool = False,
    spread: Spread | None = None,
    wanders: Callable[[Sequence[bytes]], bool] | None = None,
    blocks: Callable[[Sequence[bytes]], Waits | None] | None = None,
) -> None:
    facts = FACTS[name]
    COMMANDS[name] = Command(
        name,
        kind,
        facts.arity,
        frozenset(facts.flags),
        facts.keys,
        summary,
        usage or facts.usage,
        facts.group,
        facts.since,
        run,
        dated,
        spread,
        tuple(subcommands.split()),
        keys_at,
        chance,
        wanders,
        blocks,
    )


def part(
    name: bytes,
    kind: Kind,
    keys: tuple[int, int, int] = (1, -1, 1),
    *,
    keys_at: KeysAt | None = None,
    waits: bool = True,
) -> Callable[[Run], Run]:
    """Makes a function of cells something that homes run as a part of another command."""

    def add(run: Run) -> Run:
        _PARTS[name] = Command(
            name.decode(), kind, -2, frozenset(), keys, "", "", "", "", run, keys_at=keys_at, waits=waits
        )
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
        found = _first_key if row.one_key else partial(keys_of, row)
        if len(self) < _SPELLED_MAX:
            self[name] = found
        return found


class _AtOnce(dict[bytes, Command | None]):
    """Filled as names come."""

    def __init__(self, *, dated: bool) -> None:
        super().__init__()
        self._dated = dated

    def __missing__(self, name: bytes) -> Command | None:
        row = find(name)
        if row is None:
            return None
        usual = row.kind in (Kind.READ, Kind.WRITE) and row.one_key and not row.chance
        found = row if usual and (self._dated or row.dated is None) else None
        if len(self) < _SPELLED_MAX:
            self[name] = found
        return found


AT_ONCE: Final = _AtOnce(dated=True)
"""By its name as it was spelled a command of one key, its first argument, that can be run as its client has said it, if
clients' clocks go right; others, and what is none, are None."""
UNDATED: Final = _AtOnce(dated=False)
"""Likewise, where they do not."""


def _first_key(request: Sequence[bytes]) -> Sequence[bytes]:
    return (request[1],)


KEYS: Final = _KeysOf()
"""Which the keys of a request are, by its name as it was spelled."""


def awaited(request: Sequence[bytes]) -> Sequence[bytes] | None:
    """The keys that no transaction may hold when that is run; None: no key of the slot."""
    row = find_part(request[0])
    if row is None or not row.waits:
        return ()
    return None if row.name == WHOLE_SLOT else keys_of(row, request)


def keys_of(row: Command, request: Sequence[bytes]) -> Sequence[bytes]:
    """The keys among a request's arguments."""
    if row.keys_at is None:
        first, last, step = row.keys
        return request[first : _behind_last(last, request) : step] if first else ()
    return [request[at] for at in places_of(row, request)]


def places_of(row: Command, request: Sequence[bytes]) -> Sequence[int]:
    """Where they are; of a request that is wrong, those that can be found all the same."""
    first, last, step = row.keys
    if row.keys_at is not None:
        found = [at for at in row.keys_at(request) if at < len(request)]
        return found or (range(first, first + 1) if 0 < first < len(request) else ())
    return range(first, min(_behind_last(last, request), len(request)), step) if first else ()


def _behind_last(last: int, request: Sequence[bytes]) -> int:
    return len(request) + last + 1 if last < 0 else last + 1


def placed(request: list[bytes], database: int) -> list[bytes]:
    """A request of a client that has selected a database, with its keys as they are held."""
    row = find(request[0])
    if row is None or row.group == "pubsub":  # channels are of no database
        return request
    found = list(request)
    for at in places_of(row, request):
        found[at] = in_database(found[at], database)
    return found


def fits(row: Command | Facts, request: Sequence[bytes]) -> bool:
    """Whether a request has as many arguments as a command or subcommand takes."""
    return len(request) == row.arity if row.arity > 0 else len(request) >= -row.arity


def arity_error(row: Command | Facts) -> ReplyError:
    """What Redis says to too few or too many arguments."""
    return ReplyError(f"ERR wrong number of arguments for '{row.name}' command")


def subcommand_of(row: Command, request: Sequence[bytes]) -> Facts | ReplyError:
    """Which subcommand a request means, or what Redis says to one that is none or takes another number of arguments."""
    own = request[1].decode("utf-8", "surrogateescape").lower()
    if own not in row.subcommands:
        return ReplyError(f"ERR unknown subcommand '{as_said(request[1][:128])}'. Try {row.name.upper()} HELP.")
    found = FACTS[f"{row.name}|{own}"]
    return found if fits(found, request) else arity_error(found)


def help_of(row: Command) -> Reply:
    """What HELP answers: the subcommands that are served, and what they take."""
    lines = [f"{own.upper()} {FACTS[f'{row.name}|{own}'].usage}".rstrip() for own in sorted(row.subcommands)]
    return [f"{row.name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", *lines]


def unknown(request: Sequence[bytes]) -> ReplyError:
    """What Redis says to a name that is none."""
    beginning = b""
    for argument in request[1:]:
        if len(beginning) >= 128:
            break
        beginning += b"'%b' " % argument.partition(b"\0")[0][: 128 - len(beginning)]
    return ReplyError(
        f"ERR unknown command '{as_said(request[0][:128])}', with args beginning with: {as_said(beginning)}"
    )
