"""A whole peer without I/O: what comes in goes to the engines, and one `take` gathers what they want done.

    client's bytes -> clients -> coordinator --- frames ----> home, replica of other nodes
    peers' frames  -> replica, home, coordinator, operations
    datagrams      -> gossip -> who is alive -> links -> whom the coordinator asks

It opens no socket, reads no clock and draws no chance; `shell` does, and the simulator of the tests in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from peerkv import wire
from peerkv.agreement.columns import COLUMNS, TELLS, Tell
from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home
from peerkv.agreement.load import Load
from peerkv.agreement.operation import (
    CountSubscribers,
    EpochAccept,
    EpochPrepare,
    Message,
    Operation,
    Operations,
    Pause,
    Prepare,
    Progress,
    Refused,
    RunReads,
    Subscribers,
)
from peerkv.agreement.peer import Peer
from peerkv.agreement.replica import Replica
from peerkv.agreement.turn import Accepts
from peerkv.agreement.upkeep import Upkeep
from peerkv.agreement.view import View
from peerkv.clients.eviction import Eviction
from peerkv.clients.keyspace import Keyspace
from peerkv.clients.outgoing import UNREAD_MAX
from peerkv.clients.pipeline import Dispatcher
from peerkv.clients.session import Session
from peerkv.clock import SKEW_MOST_MS, Clock
from peerkv.commands import catalogue
from peerkv.commands.table import KEYS, RUNS, awaited
from peerkv.commands.tracking import TRACKED
from peerkv.commands.transactions import RENEWED, SEVERAL, notice_of, renewed
from peerkv.gossip.member import (
    PROTOCOL_VERSIONS,
    Address,
    Member,
    MemberDown,
    MemberLeft,
    Missed,
    NameTaken,
    Succeeded,
)
from peerkv.gossiping import Gossiping
from peerkv.links import Links
from peerkv.metrics import Metrics, Rate
from peerkv.reports import Statistics, Usage
from peerkv.resp import NULL_ARRAY, Requests
from peerkv.ring.succession import doubt
from peerkv.ring.topology import Topology, describe_epoch
from peerkv.settings import Role, Settings
from peerkv.steward import Steward
from peerkv.store.cell import MEMBER_MASK
from peerkv.transactions import Job, Settling, Transactions

if TYPE_CHECKING:
    from random import Random

WATCH_INTERVAL_S: Final = 0.25
"""How often links, births and takeovers are looked at; what is urgent comes as an event."""
TAKEOVER_AFTER_S: Final = 1.0
"""Links must have been down for so long before slots are taken over that nobody asks for."""
TELL_SKEW_S: Final = 5.0
"""A wall clock that is not with cluster time is told of so often."""
SKEW_HOLDS_S: Final = 20.0
"""What was told of a wall clock longer ago is no more: it is with cluster time, or its node is gone."""
RATE_LOOKS: Final = 7
"""Over 1.5 s, as Redis has it."""
ENTERED_AT_ONCE: Final = 4096
"""Slots of a new topology that are looked at in a turn: five milliseconds."""
ENTERING_PAUSE_S: Final = 0.0
FREED_AT_ONCE: Final = 10_000
"""Cells of dropped copies whose memory is given back in a turn: three milliseconds."""
FREED_EVERY_S: Final = 0.01
COMPARE_CELLS: Final = 1000
"""Cells whose digests a home computes per look: half a percent of its time."""


@dataclass(slots=True)
class Outbox:
    """What a turn of a node wants done."""

    replies: list[tuple[Session, bytes]] = field(default_factory=list)
    closing: list[Session] = field(default_factory=list)
    """To be closed once what they were sent is written."""
    kills: list[Session] = field(default_factory=list)
    """To be closed at once."""
    holds: list[tuple[Session, bool]] = field(default_factory=list)
    """True: read no more from this client, until False."""
    pause_clients: bool | None = None
    """True: read from no client, until False: enough is under way. Replies are written all the same."""
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    """(process, payload), on the link that was dialled to it."""
    dials: list[tuple[int, Address]] = field(default_factory=list)
    """Open a link: connect, send `hello(process)`, hand the answer to `welcome`. An older link to it is closed."""
    drops: list[int] = field(default_factory=list)
    """Close the link that was dialled to this process; `link_down` then."""
    datagrams: list[tuple[Address, bytes]] = field(default_factory=list)
    exchanges: list[tuple[int, Address, bytes]] = field(default_factory=list)
    """(ticket, address, payload): connect, send, read one answer for `exchange_answer`, close."""
    jobs: list[Job] = field(default_factory=list)
    """To be run in a thread, one after another, and handed to `job_done`."""
    log: list[tuple[str, str]] = field(default_factory=list)
    """(level, text)"""
    wake_at: float = inf
    stop: str = ""
    """Not empty: this node must end, for that reason."""


class Node:
    """One peer. `now` is in seconds of any clock that does not jump; every batch of inputs ends with a `take`."""

    def __init__(
        self,
        settings: Settings,
        rng: Random,
        now: float,
        wall: float,
        versions: tuple[int, int] = PROTOCOL_VERSIONS,
    ) -> None:
        """`wall`: seconds since 1970, for cluster time until a cluster has been met, and to order this name's lives.
        `versions`: the oldest and the newest wire version to speak."""
        self.settings = settings = replace(settings)
        """Our own, as some can be changed; see `settings.LIVE`."""
        self.versions = versions
        self.clock = clock = Clock(now, wall)
        self.process = rng.getrandbits(62) | 1
        self.started_at = now
        catalogue.prepare()
        self.usage = Usage()
        """For INFO; kept up to date from outside."""
        self.sessions: dict[int, Session] = {}
        self.gossip = Gossiping(settings, clock, self.process, wall, versions, rng, self._log)
        self.view = View(self.process, settings.name, settings.slots)
        self.operations = Operations()
        self.coordinator = Coordinator(settings, clock, self.view, self.operations, rng, RUNS, KEYS)
        self.reads = self.coordinator.reads
        self.replica = Replica(clock, self.view, self.coordinator.settle, self._start, settings.fill_rate)
        self.home = Home(
            settings,
            clock,
            self.view,
            self.replica,
            self.operations,
            rng,
            RUNS,
            KEYS,
            awaited,
            self.coordinator.settle,
            self.coordinator.refused,
        )
        self.home.renewed = RENEWED, renewed
        self.notices = self.home.notices
        self.notices.derive, self.notices.several = notice_of, SEVERAL
        self.home.tracked.name = TRACKED
        self.progress = self.home.progress
        self.takeover = self.home.takeover
        self.upkeep = Upkeep(self.view, self.operations, self.replica, self.home)
        self.load = Load(settings, self.view, self.replica, self.home)
        self.steward = Steward(
            settings,
            clock,
            self.process,
            self.gossip.members,
            self.view,
            self.operations,
            self.replica,
            self.home,
            rng,
            self._decided,
            self._forget_topology,
            self._log,
        )
        self.transactions = Transactions(clock, self.view, self.operations, self.coordinator, self.home)
        self.settling = Settling(
            settings, clock, self.view, self.operations, self.coordinator, self.home, self.transactions
        )
        self.dispatcher = Dispatcher(
            self, self.view, self.operations, self.replica, self.home, self.coordinator, self.transactions, rng
        )
        self._eviction = Eviction(self)
        self._keyspace = Keyspace(self.view, self.home, self.operations, clock)
        self.links = Links(
            settings, clock, self.view, rng, self._log, self._link_up, self._link_down, self._ask_again, versions
        )
        self.links.on_cluster = self.steward.birth.hear_of_cluster
        takes = [column.takes for column in COLUMNS] + [tell.takes for tell in TELLS.values()]
        self._takers: dict[str, Callable[..., None]] = {path: attrgetter(path)(self) for path in takes if path}
        """Who takes in what comes with frames, by the names in the tables of columns and of what is told."""
        self._skews: dict[int, tuple[float, int]] = {}
        """How far other processes' wall clocks are ahead, as told: when, and how much."""
        self._told_skew = 0.0, 0
        """When we told ours last, and what."""
        self._told_replicas = False
        """It has been said that our setting is not what the cluster was born with."""
        self._session_id = 0
        self._watch_at = now
        self._outbox = Outbox()
        self._crowded = False
        """Whether clients are not read from."""
        self._entering: Topology | None = None
        """The topology that it is about to go by."""
        self._rate = Rate(RATE_LOOKS)
        """Of commands."""
        self._statistics = Statistics()
        self.metrics = self._metrics()
        if settings.role is Role.DATA and not settings.seeds and settings.expect <= 1:
            self.steward.birth.found()

    # -- time

    def wall(self, now: float, wall: float) -> None:
        """What the wall clock says (seconds since 1970), every second or so: see `Clock`."""
        clock = self.clock
        clock.at(now)
        clock.look(wall)
        peers = [peer for peer in self.view.peers.values() if peer.up]
        told_at, told = self._told_skew
        if clock.own_skew_ms != told or (told and now - told_at >= TELL_SKEW_S):
            self._told_skew = now, clock.own_skew_ms
            for peer in peers:
                peer.tell("skew", clock.own_skew_ms)
        self._skews = {process: (at, ms) for process, (at, ms) in self._skews.items() if now - at < SKEW_HOLDS_S}
        nothing = now, 0
        if clock.agree([self._skews.get(peer.process, nothing)[1] for peer in peers]):
            ahead = f"{clock.skew_ms / 1000:.3f} s ahead of cluster time"
            self._log("info", f"wall clocks are {ahead}: what clients say in wall time is translated")

    # -- clients

    def open(self, now: float, address: str, local: str, fd: int = -1) -> Session:
        """A client has connected (by a socket of that descriptor, for people to see)."""
        self._session_id += 1
        limits = self.settings.request_bytes_max, self.settings.inline_bytes_max
        session = Session(self._session_id, address, local, now, Requests(*limits), fd=fd, last_active=now)
        self.sessions[session.id] = session
        self.dispatcher.pausing.opened(session)
        self._statistics.connections += 1
        return session

    def refused_client(self) -> None:
        """A connection was beyond `clients_max`."""
        self._statistics.refused += 1

    def receive(self, now: float, session: Session, data: bytes) -> list[list[bytes]]:
        """Bytes of a client: any part of any number of commands. Returns those that are complete; see `took`."""
        self.clock.at(now)
        self._statistics.input_bytes += len(data)
        session.last_active = now
        requests = session.requests.feed(data)
        if requests:
            self.dispatcher.shares.receive(session, requests)
        if session.requests.error is not None:
            self.dispatcher.shares.break_off(session, session.requests.error)
        return requests

    def took(self, requests: Sequence[Sequence[bytes]], nanoseconds: int) -> None:
        """What a `receive` took, and for what; to be told now and then, for INFO commandstats."""
        self.dispatcher.observed.time(requests, nanoseconds)

    def wrote(self, now: float, session: Session, unread: int) -> None:
        """A client has taken some of what it was sent; so many bytes it has not. Whoever runs the node says so whenever
        it has tried to write; see `more`."""
        held_back = session.unread > UNREAD_MAX
        session.unread = unread
        if held_back and unread <= UNREAD_MAX:
            self.clock.at(now)
            self.dispatcher.outgoing.answer(session)

    @property
    def more(self) -> bool:
        """Whether there is something to do at once: the next `take` must not wait for any input."""
        dispatcher = self.dispatcher
        return dispatcher.waits or bool(dispatcher.outgoing.replies) or self.home.has_more

    def close(self, now: float, session: Session) -> None:
        """A client is gone; what it asked for goes on, its replies go nowhere."""
        self.clock.at(now)
        session.closing = True
        session.backlog.clear()
        self.sessions.pop(session.id, None)
        self.dispatcher.channels.forget(session)
        self.dispatcher.tracking.forget(session)
        self.dispatcher.monitors.forget(session)
        self.dispatcher.blocking.stop(session, None)

    def hung_up(self, now: float, session: Session) -> None:
        """A client sends nothing more. It may still read what it has asked for."""
        self.clock.at(now)
        session.hung_up = True
        self.dispatcher.blocking.stop(session, NULL_ARRAY)

    def kill(self, session: Session) -> None:
        """Close a client's connection from here, whatever is owed to it."""
        session.closing = session.killed = True
        session.backlog.clear()
        self._outbox.kills.append(session)

    def tell(self, level: str, text: str) -> None:
        """Write a line into the log."""
        self._log(level, text)

    def unblocked(self, session: Session) -> None:
        """A client is to wait no longer."""
        self.dispatcher.blocking.unblocked(session)

    def pause(self, milliseconds: int, writes_only: bool) -> None:
        """CLIENT PAUSE."""
        self.dispatcher.pausing.begin(milliseconds, writes_only)

    def unpause(self) -> None:
        """CLIENT UNPAUSE."""
        self.dispatcher.pausing.end()

    # -- links between peers

    def accept(self, now: float, source: Address, payload: bytes) -> tuple[bytes, int | None]:
        """The first frame on a connection to our peer port: what to answer (nothing: close), and whose link it is
        (None: nobody's, close after the answer)."""
        self.clock.at(now)
        if wire.kind_of(payload) != wire.Kind.HELLO:
            return self.gossip.exchange(source, payload), None
        answer = self.links.accept(payload)
        if isinstance(answer, wire.Refusal):
            self.gossip.refuse(source, answer.reason)
            return (wire.encode_versions(self.versions) if answer.unspoken else b""), None
        return answer

    def hello(self, process: int) -> bytes:
        """The first frame to send on a link that was dialled to that process."""
        return self.links.hello(process)

    def welcome(self, now: float, process: int, payload: bytes) -> bool:
        """The answer to our hello: whether the link is up. If not it is to be closed; `link_down` need not be said."""
        self.clock.at(now)
        return self.links.welcome(process, payload)

    def link_down(self, now: float, process: int) -> None:
        """The link that was dialled to that process is closed, or could not be opened."""
        self.clock.at(now)
        self.links.lost(process)

    def _link_up(self, peer: Peer) -> None:
        if self.clock.own_skew_ms:  # its own clock will not count for some seconds
            peer.tell("skew", self.clock.own_skew_ms)
        self.upkeep.probe_lagging()
        self.replica.link_up(peer)
        self.dispatcher.blocking.link_up(peer)
        self.home.interests.met(peer)
        self.dispatcher.channels.link_up(peer)
        self.dispatcher.monitors.link_up(peer)
        self.dispatcher.tracking.link_up(peer)
        self.dispatcher.notifications.link_up(peer)

    def _link_down(self, peer: Peer) -> None:
        now = self.clock.now
        self.operations.link_down(now, peer)
        self.coordinator.met(peer)
        self.dispatcher.channels.link_down(peer)
        self.home.interests.lost(peer)
        self.notices.lost(peer)
        self.home.tracked.lost(peer)
        self.dispatcher.tracking.lose(peer)
        self.replica.link_down(peer)
        self.progress.give_up_turns(peer, self.home.turn)
        self.gossip.engine.link_lost(now, peer.name)

    def link_moves(self, now: float, process: int) -> None:
        """That process has taken more of what waited to be sent to it: it reads, however long the frame is."""
        self.clock.at(now)
        peer = self.view.peers.get(process)
        if peer is not None and peer.up:
            peer.read_at = now
            if peer.silent:
                peer.silent = False
                self.view.links_changed()

    # -- frames

    def frame(self, now: float, process: int, payload: bytes) -> None:
        """What another process had to say in one of its turns. Raises ValueError for what is no frame:
        the connection that it came on is to be closed."""
        self.clock.at(now)
        peer = self.view.peers.get(process)
        if peer is None:
            return
        self.replica.recent.note_traffic(len(payload))
        frame = wire.decode_frame(payload)
        slots = len(self.view.slots)
        parts = frame.unpacked(slots) if frame.epoch == self.view.epoch else None
        peer.heard_of(now, frame.number, frame.read)
        if peer.silent and peer.read_at == now:
            peer.silent = False
            self.view.links_changed()
        if self.links.heard(process):
            self.gossip.engine.heard(now, peer.name, process)
        if frame.epoch != self.view.epoch:
            self._other_epoch(peer, frame)
            peer.epoch = frame.epoch
            if frame.epoch != self.view.epoch:
                self._take_messages(peer, frame)
                return
        elif frame.epoch != peer.epoch:
            peer.epoch = frame.epoch
            self._ask_again(peer)
        self.clock.follow(frame.clock)
        self.view.mark(process, frame.mark)
        takers = self._takers
        for column, arguments in frame.unpacked(slots) if parts is None else parts:
            takers[column.takes](peer, *arguments)
        self.replica.journal.weigh(len(payload))

    def _ask_again(self, peer: Peer) -> None:
        """What was under way between a peer and us, either way, may be lost."""
        self.coordinator.met(peer)
        self.upkeep.met(peer)
        self.dispatcher.tracking.lose(peer)

    def take_answers(self, peer: Peer, answers: list[tuple[int, Message]]) -> None:
        """Of a frame: answers to our questions."""
        for number, message in answers:
            self.operations.answer(self.clock.now, peer, number, message)

    def take_changes(self, peer: Peer, turns: list[tuple[int, Accepts]]) -> None:
        """Of a frame: what a home has run."""
        for turn, accepts in turns:
            self.replica.accept(peer, turn, accepts)

    def take_asks(self, peer: Peer, asks: list[tuple[int, Message]]) -> None:
        """Of a frame: questions."""
        for number, message in asks:
            peer.answer(number, self._answer(peer, message))

    def take_tells(self, peer: Peer, tells: list[tuple[Tell, list[Any]]]) -> None:
        """Of a frame: what we may want to know."""
        for tell, values in tells:
            if tell.takes:
                self._takers[tell.takes](peer, *values)

    def take_over(self, _peer: Peer, numbers: list[int]) -> None:
        """A home hands slots over to us."""
        self.takeover.want(numbers)

    def take_ping(self, peer: Peer) -> None:
        """A peer has not heard from us for a while."""
        peer.tell("here")

    def take_skew(self, peer: Peer, ahead: int) -> None:
        """How far its wall clock is ahead of cluster time."""
        if abs(ahead) <= SKEW_MOST_MS:
            self._skews[peer.process] = self.clock.now, ahead

    def _answer(self, peer: Peer, message: Message) -> Message:
        if isinstance(message, Prepare) and any(ballot & MEMBER_MASK != peer.number for ballot in message.ballots):
            return Refused()  # a ballot is of who asks for it
        if isinstance(message, (EpochPrepare, EpochAccept)):
            return self.steward.answer(message)
        if isinstance(message, Progress):
            return self.steward.progress()
        if isinstance(message, RunReads):
            return self.reads.run(message)
        if isinstance(message, CountSubscribers):
            return Subscribers(self.dispatcher.channels.counts(message.kind, message.channels))
        return self.replica.answer(message)

    def _other_epoch(self, peer: Peer, frame: wire.Frame) -> None:
        """Whoever is behind is told the topology; nothing else of such a frame counts, unless it is the one that
        brings us the sender's epoch (protocol rule E1)."""
        for tell, values in frame.told(len(self.view.slots)):
            if tell is TELLS["topology"]:
                self._learn_topology(_topology(values[0]), peer, frame.clock)
        if frame.epoch < self.view.epoch:
            self.links.tell_topology(peer.process)

    def _take_messages(self, peer: Peer, frame: wire.Frame) -> None:
        """What of a frame does not go by the topology: it is not said again."""
        slots = len(self.view.slots)
        for tell, values in frame.told(slots):
            if tell.in_any_epoch:
                self._takers[tell.takes](peer, *values)
        for column, arguments in frame.of_any_epoch(slots):
            self._takers[column.takes](peer, *arguments)

    # -- topology

    def _learn_topology(self, topology: Topology, peer: Peer, clock: int) -> None:
        if topology.epoch <= self._latest or self.view.is_foreign(topology.cluster_id):
            return
        why = doubt(self.view.topology, topology)
        if why:
            epoch = describe_epoch(topology.epoch)
            self._log("warning", f"epoch {epoch} that {peer.name} tells of is not believed: {why}")
            return
        if not self.steward.may_learn(topology, peer.process):
            return
        if topology.slots != self.settings.slots:
            ours = self.settings.slots
            self._log("error", f"a cluster of {topology.slots} slots is not ours, which is to have {ours}")
            return
        if self.view.topology is None:
            self.clock.adopt(clock)
        self._enter(topology)

    def _decided(self, topology: Topology) -> None:
        """The members have decided what this node has proposed, or what one of them had accepted before."""
        why = doubt(self.view.topology, topology)
        if why:
            self._log("error", f"epoch {topology.epoch} was decided, but cannot be: {why}")
        else:
            self._enter(topology)

    def _enter(self, topology: Topology) -> None:
        """Go by a topology that was decided: at once, or, while there are clients to serve by the present one, once it
        is known what follows from it. Until then this node is as one that has not heard of it yet."""
        if self.view.topology is None:
            self._install(topology)
        elif topology.epoch > self._latest:
            self._entering = topology
            self._start(self._prepare(topology))

    @property
    def _latest(self) -> int:
        """The epoch that it goes by, or is about to."""
        return max(self.view.epoch, self._entering.epoch if self._entering is not None else 0)

    def _prepare(self, topology: Topology) -> Operation:
        slots = 0
        for looked_at in topology.in_parts():
            slots += looked_at
            if slots > ENTERED_AT_ONCE:
                slots = 0
                yield Pause(ENTERING_PAUSE_S)  # others have their turn
        if self._entering is topology:
            self._entering = None
            if topology.epoch > self.view.epoch and not doubt(self.view.topology, topology):
                self._install(topology)

    def _install(self, topology: Topology) -> None:
        self.home.flush()  # what was run in the epoch that ends
        number = self.view.me.number
        forgotten = self.view.install(topology)
        if number not in (0, self.view.me.number) and not self.leaving:
            self._log(
                "warning",
                "this node was removed while it was away: its copies are dropped, the others have had them made anew;"
                " it joins again",
            )
        self.replica.recent.forget(forgotten)
        if forgotten:
            self._start(self._free())
        self.steward.enter_epoch()
        self.gossip.engine.update(epoch=topology.epoch, cluster_id=topology.cluster_id, succeeds=topology.succeeds)
        self.home.enter_epoch()
        self.upkeep.enter_epoch()
        self.coordinator.enter_epoch()
        self.dispatcher.tracking.enter_epoch()
        names = ", ".join(member.name for member in topology.members)
        following = ", ".join(member.name for member in topology.next_members)
        changing = f" -> {following}, {len(topology.changing)} slots change owners" if following else ""
        lost = ", ".join(topology.by_number[number].name for number in topology.lost)
        without = f", without what {lost} held" if lost else ""
        epoch = describe_epoch(topology.epoch)
        self._log("info", f"epoch {epoch} of cluster {topology.cluster_id:016x}: {names}{changing}{without}")
        if topology.replicas != self.settings.replicas and not self._told_replicas:
            self._told_replicas = True
            text = f"replicas = {self.settings.replicas} here, but the cluster was born with {topology.replicas}"
            self._log("warning", f"{text}, and that holds")
        self.links.enter_epoch()

    def _free(self) -> Operation:
        while self.view.copies.free(FREED_AT_ONCE):
            yield Pause(FREED_EVERY_S)

    def _forget_topology(self) -> None:
        """Be as if no cluster had ever been met: ours is no more."""
        self._entering = None
        self.home.flush()
        self.replica.recent.forget(self.view.uninstall())
        self._start(self._free())
        self.replica.journal.clear()
        self.steward.enter_epoch()
        self.gossip.engine.update(epoch=0, cluster_id=0, succeeds=())
        self.home.enter_epoch()
        self.upkeep.enter_epoch()
        self.coordinator.enter_epoch()
        self.dispatcher.tracking.enter_epoch()
        self.links.enter_epoch()

    def give_up(self, name: str) -> str:
        """PEERKV FORGET: see `Steward.give_up`. Everybody hears of it."""
        wrong = self.steward.give_up(name)
        if not wrong and self.steward.has_given_up(name):
            self.gossip.engine.forget(self.clock.now, name)
        return wrong

    def notify(self, letters: str) -> None:
        """CONFIG SET notify-keyspace-events."""
        self.dispatcher.notifications.change(letters)

    def drain(self, now: float) -> None:
        """Hand our share back; see `drained`."""
        self.clock.at(now)
        if not self.leaving:
            self._log("info", "leaving: handing our share back")
            self.gossip.engine.update(leaving=True)

    def job_done(self, now: float, job: Job) -> None:
        """A job has been run."""
        self.clock.at(now)
        job.event.set()

    @property
    def leaving(self) -> bool:
        """Whether it was told to go."""
        return self.gossip.me.leaving

    # -- gossip

    def datagram(self, now: float, source: Address, payload: bytes) -> None:
        """A UDP datagram at the peer port."""
        self.clock.at(now)
        self.gossip.datagram(source, payload)

    def exchange_answer(self, now: float, ticket: int, payload: bytes | None) -> None:
        """How an exchange ended: with these bytes, or (None) without an answer."""
        self.clock.at(now)
        self.gossip.exchange_answer(ticket, payload)

    def leave(self, now: float) -> None:
        """Say goodbye; `take` and send once more."""
        self.clock.at(now)
        self.gossip.engine.leave()

    def _take_gossip(self) -> None:
        outbox = self._outbox
        outbox.datagrams, outbox.exchanges, events = self.gossip.take()
        for event in events:
            match event:
                case NameTaken(name, holder):
                    outbox.stop = f"the name {name} is taken by {holder}"
                case MemberDown(member) | MemberLeft(member):
                    self.links.part(member)
                case Missed(member):
                    if self.steward.missed_by(member.name):
                        self.gossip.engine.meet(self.clock.now, member.address)
                case Succeeded(member):
                    self.gossip.engine.begin_anew()
                    self.steward.succeeded_by(member.name, member.cluster_id)
                case _:
                    if event.member.process != self.process:
                        self.links.meet(event.member)

    # -- turns

    def wake(self, now: float) -> None:
        """The time that `take` named has come."""
        self.clock.at(now)
        self.gossip.wake()
        self.operations.wake(now)
        self.coordinator.wake()
        self.dispatcher.blocking.wake(now)
        self.upkeep.expire()
        if now >= self._watch_at:
            self._watch_at = now + WATCH_INTERVAL_S
            self._watch()
        if now >= self.links.redial_at:
            self.links.redial()

    def _watch(self) -> None:
        now = self.clock.now
        self.view.send_what_waits()
        self.progress.hand_back()
        self.upkeep.tend(now)
        overflow = self.notices.look(self.home.turn)
        if overflow:
            self._log("warning", overflow)
        self.load.move(now, self.coordinator.writes)
        self.settling.look()
        self.dispatcher.channels.look()
        self.home.interests.look()
        self.dispatcher.blocking.look()
        self.dispatcher.tracking.look()
        self.home.look(self.settings.write_hedge)
        self.steward.consider_birth()
        self.steward.consider_change()
        self.upkeep.compare(COMPARE_CELLS)
        self.upkeep.renew()
        if self.links.settled(TAKEOVER_AFTER_S):
            self.takeover.want(self.upkeep.orphans())
        self.replica.recent.trim(self.view.marks, self.links.gone(), at_leisure=True)
        self.links.watch()
        self._eviction.look(self._statistics.input_bytes, self._statistics.output_bytes)
        self._rate.look(now, self.dispatcher.commands)

    def take(self, now: float) -> Outbox:
        """End of a turn: everything that is to be done because of the inputs since the last one."""
        self.clock.at(now)
        if self.gossip.at_hand:
            self._take_gossip()
        dispatcher = self.dispatcher
        coordinator = self.coordinator
        self.view.mark(self.process, coordinator.mark)
        while True:
            if coordinator.later_at <= now or (coordinator.later_at < inf and self.view.has_outgoing):
                coordinator.send_later_writes()
            self.home.flush()
            went_on = self.operations.go_on(now)
            has_more = dispatcher.resume() or went_on
            if not (has_more or (coordinator.later_at < inf and self.view.has_outgoing)):
                break
        dispatcher.end_turn()
        view = self.view
        outbox, self._outbox = self._outbox, Outbox()
        links = self.links
        outbox.dials, links.dials = links.dials, []
        outbox.drops, links.drops = links.drops, []
        outgoing = view.outgoing()
        if outgoing:
            self.reads.end_turn()
            mark = self.coordinator.mark
            encoder = wire.Encoder(view.epoch, mark, self.clock.cluster_ms)
            view.mark(self.process, mark)
            for peer in outgoing:
                if peer.up:
                    if peer.reads:
                        self.reads.close(peer)
                    peer.sends(self.clock.now)
                    for frame in encoder.frames(peer):
                        self._send(outbox, peer, frame)
                peer.clear()
            self.replica.recent.trim(view.marks)
        self.home.end_turn()
        outbox.jobs, self.transactions.jobs = self.transactions.jobs, []
        answers = dispatcher.outgoing
        outbox.replies = answers.take()
        if answers.closing:
            outbox.closing, answers.closing = answers.closing, []
        self._statistics.output_bytes += sum([len(data) for _, data in outbox.replies])
        shares = dispatcher.shares
        if shares.holds:
            outbox.holds, shares.holds = shares.holds, []
        crowded = self.coordinator.crowded
        if crowded is not self._crowded:
            self._crowded = outbox.pause_clients = crowded
        outbox.wake_at = self.clock.due = self._wake_at()
        return outbox

    def _send(self, outbox: Outbox, peer: Peer, frame: bytes) -> None:
        most = self.settings.frame_bytes_max
        if len(frame) > most:  # it would cost the link, again and again
            self._log("error", f"{len(frame)} bytes for {peer.name} are not sent, {most} in one frame are allowed")
            return
        outbox.frames.append((peer.process, frame))
        peer.unread_bytes += len(frame)
        self.replica.recent.note_traffic(len(frame))

    def _wake_at(self) -> float:
        if self.dispatcher.waits or self.home.has_more:
            return self.clock.now
        at = min(self.gossip.wake_at, self._watch_at, self.links.redial_at, self.coordinator.wake_at)
        at = min(at, self.dispatcher.blocking.wake_at)
        operations = self.operations.wake_at
        if operations is not None and operations < at:
            at = operations
        deadline = self.home.expiry.next_deadline
        if deadline is not None:
            at = min(at, self.clock.when(deadline))
        return at

    # -- for others to see

    @property
    def ready(self) -> bool:
        """Whether requests can be served: the topology is known and of every slot a majority can be talked to."""
        return self.settings.role is Role.MASTER or self.links.majorities

    @property
    def topology(self) -> Topology | None:
        return self.view.topology

    def members(self) -> list[Member]:
        """Everybody known, this node included; who is down or has left and owns nothing, for a while only."""
        owners = self.view.topology.by_process.keys() if self.view.topology is not None else ()
        return self.gossip.shown(owners)

    def statistics(self) -> Statistics:
        """What INFO tells; the counts of keys are made when asked for."""
        return replace(
            self._statistics,
            uptime_s=int(self.clock.now - self.started_at),
            clients=len(self.sessions),
            commands=self.dispatcher.commands,
            errors=self.dispatcher.outgoing.errors,
            observed=tuple(self.dispatcher.observed.told()),
            tracking=self.dispatcher.tracking.sizes,
            blocked=sum([session.blocked for session in self.sessions.values()]),
            operations_a_second=self._rate.per_second,
            keyspace=self._keyspace.counts(),
            measured=tuple(self.metrics),
            usage=self.usage,
        )

    def _metrics(self) -> Metrics:
        found, view, home = Metrics(), self.view, self.home
        gauge = found.gauge
        gauge("epoch", lambda: view.epoch, "of the topology that it goes by; 0: of none")
        gauge("copies", lambda: view.copies.held, "slots of which this node holds a copy")
        gauge("homes", lambda: len(home.homes), "slots of which it is home")
        gauge("peers_up", lambda: self.links.up, "nodes that it can talk to")
        gauge("members_alive", self._alive, "members of the cluster that live, as gossip has it")
        gauge("pending_operations", lambda: len(self.coordinator.pending), "writes of its clients under way")
        found.counters(self.replica.counters)
        queue, fetching = self.replica.queue, self.replica.fetching
        gauge("fill_copies_to_go", lambda: len(queue) + len(fetching), "copies that are to be fetched")
        gauge("fill_bytes_per_second", lambda: self.replica.rate, "how fast copies come in", "bytes a second")
        found.counters(self.coordinator.counters)
        gauge("transactions_under_way", lambda: self.transactions.under_way, "transactions over several slots")
        found.counters(self.transactions.counters)
        found.counters(self.settling.counters)
        gauge("keys_held", lambda: sum(map(len, home.holds.of_slot.values())), "keys that transactions hold here")
        for kind, name in enumerate(("channels", "patterns", "shard_channels")):
            sizes = partial(self.dispatcher.channels.size, kind)
            gauge(f"{name}_with_subscribers", sizes, f"{name.replace('_', ' ')} that clients of this node listen to")
        found.counters(self.notices.counters)
        return found

    def _alive(self) -> int:
        return sum([member.live for member in self.gossip.members.values()])

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT."""
        self._statistics = Statistics()
        self._eviction.begin_anew()
        self.dispatcher.commands = 0
        self.dispatcher.outgoing.errors.clear()
        self.dispatcher.observed.clear()
        self._rate.clear()

    def slots_state(self) -> dict[int, tuple[int, int, int]]:
        """Of each copy held here: position, digest, tombstones."""
        return {
            slot.number: (slot.position, slot.digest, len(slot.tombstones))
            for slot in self.view.slots
            if slot is not None
        }

    # -- small things

    def _start(self, operation: Operation) -> None:
        self.operations.start(self.clock.now, operation)

    def _log(self, level: str, text: str) -> None:
        self._outbox.log.append((level, text))


def _topology(fields: list[Any]) -> Topology:
    """Raises ValueError for what is none."""
    try:
        return Topology.from_wire(fields)
    except TypeError as error:
        raise ValueError(f"not a topology: {error}") from None
