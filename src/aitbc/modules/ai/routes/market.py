"""The HTTP of what can be bought: kinds and quotes."""

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.modules.ai.models.kinds.kind import InvalidInput
from aitbc.modules.ai.models.kinds.registry import UnknownKind
from aitbc.modules.ai.models.prospects import KindInfo, Quote
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.planner import ContradictingModels
from aitbc.modules.ai.service.quotes import Quotes

SUBMIT_ERRORS = (UnknownKind, InvalidInput, InvalidAmount, ContradictingModels)
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
