"""What hermes publishes. Any module may handle it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.primitives import money


class AgentRunChanged(Event, frozen=True, kw_only=True):
    """A run of an agent came to another state."""

    kind: ClassVar[str] = "hermes.run_changed"
    concerns: ClassVar[tuple[str, ...]] = ("account", "owner")
    run: str
    account: str
    """Who called."""
    owner: str
    """Whose agent it is."""
    agent: str
    skill: str
    state: str
    reason: str
    spent_units: int

    def public(self) -> Mapping[str, Any]:
        """The run, where it is and what it has cost."""
        return {
            "run": self.run,
            "agent": self.agent,
            "skill": self.skill,
            "state": self.state,
            "reason": self.reason,
            "spent": money.render(self.spent_units),
        }
