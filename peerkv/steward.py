"""Who belongs to the cluster: has it born, and proposes what its topology should be next.

Gossip says who lives; here that becomes a proposal, and the members decide it (`agreement/epochs.py`). Every node
looks, the first living member acts. Should two think that it is them, agreement decides between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from peerkv.agreement.epochs import Register, Votes, born_by, decided_by, next_topology, propose, survey_change
from peerkv.agreement.home import Home
from peerkv.agreement.operation import EpochAccept, EpochPrepare, EpochPromise, Operations, Progressed, Refused
from peerkv.agreement.peer import Peer
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.gossip.member import Liveness, Member
from peerkv.ring.topology import Owner, Topology
from peerkv.settings import Role, Settings

if TYPE_CHECKING:
    from random import Random

CHANGE_SETTLE_S: Final = 1.0
"""A change is proposed once it has been wanted for so long: what arrives together is one change."""
SURVEY_INTERVAL_S: Final = 0.5
"""How often members are asked how far a change is."""


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
    ) -> None:
        """`members`: everybody that gossip knows, by name. `enter`: install a topology that was decided."""
        self._clock = clock
        self._settings = settings
        self._process = process
        self._members = members
        self._view = view
        self._operations = operations
        self._replica = replica
        self._home = home
        self._rng = rng
        self._enter = enter
        self._register = Register(1)
        self._proposing = False
        self._ballot = 0
        self._down_since: dict[int, float] = {}
        """Processes of the topology that are down, since when."""
        self._given_up: set[int] = set()
        """Processes that an operator has given up."""
        self._wanted_change: tuple[frozenset[int], float] = (frozenset(), 0.0)
        """Processes that come or go, since when they are the same."""
        self._progress: dict[int, Progressed] = {}
        """What each member has said of the present change."""
        self._survey_at = -inf

    def enter_epoch(self) -> None:
        """A new topology is installed."""
        self._register = Register(self._view.epoch + 1)
        self._progress = {}

    def answer(self, message: EpochPrepare | EpochAccept) -> EpochPromise | Refused:
        """As a voter: what we say to a proposal of another."""
        return self._register.answer(message) if self._settings.role is Role.DATA else Refused()

    def progress(self) -> Progressed:
        """How far this node is with the present change."""
        return self._replica.progress(self._home.filled())

    def found(self) -> None:
        """Be born as a cluster of one."""
        settings = self._settings
        alone = Owner(0, settings.name, self._process, settings.zone, settings.weight)
        self._enter(Topology.birth(self._rng.getrandbits(62) | 1, settings.replicas, [alone], settings.slots))

    def give_up(self, name: str) -> str:
        """PEERKV FORGET: remove a member that is down, now. Returns what is wrong with that, or nothing."""
        topology = self._view.topology
        owners = [owner for owner in topology.by_process.values() if owner.name == name] if topology is not None else []
        known = self._members.get(name)
        if topology is None or not owners:
            return f"{name} is not a member: nothing has to be done to forget it"
        if known is not None and known.live and any(owner.process == known.process for owner in owners):
            return f"{name} is alive: have it leave (peerkv leave), or stop it first"
        self._given_up |= {owner.process for owner in owners}
        candidates, gone = self._who_is_here(topology)
        self._propose_change(topology, candidates, gone)
        return ""

    @property
    def drained(self) -> bool:
        """Whether nothing is lost if this node ends now, or nobody is there who could take its share."""
        topology = self._view.topology
        if topology is None or not self._view.me.number:
            return True
        others = {member.process for member in self._members.values() if member.role is Role.DATA and member.live}
        others |= topology.by_process.keys()  # one that is held down may be cut off: it is not nobody
        others -= {member.process for member in self._members.values() if member.leaving or member.gone}
        return others <= {self._process}

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

    def consider_birth(self) -> None:
        """As master, or as who founds in its place: have a cluster born once the data members that are expected have
        met and know of none."""
        settings = self._settings
        if self._proposing or self._view.topology is not None:
            return
        live = [member for member in self._members.values() if member.liveness is Liveness.ALIVE]
        masters = [member.name for member in live if member.role is Role.MASTER]
        if settings.name != min(masters, default=settings.name if settings.founds else ""):
            return
        found = [member for member in live if member.role is Role.DATA]
        if any(member.epoch for member in live) or len(found) < max(1, settings.expect):
            return
        others = [member.process for member in found if member.process != self._process]
        known = self._view.peers
        peers = [peer for process in others if (peer := known.get(process)) is not None and peer.up]
        if len(peers) < len(others):
            return
        members = [_owner(member) for member in found]
        topology = Topology.birth(self._rng.getrandbits(62) | 1, settings.replicas, members, settings.slots)
        own = (self._process, self._register) if settings.role is Role.DATA else None
        self._propose(peers, own, topology, born_by(members))

    def consider_change(self) -> None:
        """As the first living member: propose what the topology should be, once that has been so for a while; in a
        joint epoch, end it when every copy is there."""
        topology = self._view.topology
        if topology is None:
            return
        candidates, gone = self._who_is_here(topology)
        if not self._is_steward():
            self._progress = {}
            if self._given_up & gone:
                self._propose_change(topology, candidates, gone)
            return
        if topology.is_joint and self._clock.now >= self._survey_at:
            self._survey_at = self._clock.now + SURVEY_INTERVAL_S
            peers = [peer for peer in self._view.peers.values() if peer.number and peer.up]
            own = self.progress()
            survey = survey_change(peers, own, partial(self._surveyed, topology.epoch), self._process)
            self._operations.start(self._clock.now, survey)
        changed = frozenset(owner.process for owner in candidates if not topology.number_of(owner.process)) | gone
        if changed != self._wanted_change[0]:
            self._wanted_change = (changed, self._clock.now)
        if self._clock.now - self._wanted_change[1] >= CHANGE_SETTLE_S or self._given_up & gone:
            self._propose_change(topology, candidates, gone)

    def _surveyed(self, epoch: int, found: dict[int, Progressed]) -> None:
        if epoch == self._view.epoch:
            self._progress = found

    def _propose_change(self, topology: Topology, candidates: list[Owner], gone: frozenset[int]) -> None:
        if self._proposing:
            return
        following = next_topology(topology, candidates, gone, filled=self._is_filled(topology))
        if following is None:
            return
        peers = [peer for peer in self._view.peers.values() if peer.number and peer.up]
        own = (self._process, self._register) if self._view.me.number else None
        self._propose(peers, own, following, decided_by(topology))

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
                candidates.append(_owner(member))
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
        self, voters: list[Peer], own: tuple[int, Register] | None, topology: Topology, enough: tuple[Any, Votes]
    ) -> None:
        # Unique, as it ends with our process; higher than what others have used lately.
        self._ballot = max(self._ballot + (1 << 62), self._clock.cluster_ms << 62 | self._process)
        self._proposing = True
        self._operations.start(self._clock.now, propose(self._ballot, voters, own, topology, enough, self._decided))

    def _decided(self, topology: Topology | None) -> None:
        self._proposing = False
        if topology is not None and topology.epoch > self._view.epoch:
            self._enter(topology)


def _filled(progress: dict[int, Progressed]) -> int:
    """A bit for each slot that some home knows to be filled."""
    bits = 0
    for progressed in progress.values():
        bits |= int.from_bytes(progressed.filled, "little")
    return bits


def _owner(member: Member) -> Owner:
    return Owner(0, member.name, member.process, member.zone, member.weight)
