"""What governance publishes. Any module may handle it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from aitbc.kernel.database.outbox import Event


class ProposalChanged(Event, frozen=True, kw_only=True):
    """A proposal came to another state."""

    kind: ClassVar[str] = "governance.proposal_changed"
    concerns: ClassVar[tuple[str, ...]] = ("proposer",)
    proposal: str
    proposer: str
    title: str
    class_: str
    before: str
    """The state that it was in."""
    state: str

    def public(self) -> Mapping[str, Any]:
        """The proposal, its title and its states."""
        return {"proposal": self.proposal, "title": self.title, "before": self.before, "state": self.state}


class PluginRuled(Event, frozen=True, kw_only=True):
    """A proposal that allows or withdraws a plugin was executed: whoever runs plugins heeds it."""

    kind: ClassVar[str] = "governance.plugin_ruled"
    plugin: str
    """Its namespace and its name."""
    allowed: bool
    """Whether it may run here; what was ruled later counts."""
    proposal: str
    ruled_at: datetime
