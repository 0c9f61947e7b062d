"""What miners ask for a unit of work, by the offers of their owners: the ask of a job is frozen when it is claimed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from msgspec import Struct

from aitbc.modules.ai.models.kinds.registry import price_of
from aitbc.modules.ai.models.queue import Needs

NO_ASKS = "[]"
ALWAYS = datetime.max.replace(tzinfo=UTC)


class Ask(Struct, frozen=True, array_like=True):
    """What a miner asks for one unit of a kind of work, by which offer, and until when."""

    kind: str
    model: str | None
    """None for each model that no other ask of the miner names."""
    units: int
    """Minor units of money for one metered unit."""
    until: datetime
    offer: str


@lru_cache(maxsize=4096)
def asks_of(text: str) -> tuple[Ask, ...]:
    """The asks behind their text; read once for all claims of a miner."""
    return msgspec.json.decode(text, type=tuple[Ask, ...])


def asks_text(asks: Sequence[Ask]) -> str:
    """The canonical text of some asks."""
    return msgspec.json.encode(sorted(asks, key=lambda ask: (ask.kind, ask.model or "", ask.offer))).decode()


def ask_for(needs: Needs, asks: Sequence[Ask], at: datetime) -> Ask | None:
    """What a miner asks for a job with these needs; none where it offers no such work, and the operator's price holds.

    An ask for the very model comes before one for any, and what was agreed on before both. The time of a booked GPU is
    paid for by its booking.
    """
    if needs.booking is not None:
        return None
    if needs.agreed is not None:
        return Ask(needs.kind, needs.model, needs.agreed.units, ALWAYS, needs.agreed.offer)
    fitting = [ask for ask in asks if ask.kind == needs.kind and ask.model in (None, needs.model) and at < ask.until]
    return min(fitting, key=lambda ask: ask.model is None, default=None)


def covers(limit_units: int, units_max: int, ask: Ask) -> bool:
    """Whether the most that a job may cost covers the most that it can cost at this ask."""
    return limit_units >= price_of(units_max, ask.units, 2**63 - 1)
