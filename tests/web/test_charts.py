"""Charts: whatever their numbers are, each that is known has a bar, and all of it lies in the picture."""

import math
from xml.etree import ElementTree as ET

import pytest

from aitbc.web.charts import BARS_MAX, HEIGHT, LEAST, WIDTH, bars

ROUNDING = 0.011
"""Coordinates are written to hundredths."""


@pytest.mark.parametrize(
    "values",
    [
        [],
        [5.0],
        [0.0],
        [-3.0],
        [None, 1.0, None, math.nan, 2.0, math.inf, -math.inf],
        [-1.0, 0.5, -1e12, 1e12],
        [1e-12, 1e12],
        [float(number % 7) for number in range(300 * 400)],
    ],
)
def test_every_known_number_has_a_bar_within_the_picture(values: list[float | None]) -> None:
    drawn = ET.fromstring(bars(values, "five & more"))
    found = [tuple(float(one.attrib[name]) for name in ("x", "y", "width", "height")) for one in drawn.iter("rect")]
    wide = len(values) > BARS_MAX
    known = [one for one in values if one is not None and math.isfinite(one) and one != 0]
    assert len(found) == (len(known) if not wide else BARS_MAX) and drawn.attrib["aria-label"] == "five & more"
    for left, top, width, height in found:
        assert left >= 0 and top >= 0 and width > 0
        assert left + width <= WIDTH + ROUNDING and top + height <= HEIGHT + LEAST + ROUNDING
        assert height >= LEAST - ROUNDING
    assert [left for left, *_ in found] == sorted(left for left, *_ in found)
