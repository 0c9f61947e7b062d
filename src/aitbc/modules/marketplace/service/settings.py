"""The settings of marketplace, table `[marketplace]` of the configuration."""

from typing import Annotated

from msgspec import Meta, Struct

from aitbc.kernel.parameters import Parameter, pause_of


class MarketplaceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the market is run here."""

    bounty_account: Annotated[str, Meta(pattern=r"^acct_[0-9a-z]{26}\Z")] | None = None
    """The account that pays bounties for models that jobs wait for and nobody serves. None pays none.

    A proposal fills it out of a budget line of the treasury, or the operator does."""
    bounty_share_units: Annotated[int, Meta(ge=1, le=10**10)] = 1_000
    """What one share of a bounty is worth, in minor units: it begins with 100, and has 86 400 at most."""
    bounties_per_day_units: Annotated[int, Meta(ge=0, le=10**18)] = 10 * 10**8
    """The most that is paid for bounties in 24 hours, in minor units, what is held for open ones included."""


BOUNTY_SHARE, BOUNTIES_PER_DAY = "marketplace.bounty_share_units", "marketplace.bounties_per_day_units"
MARKETPLACE_PARAMETERS = (
    pause_of("marketplace"),
    Parameter(
        name=BOUNTY_SHARE,
        text="What one share of a bounty is worth, of which it has 100 to 86 400.",
        unit="minor units",
        least=1,
        most=10**10,
        default=1_000,
        setting=("bounty_share_units",),
    ),
    Parameter(
        name=BOUNTIES_PER_DAY,
        text="The most that is paid for bounties in 24 hours.",
        unit="minor units",
        least=0,
        most=10**18,
        default=10 * 10**8,
        setting=("bounties_per_day_units",),
    ),
)
