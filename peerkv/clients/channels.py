"""Pub/sub: who has subscribed to what, here and at other nodes, and messages on their way to them.

Every node tells its peers which channels, patterns and shard channels it has subscribers of; so a message goes to nodes
that want it, once, and there to each subscriber. Messages of one publisher on one channel come in the order in which it
sent them, as they take one link. At most once: what a link, or a subscriber, loses is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from peerkv.agreement.peer import Peer
from peerkv.agreement.reads import Sink
from peerkv.agreement.view import View
from peerkv.clients.outgoing import Outgoing
from peerkv.clients.session import CHANNELS, PATTERNS, SHARDS, Services, Session
from peerkv.commands.patterns import PATTERN_BYTES_MAX, matcher
from peerkv.resp import Prepared, Reply, ReplyError, encode_all

SUBSCRIBED_MAX: Final = 1 << 16
"""Channels and patterns that one client may have subscribed to."""
ELSEWHERE_MAX: Final = 1 << 20
"""Channels, patterns and shard channels each that one other node may have subscribers of; what is on others does not
go there."""
TOLD_AT_ONCE: Final = 1024
"""Channels that a peer is told of in one message."""
PATIENCE_S: Final = 1.0
"""PUBLISH waits so long for nodes to say how many have got it."""
BEGINS, ENDS, ANEW = range(3)
"""What a node says of channels: it has subscribers of these from now on, or none any more, or of these alone."""
VERBS: Final = {"subscribe": CHANNELS, "psubscribe": PATTERNS, "ssubscribe": SHARDS}
_WORDS: Final = {
    CHANNELS: (b"subscribe", b"unsubscribe", b"message"),
    PATTERNS: (b"psubscribe", b"punsubscribe", b"pmessage"),
    SHARDS: (b"ssubscribe", b"sunsubscribe", b"smessage"),
}
TOO_MANY: Final = ReplyError(f"ERR a client may subscribe to at most {SUBSCRIBED_MAX} channels and patterns")

Matches = Callable[[bytes], object]


@dataclass(slots=True, eq=False)
class _Interests:
    """What another node has subscribers of."""

    names: tuple[set[bytes], set[bytes], set[bytes]] = field(default_factory=lambda: (set(), set(), set()))
    """By kind."""
    matchers: dict[bytes, Matches] = field(default_factory=dict)

    def wants(self, kind: int, channel: bytes) -> bool:
        """Whether a message on a channel is to be sent there."""
        if channel in self.names[kind]:
            return True
        return kind == CHANNELS and any(matches(channel) for matches in self.matchers.values())


@dataclass(slots=True, eq=False)
class _Sent:
    """A message that other nodes are to say of how many have got it."""

    sink: Sink
    index: int
    count: int
    left: set[Peer]
    at: float


class Channels:
    """Of a node."""

    def __init__(self, services: Services, view: View, outgoing: Outgoing) -> None:
        self._services = services
        self._view = view
        self._outgoing = outgoing
        self._subscribers: tuple[dict[bytes, dict[Session, None]], ...] = ({}, {}, {})
        """By kind, then by name."""
        self._matchers: dict[bytes, Matches] = {}
        """Of the patterns among them."""
        self._elsewhere: dict[int, _Interests] = {}
        """By process."""
        self._number = 0
        self._sent: dict[int, _Sent] = {}

    # -- subscribing

    def subscribe(self, session: Session, kind: int, names: Sequence[bytes]) -> Reply:
        """SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE: one message for each name."""
        own = session.subscriptions
        if sum(map(len, own)) + len(names) > SUBSCRIBED_MAX:
            return TOO_MANY
        if kind == PATTERNS and any(len(name) > PATTERN_BYTES_MAX for name in names):
            return ReplyError(f"ERR a pattern has at most {PATTERN_BYTES_MAX} bytes")
        said: list[bytes] = []
        begun: list[bytes] = []
        for name in names:
            if name not in own[kind]:
                own[kind][name] = None
                sessions = self._subscribers[kind].setdefault(name, {})
                if not sessions:
                    begun.append(name)
                    if kind == PATTERNS:
                        self._matchers[name] = matcher(name)
                sessions[session] = None
            said.append(_push(session.protocol, [_WORDS[kind][0], name, _count(session, kind)]))
        self._tell_all(kind, begun, BEGINS)
        session.become()
        return Prepared.of(b"".join(said))

    def unsubscribe(self, session: Session, kind: int, names: Sequence[bytes]) -> Reply:
        """UNSUBSCRIBE and its like, from all where none is named: one message for each name, at least one."""
        own = session.subscriptions
        said: list[bytes] = []
        for name in names or list(own[kind]):
            if name in own[kind]:
                del own[kind][name]
                self._leave(session, kind, [name])
            said.append(_push(session.protocol, [_WORDS[kind][1], name, _count(session, kind)]))
        if not said:
            said.append(_push(session.protocol, [_WORDS[kind][1], None, _count(session, kind)]))
        session.become()
        return Prepared.of(b"".join(said))

    def forget(self, session: Session) -> None:
        """A client has gone, or wants to be as if it were new."""
        for kind, names in enumerate(session.subscriptions):
            self._leave(session, kind, list(names))
            names.clear()
        session.become()

    def _leave(self, session: Session, kind: int, names: Iterable[bytes]) -> None:
        ended: list[bytes] = []
        for name in names:
            sessions = self._subscribers[kind].get(name, {})
            sessions.pop(session, None)
            if not sessions and self._subscribers[kind].pop(name, None) is not None:
                ended.append(name)
                if kind == PATTERNS:
                    self._matchers.pop(name, None)
        self._tell_all(kind, ended, ENDS)

    # -- what nodes tell each other

    def _tell_all(self, kind: int, names: Sequence[bytes], what: int) -> None:
        if names:
            for peer in self._view.peers.values():
                if peer.up:
                    self._tell(peer, kind, names, what)

    def _tell(self, peer: Peer, kind: int, names: Iterable[bytes], what: int) -> None:
        left = iter(names)
        while part := list(islice(left, TOLD_AT_ONCE)):
            peer.tell("channels", kind, part, what)

    def link_up(self, peer: Peer) -> None:
        """A peer can be talked to, again or for the first time: it is told everything."""
        for kind, subscribers in enumerate(self._subscribers):
            peer.tell("channels", kind, [], ANEW)
            self._tell(peer, kind, subscribers, BEGINS)

    def link_down(self, peer: Peer) -> None:
        """Nothing can be sent to a peer, and nothing will come from it."""
        for number in [number for number, sent in self._sent.items() if peer in sent.left]:
            self._heard(number, peer, 0)

    def hear(self, peer: Peer, kind: int, names: Sequence[bytes], what: int) -> None:
        """What a peer has subscribers of."""
        known = self._elsewhere.get(peer.process)
        if known is None:
            known = self._elsewhere[peer.process] = _Interests()
        if what == ANEW:
            known.names[kind].clear()
            if kind == PATTERNS:
                known.matchers.clear()
        for name in names:
            if what == ENDS:
                known.names[kind].discard(name)
                known.matchers.pop(name, None) if kind == PATTERNS else None
            elif len(known.names[kind]) < ELSEWHERE_MAX and (kind != PATTERNS or len(name) <= PATTERN_BYTES_MAX):
                known.names[kind].add(name)
                if kind == PATTERNS:
                    known.matchers[name] = matcher(name)

    # -- messages

    def publish(self, kind: int, channel: bytes, payload: bytes, sink: Sink | None = None, index: int = 0) -> None:
        """Send a message to every subscriber in the cluster; the sink gets the number of those that got it."""
        count = self._deliver(kind, channel, payload)
        wanting = [
            peer
            for peer in self._view.peers.values()
            if peer.up and (known := self._elsewhere.get(peer.process)) is not None and known.wants(kind, channel)
        ]
        number = 0
        if sink is not None and wanting:
            self._number += 1
            number = self._number
            self._sent[number] = _Sent(sink, index, count, set(wanting), self._services.clock.now)
        elif sink is not None:
            sink.deliver(index, count)
        for peer in wanting:
            peer.publish(number, kind, channel, payload)

    def arrive(
        self,
        peer: Peer,
        numbers: Sequence[int],
        kinds: Sequence[int],
        channels: Sequence[bytes],
        payloads: Sequence[bytes],
    ) -> None:
        """Messages from a peer, in order; where it wants to know how many have got one, its number is not 0."""
        for number, kind, channel, payload in zip(numbers, kinds, channels, payloads, strict=True):
            count = self._deliver(kind, channel, payload)
            if number:
                peer.count(number, count)

    def heard(self, peer: Peer, numbers: Sequence[int], counts: Sequence[int]) -> None:
        """How many have got messages there."""
        for number, count in zip(numbers, counts, strict=True):
            self._heard(number, peer, count)

    def _heard(self, number: int, peer: Peer, count: int) -> None:
        sent = self._sent.get(number)
        if sent is None or peer not in sent.left:
            return
        sent.left.discard(peer)
        sent.count += count
        if not sent.left:
            del self._sent[number]
            sent.sink.deliver(sent.index, sent.count)

    def look(self) -> None:
        """Do not wait any longer for nodes that do not say how many have got a message; forget those that are gone."""
        for process in [process for process in self._elsewhere if process not in self._view.peers]:
            del self._elsewhere[process]
        late = self._services.clock.now - PATIENCE_S
        for number in [number for number, sent in self._sent.items() if sent.at <= late]:
            sent = self._sent.pop(number)
            sent.sink.deliver(sent.index, sent.count)

    def _deliver(self, kind: int, channel: bytes, payload: bytes) -> int:
        """To subscribers of this node; how many."""
        count = 0
        sessions = self._subscribers[kind].get(channel)
        if sessions:
            count += self._push_to(sessions, [_WORDS[kind][2], channel, payload])
        if kind == CHANNELS and self._matchers:
            for pattern, matches in self._matchers.items():
                if matches(channel):
                    message: list[Reply] = [_WORDS[PATTERNS][2], pattern, channel, payload]
                    count += self._push_to(self._subscribers[PATTERNS][pattern], message)
        return count

    def _push_to(self, sessions: dict[Session, None], message: list[Reply]) -> int:
        encoded: dict[int, bytes] = {}
        for session in list(sessions):
            data = encoded.get(session.protocol)
            if data is None:
                data = encoded[session.protocol] = _push(session.protocol, message)
            self._outgoing.push(session, data, "messages")
        return len(sessions)

    # -- PUBSUB

    def names(self, kind: int) -> set[bytes]:
        """All that somebody in the cluster has subscribed to, at nodes that can be talked to."""
        found = set(self._subscribers[kind])
        for process, known in self._elsewhere.items():
            if process in self._view.peers and self._view.peers[process].up:
                found |= known.names[kind]
        return found

    def counts(self, kind: int, names: Sequence[bytes]) -> list[int]:
        """How many subscribers each has here."""
        return [len(self._subscribers[kind].get(name, ())) for name in names]

    def size(self, kind: int) -> int:
        """How many channels of a kind have subscribers here."""
        return len(self._subscribers[kind])


def _count(session: Session, kind: int) -> int:
    """As SUBSCRIBE answers it: shard channels are counted by themselves."""
    channels, patterns, shards = map(len, session.subscriptions)
    return shards if kind == SHARDS else channels + patterns


def _push(protocol: int, message: list[Reply]) -> bytes:
    """What a client is sent without having asked for it."""
    head = b">%d\r\n" if protocol == 3 else b"*%d\r\n"
    return head % len(message) + encode_all(message, protocol)
