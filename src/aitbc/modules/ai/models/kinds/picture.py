"""The size of a picture, read from the header of a PNG or JPEG file without unpacking a pixel."""

PNG = bytes((0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A))
JPEG = bytes((0xFF, 0xD8))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that start a frame; the three taken out are tables and a reserved one."""
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers without a length."""


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
