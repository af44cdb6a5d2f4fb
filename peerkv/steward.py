"""Who belongs to the cluster: proposes what its topology should be next, and goes on after losses.

Gossip says who lives; here that becomes a proposal, and the members decide it (`agreement/epochs.py`). Every node
looks, the first living member acts. Should two think that it is them, agreement decides between them.

A member that is down may come back with all that it held. One that is **lost** cannot: a later life of its name has
been seen (names are unique, and the older of two lives gives way), it has said goodbye, or an operator has given it up.
What the lost held is gone, and that alone decides how a cluster goes on: by itself where the others are sure to have
all of it, or where nobody has any of it; otherwise when it is told to (rules V1 to V9 of docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from peerkv.agreement.epochs import (
    Enough,
    Register,
    born_by,
    decided_by,
    next_topology,
    propose,
    recovered_by,
    survey_change,
)
from peerkv.agreement.home import Home
from peerkv.agreement.operation import (
    EpochAccept,
    EpochPrepare,
    EpochPromise,
    Operations,
    Progressed,
    Refused,
)
from peerkv.agreement.peer import Peer
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.birth import Birth, Void, owner_of
from peerkv.clock import Clock
from peerkv.gossip.member import Liveness, Member
from peerkv.ring.topology import Owner, Topology
from peerkv.settings import Recover, Role, Settings

if TYPE_CHECKING:
    from random import Random

CHANGE_SETTLE_S: Final = 1.0
"""A change is proposed once it has been wanted for so long: what arrives together is one change."""
SURVEY_INTERVAL_S: Final = 0.5
"""How often members are asked how far a change is."""
SUCCESSOR_WITHIN_S: Final = 5.0
"""A new life that gossip has told of is waited for so long before its share is given to others."""
RECOVER_AGAIN_S: Final = 1.0
"""A recovery that was begun and not decided is proposed again so often."""
DEAD_CLUSTERS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Bereft:
    """What a cluster has lost for good unless some member that is held for lost turns up."""

    lost: tuple[str, ...]
    """Names of the members whose copies are gone."""
    slots: int
    """A bit per slot of which a majority of the owners is lost."""
    blocked_by: tuple[str, ...]
    """Members that are not lost, but cannot be talked to: what they hold must not be passed over."""


class Steward:
    """This node's part in who belongs to the cluster."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        process: int,
        members: Mapping[str, Member],
        view: View,
        operations: Operations,
        replica: Replica,
        home: Home,
        rng: Random,
        enter: Callable[[Topology], None],
        forget: Callable[[], None],
        log: Callable[[str, str], None],
    ) -> None:
        """`members`: everybody that gossip knows, by name. `enter`: install a topology that was decided. `forget`: be
        as if no cluster had ever been met."""
        self._settings = settings
        self._clock = clock
        self._process = process
        self._members = members
        self._view = view
        self._operations = operations
        self._replica = replica
        self._home = home
        self._enter = enter
        self._forget = forget
        self._log = log
        self.birth = Birth(settings, clock, process, members, view, rng, self._propose_birth, enter, log)
        self._dead: dict[int, bool] = {}
        """Ids of clusters that are no more; True: whoever says otherwise, False: unless a member of it does."""
        self._register = Register(1)
        self._recovery = Register(0)
        """Of the epoch that a recovery would begin; it stays the same until there was one."""
        self._recover_at = -inf
        self._proposing = False
        self._ballot = 0
        self._down_since: dict[int, float] = {}
        """Processes of the topology that are down, since when."""
        self._seen_lost: set[int] = set()
        """Processes of the topology that were lost when last looked."""
        self._lost_since: dict[int, float] = {}
        """Processes of the topology that are lost, since when."""
        self._bereft: tuple[tuple[int, frozenset[int]], int] = ((0, frozenset()), 0)
        """(epoch, lost members): slots of which a majority is lost, a bit each."""
        self._bereft_since = inf
        self._given_up: set[int] = set()
        """Processes that an operator has given up."""
        self._wanted_change: tuple[frozenset[int], float] = (frozenset(), 0.0)
        """Processes that come or go, since when they are the same."""
        self._progress: dict[int, Progressed] = {}
        """What each member has said of the present change."""
        self._settled = 0
        """Slots that some home has known to be settled in this epoch, a bit each; what was settled stays so."""
        self._survey_at = -inf

    def enter_epoch(self) -> None:
        """A new topology is installed, or none any more."""
        self._register = Register(self._view.epoch + 1)
        topology = self._view.topology
        recovery = topology.recovery_epoch if topology is not None else 0
        if recovery != self._recovery.epoch:
            self._recovery = Register(recovery)
        self._progress = {}
        self._settled = 0
        if topology is not None:
            self.birth.entered()

    # -- as a voter

    def answer(self, message: EpochPrepare | EpochAccept) -> EpochPromise | Refused:
        """What we say to a proposal of another."""
        if self._settings.role is not Role.DATA:
            return Refused()
        if self._recovery.epoch and message.epoch == self._recovery.epoch:
            return Refused() if self._knows_better(message) else self._recovery.answer(message)
        if self._recovery.has_accepted or self._knows_better(message):
            return Refused()  # what a recovery keeps must not change any more
        return self._register.answer(message)

    def _knows_better(self, message: EpochPrepare | EpochAccept) -> bool:
        """Whether a proposal takes somebody for lost whom we know to be alive."""
        present = self._view.topology
        if present is None or not isinstance(message, EpochAccept):
            return False
        try:
            proposed = Topology.from_wire(message.topology)
        except (TypeError, ValueError):
            return True
        return any(self._is_alive(present.by_number[n]) for n in proposed.out - present.out if n in present.by_number)

    def _is_alive(self, owner: Owner) -> bool:
        known = self._members.get(owner.name)
        return known is not None and known.process == owner.process and known.liveness is Liveness.ALIVE

    def progress(self) -> Progressed:
        """How far this node is with the present change."""
        return self._replica.progress(self._home.progress.filled(), self._home.progress.settled_slots())

    # -- birth

    def consider_birth(self) -> None:
        """Have a cluster born where there is none, if it is for this node to do that now."""
        if not self._proposing and self._view.topology is None:
            self.birth.consider()

    def _propose_birth(self, peers: list[Peer], topology: Topology, members: list[Owner]) -> None:
        own = (self._process, self._register.answer) if self._settings.role is Role.DATA else None
        self._propose(peers, own, topology, born_by(members))

    # -- losses

    def _lost(self, topology: Topology) -> frozenset[int]:
        """Numbers of members, beside those that the topology knows to be lost, that will never come back. Whoever was
        lost stays it, though gossip forgets, unless that very life is heard of again."""
        out = topology.out
        owners = [(number, owner) for number, owner in topology.by_number.items() if number not in out]
        self._seen_lost = {owner.process for _, owner in owners if self._is_lost(owner)}
        return frozenset([number for number, owner in owners if owner.process in self._seen_lost])

    def _is_lost(self, owner: Owner) -> bool:
        known = self._members.get(owner.name)
        if owner.process == self._process:
            return False
        remembered = owner.process in self._seen_lost or owner.process in self._given_up
        if known is None:
            return remembered
        if known.process == owner.process:
            return known.gone or (remembered and not known.live)
        return remembered or known.life > (owner.generation, owner.process)

    def may_learn(self, topology: Topology, process: int) -> bool:
        """Whether to believe that process of a cluster: what is no more is spoken of by those that are late, unless one
        that holds some of its data says so."""
        dead = self._dead.get(topology.cluster_id)
        return dead is None or (not dead and topology.number_of(process) > 0)

    def missed_by(self, name: str) -> bool:
        """Another cluster holds an earlier life of this node for a member, says a member of it. Whether to join that:
        yes, if this node, told of nobody, has begun a cluster of one in which there is nothing yet."""
        topology = self._view.topology
        if topology is None:
            return False
        if topology.epoch == 1 and len(topology.members) == 1 and not any(self._view.copies.cells):
            self._log(
                "warning",
                f"{name} belongs to a cluster of which a former life of this node was a member: the empty cluster that"
                " this node has begun is dropped, it joins that one",
            )
            self.birth.dissolved()
            self._bury(topology, for_ever=True)
            return True
        if self.birth.may_say():
            self._log(
                "error",
                f"{name} belongs to another cluster, of which a former life of this node was a member; but this node"
                " has begun a cluster of its own, and holds keys. To have it back there, start it anew with --join",
            )
        return False

    def succeeded_by(self, name: str, cluster_id: int) -> None:
        """Another cluster was founded in the place of ours, as all of us were held for lost: what we hold must not be
        served any more."""
        topology = self._view.topology
        if topology is None:
            return
        keys = sum(slot.live for slot in self._view.slots if slot is not None)
        self._log(
            "error",
            f"while this node was away all data of its cluster {topology.cluster_id:016x} was given up, and cluster"
            f" {cluster_id:016x} founded in its place, says {name}: its copies ({keys} keys) are dropped",
        )
        self._bury(topology, for_ever=True)

    def _bury(self, topology: Topology, *, for_ever: bool) -> None:
        while len(self._dead) >= DEAD_CLUSTERS_MAX:
            del self._dead[next(iter(self._dead))]
        self._dead[topology.cluster_id] = for_ever
        self._down_since.clear()
        self._lost_since.clear()
        self._bereft_since = inf
        self.birth.begin_anew()
        self._forget()

    def _consider_void(self, topology: Topology, lost: frozenset[int]) -> bool:
        """If no member is left that holds anything, nothing is left to protect (rule V2)."""
        if topology.survivors(lost):
            return False
        data_nodes = len(topology.next_members or topology.members)
        clock = self._clock
        self.birth.void = Void(topology.cluster_id, clock.cluster_ms, data_nodes, clock.now, topology.succeeds)
        names = ", ".join(sorted({owner.name for owner in topology.by_number.values()}))
        self._log(
            "error",
            f"all data of cluster {topology.cluster_id:016x} is lost: every data node of it ({names}) has ended or has"
            " been started anew, and nobody holds a copy of anything. A new cluster will be founded in its place",
        )
        self._bury(topology, for_ever=False)
        return True

    @property
    def bereft(self) -> Bereft | None:
        """What a recovery is needed for; None: nothing."""
        topology = self._view.topology
        if topology is None:
            return None
        lost = self._lost(topology)
        slots = self._bereft_slots(topology, lost)
        if not slots and topology.voters_without(lost).possible:
            return None
        gone = {*lost, *topology.lost}
        names = sorted({owner.name for number, owner in topology.by_number.items() if number in gone})
        blocked = [owner.name for owner in topology.survivors(lost) if not self._is_in_reach(owner.process)]
        return Bereft(tuple(names), slots, tuple(sorted(blocked)))

    def _bereft_slots(self, topology: Topology, lost: frozenset[int]) -> int:
        """A bit per slot of which a majority of the owners is lost."""
        key = topology.epoch, lost
        if self._bereft[0] != key:
            possible = [quorum.possible for quorum in topology.quorums_without(lost)]
            self._bereft = key, topology.bits([not found for found in possible])
        return self._bereft[1]

    def _is_in_reach(self, process: int) -> bool:
        peer = self._view.peers.get(process)
        return process == self._process or (peer is not None and peer.up)

    def recover(self) -> str:
        """Go on with what is left (rule V6). Returns what is wrong with that, or nothing."""
        bereft = self.bereft
        if bereft is None:
            return "nothing is lost that has to be given up: the cluster goes on by itself"
        if bereft.blocked_by:
            return f"{_listed(bereft.blocked_by)} may hold what the others have lost: start it again, or give it up"
        topology = self._view.topology
        assert topology is not None, "something of it is lost"
        if not self._propose_recovery(topology):
            return "nobody is here who could go on: data nodes that live and mean to stay are needed"
        return ""

    def _propose_recovery(self, topology: Topology) -> bool:
        if self._proposing:
            return True
        lost = self._lost(topology)
        candidates, _ = self._who_is_here(topology)
        following = [
            topology.by_process[owner.process]
            if topology.number_of(owner.process) and topology.number_of(owner.process) not in lost
            else owner
            for owner in candidates
        ]
        survivors = {owner.process for owner in topology.survivors(lost)}
        if not following or not survivors:
            return False
        peers = [peer for peer in self._view.peers.values() if peer.process in survivors and peer.up]
        own = (self._process, self.answer) if self._process in survivors else None
        self._propose(peers, own, topology.recovered(following, lost), recovered_by(topology, lost))
        return True

    def _consider_recovery(self, topology: Topology) -> None:
        """Finish a recovery that was begun; begin one unasked where that is wanted (`recover = auto`)."""
        now = self._clock.now
        bereft = self.bereft
        if bereft is None:
            self._bereft_since = inf
        elif self._bereft_since == inf:
            self._bereft_since = now
            self._log(
                "error",
                f"{bereft.slots.bit_count()} slots have lost a majority of their owners ({_listed(bereft.lost)}) and"
                " answer NOQUORUM. `peerkv recover` shows what would be kept"
                + (f"; waiting for {_listed(bereft.blocked_by)}" if bereft.blocked_by else ""),
            )
        if self._recovery.has_accepted and self._view.me.number:
            due = now - self._recover_at >= RECOVER_AGAIN_S
        else:
            patience = self._settings.forget_after
            if not self._is_steward():  # who may have been told to ask (`recover = ask`)
                patience *= 2
            due = (
                bereft is not None
                and not bereft.blocked_by
                and self._settings.recover is Recover.AUTO
                and now - self._bereft_since >= patience
                and now - self._recover_at >= RECOVER_AGAIN_S
            )
        if due and not self._proposing:
            self._recover_at = now
            self._propose_recovery(topology)

    # -- changes

    def give_up(self, name: str) -> str:
        """PEERKV FORGET: remove a member that is down, now, and hold what it had for lost. Returns what is wrong with
        that, or nothing."""
        topology = self._view.topology
        owners = (
            [owner for number, owner in topology.by_number.items() if owner.name == name and number not in topology.out]
            if topology is not None
            else []
        )
        known = self._members.get(name)
        if topology is None or not owners:
            return f"{name} is not a member: nothing has to be done to forget it"
        if known is not None and known.live and any(owner.process == known.process for owner in owners):
            return f"{name} is alive: have it leave (peerkv leave), or stop it first"
        self._given_up |= {owner.process for owner in owners}
        self._log("warning", f"{name} is given up: what only it held is lost")
        if not self._consider_void(topology, self._lost(topology)):
            candidates, gone = self._who_is_here(topology)
            self._propose_change(topology, candidates, gone)
        return ""

    def has_given_up(self, name: str) -> bool:
        """Whether the life of that member that gossip holds is one that an operator has given up."""
        known = self._members.get(name)
        return known is not None and known.process in self._given_up

    @property
    def has_share(self) -> bool:
        """Whether this node is a member that others count on."""
        return self._view.me.number > 0

    @property
    def drained(self) -> bool:
        """Whether nothing is lost if this node ends now."""
        topology = self._view.topology
        if topology is None or not self._view.me.number:
            return True
        return not self.heirs and not any(slot.live for slot in self._view.slots if slot is not None)

    @property
    def heirs(self) -> set[str]:
        """Names of those that could take this node's share: that live and stay, or are merely out of sight."""
        topology = self._view.topology
        here = {m.name for m in self._members.values() if m.role is Role.DATA and m.live and not m.leaving}
        if topology is not None:
            lost = {*self._lost(topology), *topology.out}
            for number, owner in topology.by_number.items():
                known = self._members.get(owner.name)
                if number not in lost and not (known is not None and known.leaving):
                    here.add(owner.name)  # one that is held down may be cut off: it is not nobody
        return here - {self._settings.name}

    @property
    def is_alone(self) -> bool:
        """Whether no other data node has ever been met: nobody will come for this one's share."""
        return all(m.role is not Role.DATA or m.process == self._process for m in self._members.values())

    def last_copies(self) -> tuple[int, int]:
        """(slots, keys) of which this node has the last copy, as far as it can see: their other owners have ended, or
        are about to."""
        staying = {m.process for m in self._members.values() if m.live and not m.leaving}
        slots = keys = 0
        for number, slot in enumerate(self._view.slots):
            if slot is not None and slot.live and all(p.process not in staying for p in self._view.others[number]):
                slots += 1
                keys += slot.live
        return slots, keys

    @property
    def change(self) -> dict[str, int]:
        """How far the present change of the topology is, as far as we know: slots in all and still to go, bytes
        fetched and per second, copies that wait to be brought up to date, over all members."""
        topology = self._view.topology
        changing = topology.changing_bits if topology is not None else 0
        found = self._progress or {self._process: self.progress()}
        return {
            "slots": changing.bit_count(),
            "slots_to_go": (changing & ~_filled(self._progress)).bit_count(),
            "copies_to_go": sum(progressed.to_go for progressed in found.values()),
            "bytes": sum(progressed.bytes_fetched for progressed in found.values()),
            "bytes_per_second": sum(progressed.rate for progressed in found.values()),
        }

    def consider_change(self) -> None:
        """As the first living member: propose what the topology should be, once that has been so for a while; in a
        joint epoch, end it when every copy is there."""
        topology = self._view.topology
        if topology is None:
            return
        lost = self._lost(topology)
        if self._consider_void(topology, lost):
            return
        self._consider_recovery(topology)
        candidates, gone = self._who_is_here(topology)
        if not self._is_steward():
            self._progress = {}
            self._settled = 0
            if self._given_up & gone:
                self._propose_change(topology, candidates, gone)
            return
        now = self._clock.now
        if (topology.is_joint or topology.lacks_memory) and now >= self._survey_at:
            self._survey_at = now + SURVEY_INTERVAL_S
            peers = [peer for peer in self._view.peers.values() if peer.number and peer.up]
            own = self.progress()
            survey = survey_change(peers, own, partial(self._surveyed, topology.epoch), self._process)
            self._operations.start(now, survey)
        changed = frozenset(owner.process for owner in candidates if not topology.number_of(owner.process)) | gone
        if changed != self._wanted_change[0]:
            self._wanted_change = (changed, now)
        if now - self._wanted_change[1] >= CHANGE_SETTLE_S or self._given_up & gone:
            self._propose_change(topology, candidates, gone)

    def _surveyed(self, epoch: int, found: dict[int, Progressed]) -> None:
        if epoch == self._view.epoch:
            self._progress = found
            for progressed in found.values():
                self._settled |= int.from_bytes(progressed.settled, "little")

    def _propose_change(self, topology: Topology, candidates: list[Owner], gone: frozenset[int]) -> None:
        if self._proposing or self._recovery.has_accepted:
            return
        lost = self._lost(topology)
        peers = [peer for peer in self._view.peers.values() if peer.number and peer.up]
        within_reach = {peer.number for peer in peers} | {self._view.me.number}
        if not topology.voters_without(lost).won(within_reach):
            return
        settled = topology.lacks_memory and not topology.unsettled_bits & ~self._settled
        if not settled and self._successor_is_awaited(topology, candidates, lost):
            return
        following = next_topology(
            topology, candidates, gone, filled=self._is_filled(topology), lost=lost, settled=settled
        )
        if following is None:
            return
        own = (self._process, self.answer) if self._view.me.number else None
        self._propose(peers, own, following, decided_by(topology, lost))

    def _successor_is_awaited(self, topology: Topology, candidates: list[Owner], lost: frozenset[int]) -> bool:
        """Whether a new life of one that is lost is about to be a candidate: then one change will do for both."""
        now = self._clock.now
        here = {owner.name for owner in candidates}
        processes = {topology.by_number[number].process: topology.by_number[number].name for number in lost}
        self._lost_since = {process: self._lost_since.get(process, now) for process in processes}
        return any(
            name not in here
            and (known := self._members.get(name)) is not None
            and known.live
            and not known.leaving
            and known.role is Role.DATA
            and now - self._lost_since[process] < SUCCESSOR_WITHIN_S
            for process, name in processes.items()
        )

    def _is_filled(self, topology: Topology) -> bool:
        """Whether every changing slot has a home that knows all its copies made."""
        if not topology.is_joint:
            return False
        return self._progress != {} and not topology.changing_bits & ~_filled(self._progress)

    def _is_steward(self) -> bool:
        """The living member of the least number looks after changes; should two think so, agreement decides."""
        living = [peer.number for peer in self._view.peers.values() if peer.number and peer.usable]
        me = self._view.me.number
        return me > 0 and me <= min(living, default=me)

    def _who_is_here(self, topology: Topology) -> tuple[list[Owner], frozenset[int]]:
        """Data members that live, mean to stay and can be talked to; processes of the topology that are not coming
        back: that have left or are about to, have been replaced, or have been down for `forget_after`."""
        now = self._clock.now
        members = self._members
        candidates: list[Owner] = []
        for member in members.values():
            peer = self._view.me if member.process == self._process else self._view.peers.get(member.process)
            if member.role is Role.DATA and member.live and not member.leaving and peer is not None and peer.up:
                candidates.append(owner_of(member))
        gone: set[int] = set()
        for owner in topology.by_process.values():
            known = members.get(owner.name)
            mine = known is not None and known.process == owner.process
            if mine and known is not None and known.live and not known.leaving:
                self._down_since.pop(owner.process, None)
                self._given_up.discard(owner.process)
            elif (mine and known is not None and (known.leaving or known.liveness is Liveness.LEFT)) or (
                now - self._down_since.setdefault(owner.process, now) >= self._settings.forget_after
                or owner.process in self._given_up
            ):
                gone.add(owner.process)
        for process in self._down_since.keys() - topology.by_process.keys():
            del self._down_since[process]
        return candidates, frozenset(gone)

    def _propose(
        self,
        voters: list[Peer],
        own: tuple[int, Callable[[EpochPrepare | EpochAccept], EpochPromise | Refused]] | None,
        topology: Topology,
        enough: Enough,
    ) -> None:
        # Unique, as it ends with our process; higher than what others have used lately.
        self._ballot = max(self._ballot + (1 << 62), self._clock.cluster_ms << 62 | self._process)
        self._proposing = True
        decided = partial(self._decided, self._view.epoch)
        self._operations.start(self._clock.now, propose(self._ballot, voters, own, topology, enough, decided))

    def _decided(self, present: int, topology: Topology | None) -> None:
        self._proposing = False
        if topology is not None and topology.epoch > self._view.epoch and self._view.epoch == present:
            self._enter(topology)


def _filled(progress: dict[int, Progressed]) -> int:
    """A bit for each slot that some home knows to be filled."""
    bits = 0
    for progressed in progress.values():
        bits |= int.from_bytes(progressed.filled, "little")
    return bits


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)
