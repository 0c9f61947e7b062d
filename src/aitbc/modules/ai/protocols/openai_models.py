"""`GET /v1/models`: what miners serve now, with its price."""

from typing import Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import FieldError
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.prospects import ModelInfo
from aitbc.modules.ai.protocols.errors import ModelNotFound
from aitbc.modules.ai.service.quotes import Quotes
from aitbc.modules.ai.service.served_models import ServedModels, near_names

MODELS_MAX = 10_000
READ = {"permission": "jobs:read"}


class OpenAiModels(Controller):
    """Models."""

    path = "/v1/models"
    include_in_schema = False

    @get("/", opt=READ)
    async def list_models(
        self, served_models: NamedDependency[ServedModels], quotes: NamedDependency[Quotes]
    ) -> dict[str, Any]:
        """List every model that miners announce, all on one page: the clients read no other."""
        return {"object": "list", "data": list((await _models(served_models, quotes)).values()), "has_more": False}

    @get("/{model:path}", opt=READ)
    async def get_model(
        self, served_models: NamedDependency[ServedModels], quotes: NamedDependency[Quotes], model: FromPath[str]
    ) -> dict[str, Any]:
        """Get one model by its name, which may have slashes."""
        name = model.removeprefix("/")
        models = await _models(served_models, quotes)
        if name not in models:
            near = near_names(name, models)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            message = f"No miner serves the model {name[:200]!r}.{hint}"
            raise ModelNotFound(message, fields=(FieldError("/model", message),))
        return models[name]


async def _models(served_models: ServedModels, quotes: Quotes) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for info in await served_models.page(kind=None, after=None, limit=MODELS_MAX):
        model = found.setdefault(
            info.name,
            # When a model was made is nothing that a miner knows.
            {"id": info.name, "object": "model", "created": 0, "owned_by": "miners", "aitbc": {"kinds": []}},
        )
        model["aitbc"]["kinds"].append(_offer(info, quotes))
    return found


def _offer(info: ModelInfo, quotes: Quotes) -> dict[str, Any]:
    kind = KINDS[info.kind]
    unit_price = money.render(quotes.unit_price_units(kind))
    return {
        "kind": info.kind,
        "unit": kind.unit,
        "unit_price": unit_price,
        "miners_online": info.miners,
        "slots": info.slots,
        "context": None,
        "modalities": None,
    }
