"""Transactions, scripts and commands of several keys as clients ask for them, and what must hold of them.

lists    every one appends an id of its own, and reads: judged as one history (`serializable`)
kept     what must be whole whoever looks (`conserved`)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from peerkv.resp import Reply, ReplyError
from tests.sim.conserved import Kept, Steps, kept_things, looked, of_script, script, watched
from tests.sim.jobs import (
    DISCARD,
    EXEC,
    MULTI,
    Answer,
    Caller,
    Job,
    Outcome,
    asked,
    judge,
    read_transaction,
    transaction,
)
from tests.sim.requests import Request
from tests.sim.serializable import Appending, violations

ERA_S: Final = 2.0
"""Lists go out of use, so that reading them whole stays cheap."""
SLOTS_APART: Final = (b"tx:list:%d:%%d", 6, 3)
"""Names of lists; how many there are, and with few; ..."""
ONE_SLOT: Final = (b"{tx}:%d:%%d", 3, 2)
"""... and of those in one slot."""


def _all(key: bytes) -> Request:
    return (b"LRANGE", key, b"0", b"-1")


APPEND: Final = b"""
local found = {}
for i = 1, #KEYS do redis.call('RPUSH', KEYS[i], ARGV[1]) end
for i = 2, #ARGV do redis.call('RPUSH', ARGV[i], ARGV[1]) end
for i = 1, #KEYS do found[#found + 1] = redis.call('LRANGE', KEYS[i], 0, -1) end
for i = 2, #ARGV do found[#found + 1] = redis.call('LRANGE', ARGV[i], 0, -1) end
return found
"""
"""Appends to the keys that are declared, and to those among its arguments that are not."""
FOLLOW: Final = b"""
local ids = redis.call('LRANGE', KEYS[1], 0, -1)
local key = ARGV[2 + #ids % (#ARGV - 1)]
redis.call('RPUSH', key, ARGV[1])
return {ids, redis.call('LRANGE', key, 0, -1), key}
"""
"""Appends to a key that what another one holds says."""


class Transactions:
    """A load of such clients, and what came of it."""

    def __init__(self, rng: Random, *, few: bool = False, atomic: bool = False) -> None:
        """`few`: keys, so that clients meet. `atomic`: MGET, MSET and DEL are of one moment, too (atomic_multi_key)."""
        self.rng = rng
        self.atomic = atomic
        self.few = few
        self.problems: list[str] = []
        self.refusals: list[str] = []
        self.operations: list[Appending] = []
        self.outcomes = {True: 0, False: 0, None: 0}
        """How many were done, were not, and who knows."""
        self.aborted = 0
        self.lists: dict[bytes, None] = {}
        """All that were ever named."""
        self.kept: list[Kept] = kept_things(rng, few=few)
        self._loaded: dict[bytes, bytes] = {}
        """Scripts that every node must know, and their digests."""
        self._ready: set[str] = set()
        """Kept things that are set up."""

    def job(self, caller: Caller) -> Job:
        """What a client does next."""
        rng = caller.rng
        if rng.random() < 0.45:
            return self._on_kept(caller, rng.choice(self.kept))
        return self._on_lists(caller)

    # -- what is kept

    def _on_kept(self, caller: Caller, kept: Kept) -> Job:
        if kept.name not in self._ready:
            outcome = yield from transaction(caller, kept.prepare())
            if outcome.done:
                self._ready.add(kept.name)
        elif caller.rng.random() < 0.6:
            yield from kept.change(caller, atomic=self.atomic)
        else:
            outcome = yield from looked(caller, kept, atomic=self.atomic)
            self._saw(kept, outcome)

    def _saw(self, kept: Kept, outcome: Outcome) -> None:
        self._count(outcome)
        if outcome.done:
            replies = outcome.replies
            if len(replies) == 1 and len(kept.look()) > 1:
                replies = of_script(outcome)
            wrong = kept.saw(replies, outcome.invoked, outcome.returned)
            if wrong:
                self.problems.append(f"{wrong}, {outcome.invoked:.4f} to {outcome.returned:.4f} s")

    def _count(self, outcome: Outcome) -> None:
        self.outcomes[outcome.done] += 1
        self.aborted += outcome.aborted

    # -- lists

    def _some(self, caller: Caller, least: int, most: int) -> list[bytes]:
        """Lists that are in use."""
        rng, era = caller.rng, int(caller.now() / ERA_S)
        apart = rng.random() < 0.85
        name, many, few = SLOTS_APART if apart or most == 1 else ONE_SLOT
        names = [name % era % number for number in range(few if self.few else many)]
        if apart and rng.random() < 0.3:
            names += [ONE_SLOT[0] % era % number for number in range(2)]
        found = rng.sample(names, min(len(names), rng.randint(least, most)))
        self.lists.update(dict.fromkeys(found))
        return found

    def _on_lists(self, caller: Caller) -> Job:
        ways: tuple[Callable[[Caller], Job], ...] = (
            *(self._single, self._single, self._several, self._several, self._several, self._read),
            *(self._watch, self._watch, self._pipeline, self._script, self._follow),
        )
        yield from caller.rng.choice(ways)(caller)

    def _enter(
        self,
        caller: Caller,
        what: str,
        name: bytes,
        outcome: Outcome,
        appends: Sequence[bytes],
        reads: dict[bytes, Any],
        had: dict[bytes, Any] | None = None,
    ) -> None:
        """Into the history."""
        self._count(outcome)
        for key, ids in reads.items():
            if not isinstance(ids, list):
                self.problems.append(f"{what} {name!r} has read {ids!r} of {key!r}")
                return
        connection, order = outcome.place
        self.operations.append(
            Appending(
                name,
                outcome.invoked,
                outcome.returned if outcome.done else float("inf"),
                outcome.done,
                appends,
                reads,
                had or {},
                connection,
                order,
                what=what,
            )
        )

    def _single(self, caller: Caller) -> Job:
        (key,), name = self._some(caller, 1, 1), caller.name()
        request: Request = _all(key) if caller.rng.random() < 0.5 else (b"RPUSH", key, name)
        outcome = yield from asked(caller, request)
        self._enter_single(caller, request, name, outcome)

    def _enter_single(self, caller: Caller, request: Request, name: bytes, outcome: Outcome) -> None:
        key, reads = request[1], request[0] == b"LRANGE"
        seen = {key: outcome.replies[0]} if reads and outcome.done else {}
        if not reads or outcome.done:
            self._enter(caller, request[0].decode(), name, outcome, () if reads else (key,), seen)

    def _commands(self, keys: Sequence[bytes], name: bytes, rng: Random) -> list[Request]:
        """Append to each of the lists and read it, in any order of the lists."""
        pushes: list[Request] = [(b"RPUSH", key, name) for key in keys]
        reads = [_all(key) for key in keys]
        rng.shuffle(pushes)
        if rng.random() < 0.3:
            return [*pushes, *reads]
        at = {request[1]: request for request in reads}
        return [request for push in pushes for request in (push, at[push[1]])]

    def _several(self, caller: Caller) -> Job:
        rng, name = caller.rng, caller.name()
        keys = self._some(caller, 2, 4)
        commands = self._commands(keys, name, rng)
        wrong: Request = (b"INCR", keys[0])
        if rng.random() < 0.1:  # an error within, which undoes nothing
            commands.append(wrong)
        last = DISCARD if rng.random() < 0.05 else EXEC
        spoiled = last == EXEC and rng.random() < 0.05
        if rng.random() < 0.1:  # EXEC alone must not look at what is watched no more
            yield [(b"WATCH", *keys)]
            yield caller.rng.uniform(0, 0.02)
            yield [(b"UNWATCH",)] if rng.random() < 0.5 else [MULTI, DISCARD]
        outcome = yield from transaction(caller, commands, last=last, spoiled=spoiled)
        self._enter_several(caller, "MULTI", name, keys, commands, outcome)

    def _enter_several(
        self,
        caller: Caller,
        what: str,
        name: bytes,
        keys: Sequence[bytes],
        commands: Sequence[Request],
        outcome: Outcome,
        had: dict[bytes, Any] | None = None,
    ) -> None:
        reads: dict[bytes, Any] = {}
        for request, reply in zip(commands, outcome.replies, strict=False):
            if request[0] == b"LRANGE":
                reads[request[1]] = reply
        for request, reply in zip(commands, outcome.replies, strict=False):
            if request[0] == b"INCR":
                right: object = isinstance(reply, ReplyError) and reply.text.startswith("WRONGTYPE")
            else:
                right = request[0] == b"LRANGE" or not isinstance(reply, ReplyError)
            if request[0] == b"RPUSH" and isinstance(reads.get(request[1]), list):
                right = reply == len(reads[request[1]])
            if not right:
                self.problems.append(f"at {caller.now():.4f} s in {what} {request!r} is answered {reply!r}")
        if keys or outcome.done:
            self._enter(caller, what, name, outcome, keys, reads, had)

    def _read(self, caller: Caller) -> Job:
        name, commands = caller.name(), [_all(key) for key in self._some(caller, 2, 5)]
        outcome = yield from transaction(caller, commands)
        self._enter_several(caller, "read", name, (), commands, outcome)

    def _watch(self, caller: Caller) -> Job:
        rng, name = caller.rng, caller.name()
        keys = self._some(caller, 2, 4)
        written = keys[: rng.randint(1, len(keys))]
        had = yield from watched(caller, keys, [_all(key) for key in keys])
        if had is None:
            return
        if rng.random() < 0.5:
            yield rng.uniform(0, 0.05)
        commands = [*self._commands(written, name, rng), *(_all(key) for key in keys if key not in written)]
        outcome = yield from transaction(caller, commands, watching=True)
        self._enter_several(caller, "WATCH", name, written, commands, outcome, dict(zip(keys, had, strict=True)))

    def _pipeline(self, caller: Caller) -> Job:
        """Several at once, of the same lists, which take effect in the order in which they are sent."""
        rng = caller.rng
        sent: list[tuple[bytes, list[bytes], list[Request], Outcome]] = []
        requests: list[Request] = []
        keys = self._some(caller, 2, 3)
        for _ in range(rng.randint(2, 4)):
            name = caller.name()
            if rng.random() < 0.4:
                key = rng.choice(keys)
                commands: list[Request] = [_all(key) if rng.random() < 0.5 else (b"RPUSH", key, name)]
                requests += commands
            else:
                commands = self._commands(keys, name, rng)
                requests += [MULTI, *commands, EXEC]
            sent.append((name, keys, commands, Outcome(caller.now(), caller.place())))
        caller.commits()
        answers: list[Answer] = yield requests
        for name, keys, commands, outcome in sent:
            if len(commands) == 1:
                judge(caller, outcome, answers.pop(0), commands[0])
                self._enter_single(caller, commands[0], name, outcome)
            else:
                own, answers = answers[: len(commands) + 2], answers[len(commands) + 2 :]
                read_transaction(caller, outcome, commands, own)
                self._enter_several(caller, "MULTI in a pipeline", name, keys, commands, outcome)

    def _scripted(self, caller: Caller, request: Request) -> Steps:
        """EVAL, or by its digest what any node was told."""
        text = request[1]
        if text not in self._loaded and caller.rng.random() < 0.1:
            outcome = yield from asked(caller, (b"SCRIPT", b"LOAD", text))
            digest = outcome.replies[0] if outcome.done else None
            if isinstance(digest, bytes):
                self._loaded[text] = digest
        if text in self._loaded and caller.rng.random() < 0.5:
            request = (b"EVALSHA", self._loaded[text], *request[2:])
        return (yield from asked(caller, request))

    def _script(self, caller: Caller) -> Job:
        name, keys = caller.name(), self._some(caller, 2, 4)
        declared = caller.rng.randint(1, len(keys))
        outcome = yield from self._scripted(caller, script(APPEND, keys[:declared], name, *keys[declared:]))
        reads = dict(zip(keys, of_script(outcome), strict=True)) if outcome.done else {}
        self._enter(caller, "EVAL", name, outcome, keys, reads)

    def _follow(self, caller: Caller) -> Job:
        """Where it appends is not known before it is answered."""
        name, (key, *others) = caller.name(), self._some(caller, 3, 4)
        if not others:
            return
        outcome = yield from self._scripted(caller, script(FOLLOW, [key], name, *others))
        if outcome.done:
            seen, ids, other = of_script(outcome)
            assert isinstance(other, bytes), "one of its arguments"
            self._enter(caller, "EVAL that follows", name, outcome, [other], {key: seen, other: ids})
        elif outcome.done is None:  # of these one, or none
            self._enter(caller, "EVAL that follows", name, outcome, others, {})
            self.operations[-1].one_of = True

    # -- in the end

    def final(self, caller: Caller) -> Steps:
        """One node's word on everything, in one transaction of all that is kept and of all lists by themselves."""
        for kept in [kept for kept in self.kept if kept.name in self._ready]:
            outcome = yield from transaction(caller, kept.look(), at_once=True)
            self._saw(kept, outcome)
            if not outcome.done:
                self.problems.append(f"{kept.name} cannot be read in the end")
        keys = list(self.lists)
        place, invoked = caller.place(), caller.now()
        answers = yield [_all(key) for key in keys]
        found: dict[bytes, Reply] = {key: answer.reply for key, answer in zip(keys, answers, strict=True)}
        outcome = Outcome(invoked, place, caller.now(), True, list(found.values()))
        for key, ids in found.items():
            self._enter(caller, "read in the end", caller.name(), outcome, (), {key: ids})
        return outcome

    def judge(self, ends: Sequence[Outcome]) -> None:
        """After all; `ends`: what each node has said."""
        for kept in self.kept:
            self.problems += kept.finish()
        finals = [dict(zip(self.lists, end.replies, strict=True)) for end in ends]
        for final in finals[1:]:
            self.problems += [
                f"{key!r} ends as {final[key]!r} and {finals[0][key]!r}"
                for key in final
                if final[key] != finals[0][key]
            ]
        lists: Any = finals[0] if finals else {}
        if all(isinstance(ids, list) for ids in lists.values()):
            self.problems += violations(self.operations, lists)
