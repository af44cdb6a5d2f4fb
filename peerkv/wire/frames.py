"""Links between peers, as bytes: the first frame each way, then frames that hold all that one peer says in a turn."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, NamedTuple

import cbor2

from peerkv.agreement.checks import NUMBER_MAX
from peerkv.agreement.columns import COLUMNS, Arguments, Column, Columns, Tell
from peerkv.agreement.packing import pack_accepts
from peerkv.agreement.peer import Peer
from peerkv.agreement.turn import Accepts
from peerkv.cbor import dump, encode_tagged, load
from peerkv.wire.envelope import Kind, Refusal, integer, name_of, open_envelope, seal
from peerkv.wire.limits import FRAME_BYTES


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame on a link, and (as the answer) the first back: who I am. Nothing else goes back on that link."""

    name: str
    process: int
    cluster_id: int
    epoch: int
    to: int
    """The process that is meant; another one at that address must refuse."""
    versions: tuple[int, int]
    """The oldest and the newest wire version that it speaks; the frames to come are of the newest that both do."""


def encode_hello(cluster: str, version: int, hello: Hello, *, welcome: bool = False) -> bytes:
    """`welcome`: the answer."""
    fields = [cluster, hello.name, hello.process, hello.cluster_id, hello.epoch, hello.to, *hello.versions]
    return seal(Kind.WELCOME if welcome else Kind.HELLO, version, fields)


def decode_hello(cluster: str, versions: tuple[int, int], payload: bytes, *, welcome: bool = False) -> Hello | Refusal:
    return open_envelope(Kind.WELCOME if welcome else Kind.HELLO, cluster, versions, payload, _read_hello)


def _read_hello(fields: list[Any]) -> Hello:
    _, name, process, cluster_id, epoch, to, oldest, newest = fields[:8]
    return Hello(
        name_of(name),
        integer(process),
        integer(cluster_id),
        integer(epoch),
        integer(to),
        (integer(oldest, 255), integer(newest, 255)),
    )


EPOCH_MAX: Final = (1 << 62) - 1
HEAD: Final = 5
"""Numbers before the columns."""
CLOCK_MAX: Final = 1 << 48
"""The year 10889."""

_CONTENTS: Final = attrgetter(*[column.name for column in COLUMNS])
_PACKERS: Final = [(column.code, column.pack) for column in COLUMNS]
_BY_CODE: Final = {column.code: column for column in COLUMNS}
_GO_ALONG: Final = frozenset([name for column in COLUMNS for name in column.along])
_TELLS: Final = next(column for column in COLUMNS if column.name == "tells")


class Frame(NamedTuple):
    """All that one process had to say to another in one turn."""

    epoch: int
    mark: int
    """The oldest ticket that the sender, as coordinator, may still repeat."""
    clock: int
    """Cluster time in milliseconds as the sender has it."""
    number: int
    """It is the sender's so many-th to us."""
    read: int
    """The number of the last one of ours that the sender has read: whoever gets on with that is alive, however busy."""
    parts: list[tuple[Column, list[Any]]]
    """The columns that have something in them, as they have travelled, in the order in which they are taken in."""

    def unpacked(self, slots: int) -> list[tuple[Column, Arguments]]:
        """What to call who takes in each column with. Raises ValueError if any is none."""
        return [(column, column.unpack(content, slots)) for column, content in self.parts]

    def of_any_epoch(self, slots: int) -> list[tuple[Column, Arguments]]:
        """Likewise, of those columns that do not go by the topology."""
        return [(column, column.unpack(content, slots)) for column, content in self.parts if column.in_any_epoch]

    def told(self, slots: int) -> list[tuple[Tell, list[Any]]]:
        """What is told in it, which is read in any epoch. Raises ValueError for what is none."""
        return [tell for column, content in self.parts if column is _TELLS for tell in column.unpack(content, slots)[0]]


class Encoder:
    """Makes the frames of one turn; what several peers are to accept is encoded once."""

    __slots__ = ("_chunks", "_head")

    def __init__(self, epoch: int, mark: int, clock: int) -> None:
        self._head = epoch, mark, clock
        self._chunks: dict[int, bytes] = {}
        """By the identity of the `Accepts`."""

    def frames(self, peer: Peer, most: int = FRAME_BYTES) -> list[bytes]:
        """What stands in the peer's columns: one frame, or, if that is longer than `most` bytes, several, none of which
        is so unless it holds a single item. They are numbered from `peer.frames_sent` on."""
        whole = self._encode(peer, peer, peer.frames_sent)
        if len(whole) <= most:
            return [whole]
        found: list[bytes] = []
        parts = deque(_parts(peer))
        while parts:
            part = parts.popleft()
            payload = self._encode(peer, part, peer.frames_sent + len(found))
            halves = _halves(part) if len(payload) > most else []
            if halves:
                parts.extendleft(reversed(halves))
            else:
                found.append(payload)
        peer.frames_sent += len(found) - 1
        return found

    def _encode(self, peer: Peer, columns: Columns, number: int) -> bytes:
        fields: list[Any] = [*self._head, number, peer.frames_read]
        for (code, pack), content in zip(_PACKERS, _CONTENTS(columns), strict=True):
            if content:
                fields += (code, pack(columns))
        return cbor2.dumps(fields, default=self._special)

    def _special(self, encoder: cbor2.CBOREncoder, value: Any) -> None:
        if type(value) is not Accepts:
            encode_tagged(encoder, value)
            return
        chunk = self._chunks.get(id(value))
        if chunk is None:
            chunk = self._chunks[id(value)] = dump(pack_accepts(value))
        encoder.write(chunk)


def _parts(columns: Columns) -> list[Columns]:
    """One column each, with the lists that go with it, in their order."""
    return [
        _part(columns, {name: getattr(columns, name) for name in (column.name, *column.along)})
        for column in COLUMNS
        if column.name not in _GO_ALONG and getattr(columns, column.name)
    ]


def _halves(part: Columns) -> list[Columns]:
    """The one column of a part in two; nothing if it cannot be divided."""
    column = next(column for column in COLUMNS if column.name not in _GO_ALONG and getattr(part, column.name))
    items = getattr(part, column.name)
    count = len(items) // column.width if column.width else 1
    if count < 2:
        return []
    halves = []
    for first, last in ((0, count // 2), (count // 2, count)):
        taken = {column.name: items[first * column.width : last * column.width]}
        for name in column.along:
            along = getattr(part, name)
            taken[name] = along[first:last] if len(along) == count else along
        halves.append(_part(part, taken))
    return halves


def _part(columns: Columns, taken: dict[str, list[Any]]) -> Columns:
    part = Columns()
    part.sequence = columns.sequence
    for name, items in taken.items():
        setattr(part, name, items)
    return part


def decode_frame(payload: bytes) -> Frame:
    """Raises ValueError for bytes that are no frame. What stands in its columns is checked when it is unpacked."""
    fields = load(payload)
    if type(fields) is not list or len(fields) < HEAD or len(fields) % 2 != HEAD % 2:
        raise ValueError("not a frame")
    head = fields[:HEAD]
    epoch, mark, clock, number, read = head
    if (
        not {int}.issuperset(map(type, head))
        or min(head) < 0
        or epoch > EPOCH_MAX
        or clock > CLOCK_MAX
        or max(head) > NUMBER_MAX
    ):
        raise ValueError("not the head of a frame")
    parts = []
    for code, content in zip(fields[HEAD::2], fields[HEAD + 1 :: 2], strict=True):
        if type(code) is not int or type(content) is not list:
            raise ValueError("not the columns of a frame")
        column = _BY_CODE.get(code)
        if column is not None:  # otherwise of a newer version
            parts.append((column, content))
    return Frame(epoch, mark, clock, number, read, parts)
