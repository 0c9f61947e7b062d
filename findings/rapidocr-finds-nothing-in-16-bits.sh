#!/usr/bin/env bash
# rapidocr 3.10.0 with Pillow 13.0.0: in a grey picture of 16 bits, as scanners write them, no text is found, and nothing says why.
#
# Pillow opens such a PNG in mode I;16. Its `convert` to L, RGB or RGBA cuts every value above 255 off instead of scaling, so that
# all but the blackest pixels become white. rapidocr converts so before it looks, and answers as for an empty page.
#
# Seen with Python 3.11.7, onnxruntime 1.32.0 on 2026-11-28:
#   8 bits: read, 16 bits: None
#   16 bits after convert("RGB"): from 255 to 255
# What follows here: the miner scales pictures of 16 bits to 8 before they are read (a test of the executor for text recognition).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check rapidocr==3.10.0 onnxruntime==1.32.0 pillow==13.0.0 >&2
HOME=$folder "$folder/venv/bin/python" - <<'PY'
import io
import logging

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

logging.disable(logging.CRITICAL)
grey = Image.new("L", (400, 80), 200)
ImageDraw.Draw(grey).text((20, 20), "Invoice 4711", fill=30, font=ImageFont.load_default(32))
deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)  # the same greys, in 16 bits


def png(picture: Image.Image) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


engine = RapidOCR()
eight, sixteen = engine(png(grey)).txts, engine(png(deep)).txts
low, high = Image.open(io.BytesIO(png(deep))).convert("RGB").getextrema()[0]
print(f"8 bits: {'read' if '4711' in ''.join(eight or ()) else eight}, 16 bits: {sixteen}")
print(f'16 bits after convert("RGB"): from {low} to {high}')
assert "4711" in "".join(eight or ()) and sixteen is None and (low, high) == (255, 255)
PY
