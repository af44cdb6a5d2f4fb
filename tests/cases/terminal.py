"""A face of peerkv at a terminal of its own."""

import os
import pty
import select
import time

from kit import BINARY, clean_env

PROMPT = b"Ctrl-D leaves"
"""Below an empty one."""
BUSY_S = 30
"""How long a busy machine may take to show a prompt."""


def at_terminal(words, steps, env=None, prefix=()):
    """Run it; steps are bytes to type, each once there is a prompt. What the terminal was sent, and the wait status
    or None, if it did not end by itself."""
    command = [*prefix, BINARY, *words]
    env = {"TERM": "xterm", **(env or clean_env())}
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, env)
    shown = b""

    def look(seconds, until=None):
        """What comes; False once that is the end."""
        nonlocal shown
        end, new = time.monotonic() + seconds, b""
        while time.monotonic() < end and (until is None or until not in new):
            if select.select([fd], [], [], 0.1)[0]:
                try:
                    data = os.read(fd, 65536)
                except OSError:
                    data = b""
                if not data:
                    return False
                if b"\x1b[6n" in data:  # where is the cursor?
                    os.write(fd, b"\x1b[1;1R")
                shown += data
                new += data
        look_shortly = until is not None and until in new
        return look(0.3) if look_shortly else True  # the terminal is the prompt's a moment later

    for typed in steps:
        if not look(BUSY_S, PROMPT):
            break
        os.write(fd, typed)
    look(10 if steps else BUSY_S)
    gone, status = os.waitpid(pid, os.WNOHANG)
    if not gone:
        time.sleep(0.5)
        gone, status = os.waitpid(pid, os.WNOHANG)
    if not gone:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        status = None
    os.close(fd)
    return shown, status
