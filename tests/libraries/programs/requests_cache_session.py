"""A session whose responses are kept in Redis"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import redis
from requests_cache import CachedSession, RedisCache

asked = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_arguments: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
connection = redis.Redis(port=int(sys.argv[1]))
with CachedSession(backend=RedisCache("requests", connection=connection), expire_after=60) as session:
    session.cache.clear()
    url = f"http://127.0.0.1:{server.server_port}/page"
    found = [session.get(url) for _ in range(3)]
    assert [response.text for response in found] == ["hello"] * 3
    assert [response.from_cache for response in found] == [False, True, True]
    assert asked == ["/page"]
    assert list(session.cache.urls()) == [url]
server.shutdown()
