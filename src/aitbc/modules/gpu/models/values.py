"""Miners as plain values: what the batched statements work on, with the same names as the rows."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from aitbc.modules.gpu.models.devices import ShownGpu
from aitbc.modules.gpu.models.reputation import Score


class MinerValue(Struct, kw_only=True):
    """A miner by value: the fields that a heartbeat reads and writes."""

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
    seen_at: datetime | None = None
    """When the heartbeat before this one came."""
    stopping_since: datetime | None = None
    devices: bytes | None = None
    """The digest of the GPUs that are recorded of it."""
    blocked_reason: str | None = None
    readings: str | None = None
    """The readings of this heartbeat; none leaves the stored ones."""


class Heartbeat(Struct, frozen=True, kw_only=True):
    """A heartbeat; none stands for what it does not state."""

    miner: str
    slots: int | None = None
    slots_busy: int | None = None
    readings: str | None = None
    gpus: tuple[ShownGpu, ...] | None = None
    """The GPUs in the readings."""
    pause: str | None = None
    leaving: bool = False
    request_id: str | None = None
    """The request that it came with."""


class BookedTimeValue(Struct, kw_only=True):
    """How the time of a booking is counted, by value."""

    id: UUID
    ends_at: datetime
    grace_ms: int
    unreachable_us: int
    counted_at: datetime


class MinerStatus(Struct, frozen=True):
    """The status of a miner after a heartbeat, and why."""

    status: str
    reason: str | None
    stopping_since: datetime | None = None
    """When work of a booking was ended that it has not shown to have stopped."""
    booking: str | None = None
    """The booking that it is in."""


class PollContext(Struct, frozen=True, kw_only=True):
    """What a poll or a result needs to know of its miner."""

    id: str
    account: str
    public_key: str
    status: str
    reason: str | None
    slots: int
    capabilities: str
    shown: str | None
    score: Score
    booking: str | None = None
    booker: str | None = None
