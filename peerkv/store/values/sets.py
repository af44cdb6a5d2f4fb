"""Sets: names in the order in which they came."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection as Elements
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from peerkv.store.values import Look, Patch, Value, each_of, patch, patch_of_others
from peerkv.store.values.keyed import Keyed, Large, Small, fits, marshalled

ADD: Final = "sadd"
REMOVE: Final = "srem"
STORE: Final = "sstore"
UNITE: Final = "sunite"


class Set(Keyed):
    """What a key of the type set holds."""

    __slots__ = ()

    TYPE = "set"

    @property
    @abstractmethod
    def members(self) -> dict[bytes, None]:
        """In order; not to be changed."""

    @abstractmethod
    def has(self, wanted: Sequence[bytes]) -> list[bool]:
        """Of each of these whether it is a member."""

    def parts(self) -> Iterator[Patch]:
        members = list(self.members)
        return each_of(ADD, ((member,) for member in members))


class SmallSet(Small, Set):
    """A few members; never changed."""

    __slots__ = ()

    def names(self) -> Elements[bytes]:
        return self.unpacked()  # type: ignore[no-any-return]

    @property
    def members(self) -> dict[bytes, None]:
        return dict.fromkeys(self.unpacked())

    def has(self, wanted: Sequence[bytes]) -> list[bool]:
        # to look along the tuple costs a third of making a dict of it
        members = self.names() if len(wanted) < 3 else self.members
        return [member in members for member in wanted]


class LargeSet(Large, Set):
    """Many members."""

    __slots__ = ()

    @property
    def members(self) -> dict[bytes, None]:
        return self.held

    def has(self, wanted: Sequence[bytes]) -> list[bool]:
        return [member in self.held for member in wanted]

    def copy(self) -> LargeSet:
        return LargeSet(dict(self.held))


def _made(members: dict[bytes, None]) -> Set | None:
    found = marshalled(tuple(members))
    return SmallSet(found) if found is not None else LargeSet(members)


@patch(ADD, each=(bytes,))
def _add(value: Value | None, arguments: Sequence[Any]) -> Set | None:
    """These are members, too, behind those that are there."""
    new = dict.fromkeys(arguments)
    if isinstance(value, LargeSet):
        value.held.update(new)
        return value
    if value is not None and not isinstance(value, SmallSet):
        raise TypeError("not a set")
    members = value.members if value is not None else {}
    members.update(new)
    return _made(members) if fits(arguments) else LargeSet(members)


@patch(REMOVE, each=(bytes,))
def _remove(value: Value | None, arguments: Sequence[Any]) -> Set | None:
    """These, which are members, are none any more."""
    if isinstance(value, LargeSet):
        value.about_to_remove(arguments)
        for member in arguments:
            del value.held[member]
        return value
    if not isinstance(value, SmallSet):
        raise TypeError("not a set")
    members = value.members
    for member in arguments:
        del members[member]
    return _made(members) if members else None


@patch(STORE, each=(bytes,))
def _store(_value: Value | None, arguments: Sequence[Any]) -> Set | None:
    """A set of these, whatever was there."""
    members = dict.fromkeys(arguments)
    return _made(members) if fits(arguments) else LargeSet(members)


def united(sets: Iterable[dict[bytes, None]]) -> dict[bytes, None]:
    """The members that any of these sets has, those of the first one first."""
    members: dict[bytes, None] = {}
    for found in sets:
        members.update(found)
    return members


@patch_of_others(UNITE, bytes, each=(bytes,))
def _unite(look: Look, keys: Sequence[Any]) -> Set:
    """A set, a large one, of the members that any of those has which these keys hold."""
    sets: list[dict[bytes, None]] = []
    for found in map(look, keys):
        if not isinstance(found, Set):
            raise TypeError("not a set")
        sets.append(found.members)
    return LargeSet(united(sets))
