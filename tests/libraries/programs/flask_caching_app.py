"""Memoized functions, cached views, many keys"""

import sys

from flask import Flask
from flask_caching import Cache

app = Flask("app")
cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_PORT": int(sys.argv[1])})
calls = []


@cache.memoize(30)
def double(number: int) -> int:
    calls.append(number)
    return 2 * number


@app.route("/")
@cache.cached(timeout=30)
def index() -> str:
    calls.append("view")
    return "hello"


with app.test_request_context():
    cache.clear()
    assert double(4) == double(4) == 8
    cache.delete_memoized(double)
    assert double(4) == 8
    assert calls == [4, 4]
    assert cache.set_many({"a": 1, "b": 2})
    assert cache.get_many("a", "b") == [1, 2]
    assert cache.delete_many("a", "b")
client = app.test_client()
assert client.get("/").text == client.get("/").text == "hello"
assert calls.count("view") == 1
