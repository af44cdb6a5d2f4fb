"""A wall clock that a case may set, in nodes that it starts (time.time of a Python process only)."""

import os

from kit import WORK, clean_env

_SITE = """
import os, time
_real = time.time
def shifted():
    with open(os.environ["FIELD_CLOCK"]) as file:
        return _real() + float(file.read() or 0)
time.time = shifted
"""


class Clock:
    def __init__(self, seconds=0.0):
        site = os.path.join(WORK, "clock")
        os.mkdir(site)
        with open(os.path.join(site, "sitecustomize.py"), "w") as file:
            file.write(_SITE)
        self._path = os.path.join(WORK, "offset")
        self.env = clean_env(PYTHONPATH=site, FIELD_CLOCK=self._path)
        self.set(seconds)

    def set(self, seconds):
        with open(self._path + ".new", "w") as file:
            file.write(str(seconds))
        os.replace(self._path + ".new", self._path)
