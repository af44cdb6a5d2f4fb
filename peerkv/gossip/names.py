"""Whose a name is: no process gets one, or loses one, before it has been asked at the address where it is said to be.

- A life that is new here is asked before it counts, whoever has told of it; so is one that is said to have moved, or
  whose incarnation leaps. Who asks is answered by the address itself (an exchange by TCP): a datagram can be anybody's.
- A process that wants a name which another one holds is told to wait while that one is asked for a sign of life. If
  its clock is behind, so that it seems the earlier one, it asks itself.
- If both get in all the same, the earlier one contests, by a datagram that only counts for the very life that it is
  addressed to, and that leads to no more than a question: once the other one has answered at its address, a later one
  that is young gives way, and one that has settled does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from peerkv.gossip.exchanges import JOIN_PATIENCE_S, Exchange, Exchanges
from peerkv.gossip.member import Address, Claim, Member, NameTaken, located, supersedes
from peerkv.gossip.membership import INCARNATIONS_MAX, SETTLED_AFTER_S, TELL_INTERVAL_S, Membership, Standing
from peerkv.gossip.messages import Admission, Contest, Datagram, ExchangeAnswer, Ping, Purpose
from peerkv.settings import address_text

QUESTIONS_MAX: Final = 64
"""Processes that are asked at a time; of others we hear again, from whoever holds them for members."""
APPLICANTS_MAX: Final = 64
"""Processes that wait for a name at a time; others wait for that, too."""
APPLICATION_LASTS_S: Final = 10.0
ASKED_AGAIN_S: Final = 0.25
"""A holder is asked for a sign of life at most this often, however many want its name."""


class _Rivalry(Enum):
    """What hangs on the answer of a process that has our own name."""

    NONE = 0
    CONTEST = 1
    """It contests the name."""
    HOLDER = 2
    """It had the name when we came."""


@dataclass(slots=True)
class _Question:
    """A process that is asked whether it is who it is said to be."""

    name: str
    asked_at: float
    rivalry: _Rivalry


class Names:
    """Who may have which name, this node's own among them."""

    def __init__(self, members: Membership, exchanges: Exchanges, now: float) -> None:
        self._members = members
        self._exchanges = exchanges
        self._born = now
        self._questions: dict[int, _Question] = {}
        """By process; those of the last moments are kept, so that nobody is asked too often."""
        self._applicants: dict[tuple[str, int], float] = {}
        """(name, process) of those that want a name which another one holds, since when."""
        self._contested_at = -inf
        self.yields = False
        """A later process of our name may have it, young or not."""

    # Questions

    def is_credible(self, held: Member, theirs: Member) -> bool:
        """Whether a member's word for this is enough, of a life that is known. If not, the process itself is asked."""
        moved = theirs.live and theirs.address != held.address and bool(held.host)
        return not moved and theirs.incarnation <= held.incarnation + INCARNATIONS_MAX

    def ask(self, now: float, theirs: Member, rivalry: _Rivalry = _Rivalry.NONE) -> None:
        """Ask a process at its address whether it is who it is said to be."""
        questions = self._questions
        asked = questions.get(theirs.process)
        if not theirs.live or self._members.leaving or (asked is not None and now - asked.asked_at < TELL_INTERVAL_S):
            return
        if asked is None and len(questions) >= QUESTIONS_MAX:
            for past in [past for past, question in questions.items() if now - question.asked_at >= TELL_INTERVAL_S]:
                del questions[past]
            if len(questions) >= QUESTIONS_MAX:
                return
        if self._exchanges.open(now, theirs.address, Purpose.PING, question=theirs.process, versions=theirs.versions):
            questions[theirs.process] = _Question(theirs.name, now, rivalry)

    def answered(self, now: float, exchange: Exchange, message: ExchangeAnswer | None) -> None:
        """What a question has brought."""
        process, address = exchange.question, exchange.address
        question = self._questions.get(process)
        if question is None:
            return
        theirs = located(message.me.member, address[0]) if message is not None else None
        if theirs is None or theirs.process != process or theirs.name != question.name or not theirs.live:
            text = f"{question.name} is said to be at {address_text(*address)}, but does not answer there"
            self._exchanges.complain(now, address, text)
        elif self._exchanges.is_refused(now, address, theirs.cluster_id):
            return
        elif theirs.name == self._members.me.name:
            if question.rivalry is _Rivalry.CONTEST:
                self._contested(now, theirs)
            elif question.rivalry is _Rivalry.HOLDER:
                self.give_way(address_text(*theirs.address))
        elif supersedes(self._members.by_name.get(theirs.name), theirs):
            self._members.accept(now, theirs)

    # Applicants

    def admit(self, now: float, theirs: Member) -> tuple[Admission, str]:
        """May this process have its name? Not at once, if another one that may be alive has it."""
        held = self._members.by_name.get(theirs.name)
        if held is None or held.life >= theirs.life or not held.live or held.address == theirs.address:
            return Admission.WELCOME, ""
        holder = address_text(*held.address)
        if held is self._members.me:
            return Admission.NAME_TAKEN, holder
        applicants, key = self._applicants, (theirs.name, theirs.process)
        standing = self._members.standings[theirs.name]
        since = applicants.get(key)
        if since is None:
            if self._may_apply(now, standing) and self._exchanges.open(
                now, held.address, Purpose.PING, versions=held.versions
            ):
                self._members.send(held, Ping(self._members.next_number()))
                applicants[key] = standing.asked = now
        elif standing.heard > since:
            del applicants[key]
            return Admission.NAME_TAKEN, holder
        elif now - since >= JOIN_PATIENCE_S[0]:
            del applicants[key]
            return Admission.WELCOME, ""
        return Admission.WAIT, f"{theirs.name} may still be alive at {holder}"

    def _may_apply(self, now: float, holder: Standing) -> bool:
        """Whether the holder of a name may be asked once more: nobody has it asked by everybody at once. An applicant
        waits from then on: before, its waiting shows nothing."""
        applicants = self._applicants
        if len(applicants) >= APPLICANTS_MAX:
            for late in [late for late, came in applicants.items() if now - came >= APPLICATION_LASTS_S]:
                del applicants[late]
        return len(applicants) < APPLICANTS_MAX and now - holder.asked >= ASKED_AGAIN_S

    # Our own name

    def settled(self, now: float) -> bool:
        """Whether this process has run for so long that it does not give its name back."""
        return now - self._born >= SETTLED_AFTER_S

    def rival(self, now: float, theirs: Member, *, joins: bool) -> None:
        """A later process than this one lives under our name, somebody says. Who joins gives way, if that one answers;
        who was here before contests."""
        if joins:
            self.ask(now, theirs, _Rivalry.HOLDER)
        else:
            self.contest(now, theirs)

    def contest(self, now: float, theirs: Member) -> None:
        """Tell another process that our name is ours."""
        if now - self._contested_at >= TELL_INTERVAL_S:
            self._contested_at = now
            me = self._members.me
            self._members.send(theirs, Contest(), [Claim(me)], rumours=False)

    def contested(self, now: float, source: Address, message: Datagram) -> None:
        """A process that is no member contests our name: it is asked, if it means us."""
        me = self._members.me
        if message.name != me.name or message.to != me.process or me.cluster_id not in (0, message.cluster_id):
            return
        claimed = [claim.member for claim in message.claims if claim.member.process == message.process]
        for theirs in claimed[:1]:
            if theirs.name == me.name:
                self.ask(now, located(theirs, source[0]), _Rivalry.CONTEST)

    def _contested(self, now: float, theirs: Member) -> None:
        """The later one decides: if it has settled, it says so, and the earlier one gives way; or else itself."""
        if theirs.life < self._members.me.life and self.settled(now):
            self.contest(now, theirs)
        else:
            self.give_way(address_text(*theirs.address))

    def give_way(self, holder: str) -> None:
        """End this node: another one has its name."""
        members = self._members
        if not members.leaving:
            members.log("error", f"another node named {members.me.name!r} is alive at {holder}; this one must not run")
            members.leave()
        members.outbox.events.append(NameTaken(members.me.name, holder))
        members.silent = True
