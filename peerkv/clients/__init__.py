"""Clients: their connections, the order of what they ask for, and the commands that are no functions of a slot."""
