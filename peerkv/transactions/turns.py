"""Transactions of this node's clients that want the same keys: they have their turns here, not at the homes.

Who comes while another one has a key of its waits until that one is through, first come, first served; so what clients
of one node want of one key costs no attempts in vain. And those that wait for the same slots are begun as one: fifty
clients that change two keys cost what a few do. What they are promised is the same: they are of one moment, one after
another in the order in which they came, and what fails as one is done one by one.

It is only about speed. Keys that nobody has named are not known here, other nodes have turns of their own, and nobody
waits here for longer than a hedge: who holds a key is known by its home (`agreement/holds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from peerkv.commands.table import Kind, find_part
from peerkv.resp import Reply, ReplyError

if TYPE_CHECKING:
    from peerkv.transactions.coordination import Work

Answer: TypeAlias = Callable[[Reply], None]
TOGETHER_MAX: Final = 256
"""Transactions that are begun as one, and ..."""
ARGUMENTS_MAX: Final = 4096
"""... the arguments that their commands have, ..."""
BYTES_MAX: Final = 1 << 20
"""... and bytes."""


@dataclass(slots=True, eq=False)
class Turn:
    """Transactions that are begun as one."""

    works: list[tuple[Work, Answer]]
    keys: dict[bytes, None]
    since: float
    """When the first of them came."""
    slots: frozenset[int] = frozenset()
    """Of those that more may join; empty: none may."""
    arguments: int = 0
    size: int = 0
    behind: int = 0
    """So many of its keys others have before it."""


class Turns:
    """Of one node's transactions."""

    def __init__(self, begin: Callable[[Work, Answer], None], slot_of: Callable[[bytes], int]) -> None:
        self._begin = begin
        self._slot_of = slot_of
        self._lines: dict[bytes, list[Turn]] = {}
        """Per key who wants it, in order; the first one has it."""
        self._waiting: dict[Turn, None] = {}
        self._ready: list[Turn] = []
        self._beginning = False

    def __len__(self) -> int:
        """Turns that have not been begun."""
        return len(self._waiting)

    def take(self, work: Work, answer: Answer, now: float) -> None:
        """Begin a transaction when all that want a key of its and came before are through: now, if there are none."""
        keys = {**work.keys, **dict.fromkeys(work.seen)} if work.seen else work.keys
        lines = self._lines
        before = [lines[key][-1] for key in keys if key in lines]
        if not before:
            work.turn = turn = Turn([(work, answer)], dict(keys), now)
            for key in keys:
                lines[key] = [turn]
            self._begin(work, answer)
            return
        first = before[0]
        if all(turn is first for turn in before) and self._join(first, work, answer):
            return
        turn = Turn([(work, answer)], dict(keys), now)
        arguments, size = _measure(work)
        if _may_join(work, arguments, size):
            turn.slots = frozenset(map(self._slot_of, keys))
            turn.arguments, turn.size = arguments, size
        for key in keys:
            line = lines.setdefault(key, [])
            turn.behind += bool(line)
            line.append(turn)
        self._waiting[turn] = None

    def _join(self, turn: Turn, work: Work, answer: Answer) -> bool:
        """Whether a transaction can be one with others that wait; then it is."""
        if not turn.slots or turn not in self._waiting or len(turn.works) >= TOGETHER_MAX:
            return False
        arguments, size = _measure(work)
        if not _may_join(work, turn.arguments + arguments, turn.size + size):
            return False
        if turn.slots != set(map(self._slot_of, work.keys)):  # where one fails for want of a quorum so do all
            return False
        turn.works.append((work, answer))
        turn.arguments += arguments
        turn.size += size
        for key in work.keys:
            if key not in turn.keys:  # so nobody wants it
                turn.keys[key] = None
                self._lines[key] = [turn]
        return True

    def leave(self, work: Work) -> None:
        """It is through, or will not be for long: whoever waits for its keys has its turn."""
        turn, work.turn = work.turn, None
        if turn is None:
            return
        for key in turn.keys:
            line = self._lines[key]
            was_first = line[0] is turn
            line.remove(turn)
            if not line:
                del self._lines[key]
            elif was_first:
                line[0].behind -= 1
                if not line[0].behind and line[0] in self._waiting:
                    self._ready.append(line[0])
        self._begin_ready()

    def look(self, since: float) -> None:
        """Begin those that wait since then, or for longer, whoever is before them."""
        self._ready += [turn for turn in self._waiting if turn.since <= since]
        self._begin_ready()

    def _begin_ready(self) -> None:
        if self._beginning:  # one that was begun is through at once
            return
        self._beginning = True
        try:
            while self._ready:
                turn = self._ready.pop(0)
                if turn in self._waiting:
                    del self._waiting[turn]
                    work, answer = turn.works[0] if len(turn.works) == 1 else self._as_one(turn)
                    work.turn = turn
                    self._begin(work, answer)
        finally:
            self._beginning = False

    def _as_one(self, turn: Turn) -> tuple[Work, Answer]:
        works = turn.works
        whole = works[0][0].joined([work for work, _ in works[1:]])

        def answer(reply: Reply) -> None:
            if isinstance(reply, ReplyError) and reply.text.startswith("ERR"):  # nothing was done, for one of them
                for work, answer_one in works:
                    work.joins = False
                    self.take(work, answer_one, turn.since)
                return
            at = 0
            for work, answer_one in works:
                count = len(work.requests)
                answer_one(reply[at : at + count] if isinstance(reply, list) else reply)
                at += count

        return whole, answer


def _measure(work: Work) -> tuple[int, int]:
    requests = work.requests
    return sum(map(len, requests)), sum([len(argument) for request in requests for argument in request])


def _may_join(work: Work, arguments: int, size: int) -> bool:
    """Whether it can be one with others, which are of so much together: it fails only where each of them does."""
    return (
        work.apart
        and work.joins
        and work.note is None
        and not work.seen
        and arguments <= ARGUMENTS_MAX
        and size <= BYTES_MAX
        and not any(_is_script(request) for request in work.requests)
    )


def _is_script(request: Sequence[bytes]) -> bool:
    row = find_part(request[0])
    return row is None or row.kind is Kind.SCRIPT
