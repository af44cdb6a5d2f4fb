"""The bytes of replies, beside a real redis-server's: maps, sets, pairs, doubles and both kinds of null where that has
them. Scores are such as all its versions print alike."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from peerkv.resp import encode
from tests.commands.keyspace import Ours, requests_of, sequences

SEQUENCES = """
hset h a 1 | hgetall h | hgetall none | hkeys h | hvals h | hmget h a z | hget h z | hexists h a | hscan h 0 | hlen h

hset h a 1 | hrandfield h | hrandfield h 1 | hrandfield h 1 withvalues | hrandfield h -2 withvalues | hrandfield h -2

hrandfield none | hrandfield none 1 | hrandfield none 1 withvalues | hincrbyfloat h a 1.5 | hincrby h b 1 | hdel h a b

sadd s x | smembers s | smembers none | sinter s | sinter none | sunion s | sdiff s | smismember s x y | sismember s x
sscan s 0

sadd s x | srandmember s | srandmember s 1 | srandmember s -2 | srandmember s 5 | srandmember none | srandmember none 1

rpush l a b c d | lrange l 0 -1 | lpop l | lpop l 2 | lpop none | lpop none 1 | lpop none 0 | lpop l 0 | rpop none 2
lindex l 9 | llen l

rpush l a b | lpos l a | lpos l q | lpos l q count 1 | lpos l a count 1 | lmpop 1 l left | lmpop 1 none left
lmpop 2 none l right

rpush l a b | lmove l m left left | lmove none m left left | rpoplpush none l | linsert l before b q
linsert l before x q | lset l 0 z

zadd z 1 a 2.5 b inf c | zscore z b | zscore z q | zscore z c | zmscore z a q | zrange z 0 -1 | zrange z 0 -1 withscores
zcard z

zadd z 1 a 2.5 b | zrange none 0 -1 withscores | zrank z a | zrank z q | zrank none a | zincrby z 1.5 a
zadd z incr 1 a | zadd z ch 4 a

zadd z 1 a 2 b 3 c 4 d 5 e 6 f | zadd z nx incr 1 a | zpopmin z | zpopmin z 1 | zpopmax z | zpopmax z 2 | zpopmin none
zpopmin none 1

zadd z 1 a 2 b 3 c | zmpop 1 z min | zmpop 1 none min | zmpop 1 z max count 2 | zpopmin z 0 | zadd z 1 a | zpopmin z 0
zcount z 0 1

zadd z 1 a | zrandmember z | zrandmember z 1 | zrandmember z 1 withscores | zrandmember z -2 withscores
zrandmember none

zadd z 1 a | zrandmember none 1 | zrandmember none 1 withscores | zrandmember z 5 withscores
zrandmember z 0 withscores | zscan z 0

zadd z 1 a 2 b | zunion 1 z | zunion 1 z withscores | zinter 2 z none withscores | zdiff 1 z withscores | zintercard 1 z
zscan none 0

zadd z 1 a 2 b | zrangebyscore z 1 2 withscores | zrevrange z 0 -1 withscores | zrangestore d z 0 -1 | zunionstore d 1 z
zlexcount z - +

geoadd g 13.361389 38.115556 P 15.087269 37.502669 C | geodist g P C | geodist g P q | geohash g P q | geopos none a
geopos g q

geoadd g 13.361389 38.115556 P | geosearch g fromlonlat 13 38 byradius 100 km withdist withhash
geosearch none frommember P byradius 1 m

geoadd g 13.361389 38.115556 P | georadius g 13 38 100 km | georadius g 13 38 100 km withdist count 1
georadius g 13 38 1 km withdist

sadd s x | sintercard 1 s | smove s t x | spop s | spop s 1 | spop t 0 | spop t 1 | spop t | spop t 1 | sinterstore s t
exists s
"""


@pytest.fixture
def raw(redis_port: int, protocol: int) -> Iterator[socket.socket]:
    """A connection to an empty redis-server that speaks RESP2 or RESP3."""
    with socket.create_connection(("127.0.0.1", redis_port), timeout=10) as connection:
        connection.sendall(b"HELLO %d\r\nFLUSHALL\r\n" % protocol)
        received = b""
        while not received.endswith(b"+OK\r\n"):
            received += connection.recv(1 << 16)
        yield connection


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("sequence", sequences(SEQUENCES), ids=lambda sequence: sequence[:60])
def test_replies_are_the_same_bytes(raw: socket.socket, protocol: int, sequence: str) -> None:
    ours = Ours()
    for request in requests_of(sequence):
        mine = encode(ours.ask(*request), protocol)
        raw.sendall(b" ".join(request) + b"\r\nPING\r\n")
        theirs = b""
        while not theirs.endswith(b"+PONG\r\n"):
            theirs += raw.recv(1 << 16)
        assert mine == theirs.removesuffix(b"+PONG\r\n"), request
