"""A result as people want it: text, boxes on the picture, vectors as a map; found by its shape, not by its kind."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

POINTS_MAX = 200
ROUNDS = 60
MAP = 320.0
MARGIN = 24.0
PICTURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class Point(Struct, frozen=True):
    """A vector on the map."""

    x: float
    y: float
    number: int
    text: str


class Picture(Struct, frozen=True):
    """A picture, and the boxes of what was read in it."""

    source: str
    """Where the picture is: a `data:` URL or a path of this server."""
    width: int
    height: int
    boxes: Sequence[str]
    """The corners of each line, as an SVG polygon has them."""


def said_in(output: Any) -> str | None:
    """The text of an answer, of a reading, or of a program's output."""
    if not isinstance(output, Mapping):
        return None
    message = output.get("message")
    if isinstance(message, Mapping) and isinstance(message.get("content"), str):
        return str(message["content"])
    for name in ("text", "stdout"):
        if isinstance(output.get(name), str):
            return str(output[name])
    return None


def picture_of(given: Any, output: Any) -> Picture | None:
    """The picture that was given with the boxes that were found in it; none for another kind of result."""
    if not (isinstance(output, Mapping) and isinstance(given, Mapping) and isinstance(output.get("lines"), list)):
        return None
    source = _source(given.get("image"))
    width, height = output.get("width"), output.get("height")
    if source is None or not isinstance(width, int) or not isinstance(height, int):
        return None
    return Picture(source, width, height, [_polygon(line["box"]) for line in output["lines"] if line.get("box")])


def _source(image: Any) -> str | None:
    if isinstance(image, Mapping) and isinstance(image.get("artifact"), str):
        return f"/artifacts/{image['artifact']}"
    if not isinstance(image, str):
        return None
    start = base64.b64decode(image[:16])
    kind = next((kind for mark, kind in PICTURES.items() if start.startswith(mark)), None)
    return f"data:{kind};base64,{image}" if kind else None


def _polygon(box: Sequence[Any]) -> str:
    """Corners in any of the usual spellings: four pairs, or left, top, right, bottom."""
    if box and isinstance(box[0], Sequence):
        return " ".join(f"{float(x):g},{float(y):g}" for x, y in box)
    left, top, right, bottom = (float(each) for each in box)
    return f"{left:g},{top:g} {right:g},{top:g} {right:g},{bottom:g} {left:g},{bottom:g}"


def map_of(given: Any, output: Any) -> list[Point] | None:
    """Vectors on a plane: their two main components, so that what is close in meaning is close here as far as a
    plane can show it. None for another kind of result, or fewer than three vectors."""
    vectors = output.get("vectors") if isinstance(output, Mapping) else None
    if not isinstance(vectors, list) or len(vectors) < 3:
        return None
    vectors = vectors[:POINTS_MAX]
    texts = given.get("texts", []) if isinstance(given, Mapping) else []
    width = len(vectors[0])
    middle = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]
    rows = [[value - mean for value, mean in zip(vector, middle, strict=True)] for vector in vectors]
    first = _component(rows, width)
    across = [_dot(row, first) for row in rows]
    rest = [
        [value - along * part for value, part in zip(row, first, strict=True)]
        for row, along in zip(rows, across, strict=True)
    ]
    up = [_dot(row, _component(rest, width)) for row in rest]
    return [
        Point(x, y, number + 1, str(texts[number])[:60] if number < len(texts) else "")
        for number, (x, y) in enumerate(zip(_scaled(across), _scaled(up), strict=True))
    ]


def _component(rows: Sequence[Sequence[float]], width: int) -> list[float]:
    """The direction in which rows differ most, by power iteration from a fixed start."""
    direction = [1.0 + (index % 7) / 7 for index in range(width)]
    for _ in range(ROUNDS):
        along = [_dot(row, direction) for row in rows]
        direction = [
            sum(value * row[column] for value, row in zip(along, rows, strict=True)) for column in range(width)
        ]
        length = math.sqrt(_dot(direction, direction))
        if length < 1e-12:
            return [0.0] * width
        direction = [value / length for value in direction]
    return direction


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return [round(MARGIN + (value - low) / span * (MAP - 2 * MARGIN), 1) for value in values]


def nearest(output: Any, given: Any) -> list[tuple[str, str, float]]:
    """The closest pairs among few vectors, closest first: the map's twin in words."""
    vectors, texts = output["vectors"][:50], given.get("texts", []) if isinstance(given, Mapping) else []
    names = [str(texts[at])[:80] if at < len(texts) else str(at + 1) for at in range(len(vectors))]
    pairs = [
        (names[a], names[b], _dot(vectors[a], vectors[b]) / ((_length(vectors[a]) * _length(vectors[b])) or 1.0))
        for b in range(len(vectors))
        for a in range(b)
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:5]


def _length(vector: Sequence[float]) -> float:
    return math.sqrt(_dot(vector, vector))
