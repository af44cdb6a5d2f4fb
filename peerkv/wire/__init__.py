"""Every byte between nodes: gossip in an envelope of its own, frames on links. What others use of it is named here."""

from peerkv.wire.envelope import MAGIC, Kind, Refusal, encode_versions, kind_of, version_of
from peerkv.wire.frames import Encoder, Frame, Hello, decode_frame, decode_hello, encode_hello
from peerkv.wire.gossip import (
    decode_answer,
    decode_datagram,
    decode_request,
    encode_answer,
    encode_datagram,
    encode_request,
    measure,
)

__all__ = [
    "MAGIC",
    "Encoder",
    "Frame",
    "Hello",
    "Kind",
    "Refusal",
    "decode_answer",
    "decode_datagram",
    "decode_frame",
    "decode_hello",
    "decode_request",
    "encode_answer",
    "encode_datagram",
    "encode_hello",
    "encode_request",
    "encode_versions",
    "kind_of",
    "measure",
    "version_of",
]
