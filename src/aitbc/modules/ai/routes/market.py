"""The HTTP of what can be bought: kinds and quotes."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.modules.ai.models.checks.tiers import VerificationNotOffered
from aitbc.modules.ai.models.kinds.kind import InvalidInput
from aitbc.modules.ai.models.kinds.registry import UnknownKind
from aitbc.modules.ai.models.prospects import KindInfo, ModelInfo, Quote
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.planner import ContradictingModels
from aitbc.modules.ai.service.quotes import Quotes
from aitbc.modules.ai.service.served_models import ContextTooLong, ModalityNotServed, ServedModels, UnknownModel
from aitbc.modules.ai.service.statistics import KindStatistics, Statistics

MODELS = "ai.models"
Days = Annotated[int, Meta(ge=1, le=90)]
KindName = Annotated[str, Meta(max_length=40)]
SUBMIT_ERRORS = (
    *(UnknownKind, InvalidInput, InvalidAmount, ContradictingModels, VerificationNotOffered),
    *(UnknownModel, ContextTooLong, ModalityNotServed),
)
"""What can be wrong with a job before money is looked at."""


class KindList(Struct, frozen=True, kw_only=True):
    """Every kind of work that can be bought."""

    data: list[KindInfo]
    """The kinds."""


class KindController(Controller):
    """Kinds of work."""

    path = "/kinds"
    tags = ("ai",)

    @get("/", operation_id="list_kinds", summary="List the kinds of work", opt={"permission": "public"})
    async def list_kinds(self, quotes: NamedDependency[Quotes]) -> KindList:
        """List every kind of work: the shapes of its input and output, how it is metered, and the price of a unit."""
        return KindList(data=list(quotes.kinds()))


class ModelController(Controller):
    """Models."""

    path = "/models"
    tags = ("ai",)

    @get(
        "/",
        operation_id="list_models",
        summary="List the models that miners serve",
        opt={"permission": "public", "errors": (InvalidCursor,)},
    )
    async def list_models(
        self,
        served_models: NamedDependency[ServedModels],
        kind: FromQuery[KindName | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ModelInfo]:
        """List the models that miners announce, sorted by kind and name, if wished only those of one kind.

        Miners announce what their servers list. A model whose miners went away stays for an hour, with `miners` 0.
        """
        bound_to = (kind or "",)
        after = None if cursor is None else decode_cursor(MODELS, cursor, str, str, bound_to=bound_to)
        found = await served_models.page(kind=kind, after=after, limit=limit + 1)
        return Page.of(MODELS, found, limit, lambda model: (model.kind, model.name), bound_to=bound_to)


class QuoteController(Controller):
    """Quotes."""

    path = "/quotes"
    tags = ("ai",)

    @post(
        "/",
        operation_id="quote_job",
        summary="Quote a job",
        status_code=200,
        opt={"permission": "jobs:create", "idempotency": "natural", "errors": SUBMIT_ERRORS},
    )
    async def quote(
        self, quotes: NamedDependency[Quotes], who: NamedDependency[Principal], data: JSONBody[SubmitJob]
    ) -> Quote:
        """Say what a job would cost, where it would queue and who could take it.

        Nothing is changed and no money moves.
        """
        return await quotes.quote(who, data)


class StatisticsController(Controller):
    """What work was settled at."""

    path = "/statistics"
    tags = ("ai",)

    @get(
        "/",
        operation_id="get_statistics",
        summary="See what work was settled at",
        opt={"permission": "jobs:read", "errors": (UnknownKind,)},
    )
    async def of_kind(
        self,
        statistics: NamedDependency[Statistics],
        kind: FromQuery[KindName],
        model: FromQuery[KindName | None] = None,
        days: FromQuery[Days] = 30,
    ) -> KindStatistics:
        """Say at which prices of a unit everybody's jobs of a kind were settled, how long they waited for a miner,
        and how many none took in time. From stored jobs alone: what nothing is known of is null.
        """
        return await statistics.of_kind(kind, model, days)
