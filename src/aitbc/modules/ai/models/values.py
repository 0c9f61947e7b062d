"""Jobs and attempts as plain values: what batches work on, with the same names as the rows."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from aitbc.modules.ai.models.speed import Work


class JobValue(Struct, kw_only=True):
    """A job by value; what was not loaded is left at its default."""

    id: str
    account: str
    kind: str
    state: str
    reason: str
    fault: str
    token: int
    attempt: str | None
    attempts: int
    attempts_max: int
    retry_requester: bool
    avoided: str
    due_at: datetime
    expires_at: datetime
    deadline_at: datetime
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    kept_until: datetime | None
    queue_seconds: int
    start_seconds: int
    run_seconds: int
    retention_seconds: int
    hold_expires_at: datetime
    max_price_units: int
    unit: str
    unit_price_units: int
    price_units: int | None = None
    units: int | None = None
    output_digest: str | None = None
    needs: str = ""
    lane: UUID | None = None
    priority: int = 0
    rank: int = 0
    input: str | None = None
    input_digest: str = ""
    files: str | None = None
    input_units: int = 0
    units_max: int = 0
    expects: str = "{}"
    output: str | None = None
    preferred: str = ""
    request_id: str | None = None
    verification: str = "none"
    copies: int = 1
    barred: str = ""
    trusted_only: bool = False
    verdict: str | None = None


class AttemptValue(Struct, kw_only=True):
    """An attempt by value."""

    id: str
    job: str
    kind: str
    token: int
    miner: str
    miner_account: str
    started_at: datetime
    run_until: datetime
    expires_at: datetime
    running_at: datetime | None = None
    progress: float | None = None
    ended: str | None = None
    ended_at: datetime | None = None
    fault: str = "none"
    reason: str = ""
    message: str = ""
    usage: str | None = None
    note: str | None = None
    output_digest: str | None = None
    miner_key: str | None = None
    signature: str | None = None
    devices: str | None = None
    stop_asked_at: datetime | None = None
    ask_units: int | None = None
    offer: str | None = None
    session: str | None = None
    newcomer: bool = False


class Delivered(Struct, kw_only=True, frozen=True):
    """A result that passed every check, ready to be accepted if its lease still holds."""

    job: str
    attempt: str
    miner: str
    token: int
    output: str
    """JSON text."""
    output_digest: str
    units: int
    price_units: int
    usage: str
    note: str | None
    miner_key: str
    signature: str
    is_of_parts: bool = False
    """Whether its text is exactly what was streamed in parts, as it must be where the owner asked to finish early."""
    is_overcounted: bool = False
    """Whether the miner counted far more than the platform."""
    work: Work | None = None
    """What was made in which time, for the measure of its class; none of what was delivered before."""
    is_too_fast: bool = False
    """Whether it came faster than is believed of its class."""


class StoredPart(Struct, frozen=True, kw_only=True):
    """A piece of an output, as followers get it."""

    attempt: int
    sequence: int
    at: datetime
    text: str
