"""The registry: every kind of work that can be bought, and what it costs."""

from collections.abc import Mapping, Sequence

from aitbc.kernel.hooks.kinds import JobKind
from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.ai.models.kinds.chat import Chat
from aitbc.modules.ai.models.kinds.command import Command
from aitbc.modules.ai.models.kinds.container import Container
from aitbc.modules.ai.models.kinds.embed import Embed
from aitbc.modules.ai.models.kinds.kind import Kind
from aitbc.modules.ai.models.kinds.ocr import Ocr
from aitbc.modules.ai.models.kinds.plugin_kind import GoneKind, PluginKind
from aitbc.modules.ai.models.kinds.rerank import Rerank

_EVERY: tuple[Kind, ...] = (Embed(), Rerank(), Ocr(), Chat(), Command(), Container())


class Kinds(dict[str, Kind]):
    """Kinds by their names; for a job of one that is gone there is always an answer."""

    def __missing__(self, name: str) -> Kind:
        """A kind that takes nothing; it is not kept."""
        return GoneKind(name)


KINDS: Mapping[str, Kind] = Kinds({kind.name: kind for kind in _EVERY})
_OWN = frozenset(KINDS)


def use_kinds(described: Sequence[JobKind]) -> None:
    """Sell the kinds of these packages too in this process, in place of those that were sold before."""
    assert isinstance(KINDS, Kinds)
    for name in KINDS.keys() - _OWN:
        del KINDS[name]
    KINDS.update({one.name: PluginKind(one) for one in described if one.name not in _OWN})


class UnknownKind(Invalid):
    """There is no such kind of work; GET /api/v1/ai/kinds lists them."""

    code = "unknown_kind"


def kind_of(name: str) -> Kind:
    """The kind by its name. Raises `UnknownKind`."""
    if name in KINDS:
        return KINDS[name]
    raise UnknownKind(f"There is no kind {name[:40]!r}; there are: {', '.join(KINDS)}.")


def price_of(units: int, unit_price_units: int, most: int) -> int:
    """The price rule of every kind: units times the unit price, at least one minor unit, never above what was held."""
    return min(max(units * unit_price_units, 1), most)
