"""Two processes of one name: which of them may have it.

The later one is asked to wait while the earlier one is asked for a sign of life. If both get in all the same, the
earlier one contests: a later one that is young gives way, one that has settled does not.
"""

from __future__ import annotations

from math import inf
from typing import Final

from peerkv.gossip.exchanges import JOIN_PATIENCE_S
from peerkv.gossip.member import Address, Member, NameTaken
from peerkv.gossip.membership import SETTLED_AFTER_S, TELL_INTERVAL_S, Membership
from peerkv.gossip.messages import Admission, Contest, Ping
from peerkv.settings import address_text

QUESTIONS_MAX: Final = 64


class Names:
    """Who may have which name, this node's own among them."""

    def __init__(self, members: Membership, now: float) -> None:
        self._members = members
        self._born = now
        self._questions: dict[str, tuple[int, float]] = {}
        """Names that are wanted by a later process while an earlier one is held alive: which process, since when."""
        self._contested_at = -inf

    def admit(self, now: float, theirs: Member) -> tuple[Admission, str]:
        """May this process have its name? Not at once, if another one that may be alive has it."""
        held = self._members.by_name.get(theirs.name)
        if held is None or held.life >= theirs.life or not held.live or held.address == theirs.address:
            return Admission.WELCOME, ""
        if held is self._members.me:
            return Admission.NAME_TAKEN, address_text(*held.address)
        process, asked_at = self._questions.get(theirs.name, (0, -inf))
        if process != theirs.process:
            while len(self._questions) >= QUESTIONS_MAX:
                del self._questions[next(iter(self._questions))]
            process, asked_at = self._questions[theirs.name] = theirs.process, now
        if self._members.standings[theirs.name].heard > asked_at:
            self._questions.pop(theirs.name, None)
            return Admission.NAME_TAKEN, address_text(*held.address)
        if now - asked_at >= JOIN_PATIENCE_S[0]:
            self._questions.pop(theirs.name, None)
            return Admission.WELCOME, ""
        self._members.send(held.address, held.process, Ping(self._members.next_number()))
        return Admission.WAIT, f"{theirs.name} may still be alive at {address_text(*held.address)}"

    def settled(self, now: float) -> bool:
        return now - self._born >= SETTLED_AFTER_S

    def contest(self, now: float, address: Address, process: int) -> None:
        if now - self._contested_at >= TELL_INTERVAL_S:
            self._contested_at = now
            self._members.send(address, process, Contest(self._members.me.generation))

    def contested(self, now: float, source: Address, process: int, generation: int) -> None:
        """The later one decides: if it has settled, it says so, and the earlier one gives way; or else itself."""
        if (generation, process) < self._members.me.life and self.settled(now):
            self.contest(now, source, process)
        else:
            self.give_way(f"{source[0]}:{source[1]}")

    def give_way(self, holder: str) -> None:
        if not self._members.leaving:
            self._members.log(
                "error", f"another node named {self._members.me.name!r} is alive at {holder}; this one must not run"
            )
            self._members.leave()
        self._members.outbox.events.append(NameTaken(self._members.me.name, holder))
        self._members.silent = True
