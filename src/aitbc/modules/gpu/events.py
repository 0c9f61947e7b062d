"""The events of gpu. Any module may subscribe to them."""

from datetime import datetime
from typing import Any, ClassVar

from msgspec import field

from aitbc.kernel.database.outbox import Event


class MinerChanged(Event, frozen=True, kw_only=True):
    """A miner appeared, changed what it can do, or came, went or drains: the whole of what matching must know.

    `version` grows with each change of the miner, so that a subscriber can keep the newest and drop the rest.
    """

    kind: ClassVar[str] = "gpu.miner_changed"
    miner: str
    account: str
    version: int
    status: str
    """`online`, `draining`, `offline` or `removed`."""
    status_reason: str | None = None
    """Why, where its owner or the miner itself said so."""
    kinds: tuple[str, ...]
    models: dict[str, tuple[str, ...]]
    model_facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What is known of some of these, by name: `context`, `modalities` and `quantization`, each where it is known."""
    programs: tuple[str, ...]
    device: str
    gpu_models: tuple[str, ...]
    vram_mib: int
    region: str | None
    cuda: str | None = None
    devices: tuple[dict[str, Any], ...] = ()
    """The GPUs that can be leased to jobs, or could if they did not rest; none of a miner that does not name them.

    Each has `uuid` and `memory_mib`, what work can have of its memory; where they are known `index`, `name` and
    `compute_capability`; `verified` where a proof has measured it; and, where it is not leased now, why: `rests`.
    """
    slots: int
    booking: str | None = None
    """The booking that it is in: it takes the jobs of that booking only, from the account that booked it."""
    booker: str | None = None
    changed_at: datetime


class BookingStarted(Event, frozen=True, kw_only=True):
    """Somebody has a GPU for themselves from now on: jobs may name the booking."""

    kind: ClassVar[str] = "gpu.booking_started"
    booking: str
    account: str
    """Who booked it, and may submit jobs for it."""
    ends_at: datetime


class BookingProlonged(Event, frozen=True, kw_only=True):
    """More time of a booking is paid for: jobs of it may be leased until then."""

    kind: ClassVar[str] = "gpu.booking_prolonged"
    booking: str
    account: str
    ends_at: datetime


class BookingEnded(Event, frozen=True, kw_only=True):
    """A booking is over, whatever ended it: no work of it goes on."""

    kind: ClassVar[str] = "gpu.booking_ended"
    booking: str
    account: str
    state: str
    """`released`, `ended` or `canceled`."""
    ended_at: datetime
