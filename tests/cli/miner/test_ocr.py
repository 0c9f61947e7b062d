"""Text recognition with the real models on pictures that are drawn here."""

import asyncio
import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from aitbc.modules.ai.models.canary_picture import picture_of
from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Work

Do = Callable[..., Outcome]


@pytest.fixture(scope="module")
def do(runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]) -> Do:
    pool = open_pool({"ocr": {}})

    def done(value: Any, files: dict[str, Path] | None = None) -> Outcome:
        return runner.run(pool.run(make_work("ocr", value, files=files), on_progress=lambda _: None))

    return done


def drawn(*lines: str, size: tuple[int, int] = (640, 160)) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        pen.text((30, 20 + 60 * number), line, fill="black", font=ImageFont.load_default(36))
    return picture


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A header that announces a picture, and hardly any pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_the_text_of_a_drawn_picture_is_read_with_its_boxes(do: Do) -> None:
    picture = encoded(drawn("Hello compute market", "Invoice 2041"))
    outcome = do({"image": base64.b64encode(picture).decode()})
    assert outcome.error is None and outcome.output is not None
    output = outcome.output
    assert output["text"] == "Hello compute market\nInvoice 2041"
    for digits in ("0123456789"[:8], "98765432", "11007733"):  # what canaries send
        read = do({"image": base64.b64encode(picture_of(digits)).decode()}).output
        assert read is not None
        assert digits in "".join(read["text"].split())
    assert (output["width"], output["height"]) == (640, 160)
    first = output["lines"][0]
    assert first["confidence"] > 0.9
    assert len(first["box"]) == 4
    assert all(0 <= x <= 640 and 0 <= y <= 80 for x, y in first["box"])
    assert outcome.usage["pixels"] == 640 * 160
    assert outcome.usage["lines"] == 2


def test_an_artifact_in_jpeg_and_a_transparent_png_are_read_too(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(encoded(drawn("Total 17"), "JPEG"))
    outcome = do({}, {"image": path})
    assert outcome.output is not None and outcome.output["text"] == "Total 17"
    clear = Image.new("RGBA", (400, 100), (0, 0, 0, 0))
    ImageDraw.Draw(clear).text((30, 20), "Clear glass", fill=(0, 0, 0, 255), font=ImageFont.load_default(36))
    outcome = do({"image": "data:image/png;base64," + base64.b64encode(encoded(clear)).decode()})
    assert outcome.output is not None and outcome.output["text"] == "Clear glass"


def test_a_grey_picture_of_16_bits_as_scanners_write_it_is_read(do: Do) -> None:
    grey = drawn("Scanned 4711").convert("L").point(lambda value: 30 + value * 170 // 255)
    deep = Image.frombytes("I;16", grey.size, b"".join(struct.pack("<H", value * 257) for value in grey.tobytes()))
    outcome = do({"image": base64.b64encode(encoded(deep)).decode()})
    assert outcome.output is not None and outcome.output["text"] == "Scanned 4711"


@pytest.mark.parametrize("size", [(1, 1), (8, 2000), (16_000, 8)])
def test_an_empty_picture_of_any_shape_has_no_lines(do: Do, size: tuple[int, int]) -> None:
    outcome = do({"image": base64.b64encode(encoded(Image.new("L", size, 255))).decode()})
    assert outcome.error is None and outcome.output is not None
    assert outcome.output["lines"] == []
    assert (outcome.output["width"], outcome.output["height"]) == size


@pytest.mark.parametrize(
    "content",
    [
        png_of_size(60_000, 60_000),
        png_of_size(8_000, 8_000),
        png_of_size(20_000, 10),
        png_of_size(500, 500),
        encoded(drawn("cut"))[:400],
        encoded(drawn("gif"), "GIF"),
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_a_bomb_or_a_broken_picture_is_the_fault_of_the_requester(do: Do, content: bytes) -> None:
    outcome = do({"image": base64.b64encode(content).decode()})
    assert outcome.error is not None
    assert (outcome.error.fault, outcome.error.reason) == ("requester", "invalid_input")


@pytest.mark.parametrize(
    "value", [None, [], {}, {"image": 5}, {"image": ""}, {"image": "no base64"}, {"url": "http://x"}]
)
def test_an_input_without_a_picture_is_the_fault_of_the_requester(do: Do, value: Any) -> None:
    outcome = do(value)
    assert outcome.error is not None
    assert (outcome.error.fault, outcome.error.reason) == ("requester", "invalid_input")
