"""The events of ai. Any module may subscribe."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from msgspec import UNSET, UnsetType

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.primitives import money


class JobSucceeded(Event, frozen=True, kw_only=True):
    """A result was accepted; whoever keeps the money settles it, if the direct way has not done so already.

    The fields are those of trading's `SettleHold`.
    """

    kind: ClassVar[str] = "ai.job_succeeded"
    is_critical: ClassVar[bool] = True
    concerns: ClassVar[tuple[str, ...]] = ("payer",)
    hold: str
    job: str
    attempt: str
    token: int
    payer: str
    miner: str
    miner_account: str
    job_kind: str
    input_digest: str
    output_digest: str
    unit: str
    units: int
    price_units: int
    started_at: datetime
    finished_at: datetime
    miner_key: str
    miner_signature: str
    offer: str | UnsetType = UNSET
    """The offer of its miner's owner at which it was done; unset where the platform's price held."""
    ask_units: int | UnsetType = UNSET
    """What that offer asked for one unit when the job was claimed."""
    devices: tuple[dict[str, Any], ...] | UnsetType = UNSET
    """The GPUs that were reserved for it, as its receipt names them; unset where none were."""
    verification: dict[str, Any] | UnsetType = UNSET
    """How it was verified, as its receipt says it; unset where the job asked for nothing."""

    def public(self) -> Mapping[str, Any]:
        """The job, what it cost, and the digest by which its output is known."""
        return {
            "job": self.job,
            "state": "succeeded",
            "kind": self.job_kind,
            "attempt": self.attempt,
            "price": money.render(self.price_units),
            "unit": self.unit,
            "units": self.units,
            "output_digest": self.output_digest,
            "finished_at": self.finished_at,
        }


class AnswerSucceeded(JobSucceeded, frozen=True, kw_only=True):
    """A further answer to a verified job is to be paid beside the one that was taken: it agrees, or was the check."""

    kind: ClassVar[str] = "ai.answer_succeeded"
    concerns: ClassVar[tuple[str, ...]] = ()


class HoldsFreed(Event, frozen=True, kw_only=True):
    """Money that was held to verify a job is not needed any more: these of its holds are to be voided."""

    kind: ClassVar[str] = "ai.holds_freed"
    is_critical: ClassVar[bool] = True
    job: str
    holds: tuple[str, ...]
    reason: str


class JobClosed(Event, frozen=True, kw_only=True):
    """A job ended without success (failed, canceled, expired): its hold is to be voided."""

    kind: ClassVar[str] = "ai.job_closed"
    is_critical: ClassVar[bool] = True
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    job: str
    hold: str
    state: str
    reason: str
    account: str = ""
    """Whose job it was; empty in what an earlier version published."""

    def public(self) -> Mapping[str, Any]:
        """The job, how it ended and why."""
        return {"job": self.job, "state": self.state, "reason": self.reason}


class AttemptEnded(Event, frozen=True, kw_only=True):
    """An attempt of a miner ended: what its reputation is made of."""

    kind: ClassVar[str] = "ai.attempt_ended"
    attempt: str
    job: str
    job_kind: str
    miner: str
    outcome: str
    """`succeeded`, `failed`, `lost`, `released` or `canceled`."""
    fault: str
    """`none`, `requester`, `miner`, `platform` or `unknown`."""
    reason: str
    """Why; `overcounted` for a success whose miner counted far more than the platform did, `too_fast` for one that came
    faster than is believed of such work."""
    is_own_work: bool = False
    """Whether the job was the miner's own account's: nobody else learns anything of the miner by it."""
    started_at: datetime
    ended_at: datetime


class GraphChanged(Event, frozen=True, kw_only=True):
    """A graph of jobs came to another state."""

    kind: ClassVar[str] = "ai.graph_changed"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    graph: str
    account: str
    state: str
    """`running`, `paused`, `canceling`, `succeeded`, `failed` or `canceled`."""
    reason: str
    spent_units: int
    schedule: str | None = None

    def public(self) -> Mapping[str, Any]:
        """The graph, where it is, why, and what it has cost."""
        return {
            "graph": self.graph,
            "state": self.state,
            "reason": self.reason,
            "spent": money.render(self.spent_units),
            "schedule": self.schedule,
        }


class BatchEnded(Event, frozen=True, kw_only=True):
    """A batch has ended, in whichever way: its files are there."""

    kind: ClassVar[str] = "ai.batch_ended"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    batch: str
    account: str
    status: str
    """`completed`, `failed`, `expired` or `cancelled`."""
    requests: int
    completed: int
    failed: int
    output_file: str | None
    error_file: str | None

    def public(self) -> Mapping[str, Any]:
        """The batch, how it ended, and its files."""
        return {
            "batch": self.batch,
            "status": self.status,
            "requests": self.requests,
            "completed": self.completed,
            "failed": self.failed,
            "output_file": self.output_file,
            "error_file": self.error_file,
        }
