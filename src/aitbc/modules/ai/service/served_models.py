"""The models that miners serve: listed, and asked before a job that names one is held for."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches

from msgspec import structs

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.modules.ai.models.kinds.kind import InvalidInput
from aitbc.modules.ai.models.prospects import ModelInfo
from aitbc.modules.ai.models.queue import IMAGE, Needs, any_image
from aitbc.modules.ai.service.aliases import Aliases
from aitbc.modules.ai.service.fleet_view import FleetView

FRESH_SECONDS = 2.0
"""How old the list in memory may be, so that jobs which name a model cost no read of their own."""
REMEMBERED = timedelta(hours=1)
"""How long the models of a miner that went away can still be asked for: it may just be starting again."""
NEAR_MAX = 3
COMPARED_MAX = 2000
"""How many names a wrong one is compared with."""


class UnknownModel(Invalid):
    """No miner serves this model; `GET /api/v1/ai/models` lists those that are served."""

    code = "unknown_model"


class ContextTooLong(InvalidInput):
    """The input is longer than any miner's model of this name takes, however its words are counted."""

    code = "context_length_exceeded"


class ModalityNotServed(InvalidInput):
    """No miner's model of this name takes pictures."""

    code = "modality_not_served"


class ServedModels:
    """Knows which models are announced, by kind; one read serves all requests of the next moment."""

    def __init__(self, fleet_view: FleetView, aliases: Aliases, tolerances: Mapping[str, float]) -> None:
        self.tolerances = tolerances
        """By model, within what its answers can be checked by likelihoods."""
        self._fleet_view = fleet_view
        self._aliases = aliases
        self._models: Sequence[ModelInfo] = ()
        self._names: frozenset[tuple[str, str]] = frozenset()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def page(self, *, kind: str | None, after: tuple[str, str] | None, limit: int) -> Sequence[ModelInfo]:
        """The models after a kind and name, by kind and name."""
        await self._read_since(_seconds() - FRESH_SECONDS)
        found = (model for model in self._models if kind is None or model.kind == kind)
        return [model for model in found if after is None or (model.kind, model.name) > after][:limit]

    def real(self, account: str, needs: Needs) -> Needs:
        """Needs with the model that an account's name for one stands for."""
        if needs.model is None:
            return needs
        return structs.replace(needs, model=self._aliases.named(account, needs.model))

    async def require(self, needs: Needs) -> None:
        """Refuse a model that no miner announces, or that cannot take this.

        Raises `UnknownModel`, with the names that are near, `ContextTooLong`, `ModalityNotServed`.
        """
        wanted = {(needs.kind, model) for model in (needs.model, *needs.models) if model is not None}
        if not wanted:
            return
        await self._read_since(_seconds() - FRESH_SECONDS)
        if not wanted <= self._names:
            await self._read_since(_seconds())  # its miner may have come this moment
        for kind, model in sorted(wanted - self._names):
            if (kind, any_image(kind, model)) in self._names:
                continue
            raise _unknown(model, sorted(name for one, name in self._names if one == kind), kind)
        for info in self._models:
            if (info.kind, info.name) == (needs.kind, needs.model):
                _require_taken(needs, info)

    async def _read_since(self, moment: float) -> None:
        """Read the list unless a read began at that moment or later; of many callers one reads."""
        async with self._reading:
            if self._read_at >= moment:
                return
            began_at = _seconds()
            self._models = await self._fleet_view.models(alive_since=now() - REMEMBERED)
            self._names = frozenset((model.kind, model.name) for model in self._models)
            self._read_at = began_at


def _require_taken(needs: Needs, info: ModelInfo) -> None:
    if needs.pictures and info.modalities is not None and IMAGE not in info.modalities:
        message = f"{info.name} takes {', '.join(info.modalities)} and no pictures."
        raise ModalityNotServed(message, fields=(FieldError("/input/messages", message),))
    if info.context is not None and needs.context > info.context:
        message = f"The messages have more than {needs.context} tokens; {info.name} takes {info.context}."
        raise ContextTooLong(message, fields=(FieldError("/input/messages", message),))


def _unknown(model: str, served: Sequence[str], kind: str) -> UnknownModel:
    near = near_names(model, served)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    hint = hint if served else f" None announces a model for {kind} now."
    message = f"No miner serves the {kind} model {model!r}.{hint}"
    return UnknownModel(message, fields=(FieldError("/input/model", message),), near=near)


def near_names(wanted: str, names: Iterable[str]) -> list[str]:
    """The names that somebody may have meant: those that contain it, or are contained in it, before those like it."""
    folded = {name.casefold(): name for name in list(names)[:COMPARED_MAX]}
    asked = wanted.casefold()
    parts = [name for key, name in folded.items() if asked in key or key in asked]
    alike = [folded[key] for key in get_close_matches(asked, folded, n=NEAR_MAX)]
    return list(dict.fromkeys([*parts, *alike]))[:NEAR_MAX]


def _seconds() -> float:
    return asyncio.get_running_loop().time()
