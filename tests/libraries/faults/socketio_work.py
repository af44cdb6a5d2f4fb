"""python-socketio: what is emitted at one node reaches a server at another, once and in order."""

import sys
import threading
import time

import socketio

UNTIL = time.monotonic() + float(sys.argv[3])
here, there = (f"redis://127.0.0.1:{port}/0" for port in sys.argv[1:3])
heard: list[int] = []
ready = threading.Event()


class Listening(socketio.RedisManager):
    def _handle_emit(self, message: dict) -> None:
        if message["event"] == "ready":
            ready.set()
        else:
            heard.extend(message["data"])


server = socketio.Server(client_manager=Listening(there), async_mode="threading")
server.manager.initialize()
emitting = socketio.RedisManager(here, write_only=True)
while not ready.wait(0.1):
    assert time.monotonic() < UNTIL
    emitting.emit("ready", None)
print("going", flush=True)
count = 0
while time.monotonic() < UNTIL:
    emitting.emit("event", count)
    count += 1
    time.sleep(0.01)
patience = time.monotonic() + 10
while len(heard) < count and time.monotonic() < patience:
    time.sleep(0.05)
assert heard == list(range(count)), (count, len(heard))
assert count > 8
