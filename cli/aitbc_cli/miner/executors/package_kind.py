"""Kinds of work that packages of the platform add: a program of the operator's does them, from JSON to JSON."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from aitbc_cli.miner.executors.command import CommandExecutor
from aitbc_cli.miner.executors.fields import FieldError
from aitbc_cli.miner.executors.work import (
    NO_GPUS,
    Failure,
    Outcome,
    Progress,
    Report,
    Work,
    WorkFailed,
    with_last_words,
)

_NAME = "program"


class PackageKindExecutor(CommandExecutor):
    """Options are `program`, a path with fixed arguments, and the limits that programs have.

    The program gets the input as JSON on its standard input, and writes the output as JSON; it has no GPU.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        if _NAME not in options:
            raise FieldError('program must name what does this kind, like ["/usr/local/bin/reverse"].')
        limits = {name: value for name, value in options.items() if name != _NAME}
        super().__init__({**limits, "programs": {_NAME: options[_NAME]}, "gpus": NO_GPUS})

    def run(self, work: Work, report: Report) -> Outcome:
        """The output as the program wrote it; one that ends otherwise or writes no JSON is the miner's fault."""
        stdin = json.dumps(work.input).encode()
        try:
            ended = self._run_program(
                self._programs[_NAME], stdin, work, on_line=lambda line: report(Progress(None, [line]))
            )
        except (OSError, subprocess.SubprocessError) as error:
            message = f"The program of {work.kind} cannot be started here ({type(error).__name__}: {error})."
            raise WorkFailed("miner", "executor_unavailable", message) from None
        failure, output = ended.failure, None
        if failure is None and ended.exit_code != 0:
            failure = Failure("miner", "exit_nonzero", f"The program ended with exit code {ended.exit_code}.")
        if failure is None:
            try:
                output = json.loads(ended.stdout)
            except (ValueError, RecursionError):
                failure = Failure("miner", "crashed", "The program wrote what is no JSON.")
        failure = with_last_words(failure, ended.stderr) if failure is not None else None
        return Outcome(output=output, usage={"milliseconds": ended.milliseconds, **ended.usage}, error=failure)
