"""`python -m bench.push`: what a node sends without being asked, beside a redis-server in the same run.

Messages: one publisher and 100 subscribers, spread over the nodes; messages delivered per second, the processor time of
a server for each, and how many were lost. Waking: BLPOP at one node, LPUSH at another; from when it is sent until the
blocked client has its reply. Waiting: 10,000 clients in BLPOP; the memory of each, the processor time that the node
takes while nothing happens, and what it takes to push something for each.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench import processes
from bench.load import encode
from bench.processes import alone, ask, cluster, listener, processor_s, redis, resident
from peerkv.shell.process import prepare

SUBSCRIBERS = 100
PAYLOAD = b"x" * 64
CHANNEL = b"channel"
MESSAGE = b"*3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n$64\r\n%s\r\n" % PAYLOAD
PUBLISH = encode(b"PUBLISH", CHANNEL, PAYLOAD)
PIPELINES = (1, 16)
"""Messages of the publisher whose number of subscribers it waits for together."""
ROUND_S = 2.0
LOST_AFTER_S = 5.0
"""What has not come by then comes no more."""
BLOCKED_AFTER_S = 0.004
"""A client that has asked for BLPOP does wait by then."""
WAKES_A_ROUND = 200
AT_ONCE = 500
"""Clients begin to wait, and are served, so many at a time."""
WAITS_WITHIN_S = 20.0
SETTLE_S = 6.0
"""Homes go meanwhile to the node that all have asked."""
REST_S = 5.0
SPARE_CLIENTS = 100
READ_BYTES = 1 << 18


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@dataclass
class Server:
    """A redis-server, a node, or a cluster: who is asked there, and which processes it is."""

    name: str
    ports: list[int]
    rates: dict[int, list[float]] = field(default_factory=dict)
    costs: dict[int, list[float]] = field(default_factory=dict)
    """Messages per second, and processor time of all processes for each, by the publisher's pipeline."""
    lost: int = 0
    waits: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    """Of the rounds."""
    pushes: list[float] = field(default_factory=list)
    """What an LPUSH takes that nobody waits for."""

    def __post_init__(self) -> None:
        self.processes = [listener(port) for port in self.ports]

    def port(self, number: int) -> int:
        return self.ports[number % len(self.ports)]

    def processor_s(self) -> float:
        return sum(map(processor_s, self.processes))


@contextlib.contextmanager
def subscribed(server: Server) -> Iterator[dict[int, socket.socket]]:
    """Subscribers at all nodes, by descriptor."""
    with contextlib.ExitStack() as stack:
        found = {}
        for number in range(SUBSCRIBERS):
            connection = stack.enter_context(connect(server.port(number)))
            connection.sendall(encode(b"SUBSCRIBE", CHANNEL))
            assert connection.recv(READ_BYTES).startswith(b"*3\r\n$9\r\nsubscribe")
            found[connection.fileno()] = connection
        time.sleep(0.2)
        yield found


def fan_out(server: Server, pipeline: int, seconds: float) -> None:
    """A round: its rate, its cost, and what was lost of it."""
    with subscribed(server) as subscribers, connect(server.port(0)) as publisher, select.epoll() as epoll:
        for fd in (publisher.fileno(), *subscribers):
            epoll.register(fd, select.EPOLLIN)
        burst = PUBLISH * pipeline
        sent = awaited = unanswered = received = 0
        began = last = time.perf_counter()
        used = server.processor_s()
        until = began + seconds
        while True:
            now = time.perf_counter()
            if not unanswered and now < until:
                publisher.sendall(burst)
                unanswered = pipeline
                sent += pipeline
                awaited += pipeline * SUBSCRIBERS * len(MESSAGE)
            elif now > max(until, last + LOST_AFTER_S) or (now > until and received == awaited):
                break
            for fd, _ in epoll.poll(0.1):
                if fd in subscribers:
                    received += len(subscribers[fd].recv(READ_BYTES))
                    last = time.perf_counter()
                else:
                    unanswered -= publisher.recv(READ_BYTES).count(b"\r\n")
        delivered = received // len(MESSAGE)
        server.rates.setdefault(pipeline, []).append(delivered / (last - began))
        server.costs.setdefault(pipeline, []).append((server.processor_s() - used) / delivered)
        server.lost += sent * SUBSCRIBERS - delivered


def wake(server: Server, count: int) -> None:
    """A round: what blocked clients have waited since there was something for them."""
    with connect(server.port(0)) as pushing, connect(server.port(1)) as blocked:
        waits = []
        for number in range(count):
            key = b"wake:%d" % number
            blocked.sendall(encode(b"BLPOP", key, b"0"))
            time.sleep(BLOCKED_AFTER_S)
            began = time.perf_counter()
            pushing.sendall(encode(b"LPUSH", key, b"x"))
            assert blocked.recv(READ_BYTES).startswith(b"*2\r\n")
            waits.append(time.perf_counter() - began)
            assert pushing.recv(READ_BYTES) == b":1\r\n"
            began = time.perf_counter()
            pushing.sendall(encode(b"LPUSH", b"nobody:%d" % number, b"x"))
            assert pushing.recv(READ_BYTES).startswith(b":")
            server.pushes.append(time.perf_counter() - began)
    server.waits += waits
    server.medians.append(statistics.median(waits))


def wait(server: Server, clients: int, *, one_key: bool) -> list[str]:
    """A row: bytes of each connection, and of its waiting; processor time at rest, and of a push to each."""

    def memory() -> float:
        return sum(map(resident, server.processes)) / clients

    for port in server.ports:
        ask(port, "CONFIG", "SET", "maxclients", str(clients + SPARE_CLIENTS))
    with contextlib.ExitStack() as stack:
        before = memory()
        connections = [stack.enter_context(connect(server.port(0))) for _ in range(clients)]
        for connection in connections:
            connection.sendall(encode(b"PING"))
        for connection in connections:
            assert connection.recv(READ_BYTES) == b"+PONG\r\n"
        time.sleep(1.0)
        idle, used = memory(), server.processor_s()
        time.sleep(REST_S)
        idle_busy = (server.processor_s() - used) / REST_S
        keys = [b"list" if one_key else b"list:%d" % number for number in range(clients)]
        for number, (connection, key) in enumerate(zip(connections, keys, strict=True), 1):
            connection.sendall(encode(b"BLPOP", key, b"0"))
            until = time.monotonic() + WAITS_WITHIN_S
            while number % AT_ONCE == 0 and not _blocked(server, number):
                time.sleep(0.05)
                if time.monotonic() > until:
                    sys.exit(f"bench: of {number} clients some do not wait: {_answers(connections[:number])}")
        time.sleep(SETTLE_S)
        waiting = memory()
        used = server.processor_s()
        time.sleep(REST_S)
        busy = (server.processor_s() - used) / REST_S
        pushing = stack.enter_context(connect(server.port(1)))
        epoll = stack.enter_context(select.epoll())
        by_fd = {connection.fileno(): connection for connection in connections}
        for fd in by_fd:
            epoll.register(fd, select.EPOLLIN)
        used = server.processor_s()
        for first in range(0, clients, AT_ONCE):
            part = keys[first : first + AT_ONCE]
            pushing.sendall(b"".join([encode(b"LPUSH", key, b"x") for key in part]))
            left = len(part)
            while left:
                for fd, _ in epoll.poll():
                    assert by_fd[fd].recv(READ_BYTES).startswith(b"*2\r\n")
                    left -= 1
        served = (server.processor_s() - used) / clients
    return [
        f"{idle - before:,.0f}",
        f"{waiting - idle:,.0f}",
        f"{100 * idle_busy:.1f} %",
        f"{100 * busy:.1f} %",
        f"{1e6 * served:.0f}",
    ]


def _answers(connections: list[socket.socket]) -> set[bytes]:
    """What those have been answered that have been."""
    found = set()
    for connection in connections:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            found.add(connection.recv(READ_BYTES))
    return found


def _blocked(server: Server, clients: int) -> bool:
    with contextlib.suppress(TimeoutError):
        return b"blocked_clients:%d\r\n" % clients in ask(server.port(0), "INFO", "clients")
    return False


def compare(rounds: int, seconds: float) -> None:
    """Print what messages and waking cost, in rounds that take turns."""
    with contextlib.ExitStack() as stack:
        theirs = Server("redis-server", [stack.enter_context(redis())])
        one = Server("one node alone", [stack.enter_context(alone())])
        members = stack.enter_context(cluster(3))
        three = Server("three nodes", [members.ports[name] for name in members.names])
        servers = (theirs, one, three)
        for _ in range(rounds):
            for pipeline in PIPELINES:
                for server in servers:
                    fan_out(server, pipeline, seconds)
            for server in servers:
                wake(server, WAKES_A_ROUND)
    print(f"\n1 publisher, {SUBSCRIBERS} subscribers, {len(PAYLOAD)} bytes; medians of {rounds} rounds' ratios\n")
    print("| | -P | messages/s | ratio | processor, µs each | ratio | lost |\n|---|---:|---:|---:|---:|---:|---:|")
    for server in servers:
        for pipeline in PIPELINES:
            rates, costs = server.rates[pipeline], server.costs[pipeline]
            row = [f"{statistics.median(rates):,.0f}", ratio(rates, theirs.rates[pipeline])]
            row += [f"{1e6 * statistics.median(costs):.2f}", ratio(costs, theirs.costs[pipeline])]
            print(f"| {server.name} | {pipeline} | " + " | ".join([*row, str(server.lost)]) + " |")
    print("\nBLPOP at one node, LPUSH at another; ms from when it is sent\n")
    print("| | median | ratio | p99 | LPUSH that nobody waits for |\n|---|---:|---:|---:|---:|")
    for server in servers:
        waits = sorted(server.waits)
        median, p99 = statistics.median(waits), waits[len(waits) * 99 // 100]
        row = [f"{1e3 * median:.2f}", ratio(server.medians, theirs.medians), f"{1e3 * p99:.2f}"]
        print(f"| {server.name} | " + " | ".join([*row, f"{1e3 * statistics.median(server.pushes):.2f}"]) + " |")


def ratio(ours: list[float], theirs: list[float]) -> str:
    return f"{statistics.median([own / one for own, one in zip(ours, theirs, strict=True)]):.2f}"


def waiting(clients: int) -> None:
    """Print what it takes to wait."""
    print(f"\n{clients} clients of one node in BLPOP: bytes of memory of all nodes for each, processor time of all\n")
    print("| | connected | and waiting | of a core, connected | waiting | µs to serve each |")
    print("|---|---:|---:|---:|---:|---:|")
    for one_key in (False, True):
        for name in ("redis-server", "one node alone", "three nodes"):
            with contextlib.ExitStack() as stack:
                if name == "three nodes":
                    members = stack.enter_context(cluster(3))
                    ports = [members.ports[node] for node in members.names]
                else:
                    ports = [stack.enter_context(redis() if name == "redis-server" else alone())]
                row = wait(Server(name, ports), clients, one_key=one_key)
            keys = "the same key" if one_key else "distinct keys"
            print(f"| {name}, {keys} | " + " | ".join(row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.push", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=ROUND_S, help="of messages in each round")
    parser.add_argument("--clients", type=int, default=10_000, help="that wait; 0: leave that out")
    options = parser.parse_args()
    prepare()
    processes.READY_WITHIN_S = 60.0
    if options.rounds:
        compare(options.rounds, options.seconds)
    if options.clients:
        waiting(options.clients)


if __name__ == "__main__":
    main()
