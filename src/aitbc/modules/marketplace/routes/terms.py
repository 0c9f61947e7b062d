"""The HTTP of terms: with whom an account deals."""

from typing import Annotated, Literal

from litestar import Controller, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.marketplace.models.terms import ACCOUNTS_MAX, MarketList, MarketTerms
from aitbc.modules.marketplace.service.terms import Terms

Who = NamedDependency[Principal]
AccountId = Annotated[
    str,
    Meta(max_length=31, pattern=r"^acct_[0-7][0-9a-hjkmnp-tv-z]{25}\Z"),
    Meta(
        extra_json_schema={
            "pattern": "^acct_[0-7][0-9a-hjkmnp-tv-z]{25}$",
            "examples": ["acct_01k0000000000000000000000b"],
        }
    ),
]


class SetMarketList(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those who are denied, or those who alone are allowed."""

    mode: Literal["deny", "allow"] = "deny"
    """`deny` those who are named, or `allow` nobody else."""
    accounts: Annotated[tuple[AccountId, ...], Meta(max_length=ACCOUNTS_MAX)] = ()
    """Who is named. For example `["acct_01k0000000000000000000000b"]`."""

    def value(self) -> MarketList:
        """As the service takes it."""
        return MarketList(mode=self.mode, accounts=self.accounts)


class SetMarketTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With whom you deal; a list that is left out names nobody, so that everybody will do."""

    buyers: SetMarketList = SetMarketList()
    """Whose jobs and bookings your miners take."""
    owners: SetMarketList = SetMarketList()
    """Whose miners your jobs and bookings go to."""


class MarketTermsController(Controller):
    """With whom accounts deal."""

    path = "/terms"
    tags = ("market",)

    @get("/", operation_id="get_market_terms", summary="Get your terms", opt={"permission": "market:read"})
    async def mine(self, market_terms: NamedDependency[Terms], who: Who) -> MarketTerms:
        """Read with whom the caller deals."""
        return await market_terms.get(who)

    @put(
        "/",
        operation_id="set_market_terms",
        summary="Set your terms",
        opt={"permission": "market:write", "idempotency": "natural"},
    )
    async def set(self, market_terms: NamedDependency[Terms], who: Who, data: JSONBody[SetMarketTerms]) -> MarketTerms:
        """Set with whom the caller deals, as buyer and as owner of miners: both lists are set anew.

        Who is denied gets no job and no booking with the caller from then on; what goes on already goes on.
        """
        return await market_terms.set(who, data.buyers.value(), data.owners.value())
