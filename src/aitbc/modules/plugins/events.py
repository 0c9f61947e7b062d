"""What plugins publishes. Any module may handle it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from aitbc.kernel.database.outbox import Event


class PluginVersionDecided(Event, frozen=True, kw_only=True):
    """A version of a plugin was passed, rejected, quarantined, yanked or revoked."""

    kind: ClassVar[str] = "plugins.version_decided"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    account: str
    """Its publisher."""
    plugin: str
    version: str
    state: str

    def public(self) -> Mapping[str, Any]:
        """The version, and what became of it."""
        return {"plugin": self.plugin, "version": self.version, "state": self.state}
