"""`python -m bench.fairness`: what a second client waits while a first one asks a node for much at a time.

A cluster of three (or, with --nodes 1, a node by itself) holds `--keys` keys of 64 bytes. One client sends what is
measured, all of it at once, and reads the replies as fast as they come; another client on the same node has one request
on its way at a time, SET and GET in turn. Its latencies at rest come first. Memory is that of the node that both talk
to: before, at most, and some seconds after.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.load import encode
from bench.processes import cluster, free_port, node_command, running

VALUE = b"x" * 64
PACE_S = 0.002
REST_S = 5.0
AFTER_S = 3.0
BATCH = 1000
END = b"$11\r\nthat is all\r\n"


def key(number: int) -> bytes:
    return b"key:%012d" % number


def _info(_keys: int) -> bytes:
    return encode(b"INFO") * 10_000


def _slots(_keys: int) -> bytes:
    return encode(b"CLUSTER", b"SLOTS") * 4_000


def _gets(keys: int) -> bytes:
    some = b"".join(encode(b"GET", key(random.randrange(keys))) for _ in range(10_000))
    return some * 100


def _listing(_keys: int) -> bytes:
    return encode(b"KEYS", b"*")


def _mget(keys: int) -> bytes:
    return encode(b"MGET", *[key(random.randrange(keys)) for _ in range(100_000)])


def _mset(keys: int) -> bytes:
    return encode(b"MSET", *[part for _ in range(100_000) for part in (key(random.randrange(keys)), VALUE)])


def _expire(keys: int) -> bytes:
    at = b"%d" % (time.time() + 8)
    return b"".join(encode(b"EXPIREAT", key(number), at) for number in range(min(keys, 200_000)))


def _flush(_keys: int) -> bytes:
    return encode(b"FLUSHALL")


LOADS: dict[str, tuple[str, Callable[[int], bytes], float]] = {
    # name: what it is, its bytes, seconds to look on afterwards
    "info": ("10,000 INFO", _info, 0.0),
    "slots": ("4,000 CLUSTER SLOTS", _slots, 0.0),
    "gets": ("1,000,000 GETs in a pipeline", _gets, 0.0),
    "keys": ("KEYS *", _listing, 0.0),
    "mget": ("MGET of 100,000 keys", _mget, 0.0),
    "mset": ("MSET of 100,000 keys", _mset, 0.0),
    "expire": ("200,000 keys expire in one second", _expire, 10.0),
    "flush": ("FLUSHALL", _flush, 0.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=3)
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--within", type=float, default=120.0, help="seconds after which a load is given up")
    options = parser.parse_args()
    with _node(options.nodes) as (port, pid):
        _fill(port, options.keys)
        print(f"{options.keys:,} keys on {options.nodes} node(s)\n")
        print(
            f"{'':36}{'median':>9}{'p99':>9}{'worst':>9}   ms {'took':>11}{'before':>10}{'at most':>9}{'after':>8}   MB"
        )
        second = _Second(port, options.keys)
        second.listen(REST_S)
        _print("at rest", second.latencies)
        for name in options.loads.split(","):
            _measure(port, pid, second, name, options.keys, options.within)


def _measure(port: int, pid: int, second: _Second, name: str, keys: int, within: float) -> None:
    title, make, look_on = LOADS[name]
    data = make(keys)
    memory = _Memory(pid)
    took = multiprocessing.get_context("spawn").Value("d", -1.0)
    first = multiprocessing.get_context("spawn").Process(target=_send, args=(port, data, took), daemon=True)
    first.start()
    second.listen(within, lambda: not first.is_alive())
    if first.is_alive():
        first.kill()
        first.join()
    latencies = second.latencies
    if look_on:
        second.listen(look_on)
        latencies = latencies + second.latencies
    _print(title, latencies, took.value, memory.end())


def _send(port: int, data: bytes, took: object) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.perf_counter()
        sender = threading.Thread(
            target=connection.sendall, args=(data + encode(b"ECHO", b"that is all"),), daemon=True
        )
        sender.start()
        tail = b""
        while not tail.endswith(END):
            got = connection.recv(1 << 18)
            if not got:
                return
            tail = (tail + got)[-len(END) :]
        took.value = time.perf_counter() - began  # type: ignore[attr-defined]


class _Second:
    """The other client."""

    def __init__(self, port: int, keys: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._keys = keys
        self.latencies: list[float] = []

    def listen(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Ask for so long, or until it is over."""
        self.latencies = []
        rng = random.Random(1)
        began = time.perf_counter()
        writes = False
        while time.perf_counter() < began + seconds and not is_over():
            writes = not writes
            name = key(rng.randrange(self._keys))
            asked = time.perf_counter()
            self._connection.sendall(encode(b"SET", name, VALUE) if writes else encode(b"GET", name))
            reply = self._connection.recv(65536)
            self.latencies.append(time.perf_counter() - asked)
            if not reply or reply.startswith(b"-"):
                raise SystemExit(f"bench: the second client was answered {reply!r}")
            time.sleep(PACE_S)


class _Memory:
    """Looks at how much memory a process has, until the end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.most = self._resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._resident())

    def end(self) -> tuple[int, int, int]:
        time.sleep(AFTER_S)
        self._over.set()
        self._thread.join()
        return self.before, self.most, self._resident()

    def _resident(self) -> int:
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise SystemExit("bench: the node has ended")


def _print(title: str, latencies: list[float], took: float = 0.0, memory: tuple[int, int, int] | None = None) -> None:
    if len(latencies) > 1:
        cuts = statistics.quantiles(latencies, n=100)
        figures = (cuts[49], cuts[98], max(latencies))
    else:
        figures = (latencies[0],) * 3 if latencies else (float("nan"),) * 3
    line = f"{title:36}" + "".join(f"{1000 * value:>9.1f}" for value in figures)
    if memory is not None:
        line += f"   {'given up' if took < 0 else f'{took:.1f} s':>14}" + "".join(
            f"{size / 1e6:>9,.0f}" for size in memory
        )
    print(line, flush=True)


@contextlib.contextmanager
def _node(count: int) -> Iterator[tuple[int, int]]:
    """(port, process id) of the node that clients talk to."""
    if count == 3:
        with cluster(3) as members:
            yield members.ports["db1"], members.processes["db1"].pid
    else:
        port = free_port()
        with running(node_command("alone", port)) as (process,):
            time.sleep(3.0)
            yield port, process.pid


def _fill(port: int, keys: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for first in range(0, keys, BATCH):
            numbers = range(first, min(first + BATCH, keys))
            connection.sendall(b"".join(encode(b"SET", key(number), VALUE) for number in numbers))
            left = len(b"+OK\r\n") * len(numbers)
            while left > 0:
                left -= len(connection.recv(65536))


if __name__ == "__main__":
    main()
