"""CLIENT TRACKING: clients are told when what they have read, and may keep, is another.

What a client that tracks reads goes as an operation through the home of its slot, which notes its node (rules C1 to C5
of docs/protocol.md; `agreement.tracked`). The node remembers which of its clients has read what, and tells them. A
client is told of a change behind the reply that it concerns, never before. Where it is in doubt whether a change would
be heard of here (another home, a link that is down, another epoch), clients are told to forget what they have. They are
told once, and what they read again is tracked again.

The table has a limit (`tracking_table_max_keys`): beyond it clients are told to forget the oldest keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home
from peerkv.agreement.peer import Peer
from peerkv.agreement.reads import Sink
from peerkv.agreement.view import View
from peerkv.clients.broadcasting import PREFIXES_MAX as OF_NODE
from peerkv.clients.broadcasting import Broadcasting
from peerkv.clients.outgoing import Outgoing
from peerkv.clients.session import Services, Session
from peerkv.clients.tracker import Reading, Tracker, asked_for, caching, described
from peerkv.commands.access import SYNTAX
from peerkv.databases import bare_key
from peerkv.resp import OK, Reply, ReplyError, encode_all
from peerkv.store.recent import TICKET_SLOT_BITS

LOST_AT_ONCE: Final = 4096
"""Where it is in doubt whether we would hear of changes of more keys, clients are told to forget all."""
DROPPED_AT_ONCE: Final = 20_000
"""Keys forgotten in a turn, of a table that is not needed any more: 3 ms."""
EVICTED_AT_ONCE: Final = 1024
"""Keys in a look, where the table has become too small."""
KEYS_MAX: Final = 1 << 24
"""What `tracking_table_max_keys 0` means, which is no limit in Redis."""
GONE_LEAST: Final = 64
"""Readers of a key that are gone are looked for where there are so many, and twice as many as there are clients."""
SUBCOMMANDS: Final = frozenset(("client|tracking", "client|caching", "client|getredir", "client|trackinginfo"))
REDIRECTED: Final = b"__redis__:invalidate"

Told = Reading | Sequence[bytes] | None
"""What is to be seen to once a batch is answered: a read, keys to forget, or (None) all of them."""


@dataclass(slots=True, eq=False)
class _OfSlot:
    home: int
    """The process that tells of changes."""
    keys: dict[bytes, int | dict[int, None]] = field(default_factory=dict)
    """Who has read them (numbers of connections), oldest first."""


class Tracking:
    """Of a node."""

    def __init__(
        self,
        services: Services,
        view: View,
        home: Home,
        coordinator: Coordinator,
        outgoing: Outgoing,
    ) -> None:
        self._services = services
        self._view = view
        self._tracked = home.tracked
        self._coordinator = coordinator
        self._outgoing = outgoing
        self._sessions: dict[Session, None] = {}
        """Those that track."""
        self._slots: dict[int, _OfSlot] = {}
        self._count = 0
        self._pending: dict[bytes, dict[Reading, None]] = {}
        """Reads whose replies their clients do not have, by key."""
        self._no_more: dict[Peer, tuple[list[bytes], list[int]]] = {}
        self._dropping: list[dict[bytes, int | dict[int, None]]] = []
        self.broadcasting = Broadcasting(view, home, coordinator, self._tell_behind, self.flush)
        home.tracked.on_changed = self.changed
        home.tracked.on_untracked = self.untracked

    # -- CLIENT TRACKING and its like

    def run(self, session: Session, request: Sequence[bytes]) -> Reply:
        """Answer one of `SUBCOMMANDS`."""
        tracker: Tracker | None = session.tracker
        match [request[1].upper(), *request[2:]]:
            case [b"TRACKING", switch, *options]:
                return self._switch(session, switch.upper(), options)
            case [b"CACHING", word]:
                return caching(tracker, word.upper())
            case [b"GETREDIR"]:
                return tracker.redirect if tracker is not None else -1
            case _:
                return described(tracker, queues=session.queue is not None)

    def _switch(self, session: Session, switch: bytes, options: Sequence[bytes]) -> Reply:
        asked = asked_for(options, self._services.sessions)
        if isinstance(asked, ReplyError):
            return asked
        if switch == b"OFF":
            self.forget(session)
            return OK
        if switch != b"ON":
            return SYNTAX
        wrong = asked.follow(session.tracker)
        if wrong is not None:
            return wrong
        if not self.broadcasting.has_room(asked.prefixes):
            return ReplyError(f"ERR the clients of this node may have at most {OF_NODE} prefixes in all")
        session.tracker = asked
        self._sessions[session] = None
        session.become()
        if asked.bcast:
            self.broadcasting.begin(session, asked.prefixes)
        return OK

    def forget(self, session: Session) -> None:
        """A client tracks no more, or has gone."""
        if session.tracker is None:
            return
        for batch in session.batches:
            for told in batch.told or ():
                if isinstance(told, Reading):
                    self._end(told)
            batch.told = None
        for reading in session.tracker.notes:
            self._end(reading)
        if session.tracker.bcast:
            self.broadcasting.forget(session, session.tracker.prefixes)
        session.tracker = None
        self._sessions.pop(session, None)
        session.become()

    # -- reads

    def begin(
        self, session: Session, number: int, keys: Sequence[bytes], sink: Sink, index: int, *, noted: bool = True
    ) -> Reading:
        """A client reads keys of a slot, as an operation; what is to be the sink of that."""
        reading = Reading(session, number, keys, sink, index, noted=noted)
        for key in keys:
            self._pending.setdefault(key, {})[reading] = None
        return reading

    def _end(self, reading: Reading) -> None:
        for key in reading.keys:
            pending = self._pending.get(key)
            if pending is not None:
                pending.pop(reading, None)
                if not pending:
                    del self._pending[key]

    def replied(self, session: Session, told: Sequence[Told]) -> None:
        """A client has been answered: from now on it may be told that what it was answered is another."""
        for item in told:
            if not isinstance(item, Reading):
                self._tell_keys(session, item)
                continue
            self._end(item)
            if session.id not in self._services.sessions or (item.failed and item.ahead_of < 0):
                continue
            if item.dirty or not self._is_heard(item.home):
                for key in item.keys:
                    self._tell(session, key)
            else:
                self._remember(session, item)

    def _is_heard(self, process: int) -> bool:
        me = self._view.me
        peer = me if process == me.process else self._view.peers.get(process)
        return peer is not None and (peer is me or peer.usable)

    def _remember(self, session: Session, reading: Reading) -> None:
        of_slot = self._slots.get(reading.number)
        if of_slot is not None and of_slot.home != reading.home:
            self._lose([reading.number])
            of_slot = None
        if of_slot is None:
            of_slot = self._slots[reading.number] = _OfSlot(reading.home)
        for key in reading.keys:
            readers = of_slot.keys.get(key)
            if readers is None:
                self._count += 1
                of_slot.keys[key] = session.id
            elif isinstance(readers, dict):
                readers[session.id] = None
                sessions = self._services.sessions
                if len(readers) > GONE_LEAST + 2 * len(sessions):
                    of_slot.keys[key] = {reader: None for reader in readers if reader in sessions}
            elif readers != session.id:
                of_slot.keys[key] = {readers: None, session.id: None}
        for _ in range(len(reading.keys)):
            if self._count <= self._most:
                break
            self._evict()

    @property
    def _most(self) -> int:
        return self._services.settings.tracking_table_max_keys or KEYS_MAX

    def _evict(self) -> None:
        """Forget a key, one of the oldest."""
        number, of_slot = next(iter(self._slots.items()))
        key = next(iter(of_slot.keys))
        readers = self._take(number, key)
        self._tell_no_more(of_slot.home, key)
        for reader in readers:
            self._tell_number(reader, key)

    def _take(self, number: int, key: bytes) -> Iterable[int]:
        """Forget who has read a key."""
        of_slot = self._slots.get(number)
        readers = of_slot.keys.pop(key, None) if of_slot is not None else None
        if of_slot is None or readers is None:
            return ()
        self._count -= 1
        if not of_slot.keys:
            del self._slots[number]
        return readers if isinstance(readers, dict) else (readers,)

    def _tell_no_more(self, process: int, key: bytes) -> None:
        """The home need not tell of it, unless it is read again later than now."""
        if key in self._pending:
            return
        ticket = (self._coordinator.writes + 1) << TICKET_SLOT_BITS
        if process == self._view.me.process:
            self._tracked.forget(self._view.me, [key], [ticket])
            return
        peer = self._view.peers.get(process)
        if peer is not None and peer.up:
            keys, tickets = self._no_more.setdefault(peer, ([], []))
            keys.append(key)
            tickets.append(ticket)

    # -- what is heard of changes

    def changed(self, peer: Peer, keys: Sequence[bytes], processes: Sequence[int], tickets: Sequence[int]) -> None:
        """A home says that keys are others, by which process's operation."""
        for key, process, ticket in zip(keys, processes, tickets, strict=True):
            ours = process == self._view.me.process
            for reading in self._pending.get(key, ()):
                tracker = reading.session.tracker
                if not (ours and tracker is not None and tracker.noloop and ticket in tracker.tickets):
                    reading.dirty = True
            number = self._view.slot_of(key)
            of_slot = self._slots.get(number)
            if of_slot is not None and of_slot.home == peer.process:
                kept = [reader for reader in self._take(number, key) if not self._told_of(reader, key, ours, ticket)]
                if kept:
                    self._slots.setdefault(number, of_slot).keys[key] = dict.fromkeys(kept)
                    self._count += 1
                    continue
            if ours:
                self._tell_no_more(peer.process, key)

    def _told_of(self, reader: int, key: bytes, ours: bool, ticket: int) -> bool:
        """Whether a client has been told of a change: it may want nothing to know of its own."""
        session = self._services.sessions.get(reader)
        tracker: Tracker | None = session.tracker if session is not None else None
        if session is None or tracker is None:
            return True
        own = ours and ticket in tracker.tickets
        if own and tracker.noloop:
            return False
        if own:
            self._tell_behind(session, [bare_key(key)])  # and the reply to what has changed it, as from Redis
        else:
            self._tell(session, key)
        return True

    def untracked(self, peer: Peer, numbers: Sequence[int]) -> None:
        """A node is home of these slots no more, or perhaps not."""
        self._doubt_pending()
        self._lose([n for n in numbers if n in self._slots and self._slots[n].home == peer.process])

    def link_up(self, peer: Peer) -> None:
        """A peer can be talked to, again or for the first time."""
        self.broadcasting.link_up(peer)

    def lose(self, peer: Peer) -> None:
        """What a peer was to tell us we do not hear of, or may not have."""
        self.broadcasting.lose(peer)
        self._doubt_pending()
        self._lose([number for number, of_slot in self._slots.items() if of_slot.home == peer.process])

    def enter_epoch(self) -> None:
        """Homes have forgotten whom to tell."""
        self.broadcasting.forget_all()
        self._doubt_pending()
        self._lose(list(self._slots))

    def _doubt_pending(self) -> None:
        for readings in self._pending.values():
            for reading in readings:
                reading.dirty = True

    def _lose(self, numbers: Sequence[int]) -> None:
        """Clients are to forget all keys of slots that they have read."""
        count = 0
        for number in numbers:
            for readers in self._slots[number].keys.values():
                count += len(readers) if isinstance(readers, dict) else 1
                if count > LOST_AT_ONCE:
                    self._forget_all()
                    return
        for number in numbers:
            of_slot = self._slots.pop(number)
            self._count -= len(of_slot.keys)
            for key, readers in of_slot.keys.items():
                for reader in readers if isinstance(readers, dict) else (readers,):
                    self._tell_number(reader, key)

    def _forget_all(self) -> None:
        """... or all that they have read at all: homes tell us of some of it for nothing."""
        self._dropping += [of_slot.keys for of_slot in self._slots.values()]
        self._slots, self._count = {}, 0
        for session in list(self._sessions):
            if session.tracker is not None and not session.tracker.bcast:
                self._tell(session, None)

    def flush(self) -> None:
        """A client of this node has had all keys deleted: all clients that track are told."""
        self._view.tell_all("flushed")
        self.flushed(self._view.me)

    def flushed(self, _peer: Peer) -> None:
        """... of whatever node."""
        for session in list(self._sessions):
            self._tell_behind(session, None)

    # -- telling clients

    def _tell_number(self, number: int, key: bytes) -> None:
        session = self._services.sessions.get(number)
        if session is not None and session.tracker is not None:
            self._tell(session, key)

    def _tell(self, session: Session, key: bytes | None) -> None:
        """One key that it is to forget, or all (None)."""
        self._tell_keys(session, None if key is None else [bare_key(key)])

    def _tell_behind(self, session: Session, keys: Sequence[bytes] | None) -> None:
        """Likewise of some keys, behind the replies that are under way: they may be of before the change."""
        batches = session.batches
        if batches and not (session.blocked and len(batches) == 1):
            batches[-1].told = [*(batches[-1].told or ()), keys]
        else:
            self._tell_keys(session, keys)

    def _tell_keys(self, session: Session, keys: Sequence[bytes] | None) -> None:
        tracker: Tracker | None = session.tracker
        if tracker is None:
            return
        target = session
        if tracker.redirect:
            found = self._services.sessions.get(tracker.redirect)
            if found is None:
                tracker.broken = True
                if session.protocol == 3:
                    self._push(session, b">2\r\n", [b"tracking-redir-broken", tracker.redirect])
                return
            target = found
        what: Reply = [*keys] if keys is not None else None
        if target.protocol == 3:
            self._push(target, b">2\r\n", [b"invalidate", what])
        elif target is not session and any(target.subscriptions):
            self._push(target, b"*3\r\n", [b"message", REDIRECTED, what])

    def _push(self, session: Session, head: bytes, message: list[Reply]) -> None:
        self._outgoing.push(session, head + encode_all(message, session.protocol), "what it is to forget")

    # -- now and then

    def look(self) -> None:
        """See whether those are there, and are homes still, who are to tell us of changes."""
        view, clock = self._view, self._services.clock
        hedge = self._services.settings.write_hedge
        self.broadcasting.look(
            lambda: {member.process for member in self._services.members() if member.live},
            lambda peer: view.doubt(peer, peer.pinged, clock, hedge),
        )
        for _ in range(EVICTED_AT_ONCE):
            if self._count <= self._most:
                break
            self._evict()
        if not self._slots:
            return
        for process in {of_slot.home for of_slot in self._slots.values()} - {view.me.process}:
            peer = view.peers.get(process)
            if peer is not None:
                view.doubt(peer, peer.pinged, clock, hedge)
        lost = [
            number
            for number, of_slot in self._slots.items()
            if not self._is_heard(of_slot.home)
            or ((target := view.targets[number]) is not None and target.process != of_slot.home)
        ]
        if lost:
            self._doubt_pending()
            self._lose(lost)

    def end_turn(self) -> None:
        """Tell homes what they need not tell us of, and clients what has changed."""
        if self.broadcasting.at_hand:
            self.broadcasting.end_turn()
        no_more, self._no_more = self._no_more, {}
        for peer, (keys, tickets) in no_more.items():
            if peer.up:
                peer.tell_rows("tracks_no_more", keys, tickets)
        room = DROPPED_AT_ONCE
        while self._dropping and room:
            last = self._dropping[-1]
            for _ in range(min(room, len(last))):
                last.popitem()
                room -= 1
            if not last:
                self._dropping.pop()
                room = max(0, room - 1)

    @property
    def at_hand(self) -> bool:
        """Whether `end_turn` has something to do."""
        return bool(self._no_more or self._dropping or self.broadcasting.at_hand)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many clients track, how many keys they have read, how many prefixes they have."""
        return len(self._sessions), self._count, self.broadcasting.prefixes

    @property
    def keys(self) -> int:
        """How many are tracked."""
        return self._count
