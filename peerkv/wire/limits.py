"""How long what travels may be: bounds that are looked at before anything of that size is made."""

from __future__ import annotations

from typing import Final

DEPTH_MAX: Final = 4
"""Lists in lists: a message, its claims, a claim, and one to spare."""
NUMBER_MAX: Final = (1 << 63) - 1
"""No process, generation, incarnation or id is greater; what is counted up from one has room."""
NAME_CHARACTERS_MAX: Final = 64
HOST_CHARACTERS_MAX: Final = 255
"""The longest name that DNS knows."""
REASON_CHARACTERS_MAX: Final = 500
CLAIMS_MAX: Final = 8192
"""Claims in one message. A state exchange of so many fits into the 1 MiB that a first frame may have."""
FRAME_BYTES: Final = 4 << 20
"""What a node has to say to a peer in one turn goes in several frames if it is more."""
