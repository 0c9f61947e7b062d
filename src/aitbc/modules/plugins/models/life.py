"""The states of versions and licences, and which may follow which."""

from datetime import timedelta

from aitbc.kernel.hooks.manifest import numbers

VERSION_MOVES: dict[str, frozenset[str]] = {
    "received": frozenset({"validating", "revoked"}),
    "validating": frozenset({"validating", "scanning", "rejected", "errored", "revoked"}),
    "scanning": frozenset({"validating", "passed", "rejected", "quarantined", "errored", "revoked"}),
    "errored": frozenset({"validating", "revoked"}),
    "quarantined": frozenset({"passed", "rejected", "revoked"}),
    "rejected": frozenset({"revoked"}),
    "passed": frozenset({"yanked", "revoked"}),
    "yanked": frozenset({"revoked"}),
    "revoked": frozenset(),
}
"""The states that may follow each."""
LICENCE_STATES = ("trial", "placed", "held", "refunding", "refunded", "paying", "paid", "refused")
LICENCE_MOVES: dict[str, frozenset[str]] = {
    "trial": frozenset(),
    "placed": frozenset({"held", "refused"}),
    "held": frozenset({"refunding", "paying"}),
    "refunding": frozenset({"refunded"}),
    "refunded": frozenset(),
    "paying": frozenset({"paid", "refunded"}),
    "paid": frozenset(),
    "refused": frozenset(),
}
"""The money of a licence is set aside when it is bought, and paid out when it cannot be given back any more."""
LIVE = ("placed", "held", "paying", "paid")
"""The states of which an account has at most one licence of a plugin."""
ENTITLED = ("held", "paying", "paid")
REFUND_WINDOW = timedelta(days=30)
PUBLISHER_SHARE = 7_000
"""In 1/10 000 of the price; the rest is the platform's."""
PLATFORM_SHARE = 10_000 - PUBLISHER_SHARE


def number_of(version: str) -> int:
    """A version as one number that sorts as versions do."""
    major, minor, patch = numbers(version)
    return (major * 10**6 + minor) * 10**6 + patch
