"""Text recognition on the CPU with rapidocr, whose models come inside its package."""

import base64
import binascii
import hashlib
import importlib
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from aitbc_cli.miner.executors.fields import FieldError, clean_text, read_object, read_text
from aitbc_cli.miner.executors.work import Outcome, Progress, Report, Work

MODEL = "ppocr-v6-small"
PIXELS_MAX = 40_000_000
SIDE_PIXELS_MAX = 16_384
FILE_BYTES_MAX = 20 * 1024 * 1024

_MODEL_FILES = {
    "Det.model_path": "PP-OCRv6_det_small.onnx",
    "Rec.model_path": "PP-OCRv6_rec_small.onnx",
    "Cls.model_path": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}
_EIGHT_OF_SIXTEEN_BITS = 255 / 65_535
# A side may be so many times the other before the picture is padded: the engine scales by the shorter side.
_ASPECT_MAX = 16
# The engine's own choice scales small and narrow pictures up until they need gigabytes; this only ever scales down.
_DETECTION_SIDE_PIXELS = 1_280


class OcrExecutor:
    """Finds lines of text in a picture; the models are loaded once and never fetched."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_object(options, allowed=frozenset({"memory_bytes", "threads"}), what="configuration of ocr")
        # Our own limit, checked on the header, takes the place of the library's warning.
        Image.MAX_IMAGE_PIXELS = None
        rapidocr: Any = importlib.import_module("rapidocr")
        folder = Path(rapidocr.__file__).parent / "models"
        # A model named by its path is never looked up or downloaded.
        files = {option: str(folder / name) for option, name in _MODEL_FILES.items()}
        self._engine: Any = rapidocr.RapidOCR(
            params={
                **files,
                "Global.log_level": "error",
                "Det.limit_type": "max",
                "Det.limit_side_len": _DETECTION_SIDE_PIXELS,
                "EngineConfig.onnxruntime.intra_op_num_threads": int(options.get("threads", 1)),
            }
        )
        self._digest = _digest_of(list(files.values()))

    def warm_up(self) -> dict[str, Any]:
        """Read a picture that holds a few dark bars, so that all models are in memory."""
        picture = Image.new("RGB", (320, 64), "white")
        for left in range(20, 300, 12):
            picture.paste("black", (left, 20, left + 6, 44))
        self._engine(picture)
        return {"models": [MODEL], "weights": self._digest}

    def run(self, work: Work, report: Report) -> Outcome:
        """The lines of text in reading order, with their boxes in pixels of the upright picture."""
        started = time.monotonic()
        picture = _open_picture(_picture_bytes(work))
        width, height = picture.size
        report(Progress(None, [f"picture of {width} x {height} pixels"]))
        lines = _lines_of(self._engine(_padded(picture)))
        output = {
            "model": MODEL,
            "weights": self._digest,
            "text": "\n".join(line["text"] for line in lines),
            "lines": lines,
            "width": width,
            "height": height,
        }
        milliseconds = round((time.monotonic() - started) * 1000)
        usage = {"pixels": width * height, "lines": len(lines), "milliseconds": milliseconds}
        return Outcome(output=output, usage=usage)


def _digest_of(paths: list[str]) -> str:
    """One digest of several files: that of their contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return "sha256:" + digest.hexdigest()


def _picture_bytes(work: Work) -> bytes:
    fields = read_object(work.input or {}, allowed=frozenset({"image"}), what="input of ocr")
    if path := work.input_files.get("image"):
        if path.stat().st_size > FILE_BYTES_MAX:
            raise FieldError(f"image may have {FILE_BYTES_MAX} bytes.")
        return path.read_bytes()
    encoded = read_text(fields.get("image"), "image", shortest=1, longest=FILE_BYTES_MAX * 4 // 3 + 128)
    if encoded.startswith("data:image/"):
        encoded = encoded.partition(";base64,")[2]
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise FieldError("image must be base64, or the field of an artifact.") from None
    if len(content) > FILE_BYTES_MAX:
        raise FieldError(f"image may have {FILE_BYTES_MAX} bytes.")
    return content


def _open_picture(content: bytes) -> Image.Image:
    """The upright picture in RGB; its size is checked on the header, before a single pixel is unpacked."""
    try:
        picture: Image.Image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        width, height = picture.size
        if width * height > PIXELS_MAX or max(width, height) > SIDE_PIXELS_MAX:
            raise FieldError(
                f"image has {width} x {height} pixels; allowed are {PIXELS_MAX} in all and {SIDE_PIXELS_MAX} a side."
            )
        return _flattened(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError) as error:
        if isinstance(error, FieldError):
            raise
        raise FieldError("image must be a complete PNG or JPEG picture.") from None


def _flattened(picture: Image.Image) -> Image.Image:
    """The picture in RGB, what is transparent on white.

    Of a grey picture of 16 bits, Pillow would make every value above 255 white
    (findings/rapidocr-finds-nothing-in-16-bits.sh).
    """
    if picture.mode.startswith("I"):
        picture = picture.convert("I").point(lambda value: value * _EIGHT_OF_SIXTEEN_BITS).convert("L")
        picture.info.pop("transparency", None)  # a value of 16 bits, which nothing has any more
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    paper = Image.new("RGB", layered.size, "white")
    paper.paste(layered, mask=layered.getchannel("A"))
    return paper


def _padded(picture: Image.Image) -> Image.Image:
    """The picture with white to its right or below it where it is extremely narrow; places stay the same."""
    width, height = picture.size
    wanted = (max(width, -(-height // _ASPECT_MAX)), max(height, -(-width // _ASPECT_MAX)))
    if wanted == picture.size:
        return picture
    paper = Image.new("RGB", wanted, "white")
    paper.paste(picture, (0, 0))
    return paper


def _lines_of(found: Any) -> list[dict[str, Any]]:
    if found.txts is None or found.boxes is None or found.scores is None:
        return []
    return [
        {
            "text": clean_text(str(text)),
            "box": [[round(float(x)), round(float(y))] for x, y in box],
            "confidence": round(float(score), 4),
        }
        for text, box, score in zip(found.txts, found.boxes, found.scores, strict=True)
    ]
