"""Lua scripts: what they see, how one is run, and what becomes of its values. Knows of no commands and of no cells."""

from peerkv.scripting.engine import (
    Call,
    Engine,
    Function,
    Killed,
    Library,
    Limits,
    Script,
    Stopped,
    TooLong,
    sha1_of,
)

__all__ = [
    "Call",
    "Engine",
    "Function",
    "Killed",
    "Library",
    "Limits",
    "Script",
    "Stopped",
    "TooLong",
    "sha1_of",
]
