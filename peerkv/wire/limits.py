"""How long what travels may be: bounds that are looked at before anything of that size is made."""

from __future__ import annotations

from typing import Final

NAME_CHARACTERS_MAX: Final = 64
HOST_CHARACTERS_MAX: Final = 255
"""The longest name that DNS knows."""
REASON_CHARACTERS_MAX: Final = 500
CLAIMS_MAX: Final = 8192
"""Claims in one message. A state exchange of so many fits into the 1 MiB that a first frame may have."""
