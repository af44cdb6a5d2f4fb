"""Measurements, each one command: `python -m bench`, `python -m bench.gossip`, `python -m bench.memory`."""
