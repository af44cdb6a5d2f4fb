"""peerkv: a masterless key-value store that speaks the Redis protocol.

The rooms, from the ground up: `resp` and `settings`; `ring` (where slots live), `store` (what a node holds) and
`scripting` (Lua); `kernel` (copies of slots, and the hot paths over them); `gossip` (who is alive), `agreement` (how
the owners of a slot agree) and `commands` (what Redis commands mean); `wire` (bytes between nodes), `transactions`
(several slots at one moment) and `clients` (connections, and which way their commands go); `node`, a whole peer without
I/O. Around it `shell` (the only loop that runs), `config`, and the faces. See docs/architecture.md.
"""

__version__ = "0.1.0"
