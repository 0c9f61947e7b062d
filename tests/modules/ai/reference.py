"""A small model of a job's life in plain Python: what the states, counters and clocks of jobs should be."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aitbc.kernel.primitives.clock import now

OPEN = ("queued", "leased", "running")
QUEUE_SECONDS, START_SECONDS, RUN_SECONDS = 60, 12, 50
LEASE = timedelta(seconds=30)
LATE = timedelta(seconds=2)
STOP_GRACE = timedelta(seconds=10)
AVOIDED_FOR = timedelta(seconds=30)


@dataclass
class Attempt:
    """One lease of a job."""

    job: "Job"
    id: str
    miner: str
    account: str
    token: int
    expires_at: datetime
    run_until: datetime
    is_running: bool = False
    stop_asked_at: datetime | None = None
    text: str = ""
    """What was streamed of the output."""
    ended: str | None = None
    reason: str = ""
    fault: str = "none"
    blames: bool = False
    output: str | None = None
    """The text of the accepted output."""

    @property
    def status(self) -> str:
        """What a renewal answers."""
        if self.ended is None:
            return "live" if self.stop_asked_at is None else "stop"
        return "canceled" if self.ended == "canceled" else "lost"

    def show_sign(self) -> None:
        """The first sign of work."""
        if not self.is_running:
            self.is_running = True
            self.job.set("running", "working")

    def renew(self) -> None:
        """A renewal in time."""
        self.show_sign()
        self.expires_at = max(self.expires_at, min(now() + LEASE, self.run_until))

    def end(self, ended: str, reason: str, fault: str = "none") -> None:
        """Close it, once."""
        assert self.ended is None, "an attempt ends once"
        self.ended, self.reason, self.fault = ended, reason, fault


@dataclass
class Job:
    """A job as it should be."""

    id: str
    account: str
    kind: str
    attempts_max: int
    retry_requester: bool
    key: str
    expires_at: datetime
    deadline_at: datetime
    due_at: datetime
    due_from: datetime
    """The earliest end of the backoff, which is random."""
    state: str = "queued"
    reason: str = "submitted"
    fault: str = "none"
    counted: int = 0
    history: list[Attempt] = field(default_factory=list)
    avoided: set[str] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in OPEN

    @property
    def live(self) -> Attempt | None:
        """The attempt that holds it."""
        return self.history[-1] if self.state in ("leased", "running") else None

    def set(self, state: str, reason: str, fault: str = "none") -> None:
        """Move to another state; a job ends once."""
        assert self.is_open, "a job ends once"
        self.state, self.reason, self.fault = state, reason, fault

    def can_be_taken(self, miner: str) -> bool:
        """Whether a miner that serves the kind may have it now."""
        avoided = miner in self.avoided and now() < self.due_at + AVOIDED_FOR
        return self.state == "queued" and self.due_at <= now() and not avoided

    def take(self, attempt: str, miner: str, account: str) -> Attempt:
        """Lease it."""
        self.set("leased", "taken")
        run_until = now() + timedelta(seconds=RUN_SECONDS)
        expires_at = now() + timedelta(seconds=START_SECONDS)
        taken = Attempt(self, attempt, miner, account, len(self.history) + 1, expires_at, run_until)
        self.history.append(taken)
        return taken

    def succeed(self, text: str) -> None:
        """Its result was accepted."""
        assert self.live is not None
        attempt, reason = self.live, "completed" if self.live.stop_asked_at is None else "stopped_early"
        self.set("succeeded", reason)
        attempt.output = text
        attempt.end("succeeded", reason)

    def give_up(self, ended: str, reason: str, fault: str) -> None:
        """Its attempt ended without a result."""
        attempt = self.live
        assert attempt is not None
        attempt.blames = fault == "requester"
        if attempt.blames and self.kind == "embed" and not self._is_agreed(attempt):
            fault = "unknown"
        attempt.end(ended, reason, fault)
        self.counted += ended != "released" and fault != "platform"
        if attempt.stop_asked_at is not None:
            self.set("canceled", "stop_unanswered")
        elif fault == "requester" and not self.retry_requester:
            self.set("failed", "requester_fault", fault)
        elif self.counted >= self.attempts_max:
            self.set("failed", "attempts_exhausted", fault)
        elif now() >= self.deadline_at:
            self.set("failed", "deadline_passed", fault)
        else:
            self._retry(ended, fault)
            if fault == "miner" or (attempt.blames and self.kind == "embed"):
                self.avoided.add(attempt.miner)

    def _is_agreed(self, attempt: Attempt) -> bool:
        return any(
            other.blames and other.miner != attempt.miner and other.account != attempt.account
            for other in self.history[:-1]
        )

    def _retry(self, ended: str, fault: str) -> None:
        self.set("queued", "retrying", fault)
        step = self.counted if fault in ("unknown", "requester") else len(self.history)
        longest = min(2.0 ** (max(step, 1) - 1), 60.0)
        if fault == "miner" or (ended == "released" and len(self.history) == 1):
            longest = 0.0
        self.due_from = now() + timedelta(seconds=longest * 0.75)
        self.wait_until(now() + timedelta(seconds=longest))

    def wait_until(self, due_at: datetime) -> None:
        """The backoff ends then."""
        self.due_at = due_at
        self.expires_at = min(due_at + timedelta(seconds=QUEUE_SECONDS), self.deadline_at)

    def cancel(self, reason: str = "canceled_by_owner") -> None:
        """Its owner ends it."""
        attempt = self.live
        self.set("canceled", reason)
        if attempt is not None:
            attempt.end("canceled", reason)

    def sweep(self) -> None:
        """The clocks: of the lease, of a stop, of the queue."""
        attempt = self.live
        if attempt is not None and attempt.expires_at < now() - LATE:
            if now() >= attempt.run_until:
                self.give_up("lost", "run_timeout", "unknown")
            else:
                self.give_up("lost", "lease_expired" if attempt.is_running else "not_started", "miner")
        attempt = self.live
        if attempt is not None and attempt.stop_asked_at is not None and attempt.stop_asked_at < now() - STOP_GRACE:
            attempt.end("lost", "stop_unanswered", "unknown")
            self.set("canceled", "stop_unanswered")
        if self.state == "queued" and self.expires_at <= now():
            self.set("expired", "deadline_passed" if now() >= self.deadline_at else "queue_timeout")
