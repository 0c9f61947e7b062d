"""The form of an upload, read as it comes: its fields in any order, and one file, which is never held in memory."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from litestar import Request
from msgspec import Struct
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from aitbc.kernel.crypto.api_key import masked
from aitbc.kernel.primitives.errors import Invalid, Malformed
from aitbc.kernel.primitives.request_errors import UnsupportedMedia
from aitbc.kernel.primitives.text import normalized
from aitbc.modules.ai.models.views import Artifact
from aitbc.modules.ai.protocols.openai_requests import refused

FIELDS_MAX = 16
FIELD_BYTES_MAX = 4096
NAME_MAX = 255
Store = Callable[[AsyncIterator[bytes]], Awaitable[Artifact]]


class UploadedForm(Struct):
    """What a form brought."""

    fields: dict[str, str]
    file_name: str | None = None
    artifact: Artifact | None = None
    """Its file, stored."""


async def read_upload(request: Request[Any, Any, Any], form: UploadedForm, store: Store) -> None:
    """Read a form into `form`, its file by `store`. What was stored before it raised is in `form` for the caller.

    Raises `UnsupportedMedia`, `Malformed`, `ParameterRefused`, and what `store` raises.
    """
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    if media_type != "multipart/form-data":
        raise UnsupportedMedia
    try:
        parser = PushMultipartParser(options.get("boundary", ""), max_segment_count=FIELDS_MAX, strict=True)
        async with aclosing(_events(request, parser)) as events:
            async for event in events:
                if isinstance(event, MultipartSegment):
                    await _read_part(event, events, form, store)
    except (MultipartError, ValueError):
        raise Malformed("The form cannot be read.") from None


async def _events(request: Request[Any, Any, Any], parser: PushMultipartParser) -> AsyncGenerator[Any, None]:
    async for chunk in request.stream():
        if chunk and not parser.closed:
            for event in parser.parse(chunk):
                yield event
    parser.close()


async def _read_part(head: MultipartSegment, events: AsyncIterator[Any], form: UploadedForm, store: Store) -> None:
    if head.name == "file":
        if form.artifact is not None:
            raise refused("file", "One file at a time.")
        if head.filename is None:
            raise refused("file", "It must be a file.")
        form.file_name = _clean(head.filename)
        form.artifact = await store(_body(events))
        return
    name = _clean(head.name)
    if name in form.fields:
        raise refused(name, "It must be given once.")
    held = bytearray()
    async for piece in _body(events):
        held += piece
        if len(held) > FIELD_BYTES_MAX:
            raise refused(name, f"A field may have {FIELD_BYTES_MAX} bytes.")
    form.fields[name] = _clean(held.decode())


async def _body(events: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The content of the part that has begun, to its end."""
    async for event in events:
        if event is None:
            return
        yield bytes(event)


def _clean(text: str) -> str:
    """A text that can be kept, with no API key in it. Raises `Invalid`."""
    if "\0" in text:
        raise Invalid("The form holds a NUL character.")
    return str(masked(normalized(text, str)))[:NAME_MAX]
