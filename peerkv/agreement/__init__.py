"""How the owners of a slot agree: owner's rules, the home that orders writes, the coordinator, and what waits for them."""
