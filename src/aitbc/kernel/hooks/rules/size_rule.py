"""The module is small, and so is each of its functions: fuel is counted at loops and calls only."""

from collections.abc import Iterator

from aitbc.kernel.hooks.rules.package import Package, RuleFinding, rejected
from aitbc.kernel.hooks.wasm_file import WasmFile

RULE = "size"
ARTIFACT_BYTES_MAX = 512 * 1024
FUNCTION_BYTES_MAX = 64 * 1024
FUNCTIONS_MAX = 10_000


def check(package: Package) -> Iterator[RuleFinding]:
    """What is too large."""
    if len(package.artifact) > ARTIFACT_BYTES_MAX:
        yield rejected(RULE, f"The module has more than {ARTIFACT_BYTES_MAX} bytes.")
    wasm = package.wasm
    if package.is_sandboxed and isinstance(wasm, WasmFile):
        if wasm.functions > FUNCTIONS_MAX:
            yield rejected(RULE, f"The module has more than {FUNCTIONS_MAX} functions.")
        if wasm.longest_function > FUNCTION_BYTES_MAX:
            yield rejected(RULE, f"A function of the module has more than {FUNCTION_BYTES_MAX} bytes.")
