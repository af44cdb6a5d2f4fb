"""What the cases share: nodes as processes of their own on loopback, and a client of a few lines. Python stdlib only.

A case is called with the path of the peerkv binary, ends with `finish(right, text)`, which prints what was seen as the
last line and exits 0 (right behaviour) or 1 (wrong). Exit 2: it could not be tried here.
"""

import atexit
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import NoReturn

BINARY = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ""
if not os.access(BINARY, os.X_OK):
    sys.exit("usage: CASE PATH-OF-PEERKV")
WORK = tempfile.mkdtemp(prefix="field-")
STARTED = []
_reserved = []


def free_port():
    """A client port whose peer port (plus 10000) is free, too, and that no other case will take while this one runs."""
    for port in random.sample(range(22000, 22900), 900):
        lock = open(os.path.join(tempfile.gettempdir(), f"field-port-{port}"), "w")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for number in (port, port + 10000):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind(("127.0.0.1", number))
        except OSError:
            lock.close()
            continue
        _reserved.append(lock)
        return port
    return cannot("no port from 22000 to 22899 is free")


def clean_env(**extra):
    """Ours without what would configure peerkv by accident."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PEERKV")}, **extra}


class Node:
    def __init__(self, *args, port=None, name=None, env=None, prefix=(), log=None, **popen):
        self.port = port or free_port()
        self.name = name or f"n{self.port}"
        self.args = args
        self.env = env
        self.prefix = list(prefix)
        self.popen = popen
        self.log = log or os.path.join(WORK, f"{self.name}-{self.port}.log")
        self.start()

    def start(self, *more):
        command = [*self.prefix, BINARY, "node", "--port", str(self.port), "--name", self.name, *self.args, *more]
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env or clean_env(), **self.popen
            )
        STARTED.append(self.process)
        return self

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait(self, seconds):
        """Its exit status; None if it still runs."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def logged(self):
        with open(self.log, errors="replace") as file:
            return file.read()


def stop_all():
    for process in STARTED:
        if process.poll() is None:
            try:
                process.send_signal(signal.SIGCONT)
                process.kill()
            except ProcessLookupError:
                pass
    for process in STARTED:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            pass
    shutil.rmtree(WORK, ignore_errors=True)


atexit.register(stop_all)


class Error(Exception):
    """An error reply."""


class Connection:
    def __init__(self, port, host="127.0.0.1", timeout=10.0):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        self.socket.sendall(request(*words))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed by the server")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return Error(rest.decode(errors="replace"))
        if kind in b":(":
            return int(rest)
        if kind == b"_":
            return None
        if kind in b"$=":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind in b"*~>":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        if kind == b"%":
            return {repr(self.read()): self.read() for _ in range(int(rest))}
        raise ConnectionError(f"no reply of RESP: {line!r}")

    def __call__(self, *words):
        self.send(*words)
        return self.read()

    def close(self):
        self.file.close()
        self.socket.close()


def request(*words):
    words = [word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape") for word in words]
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


def ask(port, *words, host="127.0.0.1", timeout=10.0):
    """One command on a connection of its own: reply, Error, or the OSError that came instead."""
    try:
        connection = Connection(port, host, timeout)
        try:
            return connection(*words)
        finally:
            connection.close()
    except OSError as error:
        return Error(f"{type(error).__name__}: {error}")


def until(what, seconds, every=0.3):
    """What becomes true within some seconds, or the last false."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found or time.monotonic() > end:
            return found
        time.sleep(every)


def status(port, host="127.0.0.1"):
    reply = ask(port, "PEERKV", "STATUS", host=host, timeout=5)
    return json.loads(reply) if isinstance(reply, bytes) else {}


def whole(port, data_nodes, host="127.0.0.1"):
    """All copies are there, at so many data nodes."""
    found = status(port, host)
    owners = [member for member in found.get("members", []) if member["owner"] and member["liveness"] == "alive"]
    return (
        len(owners) == data_nodes
        and 0 < found["slots"] == found["slots_with_all_copies"]
        and not found["changing"]
        and not found["joining"]
    )


def cluster(count, *args, env=None, within=120, name="db"):
    """A node by itself and others that join it one after another."""
    nodes = [Node(*args, name=f"{name}1", env=env)]
    until(lambda: whole(nodes[0].port, 1), within)
    for number in range(2, count + 1):
        nodes.append(Node("--join", f"127.0.0.1:{nodes[0].port}", *args, name=f"{name}{number}", env=env))
    if not until(lambda: all(whole(node.port, count) for node in nodes), within):
        cannot(f"a cluster of {count} nodes was not ready within {within} s")
    return nodes


def run(*words, seconds=20, env=None, **kwargs):
    """A face of peerkv, to its end: (exit status, bytes of stdout, bytes of stderr); status None: it did not end."""
    try:
        done = subprocess.run(
            [BINARY, *map(os.fspath, words)],
            check=False,
            capture_output=True,
            timeout=seconds,
            env=env or clean_env(),
            **({} if "input" in kwargs or "stdin" in kwargs else {"stdin": subprocess.DEVNULL}),
            **kwargs,
        )
    except subprocess.TimeoutExpired as late:
        return None, late.stdout or b"", late.stderr or b""
    return done.returncode, done.stdout, done.stderr


def finish(right, text) -> NoReturn:
    stop_all()
    print(("right: " if right else "WRONG: ") + text, flush=True)
    sys.stdout.flush()
    os._exit(0 if right else 1)


def cannot(text) -> NoReturn:
    stop_all()
    print("not tried: " + text, flush=True)
    os._exit(2)
