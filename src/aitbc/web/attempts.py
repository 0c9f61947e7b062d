"""Slows down who tries keys at the sign-in: a few failures from one address, then a pause."""

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

    def admit(self, address: str) -> None:
        """Raise `TooManySignIns` for an address that failed too often."""
        failures = self._failures.get(address)
        while failures and failures[0] < monotonic() - SECONDS:
            failures.popleft()
        if failures is not None and len(failures) >= FAILURES_MAX:
            raise TooManySignIns(headers={"Retry-After": str(int(SECONDS))})

    def failed(self, address: str) -> None:
        """Note a failure."""
        if len(self._failures) >= ADDRESSES_MAX:
            self._failures.clear()
        self._failures.setdefault(address, deque(maxlen=FAILURES_MAX)).append(monotonic())
