"""What the hot paths touch of a slot, and nothing else does at such a rate: its cells, its position, its promise."""
