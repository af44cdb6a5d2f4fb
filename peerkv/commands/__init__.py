"""What Redis commands mean: a table, and pure functions of a slot's cells. Knows nothing of distribution."""

from peerkv.commands import (
    admin,
    bitmaps,
    dump,
    geo,
    hashes,
    hyperloglogs,
    keys,
    lists,
    objects,
    scripts,
    sets,
    sort,
    sortedsets,
    strings,
    transactions,
)

__all__ = [
    "admin",
    "bitmaps",
    "dump",
    "geo",
    "hashes",
    "hyperloglogs",
    "keys",
    "lists",
    "objects",
    "scripts",
    "sets",
    "sort",
    "sortedsets",
    "strings",
    "transactions",
]
