"""Tells who tries keys at the sign-in to stop; a right key is never refused for others' failures."""

from collections import deque
from time import monotonic

from aitbc.kernel.primitives.errors import TooMany

FAILURES_MAX = 20
"""How many failures within `SECONDS` one address may have."""
SECONDS = 60.0
ADDRESSES_MAX = 10_000


class TooManySignIns(TooMany):
    """Too many failed sign-ins from this address; wait a minute."""

    code = "too_many_sign_ins"


class Attempts:
    """The failures of each address in the last minute. Keys have 192 random bits: this saves work, not secrets."""

    def __init__(self) -> None:
        self._failures: dict[str, deque[float]] = {}

    def failed(self, address: str) -> TooManySignIns | None:
        """Note a failure; returns what to answer to an address that failed too often."""
        if len(self._failures) >= ADDRESSES_MAX:
            self._failures.clear()
        failures = self._failures.setdefault(address, deque(maxlen=FAILURES_MAX))
        while failures and failures[0] < monotonic() - SECONDS:
            failures.popleft()
        if len(failures) >= FAILURES_MAX:
            return TooManySignIns()
        failures.append(monotonic())
        return None
