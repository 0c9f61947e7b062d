"""The kinds of work: their meters count what the platform sees, and their shapes refuse everything else."""

import base64
import struct
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.modules.ai.models.kinds.kind import InvalidInput, OutputRefused
from aitbc.modules.ai.models.kinds.picture import NotAPicture, size_of
from aitbc.modules.ai.models.kinds.registry import KINDS, kind_of, price_of

PNG = bytes((0x89,)) + b"PNG\r\n" + bytes((0x1A, 0x0A))


def png(width: int, height: int) -> bytes:
    """A whole PNG file's beginning."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def jpeg(width: int, height: int, *, frame: int = 0xC0, before: bytes = b"") -> bytes:
    """A JPEG file's beginning: a comment, perhaps more, and the frame."""
    comment = bytes((0xFF, 0xFE)) + struct.pack(">H", 2 + 5) + b"hello"
    start = bytes((0xFF, frame)) + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return bytes((0xFF, 0xD8)) + comment + before + start


def test_the_size_of_a_picture_is_read_from_its_header() -> None:
    assert size_of(png(640, 480)) == (640, 480)
    assert size_of(jpeg(1024, 768)) == (1024, 768)
    assert size_of(jpeg(3, 5, frame=0xC2)) == (3, 5)
    assert size_of(jpeg(3, 5, before=bytes((0xFF, 0xFF)))) == (3, 5)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GIF89a",
        PNG,
        png(0, 5),
        png(640, 480)[:20],
        jpeg(0, 4),
        jpeg(640, 480)[:12],
        bytes((0xFF, 0xD8, 0xFF, 0xD9)) + bytes(20),
        bytes((0xFF, 0xD8, 0xFF, 0xE0, 0x00, 0x00)) + bytes(20),
        bytes((0xFF, 0xD8)) + b"text in between",
    ],
)
def test_what_is_no_picture_is_refused(head: bytes) -> None:
    with pytest.raises(NotAPicture):
        size_of(head)


@given(st.binary(max_size=200), st.sampled_from([PNG, bytes((0xFF, 0xD8)), b""]))
def test_no_bytes_make_the_reader_of_headers_stumble(content: bytes, magic: bytes) -> None:
    try:
        width, height = size_of(magic + content)
    except NotAPicture:
        return
    assert width > 0
    assert height > 0


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = st.sampled_from(
    ["texts", "model", "dimensions", "vectors", "image", "messages", "message", "program", "lines", "text", "stdout"]
)


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(_FIELDS, _JSON, max_size=4) | _JSON)
def test_any_json_is_read_or_refused_and_nothing_else(name: str, value: Any) -> None:
    kind = kind_of(name)
    try:
        measure = kind.measure(kind.read(value), {}, run_seconds=60)
        assert 0 <= measure.units <= measure.units_max
    except (InvalidInput, KeyError):  # an artifact that the service would have looked up first
        pass
    with suppress(OutputRefused):
        kind.read_output(value)


def test_every_kind_says_what_it_is() -> None:
    for kind in KINDS.values():
        assert kind.summary
        assert kind.metering
        assert kind.unit
        assert kind.unit_price_units > 0


def test_a_price_is_at_least_one_unit_and_never_above_the_hold() -> None:
    assert price_of(0, 10, 500) == 1
    assert price_of(7, 10, 500) == 70
    assert price_of(7_000, 10, 500) == 500


def test_a_picture_larger_than_allowed_is_refused() -> None:
    ocr = kind_of("ocr")
    for width, height in ((16_385, 1), (10_000, 10_000)):
        with pytest.raises(InvalidInput):
            ocr.measure(ocr.read({"image": _base64(png(width, height))}), {}, run_seconds=1)


def test_a_turned_picture_is_the_same_picture_and_another_size_is_not() -> None:
    ocr = kind_of("ocr")
    line = {"text": "a", "box": [[0, 0], [1, 0], [1, 1.5], [0, 1]], "confidence": 0.9}
    output = {"text": "a", "lines": [line], "width": 3, "height": 4, "model": "m", "weights": "w"}
    expects = {"width": 4, "height": 3}
    assert ocr.meter(ocr.read_output(output), input_units=12, expects=expects, seconds=1.0) == 12
    with pytest.raises(OutputRefused):
        ocr.meter(ocr.read_output(output | {"width": 5}), input_units=12, expects=expects, seconds=1.0)
    for wrong in ({"confidence": 2}, {"box": [[0, 0]]}, {"box": [[0]] * 4}, {"text": 1}):
        with pytest.raises(OutputRefused):
            ocr.read_output(output | {"lines": [line | wrong]})


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
