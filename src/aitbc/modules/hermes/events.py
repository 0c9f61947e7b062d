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


class DeploymentChanged(Event, frozen=True, kw_only=True):
    """A deployment to edges came to another state, or to another version."""

    kind: ClassVar[str] = "hermes.deployment_changed"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    deployment: str
    account: str
    state: str
    version: int
    target: int
    problem: str

    def public(self) -> Mapping[str, Any]:
        """The deployment, its state, the newest version, and the one that edges are to have."""
        return {
            "deployment": self.deployment,
            "state": self.state,
            "version": self.version,
            "target": self.target,
            "problem": self.problem,
        }
