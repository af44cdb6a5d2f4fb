"""One client connection without its socket, and what its commands need of the node.

Nearly every connection is an ordinary one: what it asks for is run, and answered. Whatever makes it another (its
replies are not wanted, clients are paused, its keys are of another database, it queues) goes through `Session.become`,
so that the pipeline has one thing to look at for each command, `ordinary`, however many there are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

from peerkv import reports
from peerkv.clock import Clock
from peerkv.commands.table import Command
from peerkv.gossip.member import Member
from peerkv.resp import Requests
from peerkv.ring.topology import Topology
from peerkv.settings import Settings
from peerkv.steward import Steward

CHANNELS, PATTERNS, SHARDS = range(3)
"""What can be subscribed to."""
WINDOW_FIRST: Final = 16
"""Requests of a new connection that may be under way, until it is known how large its replies are."""


class Voice(Enum):
    """Whether replies are wanted (CLIENT REPLY)."""

    SPEAKS = "on"
    SKIPS = "skip"
    """Not that of the next command."""
    MUTED = "off"


class Same(Enum):
    """In place of what is to stay as it is."""

    SAME = 0


SAME: Final = Same.SAME


@dataclass(slots=True, eq=False)
class Queue:
    """What a connection has asked for since MULTI."""

    database: int
    """That its next command is of."""
    commands: list[tuple[Command, list[bytes], int]] = field(default_factory=list)
    """With the database that each is of."""
    size: int = 0
    """Bytes of these."""
    failed: bool = False
    """Something could not be queued: nothing of it will be run."""


@dataclass(slots=True, eq=False)
class Session:
    """One client connection, without its socket."""

    id: int
    address: str
    """The client's, host:port."""
    local: str
    """Ours."""
    opened: float
    requests: Requests
    fd: int = -1
    """Of its socket; negative: it has none."""
    protocol: int = 2
    name: bytes = b""
    library: bytes = b""
    library_version: bytes = b""
    ordinary: bool = True
    """Nothing below stands in the way of its next command."""
    voice: Voice = Voice.SPEAKS
    aloud: bool = False
    """What has just been run ended its silence, and is answered."""
    database: int = 0
    """That its keys are of (SELECT)."""
    gated: bool = False
    """Clients are paused (CLIENT PAUSE); its next command may have to wait."""
    queue: Queue | None = None
    """What it asks for is queued (MULTI)."""
    subscriptions: tuple[dict[bytes, None], dict[bytes, None], dict[bytes, None]] = field(
        default_factory=lambda: ({}, {}, {})
    )
    """Channels, patterns and shard channels that it has subscribed to."""
    monitors: bool = False
    """It is shown what others ask for, and may ask for nothing of keys itself."""
    tracker: Any = None
    """How it tracks what it reads (CLIENT TRACKING); see `tracking`."""
    listens: bool = False
    """It has, and speaks RESP2: it may not ask for anything else."""
    watched: dict[bytes, int] = field(default_factory=dict)
    """Keys that it watches (WATCH), and what was seen of them."""
    closing: bool = False
    """Nothing more is read; closed once what it asked for is answered."""
    killed: bool = False
    """Its connection is closed from here; nothing is sent to it any more."""
    last: Command | None = None
    """The last command that was run, and, ..."""
    subcommand: str = ""
    """... if it is one with subcommands, the last of those, in full."""
    last_active: float = 0.0
    no_evict: bool = False
    no_touch: bool = False
    blocked: bool = False
    """It waits in a command that CLIENT UNBLOCK can end, ..."""
    hung_up: bool = False
    """It sends nothing more; so it is not waited for anything to take."""
    waiter: Any = None
    """What it waits for, if that is something to take; see `blocking`."""
    unblock: str = ""
    """... and is to be ended by that as if by its timeout (`timeout`), or by an error (`error`)."""

    # For the pipeline: what is under way.
    batches: deque[Any] = field(default_factory=deque)
    written: dict[int, int] = field(default_factory=dict)
    """Per slot the last operation under way that went to its home."""
    reading: dict[int, tuple[Any, int]] = field(default_factory=dict)
    """Per slot the last read under way: the batch that it is of, and the turn in which it was sent, or which other way
    it went."""
    backlog: list[list[bytes]] = field(default_factory=list)
    """Requests that are not run yet."""
    held: bool = False
    """There is a backlog."""
    stopped: bool = False
    """It waits for the end of the pause."""
    ordered: bool = False
    """It waits for the end of all that is under way."""
    paused: bool = False
    """Nothing more is to be read of it for now."""
    queued: bool = False
    """It will be gone on with."""
    spreading: Any = None
    """The command of many keys at the head of the backlog of which a part has been run."""
    turn: int = 0
    """The last turn in which it had much run, and ..."""
    spent: int = 0
    """... what that has cost, in units."""
    window: int = WINDOW_FIRST
    """Requests that may be under way."""
    unread: int = 0
    """Bytes of replies that it has not read; from outside, and more as soon as there are replies."""
    fault: str = ""
    """Why nothing more of it can be read, to be said once the backlog is done."""
    any_copy: bool = False
    """READONLY: where no quorum can be reached one copy will do, however old."""
    last_slot: int = -1
    """The slot written last, for WAIT."""

    def become(
        self,
        *,
        voice: Voice | None = None,
        gated: bool | None = None,
        database: int | None = None,
        queue: Queue | Same | None = SAME,
        monitors: bool | None = None,
    ) -> None:
        """Be another kind of connection than it was."""
        self.queue = self.queue if queue is SAME else queue
        self.database = self.database if database is None else database
        self.voice = self.voice if voice is None else voice
        self.gated = self.gated if gated is None else gated
        self.monitors = self.monitors if monitors is None else monitors
        self.listens = self.protocol == 2 and any(self.subscriptions)
        held_up = self.gated or self.database or self.listens or self.monitors or self.queue is not None
        held_up = held_up or self.tracker is not None
        self.ordinary = self.voice is Voice.SPEAKS and not held_up


class Services(Protocol):
    """What these commands need of the node."""

    settings: Settings
    clock: Clock
    process: int
    usage: reports.Usage
    sessions: dict[int, Session]
    steward: Steward

    @property
    def topology(self) -> Topology | None: ...

    @property
    def ready(self) -> bool: ...

    def members(self) -> list[Member]: ...

    def statistics(self) -> reports.Statistics: ...

    def reset_statistics(self) -> None: ...

    def kill(self, session: Session) -> None: ...

    def tell(self, level: str, text: str) -> None: ...

    def unblocked(self, session: Session) -> None: ...

    def pause(self, milliseconds: int, writes_only: bool) -> None: ...

    def unpause(self) -> None: ...

    def notify(self, letters: str) -> None: ...

    def drain(self, now: float) -> None: ...

    def give_up(self, name: str) -> str: ...
