"""What a job of a cluster runs, and what it takes of the cluster."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What each job of a kind takes."""

    cpus: int
    memory_bytes: int
    output_bytes: int
    """Of each of its two streams that is kept."""


@dataclass(frozen=True)
class Planned:
    """What the job of an attempt runs."""

    script: str
    stdin: bytes
    size: Size
