"""What a job would cost and who could take it, and why one is where it is."""

from typing import Literal

from msgspec import Struct

from aitbc.modules.ai.api import Attempt


class FilterCount(Struct, frozen=True, kw_only=True):
    """How many miners one condition left."""

    filter: str
    wanted: str
    before: int
    after: int
    hardware: Literal["claimed"] | None = None
    """How the hardware is known that it goes by: `claimed`, by what miners' drivers say; none for other conditions."""


class ExpectedWait(Struct, frozen=True, kw_only=True):
    """How long until a miner takes the job, as far as that can be known."""

    low_seconds: float | None
    high_seconds: float | None
    basis: str
    """What the interval rests on, or `no data`."""


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a job is where it is, and what would help."""

    job: str
    state: str
    reason: str
    summary: str
    """The whole in one sentence."""
    position: int | None
    """Its place among the jobs with equal needs, from 1; none when it does not wait."""
    expected_wait: ExpectedWait
    filters: tuple[FilterCount, ...]
    suggestion: str
    attempts: tuple[Attempt, ...]


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model that miners serve."""

    name: str
    kind: str
    miners: int
    """How many miners that are online serve it."""
    slots: int
    """How many jobs these can work on at one time, of whatever kind."""


class Quote(Struct, frozen=True, kw_only=True):
    """What a job would cost and who could take it; nothing was changed."""

    kind: str
    unit: str
    unit_price: str
    units: int
    """What the input alone is metered at."""
    units_max: int
    price: str
    """The price if the output adds nothing to the meter."""
    price_max: str
    """The most it can cost: max_price must cover it."""
    fee_basis_points: int
    fee_max: str
    """The platform's share of that most, taken out of the price."""
    max_price: str
    sufficient: bool
    """Whether max_price covers price_max."""
    position: int
    """The place in the queue it would take."""
    miners_eligible: int
    filters: tuple[FilterCount, ...]
