"""What a check finds, and what a check is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

OK = "ok"
WARNING = "warning"
FAILED = "failed"
SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One result of a check; `fix` is what to type, or the lines of configuration to write, where all is not well."""

    result: str
    message: str
    fix: str | None = None
    about: str | None = None
    """Which one of several things, where a check looks at more than one."""


def ok(message: str, *, about: str | None = None) -> Finding:
    """All is well."""
    return Finding(OK, message, None, about)


def warning(message: str, fix: str, *, about: str | None = None) -> Finding:
    """It works, and something is not as it should be."""
    return Finding(WARNING, message, fix, about)


def failed(message: str, fix: str, *, about: str | None = None) -> Finding:
    """Something does not work."""
    return Finding(FAILED, message, fix, about)


def skipped(message: str, fix: str | None = None, *, about: str | None = None) -> Finding:
    """Not looked at, and why; or not there, and not needed."""
    return Finding(SKIPPED, message, fix, about)


class Unknown(Exception):
    """A fact that a check needs cannot be learned here: the check is skipped, and says why."""

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


@dataclass(frozen=True)
class Check:
    """One question. It gets the case, looks, and changes nothing."""

    name: str
    purpose: str
    examine: Callable[[Any], Finding | Sequence[Finding]]
