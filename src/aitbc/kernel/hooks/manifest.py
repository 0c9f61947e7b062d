"""Manifests: what a plugin is, what it is asked at, and what it asks for; and what its publisher signs."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.crypto.signing import canonical, digest, verify
from aitbc.kernel.primitives.text import Name, Text

PERMISSIONS = ("log", "storage")
"""What a sandboxed plugin can ask for: to write to the log, and to keep values from one call to the next."""
CATEGORIES = ("pricing", "policy", "quality", "other")
MANIFEST_BYTES_MAX = 16 * 1024
NUMBER = r"(0|[1-9][0-9]{0,5})"

PluginName = Annotated[
    str,
    Meta(max_length=81, pattern=r"^[a-z][a-z0-9-]{0,38}[a-z0-9]\.[a-z][a-z0-9-]{0,38}[a-z0-9]\Z"),
    Meta(extra_json_schema={"pattern": r"^[a-z][a-z0-9-]{0,38}[a-z0-9]\.[a-z][a-z0-9-]{0,38}[a-z0-9]$"}),
    Meta(examples=["acme.night-price"]),
]
"""A namespace, a dot and a name in it."""
Version = Annotated[
    str,
    Meta(max_length=20, pattern=rf"^{NUMBER}\.{NUMBER}\.{NUMBER}\Z"),
    Meta(extra_json_schema={"pattern": rf"^{NUMBER}\.{NUMBER}\.{NUMBER}$", "examples": ["1.0.0"]}),
]
Range = Annotated[
    str,
    Meta(
        max_length=60,
        pattern=rf"^(>=|>|<=|<|==){NUMBER}(\.{NUMBER}){{0,2}}(,(>=|>|<=|<|==){NUMBER}(\.{NUMBER}){{0,2}})*\Z",
    ),
    Meta(extra_json_schema={"pattern": r"^(>=|>|<=|<|==)[0-9.]+(,(>=|>|<=|<|==)[0-9.]+)*$", "examples": [">=0.1,<1"]}),
]
Word = Annotated[str, Meta(min_length=1, max_length=30, pattern=r"^[a-z0-9][a-z0-9-]*\Z")]

_PART = re.compile(r"(>=|<=|==|>|<)([0-9.]+)")
_HOLDS = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file `plugin.json` beside a plugin."""

    name: PluginName
    """Its namespace and its name. For example `acme.night-price`."""
    version: Version
    """Three numbers; a version is published once and never changes. For example `1.0.0`."""
    kind: Literal["sandboxed", "remote"]
    """A WebAssembly module that runs in a sandbox, or an HTTPS endpoint."""
    summary: Name
    """One line that says what it does. For example `Cheaper at night.`."""
    description: Text = ""
    """More about it."""
    category: Literal["pricing", "policy", "quality", "other"] = "other"
    """Where it is listed. For example `pricing`."""
    tags: Annotated[tuple[Word, ...], Meta(max_length=10)] = ()
    """Words by which it is found. For example `["night"]`."""
    license: Annotated[str, Meta(min_length=1, max_length=60)]
    """Its licence as SPDX names it. For example `MIT`."""
    aitbc: Range
    """The versions of AITBC that it fits. For example `>=0.1,<1`."""
    hooks: Annotated[tuple[Annotated[str, Meta(max_length=40)], ...], Meta(min_length=1, max_length=20)]
    """The hooks at which it is asked, with their versions. For example `["price.1"]`."""
    permissions: Annotated[tuple[Literal["log", "storage"], ...], Meta(max_length=10)] = ()
    """What it asks for beside an answer: `log`, `storage`. For example `["log"]`."""
    endpoint: Annotated[str, Meta(max_length=500)] | None = None
    """Of a remote one, where it is asked. For example `https://plugins.example.org/price`."""


def manifest_of(text: bytes | str) -> Manifest:
    """The manifest in a text. Raises `msgspec.MsgspecError` with what is wrong."""
    return msgspec.json.decode(text, type=Manifest, strict=True)


def manifest_text(manifest: Manifest) -> str:
    """The canonical text of a manifest: what its digest is made of."""
    return canonical(msgspec.to_builtins(manifest)).decode()


def package_digest(manifest: str, artifact: bytes) -> str:
    """The digest of a version: of its manifest's canonical text and of its module."""
    return digest(canonical({"artifact": digest(artifact), "manifest": digest(manifest.encode())}))


def statement(plugin: str, version: str, package: str) -> bytes:
    """What a publisher signs: that this package is this version of this plugin, and of no other."""
    return canonical({"digest": package, "plugin": plugin, "statement": "aitbc plugin", "version": version})


def is_signed(public_key: str, manifest: Manifest, package: str, signature: str) -> bool:
    """Whether a signature is that of the owner of the key for this package."""
    return verify(public_key, statement(manifest.name, manifest.version, package), signature)


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers to compare; what stands behind the third is left out, and what is missing is zero."""
    found = [int(part) for part in re.findall(r"[0-9]+", version)[:3]]
    return tuple(found + [0] * (3 - len(found)))


def fits(range_: str, version: str) -> bool:
    """Whether a version lies in a range: `>=0.1,<1`."""
    at = numbers(version)
    return all(_HOLDS[sign](at, numbers(bound)) for sign, bound in _PART.findall(range_))


def newly_asked(permissions: Sequence[str], granted: Sequence[str]) -> tuple[str, ...]:
    """The permissions that are asked for and not granted yet."""
    return tuple(sorted(set(permissions) - set(granted)))


def added_and_removed(before: Manifest | None, after: Manifest) -> dict[str, Any]:
    """What an upgrade changes of hooks and permissions."""
    old_hooks, old_permissions = (set(before.hooks), set(before.permissions)) if before else (set(), set())
    return {
        "hooks_added": tuple(sorted(set(after.hooks) - old_hooks)),
        "hooks_removed": tuple(sorted(old_hooks - set(after.hooks))),
        "permissions_added": tuple(sorted(set(after.permissions) - old_permissions)),
        "permissions_removed": tuple(sorted(old_permissions - set(after.permissions))),
    }
