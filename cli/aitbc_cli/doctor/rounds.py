"""Runs every check at once, each with a timeout; one that raises has failed."""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from aitbc_cli.doctor import bus, configuration, databases, gpus, keys, machine, market, miners, programs, server, state
from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, Unknown, failed, skipped

CHECK_SECONDS = 10.0
"""The timeout of one check; those that wait for somebody wait far shorter."""
CHECKS: tuple[Check, ...] = (
    *programs.CHECKS,
    *machine.CHECKS,
    *gpus.CHECKS,
    *configuration.CHECKS,
    *state.CHECKS,
    *databases.CHECKS,
    *bus.CHECKS,
    *server.CHECKS,
    *keys.CHECKS,
    *miners.CHECKS,
    *market.CHECKS,
)


def examine(case: Case, checks: Iterable[Check], *, seconds: float = CHECK_SECONDS) -> list[dict[str, Any]]:
    """A row for each finding, in the order of the checks: check, result, message, fix."""
    rounds = [_Examination(check, case) for check in checks]
    for each in rounds:
        each.start()
    end = time.monotonic() + seconds
    rows = []
    for each in rounds:
        each.join(max(0.0, end - time.monotonic()))
        for found in each.findings(seconds):
            name = f"{each.check.name} {found.about}" if found.about else each.check.name
            rows.append({"check": name, "result": found.result, "message": found.message, "fix": found.fix})
    return rows


class _Examination(threading.Thread):
    """One check at work. A thread that hangs is left behind: it ends with the process."""

    def __init__(self, check: Check, case: Case) -> None:
        super().__init__(daemon=True, name=f"check {check.name}")
        self.check = check
        self._case = case
        self._found: Sequence[Finding] | None = None

    def run(self) -> None:
        """Examine."""
        try:
            found = self.check.examine(self._case)
            self._found = [found] if isinstance(found, Finding) else found
        except Unknown as unknown:
            self._found = [skipped(unknown.message, unknown.fix)]
        except PermissionError as error:
            self._found = [skipped(f"{error.filename} is not for this user", "aitbc doctor --only state-folder")]
        except Exception as error:  # noqa: BLE001 - whatever a check dies of is its result
            again = f"aitbc doctor --only {self.check.name}"
            self._found = [failed(f"the check broke: {type(error).__name__}: {error}", again)]

    def findings(self, seconds: float) -> Sequence[Finding]:
        """What was found, or that nothing was in time."""
        if self._found is None:
            again = f"aitbc doctor --only {self.check.name}"
            return [failed(f"no answer within {seconds:g} s", again)]
        return self._found
