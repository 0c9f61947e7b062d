"""What rules look at, and what they find."""

from collections.abc import Callable, Iterator
from functools import cached_property

import msgspec
from msgspec import Struct

from aitbc.kernel.hooks.manifest import Manifest, manifest_of
from aitbc.kernel.hooks.wasm_file import NotWasm, WasmFile, read_wasm

GUIDE = "docs/guides/write-a-plugin.md"


class RuleFinding(Struct, frozen=True, kw_only=True):
    """Something that a rule found."""

    rule: str
    """The rule. For example `leaked_secret`."""
    severity: str
    """`reject`, or `quarantine` until an operator has looked at it. For example `reject`."""
    message: str
    """What was found. For example `The module holds what looks like an AWS access key.`."""
    help: str
    """Where the guide says what to do. For example `docs/guides/write-a-plugin.md#leaked_secret`."""


class Known(Struct, frozen=True, kw_only=True):
    """What rules know of the registry: offline nothing."""

    names: frozenset[str] = frozenset()
    """The plugins that are there, but those of the publisher's own namespaces."""
    blocked_hosts: frozenset[str] = frozenset()
    blocked_digests: frozenset[str] = frozenset()
    """The digests of modules that were revoked."""
    release: str = ""
    """The version of AITBC that is running; empty where that does not matter."""


class Package:
    """A plugin as its publisher hands it in."""

    def __init__(self, manifest: bytes, artifact: bytes, known: Known) -> None:
        self.text = manifest
        self.artifact = artifact
        self.known = known

    @cached_property
    def manifest(self) -> Manifest | str:
        """The manifest, or why it cannot be read."""
        try:
            return manifest_of(self.text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return str(error)

    @cached_property
    def wasm(self) -> WasmFile | str:
        """What can be seen of the module, or why it cannot be read."""
        try:
            return read_wasm(self.artifact)
        except NotWasm as error:
            return str(error)

    @property
    def is_sandboxed(self) -> bool:
        """Whether it has a module."""
        return isinstance(self.manifest, Manifest) and self.manifest.kind == "sandboxed"


Rule = Callable[[Package], Iterator[RuleFinding]]


def rejected(rule: str, message: str) -> RuleFinding:
    """A finding that ends the publication."""
    return RuleFinding(rule=rule, severity="reject", message=message, help=f"{GUIDE}#{rule}")


def doubtful(rule: str, message: str) -> RuleFinding:
    """A finding that an operator must look at."""
    return RuleFinding(rule=rule, severity="quarantine", message=message, help=f"{GUIDE}#{rule}")
