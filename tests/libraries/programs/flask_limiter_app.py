"""A view that may be asked twice a minute"""

import sys

from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

app = Flask("app")
limiter = Limiter(get_remote_address, app=app, storage_uri=f"redis://127.0.0.1:{sys.argv[1]}")


@app.route("/")
@limiter.limit("2 per minute")
def index() -> str:
    return "hello"


limiter.reset()
client = app.test_client()
assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
