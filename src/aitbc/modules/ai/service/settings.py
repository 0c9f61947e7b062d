"""The settings of ai."""

from typing import Annotated

from msgspec import Meta, Struct


class AiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[ai]` table of the configuration."""

    unit_prices: dict[str, int] = {}
    """The price of a unit by kind, in minor units of money, where it is not the kind's own."""
    artifact_bytes_max: int = 64 * 1024 * 1024
    """What one artifact may weigh."""
    artifact_quota_bytes: int = 1024 * 1024 * 1024
    """What the artifacts of one account may weigh together."""
    artifact_retention_seconds: int = 604_800
    """How long an artifact is kept after its upload."""
    open_jobs_per_account: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    """How many jobs of one account may wait or be worked on at once."""
    grace_seconds: float = 35.0
    """After this process was frozen or just started: how long leases that seem to have ended are left alone."""
