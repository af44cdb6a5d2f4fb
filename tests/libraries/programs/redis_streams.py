"""redis-py's streams: XADD, XREAD, groups"""

import sys

import redis

with redis.Redis(port=int(sys.argv[1])) as client:
    client.flushdb()
    first = client.xadd("stream", {"a": 1})
    assert client.xlen("stream") == 1
    assert client.xread({"stream": 0})[0][1][0][0] == first
    client.xgroup_create("stream", "group", id="0")
    assert client.xreadgroup("group", "me", {"stream": ">"})
    assert client.xack("stream", "group", first) == 1
