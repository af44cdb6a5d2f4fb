"""Names of a zone `.test` that resolve as a case wants, in nodes that it starts: a file instead of a name server."""

import os

from kit import WORK, clean_env

_SITE = """
import os, socket
_real = socket.getaddrinfo
def getaddrinfo(host, *args, **kwargs):
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and name.endswith(".test"):
        try:
            with open(os.environ["FIELD_HOSTS"]) as file:
                table = dict(line.split() for line in file)
        except OSError:
            table = {}
        if name not in table:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return _real(table[name], *args, **kwargs)
    return _real(host, *args, **kwargs)
socket.getaddrinfo = getaddrinfo
"""


class Names:
    def __init__(self):
        site = os.path.join(WORK, "site")
        os.mkdir(site)
        with open(os.path.join(site, "sitecustomize.py"), "w") as file:
            file.write(_SITE)
        self._hosts = os.path.join(WORK, "hosts")
        self.env = clean_env(PYTHONPATH=site, FIELD_HOSTS=self._hosts)

    def set(self, table):
        with open(self._hosts + ".new", "w") as file:
            file.writelines(f"{name} {address}\n" for name, address in table.items())
        os.replace(self._hosts + ".new", self._hosts)

    def fail(self):
        os.unlink(self._hosts)
