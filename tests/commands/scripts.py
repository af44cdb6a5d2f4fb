"""Scripts on a keyspace of one slot, and on a real redis-server."""

from __future__ import annotations

from hashlib import sha1

from peerkv.commands import scripts
from peerkv.kernel.slot import Copies
from peerkv.resp import CommandError, Reply, encode
from tests.commands.keyspace import NOW, Theirs

RUNS = {
    b"EVAL": scripts.eval_,
    b"EVAL_RO": scripts.eval_ro,
    b"FCALL": scripts.fcall,
    b"FCALL_RO": scripts.fcall_ro,
}


class Scripted:
    """Runs scripts on cells, one after another."""

    def __init__(self, database: int = 0, skew: int = 0) -> None:
        self.slot = Copies(1).add(0)
        self.now = NOW
        self._database = database
        self._skew = skew
        self._runs = 0

    def run(self, *request: bytes, library: bytes = b"") -> Reply:
        """What is answered; what is changed is applied."""
        self._runs += 1
        chance = sha1(b"%d" % self._runs).digest()[:8]
        argument = scripts.handed(chance, self._skew, self._database, library)
        try:
            changes, reply = RUNS[request[0]](self.slot.cells, scripts.scripted(list(request), argument), self.now)
        except CommandError as error:
            return error.reply
        for change in changes:
            self.slot.apply(self.slot.position + 1, [change])
        return reply

    def eval(self, script: bytes | str, keys: tuple[bytes, ...] = (), argv: tuple[bytes, ...] = ()) -> Reply:
        source = script.encode("utf-8", "surrogateescape") if isinstance(script, str) else script
        return self.run(b"EVAL", source, b"%d" % len(keys), *keys, *argv)


def raw(client: Theirs, *request: bytes) -> bytes:
    """What a real server answers, as bytes."""
    connection = client._connection
    sock = connection._sock
    sock.sendall(b"*%d\r\n" % len(request) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in request))
    content = b""
    while not _is_whole(content):
        content += sock.recv(1 << 20)
    return content


def _is_whole(content: bytes) -> bool:
    try:
        return _behind(content, 0) <= len(content)
    except ValueError:
        return False


def _behind(content: bytes, at: int) -> int:
    end = content.index(b"\r\n", at)
    kind, rest = content[at : at + 1], content[at + 1 : end]
    at = end + 2
    if kind in b"$=":
        return at + int(rest) + 2 if int(rest) >= 0 else at
    if kind in b"*~%":
        for _ in range(max(int(rest), 0) * (2 if kind == b"%" else 1)):
            at = _behind(content, at)
    return at


def in_resp(reply: Reply, protocol: int = 2) -> bytes:
    """A reply of ours, as bytes."""
    return encode(reply, protocol)
