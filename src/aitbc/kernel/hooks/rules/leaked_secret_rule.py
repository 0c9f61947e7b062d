"""No secret stands in what is published."""

import re
from collections.abc import Iterator

from aitbc.kernel.hooks.rules.package import Package, RuleFinding, rejected

RULE = "leaked_secret"
PATTERNS = {
    "a private key": rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----",
    "an API key of AITBC": rb"aitbc_(?:live|test|admin|miner)_[0-9A-Za-z]{16}",
    "an AWS access key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of GitHub": rb"\bgh[pousr]_[0-9A-Za-z]{36}",
    "a token of GitLab": rb"\bglpat-[0-9A-Za-z_-]{20}",
    "a token of Slack": rb"\bxox[abprs]-[0-9A-Za-z-]{20}",
    "a key of Stripe": rb"\b[sr]k_live_[0-9A-Za-z]{20}",
    "a key of Google": rb"\bAIza[0-9A-Za-z_-]{35}",
    "a key of a language model": rb"\bsk-(?:ant-|proj-)?[0-9A-Za-z_-]{32}",
}
_COMPILED = {what: re.compile(pattern) for what, pattern in PATTERNS.items()}


def check(package: Package) -> Iterator[RuleFinding]:
    """What looks like a secret; itself it is not repeated."""
    for place, content in (("manifest", package.text), ("module", package.artifact)):
        for what, pattern in _COMPILED.items():
            if pattern.search(content):
                yield rejected(RULE, f"The {place} holds what looks like {what}; end it, and publish without it.")
