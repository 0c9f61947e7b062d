"""Charts drawn by the server: an SVG of bars, whose numbers stand beside it in a table."""

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT, GAP = 600.0, 96.0, 2.0
COLUMNS_MIN = 14
"""A few bars are drawn as thin as this many, at the left."""
BARS_MAX = 300
"""More numbers than this are drawn in groups, each by its most extreme one: thinner bars would not be seen."""
LEAST = 2.0
"""The height of a bar that is more than zero, so that it is seen."""


def bars(values: Sequence[float | None], label: str) -> Markup:
    """Bars from left to right; what is none or not finite is a gap, and what is negative hangs from the line."""
    known = _grouped([value if value is not None and math.isfinite(value) else None for value in values])
    top = max((value for value in known if value is not None), default=0.0)
    low = min(0.0, *(value for value in known if value is not None), 0.0)
    top = max(top, 0.0)
    span = (top - low) or 1.0
    step = WIDTH / max(len(known), COLUMNS_MIN)
    zero = HEIGHT * top / span
    drawn = Markup("").join(_bar(value, at * step, step, zero, span) for at, value in enumerate(known))
    return Markup(
        '<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {:g} {:g}" preserveAspectRatio="none">'
        '{}<line class="axis" x1="0" x2="{:g}" y1="{:.2f}" y2="{:.2f}"/></svg>'
    ).format(label, WIDTH, HEIGHT, drawn, WIDTH, max(zero - 0.5, 0.5), max(zero - 0.5, 0.5))


def _grouped(values: list[float | None]) -> list[float | None]:
    size = math.ceil(len(values) / BARS_MAX) or 1
    groups = (values[at : at + size] for at in range(0, len(values), size))
    return [max((one for one in group if one is not None), key=abs, default=None) for group in groups]


def _bar(value: float | None, left: float, step: float, zero: float, span: float) -> Markup:
    if value is None or value == 0:
        return Markup("")
    height = max(abs(value) / span * HEIGHT, LEAST)
    top = zero - height if value > 0 else zero
    width = max(step - GAP, step * 0.6)
    return Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" rx="1"/>').format(
        left, max(top, 0.0), width, height
    )


def strip(states: Sequence[tuple[str, str]], label: str) -> Markup:
    """A strip of days from left to right, each with its state and what is said of it when it is pointed at."""
    step = WIDTH / max(len(states), 1)
    drawn = Markup("").join(
        Markup('<rect class="{}" x="{:.2f}" y="0" width="{:.2f}" height="24"><title>{}</title></rect>').format(
            state, at * step, step * 0.8, text
        )
        for at, (state, text) in enumerate(states)
    )
    return Markup(
        '<svg class="strip" role="img" aria-label="{}" viewBox="0 0 {:g} 24" preserveAspectRatio="none">{}</svg>'
    ).format(label, WIDTH, drawn)
