"""A picture of a study as SVG: what each trial came to, the best so far, and how much each parameter matters."""

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BAR, GAP = 720, 320, 70, 22, 40
STYLE = (
    "text{font:13px sans-serif;fill:#222}.axis{stroke:#888}.trial{fill:#2b6cb0}.pruned{fill:#bbb}"
    ".best{fill:none;stroke:#c05621;stroke-width:2}.bar{fill:#2b6cb0}"
)


def picture(study: dict[str, Any]) -> str:
    """The picture of a study that has a trial with a value."""
    trials = [one for one in study["results"] if one["value"] is not None]
    importance = sorted((study["importance"] or {}).items(), key=lambda pair: -pair[1])
    height = HEIGHT + GAP + BAR * max(len(importance), 1) + GAP
    title = escape(f"{study['name']}: {study['direction']}, {len(trials)} of {study['trials']} trials have a value")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">',
        f'<style>{STYLE}</style><text x="{LEFT}" y="20">{title}</text>',
        *_history(study, trials),
        *_importance(importance),
        "</svg>",
    ]
    return "\n".join(parts)


def _history(study: dict[str, Any], trials: Sequence[dict[str, Any]]) -> list[str]:
    values: list[float] = [one["value"] for one in trials]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    last: int = max(study["begun"] - 1, 1)

    def x(number: int) -> float:
        return round(LEFT + (WIDTH - LEFT - 20) * number / last, 1)

    def y(value: float) -> float:
        return round(HEIGHT - 30 - (HEIGHT - 70) * (value - low) / span, 1)

    found = [
        f'<line class="axis" x1="{LEFT}" y1="{HEIGHT - 20}" x2="{WIDTH - 20}" y2="{HEIGHT - 20}"/>',
        f'<text x="4" y="{y(high) + 4}">{high:.4g}</text><text x="4" y="{y(low) + 4}">{low:.4g}</text>',
        f'<text x="{WIDTH - 110}" y="{HEIGHT - 2}">trial {study["begun"] - 1}</text>',
    ]
    found += [
        f'<circle class="trial" cx="{x(one["number"])}" cy="{y(one["value"])}" r="4"><title>{_said(one)}</title></circle>'
        for one in trials
    ]
    better = min if study["direction"] == "minimize" else max
    line = [f"{x(one['number'])},{y(better(values[: index + 1]))}" for index, one in enumerate(trials)]
    return [*found, f'<polyline class="best" points="{" ".join(line)}"/>']


def _said(trial: dict[str, Any]) -> str:
    return escape(f"trial {trial['number']}: {trial['value']:.6g} {trial['params']}")


def _importance(importance: Sequence[tuple[str, float]]) -> list[str]:
    top = HEIGHT + GAP
    if not importance:
        return [f'<text x="{LEFT}" y="{top}">How much each parameter matters: no data</text>']
    found = [f'<text x="{LEFT}" y="{top - 10}">How much each parameter matters</text>']
    for index, (name, share) in enumerate(importance):
        at = top + BAR * index
        found += [
            f'<rect class="bar" x="{LEFT + 130}" y="{at}" width="{round(400 * share, 1)}" height="{BAR - 6}"/>',
            f'<text x="{LEFT}" y="{at + 13}">{escape(name)}</text>',
            f'<text x="{LEFT + 540}" y="{at + 13}">{share:.0%}</text>',
        ]
    return found
