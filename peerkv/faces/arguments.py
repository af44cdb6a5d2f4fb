"""How what a person types, or the environment says, becomes arguments; and how an error is told: in one line."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import sys
from typing import Any, Final, NoReturn

import click

from peerkv.config import parse_address, parse_seed, parse_value
from peerkv.faces.client import ConnectionLost, Unreachable, first_of
from peerkv.faces.render import escape_what_streams_lack, escaped
from peerkv.settings import Seed, Settings

DEFAULT_ADDRESS: Final = "127.0.0.1:7001"
"""The first data node of the repository's cluster.ini; the help of each command says so."""
IGNORED: Final = "peerkv.ignored"
"""Under it in a context's `meta`: what is to be logged of variables that were not meant for us."""
_TRACEBACK: Final = "PEERKV_TRACEBACK"
_OF_A_SERVICE: Final = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)
_WILDCARDS: Final = ("", "0.0.0.0", "::")


class Address(click.ParamType):  # type: ignore[type-arg]
    """HOST:PORT; where the port may be missing it is that of the address that is meant when there is none."""

    name = "host:port"

    def __init__(self, *, port_may_be_missing: bool = False) -> None:
        self._port_may_be_missing = port_may_be_missing

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value[0], value[1]
        text = value.strip()
        try:
            if self._port_may_be_missing and _is_host_alone(text):
                text = (
                    f"[{text.removeprefix('[').removesuffix(']')}]:{parse_address(own_address() or DEFAULT_ADDRESS)[1]}"
                )
            return parse_address(text)
        except ValueError as allowed:
            self.fail(f"{value!r} is not {allowed}", param, ctx)


class SeedAddress(click.ParamType):  # type: ignore[type-arg]
    """HOST:PORT[@PEERPORT] of a node to join."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Seed:
        if isinstance(value, tuple):
            return value
        try:
            return parse_seed(value)
        except ValueError as allowed:
            self.fail(f"{value!r} is not {allowed}", param, ctx)


def _is_host_alone(text: str) -> bool:
    if not text or text.isdigit():
        return False
    try:
        return bool(ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]").partition("%")[0]))
    except ValueError:
        return ":" not in text


def own_address() -> str:
    """The node that the environment tells of, as in a node's container; empty if it tells of none."""
    if address := os.environ.get("PEERKV_ADDRESS"):
        return address
    port = os.environ.get("PEERKV_NODE_PORT", "")
    if not port:
        return ""
    if _OF_A_SERVICE.match(port):  # ignored by the node as well
        port = str(Settings().port)
    host = os.environ.get("PEERKV_NODE_HOST", "")
    return f"[{DEFAULT_ADDRESS.partition(':')[0] if host in _WILDCARDS else host}]:{port}"


class AddressArgument(click.Argument):
    """ADDRESS of any node; left out, the one of the environment."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:  # noqa: ARG002 - click's
        return own_address() or None


class Value(click.ParamType):  # type: ignore[type-arg]
    """What a key of cluster.ini takes, refused in the same words."""

    name = "text"

    def __init__(self, key: str) -> None:
        self._key = key

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_value(self._key, value)
        except ValueError as allowed:
            self.fail(f"{value!r}: allowed is {allowed}", param, ctx)


class NodeOption(click.Option):
    """An option that is a variable, too. Kubernetes sets NAME_PORT=tcp://ADDRESS:PORT in every container for a service
    NAME, and Docker's links that and NAME_NAME=/ALIAS: a service called peerkv-node does not say which port to use."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        value = super().resolve_envvar_value(ctx)
        link = self.name == "own_name" and _OF_A_SERVICE.match(os.environ.get("PEERKV_NODE_PORT", ""))
        if value is None or not (_OF_A_SERVICE.match(value) or (link and value.startswith("/"))):
            return value
        variable = self.envvar or f"{ctx.auto_envvar_prefix}_{str(self.name).upper()}"
        text = f"{variable}={escaped(value)} is ignored: Kubernetes and Docker set such for a service;"
        ctx.meta.setdefault(IGNORED, []).append(f"{text} {self.opts[0]} says it, too")
        return None


class Connect(click.Command):
    """Options may stand behind ADDRESS; behind COMMAND words are its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        address = next((number for number, word in enumerate(args) if not word.startswith("-")), len(args))
        behind = args[address + 1 :]
        command = next((number for number, word in enumerate(behind) if not word.startswith("-")), len(behind))
        ours = [*args[:address], *behind[:command]]
        for word in ours:
            if word != "--" and not any(
                word in (*option.opts, *option.secondary_opts) for option in self.get_params(ctx)
            ):
                raise click.NoSuchOption(word, ctx=ctx)
        return super().parse_args(ctx, [*ours, *args[address : address + 1], *behind[command:]])


class Faces(click.Group):
    """A traceback is never what a person sees, nor does output that cannot be shown end a command that was done."""

    def invoke(self, ctx: click.Context) -> Any:
        escape_what_streams_lack()
        try:
            try:
                return super().invoke(ctx)
            finally:
                _flush()
        except BaseExceptionGroup as group:
            _tell(first_of(group))
        except (Exception, KeyboardInterrupt) as error:
            _tell(error)


def _flush() -> None:
    """Here and not when Python ends, where an error could not be told."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _tell(error: BaseException) -> NoReturn:
    match error:
        case click.ClickException() | click.exceptions.Exit() | click.Abort():
            raise error
        case KeyboardInterrupt():
            raise click.Abort from None
        case OSError(errno=errno.EPIPE):  # who read our output has gone: click ends quietly
            raise error
        case OSError():
            what = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{what}{error.strerror or error}") from None
        case Unreachable() | ConnectionLost():
            raise click.ClickException(str(error)) from None
        case Exception() if not os.environ.get(_TRACEBACK):
            text = f"{type(error).__name__}: {escaped(str(error))} (a fault of peerkv: {_TRACEBACK}=1 shows where)"
            raise click.ClickException(text) from None
        case _:
            raise error
