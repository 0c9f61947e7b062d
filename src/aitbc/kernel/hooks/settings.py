"""The settings of hooks and plugins, the same in every process of an installation."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct


class HookSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plugins: which Python packages are trusted, and what happens to those that fail."""

    trusted: list[str] = msgspec.field(default_factory=list)
    """Installed packages whose plugins are loaded, each as `name` or as `name sha256:…`, the digest of its files.

    They run inside of the server, with all that it may do.
    """
    poll_seconds: Annotated[float, Meta(gt=0, le=30)] = 5.0
    """How often each process looks for what was installed, changed or revoked: a revocation is in force after that."""
    rest_after: Annotated[int, Meta(ge=1, le=1000)] = 5
    """After so many failures in a row a plugin is not asked for a while."""
    rest_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    """How long; then it is asked once, and rests again if that fails."""
    memory_mib: Annotated[int, Meta(ge=1, le=256)] = 16
    """The memory of one instance of a sandboxed plugin, in MiB."""
    wall_ms: Annotated[int, Meta(ge=20, le=10_000)] = 200
    """How long one call of a sandboxed plugin may run, in milliseconds."""
    blocked_hosts: list[str] = msgspec.field(default_factory=list)
    """Hosts, their subdomains included, that no plugin may name."""
