"""`GET /v1/models`: what miners serve now, with its price."""

from collections.abc import Mapping
from typing import Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import FieldError
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.prospects import ModelInfo
from aitbc.modules.ai.protocols.errors import ModelNotFound
from aitbc.modules.ai.protocols.examples import MODELS, ONE_MODEL
from aitbc.modules.ai.service.aliases import Aliases
from aitbc.modules.ai.service.quotes import Quotes
from aitbc.modules.ai.service.served_models import ServedModels, near_names

MODELS_MAX = 10_000
READ: dict[str, Any] = {"permission": "jobs:read"}


class OpenAiModels(Controller):
    """Models."""

    path = "/v1/models"
    tags = ("openai",)

    @get("/", operation_id="list_openai_models", opt=READ | MODELS)
    async def list_models(
        self,
        served_models: NamedDependency[ServedModels],
        quotes: NamedDependency[Quotes],
        aliases: NamedDependency[Aliases],
        who: NamedDependency[Principal],
    ) -> dict[str, Any]:
        """List every model that miners announce, and each alias of one, all on one page: the clients read no other."""
        models = await _models(served_models, quotes, aliases.of(who.account))
        return {"object": "list", "data": list(models.values()), "has_more": False}

    @get("/{model:path}", operation_id="get_openai_model", opt=READ | ONE_MODEL)
    async def get_model(
        self,
        served_models: NamedDependency[ServedModels],
        quotes: NamedDependency[Quotes],
        aliases: NamedDependency[Aliases],
        who: NamedDependency[Principal],
        model: FromPath[str],
    ) -> dict[str, Any]:
        """Get one model by its name or alias, which may have slashes."""
        name = model.removeprefix("/")
        models = await _models(served_models, quotes, aliases.of(who.account))
        if name not in models:
            near = near_names(name, models)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            message = f"No miner serves the model {name[:200]!r}.{hint}"
            raise ModelNotFound(message, fields=(FieldError("/model", message),))
        return models[name]


async def _models(served_models: ServedModels, quotes: Quotes, aliases: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for info in await served_models.page(kind=None, after=None, limit=MODELS_MAX):
        model = found.setdefault(
            info.name,
            # When a model was made is nothing that a miner knows.
            {"id": info.name, "object": "model", "created": 0, "owned_by": "miners", "aitbc": {"kinds": []}},
        )
        model["aitbc"]["kinds"].append(_offer(info, quotes))
    named = {name: found[model] for name, model in aliases.items() if model in found}
    for name, model in named.items():  # an alias hides a model of that name
        found[name] = model | {"id": name, "aitbc": model["aitbc"] | {"alias_of": model["id"]}}
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
        "context": info.context,
        "modalities": info.modalities,
        "quantizations": info.quantizations,
        "digest": info.digest,
    }
