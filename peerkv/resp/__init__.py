"""The Redis protocol, RESP2 and RESP3: requests out of a client's bytes, replies as Python values and as bytes."""

from peerkv.resp.replies import (
    OK,
    CommandError,
    Map,
    Pairs,
    Prepared,
    Replies,
    Reply,
    ReplyError,
    Set,
    Verbatim,
    encode,
    encode_all,
    size_of_replies,
    size_of_reply,
    text_of_double,
)
from peerkv.resp.requests import Requests, encode_request, parse_integer, split_words

__all__ = [
    "OK",
    "CommandError",
    "Map",
    "Pairs",
    "Prepared",
    "Replies",
    "Reply",
    "ReplyError",
    "Requests",
    "Set",
    "Verbatim",
    "encode",
    "encode_all",
    "encode_request",
    "parse_integer",
    "size_of_replies",
    "size_of_reply",
    "split_words",
    "text_of_double",
]
