"""What a key may hold, and the algebra of its changes.

A value is bytes (a string) or a `Collection`, of which there is one room per type. What a command wants done to a key
is a **body**: bytes put them, None drops the key, and a **patch** `(name, *arguments)` is done to what is there. It is
applied exactly once, to exactly the value that it was made for (protocol rule A2), so it need not be idempotent; on
whatever node, it must leave the same. So a change of a collection costs what it changes, and not the collection.

Collections are changed in place: who wants to keep what one holds now takes a copy (`parts`, or a reply's list).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

PART_BYTES: Final = 1 << 16
"""A value travels in parts of about so many bytes, and one item more."""

Patch: TypeAlias = tuple[Any, ...]
"""(name, arguments: bytes and integers of 63 bits and a sign)"""


class Collection(ABC):
    """A value that is not a string."""

    __slots__ = ()

    TYPE: ClassVar[str]
    """As TYPE answers."""
    STAYS: ClassVar[bool] = False
    """Whether a key holds one that has no elements."""

    @abstractmethod
    def __len__(self) -> int:
        """Elements; a collection without any is none: it vanishes, unless it `STAYS`."""

    @abstractmethod
    def parts(self) -> Iterator[Patch]:
        """Patches that, one after another, make it out of nothing, each of about `PART_BYTES`. What they hold is as it
        was when the iteration began, whatever becomes of the collection meanwhile."""

    @abstractmethod
    def copy(self) -> Collection:
        """Another one that holds the same."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes of memory, about; from a few elements, if there are many."""


Value: TypeAlias = bytes | Collection
Body: TypeAlias = bytes | Patch | None

Apply: TypeAlias = Callable[[Any, Sequence[Any]], Value | None]
"""(value or None, arguments) -> the value, changed in place or another one; an empty collection that does not stay, or
None: no key."""


class _Kind(NamedTuple):
    apply: Apply
    fixed: tuple[type, ...]
    each: tuple[type, ...]


_PATCHES: Final[dict[str, _Kind]] = {}


def patch(name: str, *fixed: type, each: tuple[type, ...] = ()) -> Callable[[Apply], Apply]:
    """Makes a function a kind of patch: its arguments are of these types (bytes or int), and then any number of times
    of those of `each`."""

    def add(apply: Apply) -> Apply:
        assert name not in _PATCHES, name
        _PATCHES[name] = _Kind(apply, fixed, each)
        return apply

    return add


def patched(value: Value | None, body: Patch) -> Value | None:
    """What a patch makes of a value. Raises ValueError, TypeError or the like if it was made for another one."""
    found = _PATCHES[body[0]].apply(value, body[1:])
    if found is None or type(found) is bytes or len(found) or found.STAYS:  # type: ignore[union-attr]
        return found
    return None


_SHAPES: Final[dict[tuple[str, int], tuple[type, ...]]] = {}
"""(name, length) -> what patches of it are made of, of those that have come lately."""
_SHAPE_MAX: Final = 16
"""Longer ones are looked at item by item, so that there are few shapes."""


def checked(content: Any) -> Patch:
    """A patch that has come over a wire. Raises ValueError for what is none. Hot."""
    if type(content) is not list or not content or type(content[0]) is not str:
        raise ValueError("not a patch")
    found = tuple(content)
    shape = _SHAPES.get((found[0], len(found)))
    if shape is None:
        shape = _shape(found[0], len(found))
    if tuple(map(type, found)) != shape:
        raise ValueError(f"not what the patch {found[0]} takes")
    return found


def _shape(name: str, length: int) -> tuple[type, ...]:
    if name not in _PATCHES:
        raise ValueError("not a patch")
    _, fixed, each = _PATCHES[name]
    rest = length - 1 - len(fixed)
    if rest < 0 or (rest % len(each) if each else rest):
        raise ValueError(f"not as many arguments as the patch {name} has")
    shape = (str, *fixed, *each * (rest // len(each) if each else 0))
    if length <= _SHAPE_MAX:
        _SHAPES[name, length] = shape
    return shape


def size_of(value: Value | None) -> int:
    """Bytes, about."""
    if type(value) is bytes:
        return len(value)
    return 0 if value is None else value.size  # type: ignore[union-attr]


def size_of_body(body: Body) -> int:
    """Bytes that a body takes to travel, about."""
    if type(body) is tuple:
        if len(body) > _SHAPE_MAX and type(body[-1]) is bytes:
            try:  # of nothing but bytes in a third of the time
                return sum(map(len, body))
            except TypeError:
                pass
        return sum([len(argument) if type(argument) is bytes else 8 for argument in body])
    return 0 if body is None else len(body)


def each_of(name: str, items: Iterable[Sequence[Any]], first: str = "") -> Iterator[Patch]:
    """Items as patches of about `PART_BYTES` each, the first of which may have another name. For `Collection.parts`."""
    arguments: list[Any] = [first or name]
    size = 0
    for item in items:
        arguments += item
        size += sum([len(part) if type(part) is bytes else 8 for part in item]) + 8
        if size >= PART_BYTES:
            yield tuple(arguments)
            arguments, size = [name], 0
    if len(arguments) > 1:
        yield tuple(arguments)


# -- patches that are made of what other keys hold

Look: TypeAlias = Callable[[bytes], Value | None]
"""What a key of the slot holds."""
Derive: TypeAlias = Callable[[Look, Sequence[Any]], Value | None]
"""(what keys hold, arguments) -> the value, which shares nothing with theirs that is ever changed."""

OF_OTHERS: Final[dict[str, Derive]] = {}
"""By name those patches that put what becomes of what other keys of the slot hold, whatever was there. (See `Slot`: all
others know of one key only.) As all owners hold the same where a change is applied (A2), it need not travel."""


def patch_of_others(name: str, *fixed: type, each: tuple[type, ...] = ()) -> Callable[[Derive], Derive]:
    """As `patch`, for one of those."""

    def add(derive: Derive) -> Derive:
        patch(name, *fixed, each=each)(_of_others)
        OF_OTHERS[name] = derive
        return derive

    return add


def _of_others(_value: Value | None, _arguments: Sequence[Any]) -> Value | None:
    raise ValueError("only a slot knows what its keys hold")


def derived(look: Look, body: Patch) -> Value | None:
    """What a patch of `OF_OTHERS` puts. Raises ValueError, TypeError or the like if they do not hold what it is for."""
    return OF_OTHERS[body[0]](look, body[1:])


COPY: Final = "copy"
"""Hold what another key holds."""
MOVE: Final = "move"
"""Likewise, where the other key is dropped by the same operation, so that it is the very same value."""
KEEP: Final[Patch] = ("keep",)


@patch_of_others(COPY, bytes)
def _copy(look: Look, arguments: Sequence[Any]) -> Value | None:
    value = look(arguments[0])
    return value.copy() if isinstance(value, Collection) else value


@patch_of_others(MOVE, bytes)
def _move(look: Look, arguments: Sequence[Any]) -> Value | None:
    return look(arguments[0])


@patch("keep")
def _keep(value: Value | None, _arguments: Sequence[Any]) -> Value | None:
    """Another deadline, or none, for the value that is there."""
    return value
