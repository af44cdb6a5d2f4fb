"""What `status` waits for and prints."""

from __future__ import annotations

import sys
from typing import Any, Final

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from peerkv.faces.client import Client, ConnectionLost, Unreachable
from peerkv.faces.render import escaped

PIPED_COLUMNS: Final = 1000
"""Into a pipe a member is a line, however long its name is."""


async def await_whole(client: Client, wait: float) -> dict[str, Any]:
    """The status once every slot has all its copies, or after `wait` seconds; on a terminal with a bar. Raises what
    `Client.status` does."""
    until = trio.current_time() + wait
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
            try:
                found = await client.status()
            except (ConnectionLost, Unreachable):
                if trio.current_time() >= until:
                    raise
                await trio.sleep(0.2)  # it is being restarted
                continue
            rate = f"{found['change']['bytes_per_second'] / 1e6:.1f} MB/s"
            done = found["slots_with_all_copies"]
            progress.update(bar, total=found["slots"] or None, completed=done, rate=rate)
            if is_whole(found) or trio.current_time() >= until:
                return found
            await trio.sleep(0.2)


def is_whole(found: dict[str, Any]) -> bool:
    slots: int = found["slots"]
    return 0 < slots == int(found["slots_with_all_copies"]) and not found["changing"] and not found["joining"]


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
    if not found["epoch"]:
        console.print("the cluster is not born yet")
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
    console.print(f"cluster {escaped(str(found['cluster']))}, epoch {found['epoch']}, {each}: {whole}", soft_wrap=True)

    change = found["change"]
    if found["changing"] or change["copies_to_go"]:
        rate = change["bytes_per_second"]
        console.print(
            f"filling: {change['slots_to_go']} of {change['slots']} slots that change owners and"
            f" {change['copies_to_go']} copies to go, {change['bytes'] / 1e6:.1f} MB fetched, {rate / 1e6:.1f} MB/s"
        )
