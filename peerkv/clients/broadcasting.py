"""CLIENT TRACKING BCAST: clients are told of every change of keys with their prefixes, whoever has read them.

Nodes tell each other which prefixes their clients have; homes tell of changes when they are chosen
(`agreement.notices`). A client is told of the keys of a turn at its end, once. What is told is told at most once, so
whenever something may have been missed (a node that has only now heard of a prefix, a link that was down) clients are
told to forget everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home
from peerkv.agreement.notices import Notice
from peerkv.agreement.peer import Peer
from peerkv.agreement.reads import Sink
from peerkv.agreement.view import View
from peerkv.clients.session import Session
from peerkv.commands.transactions import look_request
from peerkv.databases import bare_key
from peerkv.resp import ReplyError

if TYPE_CHECKING:
    from peerkv.agreement.progress import HomeSlot

PREFIXES_MAX: Final = 1 << 16
"""Of all clients of a node. A peer that says more is told of every key."""
TOLD_AT_ONCE: Final = 1024
EARLY_MAX: Final = 1 << 16
"""Keys that were told of early and are to be told of again. Beyond that everybody is to forget everything."""
ASKED_AT_ONCE: Final = 256
"""Slots whose homes are asked for that in a look."""
BEGINS, ENDS, ANEW = range(3)
"""What a node says of prefixes: it has clients with these from now on, or none any more, or with these alone."""

Change = tuple[int, int]
"""(process, ticket) of the operation that has made it."""


@dataclass(slots=True, eq=False)
class _Prefixes:
    """What another node wants to be told of."""

    known: set[bytes] = field(default_factory=set)
    lengths: Counter[int] = field(default_factory=Counter)

    def add(self, prefixes: Iterable[bytes]) -> None:
        for prefix in prefixes:
            if prefix not in self.known:
                if len(self.known) >= PREFIXES_MAX:
                    prefix = b""
                    if prefix in self.known:
                        continue
                self.known.add(prefix)
                self.lengths[len(prefix)] += 1

    def remove(self, prefixes: Iterable[bytes]) -> None:
        for prefix in prefixes:
            if prefix in self.known:
                self.known.remove(prefix)
                self.lengths[len(prefix)] -= 1
                if not self.lengths[len(prefix)]:
                    del self.lengths[len(prefix)]

    def of(self, key: bytes) -> list[bytes]:
        """Those that a key has."""
        return [key[:length] for length in self.lengths if length <= len(key) and key[:length] in self.known]


@dataclass(slots=True, eq=False)
class _Asker:
    """Who has said that it has clients with prefixes, and is to be told so when what was run before is chosen, as that
    is not told of."""

    peer: Peer
    number: int
    turn: int
    """The last one before."""
    left: dict[HomeSlot, int] | None = None
    """What waited for a quorum when that turn was answered: up to which position of which slot."""


class _Decided(Sink):
    """A slot's home answers: what was run before is chosen, or never will be."""

    __slots__ = ("broadcasting", "keys", "number")

    def __init__(self, broadcasting: Broadcasting, number: int, keys: dict[bytes, None]) -> None:
        super().__init__(1)
        self.broadcasting = broadcasting
        self.number = number
        self.keys = keys

    def complete(self) -> None:
        self.broadcasting.decided(self.number, self.keys, done=not isinstance(self.replies[0], ReplyError))


class Broadcasting:
    """Of a node."""

    def __init__(
        self,
        view: View,
        home: Home,
        coordinator: Coordinator,
        tell: Callable[[Session, Sequence[bytes] | None], None],
        flush: Callable[[], None],
    ) -> None:
        """`tell` tells a client to forget some keys, or (None) all; `flush` tells all clients of all nodes that."""
        self._view = view
        self._home = home
        self._coordinator = coordinator
        self._tell = tell
        self._flush = flush
        self._sessions: dict[bytes, dict[Session, None]] = {}
        """By prefix."""
        self._own = _Prefixes()
        self._elsewhere: dict[int, _Prefixes] = {}
        """By process."""
        self._changed: dict[bytes, dict[bytes, list[Change]]] = {}
        """In this turn, by prefix."""
        self._number = 0
        self._asked: dict[int, tuple[set[Peer], dict[Session, None]]] = {}
        """Who has not said yet that it knows of our prefixes, and who is to forget everything then."""
        self._askers: list[_Asker] = []
        self._early: dict[int, dict[bytes, None]] = {}
        """By slot, keys that were told of before their changes were known to be chosen."""
        self._early_keys = 0
        self._too_many = False
        """There were more of these than can be kept."""
        home.notices.listeners.append(self._observe)
        home.notices.on_early = self.repeat

    # -- who is to be told

    def begin(self, session: Session, prefixes: Iterable[bytes]) -> None:
        """A client is to be told of keys with these prefixes."""
        begun: list[bytes] = []
        for prefix in prefixes:
            sessions = self._sessions.setdefault(prefix, {})
            if not sessions:
                begun.append(prefix)
            sessions[session] = None
        self._own.add(begun)
        self._observe_or_not()
        if begun or self._asked:  # not all may know yet of those that others have begun
            self._tell_all(begun, BEGINS, session)

    def has_room(self, prefixes: Iterable[bytes]) -> bool:
        """Whether a client may have these, too."""
        coming = sum(prefix not in self._sessions for prefix in prefixes)
        return len(self._sessions) + coming <= PREFIXES_MAX

    def forget(self, session: Session, prefixes: Iterable[bytes]) -> None:
        """It is not any more."""
        ended: list[bytes] = []
        for prefix in prefixes:
            sessions = self._sessions.get(prefix, {})
            sessions.pop(session, None)
            if not sessions and self._sessions.pop(prefix, None) is not None:
                ended.append(prefix)
        self._own.remove(ended)
        if ended:
            for peer in self._view.peers.values():
                if peer.up:
                    self._tell_peer(peer, ended, ENDS, 0)
            self._observe_or_not()

    def _observe_or_not(self) -> None:
        wanted = bool(self._own.known) or any(found.known for found in self._elsewhere.values())
        if wanted is not self._home.notices.keys:
            self._home.observe(keys=wanted)

    def _tell_all(self, prefixes: Sequence[bytes], what: int, session: Session) -> None:
        peers = [peer for peer in self._view.peers.values() if peer.up]
        self._number += 1
        self._asked[self._number] = {*peers, self._view.me}, {session: None}
        for peer in peers:
            self._tell_peer(peer, prefixes, what, self._number)
        self._answer(self._view.me, self._number)

    def _tell_peer(self, peer: Peer, prefixes: Iterable[bytes], what: int, number: int) -> None:
        left = iter(prefixes)
        while part := list(islice(left, TOLD_AT_ONCE)):
            peer.tell("prefixes", part, what, 0)
        if number:
            peer.tell("prefixes", [], BEGINS, number)

    def link_up(self, peer: Peer) -> None:
        """A peer can be talked to, again or for the first time."""
        peer.tell("prefixes", [], ANEW, 0)
        if self._own.known:
            self._number += 1
            self._asked[self._number] = {peer}, {s: None for sessions in self._sessions.values() for s in sessions}
            self._tell_peer(peer, self._own.known, BEGINS, self._number)

    def lose(self, peer: Peer) -> None:
        """What a peer was to tell of is lost, or may be."""
        for number in list(self._asked):
            self._known(peer, number)
        self.forget_all()

    def forget_all(self) -> None:
        """All clients with prefixes are to forget everything."""
        for session in {session: None for sessions in self._sessions.values() for session in sessions}:
            self._tell(session, None)

    # -- what nodes tell each other

    def hear(self, peer: Peer, prefixes: Sequence[bytes], what: int, number: int) -> None:
        """What clients of a peer have; it wants to be told when nothing is left of what we do not tell of. Who begins
        anew can talk to us only now: what it would have told us since its last link broke it has not."""
        found = self._elsewhere.setdefault(peer.process, _Prefixes())
        if what == ANEW:
            found.remove(list(found.known))
            self.forget_all()
        (found.remove if what == ENDS else found.add)(prefixes)
        self._observe_or_not()
        if number:
            self._answer(peer, number)

    def _answer(self, peer: Peer, number: int) -> None:
        """Say that we know of prefixes, as soon as all is chosen that was run before."""
        asker = _Asker(peer, number, self._home.turn)
        if self._has_ended(asker):
            self._say(peer, number)
        else:
            self._askers.append(asker)

    def _say(self, peer: Peer, number: int) -> None:
        if peer is self._view.me:
            left, _ = self._asked[number]
            if left == {peer}:
                del self._asked[number]  # nobody has run anything in between
            else:
                left.discard(peer)
        elif peer.up:
            peer.tell("prefixes_known", number)

    def _has_ended(self, asker: _Asker) -> bool:
        """Whether all is chosen, or will never be, that was run up to then."""
        if any(group.turn is not None and group.turn.number <= asker.turn for group in self._home.open_groups):
            return False
        if any(next(iter(peer.turns), asker.turn + 1) <= asker.turn for peer in self._view.peers.values()):
            return False
        waiting = self._home.progress.waiting
        if asker.left is None:
            asker.left = {home: ended[-1][0] for home, ended in waiting.items()}
        return not any(home in waiting and waiting[home][0][0] <= upto for home, upto in asker.left.items())

    def heard(self, peer: Peer, number: int) -> None:
        """A peer knows of our prefixes."""
        self._known(peer, number)

    def _known(self, peer: Peer, number: int) -> None:
        if number not in self._asked:
            return
        left, sessions = self._asked[number]
        left.discard(peer)
        if not left:
            del self._asked[number]
            for session in sessions:
                self._tell(session, None)

    def look(self, alive: Callable[[], set[int]], doubt: Callable[[Peer], object]) -> None:
        """See what has been chosen meanwhile; forget nodes that are gone. While a member that is `alive`, as others
        say, cannot tell us of changes, clients are told to forget everything in every look."""
        if self._own.known:
            for peer in self._view.peers.values():
                if peer.number:
                    doubt(peer)
            away = {peer.process for peer in self._view.peers.values() if peer.number and not peer.usable}
            if away and away & alive():
                self.forget_all()
        for process in [process for process in self._elsewhere if process not in self._view.peers]:
            del self._elsewhere[process]
            self._observe_or_not()
        for number in list(self._early)[:ASKED_AT_ONCE]:
            keys = self._early.pop(number)
            self._early_keys -= len(keys)
            self._coordinator.write(number, look_request(()), _Decided(self, number, keys), 0, reads=True)
        askers, self._askers = self._askers, []
        for asker in askers:
            if not self._has_ended(asker):
                self._askers.append(asker)
            elif asker.peer is self._view.me:
                self._known(asker.peer, asker.number)
            else:
                self._say(asker.peer, asker.number)

    # -- changes

    def repeat(self, notices: Iterable[Notice]) -> None:
        """These were told before it was known whether they are chosen. Who reads in between may read what was there
        before, and keep that: it is told once more when it is known."""
        for _, _, keys, _ in notices:
            for key in keys:
                of_slot = self._early.setdefault(self._view.slot_of(key), {})
                before = len(of_slot)
                of_slot[key] = None
                self._early_keys += len(of_slot) - before
        if self._early_keys > EARLY_MAX:
            self._too_many = True
            self._early_keys = 0
            for of_slot in self._early.values():
                of_slot.clear()

    def decided(self, number: int, keys: dict[bytes, None], *, done: bool) -> None:
        """It is known what has become of all that was run on a slot, if it is `done`."""
        if not done:
            self.repeat([(0, 0, [*keys], ())])
            self._early.setdefault(number, {})
            return
        self._observe([(0, 0, [*keys], ())])
        if self._too_many and not self._early:
            self._too_many = False
            self._flush()

    def _observe(self, notices: Sequence[Notice]) -> None:
        """Keys of ours have changed: tell those who want to know."""
        rows: dict[Peer, tuple[list[bytes], list[int], list[int]]] = {}
        for process, ticket, keys, _ in notices:
            for key in keys:
                bare = bare_key(key)
                if self._own.known:
                    self._note(bare, (process, ticket))
                for peer in self._view.peers.values():
                    found = self._elsewhere.get(peer.process)
                    if found is not None and peer.up and found.of(bare):
                        row = rows.setdefault(peer, ([], [], []))
                        row[0].append(bare)
                        row[1].append(process)
                        row[2].append(ticket)
        for peer, row in rows.items():
            peer.tell_rows("broadcast", *row)

    def arrive(self, _peer: Peer, keys: Sequence[bytes], processes: Sequence[int], tickets: Sequence[int]) -> None:
        """... of others."""
        for key, process, ticket in zip(keys, processes, tickets, strict=True):
            self._note(key, (process, ticket))

    def _note(self, key: bytes, change: Change) -> None:
        for prefix in self._own.of(key):
            self._changed.setdefault(prefix, {}).setdefault(key, []).append(change)

    @property
    def prefixes(self) -> int:
        """How many our clients have."""
        return len(self._sessions)

    @property
    def at_hand(self) -> bool:
        """Whether `end_turn` has something to do."""
        return bool(self._changed)

    def end_turn(self) -> None:
        """Tell clients what has changed in this turn, each of each of its prefixes in one message."""
        changed, self._changed = self._changed, {}
        me = self._view.me.process
        for prefix, keys in changed.items():
            for session in list(self._sessions.get(prefix, ())):
                tracker = session.tracker
                told = sorted(keys)
                if tracker is not None and tracker.noloop:
                    own = tracker.tickets
                    told = [
                        key
                        for key, changes in sorted(keys.items())
                        if not all(process == me and ticket in own for process, ticket in changes)
                    ]
                if told:
                    self._tell(session, told)
