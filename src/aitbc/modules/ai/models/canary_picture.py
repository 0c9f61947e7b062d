"""The picture of a canary job: a row of digits, black on white, as a PNG file; pure, and another one each time."""

import base64
import struct
import zlib

from aitbc.modules.ai.models.kinds.picture import PNG

WIDTH, HEIGHT, MARGIN = 24, 40, 20
"""Of one digit, and around all of them, in pixels."""
_ROW_BYTES = WIDTH // 8
# The ten digits of DejaVu Sans Mono, a bit for each pixel.
_DIGITS = zlib.decompress(
    base64.b85decode(
        "c-ozlF-`+95JkUbq@jr7mIAG>kd6isZo?5s5rL&GxR$$I!yT>5Emmu0#v8H;AjMd(uy#G)o<B3dA8QX&U`wDwbbWG0=osXgP40He"
        "CZ9fHKI!_%fgH{vn9#5$P^AO@i!Hfw{k68hmFP-xHs68+cjpW+S+EHd;Q~DHBrerIHi7~x43&m^M~-5`ie*{cED+HMHgE(=kUf8t"
        "w=FQ~j*>6YbETSmmgg!yU>ood@EY(E@EOcOupfa)SS$Awd>JYdd%@L9O;&h+!6ZKLuN5V=BL7HM{6FRk8e8(+aw~E}MoQ0f>Uyd4"
        "%NE^x=vcE)-Z0C4&TC|6m_&WzaKnXoYq-{zT+xDRO>0@JZ}k!W*t(C({?v3e>A4+J+Z@U8mbjeX3h8XhVD9xyAKh}U6*hsRNE{1o"
        "^E=8Y5!bQGit@R*Q9t`kQ?_F^!`#N-{@l1o+RXO1G5P|X5B0G"
    )
)


def picture_of(digits: str) -> bytes:
    """A PNG file in which these digits stand."""
    width, height = len(digits) * WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN
    blank, side = b"\xff" * width, b"\xff" * MARGIN
    rows = [b"".join(_row(int(digit), number) for digit in digits) for number in range(HEIGHT)]
    lines = [blank] * MARGIN + [side + row + side for row in rows] + [blank] * MARGIN
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines), 9)
    return PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _row(digit: int, number: int) -> bytes:
    """One row of a digit's pixels, a byte for each."""
    at = (digit * HEIGHT + number) * _ROW_BYTES
    bits = int.from_bytes(_DIGITS[at : at + _ROW_BYTES])
    return bytes(0 if bits >> (WIDTH - 1 - place) & 1 else 255 for place in range(WIDTH))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
