"""Miners as plain values: what the gathered way works on, with the same names as the rows."""

from msgspec import Struct

from aitbc.modules.gpu.models.reputation import Score


class MinerValue(Struct, kw_only=True):
    """A miner by value, as far as its life goes."""

    id: str
    account: str
    status: str
    status_reason: str | None
    drain_message: str | None
    pause_reason: str | None
    slots: int
    slots_busy: int
    version: int
    booking: str | None = None
    booker: str | None = None
    readings: str | None = None
    """What this sign of life brought; none leaves the stored ones."""


class Heartbeat(Struct, frozen=True, kw_only=True):
    """A sign of life; none stands for what it does not tell."""

    miner: str
    slots: int | None = None
    slots_busy: int | None = None
    readings: str | None = None
    pause: str | None = None
    leaving: bool = False
    request_id: str | None = None
    """The request that brought it."""


class MinerStatus(Struct, frozen=True):
    """Where a miner is after a sign of life, and why."""

    status: str
    reason: str | None


class PollContext(Struct, frozen=True, kw_only=True):
    """A miner that asks for work or brings it: all that must be known of it for that."""

    id: str
    account: str
    public_key: str
    status: str
    reason: str | None
    slots: int
    capabilities: str
    score: Score
    booking: str | None = None
    booker: str | None = None
