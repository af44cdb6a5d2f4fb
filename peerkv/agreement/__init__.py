"""How the owners of a slot agree: an owner's rules, the home that orders writes, the coordinator that asks for both."""
