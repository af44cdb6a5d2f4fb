"""Its packing and its reader on a plain socket, RESP3"""

import socket
import sys

import hiredis

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as connection:
    reader = hiredis.Reader()
    requests = [("HELLO", "3"), ("FLUSHDB",), ("HSET", "h", "f", "1"), ("HGETALL", "h"), ("SADD", "t", "x")]
    requests += [("SMEMBERS", "t"), ("ZADD", "z", "1.5", "m"), ("ZSCORE", "z", "m"), ("GET", "none")]
    connection.sendall(b"".join(map(hiredis.pack_command, requests)))
    replies = []
    while len(replies) < len(requests):
        reader.feed(connection.recv(1 << 16))
        while (reply := reader.gets()) is not False:
            replies.append(reply)
    assert replies[0][b"proto"] == 3
    assert replies[1:] == [b"OK", 1, {b"f": b"1"}, 1, [b"x"], 1, 1.5, None] or replies[5] == {b"x"}
