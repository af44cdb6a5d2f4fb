"""PEERKV: what those ask and want who look after the cluster, at any of its nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from peerkv.agreement.operation import Pause
from peerkv.agreement.replica import Replica
from peerkv.agreement.survey import Asking, count_copies, count_kept, explain
from peerkv.agreement.view import View
from peerkv.clients.monitoring import Monitors
from peerkv.clients.session import Services, Session
from peerkv.commands.access import SYNTAX
from peerkv.commands.table import COMMANDS, help_of, subcommand_of
from peerkv.resp import OK, Reply, ReplyError
from peerkv.ring.topology import describe_epoch
from peerkv.settings import address_text
from peerkv.store.cell import describe_position
from peerkv.store.values.held import HELD

FORGET_WITHIN_S: Final = 5.0
"""A majority that is there agrees in less; after that the client is told that it has not."""
RECOVER_WITHIN_S: Final = 30.0
"""Those that are left agree in less; asked anew every ..."""
RECOVER_AGAIN_S: Final = 2.0
RANGES_MAX: Final = 16
"""So many ranges of slots are told; there may be thousands."""


class Operating:
    """Of a node."""

    def __init__(self, services: Services, view: View, replica: Replica, monitors: Monitors) -> None:
        self._services = services
        self._view = view
        self._replica = replica
        self._monitors = monitors

    def run(self, session: Session, request: Sequence[bytes]) -> Asking[Reply]:
        """What a PEERKV command answers."""
        subcommand = subcommand_of(COMMANDS["peerkv"], request)
        if isinstance(subcommand, ReplyError):
            return subcommand
        match [request[1].upper(), *request[2:]]:
            case [b"STATUS"]:
                return (yield from self._status())
            case [b"EXPLAIN", key]:
                return (yield from self._explain(key))
            case [b"LEAVE"]:
                self._services.drain(self._services.clock.now)
                return OK
            case [b"FORGET", forgotten]:
                return (yield from self._forget(forgotten.decode("utf-8", "replace")))
            case [b"RECOVER"]:
                return json.dumps((yield from self._loss())).encode()
            case [b"RECOVER", accept] if accept.upper() == b"ACCEPT-LOSS":
                return (yield from self._recover())
            case [b"MONITOR"]:
                self._monitors.begin(session, everywhere=True)
                return OK
            case [b"HELP"]:
                return help_of(COMMANDS["peerkv"])
            case _:
                return SYNTAX

    def _forget(self, name: str) -> Asking[Reply]:
        wrong = self._services.give_up(name)
        if wrong:
            return ReplyError(f"ERR {wrong}")
        until = self._services.clock.now + FORGET_WITHIN_S
        topology = self._view.topology
        processes = (
            {owner.process for owner in topology.members if owner.name == name} if topology is not None else set()
        )
        while self._services.clock.now < until:
            topology = self._view.topology
            target = (topology.next_members or topology.members) if topology is not None else ()
            if not any(owner.process in processes for owner in target):
                return OK
            yield Pause(0.05)
        return ReplyError(f"NOQUORUM {name} is still a member: a majority of the members has not agreed")

    def _loss(self) -> Asking[dict[str, Any] | None]:
        """What was lost for good, and what is left of it; None: nothing was."""
        bereft = self._services.steward.bereft
        if bereft is None:
            return None
        slots = [number for number in range(len(self._view.slots)) if bereft.slots >> number & 1]
        kept = yield from count_kept(self._view, self._replica, slots)
        return {
            "lost": list(bereft.lost),
            "blocked_by": list(bereft.blocked_by),
            "slots": len(slots),
            "ranges": _ranges(slots),
            "slots_without_copies": kept.empty,
            "keys_kept": sum(kept.keys.values()),
            "keys_by_copies": {str(copies): keys for copies, keys in sorted(kept.keys.items())},
        }

    def _recover(self) -> Asking[Reply]:
        steward = self._services.steward
        before = self._view.topology
        wrong = steward.recover()
        if wrong or before is None:
            return ReplyError(f"ERR {wrong or 'this node has not met its cluster yet'}")
        clock = self._services.clock
        until, again_at = clock.now + RECOVER_WITHIN_S, clock.now + RECOVER_AGAIN_S
        while clock.now < until:
            topology = self._view.topology
            if topology is None or topology.recoveries > before.recoveries:
                return OK
            if clock.now >= again_at:  # an owner that is busy may have answered too late
                again_at = clock.now + RECOVER_AGAIN_S
                wrong = steward.recover() or wrong
            yield Pause(0.05)
        return ReplyError(f"NOQUORUM {wrong or 'not all that are left have agreed; try again'}")

    def _status(self) -> Asking[Reply]:
        copies = yield from count_copies(self._view, self._replica)
        loss = yield from self._loss()
        view = self._view
        steward = self._services.steward
        void = steward.birth.void
        topology = view.topology
        listed: list[dict[str, Any]] = []
        for member in self._services.members():
            number = topology.number_of(member.process) if topology is not None else 0
            peer = view.me if member.process == view.me.process else view.peers.get(member.process)
            listed.append(
                {
                    "name": member.name,
                    "role": member.role.value,
                    "client": address_text(member.client_host, member.client_port),
                    "peer": address_text(*member.address),
                    "liveness": member.liveness.name.lower(),
                    "number": number,
                    "zone": member.zone,
                    "weight": member.weight,
                    "copies": copies.held.get(peer, 0) if peer is not None else 0,
                    "homes": copies.homes.get(peer, 0) if peer is not None else 0,
                    "process": f"{member.process:016x}",
                    "me": member.process == view.me.process,
                    "owner": number > 0,
                    "leaving": member.leaving,
                    "wire_version": peer.version if peer is not None else 0,
                }
            )
        status = {
            "cluster": self._services.settings.cluster,
            "cluster_id": f"{topology.cluster_id:016x}" if topology is not None else "",
            "epoch": view.epoch,
            "epoch_name": describe_epoch(view.epoch),
            "node": view.me.name,
            "replicas": topology.replicas if topology is not None else 0,
            "slots": topology.slots if topology is not None else 0,
            "slots_with_all_copies": copies.whole,
            "slots_without_quorum": copies.undecided,
            "changing": topology is not None and topology.is_joint,
            "change": steward.change,
            "joining": [
                entry["name"]
                for entry in listed
                if topology is not None
                and entry["role"] == "data"
                and not entry["owner"]
                and not entry["leaving"]
                and entry["liveness"] in ("alive", "suspect")
            ],
            "waits_for": steward.birth.waits_for,
            "loss": loss,
            "succeeds": [f"{cluster_id:016x}" for cluster_id in (topology.succeeds if topology is not None else ())],
            "data_lost_at": void.at if void is not None else 0,
            "members": listed,
        }
        return json.dumps(status).encode()

    def _explain(self, key: bytes) -> Asking[Reply]:
        number = self._view.slot_of(key)
        held = yield from explain(self._view, self._replica, number, key)
        newest = max((cell for _, cell in held if cell is not None), key=lambda cell: cell[0], default=None)
        target = self._view.targets[number]
        size, deadline = (newest[1], newest[2]) if newest is not None else (-1, 0)
        live = size >= 0 and not 0 < deadline <= self._services.clock.cluster_ms
        is_held = size >= 0 and deadline == HELD
        explanation = {
            "key": key.decode("utf-8", "backslashreplace"),
            "slot": number,
            "owners": [
                {
                    "name": peer.name,
                    "answered": cell is not None,
                    "version": describe_position(cell[0]) if cell is not None and cell[0] else "",
                    "home": peer is target,
                }
                for peer, cell in held
            ],
            "held_by_a_transaction": is_held,
            "value_bytes": size if live else None,
            "ttl_ms": deadline - self._services.clock.cluster_ms if live and deadline else None,
            "version": describe_position(newest[0]) if newest is not None and newest[0] else "",
        }
        return json.dumps(explanation).encode()


def _ranges(slots: Sequence[int]) -> str:
    """Numbers as people write them, shortened: 0-99, 200, 300-16383."""
    ranges: list[str] = []
    first = last = -2
    for number in [*slots, -2]:
        if number != last + 1:
            if last >= 0:
                ranges.append(f"{first}-{last}" if last > first else f"{first}")
            first = number
        last = number
    if len(ranges) > RANGES_MAX:
        ranges = [*ranges[:RANGES_MAX], f"and {len(ranges) - RANGES_MAX} more ranges"]
    return ", ".join(ranges)
