"""The module exports what it is asked by: its memory, the place of questions, and a function for each hook."""

from collections.abc import Iterator

from aitbc.kernel.hooks.manifest import Manifest
from aitbc.kernel.hooks.rules.package import Package, RuleFinding, rejected

RULE = "exports"


def check(package: Package) -> Iterator[RuleFinding]:
    """What is missing."""
    manifest, wasm = package.manifest, package.wasm
    if not package.is_sandboxed or not isinstance(manifest, Manifest):
        return
    if isinstance(wasm, str):
        yield rejected(RULE, f"The module cannot be read: {wasm}.")
        return
    needed = {"memory": "memory", "question": "global", **dict.fromkeys(manifest.hooks, "func")}
    for name, kind in needed.items():
        if wasm.exports.get(name) != kind:
            yield rejected(RULE, f"The module must export the {kind} `{name}`.")
    if wasm.memories != 1:
        yield rejected(RULE, "The module must have one memory of its own.")
    if wasm.starts:
        yield rejected(RULE, "The module must not have a start function: nothing runs before it is asked.")
