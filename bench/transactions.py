"""`python -m bench.transactions`: what transactions and scripts cost, as ratios to a redis-server in the same run; and
transfers between accounts while a node is killed.

"Redis 1+2" is a redis-server with two replicas, where each request is followed by WAIT 1, which is as safe as that can
be asked to be. Keys are of each client alone, but for transfers.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import selectors
import socket
import statistics
import time
from collections.abc import Callable

import hiredis

from bench import load
from bench.load import encode
from bench.processes import Cluster, alone, cluster, redis, redis_with_replicas

CLIENTS = 50
SECONDS = 2.0
VALUE = b"x" * 64
UNLOCK = b"if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
LIMIT = (
    b"local n = redis.call('incr', KEYS[1])\nif n == 1 then redis.call('pexpire', KEYS[1], ARGV[1]) end\n"
    b"if n > tonumber(ARGV[2]) then return 0 end\nreturn 1"
)
ACCOUNTS = 10_000
TRANSFERS_S = 12.0


def _multi(keys: list[bytes]) -> bytes:
    return encode(b"MULTI") + b"".join([encode(b"SET", key, VALUE) for key in keys]) + encode(b"EXEC")


def _multi_reply(count: int) -> int:
    return len(b"+OK\r\n" + b"+QUEUED\r\n" * count + b"*%d\r\n" % count + b"+OK\r\n" * count)


TESTS: dict[str, tuple[Callable[[int, int], bytes], int]] = {
    "SET": (lambda client, turn: encode(b"SET", b"s%d.%d" % (client, turn % 100), VALUE), len(b"+OK\r\n")),
    "MULTI, 2 keys, 1 slot": (
        lambda client, turn: _multi([b"{m%d.%d}%c" % (client, turn % 100, end) for end in b"ab"]),
        _multi_reply(2),
    ),
    "MULTI, 2 keys, 2 slots": (
        lambda client, turn: _multi([b"m%d.%d.%c" % (client, turn % 100, end) for end in b"ab"]),
        _multi_reply(2),
    ),
    "MULTI, 10 keys, 10 slots": (
        lambda client, turn: _multi([b"t%d.%d.%c" % (client, turn % 20, end) for end in b"abcdefghij"]),
        _multi_reply(10),
    ),
    "... the same 2 for all": (lambda _client, _turn: _multi([b"hot.a", b"hot.b"]), _multi_reply(2)),
    "RENAME over slots": (
        lambda client, turn: (
            encode(b"SET", b"r%d.%d" % (client, turn % 100), VALUE)
            + encode(b"RENAME", b"r%d.%d" % (client, turn % 100), b"n%d.%d" % (client, turn % 100))
        ),
        len(b"+OK\r\n+OK\r\n"),
    ),
    "SET + EVAL, lock release": (
        lambda client, turn: (
            encode(b"SET", b"l%d.%d" % (client, turn % 100), b"token", b"PX", b"10000")
            + encode(b"EVAL", UNLOCK, b"1", b"l%d.%d" % (client, turn % 100), b"token")
        ),
        len(b"+OK\r\n:1\r\n"),
    ),
    "EVAL, rate limiter": (
        lambda client, turn: encode(b"EVAL", LIMIT, b"1", b"c%d.%d" % (client, turn % 100), b"60000", b"1000000"),
        len(b":1\r\n"),
    ),
}


def ratios(rounds: int) -> None:
    """Print them."""
    with contextlib.ExitStack() as stack:
        ports = {
            "redis-server": stack.enter_context(redis()),
            "redis 1+2, WAIT 1": stack.enter_context(redis_with_replicas(2)),
            "one node alone": stack.enter_context(alone()),
            "one node of three": stack.enter_context(cluster(3)).ports["db1"],
        }
        print(f"\nmedians of {rounds} rounds, {CLIENTS} clients\n")
        print(f"{'':26}" + "".join([f"{name:>20}" for name in ports]))
        for test, (request, reply_bytes) in TESTS.items():
            rates: dict[str, list[float]] = {name: [] for name in ports}
            for _ in range(rounds):
                for name, port in ports.items():
                    rates[name].append(_rate(name, port, request, reply_bytes))
            base = rates["redis-server"]
            text = f"{test:26}{statistics.median(base):>17,.0f} /s"
            for name in list(ports)[1:]:
                found = statistics.median([own / one for own, one in zip(rates[name], base, strict=True)])
                text += f"{found:>20.2f}"
            print(text, flush=True)


def _rate(name: str, port: int, request: Callable[[int, int], bytes], reply_bytes: int) -> float:
    if "WAIT" not in name:
        return load.rate(port, request, reply_bytes, clients=CLIENTS, seconds=SECONDS)
    wait = encode(b"WAIT", b"1", b"0")

    def waiting(client: int, turn: int) -> bytes:
        return request(client, turn) + wait

    return load.rate(port, waiting, reply_bytes + len(b":1\r\n"), clients=CLIENTS, seconds=SECONDS)


class Transfer:
    """A client that moves money between two accounts, again and again: WATCH, GET, MULTI, SET, EXEC."""

    def __init__(self, bank: Bank, number: int) -> None:
        self.bank = bank
        self.rng = random.Random(number)
        self.accounts: list[bytes] = []
        self.replies: list[object] = []
        self.awaited = 0
        self.began = 0.0
        self.connect(number % len(bank.ports))

    def connect(self, at: int) -> None:
        self.at = at
        self.connection = socket.create_connection(("127.0.0.1", self.bank.ports[at]))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader(replyError=Exception)
        self.bank.selector.register(self.connection, selectors.EVENT_READ, self)
        self.begin()

    def begin(self) -> None:
        self.accounts = [b"account:%d" % number for number in self.rng.sample(range(ACCOUNTS), 2)]
        self.began = time.perf_counter()
        self.send([encode(b"WATCH", *self.accounts), *[encode(b"GET", account) for account in self.accounts]])

    def send(self, requests: list[bytes]) -> None:
        self.replies = []
        self.awaited = len(requests)
        self.connection.sendall(b"".join(requests))

    def readable(self) -> None:
        try:
            data = self.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.lost()
            return
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.replies.append(reply)
        if len(self.replies) >= self.awaited:
            self.answered()

    def lost(self) -> None:
        """Its node is gone; what it had asked to be run may have been."""
        bank = self.bank
        bank.selector.unregister(self.connection)
        self.connection.close()
        bank.lost += self.awaited > 3
        bank.alive.discard(self.at)
        self.connect(self.rng.choice(sorted(bank.alive)))

    def answered(self) -> None:
        bank = self.bank
        if any(isinstance(reply, Exception) for reply in self.replies):
            bank.errors[str(next(r for r in self.replies if isinstance(r, Exception)))[:40]] = (
                bank.errors.get(str(next(r for r in self.replies if isinstance(r, Exception)))[:40], 0) + 1
            )
            self.begin()
        elif self.awaited == 3:
            balances = [int(reply or 100) for reply in self.replies[1:]]  # type: ignore[call-overload]
            amount = self.rng.randint(1, 10)
            one, other = self.accounts
            sets = [
                encode(b"SET", one, b"%d" % (balances[0] - amount)),
                encode(b"SET", other, b"%d" % (balances[1] + amount)),
            ]
            self.send([encode(b"MULTI"), *sets, encode(b"EXEC")])
        else:
            if self.replies[-1] is None:
                bank.aborted += 1
            else:
                bank.done += 1
                now = time.perf_counter()
                bank.gap = max(bank.gap, now - bank.last)
                bank.last = now
                bank.longest = max(bank.longest, now - self.began)
            self.begin()


class Bank:
    """The accounts, and who moves money between them."""

    def __init__(self, members: Cluster) -> None:
        self.ports = [members.ports[name] for name in members.names]
        self.alive = set(range(len(self.ports)))
        self.selector = selectors.DefaultSelector()
        self.done = self.aborted = self.lost = 0
        self.errors: dict[str, int] = {}
        self.gap = self.longest = 0.0
        self.last = time.perf_counter()


def transfers() -> None:
    """Print how many there were, and what became of the sum."""
    with cluster(3) as members:
        members.await_whole()
        bank = Bank(members)
        with socket.create_connection(("127.0.0.1", bank.ports[0])) as connection:
            for first in range(0, ACCOUNTS, 500):
                pairs = [part for n in range(first, first + 500) for part in (b"account:%d" % n, b"100")]
                connection.sendall(encode(b"MSET", *pairs))
                connection.recv(100)
        clients = [Transfer(bank, number) for number in range(CLIENTS)]
        began = bank.last = time.perf_counter()
        killed = False
        while (now := time.perf_counter()) < began + TRANSFERS_S:
            if not killed and now > began + TRANSFERS_S / 2:
                killed = True
                before = bank.done / (now - began), bank.gap, bank.aborted
                members.kill(members.names[-1])
            for key, _ in bank.selector.select(0.1):
                key.data.readable()
        rate = bank.done / (time.perf_counter() - began)
        for client in clients:
            client.connection.close()
        time.sleep(1.0)
        reader = hiredis.Reader()
        with socket.create_connection(("127.0.0.1", bank.ports[0])) as connection:
            connection.sendall(encode(b"MGET", *[b"account:%d" % n for n in range(ACCOUNTS)]))
            while (balances := reader.gets()) is False:
                reader.feed(connection.recv(1 << 16))
        print(f"\ntransfers between {ACCOUNTS} accounts by {CLIENTS} clients over 3 nodes, {TRANSFERS_S:g} s,")
        print("one node killed in the middle:")
        print(f"before that {before[0]:,.0f} /s, longest gap {1000 * before[1]:.0f} ms, {before[2]} aborted;")
        print(
            f"in all {bank.done} done, {rate:,.0f} /s, {bank.aborted} aborted, {bank.lost} of unknown outcome, ", end=""
        )
        print(f"errors {bank.errors}; longest gap {1000 * bank.gap:.0f} ms, longest {1000 * bank.longest:.0f} ms;")
        print(f"the sum is {sum(map(int, balances))}, and was {100 * ACCOUNTS}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.transactions", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ratios(options.rounds)
    transfers()


if __name__ == "__main__":
    main()
