"""Links between this process and the others: dialled, greeted with a hello, watched; and who can be reached over them.

Each process sends on the connection that it has dialled itself, and only listens on the one that came in. A link is up
from the other's welcome until its connection breaks: what is sent in between arrives in order, or the link is reported
down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from peerkv import wire
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.gossip.member import PROTOCOL_VERSIONS, Address, Liveness, Member, common_version
from peerkv.settings import Settings, address_text

if TYPE_CHECKING:
    from random import Random

REDIAL_S: Final = (0.05, 1.0)
"""A link that broke is dialled again after the first of these, which doubles up to the second."""
STALE_LINK_S: Final = 1.0
"""The link to a member that is down is given up if nothing has been heard from it for so long."""
FORGET_PROCESS_AFTER_S: Final = 900.0
"""What a coordinator's operations answered is kept for so long after its process was last linked: no copy of a request
stays on its way for longer."""
TELL_TOPOLOGY_S: Final = 0.2
"""A peer that is behind is told the topology at most this often."""
HEARD_INTERVAL_S: Final = 0.25
"""Frames count as a sign of life for gossip at most this often."""


@dataclass(slots=True, eq=False)
class _Link:
    """Our side of the connection to another process: the one on which we send."""

    peer: Peer
    member: Member
    dialling: bool = False
    down_since: float = 0.0
    redial_at: float = inf
    patience: float = REDIAL_S[0]
    told_at: float = -inf
    heard_at: float = -inf
    has_dialled: bool = False
    """It has dialled us before."""


class Links:
    """Everybody that was met, and how our link to it stands; `dials` and `drops` are for the node to take."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        rng: Random,
        log: Callable[[str, str], None],
        up: Callable[[Peer], None],
        down: Callable[[Peer], None],
        again: Callable[[Peer], None],
        versions: tuple[int, int] = PROTOCOL_VERSIONS,
    ) -> None:
        """`up`, `down`: told when a link stands, and when it is lost (then what was to be sent is still there).
        `again`: told when a peer has dialled us anew: what it said on its former link may be lost."""
        self.dials: list[tuple[int, Address]] = []
        self.drops: list[int] = []
        self.redial_at = inf
        """When the first of the links is to be dialled again, or earlier."""
        self._settings = settings
        self._clock = clock
        self._view = view
        self._rng = rng
        self._log = log
        self._up = up
        self.on_cluster: Callable[[str], None] = lambda _name: None
        """Told who has dialled us that belongs to a cluster, while we belong to none; set by `node`."""
        self._down = down
        self._again = again
        self._versions = versions
        self._links: dict[int, _Link] = {}
        self._gone: dict[int, float] = {}
        """Processes without a link, since when: see FORGET_PROCESS_AFTER_S."""
        self._majorities: bool | None = None

    # -- members, as gossip has it

    def meet(self, member: Member) -> None:
        """Somebody is there, or says something new of itself: have a link to it."""
        link = self._links.get(member.process)
        if link is None:
            link = self._links[member.process] = _Link(self._view.peer(member.process, member.name), member)
            self._log("info", f"met {member.name} ({member.role.value}) at {address_text(*member.address)}")
            if member.versions != self._versions:
                theirs, ours = (f"{oldest} to {newest}" for oldest, newest in (member.versions, self._versions))
                self._log("warning", f"{member.name} speaks wire versions {theirs}, this node {ours}")
        link.member = member
        if not link.peer.up and not link.dialling:
            self._dial(link)

    def part(self, member: Member) -> None:
        """Somebody is down, or has left; its link stays as long as something is heard over it."""
        link = self._links.get(member.process)
        if link is not None:
            link.member = member
            self._log("info", f"{member.name} {'has left' if member.liveness is Liveness.LEFT else 'is down'}")

    # -- how a link begins and ends

    def _dial(self, link: _Link) -> None:
        link.dialling = True
        link.redial_at = inf
        self.dials.append((link.peer.process, link.member.address))

    def redial(self) -> None:
        """Dial what broke, where the time for it has come."""
        now = self._clock.now
        for link in self._links.values():
            if now >= link.redial_at:
                link.redial_at = inf
                if link.member.live:
                    self._dial(link)
        self.redial_at = min([link.redial_at for link in self._links.values()], default=inf)

    def hello(self, process: int) -> bytes:
        """The first frame to send on a link that was dialled to that process."""
        link = self._links.get(process)
        version = common_version(self._versions, link.member.versions) if link is not None else 0
        return self._greeting(process, version or self._versions[0], welcome=False)

    def _greeting(self, process: int, version: int, *, welcome: bool) -> bytes:
        view = self._view
        cluster_id = view.topology.cluster_id if view.topology is not None else 0
        hello = wire.Hello(self._settings.name, view.me.process, cluster_id, view.epoch, process, self._versions)
        return wire.encode_hello(self._settings.cluster, version, hello, welcome=welcome)

    def accept(self, payload: bytes) -> tuple[bytes, int | None] | wire.Refusal:
        """The hello of somebody who has dialled us: what to answer (nothing: close), and whose link it is (None:
        nobody's, close after the answer)."""
        view = self._view
        hello = wire.decode_hello(self._settings.cluster, self._versions, payload)
        if isinstance(hello, wire.Refusal):
            return hello
        me = view.me.process
        if view.topology is None and hello.cluster_id and hello.epoch:
            self.on_cluster(hello.name)
        if hello.to != me or view.is_foreign(hello.cluster_id) or hello.process == me:
            return b"", None  # a stranger learns nothing
        link = self._links.get(hello.process)
        if link is None:
            return b"", None  # it knows us before gossip has told us of it; it will try again
        answer = self._greeting(hello.process, wire.version_of(payload), welcome=True)
        version = common_version(self._versions, hello.versions)
        if not version:
            return answer, None
        if not link.peer.up and not link.dialling:
            self._dial(link)
        link.peer.version = version
        if link.has_dialled:
            self._again(link.peer)
        link.has_dialled = True
        return answer, hello.process

    def welcome(self, process: int, payload: bytes) -> bool:
        """The answer to our hello: whether the link is up. If not it is to be closed."""
        view = self._view
        link = self._links.get(process)
        if link is None:
            return False
        answer = wire.decode_hello(self._settings.cluster, self._versions, payload, welcome=True)
        if (
            isinstance(answer, wire.Refusal)
            or answer.process != process
            or answer.to != view.me.process
            or view.is_foreign(answer.cluster_id)
            or not common_version(self._versions, answer.versions)
        ):
            self.lost(process)
            return False
        peer = link.peer
        peer.version = common_version(self._versions, answer.versions)
        link.dialling = False
        link.redial_at = inf
        link.patience = REDIAL_S[0]
        peer.up = True
        peer.silent = False
        peer.heard = peer.read_at = self._clock.now
        self._gone.pop(process, None)
        self._changed()
        if answer.epoch < view.epoch:
            self._tell_topology(link)
        self._up(peer)
        return True

    def lost(self, process: int) -> None:
        """The link that was dialled to that process is closed, or could not be opened."""
        link = self._links.get(process)
        if link is None:
            return
        now = self._clock.now
        peer = link.peer
        was_up = peer.up
        link.dialling = False
        link.redial_at = now + link.patience * self._rng.uniform(0.8, 1.2)
        link.patience = min(2 * link.patience, REDIAL_S[1])
        self.redial_at = min(self.redial_at, link.redial_at)
        if not was_up:
            return
        link.down_since = now
        peer.up = False
        self._gone[process] = now
        self._changed()
        self._down(peer)
        peer.clear()

    # -- what goes over them

    def heard(self, process: int) -> bool:
        """A frame has come from that process: whether gossip should hear of it now."""
        link = self._links.get(process)
        if link is None or self._clock.now - link.heard_at < HEARD_INTERVAL_S:
            return False
        link.heard_at = self._clock.now
        return True

    def tell_topology(self, process: int) -> None:
        """That process is behind, or may be."""
        link = self._links.get(process)
        if link is not None:
            self._tell_topology(link)

    def _tell_topology(self, link: _Link) -> None:
        topology = self._view.topology
        if topology is not None and link.peer.up and self._clock.now - link.told_at >= TELL_TOPOLOGY_S:
            link.told_at = self._clock.now
            link.peer.tell("topology", topology.to_wire())

    def enter_epoch(self) -> None:
        """A new topology is installed: everybody is told."""
        self._majorities = None
        for link in self._links.values():
            link.told_at = -inf
            self._tell_topology(link)

    # -- who can be reached

    @property
    def up(self) -> int:
        """How many links stand."""
        return sum(link.peer.up for link in self._links.values())

    @property
    def majorities(self) -> bool:
        """Whether the topology is known and of every slot a majority can be talked to."""
        if self._majorities is None:
            topology = self._view.topology
            peers = (self._view.me, *self._view.peers.values())
            up = [peer.number for peer in peers if peer.up and peer.number]
            self._majorities = topology is not None and all(quorum.won(up) for quorum in topology.quorums)
        return self._majorities

    def _changed(self) -> None:
        self._majorities = None
        self._view.links_changed()

    def settled(self, seconds: float) -> bool:
        """Whether every link is up, or has been down for so long."""
        now = self._clock.now
        return all(link.peer.up or now - link.down_since >= seconds for link in self._links.values())

    def watch(self) -> None:
        """Give up links to members that are down, if nothing is heard over them any more."""
        now = self._clock.now
        for link in self._links.values():
            if link.peer.up and not link.member.live and now - link.peer.heard >= STALE_LINK_S:
                self.drops.append(link.peer.process)

    def gone(self) -> set[int]:
        """Processes that have been without a link for so long that nothing of theirs is on its way any more. Those of
        them that are no members are forgotten here, and here alone."""
        now = self._clock.now
        gone = {process for process, since in self._gone.items() if now - since >= FORGET_PROCESS_AFTER_S}
        for process in gone:
            link = self._links.get(process)
            if link is not None and not link.member.live and not link.peer.number:
                del self._links[process], self._gone[process]
                self._view.forget(process)
        return gone
