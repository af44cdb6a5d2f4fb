"""What a home does unasked: slots that nobody is home of, owners that are behind, deadlines, tombstones,
digests.

None of it is needed for an operation to be right; all of it is needed for copies to become equal again by themselves.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from peerkv.agreement.home import Home
from peerkv.agreement.operation import Operation, Operations, Pause
from peerkv.agreement.peer import Peer
from peerkv.agreement.progress import HomeSlot
from peerkv.agreement.replica import Replica
from peerkv.agreement.takeover import SPACING_S
from peerkv.agreement.view import View
from peerkv.databases import RECORDS, database_of
from peerkv.store.cell import MEMBER_MASK, SEQUENCE_BITS, SEQUENCE_MASK
from peerkv.store.large import STEP_CELLS

LOOKS: Final = 4
"""In so many looks all slots are looked at: a millisecond each."""
CLAIM_AFTER_S: Final = 3.0
"""More than a round of looks, and a takeover by the first owner, take."""
TEND_PERIOD_S: Final = 1.0
"""How often a home looks after owners that are behind and after tombstones."""
PROBED_GROUP: Final = 128
"""Slots whose other owners are asked at a time where they are; then others have their turn (SPACING_S)."""
PURGE_GROUP: Final = 1024
"""Tombstones dropped, and slots looked at for such, at a time: a millisecond."""
PROBED_AGAIN_PER_S: Final = 2000
"""Slots whose owners stay behind, as they wait to fetch: most answers come without being asked for."""
EXPIRE_GROUP: Final = 256
"""Keys expired in one turn at most, 2 ms, so that a storm of deadlines does not stop the node."""
EXPIRE_RETRY_MS: Final = 500
"""When to try again while no majority can be reached."""
RECORD_AGAIN_MS: Final = 5000
"""When to look again after the decision of a transaction."""
COMPARE_SLOT: Final = 16
"""What comparing the copies of a slot costs beside its cells, in cells."""
COMPARE_ROUND_S: Final = 20.0
"""A round of all slots is not begun sooner after the one before, as there is no haste."""
COMPARED_TOGETHER: Final = 256
"""Slots whose digests a peer is sent at once. Sent as they are computed, they were 4 frames a second to every peer: of
30 nodes at rest each sent 103, and sends 2 now."""
COMPARED_FIELDS: Final = 5
SEQUENCE_RENEWED: Final = SEQUENCE_MASK // 2
"""A home begins a new ballot beyond this. Each slot is looked at once a second: half of the sequence numbers are more
than a node can use up until then."""


class Upkeep:
    """Looks after the slots that this node is home of, or should be."""

    def __init__(self, view: View, operations: Operations, replica: Replica, home: Home) -> None:
        self._view = view
        self._operations = operations
        self._replica = replica
        self._home = home
        self._count = len(view.slots)
        self._looks = self._count // LOOKS
        self._unlooked = self._count
        """Slots to look at until there is none without a home, unless something happens meanwhile."""
        self._looked_upto = 0
        """As far as we have looked for slots without a home in this round."""
        self._links_seen: list[tuple[int, bool, bool]] = []
        """How the links stood at the last look."""
        self._lost: dict[int, float] = {}
        """Slots that have no home as far as we see, but whose first owner is another, since when."""
        self._tend_at = 0.0
        self._to_probe: deque[HomeSlot] = deque()
        """Slots some of whose owners will be asked where they are."""
        self._probing = False
        """Whether that is under way."""
        self._probe_again_at = 0.0
        self._purging = False
        """Whether tombstones are being dropped."""
        self._comparing: list[int] = []
        """Slots whose digests are still to be compared in this round."""
        self._renewed_upto = 0
        self._compare_again_at = -inf
        self._compared: dict[Peer, list[int]] = {}
        """Digests that are still to be sent."""

    def enter_epoch(self) -> None:
        """A new topology is installed, and `home` has entered it: who is behind is asked, and what is ours first is
        claimed (protocol rule T5)."""
        view, home = self._view, self._home
        for waiting in list(home.progress.waiting):
            self._probe(waiting, [peer for peer in waiting.group.peers if peer.up])
        self.probe_lagging()
        topology = view.topology
        if topology is None:
            return
        kinds, orders = topology.kinds[0], topology.orders
        slots, claimed = view.slots, [frozenset(order) for order in orders]
        promised = enumerate(zip(kinds, view.copies.promised, strict=True))
        by_others = [number for number, (kind, ballot) in promised if ballot & MEMBER_MASK not in claimed[kind]]
        home.unclaimed = {number for number in by_others if slots[number] is not None}
        if not topology.is_joint:
            first = [order[:1] == (view.me.number,) for order in orders]
            served = [{peer.number for peer in order if peer.usable and peer is not view.me} for order in view.orders]
            promised = enumerate(zip(kinds, view.copies.promised, strict=True))
            home.takeover.want(
                [
                    number
                    for number, (kind, ballot) in promised
                    if first[kind] and ballot & MEMBER_MASK not in served[kind]
                ]
            )

    def met(self, peer: Peer) -> None:
        """A peer has entered our epoch: what it was sent before it has not read (protocol rule E1)."""
        self._home.progress.give_up_turns(peer, self._home.turn)
        for waiting in list(self._home.progress.waiting):
            if peer in waiting.group.peers:
                self._probe(waiting, [peer])

    def orphans(self) -> list[int]:
        """Slots that nobody is home of, as far as can be seen, and that are ours to take (protocol rule T5): of the
        next quarter of the slots.

        Whose ballot we have promised is home, or tried to be. If that is ourselves, in vain, or one that cannot be
        talked to, or no owner any more, the first owner that can be takes over, though no operation asks for it:
        someone must look after copies that are behind, deadlines and tombstones. The first owner may have promised to
        another and see no need: whoever still sees it after a while takes over itself.
        """
        view = self._view
        me = view.me
        links = [(peer.process, peer.up, peer.silent) for peer in view.peers.values()]
        if links != self._links_seen or self._home.takeover.unsettled:
            self._links_seen = links
            self._home.takeover.unsettled = False
            self._unlooked = self._count
        lost, now = self._lost, self._home.clock.now
        if self._unlooked <= 0:
            lost.clear()
            return []
        self._unlooked -= self._looks
        first = self._looked_upto
        self._looked_upto = (first + self._looks) % self._count
        healthy = {peer.number for peer in view.peers.values() if peer.up and peer.number}
        found: list[int] = []
        unclaimed = self._home.unclaimed
        part = slice(first, first + self._looks)
        columns = zip(view.copies.promised[part], self._home.group_of[part], view.slots[part], strict=True)
        for number, (ballot, group, slot) in enumerate(columns, first):
            member = ballot & MEMBER_MASK
            if (
                group is not None
                or slot is None
                or (member in healthy and number not in unclaimed)
                or not self._home.takeover.is_free(number)
            ):
                lost.pop(number, None)
            elif (
                member == me.number
                or next((peer for peer in view.order[number] if peer.usable), None) is me
                or now - lost.setdefault(number, now) >= CLAIM_AFTER_S
            ):
                found.append(number)
        if found or lost:
            self._unlooked = self._count
        return found

    def tend(self, now: float) -> None:
        """Once a period: purge tombstones that every owner has (protocol rule X1), give up on turns not acknowledged,
        and ask owners that are behind where they are."""
        if now < self._tend_at:
            return
        self._tend_at = now + TEND_PERIOD_S
        if self._view.copies.buried and not self._purging:
            self._purging = True
            self._operations.start(now, self._purge_spaced())
        self._view.copies.age_indexes()
        if not self._to_probe and now >= self._probe_again_at:
            self.probe_lagging()
        for peer in self._view.peers.values():
            self._home.progress.give_up_turns(peer, peer.overdue)
            peer.overdue = self._home.turn

    def _purge_spaced(self) -> Operation:
        left = PURGE_GROUP
        purges: dict[Peer, list[int]] = {}
        for number in list(self._view.copies.buried):
            home = self._home.homes.get(number)
            if home is not None:
                left -= self._purge(home, purges) + 1
            if left <= 0:
                self._tell_purges(purges)
                yield Pause(SPACING_S)
                left = PURGE_GROUP
                purges = {}
        self._tell_purges(purges)
        self._purging = False

    def _tell_purges(self, purges: dict[Peer, list[int]]) -> None:
        for peer, column in purges.items():
            if peer.up:
                peer.tell("purge", column)

    def probe_lagging(self) -> None:
        """Ask owners that may be behind where they are: an answer, or their fetching, follows."""
        self._to_probe = deque(self._home.progress.lagging)
        self._probe_again_at = (
            self._home.clock.now + TEND_PERIOD_S + len(self._home.progress.lagging) / PROBED_AGAIN_PER_S
        )
        if self._to_probe and not self._probing:
            self._probing = True
            self._operations.start(self._home.clock.now, self._probe_spaced())

    def _probe_spaced(self) -> Operation:
        while self._to_probe:
            for _ in range(min(PROBED_GROUP, len(self._to_probe))):
                home = self._to_probe.popleft()
                lagging = self._home.progress.lagging.get(home, ())
                behind = [peer for peer in home.group.peers if peer.up and peer.number in lagging]
                if behind:
                    self._probe(home, behind)
            yield Pause(SPACING_S)
        self._probing = False

    def _probe(self, home: HomeSlot, behind: list[Peer]) -> None:
        """Have owners catch up that have missed something: a change does that, or else the position alone."""
        slot = home.slot
        if slot.position >> SEQUENCE_BITS != home.ballot:
            if self._view.reachable(slot.number):
                self._home.write_nothing(home)
            return
        urgent = home in self._home.progress.waiting
        for peer in behind:
            peer.probe(slot.number, slot.position, urgent=urgent)

    def _purge(self, home: HomeSlot, purges: dict[Peer, list[int]]) -> int:
        """Drop tombstones of a slot that can go; how many."""
        slot = home.slot
        peers = home.group.peers
        turn, upto = home.purgeable
        if home in self._home.progress.lagging or home.group.turn is not None:
            return 0
        purged = 0
        if upto and all(next(iter(peer.turns), inf) > turn for peer in peers):
            purged = slot.purge(upto)
            self._replica.counters.purged += purged
            for peer in peers:
                purges.setdefault(peer, []).extend((slot.number, home.ballot, upto))
        home.purgeable = (self._home.turn, slot.position)
        return purged

    def expire(self) -> None:
        """Write tombstones for keys whose deadline has passed; expiry is a change like any other (rule X2)."""
        now = self._home.clock.cluster_ms
        for number, key in self._home.expiry.due(now, EXPIRE_GROUP):
            home = self._home.homes.get(number)
            if home is None:
                continue
            cell = home.slot.cells.get(key)
            if cell is None or not 0 < cell[2] <= now or cell[1] is None:
                continue
            if database_of(key) == RECORDS:
                self._home.overdue.append((number, key))
                self._home.expiry.add(now + RECORD_AGAIN_MS, number, key)
            elif self._view.impaired and not self._view.reachable(number):
                self._home.expiry.add(now + EXPIRE_RETRY_MS, number, key)
            else:
                self._home.remove_expired(home, (key,))

    def renew(self) -> None:
        """Begin a new ballot where sequence numbers run out (rule H3): of the next quarter of the slots."""
        first = self._renewed_upto
        self._renewed_upto = (first + self._looks) % self._count
        positions = self._view.copies.positions[first : first + self._looks]
        worn = [at for at, position in enumerate(positions, first) if position & SEQUENCE_MASK > SEQUENCE_RENEWED]
        for number in worn:
            if number in self._home.homes:
                self._home.deposed(number)
                self._home.takeover.want([number])

    def compare(self, cells: int) -> None:
        """Compute the digests of some of our slots, about so many cells further in every round, and send them to the
        other owners some hundred at a time (F5). Older ones do no harm: they count where a copy is still there."""
        now = self._home.clock.now
        if not self._comparing:
            if now < self._compare_again_at:
                return
            self._comparing = list(self._home.homes)
            self._compare_again_at = now + COMPARE_ROUND_S
        columns = self._compared
        positions = self._view.copies.positions
        while self._comparing and cells > 0:
            number = self._comparing.pop()
            home = self._home.homes.get(number)
            position = positions[number]
            cells -= COMPARE_SLOT
            if home is None or home.group.turn is not None or home in self._home.progress.lagging:
                continue
            slot = home.slot
            cells -= min(len(slot.cells), STEP_CELLS)
            digest = slot.digest_bit_by_bit()
            if digest is None:
                self._comparing.append(number)
                break
            oldest = min(slot.tombstones.values()) if slot.tombstones else position + 1
            row = (number, home.ballot, position, digest, oldest)
            for peer in home.group.peers:
                columns.setdefault(peer, []).extend(row)
        for peer, column in list(columns.items()):
            if not self._comparing or len(column) >= COMPARED_TOGETHER * COMPARED_FIELDS:
                del columns[peer]
                if peer.up:
                    peer.tell("compare", column)
