"""The Redis protocol, RESP2 and RESP3: requests out of a client's bytes, replies as Python values and as bytes."""

from peerkv.resp.replies import OK, Prepared, Replies, Reply, ReplyError, Verbatim, encode, encode_all
from peerkv.resp.requests import Requests, encode_request, parse_integer, split_words

__all__ = [
    "OK",
    "Prepared",
    "Replies",
    "Reply",
    "ReplyError",
    "Requests",
    "Verbatim",
    "encode",
    "encode_all",
    "encode_request",
    "parse_integer",
    "split_words",
]
