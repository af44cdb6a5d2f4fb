"""The commands that a person types: up, node, connect, status, leave, forget, explain."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio
from click.core import ParameterSource

from peerkv import __version__
from peerkv.config import Cluster, ConfigError, load, peer_port_fault
from peerkv.faces.arguments import (
    DEFAULT_ADDRESS,
    IGNORED,
    Address,
    AddressArgument,
    Connect,
    Faces,
    NodeOption,
    SeedAddress,
    Value,
)
from peerkv.faces.client import Client, ConnectionLost, Unreachable, first_of
from peerkv.faces.dialect import Outcome, Shell, run_lines
from peerkv.faces.render import escaped, write
from peerkv.resp import ReplyError
from peerkv.settings import Recover, Role, Settings


@click.group(cls=Faces, context_settings={"auto_envvar_prefix": "PEERKV", "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="peerkv")
def main() -> None:
    """A masterless key-value store that speaks the Redis protocol.

    Where ADDRESS is left out, PEERKV_ADDRESS tells it, or, as in a node's container, PEERKV_NODE_PORT; else it is
    127.0.0.1:7001. A port that is left out is that one's.
    """


def _load(path: Path) -> Cluster:
    try:
        return load(path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


_config = click.option(
    "--config", type=click.Path(path_type=Path), default=Path("cluster.ini"), show_default=True, help="The nodes."
)


_address = click.argument(
    "address", cls=AddressArgument, type=Address(port_may_be_missing=True), default=DEFAULT_ADDRESS
)


# -- node


_option = partial(click.option, cls=NodeOption)


@main.command()
@click.argument("name", required=False)
@_option("--config", type=click.Path(path_type=Path), help="Take the node NAME from this cluster.ini.")
@_option(
    "--name",
    "own_name",
    type=Value("name"),
    envvar="PEERKV_NODE_NAME",
    help="Without NAME: this node's name. [default: HOST:PORT; the machine's or container's where HOST is any address]",
)
@_option("--cluster", type=Value("name"), default="peerkv", show_default=True, help="The cluster's name.")
@_option("--role", type=click.Choice(["data", "master"]), default="data", show_default=True)
@_option("--host", type=Value("host"), default="127.0.0.1", show_default=True, help="The address to listen on.")
@_option("--port", type=click.IntRange(1, 65535), default=6379, show_default=True, help="For clients.")
@_option("--peer-port", type=click.IntRange(1, 65535), help="For other nodes, TCP and UDP. [default: PORT + 10000]")
@_option("--announce-host", type=Value("announce_host"), help="The address that others are told.")
@_option("--announce-port", type=click.IntRange(0, 65535), default=0, help="The client port that others are told.")
@_option("--announce-peer-port", type=click.IntRange(1, 65535), help="The peer port that others are told.")
@_option(
    "--join",
    "seeds",
    type=SeedAddress(),
    multiple=True,
    envvar="PEERKV_NODE_JOIN",
    help="A node to meet first; HOST:PORT@PEERPORT where its peer port is another. May be repeated (in the variable:"
    " separated by blanks).",
)
@_option("--expect", type=click.IntRange(0, 1000), default=0, help="How many data nodes begin a cluster together.")
@_option("--replicas", type=click.IntRange(1, 7), default=3, show_default=True, help="Copies of every key.")
@_option("--zone", type=Value("zone"), help="Copies are in different zones as far as there are.")
@_option("--weight", type=click.IntRange(1, 16), default=1, show_default=True, help="Share relative to others.")
@_option(
    "--recover",
    type=click.Choice(["ask", "auto"]),
    default="ask",
    show_default=True,
    help="Where more is lost than the others can make up for: wait for `peerkv recover`, or go on unasked (caches).",
)
@_option(
    "--forget-after",
    type=Value("forget_after"),
    metavar="SECONDS",
    default=60.0,
    show_default=True,
    help="A member that has been down for so long is removed.",
)
@_option(
    "--leave-grace",
    type=Value("leave_grace"),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long to hand the share back after SIGTERM; 0: not at all.",
)
@_option(
    "--fill-rate",
    type=click.IntRange(1 << 16, 1 << 40),
    default=64 << 20,
    show_default=True,
    help="Bytes a second to fetch copies with.",
)
@_option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@_option("--log-file", type=click.Path(dir_okay=False, path_type=Path), help="Log there instead of to stderr.")
@_option("--parent", type=int, hidden=True, help="End when this process does.")
def node(
    name: str | None,
    config: Path | None,
    own_name: str | None,
    log_file: Path | None,
    parent: int | None,
    **options: Any,
) -> None:
    """Run one node, NAME of cluster.ini or one that the options describe.

    SIGTERM has it hand its share back before it ends; a second one, or Ctrl-C, ends it at once.
    """
    from peerkv.faces.up import default_name, serve_until_signal
    from peerkv.shell.serve import NameInUse, PortTaken

    _refuse_what_would_be_ignored(name, config)
    if name is not None:
        cluster = _load(config or Path("cluster.ini"))
        try:
            settings = cluster.node(name)
        except ConfigError as error:
            raise click.ClickException(str(error)) from None
    else:
        role = Role(options.pop("role"))
        named = own_name or default_name(options["announce_host"] or options["host"], options["port"])
        given = {key: value for key, value in options.items() if value is not None}
        given["recover"] = Recover(given["recover"])
        settings = Settings(name=named, role=role, **given)
        if wrong := peer_port_fault(settings):
            raise click.UsageError(f"--port {settings.port}: {wrong} (--{wrong.rpartition(' ')[2].replace('_', '-')})")
    _log_to(log_file, settings)
    for text in click.get_current_context().meta.get(IGNORED, ()):
        logging.getLogger("peerkv").warning("%s", text)
    failed = ""
    try:
        trio.run(serve_until_signal, settings, parent)
    except* (PortTaken, NameInUse) as group:
        failed = str(first_of(group))
    except* Exception as group:
        fault = first_of(group)
        logging.getLogger("peerkv").critical("a fault of peerkv ends this node", exc_info=fault)
        failed = f"{type(fault).__name__}: {escaped(str(fault))} (a fault of peerkv: the log says where)"
    if failed:
        raise click.ClickException(failed)


def _refuse_what_would_be_ignored(name: str | None, config: Path | None) -> None:
    """Either the file describes the node or the options do."""
    context = click.get_current_context()
    if name is None and config is not None:
        raise click.UsageError(
            f"--config {config} goes with the NAME of one of its nodes: peerkv node NAME --config ..."
        )
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if name is not None and given and option.name not in ("name", "config", "log_file", "log_level", "parent"):
            raise click.UsageError(f"{option.opts[0]} does not go with NAME: {name} is described by its cluster.ini")


def _log_to(path: Path | None, settings: Settings) -> None:
    from peerkv.shell.log import NodeLog

    try:
        handler = NodeLog(path if path is not None else sys.stderr.fileno(), settings.name)
    except OSError as error:
        text = f"--log-file {path} cannot be written: {error.strerror}; a file in a directory that exists is needed"
        raise click.ClickException(text) from None
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])


# -- up


@main.command()
@_config
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the nodes' logs. [default: a new one]",
)
def up(config: Path, logs: Path | None) -> None:
    """Start every node of cluster.ini on this machine, then the prompt."""
    from peerkv.faces.up import Up, log_path
    from peerkv.shell.serve import PortTaken, listening

    cluster = _load(config)
    if not any(node.role is Role.DATA for node in cluster.nodes):
        raise click.ClickException(f"{config} has no data node: nothing would hold keys; add a section with a port")
    for settings in cluster.nodes:
        try:
            with listening(settings):  # a port that is taken is one clear line, before anything is started
                pass
        except PortTaken as error:
            raise click.ClickException(str(error)) from None
    try:
        directory = logs or Path(tempfile.mkdtemp(prefix="peerkv-logs-"))
    except OSError as error:
        text = f"no temporary directory can be written for the nodes' logs: {error.strerror}; --logs names another"
        raise click.ClickException(text) from None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for settings in cluster.nodes:
            log_path(directory, settings).touch()
    except OSError as error:
        raise click.ClickException(f"the log {error.filename} cannot be written: {error.strerror}") from None
    sys.exit(trio.run(Up(cluster, config, directory).run))


# -- connect, status, explain


def _with_client(address: tuple[str, int], work: Callable[[Client], Any], patience: float = 0.0) -> Any:
    """Run an async function with a client, once the node answers; its errors are for people."""

    async def run() -> Any:
        client = Client(address)
        until = trio.current_time() + patience
        try:
            while True:
                try:
                    await client.connect()
                    break
                except Unreachable:
                    if trio.current_time() >= until:
                        raise
                    await trio.sleep(0.2)
            return await work(client)
        finally:
            with trio.CancelScope(shield=True):
                await client.close()

    try:
        return trio.run(run)
    except Unreachable as error:
        raise click.ClickException(str(error)) from None
    except ConnectionLost as lost:
        raise click.ClickException(f"the node {lost}; try another one") from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@main.command(cls=Connect, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_address
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--redis", is_flag=True, help="Plain Redis: SET overwrites, replies as redis-cli shows them.")
def connect(address: tuple[str, int], command: tuple[str, ...], redis: bool) -> None:
    """The prompt on any node; with COMMAND, run that one and leave. Lines of a pipe are commands, too.

    ADDRESS is any node's; the default is 127.0.0.1:7001. It may be left out where no COMMAND follows.

    Exit status 0: all went well; 1: something did not; 3: all did, but a plain SET found a value (Can't Override).
    """

    async def work(client: Client) -> int:
        if command:
            terminal = sys.stdout is not None and sys.stdout.isatty()
            shell = Shell(client, redis=redis, terminal=terminal)
            text, outcome = await shell.run_words([os.fsencode(word) for word in command])
            write(text, terminal=terminal)
            return outcome
        if sys.stdin is None or not sys.stdin.isatty():
            return (await run_lines(client, redis=redis))[1]
        from peerkv.faces.repl import converse  # only here: it takes longer to load than all of the rest

        await converse(client, redis=redis)
        return Outcome.DONE

    sys.exit(_with_client(address, work))


@main.command()
@_address
@click.option("--wait", type=click.FloatRange(0), default=0.0, help="Seconds to wait until all copies are there.")
@click.option("--json", "as_json", is_flag=True)
def status(address: tuple[str, int], wait: float, as_json: bool) -> None:
    """Members, shares, missing copies. Exit status 0 only when every slot has all its copies.

    ADDRESS is any node's; the default is 127.0.0.1:7001.
    """

    from peerkv.faces.status import await_whole, is_whole, show

    began = time.monotonic()

    async def work(client: Client) -> dict[str, Any]:
        return await await_whole(client, wait, time.monotonic() - began)

    found = _with_client(address, work, patience=wait)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    sys.exit(0 if is_whole(found) else 1)


@main.command()
@click.argument("name")
@_address
def leave(name: str, address: tuple[str, int]) -> None:
    """Have node NAME hand its share back and end.

    ADDRESS is any node's; the default is 127.0.0.1:7001.
    """

    async def work(client: Client) -> None:
        member = next((member for member in (await client.status())["members"] if member["name"] == name), None)
        if member is None or member["liveness"] not in ("alive", "suspect"):
            raise click.ClickException(f"there is no living node {name!r}; peerkv status shows who there is")
        if member["me"]:  # who is alone on 0.0.0.0 does not know an address of its own
            _expect_ok(await client.ask([b"PEERKV", b"LEAVE"]))
            return
        host, _, port = member["client"].rpartition(":")
        there = Client((host.removeprefix("[").removesuffix("]"), int(port)))
        try:
            _expect_ok(await there.ask([b"PEERKV", b"LEAVE"]))
        finally:
            await there.close()

    _with_client(address, work)
    print(f"{name} is leaving; peerkv status shows how far it is")


@main.command()
@click.argument("name")
@_address
def forget(name: str, address: tuple[str, int]) -> None:
    """Give up on the dead node NAME: its copies are made again elsewhere.

    ADDRESS is any living node's; the default is 127.0.0.1:7001.
    """

    async def work(client: Client) -> None:
        _expect_ok(await client.ask([b"PEERKV", b"FORGET", os.fsencode(name)]))

    _with_client(address, work)
    print(f"{name} is forgotten")


def _expect_ok(reply: Any) -> None:
    if isinstance(reply, ReplyError):
        raise click.ClickException(escaped(reply.text.partition(" ")[2]))


@main.command()
@_address
@click.option("--accept-loss", is_flag=True, help="Go on with what is left.")
def recover(address: tuple[str, int], accept_loss: bool) -> None:
    """Where a majority of a slot's owners is lost: show what is left, or go on with it.

    Nothing is done without --accept-loss; the exit status is 1 then, if there is something to recover. ADDRESS is any
    living node's; the default is 127.0.0.1:7001.
    """
    from peerkv.faces.status import described_loss

    async def work(client: Client) -> Any:
        reply = await client.ask([b"PEERKV", b"RECOVER"])
        _expect_ok(reply)
        loss = json.loads(reply) if isinstance(reply, bytes) else None
        if loss is not None and accept_loss:
            _expect_ok(await client.ask([b"PEERKV", b"RECOVER", b"ACCEPT-LOSS"]))
        return loss

    loss = _with_client(address, work)
    if loss is None:
        print("nothing is lost that has to be given up")
        return
    print(described_loss(loss))
    if not accept_loss:
        print("nothing was done; peerkv recover --accept-loss goes on with what is left")
        sys.exit(1)
    print("the cluster goes on with what is left; peerkv status --wait shows how far its copies are")


@main.command()
@click.argument("key")
@_address
def explain(key: str, address: tuple[str, int]) -> None:
    """Where KEY is: its slot, owners, home, versions, time to live, who answered.

    ADDRESS is any node's; the default is 127.0.0.1:7001.
    """

    async def work(client: Client) -> Any:
        return await client.ask([b"PEERKV", b"EXPLAIN", os.fsencode(key)])

    reply = _with_client(address, work)
    if not isinstance(reply, bytes):
        raise click.ClickException(escaped(str(getattr(reply, "text", reply))))
    print(json.dumps(json.loads(reply), indent=2))
