"""How far each owner is with what this node runs as home, and which operations have ended by that.

An operation's end is learnt

    by its home, for a whole turn       from the first acknowledgement, where two owners are a quorum   acknowledge
    by its home, slot by slot           from others, where more are needed or some was not accepted     _accepted
    by its home                         from an owner that has fetched the copy, or answers a probe     settled
    by its coordinator, if an owner     from the change itself (A3), or from the copy that it fetched   in `replica`
    by its coordinator                  from its home: done, or not, or perhaps                         _report, end
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, TypeAlias

from peerkv.agreement.notices import Notices
from peerkv.agreement.peer import Peer
from peerkv.agreement.turn import ROW, Group, Segment, Turn
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.kernel.slot import Slot
from peerkv.resp import Reply
from peerkv.ring.quorum import Quorum
from peerkv.settings import Settings
from peerkv.store.cell import SEQUENCE_BITS
from peerkv.store.recent import TICKET_SLOT

FILLED_LOOKS: Final = 2048
"""Slots looked at per survey of a change; most are noted as filled by the acknowledgement that makes them so."""


class Status(IntEnum):
    """How an operation ended at a home that has not done it, or may not have."""

    AGAIN = 1
    """Deposed: the change may or may not survive. Send the same id again."""
    NOT_HERE = 2
    """Not home, nothing applied. Send the same id again."""
    NO_QUORUM = 3
    """Nothing applied: a majority of the owners cannot be reached from here."""


@dataclass(slots=True, eq=False)
class HomeSlot:
    """A slot that this node is home of."""

    slot: Slot
    ballot: int
    group: Group
    quorum: Quorum
    since: int = 0
    """The position at which it met the present owners: who has acknowledged it in this epoch, or a later one, has all
    that was chosen before."""
    purgeable: tuple[int, int] = (0, 0)
    """(turn, position): once every owner has answered that turn, tombstones up to that position can go."""
    at: float = 0.0
    """When we became home."""
    acked: dict[int, int] = field(default_factory=dict)
    """Per owner how far it has acknowledged under this ballot; kept where more than one other must."""


Ended: TypeAlias = tuple[int, Peer, int, Reply]
"""(position that a quorum must have reached; who sent the operation; ticket; reply)"""


class Progress:
    """Of this node as home of slots."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        settle: Callable[[Iterable[int], Iterable[Reply]], None],
        refused: Callable[[int, Status, int], None],
    ) -> None:
        self.homes: dict[int, HomeSlot] = {}
        """The slots that this node is home of."""
        self.lagging: dict[HomeSlot, set[int]] = {}
        """Owners (numbers) that are not known to be where we are, but for turns that they have not answered yet."""
        self.waiting: dict[HomeSlot, deque[Ended]] = {}
        """Operations that a quorum has not accepted, in order; most wait in their turns instead."""
        self.notices = Notices(view)
        self._settings = settings
        self._clock = clock
        self._view = view
        self._settle = settle
        """Ends operations of our own coordinator."""
        self._refused = refused
        """Tells our own coordinator that an operation was not done here."""
        self._unfilled: list[int] = []
        """Slots that this epoch changes, but for those ..."""
        self._filled = bytearray(len(view.slots) // 8)
        """... whose bits are set here: of which we, as home, have seen all copies made."""
        self._unsettled = bytes(len(view.slots) // 8)
        """Bits of slots that have lost owners, and ..."""
        self._settled = bytearray(len(view.slots) // 8)
        """... of those among them of which we, as home, know that the owners that are left have everything."""

    # -- of turns

    def sent(self, group: Group, turn: Turn) -> None:
        """A turn is about to be offered to its owners: who learns of the ends of its operations, and from what?"""
        for segment in turn.segments:
            (turn.learned if group.learns(segment) and segment.origin.up else turn.ended).append(segment)
        if not group.peers:
            self._release(turn.ended)
            for number, to in turn.positions().items() if turn.notices else ():
                self._release_upto(self.homes[number], to)
        elif not group.pair:
            self._spill(turn)

    def acknowledge(self, peer: Peer, column: list[Any]) -> None:
        """ACKs of an owner: the turns whose changes it has accepted, and which not (protocol rule H2)."""
        items = iter(column)
        for number, missed in zip(items, items, strict=True):
            turn = peer.turns.pop(number, None)
            if turn is None:
                continue
            if missed:
                self.mark_lagging(peer, turn, missed)
                self._spill(turn)
                self._teach(peer, turn, missed)
            else:
                turn.accepted = True
                if turn.ended:  # a pair's: it and we are a quorum
                    ended, turn.ended = turn.ended, []
                    self._release(ended)
            if self.lagging or self.waiting or self.notices.untold or not turn.pair:
                self._look_closer(peer, turn, missed)

    def _look_closer(self, peer: Peer, turn: Turn, missed: Collection[int]) -> None:
        """Slot by slot what an acknowledgement means."""
        for number, to in turn.positions().items():
            home = self.homes.get(number)
            if home is None or number in missed or to >> SEQUENCE_BITS != home.ballot:
                continue
            self._mark_abreast(home, peer)
            if home in self.waiting or home in self.notices.untold or not turn.pair:
                self._accepted(home, peer.number, to)

    def mark_lagging(self, peer: Peer, turn: Turn, numbers: Iterable[int] | None = None) -> None:
        """An owner may not have accepted a turn, or these slots of it."""
        for number in turn.positions() if numbers is None else numbers:
            home = self.homes.get(number)
            if home is not None:
                self.lagging.setdefault(home, set()).add(peer.number)

    def _mark_abreast(self, home: HomeSlot, peer: Peer) -> None:
        lagging = self.lagging.get(home)
        if lagging is not None:
            lagging.discard(peer.number)
            if not lagging:
                del self.lagging[home]

    def _spill(self, turn: Turn) -> None:
        """What was to end with the turn as a whole now waits slot by slot."""
        ended, turn.ended = turn.ended, []
        for segment in ended:
            rows, origin = segment.rows, segment.origin
            for ticket, to, reply in zip(rows[::ROW], rows[1::ROW], rows[ROW - 1 :: ROW], strict=True):
                home = self.homes.get(ticket & TICKET_SLOT)
                if ticket <= TICKET_SLOT:
                    continue  # of no operation
                self._await(home, to, origin, ticket, reply)

    def _await(self, home: HomeSlot | None, to: int, origin: Peer, ticket: int, reply: Reply) -> None:
        """An operation ends when a quorum is known to have reached its position."""
        if home is None or home.ballot != to >> SEQUENCE_BITS:
            self.end(origin, ticket, Status.AGAIN)
            return
        waiting = self.waiting.setdefault(home, deque())
        waiting.append((to, origin, ticket, reply))
        if len(waiting) > 1 and waiting[-2][0] > to:
            self.waiting[home] = deque(sorted(waiting, key=_position))

    def _teach(self, peer: Peer, turn: Turn, missed: Collection[int] | None = None) -> None:
        """A coordinator that was to learn the ends of its operations from their changes has not accepted these (of the
        slots `missed`; None: perhaps none of them): they are reported to it like others' (protocol rule A3)."""
        for segment in turn.learned:
            if segment.origin is not peer:
                continue
            rows = segment.rows
            for ticket, to, reply in zip(rows[::ROW], rows[1::ROW], rows[ROW - 1 :: ROW], strict=True):
                number = ticket & TICKET_SLOT
                if missed is not None and number not in missed:
                    continue
                if turn.accepted:
                    peer.report((ticket,), (reply,))
                    continue
                home = self.homes.get(number)
                self._await(home, to, peer, ticket, reply)
                if home is not None:
                    for other in home.group.peers:
                        if other.up:
                            other.probe(number, home.slot.position, urgent=True)

    def settled(self, peer: Peer, column: list[int]) -> None:
        """An owner has reached positions by catching up, or says after a probe that it is there."""
        items = iter(column)
        for number, position in zip(items, items, strict=True):
            home = self.homes.get(number)
            if home is None or position >> SEQUENCE_BITS != home.ballot:
                continue
            if position == home.slot.position:
                self._mark_abreast(home, peer)
            self._accepted(home, peer.number, position)

    def _accepted(self, home: HomeSlot, owner: int, position: int) -> None:
        """Report what a quorum has reached now that this owner is at `position`."""
        if not home.group.pair:
            home.acked[owner] = max(position, home.acked.get(owner, 0))
            position = home.quorum.reached({**home.acked, self._view.me.number: home.slot.position})
            if self._must_answer(home):
                self._note_filled(home)
        self._release_upto(home, position)

    def _release_upto(self, home: HomeSlot, position: int) -> None:
        if home in self.notices.untold:
            self.notices.chosen(home, position)
        waiting = self.waiting.get(home)
        if waiting is None:
            return
        while waiting and waiting[0][0] <= position:
            _, origin, ticket, reply = waiting.popleft()
            self._report(origin, (ticket,), (reply,))
        if not waiting:
            del self.waiting[home]

    def _release(self, ended: Iterable[Segment]) -> None:
        """A quorum has accepted these."""
        for segment in ended:
            self._report(segment.origin, segment.rows[::ROW], segment.rows[ROW - 1 :: ROW])

    def _report(self, origin: Peer, tickets: Sequence[int], replies: Sequence[Reply]) -> None:
        if origin is self._view.me:
            self._settle(tickets, replies)
        else:
            origin.report(tickets, replies)

    def end(self, origin: Peer, ticket: int, status: Status, home: int = 0) -> None:
        """An operation was not done here, or is not known to be. `home`: the number of the member that is home."""
        if not home and status is not Status.NO_QUORUM:
            promised_to = self._view.promised_to(ticket & TICKET_SLOT)
            if promised_to is not None and promised_to is not self._view.me:
                home = promised_to.number
        if origin is self._view.me:
            self._refused(ticket, status, home)
        else:
            origin.hand_back(ticket, status, home)

    def give_up_turns(self, peer: Peer, upto: int) -> None:
        """What an owner has not acknowledged of the turns up to this one it may lack."""
        for number in [number for number in peer.turns if number <= upto]:
            turn = peer.turns.pop(number)
            self.mark_lagging(peer, turn)
            self._spill(turn)
            self._teach(peer, turn)

    def hand_back(self) -> None:
        """Look whether the owners that our operations wait for are there. What waits for a quorum that is silent is
        handed back: its coordinator may reach owners that we do not (protocol rule O2)."""
        hedge = self._settings.write_hedge
        view = self._view
        for peer in view.peers.values():
            turn = next(iter(peer.turns.values()), None)
            if turn is not None:
                view.doubt(peer, turn.at, self._clock, hedge)
        if not view.impaired:
            return
        for peer in view.peers.values():
            if not peer.usable:
                for turn in peer.turns.values():
                    if not turn.accepted and not view.reachable(turn.a_slot):
                        self._spill(turn)
        for home in [home for home in self.waiting if not view.reachable(home.slot.number)]:
            for _, origin, ticket, _ in self.waiting.pop(home):
                self.end(origin, ticket, Status.AGAIN)

    # -- of homes

    def begin(self, home: HomeSlot, equal: Collection[Peer]) -> None:
        """We have become home of a slot. `equal`: the owners whose copies are known to be ours."""
        number = home.slot.number
        self.homes[number] = home
        changes = self._must_answer(home)
        if changes:
            equal = ()  # E5: all have to say that they are here
        others = self._view.others[number]
        lagging = {peer.number for peer in others if peer not in equal} if home.slot.position or changes else set()
        if lagging:
            self.lagging[home] = lagging

    def drop(self, home: HomeSlot) -> None:
        """We are home of it no more (protocol rule H4)."""
        del self.homes[home.slot.number]
        self.lagging.pop(home, None)
        self.notices.drop(home)
        for _, origin, ticket, _ in self.waiting.pop(home, ()):
            self.end(origin, ticket, Status.AGAIN)

    def enter_epoch(self) -> None:
        """A new topology is installed: what was under way may have met owners of another epoch."""
        view = self._view
        topology = view.topology
        unsettled = topology.unsettled_bits if topology is not None else 0
        self._unsettled = unsettled.to_bytes(len(view.slots) // 8, "little")
        for peer in view.peers.values():
            for turn in peer.turns.values():
                self.mark_lagging(peer, turn)
                self._spill(turn)
                self._teach(peer, turn)
            peer.turns.clear()
        self._filled = bytearray(len(view.slots) // 8)
        self._settled = bytearray(len(view.slots) // 8)
        self._unfilled = topology.unfilled if topology is not None else []

    def regroup(self, homes: Iterable[tuple[int, HomeSlot, Group]]) -> None:
        """These slots have other owners in this epoch: it begins anew who is known to be where we are. There may be
        thousands."""
        quorums, positions, all_lagging = self._view.quorums, self._view.copies.positions, self.lagging
        for number, home, group in homes:
            known = all_lagging.pop(home, ()) if all_lagging else ()
            former, peers = home.group.peers, group.peers
            home.group = group
            home.quorum = quorums[number]
            home.since = positions[number]
            home.acked = {}
            home.purgeable = (0, 0)
            if not peers:
                self._release_upto(home, home.since)
            if self._must_answer(home):
                lagging = {peer.number for peer in peers}
            elif known or peers is not former:
                lagging = {peer.number for peer in peers if peer.number in known or peer not in former}
            else:
                continue
            if lagging:
                all_lagging[home] = lagging

    def _must_answer(self, home: HomeSlot) -> bool:
        """Whether the other owners have to say in this epoch that they are here (rules E5, V5)."""
        number = home.slot.number
        return bool(home.quorum.joint) or bool(self._unsettled[number >> 3] >> (number & 7) & 1)

    def filled(self) -> bytes:
        """A bit for each slot that the present epoch changes, of which we are home, and which could do without its
        former owners: a quorum has acknowledged its position in this epoch, and so has every new owner in reach. Once
        that is so it stays so."""
        looked_at, self._unfilled = self._unfilled[:FILLED_LOOKS], self._unfilled[FILLED_LOOKS:]
        for number in looked_at:
            if not self._filled[number >> 3] >> (number & 7) & 1:
                self._note_filled(self.homes.get(number))
                self._unfilled.append(number)
        return bytes(self._filled)

    def settled_slots(self) -> bytes:
        """A bit for each slot that has lost owners, of which we are home, and of which as many of the others as are
        needed have acknowledged its position in this epoch (rule V5); empty where nothing is lost."""
        return bytes(self._settled) if any(self._unsettled) else b""

    def _note_filled(self, home: HomeSlot | None) -> None:
        if home is None:
            return
        number = home.slot.number
        have = {owner for owner, position in home.acked.items() if position >= home.since}
        have.add(self._view.me.number)
        quorum = home.quorum
        bit = 1 << (number & 7)
        if self._unsettled[number >> 3] & bit and quorum.won_by_members(have):
            self._settled[number >> 3] |= bit
        if quorum.won(have) and all(
            peer.number in have or not peer.up for peer in home.group.peers if peer.number in quorum.joint
        ):
            self._filled[number >> 3] |= bit


def _position(ended: Ended) -> int:
    return ended[0]
