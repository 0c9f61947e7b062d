"""How well an account's jobs were served, held against limits that somebody promised."""

from msgspec import Struct


class ServiceLimits(Struct, frozen=True, kw_only=True):
    """Within what time jobs of a kind are to begin and to succeed."""

    kind: str
    """The kind of work."""
    start_seconds: int | None
    """How many seconds after its submission a miner must have begun a job; none for no such limit."""
    first_text_seconds: int | None = None
    """How many seconds after its submission the first piece of its text must have come; none for no such limit. What
    comes at once, without pieces, came when it was complete."""
    finish_seconds: int
    """How many seconds after its submission it must have succeeded."""


class ServiceLevel(Struct, frozen=True, kw_only=True):
    """How many jobs were served within the limits, and how many were not. Those that count as neither are left out."""

    good: int
    """Jobs that began, told their first text and succeeded in time."""
    bad: int
    """Jobs that were late, or failed by a fault of a miner or the platform."""
