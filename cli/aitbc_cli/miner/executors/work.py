"""The messages between the pool and its workers: a piece of work, its progress, its outcome."""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

SHARED = frozenset({"chat"})
"""Kinds whose work mostly waits for another program: one process does all of it, however many slots there are."""
PROGRAMS = frozenset({"command", "container"})
"""Kinds whose work is a program of the requester's choice: it gets GPUs, and is paid by time."""
OF_PACKAGES = "packages"
"""What stands for every kind that a package of the platform adds: its name has a dash, and a program here does it."""
INLINE_BYTES = 64 * 1024
LAST_WORDS = 1_500
"""How many characters of the end of standard error are told with a failure: an error's line stands last."""
ALL_GPUS, NO_GPUS = "all", "none"
GPU_UNUSABLE = "gpu_unusable"
GPU_FAILED = "gpu_failed"
"""The reason of a failure after which the GPU is tried again before other work gets it."""


def is_of_package(kind: str) -> bool:
    """Whether a kind is none of the platform's own."""
    return "-" in kind


def runs_programs(kind: str) -> bool:
    """Whether the work of a kind is done by other programs than the worker, which must all end with it."""
    return kind in PROGRAMS or is_of_package(kind)


@dataclass(frozen=True)
class Gpu:
    """A GPU that a piece of work has."""

    uuid: str
    memory_mib: int | None = None
    """How much of its memory the work may hold; none where nothing is known."""
    is_shared: bool = False
    """Whether other work may have it at the same time."""


@dataclass(frozen=True)
class Work:
    """One attempt at one job, ready to run.

    `folder` is private to this attempt and is the only place an executor writes to. `input_files` are artifacts that
    were already brought here, by field name. `run_seconds` is how long the work may take. `gpus` are the devices that
    it has; a program sees no others. None leaves the choice to the pool.
    """

    job_id: str
    attempt: int
    kind: str
    input: Any
    input_files: Mapping[str, Path]
    folder: Path
    run_seconds: float
    env: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] | None = None
    check: Mapping[str, Any] | None = None
    """The answer of another miner that is to be evaluated, in place of doing the work."""


@dataclass(frozen=True)
class Failure:
    """Why work failed: whose fault it was, a stable code, and one sentence for a person."""

    fault: str
    reason: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """How work ended.

    A small output is in `output`, one of more than 64 KiB is a JSON file in `output_files["output"]`. `usage` is
    evidence of what was consumed. With an error there may still be an output: what a program wrote before it failed.
    """

    output: Any | None = None
    output_files: Mapping[str, Path] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)
    error: Failure | None = None


@dataclass(frozen=True)
class Progress:
    """How far the work is (0 to 1, None when unknown), and log lines and text of the output since the last report."""

    fraction: float | None
    lines: list[str]
    text: str = ""


@dataclass(frozen=True)
class KindStatus:
    """Whether a kind of work can be done here; `reason` and `message` say why not and what helps.

    `memory_bytes` is what a worker of this kind holds after its first piece of work.
    """

    usable: bool
    reason: str | None
    message: str
    warm_up_ms: int | None
    memory_bytes: int | None
    detail: Mapping[str, Any]


def with_big_output_in_file(outcome: Outcome, folder: Path) -> Outcome:
    """The same outcome; an output over the inline limit has become a file in the folder of the work."""
    if outcome.output is None:
        return outcome
    body = json.dumps(outcome.output, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    if len(body) <= INLINE_BYTES:
        return outcome
    # A name that nobody can foresee, made new: the folder also belongs to the program that just ran there.
    path = folder / f"output-{secrets.token_hex(8)}.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(body)
    return Outcome(output_files={**outcome.output_files, "output": path}, usage=outcome.usage, error=outcome.error)


def with_last_words(failure: Failure, stderr: str) -> Failure:
    """A failure with what a program said last, where it said anything."""
    last = stderr.strip()
    if not last:
        return failure
    cut = "… " if len(last) > LAST_WORDS else ""
    return replace(failure, message=f"{failure.message} Its standard error ended:\n{cut}{last[-LAST_WORDS:]}")


class WorkFailed(Exception):
    """The work cannot be done, or could not be; carries the failure to report."""

    def __init__(self, fault: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(fault, reason, message)


Report = Callable[[Progress], None]


class Executor(Protocol):
    """What every kind of work offers inside its worker process; built from the options of the kind."""

    def warm_up(self) -> dict[str, Any]:
        """Do a first small piece of work, and say what this executor is (models, digests, programs)."""

    def run(self, work: Work, report: Report) -> Outcome:
        """Do the work; raises WorkFailed, or FieldError for an input that is malformed."""


@runtime_checkable
class GpuExecutor(Protocol):
    """An executor whose work gets GPUs."""

    def try_gpu(self, gpu: Gpu) -> dict[str, Any]:
        """Have a program of the miner's own use a GPU as work would; raises WorkFailed where that failed."""
