"""What transactions keep whole, whoever looks, and when: money, tokens that are handed on, pairs of one value.

Each stands for itself: it says how it is set up (in one transaction, which may be repeated), how clients change it,
which reads see it as it is at one moment, and what of that cannot be.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from math import inf
from random import Random
from typing import Any, Final, Protocol, TypeAlias

from peerkv.resp import Reply, ReplyError
from tests.sim.history import EXPIRY_EARLY_S, EXPIRY_SLACK_S
from tests.sim.jobs import Answer, Caller, Job, Outcome, asked, transaction
from tests.sim.requests import Request

Steps: TypeAlias = Generator[list[Request] | float, list[Answer], Outcome]


class Kept(Protocol):
    """Something that is kept whole."""

    name: str

    def prepare(self) -> list[Request]:
        """What sets it up, in one transaction."""

    def change(self, caller: Caller, *, atomic: bool) -> Job: ...

    def look(self) -> list[Request]:
        """Reads that say all of it, to be made at one moment; each of them is of the key behind its name."""

    def saw(self, replies: Sequence[Reply], invoked: float, returned: float) -> str:
        """What cannot be of what was read; empty if it all can."""

    def finish(self) -> list[str]:
        """What cannot be after all."""


def looked(caller: Caller, kept: Kept, *, atomic: bool) -> Steps:
    """See it as it is at one moment: by MULTI, by a script, or by MGET."""
    reads = kept.look()
    if atomic and caller.rng.random() < 0.3 and {read[0] for read in reads} == {b"GET"}:
        return asked(caller, (b"MGET", *(read[1] for read in reads)))
    if caller.rng.random() < 0.3:
        return asked(caller, script(READ, [read[1] for read in reads], *_spelled(reads)))
    return transaction(caller, reads)


def watched(
    caller: Caller, keys: Sequence[bytes], reads: Sequence[Request]
) -> Generator[list[Request] | float, list[Answer], list[Reply] | None]:
    """Watch keys and read them; None, and no key is watched, if that could not be."""
    first, *answers = yield [(b"WATCH", *keys), *reads]
    found = [answer.reply for answer in answers]
    if first.reply == "OK" and not any(isinstance(reply, ReplyError) for reply in found):
        return found
    yield [(b"UNWATCH",)]
    return None


def _unchanged(caller: Caller, had: Sequence[Reply], outcome: Outcome) -> None:
    """What EXEC has run begins with the reads that followed WATCH."""
    found = list(outcome.replies[: len(had)])
    if outcome.done and found != had:
        caller.problems.append(f"at {caller.now():.4f} s {had} when watched, {found} in the transaction")


READ: Final = b"""
local found, at = {}, 1
for i, key in ipairs(KEYS) do
    local count = tonumber(ARGV[at])
    found[i] = redis.call(ARGV[at + 1], key, unpack(ARGV, at + 2, at + count))
    at = at + count + 1
end
return found
"""


def _spelled(reads: Sequence[Request]) -> list[bytes]:
    words: list[bytes] = []
    for name, _, *rest in reads:
        words += [b"%d" % (1 + len(rest)), name, *rest]
    return words


def script(text: bytes, keys: Sequence[bytes], *arguments: bytes) -> Request:
    return (b"EVAL", text, b"%d" % len(keys), *keys, *arguments)


def of_script(outcome: Outcome) -> Sequence[Reply]:
    """Its replies, if what it has answered is a list of them."""
    (reply,) = outcome.replies
    return reply if isinstance(reply, list) else [reply]


TRANSFER: Final = b"""
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[1])
redis.call('INCRBY', KEYS[2], ARGV[1])
return 1
"""


class Bank:
    """Accounts, between which money is moved: the sum is always the same, and WATCH keeps what was read."""

    name = "bank"
    EACH: Final = 100

    def __init__(self, accounts: int) -> None:
        self.keys = [b"tx:account:%d" % number for number in range(accounts)]

    def prepare(self) -> list[Request]:
        return [(b"SET", key, b"%d" % self.EACH) for key in self.keys]

    def look(self) -> list[Request]:
        return [(b"GET", key) for key in self.keys]

    def change(self, caller: Caller, *, atomic: bool) -> Job:
        one, other = caller.rng.sample(self.keys, 2)
        amount = b"%d" % caller.rng.randint(1, 30)
        move: list[Request] = [(b"DECRBY", one, amount), (b"INCRBY", other, amount)]
        way = caller.rng.random()
        if way < 0.3:
            yield from asked(caller, script(TRANSFER, [one, other], amount))
        elif way < 0.5:
            yield from transaction(caller, move)
        else:
            reads: list[Request] = [(b"GET", one), (b"GET", other)]
            had = yield from watched(caller, [one, other], reads)
            if had is None:
                return
            if caller.rng.random() < 0.5:
                yield caller.rng.uniform(0, 0.05)
            outcome = yield from transaction(caller, [*reads, *move], watching=True)
            _unchanged(caller, had, outcome)

    def saw(self, replies: Sequence[Reply], invoked: float, returned: float) -> str:
        balances = [int(reply) for reply in replies if isinstance(reply, bytes)]
        whole = len(balances) == len(self.keys) and sum(balances) == self.EACH * len(self.keys)
        return "" if whole else f"the accounts are {replies}"

    def finish(self) -> list[str]:
        return []


class Tokens:
    """Tokens in lists, from one of which to another LMOVE takes them: each is always in one of them, once."""

    name = "tokens"
    TOKENS: Final = tuple(b"t%d" % number for number in range(8))

    def __init__(self, places: int) -> None:
        self.keys = [b"tx:tokens:%d" % number for number in range(places)]

    def prepare(self) -> list[Request]:
        return [*((b"DEL", key) for key in self.keys), (b"RPUSH", self.keys[0], *self.TOKENS)]

    def look(self) -> list[Request]:
        return [(b"LRANGE", key, b"0", b"-1") for key in self.keys]

    def change(self, caller: Caller, *, atomic: bool) -> Job:
        source, target = (caller.rng.choice(self.keys) for _ in range(2))
        ends = (caller.rng.choice((b"LEFT", b"RIGHT")) for _ in range(2))
        moves: tuple[Request, ...] = ((b"LMOVE", source, target, *ends), (b"RPOPLPUSH", source, target))
        yield from asked(caller, caller.rng.choice(moves))

    def saw(self, replies: Sequence[Reply], invoked: float, returned: float) -> str:
        found = sorted([repr(token) for reply in replies if isinstance(reply, list) for token in reply])
        return "" if found == sorted(map(repr, self.TOKENS)) else f"the lists are {replies}"

    def finish(self) -> list[str]:
        return []


class Members:
    """Members of sets, from one of which to another SMOVE takes them; and unions of all sets, which are never less."""

    name = "members"
    MEMBERS: Final = tuple(b"m%d" % number for number in range(6))

    def __init__(self, places: int) -> None:
        self.keys = [b"tx:members:%d" % number for number in range(places)]
        self.all, self.none = b"tx:members:all", b"tx:members:none"

    def prepare(self) -> list[Request]:
        sets: list[Request] = [(b"DEL", key) for key in self.keys]
        return [
            *sets,
            (b"SADD", self.keys[0], *self.MEMBERS),
            (b"SUNIONSTORE", self.all, *self.keys),
            (b"SINTERSTORE", self.none, *self.keys),
        ]

    def look(self) -> list[Request]:
        return [*((b"SMEMBERS", key) for key in (*self.keys, self.all)), (b"SCARD", self.none)]

    def change(self, caller: Caller, *, atomic: bool) -> Job:
        rng = caller.rng
        requests: tuple[Request, ...] = (
            (b"SMOVE", *rng.sample(self.keys, 2), rng.choice(self.MEMBERS)),
            (b"SUNIONSTORE", self.all, *self.keys),
            (b"SINTERSTORE", self.none, *self.keys),
            (b"SUNION", *self.keys),
        )
        request = requests[0] if rng.random() < 0.6 else rng.choice(requests)
        outcome = yield from asked(caller, request)
        if request[0] == b"SUNION" and outcome.done and not self._whole(of_script(outcome)):
            caller.problems.append(f"at {caller.now():.4f} s SUNION of the sets is {outcome.replies}")

    def _whole(self, *sets: Any) -> bool:
        return sorted([member for one in sets for member in one]) == sorted(self.MEMBERS)

    def saw(self, replies: Sequence[Reply], invoked: float, returned: float) -> str:
        *sets, union, common = replies
        right = self._whole(*sets) and self._whole(union) and common == 0
        return (
            ""
            if right
            else f"the sets are {sets}, stored their union {union!r} and the size of their section {common!r}"
        )

    def finish(self) -> list[str]:
        return []


class Hat:
    """One string, which RENAME gives another name: it has always one, and what it holds is what it held."""

    name = "hat"

    def __init__(self, names: int) -> None:
        self.keys = [b"tx:hat:%d" % number for number in range(names)]

    def prepare(self) -> list[Request]:
        return [*((b"DEL", key) for key in self.keys), (b"SET", self.keys[0], b"hat")]

    def look(self) -> list[Request]:
        return [(b"GET", key) for key in self.keys]

    def change(self, caller: Caller, *, atomic: bool) -> Job:
        one, other = caller.rng.sample(self.keys, 2)
        names: tuple[bytes, ...] = (b"RENAME", b"RENAMENX")
        # Within MULTI "no such key" is a reply among others.
        yield from transaction(caller, [(caller.rng.choice(names), one, other)])

    def saw(self, replies: Sequence[Reply], invoked: float, returned: float) -> str:
        return (
            ""
            if sorted(map(repr, replies)) == sorted([repr(b"hat"), *["None"] * (len(self.keys) - 1)])
            else (f"the hat's names hold {replies}")
        )

    def finish(self) -> list[str]:
        return []


class Pairs:
    """Two keys that transactions set to one value, delete, and have expire together; and three for MSETNX."""

    name = "pairs"
    ERA_S: Final = 2.0

    def __init__(self) -> None:
        self.keys = [b"tx:pair:a", b"tx:pair:b"]
        self._deadlines: dict[bytes, tuple[float, float]] = {}
        """By value: from when it may have expired, and when it must have."""
        self._undone: set[bytes] = set()
        self._seen: list[tuple[Sequence[Reply], float, float]] = []
        self._claims: dict[int, list[bytes]] = {}
        self._refused: set[bytes] = set()
        self._claimed: list[tuple[int, Sequence[Any]]] = []

    def prepare(self) -> list[Request]:
        return [(b"DEL", key) for key in self.keys]

    def look(self) -> list[Request]:
        return [(b"GET", key) for key in self.keys]

    def change(self, caller: Caller, *, atomic: bool) -> Job:
        way = caller.rng.random()
        if way < 0.2:
            yield from self._claim(caller)
        elif way < 0.3 and atomic:
            yield from asked(caller, (b"DEL", *self.keys))
        elif way < 0.3:
            yield from transaction(caller, [(b"DEL", key) for key in self.keys])
        elif way < 0.5:
            yield from self._watch(caller)
        else:
            yield from self._set(caller, atomic=atomic)

    def _set(self, caller: Caller, *, atomic: bool) -> Steps:
        rng, value = caller.rng, caller.name()
        seconds = rng.choice((inf, 0.05, 0.3, 2.0))
        milliseconds = b"%d" % (0 if seconds == inf else 1000 * seconds)
        one, other = self.keys
        ways: list[list[Request]] = [
            [(b"SET", one, value), (b"SET", other, value)],
            [(b"MSET", one, value, other, value)],
        ]
        commands = rng.choice(ways)
        if seconds != inf:
            commands = [*commands, *((b"PEXPIRE", key, milliseconds) for key in self.keys)]
        if atomic and seconds == inf:
            outcome = yield from asked(caller, (b"MSET", one, value, other, value))
        elif rng.random() < 0.3:
            outcome = yield from asked(caller, script(SET_BOTH, self.keys, value, milliseconds))
        else:
            outcome = yield from transaction(caller, commands)
        self._deadlines[value] = (
            outcome.invoked + seconds - EXPIRY_EARLY_S,
            outcome.returned + seconds + EXPIRY_SLACK_S,
        )
        if outcome.done is False:
            self._undone.add(value)
        return outcome

    def _watch(self, caller: Caller) -> Job:
        """What is watched expires, or is changed, or neither."""
        reads: list[Request] = [(b"GET", key) for key in self.keys]
        had = yield from watched(caller, self.keys, reads)
        if had is not None:
            yield caller.rng.choice((0.001, 0.1, 1.5))
            outcome = yield from transaction(caller, [*reads, *((b"DEL", key) for key in self.keys)], watching=True)
            _unchanged(caller, had, outcome)

    def _claim(self, caller: Caller) -> Job:
        era, value = int(caller.now() / self.ERA_S), caller.name()
        keys = [b"tx:claim:%d:%d" % (number, era) for number in range(3)]
        if caller.rng.random() < 0.4:
            outcome = yield from transaction(caller, [(b"GET", key) for key in keys])
            if outcome.done:
                self._claimed.append((era, outcome.replies))
            return
        outcome = yield from asked(caller, (b"MSETNX", *(word for key in keys for word in (key, value))))
        if outcome.done and outcome.replies[0] == 1:
            self._claims.setdefault(era, []).append(value)
        elif outcome.done is not None:
            self._refused.add(value)

    def saw(self, replies: Sequence[Reply], invoked: float, returned: float) -> str:
        """Judged in the end: a value may be read before its writer is answered."""
        self._seen.append((replies, invoked, returned))
        return ""

    def finish(self) -> list[str]:
        wrong = [
            f"a pair is {replies}, {invoked:.4f} to {returned:.4f} s"
            for replies, invoked, returned in self._seen
            if not self._can_be(replies, invoked, returned)
        ]
        wrong += [f"MSETNX of era {era} has set {values}" for era, values in self._claims.items() if len(values) > 1]
        for era, replies in self._claimed:
            values = set(replies)
            if (
                len(values) > 1
                or values & self._refused
                or (era in self._claims and values - {None, *self._claims[era]})
            ):
                wrong.append(
                    f"what MSETNX has set in era {era} is {replies}, it has answered 1 to {self._claims.get(era)}"
                )
        return wrong

    def _can_be(self, replies: Sequence[Any], invoked: float, returned: float) -> bool:
        values = {reply for reply in replies if reply is not None}
        if not values:
            return True
        early, late = self._deadlines.get(next(iter(values)), (inf, inf))
        if len(values) > 1 or values & self._undone or invoked > late:
            return False
        return len(values) == 1 and (None not in replies or returned >= early)


SET_BOTH: Final = b"""
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1]) end
if ARGV[2] ~= '0' then for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[2]) end end
return 1
"""


def kept_things(rng: Random, *, few: bool) -> list[Kept]:
    """All of them; with `few` clients meet each other more often."""

    def places() -> int:
        return rng.randint(2, 3) if few else rng.randint(3, 6)

    return [Bank(places() + 1), Tokens(places()), Members(places()), Hat(places()), Pairs()]
