"""No host that the operator blocked stands in what is published, and an endpoint is a public HTTPS address."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from aitbc.kernel.hooks.manifest import Manifest
from aitbc.kernel.hooks.rules.package import Package, RuleFinding, rejected

RULE = "blocked_host"
_URL = re.compile(rb"https?://([A-Za-z0-9.-]{1,253})")


def check(package: Package) -> Iterator[RuleFinding]:
    """The hosts that may not be named."""
    found = {host.decode().lower().rstrip(".") for host in _URL.findall(package.text + b"\n" + package.artifact)}
    for host in sorted(found):
        if any(host == blocked or host.endswith(f".{blocked}") for blocked in package.known.blocked_hosts):
            yield rejected(RULE, f"The host {host} is blocked.")
    manifest = package.manifest
    if isinstance(manifest, Manifest) and manifest.endpoint is not None and not _is_address(manifest.endpoint):
        yield rejected(RULE, "The endpoint is not a URL that begins with https:// and names a host.")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False
