"""What frames between nodes cost: one turn's forwards, ACCEPTs, replies and reads, encoded and decoded.

python -m bench.frames
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Final

from peerkv import wire
from peerkv.agreement.peer import Peer
from peerkv.agreement.turn import Accepts
from peerkv.ring.keys import SLOTS

OPERATIONS: Final = 160
"""In one turn, as with 50 clients that send 16 commands at a time to three nodes."""
TIMES: Final = 300
REPEATS: Final = 9


def operations(peer: Peer) -> None:
    """SETs on their way to their home."""
    for number in range(OPERATIONS):
        peer.forwards += (number + 1 << 14 | number, 0, [b"SET", b"key:%012d" % number, b"x" * 64])


def changes(peer: Peer) -> None:
    """What a home has run, for another owner."""
    tickets = [number + 1 << 14 | number for number in range(OPERATIONS)]
    positions = [(1 << 36 | 1 << 20) + number for number in range(OPERATIONS)]
    keys = [b"key:%012d" % number for number in range(OPERATIONS)]
    rows = [tickets, positions, keys, [b"x" * 64] * OPERATIONS, [0] * OPERATIONS, ["OK"] * OPERATIONS]
    peer.changes += (7, Accepts([(77, rows)], {}, {77: 1 << 14}, awaited=True))


def replies(peer: Peer) -> None:
    """What a home has done."""
    peer.acks += (7, [])
    peer.done += [number + 1 << 14 | number for number in range(OPERATIONS)]
    peer.replies += ["OK"] * OPERATIONS


def reads(peer: Peer) -> None:
    """Versions of keys, to be compared."""
    for number in range(OPERATIONS):
        peer.reads += (b"key:%012d" % number, (1 << 36 | 1 << 20) + number)


def best(run: Callable[[], object]) -> float:
    """Nanoseconds an operation, of the best of some repeats."""
    return min(timeit.repeat(run, number=TIMES, repeat=REPEATS)) / TIMES / OPERATIONS * 1e9


def main() -> None:
    print(f"{'ns an operation':20} encode  decode  bytes")
    for fill in (operations, changes, replies, reads):
        peer = Peer(2, "db2")
        fill(peer)
        payload = wire.Encoder(1, 1, 1).frames(peer)[0]
        encode = best(lambda peer=peer: wire.Encoder(1, 1, 1).frames(peer))  # type: ignore[misc]
        decode = best(lambda payload=payload: wire.decode_frame(payload).unpacked(SLOTS))  # type: ignore[misc]
        print(f"{fill.__name__:20} {encode:6.0f}  {decode:6.0f}  {len(payload) / OPERATIONS:5.0f}")


if __name__ == "__main__":
    main()
