"""Jobs with results, done by a worker in the same process"""

import sys

import redis
from rq import Queue, SimpleWorker

connection = redis.Redis(port=int(sys.argv[1]))
connection.flushdb()
queue = Queue(connection=connection)
job = queue.enqueue("operator.add", 1, 2)
SimpleWorker([queue], connection=connection).work(burst=True)
assert job.return_value() == 3
