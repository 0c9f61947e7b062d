"""Pictures: their size, read from the header of a PNG or JPEG file without unpacking a pixel, and whether a PNG is
whole."""

import zlib
from collections.abc import Iterator

PNG = bytes((0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A))
JPEG = bytes((0xFF, 0xD8))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that start a frame; the three taken out are tables and a reserved one."""
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers without a length."""


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By a PNG's type of colour, the numbers that a pixel has."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Where each pass of an interlaced PNG begins, and its steps."""
_PIECE_BYTES = 1 << 20


class NotAPicture(ValueError):
    """This is no complete PNG or JPEG header."""


def size_of(head: bytes) -> tuple[int, int]:
    """Width and height in pixels, both positive, from the beginning of a file. Raises `NotAPicture`."""
    if head.startswith(PNG):
        width, height = _size_of_png(head)
    elif head.startswith(JPEG):
        width, height = _size_of_jpeg(head)
    else:
        raise NotAPicture("neither PNG nor JPEG")
    if width < 1 or height < 1:
        raise NotAPicture("a picture without pixels")
    return width, height


def _size_of_png(head: bytes) -> tuple[int, int]:
    if len(head) < 33 or int.from_bytes(head[8:12]) != 13 or head[12:16] != b"IHDR":
        raise NotAPicture("a PNG file that does not begin with its header")
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def _size_of_jpeg(head: bytes) -> tuple[int, int]:
    at = 2
    while at + 4 <= len(head):
        if head[at] != 0xFF:
            raise NotAPicture("a JPEG file with something between its segments")
        marker = head[at + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES and at + 9 <= len(head):
            return int.from_bytes(head[at + 7 : at + 9]), int.from_bytes(head[at + 5 : at + 7])
        elif marker in (0xD9, 0xDA) or (length := int.from_bytes(head[at + 2 : at + 4])) < 2:
            raise NotAPicture("a JPEG file without a frame")
        else:
            at += 2 + length
    raise NotAPicture("a JPEG header that is longer than allowed, or cut off")


def is_damaged_png(content: bytes) -> bool:
    """Whether this begins as a PNG file and holds fewer pixels than its header promises, or ones that cannot be
    unpacked.

    The pixels are unpacked piece by piece and no further than promised, so memory is bounded. Of any other file nothing
    is claimed.
    """
    if not content.startswith(PNG):
        return False
    if len(content) < 33:
        return True
    width, height = int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    if content[25] not in _CHANNELS or content[24] not in (1, 2, 4, 8, 16) or content[28] > 1:
        return True
    missing = _bytes_of_pixels(width, height, content[24] * _CHANNELS[content[25]], interlaced=content[28] == 1)
    unpacking = zlib.decompressobj()
    try:
        for packed in _pixels_of(content):
            while packed and missing > 0:
                missing -= len(unpacking.decompress(packed, min(missing, _PIECE_BYTES)))
                packed = unpacking.unconsumed_tail
    except (zlib.error, NotAPicture):
        return True
    return missing > 0


def _pixels_of(content: bytes) -> Iterator[bytes]:
    """The packed pixels of a PNG file. Raises `NotAPicture` for a part that is cut off or changed."""
    at = len(PNG)
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4])
        name, check = content[at + 4 : at + 8], content[end : end + 4]
        if name == b"IEND":
            return
        if name in (b"IHDR", b"PLTE", b"IDAT") and int.from_bytes(check) != zlib.crc32(content[at + 4 : end]):
            raise NotAPicture("a PNG file with a changed part")
        if name == b"IDAT":
            yield content[at + 8 : end]
        at = end + 4


def _bytes_of_pixels(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    """What a PNG's pixels take unpacked: lines of whole bytes, each with one before it that names its filter."""
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for left, top, across, down in _PASSES:
        columns, lines = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and lines > 0:
            total += lines * (1 + (columns * bits + 7) // 8)
    return total
