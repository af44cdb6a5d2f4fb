"""Replies as Python values, their RESP2 and RESP3 bytes, and requests out of a client's bytes (hiredis).

| Python | RESP2 | RESP3 |
|---|---|---|
| None | null bulk | null |
| int | integer | integer |
| bytes | bulk string | bulk string |
| str | simple string | simple string |
| float | bulk string | double |
| bool | integer | boolean |
| list | array | array |
| dict | flat array | map |
| Verbatim | bulk string | verbatim text |
| ReplyError | error | error |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ReplyError:
    """An error reply: its text begins with the code, e.g. `ERR syntax error`."""

    text: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text for people (INFO): a verbatim string where the protocol has such."""

    text: bytes


Reply: TypeAlias = "None | int | float | bool | bytes | str | list[Reply] | dict[Reply, Reply] | Verbatim | ReplyError"

OK = "OK"
