"""Django's sessions in a Redis cache"""

import sys

import django
from django.conf import settings

settings.configure(
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    INSTALLED_APPS=["django.contrib.sessions"],
    SECRET_KEY="x",
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{sys.argv[1]}",
        }
    },
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402

session = SessionStore()
session["user"] = 5
session.save()
again = SessionStore(session.session_key)
assert again["user"] == 5
again.cycle_key()
assert SessionStore(session.session_key).load() == {}
assert SessionStore(again.session_key)["user"] == 5
again.flush()
