"""Measurements, each one command: `python -m bench`, `python -m bench.failover`, `python -m bench.memory`."""
