"""Server-sent events as these protocols write them."""

from typing import Any

import msgspec

from aitbc.kernel.http.event_data import one_line

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Nothing between us and the client may gather a stream."""
encoder = msgspec.json.Encoder(enc_hook=str)


def data_line(value: Any) -> bytes:
    """An event of data alone."""
    return b"data: " + one_line(encoder.encode(value)) + b"\n\n"


def event_line(name: str, value: Any) -> bytes:
    """An event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + one_line(encoder.encode(value)) + b"\n\n"
