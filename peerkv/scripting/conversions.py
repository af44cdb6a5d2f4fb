"""Values of Lua and replies: what a script hands to commands, what it gets from them, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from peerkv.resp import (
    Map,
    Named,
    NullArray,
    Pairs,
    Prepared,
    Reply,
    ReplyError,
    Set,
    Verbatim,
    text_of_double,
)

Table: TypeAlias = Callable[[Any], Any]
"""Makes a table of Lua's out of a list or a dict."""

INTEGER_MIN: Final = -(1 << 63)
NESTING_MAX: Final = 128


def argument_of(value: object) -> bytes | None:
    """What a script hands to a command, as bytes; None: it is neither text nor a number."""
    kind = type(value)
    if kind is bytes:
        return value  # type: ignore[return-value]
    if kind is int:
        return b"%d" % value  # type: ignore[str-format]
    if kind is float:
        return text_of_double(value)  # type: ignore[arg-type]
    return None


def to_lua(reply: Reply, protocol: int, table: Table) -> Any:
    """A reply within others, or one that is neither a status nor an error, as a script sees it."""
    kind = type(reply)
    if kind is bytes or kind is int:
        return reply
    if reply is None or kind is NullArray:
        return False if protocol == 2 else None
    if kind is list:
        return table(_items(reply, protocol, table))  # type: ignore[arg-type]
    if kind is bool:
        return reply if protocol == 3 else int(reply)  # type: ignore[arg-type]
    if isinstance(reply, str):
        return table({b"ok": reply.encode("utf-8", "surrogateescape")})
    if isinstance(reply, float):
        return table({b"double": reply}) if protocol == 3 else text_of_double(reply)
    if isinstance(reply, ReplyError):
        return table({b"err": reply.text.encode("utf-8", "surrogateescape")})
    if isinstance(reply, dict):
        reply = Map([item for pair in reply.items() for item in pair])
    if isinstance(reply, Pairs):
        if protocol == 3:
            pairs: list[Reply] = [reply.items[at : at + 2] for at in range(0, len(reply.items), 2)]
            return to_lua(pairs, protocol, table)
        return table(_items(reply.items, protocol, table))
    if isinstance(reply, Named):
        return to_lua(reply.pairs if protocol == 2 else Map(reply.items), protocol, table)
    if isinstance(reply, (Map, Set)):
        items = _items(reply.items, protocol, table)
        if protocol == 2:
            return table(items)
        if isinstance(reply, Set):
            return table({b"set": table(dict.fromkeys(items, True))})
        return table({b"map": table(dict(zip(items[::2], items[1::2], strict=True)))})
    if isinstance(reply, Verbatim):
        if protocol == 2:
            return reply.text
        return table({b"verbatim_string": table({b"format": b"txt", b"string": reply.text})})
    assert isinstance(reply, Prepared), f"{kind} is no reply"
    return to_lua(reply.reply, protocol, table)


def _items(items: Sequence[Reply], protocol: int, table: Table) -> list[Any]:
    return [item if type(item) is bytes or type(item) is int else to_lua(item, protocol, table) for item in items]


def from_lua(tokens: Iterator[Any]) -> Reply:
    """The next value of those that a script has returned, which sandbox.lua has made tokens of."""
    token = next(tokens)
    if token is not True:
        return token if type(token) is bytes else integer_of(token)
    match next(tokens):
        case 0:
            return None
        case 1:
            return True
        case 2:
            return False
        case 3:
            return [from_lua(tokens) for _ in range(next(tokens))]
        case 4:
            status: bytes = next(tokens)
            return status.decode("utf-8", "surrogateescape")
        case 5:
            return error_of(next(tokens))
        case 6:
            return float(next(tokens))
        case 7:
            return Map([from_lua(tokens) for _ in range(2 * next(tokens))])
        case 8:
            return Set([from_lua(tokens) for _ in range(next(tokens))])
        case 9:
            number: bytes = next(tokens)
            return number
        case code:
            assert code == 10, f"{code} is no kind of token"
            return Verbatim(next(tokens))


def integer_of(number: float) -> int:
    """As C has it on most machines: towards zero; what is no number, or too large for 64 bits, is the least integer."""
    if type(number) is int:
        return number if -INTEGER_MIN > number >= INTEGER_MIN else INTEGER_MIN
    return int(number) if INTEGER_MIN <= number < -INTEGER_MIN else INTEGER_MIN


def error_of(text: bytes) -> ReplyError:
    """An error's text as a script has it."""
    return ReplyError(text.decode("utf-8", "surrogateescape"))
