"""Collections of elements that have names (the members of a set, the fields of a hash): small ones are packed into one
string, large ones are dicts.

**Packed** is what `marshal` makes of the elements. A hash of ten fields is one object of 300 bytes then and not 22 of
1,400; to look one field up all of it is unpacked, 0.7 us for ten fields and 8 us for `SMALL_MAX`. It is never changed:
a change makes another one. What is large stays so until it is empty, or copied in parts.

**A dict** keeps its elements in the order in which they came, on all owners the same. What is drawn at random or listed
page by page needs more than a dict can do in the time of one turn, so an `Urn` and a `ScanIndex` are made when they are
first asked for. They are of this node alone, and no change depends on them: what is drawn is said by its name.
"""

from __future__ import annotations

import marshal
from abc import abstractmethod
from collections.abc import Collection as Elements
from collections.abc import Iterator, Sequence
from itertools import islice
from sys import getsizeof
from typing import Any, Final

from peerkv.store.scan import INDEX_FROM, ScanIndex, page_of
from peerkv.store.values import Collection

SMALL_MAX: Final = 128
"""Elements, as many as Redis packs (hash-max-listpack-entries). So many are listed in one page, too."""
SMALL_BYTES_MAX: Final = 4096
"""Of what is packed: to be copied whenever one element changes."""
_MARSHAL: Final = 2
"""The version that does not look for objects which it has met before: half the time."""
_SAMPLES: Final = 64


def below(most: int, numbers: Iterator[int]) -> int:
    """The next of random numbers of 64 bits as one of 0 up to `most` - 1."""
    return next(numbers) * most >> 64


class Keyed(Collection):
    """Elements with names."""

    __slots__ = ()

    @abstractmethod
    def names(self) -> Elements[bytes]:
        """In order; not to be changed."""

    @abstractmethod
    def drawn(self, numbers: Iterator[int]) -> bytes:
        """One name, all with the same chance. `numbers`: random ones of 64 bits."""

    @abstractmethod
    def page(self, start: int, count: int) -> tuple[list[bytes], int]:
        """About `count` names in the order of `scan_order` from `start` on, and where to go on (0: no more). Of a large
        collection that has not been listed lately there is none in the first pages; of a small one there are all."""

    def sample(self, numbers: Iterator[int], count: int) -> list[bytes]:
        """So many different names, or all there are."""
        total = len(self)
        if count >= total:
            return list(self.names())
        if total > SMALL_MAX and 3 * count < total:
            chosen: dict[bytes, None] = {}
            while len(chosen) < count:
                chosen[self.drawn(numbers)] = None
            return list(chosen)
        return shuffled(self.names(), numbers, count)

    def draws(self, numbers: Iterator[int], count: int) -> list[bytes]:
        """So many names, drawn one after the other and put back."""
        if count < 2 or len(self) > SMALL_MAX:
            return [self.drawn(numbers) for _ in range(count)]
        names = list(self.names())
        return [names[below(len(names), numbers)] for _ in range(count)]


def shuffled(names: Elements[bytes], numbers: Iterator[int], count: int) -> list[bytes]:
    """So many different ones of these, which are more."""
    pool = list(names)
    for at in range(count):
        other = at + below(len(pool) - at, numbers)
        pool[at], pool[other] = pool[other], pool[at]
    return pool[:count]


class Small(Keyed, bytes):
    """What `marshal` makes of the elements, and their number as one byte more."""

    __slots__ = ()

    def __len__(self) -> int:
        return self[-1]

    def unpacked(self) -> Any:
        """The elements anew, for whoever asks."""
        return marshal.loads(self)  # what stands behind is not looked at

    def drawn(self, numbers: Iterator[int]) -> bytes:
        return list(self.names())[below(len(self), numbers)]

    def page(self, _start: int, _count: int) -> tuple[list[bytes], int]:
        return list(self.names()), 0

    def copy(self) -> Small:
        return self

    @property
    def size(self) -> int:
        return self.__sizeof__()


def marshalled(elements: tuple[bytes, ...] | dict[bytes, bytes]) -> bytes | None:
    """What a `Small` of these is made from; None: they are too large, or too many."""
    if len(elements) > SMALL_MAX:
        return None
    found = marshal.dumps(elements, _MARSHAL)
    return found + bytes((len(elements),)) if len(found) < SMALL_BYTES_MAX else None


def fits(arguments: Sequence[bytes]) -> bool:
    """Whether trying to pack what has these elements is worth the time."""
    return len(arguments) <= 2 * SMALL_MAX and sum(map(len, arguments)) < SMALL_BYTES_MAX


class Large(Keyed):
    """A dict by name. Whoever removes elements says so before (`about_to_remove`)."""

    __slots__ = ("_index", "_urn", "held")

    def __init__(self, held: dict[bytes, Any]) -> None:
        self.held = held
        self._urn: Urn | None = None
        self._index: ScanIndex | None = None

    def __len__(self) -> int:
        return len(self.held)

    def names(self) -> Elements[bytes]:
        return self.held

    def drawn(self, numbers: Iterator[int]) -> bytes:
        if self._urn is None:
            self._urn = Urn(self.held)
        return self._urn.drawn(self.held, numbers)

    def page(self, start: int, count: int) -> tuple[list[bytes], int]:
        held = self.held
        if len(held) <= SMALL_MAX:
            return list(held), 0
        if len(held) < INDEX_FROM:
            return page_of(held, start, count)
        if self._index is None or self._index.outgrown(held):
            self._index = ScanIndex(held)
        if not self._index.built(held):
            return [], max(start, 1)
        names, resume = self._index.page(held.__contains__, start, count)
        if not resume:
            self._index = None  # whoever lists it once more has it built once more
        return names, resume

    def about_to_remove(self, names: Sequence[bytes]) -> None:
        """These, each of which is here, will not be. Raises ValueError if one is not."""
        held = self.held
        if not all(map(held.__contains__, names)):
            raise ValueError("what is to be removed is not here")
        if self._urn is not None and not self._urn.about_to_remove(held, names):
            self._urn = None
        if self._index is not None and not self._index.about_to_remove(held, len(names)):
            self._index = None

    @property
    def size(self) -> int:
        return size_of_dict(self.held)


def size_of_dict(held: dict[bytes, Any]) -> int:
    """Bytes of memory of a dict and what it holds, which is not None, from the first few."""
    sample = list(islice(held.items(), _SAMPLES))
    each = sum([getsizeof(name) + (getsizeof(value) if value is not None else 0) for name, value in sample])
    return getsizeof(held) + len(held) * each // max(1, len(sample))


class Urn:
    """A large dict's names in a list, to draw from.

    Who writes the dict need not know of it: names that are new stand at its end. Only what is about to be removed must
    be told. It stays in the list and is drawn in vain, so at half of that the urn is of no use any more.
    """

    __slots__ = ("_gone", "_known", "_names")

    def __init__(self, held: dict[bytes, Any]) -> None:
        self._names = list(held)
        self._known = len(held)
        """So many of the dict's names, the first ones, are in the list."""
        self._gone: set[bytes] = set()
        """What is in the list and not in the dict; when it comes back it is there already."""

    def _note_new(self, held: dict[bytes, Any]) -> None:
        new = len(held) - self._known
        if new:
            for name in islice(reversed(held), new):
                if name in self._gone:
                    self._gone.remove(name)
                else:
                    self._names.append(name)
            self._known = len(held)

    def about_to_remove(self, held: dict[bytes, Any], names: Sequence[bytes]) -> bool:
        """These, which are in the dict now, will not be; False: make another one."""
        self._note_new(held)
        self._known -= len(names)
        self._gone.update(names)
        return 2 * len(self._gone) <= len(self._names)

    def drawn(self, held: dict[bytes, Any], numbers: Iterator[int]) -> bytes:
        """A name that is in the dict, all with the same chance."""
        self._note_new(held)
        names = self._names
        while True:
            name = names[below(len(names), numbers)]
            if name in held:
                return name
