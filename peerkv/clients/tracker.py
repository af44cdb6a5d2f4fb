"""How a client tracks (CLIENT TRACKING, CACHING, TRACKINGINFO), and a read of such a client until it has its reply."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from peerkv.agreement.reads import Sink
from peerkv.clients.session import Session
from peerkv.commands.access import NOT_AN_INTEGER, SYNTAX
from peerkv.resp import OK, Reply, ReplyError, Set, parse_integer

TICKETS_MAX: Final = 1024
"""Operations that are remembered to be of a client that tracks; it is told of changes by older ones as if another one
had made them."""
PREFIXES_MAX: Final = 1024
PREFIX_BYTES_MAX: Final = 1 << 16
"""Of a client, all together."""
NO_CACHING: Final = ReplyError(
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)
ONLY_OPTIN: Final = ReplyError("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
ONLY_OPTOUT: Final = ReplyError("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
OTHER_MODE: Final = (
    "ERR You can't switch {} mode{} before disabling tracking for this client, and then re-enabling it with a different"
    " mode."
)


@dataclass(slots=True, eq=False)
class Tracker:
    """How a client tracks."""

    redirect: int = 0
    """The connection that is told in its place; 0: none."""
    bcast: bool = False
    optin: bool = False
    optout: bool = False
    noloop: bool = False
    broken: bool = False
    """The other connection is gone."""
    prefixes: dict[bytes, None] = field(default_factory=dict)
    said: list[bytes] = field(default_factory=list)
    """Those of the last command."""
    caching: bool = False
    """CLIENT CACHING was said, for ..."""
    tracks: bool = False
    """Its next command is tracked."""
    cached: Sequence[bytes] | None = None
    """... this request, or what is queued since then."""
    tickets: dict[int, None] = field(default_factory=dict)
    """Its operations of late that may change something."""
    noted: Sequence[bytes] | None = None
    """The request whose keys have been noted by homes before it is run, and ..."""
    notes: list[Reading] = field(default_factory=list)
    """... what is under way of that until it is answered."""

    def follow(self, before: Tracker | None) -> ReplyError | None:
        """Be as asked for from now on, with what is under way, and prefixes, of before; or what Redis says to that."""
        wrong = _wrong(self, before)
        if wrong:
            return ReplyError(wrong)
        if before is not None:
            self.prefixes = {**before.prefixes, **self.prefixes}
            self.tickets, self.notes, self.noted = before.tickets, before.notes, before.noted
            self.caching, self.cached = before.caching, before.cached
        if self.bcast and not self.prefixes:
            self.prefixes[b""] = None
        if len(self.prefixes) > PREFIXES_MAX or sum(map(len, self.prefixes)) > PREFIX_BYTES_MAX:
            return ReplyError(f"ERR a client may have at most {PREFIXES_MAX} prefixes, of {PREFIX_BYTES_MAX} bytes")
        return None

    def note(self, ticket: int) -> None:
        """An operation of its."""
        self.tickets[ticket] = None
        if len(self.tickets) > TICKETS_MAX:
            del self.tickets[next(iter(self.tickets))]

    def is_cached(self, session: Session, request: Sequence[bytes]) -> bool:
        """Whether CLIENT CACHING was said of a request, which is no CLIENT: it holds for one, or for a transaction."""
        if not self.caching:
            return False
        if self.cached is None:
            self.cached = request
        elif self.cached is not request and session.queue is None:
            self.caching, self.cached = False, None
        return self.caching

    def wants(self, session: Session, request: Sequence[bytes]) -> bool:
        """Whether what a request reads is tracked."""
        said = self.is_cached(session, request)
        return not self.bcast and (said if self.optin else not (self.optout and said))


class Reading(Sink):
    """A read of a client that tracks, until the client has its reply."""

    __slots__ = ("ahead_of", "dirty", "failed", "home", "index", "keys", "noted", "number", "session", "sink")

    def __init__(
        self, session: Session, number: int, keys: Sequence[bytes], sink: Sink, index: int, *, noted: bool = True
    ) -> None:
        super().__init__(1)
        self.session = session
        self.number = number
        self.keys = keys
        self.sink = sink
        self.index = index
        self.noted = noted
        """Its home says that it has noted it."""
        self.home = 0
        """The process that will tell of changes; 0: nobody."""
        self.dirty = not noted
        """A change has been told of since, or might not be."""
        self.failed = False
        self.ahead_of = -1
        """The place in its batch of the request whose keys this has homes note; negative: it is that request itself."""

    def complete(self) -> None:
        reply = self.replies[0]
        if self.noted and isinstance(reply, list) and len(reply) == 2:
            told, home = reply
            if isinstance(home, int):
                reply, self.home = told, home
        self.failed = isinstance(reply, ReplyError)
        self.sink.deliver(self.index, reply)


def asked_for(options: Sequence[bytes], sessions: Container[int]) -> Tracker | ReplyError:
    """What options of CLIENT TRACKING ON say, with such connections there are to redirect to."""
    asked = Tracker()
    left = iter(options)
    for option in left:
        match option.upper():
            case b"REDIRECT":
                value = next(left, None)
                if value is None:
                    return SYNTAX
                if asked.redirect:
                    return ReplyError("ERR A client can only redirect to a single other client")
                number = parse_integer(value)
                if number is None:
                    return NOT_AN_INTEGER
                if number not in sessions:
                    return ReplyError("ERR The client ID you want redirect to does not exist")
                asked.redirect = number
            case b"PREFIX":
                prefix = next(left, None)
                if prefix is None:
                    return SYNTAX
                asked.said.append(prefix)
                asked.prefixes[prefix] = None
            case b"BCAST" | b"OPTIN" | b"OPTOUT" | b"NOLOOP" as word:
                setattr(asked, word.decode().lower(), True)
            case _:
                return SYNTAX
    return asked


def _wrong(asked: Tracker, before: Tracker | None) -> str:
    """What Redis says to options that do not go together, or not with what was there before."""
    if asked.prefixes and not asked.bcast:
        return "ERR PREFIX option requires BCAST mode to be enabled"
    if before is not None and before.bcast != asked.bcast:
        return OTHER_MODE.format("BCAST", " on/off")
    if asked.bcast and (asked.optin or asked.optout):
        return "ERR OPTIN and OPTOUT are not compatible with BCAST"
    if asked.optin and asked.optout:
        return "ERR You can't specify both OPTIN mode and OPTOUT mode"
    if before is not None and ((asked.optin and before.optout) or (asked.optout and before.optin)):
        return OTHER_MODE.format("OPTIN/OPTOUT", "")
    if asked.bcast:
        return _colliding(asked.said, before.prefixes if before is not None else ())
    return ""


def _colliding(prefixes: Sequence[bytes], before: Iterable[bytes]) -> str:
    for place, prefix in enumerate(prefixes):
        for other in before:
            if _overlap(prefix, other):
                return _collision(prefix, f"an existing prefix '{_text(other)}'")
        for other in prefixes[place + 1 :]:
            if _overlap(prefix, other):
                return _collision(prefix, f"another provided prefix '{_text(other)}'")
    return ""


def _collision(prefix: bytes, other: str) -> str:
    return f"ERR Prefix '{_text(prefix)}' overlaps with {other}. Prefixes for a single client must not overlap."


def _overlap(one: bytes, other: bytes) -> bool:
    return one.startswith(other) or other.startswith(one)


def _text(prefix: bytes) -> str:
    return prefix.decode("utf-8", "surrogateescape")


def caching(tracker: Tracker | None, word: bytes) -> Reply:
    """CLIENT CACHING."""
    if tracker is None:
        return NO_CACHING
    if word not in (b"YES", b"NO"):
        return SYNTAX
    if word == b"YES" and not tracker.optin:
        return ONLY_OPTIN
    if word == b"NO" and not tracker.optout:
        return ONLY_OPTOUT
    tracker.caching, tracker.cached = True, None
    return OK


def described(tracker: Tracker | None, *, queues: bool) -> Reply:
    """CLIENT TRACKINGINFO."""
    if tracker is None:
        return {b"flags": Set([b"off"]), b"redirect": -1, b"prefixes": []}
    said = tracker.caching and (tracker.cached is None or queues)
    flags: tuple[tuple[bytes, bool], ...] = (
        (b"on", True),
        (b"bcast", tracker.bcast),
        (b"optin", tracker.optin),
        (b"caching-yes", tracker.optin and said),
        (b"optout", tracker.optout),
        (b"caching-no", tracker.optout and said),
        (b"noloop", tracker.noloop),
        (b"broken_redirect", tracker.broken),
    )
    return {
        b"flags": Set([flag for flag, holds in flags if holds]),
        b"redirect": tracker.redirect,
        b"prefixes": sorted(tracker.prefixes),  # type: ignore[dict-item]
    }
