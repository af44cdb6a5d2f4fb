"""The whole stack beside a real redis-server: random sequences of all commands that are served, byte for byte."""
