"""Choosing a model for a request that leaves it to us: the cheapest, the best, or one of the two by what is asked."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import FieldError
from aitbc.modules.ai.models.kinds.chat import Chat
from aitbc.modules.ai.models.queue import Needs
from aitbc.modules.ai.service.fleet_view import FleetView
from aitbc.modules.ai.service.planner import Planner
from aitbc.modules.ai.service.served_models import ServedModels, UnknownModel
from aitbc.modules.ai.service.settings import AiSettings

CHEAP, BALANCED, BEST = WORDS = ("auto:cheap", "auto:balanced", "auto:best")
LONG_BYTES = 2000
"""A conversation from here on is for the best model where it is balanced; and so is what has tools or a format."""
MODELS_MAX = 10_000


class Priced(Struct, frozen=True):
    """A model that is served now, and the least that a unit of it costs."""

    name: str
    unit_price_units: int


class Choice(Struct, frozen=True):
    """The model that was taken, why, and the one that was not."""

    word: str
    taken: Priced
    other: Priced | None

    @property
    def header(self) -> str:
        """The decision, and the price of a unit that was not taken."""
        said = [self.taken.name, f"asked={self.word}", f"unit_price={money.render(self.taken.unit_price_units)}"]
        if self.other is not None:
            said += [f"instead_of={self.other.name}", f"its_unit_price={money.render(self.other.unit_price_units)}"]
        return "; ".join(said)


class AutoModels:
    """Chooses among the chat models that miners serve now, by their prices and the platform's ranks."""

    def __init__(self, served: ServedModels, fleet_view: FleetView, planner: Planner, settings: AiSettings) -> None:
        self._served = served
        self._fleet_view = fleet_view
        self._planner = planner
        self._ranks = settings.model_ranks

    async def choose(self, word: str, work: Mapping[str, Any]) -> Choice:
        """A model for the input of a chat. Raises `UnknownModel` where none is served, or none is ranked."""
        priced = await self._priced()
        if not priced:
            raise _unknown(word, "No miner serves a chat model now.")
        cheapest = min(priced, key=lambda one: (one.unit_price_units, self._rank(one.name), one.name))
        ranked = [one for one in priced if one.name in self._ranks]
        best = min(ranked, key=lambda one: self._rank(one.name)) if ranked else None
        if best is None and word != CHEAP:
            raise _unknown(word, "Of the models that are served now none is ranked by this platform (ai.model_ranks).")
        if best is None:
            return Choice(word, cheapest, None)
        wants_best = word == BEST or (word == BALANCED and is_demanding(work))
        taken, other = (best, cheapest) if wants_best else (cheapest, best)
        return Choice(word, taken, None if other == taken else other)

    async def _priced(self) -> list[Priced]:
        """The chat models of miners that are online, each with its cheapest offer or the platform's price."""
        served = [one.name for one in await self._served.page(kind="chat", after=None, limit=MODELS_MAX) if one.miners]
        fleet = await self._fleet_view.miners()
        list_price = self._planner.prices.listed(Chat())
        found = []
        for name in served:
            offered = await self._fleet_view.offered(Needs(kind="chat", model=name), fleet)
            asks = [list_price if ask is None else ask.units for _, ask in offered]
            found.append(Priced(name, min(asks, default=list_price)))
        return found

    def _rank(self, name: str) -> int:
        return self._ranks.index(name) if name in self._ranks else len(self._ranks)


def is_demanding(work: Mapping[str, Any]) -> bool:
    """Whether a chat is for the best model where it is balanced."""
    messages: Sequence[Any] = work.get("messages", ())
    shows = any(isinstance(message.get("content"), list) for message in messages)
    wants = any(work.get(name) for name in ("tools", "response_format", "reasoning_effort"))
    return bool(shows or wants or len(msgspec.json.encode(messages)) >= LONG_BYTES)


def _unknown(word: str, why: str) -> UnknownModel:
    message = f"{word} can choose no model. {why}"
    return UnknownModel(message, fields=(FieldError("/model", message),))
