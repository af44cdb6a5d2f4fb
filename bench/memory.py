"""`python -m bench.memory`: bytes per key of a million 64-byte values on one node, beside redis-server's."""

from __future__ import annotations

import argparse
import socket

from bench.load import encode
from bench.processes import alone, ask, listener, redis, resident

VALUE = b"x" * 64
BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    for name, server in (("redis-server", redis), ("peerkv", alone)):
        with server() as port:
            pid = listener(port)
            before = resident(pid)
            _fill(port, options.keys)
            size = ask(port, "DBSIZE")
            assert size == b":%d\r\n" % options.keys, size
            print(f"{name:14}{(resident(pid) - before) / options.keys:8.0f} bytes per key", flush=True)


def _fill(port: int, keys: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for first in range(0, keys, BATCH):
            count = min(BATCH, keys - first)
            connection.sendall(b"".join(encode(b"SET", b"key:%012d" % n, VALUE) for n in range(first, first + count)))
            left = len(b"+OK\r\n") * count
            while left:
                left -= len(connection.recv(65536))


main()
