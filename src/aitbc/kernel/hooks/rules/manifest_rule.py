"""The manifest can be read, and its parts go together."""

from collections.abc import Iterator

from aitbc.kernel.hooks.manifest import MANIFEST_BYTES_MAX, Manifest, fits
from aitbc.kernel.hooks.points import HOOKS
from aitbc.kernel.hooks.rules.package import Package, RuleFinding, rejected

RULE = "manifest"


def check(package: Package) -> Iterator[RuleFinding]:
    """What is wrong with the manifest."""
    if len(package.text) > MANIFEST_BYTES_MAX:
        yield rejected(RULE, f"The manifest has more than {MANIFEST_BYTES_MAX} bytes.")
    manifest = package.manifest
    if not isinstance(manifest, Manifest):
        yield rejected(RULE, f"The manifest cannot be read: {manifest}.")
        return
    for hook in sorted(set(manifest.hooks) - HOOKS.keys()):
        yield rejected(RULE, f"There is no hook {hook}; there are {', '.join(HOOKS)}.")
    if manifest.kind == "remote" and (manifest.endpoint is None or package.artifact or manifest.permissions):
        yield rejected(RULE, "A remote plugin has an endpoint, and neither a module nor permissions.")
    if manifest.kind == "sandboxed" and (manifest.endpoint is not None or not package.artifact):
        yield rejected(RULE, "A sandboxed plugin has a module, and no endpoint.")
    if package.known.release and not fits(manifest.aitbc, package.known.release):
        yield rejected(RULE, f"It fits AITBC {manifest.aitbc}, and this is {package.known.release}.")
