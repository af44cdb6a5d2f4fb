"""redis-py's default pipelines (MULTI), WATCH, and `transaction`"""

import sys

import redis

with redis.Redis(port=int(sys.argv[1]), decode_responses=True) as client:
    client.flushdb()
    with client.pipeline() as pipeline:
        pipeline.set("a", 1).incr("a").get("a")
        assert pipeline.execute() == [True, 2, "2"]

    def transfer(pipeline: redis.client.Pipeline) -> None:
        value = int(pipeline.get("a"))
        pipeline.multi()
        pipeline.set("b", value + 1)

    client.transaction(transfer, "a")
    assert client.get("b") == "3"
