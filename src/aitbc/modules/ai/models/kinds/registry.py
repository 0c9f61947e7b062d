"""The registry: every kind of work that can be bought, and what it costs."""

from collections.abc import Mapping

from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.ai.models.kinds.chat import Chat
from aitbc.modules.ai.models.kinds.command import Command
from aitbc.modules.ai.models.kinds.container import Container
from aitbc.modules.ai.models.kinds.embed import Embed
from aitbc.modules.ai.models.kinds.kind import Kind
from aitbc.modules.ai.models.kinds.ocr import Ocr

_EVERY: tuple[Kind, ...] = (Embed(), Ocr(), Chat(), Command(), Container())
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _EVERY}


class UnknownKind(Invalid):
    """There is no such kind of work; GET /api/v1/ai/kinds lists them."""

    code = "unknown_kind"


def kind_of(name: str) -> Kind:
    """The kind by its name. Raises `UnknownKind`."""
    try:
        return KINDS[name]
    except KeyError:
        raise UnknownKind(f"There is no kind {name[:40]!r}; there are: {', '.join(KINDS)}.") from None


def price_of(units: int, unit_price_units: int, most: int) -> int:
    """The price rule of every kind: units times the unit price, at least one minor unit, never above what was held."""
    return min(max(units * unit_price_units, 1), most)
