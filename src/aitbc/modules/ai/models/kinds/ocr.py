"""Text recognition: a picture in, lines of text with their places out."""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.modules.ai.models.checks.agreement import TEXT_SHARED_MIN, shared_text
from aitbc.modules.ai.models.kinds.kind import FileFacts, InvalidInput, Kind, Measure, OutputRefused, Reference
from aitbc.modules.ai.models.kinds.picture import NotAPicture, is_damaged_png, size_of

INLINE_BYTES_MAX = 48 * 1024
FILE_BYTES_MAX = 20 * 1024 * 1024
PIXELS_MAX = 40_000_000
SIDE_PIXELS_MAX = 16_384
LINES_MAX = 100_000


class OcrInput(Struct, frozen=True, forbid_unknown_fields=True):
    """A PNG or JPEG picture: base 64 of at most 48 KiB, or an artifact of at most 20 MiB."""

    image: Annotated[str, Meta(min_length=1, max_length=INLINE_BYTES_MAX * 4 // 3 + 4)] | Reference
    """The picture, in base 64, or the artifact that it is. For example `iVBORw0KGgo=`."""


Point = Annotated[list[float], Meta(min_length=2, max_length=2)]


class OcrLine(Struct, frozen=True):
    """One line of text, and the four corners of where it stands."""

    text: str
    """What the line says. For example `INVOICE`."""
    box: Annotated[list[Point], Meta(min_length=4, max_length=4)]
    """Its corners in pixels, from the top left one clockwise."""
    confidence: Annotated[float, Meta(ge=0, le=1)]
    """How sure the reader is, 0 to 1. For example `0.97`."""


class OcrOutput(Struct, frozen=True):
    """What was read, in reading order."""

    text: str
    """All of it, with a line break after each line. For example `INVOICE`."""
    lines: Annotated[list[OcrLine], Meta(max_length=LINES_MAX)]
    """The lines with their places."""
    width: int
    """The picture's width in pixels. For example `1240`."""
    height: int
    """Its height in pixels. For example `1754`."""


class Ocr(Kind):
    """Metered by the pixels that the picture's header declares."""

    name = "ocr"
    summary = "Reads the text in a picture, with the place of each line."
    unit = "pixel"
    metering = "One unit for each pixel of the picture, read by the platform from the file's header."
    unit_price_units = 1
    fastest = 4e9
    input = OcrInput
    output = OcrOutput
    equality = f"At least {TEXT_SHARED_MIN:.0%} of the text the same, by groups of three characters, without blanks."

    def references(self, given: OcrInput) -> Mapping[str, Reference]:
        """The picture, where it is an artifact."""
        return {"image": given.image} if isinstance(given.image, Reference) else {}

    def is_impossible(self, given: OcrInput, files: Mapping[str, bytes]) -> bool:
        """Whether the picture is a PNG file that is cut off or damaged.

        Of a JPEG file only those who unpack it can tell.
        """
        return is_damaged_png(files["image"] if isinstance(given.image, Reference) else _decoded(given.image))

    def measure(self, given: OcrInput, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """Width times height."""
        if isinstance(given.image, Reference):
            if files["image"].size > FILE_BYTES_MAX:
                raise InvalidInput(f"The picture may have {FILE_BYTES_MAX} bytes.")
            head = files["image"].head
        else:
            head = _decoded(given.image)
        try:
            width, height = size_of(head)
        except NotAPicture as error:
            raise InvalidInput(f"The image must be a PNG or JPEG picture; this is {error}.") from None
        if width * height > PIXELS_MAX or max(width, height) > SIDE_PIXELS_MAX:
            allowed = f"{PIXELS_MAX} in all and {SIDE_PIXELS_MAX} a side"
            raise InvalidInput(f"The picture has {width} x {height} pixels; allowed are {allowed}.")
        pixels = width * height
        return Measure(units=pixels, units_max=pixels, expects={"width": width, "height": height})

    def agrees(self, one: OcrOutput, other: OcrOutput) -> bool:
        """The text that both read; where it stands may differ by pixels."""
        return shared_text([line.text for line in one.lines], [line.text for line in other.lines]) >= TEXT_SHARED_MIN

    def meter(self, output: OcrOutput, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """The pixels counted at submission, once the output speaks of a picture of that size, turned upright or not."""
        size = (expects["width"], expects["height"])
        if (output.width, output.height) not in (size, size[::-1]):
            raise OutputRefused(f"{output.width} x {output.height} pixels where {size[0]} x {size[1]} were sent")
        return input_units

    def evidence(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> str | None:
        """The number of pixels."""
        counted = usage.get("pixels")
        return None if counted in (None, units) else f"The miner counted {counted} pixels, the platform {units}."

    def counts(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> tuple[int, int] | None:
        """Pixels."""
        return (usage["pixels"], units) if "pixels" in usage else None


def _decoded(text: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("The image must be base 64 of a picture, or refer to an artifact.") from None
    if len(content) > INLINE_BYTES_MAX:
        raise InvalidInput(f"An image of more than {INLINE_BYTES_MAX} bytes is uploaded as an artifact first.")
    return content
