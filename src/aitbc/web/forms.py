"""What a form of a page sends: fields, and at most one file."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from msgspec import Struct
from multipart import MultipartError, MultipartParser, parse_options_header

from aitbc.kernel.primitives.errors import FieldError, Invalid, Malformed
from aitbc.kernel.primitives.request_errors import UnsupportedMedia

FORM_BYTES_MAX = 1024 * 1024
"""How much a form without a file may have."""
UPLOAD_BYTES_MAX = 22 * 1024 * 1024
"""How much a form with a file may have: the largest input that is sold, and its fields."""
FIELDS_MAX = 100
HOUR = 3600
LENGTH_TO_MINUTES = 16
"""How long a time without seconds is, as browsers send it."""


class Upload(Struct, frozen=True):
    """A file that a form sent."""

    name: str
    media_type: str
    content: bytes


class Form(Struct, frozen=True):
    """The fields of a form, each with its last value, and the file that came with it."""

    fields: Mapping[str, str]
    upload: Upload | None = None

    def get(self, name: str, default: str = "") -> str:
        """A field without the space around it."""
        return self.fields.get(name, default).strip()

    def text(self, name: str) -> str:
        """A field as it was typed, with line ends as one character."""
        return self.fields.get(name, "").replace("\r\n", "\n")

    def given(self, *names: str) -> dict[str, str]:
        """Those of these fields that have something in them."""
        return {name: self.get(name) for name in names if self.get(name)}

    def whole(self, name: str, pointer: str | None = None) -> int:
        """A field that is a whole number. Raises `Invalid` at this pointer, else at the field's name."""
        text = self.get(name)
        if not (text.isascii() and text.lstrip("-").isdigit() and len(text) <= 19):
            raise Invalid(fields=(FieldError(pointer or f"/{name}", "Expected a whole number"),))
        return int(text)

    def hours(self, name: str, pointer: str) -> int:
        """A field with a number of hours, in whole seconds. Raises `Invalid` at this pointer."""
        try:
            return round(float(self.get(name)) * HOUR)
        except (ValueError, OverflowError):
            raise Invalid(fields=(FieldError(pointer, "Expected hours, for example 2 or 0.5"),)) from None

    def share(self, name: str, pointer: str) -> float:
        """A field with a percentage, as a fraction. Raises `Invalid` at this pointer."""
        try:
            return round(float(self.get(name)) / 100, 6)
        except (ValueError, OverflowError):
            raise Invalid(fields=(FieldError(pointer, "Expected a percentage, for example 99.5"),)) from None

    def moment(self, name: str) -> str | None:
        """A field with a time in UTC, as the API takes it; none where it is empty."""
        text = self.get(name)
        return f"{text}{':00' if len(text) == LENGTH_TO_MINUTES else ''}Z" if text else None


async def read_form(request: Request[Any, Any, Any]) -> Form:
    """The form of a request. Raises `UnsupportedMedia`, `Malformed`, `Invalid`; the boundary limits its size."""
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    body = await request.body()
    if media_type == "application/x-www-form-urlencoded":
        return Form(_urlencoded(body))
    if media_type != "multipart/form-data":
        raise UnsupportedMedia
    return _multipart(body, options.get("boundary", ""))


def _urlencoded(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"))
    except ValueError:
        raise Malformed("The form cannot be read.") from None


def _multipart(body: bytes, boundary: str) -> Form:
    fields: dict[str, str] = {}
    upload = None
    try:
        parser = MultipartParser(
            BytesIO(body),
            boundary,
            content_length=len(body),
            strict=True,
            part_limit=FIELDS_MAX,
            memory_limit=UPLOAD_BYTES_MAX,
            spool_limit=UPLOAD_BYTES_MAX,
        )
        for part in parser:
            if part.filename is None:
                fields[part.name] = part.value
            elif part.size:
                if upload is not None:
                    raise Invalid("One file at a time.")
                upload = Upload(part.filename[:200], part.content_type, part.raw)
    except (MultipartError, ValueError):
        raise Malformed("The form cannot be read.") from None
    return Form(fields, upload)
