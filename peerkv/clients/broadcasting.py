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
from typing import Final

from peerkv.agreement.home import Home
from peerkv.agreement.notices import Notice
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clients.session import Session
from peerkv.databases import bare_key

PREFIXES_MAX: Final = 1 << 16
"""Of all clients of a node; beyond it the node wants to be told of every key."""
TOLD_AT_ONCE: Final = 1024
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


class Broadcasting:
    """Of a node."""

    def __init__(self, view: View, home: Home, tell: Callable[[Session, Sequence[bytes] | None], None]) -> None:
        """`tell` tells a client to forget some keys, or (None) all."""
        self._view = view
        self._home = home
        self._tell = tell
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
        self._unsure: list[tuple[int, Peer, int]] = []
        """(turn, peer, number): to be told so when what was run before is chosen, as that is not told of."""
        home.notices.listeners.append(self._observe)

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
        if begun:
            self._tell_all(begun, BEGINS, session)

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
        """What clients of a peer have; it wants to be told when nothing is left of what we do not tell of."""
        found = self._elsewhere.setdefault(peer.process, _Prefixes())
        if what == ANEW:
            found.remove(list(found.known))
        (found.remove if what == ENDS else found.add)(prefixes)
        self._observe_or_not()
        if number:
            self._answer(peer, number)

    def _answer(self, peer: Peer, number: int) -> None:
        """Say that we know of prefixes, as soon as all is chosen that was run before."""
        if self._in_flight(self._home.turn):
            self._unsure.append((self._home.turn, peer, number))
        else:
            self._say(peer, number)

    def _say(self, peer: Peer, number: int) -> None:
        if peer is self._view.me:
            left, _ = self._asked[number]
            if left == {peer}:
                del self._asked[number]  # nobody has run anything in between
            else:
                left.discard(peer)
        elif peer.up:
            peer.tell("prefixes_known", number)

    def _in_flight(self, turn: int) -> bool:
        peers = self._view.peers.values()
        waits = any(next(iter(peer.turns), turn + 1) <= turn for peer in peers) or bool(self._home.progress.waiting)
        return waits or any(group.turn is not None for group in self._home.open_groups)

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
        unsure, self._unsure = self._unsure, []
        for turn, peer, number in unsure:
            if self._in_flight(turn):
                self._unsure.append((turn, peer, number))
            elif peer is self._view.me:
                self._known(peer, number)
            else:
                self._say(peer, number)

    # -- changes

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
            for at in range(0, len(row[0]), TOLD_AT_ONCE):
                peer.tell("broadcast", *(column[at : at + TOLD_AT_ONCE] for column in row))

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
