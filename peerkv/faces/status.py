"""What `status` waits for and prints."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, Final

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from peerkv.faces.client import Client, ConnectionLost, Unreachable
from peerkv.faces.render import escaped

PIPED_COLUMNS: Final = 1000
"""Into a pipe a member is a line, however long its name is."""

POLL_S: Final = 0.2
POLL_SHARE: Final = 4
"""A status that takes long, as it asks every owner, is asked for again after so many times as long."""
PATIENCE_S: Final = 10.0
"""Without --wait: a status takes a second where some owner hangs."""


async def await_whole(client: Client, wait: float, waited: float = 0.0) -> dict[str, Any]:
    """The status once every slot has all its copies, or after `wait` seconds, of which `waited` are over; on a terminal
    with a bar. Raises what `Client.status` does."""
    patience = max(wait - waited, POLL_S) if wait else PATIENCE_S
    until = trio.current_time() + patience
    found: dict[str, Any] | None = None
    with Progress(
        TextColumn("slots with all copies"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not (wait and sys.stderr.isatty()),
    ) as progress:
        bar = progress.add_task("", total=None, rate="")
        while True:
            asked = trio.current_time()
            with trio.move_on_at(until) as scope:
                try:
                    found = await client.status()
                except (ConnectionLost, Unreachable):
                    if trio.current_time() >= until or not wait:
                        raise
                    await trio.sleep(0.2)  # it is being restarted
                    continue
            if scope.cancelled_caught or found is None:
                await client.close()
                if found is None:
                    raise Unreachable(
                        f"{client.address[0]}:{client.address[1]} told no status within {wait or PATIENCE_S:g} s"
                    )
                return found
            rate = f"{found['change']['bytes_per_second'] / 1e6:.1f} MB/s"
            done = found["slots_with_all_copies"]
            progress.update(bar, total=found["slots"] or None, completed=done, rate=rate)
            pause = max(POLL_S, POLL_SHARE * (trio.current_time() - asked))
            if is_whole(found) or not wait or trio.current_time() + POLL_S >= until:
                return found
            await trio.sleep_until(min(trio.current_time() + pause, until - POLL_S))


def is_whole(found: dict[str, Any]) -> bool:
    slots: int = found["slots"]
    return 0 < slots == int(found["slots_with_all_copies"]) and not found["changing"] and not found["joining"]


def described_loss(loss: dict[str, Any]) -> str:
    """What was lost, what is left, and what stands in the way."""
    held = [
        f"{keys} keys in {copies} cop{'y' if copies == '1' else 'ies'}"
        for copies, keys in loss["keys_by_copies"].items()
    ]
    lost = ", ".join(map(escaped, loss["lost"]))
    text = (
        f"{loss['slots']} slots ({loss['ranges']}) have lost a majority of their owners: {lost}"
        " will not come back with what they held. Until a recovery they answer NOQUORUM; after READONLY a connection"
        f" reads any copy that is left, be it old. What is left: {', '.join(held) or 'no key'}"
    )
    if loss["slots_without_copies"]:
        text += f"; of {loss['slots_without_copies']} slots nobody has a copy"
    text += ". Writes that only the lost had acknowledged are gone for good."
    for name in map(escaped, loss["blocked_by"]):
        text += f"\n{name} is out of reach and may hold more: start it again, or give it up: peerkv forget {name}"
    return text


def show(found: dict[str, Any]) -> None:
    piped = sys.stdout is None or not sys.stdout.isatty()
    console = Console(markup=False, width=PIPED_COLUMNS if piped else None)
    table = Table("node", "role", "clients", "liveness", "copies", "homes", "zone")
    for member in sorted(found["members"], key=lambda member: member["name"]):
        owner = member["owner"]
        table.add_row(
            escaped(member["name"]) + (" *" if member["me"] else ""),
            member["role"],
            escaped(member["client"]),
            "leaving" if member["leaving"] and member["liveness"] == "alive" else member["liveness"],
            str(member["copies"]) if owner else "-",
            str(member["homes"]) if owner else "-",
            escaped(member["zone"]),
        )
    console.print(table)
    if found["data_lost_at"]:
        at = datetime.fromtimestamp(found["data_lost_at"] / 1000, tz=UTC)
        console.print(f"all data of the cluster before this one was lost at {at:%Y-%m-%d %H:%M:%S} UTC", soft_wrap=True)
    elif found["succeeds"]:
        console.print(f"it was founded in the place of cluster {found['succeeds'][0]}, all data of which was lost")
    if not found["epoch"]:
        waits = f": {escaped(found['waits_for'])}" if found["waits_for"] else ""
        console.print(f"the cluster is not born yet{waits}", soft_wrap=True)
        return
    missing = found["slots"] - found["slots_with_all_copies"]
    wanted, owners = found["replicas"], sum(member["owner"] for member in found["members"])
    whole = "every slot has all its copies" if not missing else f"{missing} slots lack a copy"
    if not missing and owners < wanted:
        whole += f" that {owners} data node{'s' if owners > 1 else ''} can hold"
    # a slot that changes owners has copies at the old ones and at the new ones
    there = min(sum(member["copies"] for member in found["members"]) / found["slots"], wanted)
    each = f"{there:.3g} copies each" if there == wanted else f"{there:.3g} of {wanted} wanted copies each"
    if found["slots_without_quorum"]:
        whole += f", {found['slots_without_quorum']} have no majority and cannot be used"
    if found["joining"]:
        whole += f"; {', '.join(map(escaped, found['joining']))} will join"
    named = f"cluster {escaped(str(found['cluster']))}, epoch {found['epoch_name']}"
    console.print(f"{named}, {each}: {whole}", soft_wrap=True)
    if found["loss"]:
        console.print(described_loss(found["loss"]), soft_wrap=True)
        console.print("peerkv recover shows that, and goes on with what is left: peerkv recover --accept-loss")

    change = found["change"]
    if found["changing"] or change["copies_to_go"]:
        rate = change["bytes_per_second"]
        console.print(
            f"filling: {change['slots_to_go']} of {change['slots']} slots that change owners and"
            f" {change['copies_to_go']} copies to go, {change['bytes'] / 1e6:.1f} MB fetched, {rate / 1e6:.1f} MB/s"
        )
