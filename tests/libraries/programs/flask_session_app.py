"""A session that lives on the server"""

import sys

import redis
from flask import Flask, session
from flask_session import Session

app = Flask("app")
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis(port=int(sys.argv[1])), SECRET_KEY="x")
Session(app)


@app.route("/")
def index() -> str:
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


client = app.test_client()
assert [client.get("/").text for _ in range(3)] == ["1", "2", "3"]
assert app.test_client().get("/").text == "1"
