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
from aitbc.modules.ai.models.kinds.picture import NotAPicture, is_damaged_png, size_of
from aitbc.modules.ai.models.kinds.registry import KINDS, kind_of, price_of
from aitbc.modules.ai.models.queue import any_image

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
    [
        "texts",
        "model",
        "dimensions",
        "vectors",
        "image",
        "messages",
        "message",
        "program",
        "lines",
        "text",
        "stdout",
        "query",
        "scores",
    ]
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


def test_scores_are_one_for_each_document_and_agree_within_their_tolerance() -> None:
    kind = kind_of("rerank")
    measure = kind.measure(kind.read({"query": "té", "documents": ["a", "bc"]}), {}, run_seconds=60)
    assert (measure.units, measure.units_max) == (6, 6)
    with pytest.raises(InvalidInput, match=r"documents\[0\]"):
        kind.measure(kind.read({"query": "a", "documents": ["é" * 5000]}), {}, run_seconds=60)
    one, near, far = (kind.read_output({"model": "m", "scores": [0.5, score]}) for score in (0.1, 0.109, 0.111))
    assert kind.meter(one, input_units=6, expects=measure.expects, seconds=1.0) == 6
    assert kind.agrees(one, near)
    assert not kind.agrees(one, far)
    assert not kind.agrees(one, kind.read_output({"model": "n", "scores": [0.5, 0.1]}))
    with pytest.raises(OutputRefused):
        kind.meter(
            kind.read_output({"model": "m", "scores": [0.5]}), input_units=6, expects=measure.expects, seconds=1.0
        )
    assert (kind.evidence({"documents": 3}, 6, measure.expects) or "").startswith("The miner counted 3")


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


def whole_png(
    width: int, height: int, *, bits: int = 8, color: int = 2, interlaced: bool = False, lines: int = -1
) -> bytes:
    """A PNG file, black all over; of fewer lines than it promises, where told so. For an interlaced one `lines` are bytes."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    line = 1 + (width * bits * channels + 7) // 8
    pixels = bytes(lines if interlaced else line * (height if lines < 0 else lines))
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced))
    packed = zlib.compress(pixels)
    middle = len(packed) // 2  # in two parts, as larger ones are
    return PNG + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", head), (b"IDAT", packed[:middle]), (b"IDAT", packed[middle:]), (b"IEND", b""))
    )


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 8, 16]), st.sampled_from([0, 2, 4, 6]))
def test_a_png_is_damaged_when_pixels_are_missing_or_changed_and_not_otherwise(
    width: int, height: int, bits: int, color: int
) -> None:
    content = whole_png(width, height, bits=bits, color=color)
    assert not is_damaged_png(content)
    assert not is_damaged_png(content[:-12])  # without its end it can still be read
    assert is_damaged_png(whole_png(width, height, bits=bits, color=color, lines=height - 1))
    assert is_damaged_png(content[: content.index(b"IDAT") + 5])
    pixels = content.index(b"IDAT") + 6
    assert is_damaged_png(content[:pixels] + bytes((content[pixels] ^ 1,)) + content[pixels + 1 :])


@given(st.binary(max_size=400), st.sampled_from([png(3, 3), whole_png(3, 3)[:60], b""]))
def test_looking_for_damage_never_breaks(rest: bytes, start: bytes) -> None:
    assert is_damaged_png(start + rest) in (True, False)


def test_an_interlaced_png_is_whole_with_the_bytes_of_all_its_passes() -> None:
    # 8 x 8 pixels of a byte each: passes of 1 x 1, 1 x 1, 2 x 1, 2 x 2, 4 x 2, 4 x 4 and 8 x 4, a filter byte a line.
    passes = 2 + 2 + 3 + 2 * 3 + 2 * 5 + 4 * 5 + 4 * 9
    assert not is_damaged_png(whole_png(8, 8, color=0, interlaced=True, lines=passes))
    assert is_damaged_png(whole_png(8, 8, color=0, interlaced=True, lines=passes - 1))


def test_of_what_is_no_png_no_damage_is_claimed() -> None:
    assert not is_damaged_png(bytes((0xFF, 0xD8, 0xFF)))
    assert not is_damaged_png(b"")


DIGEST = "sha256:" + "5a" * 32


@pytest.mark.parametrize(
    ("image", "network", "matched"),
    [
        ("python", False, "python"),
        ("python", True, "python+network"),
        (f"docker.io/library/python@{DIGEST}", False, DIGEST),
        (f"localhost:5000/team/python:3@{DIGEST}", True, f"{DIGEST}+network"),
    ],
)
def test_a_container_is_matched_by_its_image_and_its_network(image: str, network: bool, matched: str) -> None:
    kind = kind_of("container")
    measure = kind.measure(kind.read({"image": image, "network": network}), {}, run_seconds=60)
    assert (measure.model, measure.units_max) == (matched, 60)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"image": "python:3"},
        {"image": "docker.io/library/python:3"},
        {"image": f"python@{DIGEST}0"},
        {"image": "--privileged"},
        {"image": "any"},
        {"image": "python", "env": {"A=B": "c"}},
        {"image": "python", "env": {"A": "\0"}},
        {"image": "python", "files": {"../x": {"artifact": "art_1"}}},
        {"image": "python", "volumes": ["/:/host"]},
    ],
)
def test_what_no_container_may_ask_for_is_refused(value: dict[str, Any]) -> None:
    kind = kind_of("container")
    with pytest.raises(InvalidInput):
        kind.measure(kind.read(value), {}, run_seconds=60)


def test_any_image_is_one_with_a_digest_and_never_a_name() -> None:
    assert any_image("container", DIGEST) == "any"
    assert any_image("container", f"{DIGEST}+network") == "any+network"
    assert any_image("container", "python") is None
    assert any_image("chat", DIGEST) is None
