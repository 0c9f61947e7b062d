"""The module is none that was revoked."""

from collections.abc import Iterator

from aitbc.kernel.crypto.signing import digest
from aitbc.kernel.hooks.rules.package import Package, RuleFinding, rejected

RULE = "blocked_module"


def check(package: Package) -> Iterator[RuleFinding]:
    """Whether it is one of those, under whatever name."""
    if package.artifact and digest(package.artifact) in package.known.blocked_digests:
        yield rejected(RULE, "This very module was revoked.")
