"""The HTTP of the treasury and of live parameters."""

from datetime import datetime
from typing import Annotated

from litestar import Controller, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.http.positions import after_id
from aitbc.kernel.primitives.errors import AmountOverflow, FieldError, Invalid
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.governance.models.views import GovernanceMove, GovernanceParameter
from aitbc.modules.governance.routes.bodies import GovernanceAmount
from aitbc.modules.governance.routes.stake import Once, Who, changes, reads, settles
from aitbc.modules.governance.service.live_parameters import LiveParameters
from aitbc.modules.governance.service.refusals import MilestoneNotFound, ParameterNotFound, StakeRefused
from aitbc.modules.governance.service.treasury import GovernanceReport, GovernanceTreasury, Treasury
from aitbc.modules.trading.api import InsufficientFunds

TreasuryPart = NamedDependency[Treasury]
Moment = Annotated[datetime, Meta(tz=True)]


class GovernanceParameters(Struct, frozen=True, kw_only=True):
    """Every live parameter: there is a fixed number of them."""

    data: tuple[GovernanceParameter, ...]
    """By name. For example `[]`."""


class TreasuryController(Controller):
    """What fees fill and proposals spend."""

    path = "/treasury"
    tags = ("governance",)

    @get("/", operation_id="get_treasury", summary="Read the treasury", opt=reads())
    async def view(self, governance_treasury: TreasuryPart) -> GovernanceTreasury:
        """Read what the treasury has, what it has promised, and its budget lines."""
        return await governance_treasury.view()

    @get("/moves", operation_id="list_treasury_moves", summary="List the treasury's moves", opt=reads(InvalidCursor))
    async def moves(
        self,
        governance_treasury: TreasuryPart,
        proposal: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[GovernanceMove]:
        """List what the treasury got, pays and is to pay, newest first, of one proposal or all."""
        bound = (proposal or "",)
        after = after_id("treasury_moves", cursor, "txn", bound_to=bound)
        found = await governance_treasury.payments(proposal=proposal, limit=limit + 1, after=after)
        return Page.of("treasury_moves", found, limit, lambda one: one.id, bound_to=bound)

    @get("/report", operation_id="get_treasury_report", summary="Report a period", opt=reads())
    async def report(
        self, governance_treasury: TreasuryPart, since: FromQuery[Moment], until: FromQuery[Moment]
    ) -> GovernanceReport:
        """Add up what the treasury got and paid in a period, from what the ledger moved."""
        if until < since:
            raise Invalid(fields=(FieldError("/until", "Expected no time before `since`"),))
        return await governance_treasury.report(since, until)

    @post(
        "/gifts",
        operation_id="give_to_treasury",
        summary="Give to the treasury",
        opt=changes(InvalidAmount, AmountOverflow, InsufficientFunds, StakeRefused),
    )
    async def give(
        self, governance_treasury: TreasuryPart, who: Who, once: Once, data: JSONBody[GovernanceAmount]
    ) -> GovernanceMove:
        """Give money of the caller's account to the treasury, for good."""
        return await governance_treasury.give(who, data.units(), once)

    @put(
        "/moves/{move:str}/approval",
        operation_id="approve_milestone",
        summary="Approve a milestone",
        opt=settles(MilestoneNotFound, permission="governance:execute"),
    )
    async def approve(self, governance_treasury: TreasuryPart, who: Who, move: FromPath[str]) -> GovernanceMove:
        """Approve that a milestone was reached; when two accounts did, it is paid. Doing it again changes nothing."""
        return await governance_treasury.approve(who, move)


class ParameterController(Controller):
    """What governance may change while everything runs."""

    path = "/parameters"
    tags = ("governance",)

    @get("/", operation_id="list_parameters", summary="List live parameters", opt=reads())
    async def list(self, governance_parameters: NamedDependency[LiveParameters]) -> GovernanceParameters:
        """List every live parameter with its value now, its range, and where the value comes from."""
        return GovernanceParameters(data=tuple(governance_parameters.all()))

    @get("/{name:str}", operation_id="get_parameter", summary="Get a live parameter", opt=reads(ParameterNotFound))
    async def one(
        self, governance_parameters: NamedDependency[LiveParameters], name: FromPath[str]
    ) -> GovernanceParameter:
        """Read one live parameter."""
        return governance_parameters.one(name)
