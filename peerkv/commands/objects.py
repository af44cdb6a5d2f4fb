"""What can be told of a value beside what it holds: OBJECT, and MEMORY USAGE."""

from __future__ import annotations

from collections.abc import Sequence
from sys import getsizeof
from typing import Final

from peerkv.commands.access import SYNTAX, integer, value_of
from peerkv.commands.strings import argument_of
from peerkv.commands.table import COMMANDS, Effect, Kind, command, help_of, subcommand_of
from peerkv.resp import ReplyError, parse_integer
from peerkv.store.cell import Cells
from peerkv.store.values import Collection, Value

READ = Kind.READ

NO_LFU: Final = ReplyError(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between"
    " policies at runtime LRU and LFU data will take some time to adjust."
)


@command(
    "object",
    READ,
    summary="Tells how a value is held.",
    subcommands="encoding freq help idletime refcount",
)
def object_(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    row = COMMANDS["object"]
    subcommand = subcommand_of(row, request)
    if isinstance(subcommand, ReplyError):
        return (), subcommand
    if subcommand.name == "object|help":
        return (), help_of(row)
    value = value_of(cells, request[2], now)
    if value is None:
        return (), None
    match subcommand.name:
        case "object|encoding":
            return (), encoding_of(value)
        case "object|freq":
            return (), NO_LFU
        case "object|idletime":
            return (), 0  # nobody notes when a key is read
        case _:
            return (), 1


_EMBEDDED_MAX: Final = 44
_FEW: Final = {"list": 4096, "set": 512, "hash": 512, "zset": 128}
"""More elements than these are not held compactly in Redis, by its defaults, whatever they are."""
_LARGE: Final = {"list": b"quicklist", "set": b"hashtable", "hash": b"hashtable", "zset": b"skiplist"}
_LISTPACK_SET_MAX: Final = 128
_LISTPACK_MEMBER_BYTES_MAX: Final = 64
_LISTPACK_BYTES_MAX: Final = 8192
"""Of a list."""


def encoding_of(value: Value) -> bytes:
    """How Redis 7.2 would hold a value by its defaults, if it had been made as it is now: what has become large there
    may stay large when it shrinks."""
    if not isinstance(value, Collection):
        if parse_integer(value) is not None:
            return b"int"
        return b"embstr" if len(value) <= _EMBEDDED_MAX else b"raw"
    kind = value.TYPE
    if kind == "stream":
        return b"stream"
    if len(value) > _FEW[kind]:
        return _LARGE[kind]
    strings = [part for _, *arguments in value.parts() for part in arguments if type(part) is bytes]
    if kind == "list":
        return b"listpack" if 7 + sum(map(_listpack_bytes, strings)) <= _LISTPACK_BYTES_MAX else b"quicklist"
    if kind == "set" and all(parse_integer(member) is not None for member in strings):
        return b"intset"
    few = kind != "set" or len(value) <= _LISTPACK_SET_MAX
    if few and max(map(len, strings)) <= _LISTPACK_MEMBER_BYTES_MAX:
        return b"listpack"
    return _LARGE[kind]


def _listpack_bytes(item: bytes) -> int:
    """That an element takes in a listpack."""
    number = parse_integer(item)
    if number is None:
        return len(item) + (2 if len(item) < 64 else 4 if len(item) < 4096 else 8)
    if 0 <= number < 128:
        return 2
    return 3 if -4096 <= number < 4096 else 2 + (number.bit_length() + 8) // 8


_TABLE_BYTES: Final = 100
"""For a key's place in its slot's table, which is half empty in the mean."""


@command("memory", READ, summary="Tells how much memory a key takes.", subcommands="help usage")
def memory(cells: Cells, request: Sequence[bytes], now: int) -> Effect:
    row = COMMANDS["memory"]
    subcommand = subcommand_of(row, request)
    if isinstance(subcommand, ReplyError):
        return (), subcommand
    if subcommand.name == "memory|help":
        return (), help_of(row)
    options = iter(request[3:])
    for argument in options:
        if argument.upper() != b"SAMPLES" or integer(argument_of(options)) < 0:
            return (), SYNTAX
    key = request[2]
    value = value_of(cells, key, now)
    if value is None:
        return (), None
    cell = cells[key]
    held = value.size if isinstance(value, Collection) else getsizeof(value)
    return (), _TABLE_BYTES + getsizeof(key) + getsizeof(cell) + getsizeof(cell[0]) + held
