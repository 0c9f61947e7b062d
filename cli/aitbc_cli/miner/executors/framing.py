"""Frames between the pool and a worker: four bytes of length, then that many bytes of JSON."""

import asyncio
import json
import struct
from typing import Any, BinaryIO

# A frame to a worker may carry a picture as base64; a frame from a worker never carries an output over 64 KiB.
TO_WORKER_BYTES = 48 * 1024 * 1024
FROM_WORKER_BYTES = 1024 * 1024

_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """The stream does not hold a frame: it ended within one, or announced one that is too long or no object."""


def encode_frame(message: dict[str, Any], *, limit: int) -> bytes:
    """The frame of a message; raises FrameError beyond the limit and ValueError for what JSON cannot hold."""
    body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > limit:
        raise FrameError(f"A frame of {len(body)} bytes is over the limit of {limit}.")
    return _LENGTH.pack(len(body)) + body


def read_frame(stream: BinaryIO, *, limit: int) -> dict[str, Any] | None:
    """The next message, or None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise FrameError("The stream ended within a frame.")
    length = _checked_length(head, limit)
    body = stream.read(length)
    if len(body) < length:
        raise FrameError("The stream ended within a frame.")
    return _decode(body)


async def receive_frame(stream: asyncio.StreamReader, *, limit: int) -> dict[str, Any]:
    """The next message; raises FrameError at the end of the stream as well."""
    try:
        length = _checked_length(await stream.readexactly(_LENGTH.size), limit)
        return _decode(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise FrameError("The stream ended.") from None


def _checked_length(head: bytes, limit: int) -> int:
    length: int = _LENGTH.unpack(head)[0]
    if length > limit:
        raise FrameError(f"A frame of {length} bytes is over the limit of {limit}.")
    return length


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise FrameError("A frame is not JSON.") from None
    if not isinstance(message, dict):
        raise FrameError("A frame is not an object.")
    return message
