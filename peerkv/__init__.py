"""peerkv: a masterless key-value store that speaks the Redis protocol.

The rooms, from the ground up: `resp` and `settings`; `ring` (where slots live) and `store` (what a node holds);
`gossip` (who is alive), `agreement` (how the owners of a slot agree) and `commands` (what Redis commands mean); `wire`
(bytes between nodes) and `clients` (connections, and which way their commands go); `node`, a whole peer without I/O.
Around it `shell` (the only loop that runs), `config` and `client`, and the faces `cli` and
`repl`. See docs/architecture.md.
"""

__version__ = "0.1.0"
