"""A session of polls: what the miner says with each, so that a lease whose answer was lost is given again."""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from aitbc_cli.miner.client import Refused

POLL_SECONDS = 25.0
FULL_POLL_SECONDS = 2.0
"""How long a poll waits while a served model has no slot free: it says what was free when it began."""


class PollSession:
    """One run of the program, which polls one time after the other, and says what it has."""

    def __init__(self) -> None:
        self._name: str | None = secrets.token_hex(8)

    def wish(
        self, slots: int, at_hand: Iterable[str], models_free: Mapping[str, int], run_seconds_max: int | None
    ) -> dict[str, Any]:
        """The body of a poll for so many jobs, with all leases `at_hand` by their attempts."""
        body: dict[str, Any] = {"slots": slots, "wait_seconds": POLL_SECONDS}
        if models_free:
            body["models_free"] = dict(models_free)
            body["wait_seconds"] = FULL_POLL_SECONDS if 0 in models_free.values() else POLL_SECONDS
        if run_seconds_max is not None:
            body |= {"run_seconds_max": run_seconds_max, "wait_seconds": min(body["wait_seconds"], run_seconds_max)}
        if self._name is not None:
            body |= {"session": self._name, "leases": sorted(at_hand)}
        return body

    def is_unknown_to(self, refused: Refused) -> bool:
        """Whether it may be an older server, which refuses what it does not know: it is polled without from now on."""
        if self._name is None or refused.status not in (400, 422):
            return False
        self._name = None
        return True
