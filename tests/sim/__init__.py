"""Whole clusters in virtual time: `python -m tests.sim --seeds 200`."""
