"""Functions and queries that are cached, and invalidated"""

import sys

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["cacheops", "django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CACHEOPS_REDIS=f"redis://127.0.0.1:{sys.argv[1]}/1",
    CACHEOPS={"contenttypes.*": {"ops": "all", "timeout": 60}},
    SECRET_KEY="x",
)
django.setup()

from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.core.management import call_command  # noqa: E402

call_command("migrate", verbosity=0)
ContentType.objects.create(app_label="a", model="b")
assert list(ContentType.objects.filter(app_label="a").values_list("model", flat=True)) == ["b"]
ContentType.objects.create(app_label="a", model="c")
assert len(ContentType.objects.filter(app_label="a").cache()) == 2
