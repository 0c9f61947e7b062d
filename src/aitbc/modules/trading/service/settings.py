"""The settings of trading, table `[trading]` of the configuration."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.kernel.parameters import Parameter, pause_of


class TradingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How money is handled here."""

    fee_basis_points: Annotated[int, Meta(ge=0, le=10_000)] = 250
    """The platform's share of a price, in 1/10 000."""
    fee_effective_from: datetime | None = None
    """From when that share holds; from the first start with it when nothing is said. Open holds keep theirs."""
    hold_grace_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 900.0
    """After this process was started or frozen, or its clock set: how long holds that have expired are left open.

    Longer than the longest pause between two attempts to deliver an event, so that whoever is owed is paid first.
    """
    anchor_file: str | None = None
    """A file to which the newest signed head of the chain is appended again and again: on another disk, or in a folder
    that goes elsewhere, where whoever runs this server cannot change what was written. None writes none."""
    anchor_git: Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"^[^-]")] | None = None
    """A git remote to which the same is pushed, into a branch that has one file, `anchors.jsonl`: where somebody else
    keeps the repository. Credentials belong into git's own configuration. None pushes nothing."""
    anchor_branch: Annotated[str, Meta(max_length=100, pattern=r"^[0-9A-Za-z_][0-9A-Za-z_/-]*\Z")] = "anchors"
    """The branch that it is pushed into; nothing is ever forced."""
    anchor_url: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    """A URL to which the same is posted as JSON, under the egress policy of `[webhooks]`. None posts nothing."""
    anchor_seconds: Annotated[float, Meta(ge=1, le=2_592_000)] = 3600.0
    """How old the last anchor is before the next one is written."""
    faucet: bool = False
    """Whether accounts may take play money by themselves."""
    faucet_units_per_day: Annotated[int, Meta(ge=1, le=10**18)] = 10 * 10**8
    """The most an account may take on one day (UTC), in minor units."""


FEE = "trading.fee_basis_points"
FAUCET = "trading.faucet_units_per_day"
TRADING_PARAMETERS = (
    pause_of("trading"),
    Parameter(
        name=FEE,
        text="The platform's share of a price.",
        unit="basis points",
        least=0,
        most=2_500,
        default=250,
        setting=("fee_basis_points",),
    ),
    Parameter(
        name=FAUCET,
        text="The most play money that an account may take on one day (UTC).",
        unit="minor units",
        least=1,
        most=10**15,
        default=10 * 10**8,
        setting=("faucet_units_per_day",),
    ),
)
