"""A queue over Redis"""

import sys

from kombu import Connection

with Connection(f"redis://127.0.0.1:{sys.argv[1]}/0") as connection:
    queue = connection.SimpleQueue("kombu")
    queue.clear()
    queue.put({"a": 1})
    message = queue.get(timeout=5)
    assert message.payload == {"a": 1}
    message.ack()
    queue.close()
