"""The module imports only what its manifest asks for."""

from collections.abc import Iterator

from aitbc.kernel.hooks.manifest import Manifest
from aitbc.kernel.hooks.rules.package import Package, RuleFinding, rejected

RULE = "imports"
OF_PERMISSION = {"log": "log", "get": "storage", "put": "storage"}
"""By function of the host: the permission that it needs."""


def check(package: Package) -> Iterator[RuleFinding]:
    """What it may not import."""
    manifest, wasm = package.manifest, package.wasm
    if not isinstance(manifest, Manifest) or isinstance(wasm, str):
        return
    for module, name, kind in wasm.imports:
        if module != "aitbc" or kind != "func" or name not in OF_PERMISSION:
            yield rejected(
                RULE, f"The module imports {module}.{name}; there is only aitbc.log, aitbc.get and aitbc.put."
            )
        elif OF_PERMISSION[name] not in manifest.permissions:
            yield rejected(RULE, f"The module imports aitbc.{name}, which needs the permission {OF_PERMISSION[name]}.")
