"""The HTTP of disputes about what was paid."""

from typing import Annotated, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Text
from aitbc.modules.marketplace.models.dispute_views import MarketDispute
from aitbc.modules.marketplace.routes.bodies import Amount
from aitbc.modules.marketplace.routes.ratings import SubjectId
from aitbc.modules.marketplace.service.disputes.disputes import (
    BeginDispute,
    DisputedPaymentNotFound,
    DisputesFilter,
    MarketDisputed,
    MarketDisputes,
    NotDisputable,
    TooManyDisputes,
    TooMuchMarketEvidence,
)
from aitbc.modules.marketplace.service.disputes.rows import MarketDisputeNotFound, MarketDisputeNotOpen

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
StateName = Literal["opening", "open", "deciding", "closed"]
InState = Annotated[StateName | None, QueryParameter(name="state")]
Words = Annotated[Text, Meta(min_length=1)]
PAGES = "market_disputes"


class BeginMarketDispute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you paid for and want back, and why."""

    subject: SubjectId
    """The receipt of a job, or a booking. For example `book_01k0000000000000000000000a`."""
    reason: Words
    """For the other side and the operator. For example `It was away for an hour.`."""
    amount: Amount | None = None
    """How much of what was paid; left out, all of it. For example `0.8`."""

    def command(self) -> BeginDispute:
        """As the service takes it. Raises `InvalidAmount`."""
        claim = None if self.amount is None else parse(self.amount)
        return BeginDispute(subject=self.subject, reason=self.reason, claim_units=claim)


class AddMarketEvidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a side has to say."""

    text: Words
    """For the other side and the operator. For example `Its owner restarted it twice.`."""


class DecideMarketDispute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a dispute ends."""

    share_basis_points: Annotated[int, Meta(ge=0, le=10_000)]
    """How much of the claim its payer gets back, in 1/10 000, as far as it is set aside. For example `5000`."""
    reason: Words
    """What both sides are told. For example `Half of the time was unusable.`."""


def ends(*errors: type[Exception], idempotency: str = "natural") -> dict[str, object]:
    """The options of what a side does in a dispute."""
    known = (MarketDisputeNotFound, MarketDisputeNotOpen, *errors)
    return {"permission": "market:write", "idempotency": idempotency, "errors": known}


class MarketDisputeController(Controller):
    """Disputes about what was paid for jobs and bookings."""

    path = "/disputes"
    tags = ("market",)

    @post(
        "/",
        operation_id="begin_market_dispute",
        summary="Dispute what you paid",
        opt={
            "permission": "market:write",
            "idempotency": "required",
            "errors": (
                *(InvalidAmount, AmountOverflow, DisputedPaymentNotFound, NotDisputable, MarketDisputed),
                TooManyDisputes,
            ),
        },
    )
    async def begin(
        self,
        market_disputes: NamedDependency[MarketDisputes],
        who: Who,
        once: Once,
        data: JSONBody[BeginMarketDispute],
    ) -> Response[MarketDispute]:
        """Dispute a job or a booking that the caller paid, within 72 hours of its end, once.

        What its owner earned of the claim is set aside of the owner's money, as far as the owner has it, until the
        dispute is decided: by the operator within 7 days, by the owner or the payer giving in, or by time. Then half of
        it goes back, or all where the owner said nothing.
        """
        begun = await market_disputes.begin(who, data.command(), once)
        where = f"/api/v1/marketplace/disputes/{begun.id}"
        return Response(begun, status_code=201, headers={"location": where})

    @get(
        "/",
        operation_id="list_market_disputes",
        summary="List disputes",
        opt={"permission": "market:read", "errors": (InvalidCursor,)},
    )
    async def disputes(
        self,
        market_disputes: NamedDependency[MarketDisputes],
        who: Who,
        in_state: InState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[MarketDispute]:
        """List the disputes of which the caller is a side, from the newest on; the operator sees all."""
        bound = (in_state or "",)
        after = after_id(PAGES, cursor, "dspt", bound_to=bound)
        found = await market_disputes.page(who, DisputesFilter(state=in_state, after=after, limit=limit + 1))
        return Page.of(PAGES, found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{market_dispute:str}",
        operation_id="get_market_dispute",
        summary="Get a dispute",
        opt={"permission": "market:read", "errors": (MarketDisputeNotFound,)},
    )
    async def one(
        self, market_disputes: NamedDependency[MarketDisputes], who: Who, market_dispute: FromPath[str]
    ) -> MarketDispute:
        """Read a dispute with what was said in it: both sides see the same."""
        return await market_disputes.get(who, market_dispute)

    @post(
        "/{market_dispute:str}/evidence",
        status_code=200,
        operation_id="add_market_evidence",
        summary="Say something in a dispute",
        opt=ends(TooMuchMarketEvidence, idempotency="required"),
    )
    async def evidence(
        self,
        market_disputes: NamedDependency[MarketDisputes],
        who: Who,
        once: Once,
        market_dispute: FromPath[str],
        data: JSONBody[AddMarketEvidence],
    ) -> MarketDispute:
        """Say something in an open dispute, as one of its sides."""
        return await market_disputes.say(who, market_dispute, data.text, once)

    @post(
        "/{market_dispute:str}/concede",
        status_code=200,
        operation_id="concede_market_dispute",
        summary="Give back what is disputed",
        opt=ends(),
    )
    async def concede(
        self, market_disputes: NamedDependency[MarketDisputes], who: Who, market_dispute: FromPath[str]
    ) -> MarketDispute:
        """Give all of the claim back, as the owner of the miner."""
        return await market_disputes.concede(who, market_dispute)

    @post(
        "/{market_dispute:str}/withdraw",
        status_code=200,
        operation_id="withdraw_market_dispute",
        summary="Withdraw a dispute",
        opt=ends(),
    )
    async def withdraw(
        self, market_disputes: NamedDependency[MarketDisputes], who: Who, market_dispute: FromPath[str]
    ) -> MarketDispute:
        """Want nothing back any more, as the payer: what was set aside returns to the owner."""
        return await market_disputes.withdraw(who, market_dispute)

    @post(
        "/{market_dispute:str}/decision",
        status_code=200,
        operation_id="decide_market_dispute",
        summary="Decide a dispute",
        opt={
            "permission": "ledger:write",
            "idempotency": "required",
            "errors": (MarketDisputeNotFound, MarketDisputeNotOpen),
        },
    )
    async def decide(
        self,
        market_disputes: NamedDependency[MarketDisputes],
        who: Who,
        once: Once,
        market_dispute: FromPath[str],
        data: JSONBody[DecideMarketDispute],
    ) -> MarketDispute:
        """Divide what is disputed between payer and owner: for those who run the platform."""
        points = data.share_basis_points
        return await market_disputes.decide(who, market_dispute, points, data.reason, once)
