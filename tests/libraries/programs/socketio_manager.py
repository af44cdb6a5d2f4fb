"""What one process emits reaches another, by a RedisManager"""

import sys
import threading
import time

import socketio

url = f"redis://127.0.0.1:{sys.argv[1]}/0"
heard = threading.Event()


class Listening(socketio.RedisManager):
    def _handle_emit(self, message: dict) -> None:
        heard.set()


server = socketio.Server(client_manager=Listening(url), async_mode="threading")
server.manager.initialize()
until = time.monotonic() + 5
while not heard.wait(0.1):
    assert time.monotonic() < until
    socketio.RedisManager(url, write_only=True).emit("event", {"n": 1})
