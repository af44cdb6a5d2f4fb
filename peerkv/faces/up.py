"""Nodes as processes: one until it is told to end, or every one of a cluster.ini, with the prompt."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal, TextIO

import trio

from peerkv.config import NAME_MAX, Cluster
from peerkv.faces.client import Client, ConnectionLost, Unreachable, first_of
from peerkv.faces.dialect import run_lines
from peerkv.faces.render import escaped
from peerkv.settings import Role, Settings, address_text
from peerkv.shell.process import prepare, tune
from peerkv.shell.serve import Serving, serve

NAMED_WITHIN_S: Final = 5.0
"""After that a container does without the engine's name for it."""
_CONTAINER_ID: Final = re.compile("[0-9a-f]{12}")
STOP_WITHIN_S: Final = 5.0
READY_POLL_S: Final = 0.05


def default_name(host: str, port: int) -> str:
    """HOST:PORT, or, as 0.0.0.0 is everybody's, the machine's name. That of a container is a number that its next one
    does not have: there it is the name that the engine tells, as in `docker ps`, which says who has come back."""
    if host not in ("0.0.0.0", "::"):
        return f"{host}:{port}"[:NAME_MAX]
    machine = socket.gethostname()
    return (_container_name(machine) if _CONTAINER_ID.fullmatch(machine) else machine)[:NAME_MAX]


def _container_name(machine: str) -> str:
    try:
        address = socket.gethostbyname(machine)
        # -s dns: /etc/hosts would say the number
        command = ["getent", "-s", "dns", "hosts", address]
        found = subprocess.run(command, capture_output=True, text=True, timeout=NAMED_WITHIN_S, check=True).stdout
        name = found.split()[1].partition(".")[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return machine
    return name if name.isprintable() else machine


async def serve_until_signal(settings: Settings, parent: int | None) -> None:
    prepare()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            serving: Serving = await nursery.start(_serve_to_the_end, settings, nursery.cancel_scope)
            nursery.start_soon(tune, serving.node)
            if parent is not None:
                nursery.start_soon(_end_with, parent, nursery.cancel_scope)
            async for number in signals:
                name = signal.Signals(number).name
                if number == signal.SIGTERM and settings.leave_grace and not serving.node.leaving:
                    logging.getLogger("peerkv").info(
                        "%s: leaving within %g s; once more to stop at once", name, settings.leave_grace
                    )
                    serving.leave()
                    continue
                logging.getLogger("peerkv").info("%s: stopping", name)
                nursery.cancel_scope.cancel()
                return


async def _serve_to_the_end(
    settings: Settings, scope: trio.CancelScope, *, task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED
) -> None:
    await serve(settings, task_status=task_status)
    scope.cancel()


async def _end_with(parent: int, scope: trio.CancelScope) -> None:
    """A node of `up` does not outlive it, however that ended."""
    while os.getppid() == parent:
        await trio.sleep(0.5)
    scope.cancel()


def log_path(directory: Path, settings: Settings) -> Path:
    return directory / f"{settings.name.replace('/', '%2F')}.log"  # a name may have what a file's cannot


class Up:
    """Nodes as processes of their own."""

    def __init__(self, cluster: Cluster, config: Path, logs: Path) -> None:
        self._cluster = cluster
        self._config = config
        self._logs = logs
        self._processes: dict[str, trio.Process] = {}
        self._ready: set[str] = set()
        self._ending = False
        self._status = 0

    async def run(self) -> int:
        """The exit status."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_on_signal, nursery.cancel_scope)
                print(f"logs in {self._logs}", flush=True)
                for settings in self._cluster.nodes:
                    self._processes[settings.name] = await self._start(settings)
                    nursery.start_soon(self._watch, settings, nursery.cancel_scope)
                for settings in self._cluster.nodes:
                    await self._await_ready(settings)
                first = next(node for node in self._cluster.nodes if node.role is Role.DATA)
                address = address_text(first.host, first.port)
                print(f"the cluster is ready: peerkv connect {address}, or any Redis client at any node", flush=True)
                await self._serve_stdin(Client((first.host, first.port)))
                nursery.cancel_scope.cancel()
        except* Unreachable as group:
            print(first_of(group), file=sys.stderr)
            self._status = 1
        finally:
            with trio.CancelScope(shield=True):
                await self._stop()
        return self._status

    async def _serve_stdin(self, client: Client) -> None:
        """The prompt on a terminal, a pipe's lines as `connect` runs them, until these end; for good where there are
        none, as under a supervisor."""
        commands = _comes_from(sys.stdin)
        if commands == "terminal" and sys.stdout is not None and sys.stdout.isatty():
            from peerkv.faces.repl import converse  # only here: it takes longer to load than all of the rest

            await converse(client, redis=False)
            return
        if commands == "pipe":
            count, worst = await run_lines(client, redis=False)
            if count:
                self._status = worst
                return
        elif commands == "terminal":  # reading it in the background would stop us
            print("no prompt here, as the output is no terminal; the nodes run until Ctrl-C", flush=True)
        await trio.sleep_forever()

    async def _start(self, settings: Settings) -> trio.Process:
        log = log_path(self._logs, settings)
        command = [sys.executable, "-P", "-m", "peerkv", "node", settings.name, "--config", str(self._config)]
        command += ["--log-file", str(log), "--parent", str(os.getpid())]
        with log.open("ab") as output:
            return await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us alone; we stop the nodes in order
            )

    async def _watch(self, settings: Settings, scope: trio.CancelScope) -> None:
        """Say so when a node ends; if it never was ready, give up."""
        process = self._processes[settings.name]
        status = await process.wait()
        if self._ending:
            return
        if settings.name in self._ready:
            print(f"{settings.name} has ended (status {status}): {self._last_line(settings)}", flush=True)
            return
        print(f"{settings.name} did not start: {self._last_line(settings)}", file=sys.stderr, flush=True)
        self._status = 1
        scope.cancel()

    async def _await_ready(self, settings: Settings) -> None:
        client = Client((settings.host, settings.port))
        while True:
            await trio.sleep(READY_POLL_S)
            try:
                status = await client.status()
            except (Unreachable, ConnectionLost, ValueError):
                continue
            if status["node"] == settings.name and (settings.role is Role.MASTER or status["epoch"]):
                break
        await client.close()
        self._ready.add(settings.name)
        print(
            f"{settings.name} ({settings.role.value}) is ready at {address_text(settings.host, settings.port)}",
            flush=True,
        )

    def _last_line(self, settings: Settings) -> str:
        lines = log_path(self._logs, settings).read_text(errors="replace").strip().splitlines()
        return escaped(lines[-1].removeprefix("Error: ")) if lines else "it said nothing"

    async def _stop_on_signal(self, scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()
                return

    async def _stop(self) -> None:
        self._ending = True
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGINT)  # SIGTERM would have each hand its share to the next
        with trio.move_on_after(STOP_WITHIN_S):
            for process in self._processes.values():
                await process.wait()
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
        if self._processes:
            print("all nodes have stopped", flush=True)


def _comes_from(stdin: TextIO | None) -> Literal["terminal", "pipe", "nowhere"]:
    """/dev/null, as under a supervisor, is nowhere."""
    if stdin is None:
        return "nowhere"
    if stdin.isatty():
        return "terminal"
    mode = os.fstat(stdin.fileno()).st_mode
    return "pipe" if stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode) else "nowhere"
