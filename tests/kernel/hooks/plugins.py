"""Small plugins for tests: modules from text, packages that are signed, and what each of them is asked."""

from collections.abc import Mapping
from typing import Any

import wasmtime

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.hooks.engine import compiled
from aitbc.kernel.hooks.manifest import Manifest, manifest_text, package_digest, statement
from aitbc.kernel.hooks.points import Delivered, PriceAsked
from aitbc.kernel.hooks.sandbox import Sandbox
from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.hooks.tables import InstalledPlugin
from aitbc.kernel.primitives.clock import now

HALF = """
(i64.store (i32.const 16) (i64.div_s (i64.load offset=40 (global.get $question)) (i64.const 2)))
(i32.const 16)"""
"""Half of the price so far: the sixth field of the question."""


def module(
    body: str, *, hook: str = "price.1", imports: str = "", data: str = "", pages: int = 2, more: str = ""
) -> bytes:
    """A module whose function for the hook has this body."""
    text = f"""(module {imports}
      (memory (export "memory") {pages})
      (global $question (export "question") i32 (i32.const 1024))
      {data} {more}
      (func $asked (export "{hook}") (param $length i32) (result i32) {body}))"""
    return bytes(wasmtime.wat2wasm(text))


def manifest(name: str = "acme.half", **changes: Any) -> Manifest:
    """The manifest of a small plugin."""
    usual: Mapping[str, Any] = {
        "name": name,
        "version": "1.0.0",
        "kind": "sandboxed",
        "summary": "Half of it.",
        "license": "MIT",
        "aitbc": ">=0.1,<1",
        "hooks": ("price.1",),
    }
    return Manifest(**{**usual, **changes})


def sandbox(code: bytes, settings: HookSettings | None = None, **changes: Any) -> Sandbox:
    """A loaded plugin that was granted what it asks for."""
    declared = manifest(**changes)
    made = Sandbox(declared, compiled(code), settings or HookSettings())
    made.permissions = frozenset(declared.permissions)
    return made


def installed(declared: Manifest, artifact: bytes, key: Key, **changes: Any) -> InstalledPlugin:
    """A version as an operator installs it."""
    text = manifest_text(declared)
    digest = package_digest(text, artifact)
    values: dict[str, Any] = {
        "plugin": declared.name,
        "version": declared.version,
        "digest": digest,
        "public_key": key.public,
        "signature": key.sign(statement(declared.name, declared.version, digest)),
        "manifest": text,
        "artifact": artifact,
        "grants": tuple(declared.permissions),
        "priority": 100,
        "state": "active",
        "reason": "",
        "changed_at": now(),
    }
    return InstalledPlugin(**{**values, **changes})


def price_asked(**changes: Any) -> PriceAsked:
    """A price of 1000 minor units."""
    usual = {"at": 0, "account": "acct_x", "kind": "embed", "model": "", "units_max": 5}
    return PriceAsked(**{**usual, "unit_price_units": 1000, "list_price_units": 1000, **changes})


def delivered(output: str) -> Delivered:
    """A result."""
    return Delivered(
        at=0, job="job_x", kind="embed", miner="mnr_x", units=1, price_units=1, output=output, output_bytes=len(output)
    )
