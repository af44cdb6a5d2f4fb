"""Which popular libraries are tried, by programs of a few lines, and what each of them still lacks here.

A program's first line says what it tries. It is given the client ports of two nodes, and ends with status 0 if all is
as it should be. What it lacks are those of the commands that it sends to a real redis-server which are not served here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PROGRAMS: Final = {path.stem: path for path in sorted((HERE / "programs").glob("*.py"))}
PINNED: Final = dict(line.split("==") for line in (HERE / "requirements.txt").read_text().splitlines() if "==" in line)
"""Versions of what is installed to be tried."""

LIBRARY: Final = {
    "aiocache_cache": "aiocache",
    "aiocache_many": "aiocache",
    "aiohttp_session_storage": "aiohttp-session",
    "apscheduler_jobs": "APScheduler",
    "arq_jobs": "arq",
    "beaker_cache": "Beaker",
    "bullmq_jobs": "bullmq",
    "cachelib_cache": "cachelib",
    "cashews_cache": "cashews",
    "celery_tasks": "celery",
    "channels_layer": "channels_redis",
    "channels_pubsub_layer": "channels_redis",
    "coredis_client": "coredis",
    "django_cache": "Django",
    "django_cacheops_queries": "django-cacheops",
    "django_redis_cache": "django-redis",
    "django_redis_counters": "django-redis",
    "django_sessions": "Django",
    "dogpile_lock": "dogpile.cache",
    "dogpile_region": "dogpile.cache",
    "dramatiq_actors": "dramatiq",
    "fastapi_cache_app": "fastapi-cache2",
    "faststream_broker": "faststream",
    "flask_caching_app": "Flask-Caching",
    "flask_limiter_app": "Flask-Limiter",
    "flask_session_app": "Flask-Session",
    "hiredis_reader": "hiredis",
    "huey_tasks": "huey",
    "kombu_queue": "kombu",
    "limits_storage": "limits",
    "pottery_types": "pottery",
    "pyrate_limiter_bucket": "pyrate-limiter",
    "python_redis_lock_lock": "python-redis-lock",
    "redis_asyncio": "redis",
    "redis_collections_types": "redis-collections",
    "redis_dict_type": "redis-dict",
    "redis_lock": "redis",
    "redis_lru_cache": "redis-lru",
    "redis_pubsub": "redis",
    "redis_streams": "redis",
    "redis_sync": "redis",
    "redis_transactions": "redis",
    "requests_cache_session": "requests-cache",
    "rq_jobs": "rq",
    "saq_jobs": "saq",
    "slowapi_app": "slowapi",
    "socketio_manager": "python-socketio",
    "starsessions_store": "starsessions",
    "taskiq_list": "taskiq-redis",
    "valkey_py": "valkey",
    "walrus_containers": "walrus",
    "walrus_models": "walrus",
}
"""The library that a program tries."""

LACKS: Final[dict[str, str]] = {}
"""The commands that keep a program from working. Whatever is served from now on is taken out: the program must pass."""


def tried(program: str) -> str:
    """What a program tries."""
    text = ast.get_docstring(ast.parse(PROGRAMS[program].read_text()))
    assert text, f"{program} does not say what it tries"
    return text


def version(program: str) -> str:
    """Of the library that it tries."""
    found = {_plain(name): number for name, number in PINNED.items()}
    return found[_plain(LIBRARY[program])]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def rows() -> list[str]:
    """The table for docs/compatibility.md: by library, what passes first."""
    head = "Tried as they come, on one node of a cluster of three (`tests/libraries`)."
    lines = ["## Popular libraries", "", head, "", "| library | version | what is tried | |", "|---|---|---|---|"]
    for program in sorted(PROGRAMS, key=lambda name: (LIBRARY[name].lower(), name in LACKS, name)):
        lacks = ", ".join(f"`{command}`" for command in LACKS.get(program, "").split())
        answer = f"lacks {lacks}" if lacks else "passes"
        lines.append(f"| {LIBRARY[program]} | {version(program)} | {tried(program)} | {answer} |")
    return lines
