"""Templates: Jinja2 with autoescape always on, and the few filters that pages share."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from aitbc.web.assets import ASSETS
from aitbc.web.charts import bars, strip
from aitbc.web.links import page_of, short

TEMPLATES = Path(str(files("aitbc.web"))) / "templates"
MIB = 1024
DAY = 86_400
DAYS_FROM = 2 * DAY
"""From how many seconds on whole days are told as days."""
NOTHING = "\N{EN DASH}"
"""What stands where there is nothing."""


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """A template as UTF-8; a name that it uses and nobody gave is an error."""
    return _environment.get_template(template).render(values).encode("utf-8", "replace")


def moment(at: str | None) -> Markup | str:
    """A time of the API as a `<time>`: readable as it stands, in UTC; the page's script adds how long ago."""
    if not at:
        return NOTHING
    return Markup('<time datetime="{}">{} {}</time>').format(at, at[:10], at[11:19])


def seconds(value: float | None) -> str:
    """A length of time for people."""
    if value is None:
        return "unknown"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    if value >= DAYS_FROM and not value % DAY:
        return plural(round(value / DAY), "day")
    minutes, rest = divmod(round(value), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def mebibytes(value: float | None) -> str:
    """A size in MiB for people."""
    if value is None:
        return NOTHING
    return f"{value / MIB:.1f} GiB" if value >= MIB else f"{value:.0f} MiB"


def percent(value: float | None) -> str:
    """A fraction as a percentage."""
    return NOTHING if value is None else f"{value * 100:.0f} %"


def pretty(value: Any) -> str:
    """JSON over several lines, as people read it."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def zip_with(these: Sequence[Any], those: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs of what stands at the same place."""
    return list(zip(these, those, strict=True))


def _made() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "moment": moment,
        "seconds": seconds,
        "mib": mebibytes,
        "percent": percent,
        "pretty": pretty,
        "plural": plural,
        "short": short,
        "page_of": page_of,
        "zip_with": zip_with,
    }
    environment.globals |= {"assets": ASSETS, "bars": bars, "strip": strip}
    return environment


_environment = _made()
