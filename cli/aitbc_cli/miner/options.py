"""The options of a miner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GRACE_SECONDS = 30.0
NOT_ENROLLED = (
    "this miner is not enrolled here; its owner makes a token with `aitbc miner token`, "
    "and the miner finds it in AITBC_ENROLMENT_TOKEN; or `aitbc miner enrol --code` shows a code to approve"
)


class MinerFailed(Exception):
    """The miner cannot go on; the message says why and what helps, `exit_code` is the command's."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class EdgeOptions:
    """Where a miner that is an edge answers those who are near."""

    port: int
    """0 for any free port."""
    host: str = "127.0.0.1"
    address: str | None = None
    """Where others find it; what it listens at unless given."""


@dataclass(frozen=True)
class Options:
    """One miner: whom it works for, where it keeps its things, and what it does.

    `kinds` maps each kind of work to its options; kinds that cannot be done here are not announced. `home` is a folder
    that belongs to this miner alone.
    """

    url: str
    home: Path
    name: str
    slots: int
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"embed": {}, "ocr": {}})
    token: str | None = None
    """A one-time enrolment token; needed until the miner is enrolled."""
    region: str | None = None
    grace_seconds: float = GRACE_SECONDS
    """How long running work may go on after the first signal to stop."""
    schedule: str | None = None
    """The hours in which it works, by this machine's clock: `22:00-07:00`; none for all."""
    only_when_idle: bool = False
    """Take work only while nobody else uses the machine."""
    slurm: bool = False
    """Whether programs run as jobs of the Slurm cluster that this machine belongs to."""
    ray: str | None = None
    """The dashboard of the Ray cluster as whose jobs programs run, `http://127.0.0.1:8265`; none for no Ray."""
    metrics_port: int | None = None
    """Where it shows its metrics on loopback; 0 for any free port, none for nowhere."""
    edge: EdgeOptions | None = None
    """How it serves as an edge; none for a miner that is none."""
    json_events: bool = False
    """Write events as JSON lines to standard output."""
