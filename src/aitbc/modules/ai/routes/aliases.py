"""The HTTP of model aliases."""

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.ai.models.views import ModelAlias
from aitbc.modules.ai.service.aliases import Aliases, AliasForAll, AliasNotFound, SetModelAlias, TooManyAliases

LIST = "model_aliases"


class AliasController(Controller):
    """Names for models."""

    path = "/model-aliases"
    tags = ("ai",)

    @post(
        "/",
        operation_id="set_model_alias",
        summary="Set a model alias",
        opt={"permission": "jobs:create", "idempotency": "natural", "errors": (AliasForAll, TooManyAliases)},
    )
    async def set(
        self, aliases: NamedDependency[Aliases], who: NamedDependency[Principal], data: JSONBody[SetModelAlias]
    ) -> ModelAlias:
        """Have a name stand for one exact model, wherever a model is named: in jobs, quotes and on `/v1`.

        Set again it stands for another model from then on; jobs that were submitted before keep theirs.
        """
        return await aliases.set(who, data)

    @get(
        "/",
        operation_id="list_model_aliases",
        summary="List model aliases",
        opt={"permission": "jobs:read", "errors": (InvalidCursor,)},
    )
    async def list_aliases(
        self,
        aliases: NamedDependency[Aliases],
        who: NamedDependency[Principal],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ModelAlias]:
        """List the caller's aliases, and those that the operator set for all."""
        after = after_id(LIST, cursor, "mals")
        found = await aliases.page(who, limit=limit + 1, after=after)
        return Page.of(LIST, found, limit, lambda one: one.id)

    @delete(
        "/{model_alias:str}",
        status_code=200,
        operation_id="remove_model_alias",
        summary="Remove a model alias",
        opt={"permission": "jobs:create", "idempotency": "natural", "errors": (AliasNotFound, AliasForAll)},
    )
    async def remove(
        self, aliases: NamedDependency[Aliases], who: NamedDependency[Principal], model_alias: FromPath[str]
    ) -> ModelAlias:
        """Have a name stand for nothing any more."""
        return await aliases.remove(who, model_alias)
