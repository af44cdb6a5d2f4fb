"""All types of values, iterators of SCAN and its kin, pipelines without MULTI, both protocols"""

import sys

import redis

for number, port in enumerate(map(int, sys.argv[1:])):
    with redis.Redis(port=port, protocol=2 + number % 2, decode_responses=True) as client:
        client.flushdb()
        assert client.set("s", "1", ex=100)
        assert client.incr("s") == 2
        assert client.mset({"a": "1", "b": "2"})
        assert client.mget("a", "b", "c") == ["1", "2", None]
        assert client.hset("h", mapping={"f": "1", "g": "2"}) == 2
        assert client.hgetall("h") == {"f": "1", "g": "2"}
        assert client.rpush("l", *"abc") == 3
        assert client.lrange("l", 0, -1) == ["a", "b", "c"]
        assert client.lpop("l", 2) == ["a", "b"]
        assert client.sadd("t", *"xyz") == 3
        assert client.smembers("t") == {"x", "y", "z"}
        assert client.zadd("z", {"m": 1, "n": 2.5}) == 2
        assert client.zrange("z", 0, -1, withscores=True) in ([("m", 1.0), ("n", 2.5)], [["m", 1.0], ["n", 2.5]])
        assert client.zincrby("z", 1, "m") == 2.0
        assert client.setbit("bits", 7, 1) == 0
        assert client.bitcount("bits") == 1
        assert client.pfadd("p", *"abc") == 1
        assert client.pfcount("p") == 3
        assert client.geoadd("g", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
        assert round(client.geodist("g", "Palermo", "Catania", "km")) == 166
        assert set(client.scan_iter(count=3)) == {"s", "a", "b", "h", "l", "t", "z", "bits", "p", "g"}
        assert dict(client.hscan_iter("h")) == {"f": "1", "g": "2"}
        assert set(client.sscan_iter("t")) == {"x", "y", "z"}
        assert dict(client.zscan_iter("z")) == {"m": 2.0, "n": 2.5}
        pipeline = client.pipeline(transaction=False)
        for turn in range(200):
            pipeline.hincrby(f"h{turn % 5}", "n", 1)
        assert pipeline.execute()[-5:] == [40] * 5
        assert client.sort("l", alpha=True) == ["c"]
        assert client.dump("s") is not None
        assert client.object("encoding", "s") == "int"
