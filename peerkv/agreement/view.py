"""What this node is in the present epoch: the topology, its own copies, and for each slot the other owners as peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from peerkv.agreement.peer import Peer
from peerkv.clock import Clock
from peerkv.kernel.slot import Copies
from peerkv.ring.keys import SLOTS, slot_of
from peerkv.ring.quorum import Quorum
from peerkv.ring.topology import Topology
from peerkv.store.cell import MEMBER_MASK

READ_BYTES_PER_S: Final = 16 << 20
"""A peer is waited for so much longer as it was sent much: a fifth of what decoding takes where nothing else runs."""
SLOWER: Final = 3.0
"""Who is slower than ever of late by this factor is silent; ..."""
HEDGE_MAX_S: Final = 2.0
"""... or who has been quiet for so long, however slow it was."""


class View:
    """Shared by the roles (owner, home, coordinator) of one node; changed only by `install` and by links."""

    def __init__(self, process: int, name: str, slots: int = SLOTS) -> None:
        self.touched: set[Peer] = set()
        """Peers that something is to be sent to, beside those with operations or reads; see `outgoing`."""
        self.me = Peer(process, name, self.touched)
        """This node among the owners; always up."""
        self.me.up = True
        self.peers: dict[int, Peer] = {}
        """Every other process that we exchange frames with."""
        self.members: dict[int, Peer] = {}
        """Those of the topology, ourselves included, by their numbers."""
        self.topology: Topology | None = None
        self.mask = slots - 1
        """A key's slot is its CRC under this mask."""
        self.copies = Copies(slots)
        self.slots = self.copies.slots
        """Our copies; None where we own nothing."""
        self.order: list[tuple[Peer, ...]] = [()] * slots
        """For each slot its owners in order of preference, ourselves included; ..."""
        self.orders: list[tuple[Peer, ...]] = []
        """... and for each of the topology's kinds of slots."""
        self.others: list[tuple[Peer, ...]] = [()] * slots
        """For each slot its owners without ourselves."""
        self.partners: list[tuple[Peer, ...]] = [()] * slots
        """For each slot of ours the other owners of which any one and we are a quorum."""
        self.targets: list[Peer | None] = [None] * slots
        """For each slot its home as far as we believe."""
        self._told: dict[int, Peer] = {}
        """Homes of slots that we have no copy of, as their owners have told us."""
        self.quorums: list[Quorum] = []
        """For each slot what decides; slots with the same owners share one."""
        self.pair = bytearray(slots)
        """1 where any two owners are a quorum: three or two owners, no joint epoch."""
        self.impaired = False
        """Some member cannot be talked to, or is silent."""
        self.marks: dict[int, int] = {}
        """Per coordinator (process) the oldest ticket that it may still repeat. Older ids are never sent again, so
        what answers them is forgotten, and one that turns up is a late copy. Travels with every copy of a slot:
        whoever holds an operation's effect has its id in `recent` or a mark beyond it (RIFL, SOSP 2015, section 4)."""

    @property
    def epoch(self) -> int:
        return self.topology.epoch if self.topology is not None else 0

    def install(self, topology: Topology) -> set[int]:
        """Enter an epoch. Copies of slots that we own no more are forgotten, and their numbers returned; new ones begin
        empty."""
        self.topology = topology
        me = self.me
        number = topology.number_of(me.process)
        if me.number not in (0, number):
            self._drop_copies()  # as another member we must not know what this one has promised
        me.number = number
        for peer in self.peers.values():
            peer.number = topology.number_of(peer.process)
        members: dict[int, Peer] = {}
        for owner in topology.by_number.values():
            if owner.number not in topology.out:
                members[owner.number] = me if owner.process == me.process else self.peer(owner.process, owner.name)
        kinds, _ = topology.kinds
        orders = [tuple([members[number] for number in order]) for order in topology.orders]
        others = [tuple([peer for peer in order if peer is not me]) for order in orders]
        quorums = topology.quorums
        ours = [me in order for order in orders]
        partners = [
            tuple([peer for peer in peers if mine and quorum.won((me.number, peer.number))])
            for peers, quorum, mine in zip(others, quorums, ours, strict=True)
        ]
        pair = [
            not quorum.joint and quorum.need == 2 and not unsettled
            for quorum, unsettled in zip(quorums, topology.unsettled_kinds, strict=True)
        ]
        self.members = members
        self._told.clear()
        self.orders = orders
        self.order = [orders[kind] for kind in kinds]
        self.others = [others[kind] for kind in kinds]
        self.partners = [partners[kind] for kind in kinds]
        self.quorums = [quorums[kind] for kind in kinds]
        self.pair[:] = bytes([pair[kind] for kind in kinds])
        forgotten: set[int] = set()
        slots = self.slots
        for number, kind in enumerate(kinds):
            if ours[kind]:
                if slots[number] is None:
                    self.copies.add(number)
            elif slots[number] is not None:
                forgotten.add(number)
        self.copies.remove(forgotten)
        self.links_changed()
        return forgotten

    def slot_of(self, key: bytes) -> int:
        """The slot of a key."""
        return slot_of(key, self.mask)

    def tell_all(self, what: str, *values: Any) -> None:
        """Tell every peer that can be talked to; see `columns.TELLS`."""
        for peer in self.peers.values():
            if peer.up:
                peer.tell(what, *values)

    def by_slot(self, keys: Iterable[bytes]) -> dict[int, list[bytes]]:
        """Keys by their slots, each once, in their order."""
        found: dict[int, list[bytes]] = {}
        for key in dict.fromkeys(keys):
            found.setdefault(self.slot_of(key), []).append(key)
        return found

    def uninstall(self) -> set[int]:
        """Be in no epoch, as if no cluster had ever been met; returns the numbers of slots whose copies are dropped."""
        self.topology = None
        for peer in (self.me, *self.peers.values()):
            peer.number = 0
        self.members = {}
        self.orders = []
        self._told.clear()
        nobody: list[tuple[Peer, ...]] = [()] * len(self.slots)
        self.order, self.others, self.partners = nobody, nobody[:], nobody[:]
        self.quorums = []
        self.pair[:] = bytes(len(self.slots))
        forgotten = self._drop_copies()
        self.links_changed()
        return forgotten

    def _drop_copies(self) -> set[int]:
        held = {number for number, slot in enumerate(self.slots) if slot is not None}
        self.copies.remove(held)
        return held

    def mark(self, process: int, oldest: int) -> None:
        """A coordinator will not repeat operations of tickets below this."""
        if oldest > self.marks.get(process, 0):
            self.marks[process] = oldest

    def links_changed(self) -> None:
        """A link came up or went down, or the topology is another."""
        self.impaired = any(not peer.usable for peer in self.peers.values() if peer.number)
        self.aim_all()

    def patience(self, peer: Peer, clock: Clock, hedge: float) -> float:
        """How long a peer may read nothing of ours. Where processors are short everybody takes its time: a hedge is
        never less than a few times what that peer, or we ourselves, took of late without being dead (after TCP's
        retransmission timeout, RFC 6298). And values of many MiB take their time anywhere."""
        hedge += peer.unread_bytes / READ_BYTES_PER_S
        if SLOWER * max(peer.slow.most, clock.slow.most) <= hedge:
            return hedge
        slow = SLOWER * max(peer.slow.at(clock.now), clock.slow.at(clock.now))
        return hedge if slow <= hedge else max(hedge, min(slow, HEDGE_MAX_S))

    def doubt(self, peer: Peer, since: float, clock: Clock, hedge: float) -> bool:
        """Whether a peer of which something has been due since then is silent: its link is gone, or for a hedge it has
        read nothing of what we send. A peer that is busy gets on with that, as whatever comes in has its turn. It says
        so in every frame; who has nothing else to say is asked."""
        if peer is self.me:
            return False
        if not peer.usable:
            return True
        now = clock.now
        hedge = self.patience(peer, clock, hedge)
        seen = max(since, peer.read_at, clock.awake)
        if now - seen < hedge / 2:
            return False
        if peer.pinged < seen:
            peer.pinged = now
            peer.tell("ping")
            return False
        if now - seen < hedge or now - peer.pinged < hedge / 2:
            return False
        peer.silent = True
        self.links_changed()
        return True

    def promised_to(self, number: int) -> Peer | None:
        """The owner of the slot whose ballot our copy has promised: it is home there, or tried to be."""
        peer = self.members.get(self.copies.promised[number] & MEMBER_MASK)
        return peer if peer is not None and peer in self.order[number] else None

    def aim(self, number: int) -> None:
        """Who is home of that slot may have changed: believe the promise that we have given, or else what an owner has
        told us; where there is neither, or that one does not answer, the first owner that does."""
        home = self.promised_to(number) if self.slots[number] is not None else self._told.get(number)
        if home is not None and home.usable:
            self.targets[number] = home
        else:
            order = self.order[number]
            self.targets[number] = next((peer for peer in order if peer.usable), None) or next(
                (peer for peer in order if peer.up), None
            )

    def aim_all(self) -> None:
        """Links or the topology have changed: who is home of each slot?"""
        if self.topology is None:
            self.targets = [None] * len(self.slots)
            return
        firsts: list[Peer | None] = []
        homes: list[dict[int, Peer]] = []
        for order in self.orders:
            usable = [peer for peer in order if peer.usable]
            firsts.append(next(iter(usable), None) or next((peer for peer in order if peer.up), None))
            homes.append({peer.number: peer for peer in usable})
        self.targets = [
            homes[kind].get(ballot & MEMBER_MASK) or firsts[kind]
            for kind, ballot in zip(self.topology.kinds[0], self.copies.promised, strict=True)
        ]
        for number in self._told:
            self.aim(number)

    def told(self, number: int, home: Peer) -> None:
        """An owner says who is home of a slot, or shows that it is."""
        if self.slots[number] is None:
            self._told[number] = home
            self.aim(number)

    def forget_told(self, number: int) -> None:
        """Who was said to be home of a slot cannot serve it."""
        if self._told.pop(number, None) is not None:
            self.aim(number)

    def peer(self, process: int, name: str) -> Peer:
        """The peer of that process, known from now on."""
        peer = self.peers.get(process)
        if peer is None:
            peer = self.peers[process] = Peer(process, name, self.touched)
            if self.topology is not None:
                peer.number = self.topology.number_of(process)
        return peer

    def forget(self, process: int) -> None:
        """A process that is no member has been gone for long."""
        self.peers.pop(process, None)
        self.marks.pop(process, None)

    def is_foreign(self, cluster_id: int) -> bool:
        """Whether that is the id of another cluster than the one that we belong to (0: of none)."""
        return self.topology is not None and cluster_id not in (0, self.topology.cluster_id)

    @property
    def has_outgoing(self) -> bool:
        """Whether something is to be sent to a peer, or to ourselves as home."""
        return bool(self.touched or self.me.forwards) or any(
            peer.forwards or peer.reads for peer in self.peers.values()
        )

    def outgoing(self) -> list[Peer]:
        """Peers that something is to be sent to, in an order that a run of the simulator repeats; asked once a turn."""
        touched = self.touched
        found = [peer for peer in self.peers.values() if peer.forwards or peer.reads or peer in touched]
        touched.clear()
        return found

    def send_what_waits(self) -> None:
        """Acknowledgements that nobody waits for have waited long enough for a frame to go with."""
        self.touched.update(peer for peer in self.peers.values() if peer.acks)

    def reachable(self, number: int) -> bool:
        """Whether a quorum of the slot's owners, us included, can be talked to now."""
        up = [peer.number for peer in self.others[number] if peer.usable]
        up.append(self.me.number)
        return self.quorums[number].won(up)
