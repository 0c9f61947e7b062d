"""Rate limits: how many requests and tokens a minute, and how many requests at once, whom they bind, how they stand."""

from datetime import datetime

from msgspec import Struct

from aitbc.kernel.primitives.errors import TooMany

WINDOW_SECONDS = 60
"""Windows are the minutes of the clock."""
SHARE = 100
"""A process takes a hundredth of a limit at a time, so what waits unused in others is a few hundredths at most."""


class RateLimited(TooMany):
    """This is more than a rate limit allows; `Retry-After` says when it may be asked again."""

    code = "rate_limited"


class RateLimit(Struct, frozen=True, kw_only=True):
    """A limit on an account: on all of it, on one of its API keys, on one model, or on one key with one model."""

    id: str
    account: str
    key: str | None
    model: str | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    changed_at: datetime
    ended_at: datetime | None

    def binds(self, key: str, model: str | None) -> bool:
        """Whether requests of this key for this model count."""
        return self.key in (None, key) and self.model in (None, model)


class Standing(Struct, frozen=True):
    """How a limit stands after a request."""

    measure: str
    """`requests` or `tokens`."""
    most: int
    remaining: int
    reset_seconds: int


def standing_headers(standings: list[Standing]) -> dict[str, str]:
    """The headers that say how limits stand, as OpenAI names them: of several limits the tightest."""
    headers: dict[str, str] = {}
    for standing in sorted(standings, key=lambda one: -one.remaining):
        headers[f"x-ratelimit-limit-{standing.measure}"] = str(standing.most)
        headers[f"x-ratelimit-remaining-{standing.measure}"] = str(standing.remaining)
        headers[f"x-ratelimit-reset-{standing.measure}"] = f"{standing.reset_seconds}s"
    return headers


def chunk_of(most: int) -> int:
    """How much of a limit a process takes at a time."""
    return max(most // SHARE, 1)
