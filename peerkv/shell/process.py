"""What a node asks of the process that it runs in, and what that process uses.

`prepare` and `tune` change settings of the whole process, so the command line calls them; a program that embeds `serve`
has its own wishes.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
from pathlib import Path
from typing import Final

import trio

from peerkv.node import Node
from peerkv.reports import Usage
from peerkv.shell.hugepages import HugePages

GC_THRESHOLDS: Final = (100_000, 50, 1_000)
"""A full collection over a million cells takes 150 ms; nearly all of our garbage is freed by reference counts."""
LOOK_AFTER_S: Final = 1.0


FILES_KEPT: Final = 256
"""Files of a node that are no clients': links, those that dial us, look-ups, its log. A quarter where there are few."""


def prepare() -> None:
    """Before a node is made: have this process open as many files as the system lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems give less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def clients_possible() -> int:
    """How many clients can be connected, as each is an open file."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if files == resource.RLIM_INFINITY else files - min(FILES_KEPT, files // 4)


def is_outgoing(port: int) -> bool:
    """Whether the system may give a port to any program's outgoing connection."""
    settings = Path("/proc/sys/net/ipv4")
    try:
        first, last = map(int, (settings / "ip_local_port_range").read_text().split())
        reserved = (settings / "ip_local_reserved_ports").read_text().strip()
    except (OSError, ValueError):  # where there is no /proc
        return False
    kept = [span.partition("-") for span in reserved.split(",") if span]
    return first <= port <= last and not any(int(low) <= port <= int(high or low) for low, _, high in kept)


async def tune(node: Node) -> None:
    """Have the process of a node that serves use the machine well, for as long as it runs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    pages = HugePages()
    alone = True
    while True:
        if alone and any(peer.up for peer in node.view.peers.values()):
            alone = False
            _run_in_batches()
        with contextlib.suppress(OSError, RuntimeError):  # no descriptor, or no thread, is left for a moment
            await trio.to_thread.run_sync(pages.step)
        await trio.sleep(LOOK_AFTER_S)
        for handler in logging.getLogger().handlers:
            handler.flush()  # says what it has counted


def _run_in_batches() -> None:
    """Have the scheduler not interrupt whoever runs when something comes in for us (SCHED_BATCH, sched(7)). Nodes and
    clients that share processors otherwise interrupt each other at every frame and reply, and wait for a processor
    while another one is idle; so what comes in meanwhile is one turn (SET of three nodes on two processors: 8 % more at
    -P 16, 10 to 25 % at -P 1). A node by itself has no frames, and would lose a tenth."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:  # the operator wants nothing else
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def usage() -> Usage:
    """Memory and processor time, for INFO."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss * 1024
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # where there is no /proc
        resident = peak
    system = os.uname()
    return Usage(
        resident,
        peak,
        used.ru_utime,
        used.ru_stime,
        os.getpid(),
        f"{system.sysname} {system.release} {system.machine}",
        clients_possible(),
    )
