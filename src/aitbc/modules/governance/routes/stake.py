"""The HTTP of stake, power and delegation."""

from litestar import Controller, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.governance.models.views import GovernanceMove, GovernancePower
from aitbc.modules.governance.routes.bodies import DelegatePower, GovernanceAmount
from aitbc.modules.governance.service.refusals import (
    DelegateeNotFound,
    DelegationCycle,
    NoStake,
    StakeRefused,
    StakeTooSmall,
)
from aitbc.modules.governance.service.stakes import Stakes
from aitbc.modules.trading.api import HolderNotFound, InsufficientFunds

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
StakesPart = NamedDependency[Stakes]


def changes(*errors: type[Exception], permission: str = "governance:write") -> dict[str, object]:
    """The options of a command that moves money or makes something."""
    return {"permission": permission, "idempotency": "required", "errors": errors}


def settles(*errors: type[Exception], permission: str = "governance:write") -> dict[str, object]:
    """The options of a command that is the same when it is sent again."""
    return {"permission": permission, "idempotency": "natural", "errors": errors}


def reads(*errors: type[Exception]) -> dict[str, object]:
    """The options of a look."""
    return {"permission": "governance:read", "errors": errors}


class StakeController(Controller):
    """Stake gives power."""

    path = "/stake"
    tags = ("governance",)

    @post(
        "/lock",
        operation_id="lock_stake",
        summary="Lock stake",
        opt=changes(InvalidAmount, AmountOverflow, InsufficientFunds, StakeRefused),
    )
    async def lock(
        self, governance_stakes: StakesPart, who: Who, once: Once, data: JSONBody[GovernanceAmount]
    ) -> GovernanceMove:
        """Lock money of the caller's account: it gives power from then on, and cannot be spent."""
        return await governance_stakes.lock(who, data.units(), once)

    @post(
        "/unlock",
        operation_id="unlock_stake",
        summary="Unlock stake",
        opt=changes(InvalidAmount, AmountOverflow, StakeTooSmall),
    )
    async def unlock(
        self, governance_stakes: StakesPart, who: Who, once: Once, data: JSONBody[GovernanceAmount]
    ) -> GovernanceMove:
        """Take power back at once; the money can be spent again when the unlock delay is over."""
        return await governance_stakes.unlock(who, data.units(), once)

    @get("/", operation_id="get_stake", summary="Read your power", opt=reads())
    async def mine(self, governance_stakes: StakesPart, who: Who) -> GovernancePower:
        """Read what the caller's account could vote with now, and what it delegates."""
        return await governance_stakes.power(who.account)

    @get(
        "/accounts/{account:str}",
        operation_id="get_power",
        summary="Read an account's power",
        opt=reads(HolderNotFound),
    )
    async def of(self, governance_stakes: StakesPart, account: FromPath[str]) -> GovernancePower:
        """Read what an account could vote with now: power is everybody's to see. One without stake has none."""
        if not ids.is_id("acct", account):
            raise HolderNotFound
        return await governance_stakes.power(account)

    @get("/moves", operation_id="list_stake_moves", summary="List your stake's moves", opt=reads(InvalidCursor))
    async def moves(
        self,
        governance_stakes: StakesPart,
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[GovernanceMove]:
        """List what the caller locked, unlocked, deposited and was paid by the treasury, newest first."""
        after = after_id("stake_moves", cursor, "txn")
        found = await governance_stakes.moves_of(who.account, limit=limit + 1, after=after)
        return Page.of("stake_moves", found, limit, lambda one: one.id)

    @put(
        "/delegations",
        operation_id="delegate_power",
        summary="Delegate power",
        opt=settles(NoStake, DelegateeNotFound, DelegationCycle),
    )
    async def delegate(self, governance_stakes: StakesPart, who: Who, data: JSONBody[DelegatePower]) -> GovernancePower:
        """Let others vote with shares of the caller's power, in place of what was delegated before.

        It holds for proposals whose voting starts later. Who votes directly takes all of it back for that proposal.
        """
        return await governance_stakes.delegate(who, data.named())
