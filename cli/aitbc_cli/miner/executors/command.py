"""Programs that the operator allowed by name, run under limits with arguments of the requester."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aitbc_cli.miner.executors.fields import FieldError, read_integer, read_list, read_object, read_text
from aitbc_cli.miner.executors.program import Ended, Limits, Program
from aitbc_cli.miner.executors.work import Failure, Outcome, Progress, Report, Work, WorkFailed

ARGUMENTS_MAX = 64
ARGUMENT_CHARACTERS_MAX = 4_096
STDIN_CHARACTERS_MAX = 1_048_576
_LAST_WORDS = 1_500
"""How many characters of the end of standard error are told with a failure: an error's line stands last."""

_MIB = 1024 * 1024
_LIMITS = {
    "memory_bytes": (1024 * _MIB, 16 * _MIB, 2**40),
    "output_bytes": (256 * 1024, 16, 64 * _MIB),
    "processes": (64, 1, 10_000),
    "disk_bytes": (1024 * _MIB, 4096, 2**40),
}
_OPTIONS = frozenset({"programs", "user", "marker", "threads", *_LIMITS})


class CommandExecutor:
    """Runs a program of the list: options are `programs` (name to path and fixed arguments) and the limits.

    What the requester gives are arguments after the fixed ones; an operator who allows a program whose options are
    dangerous ends the fixed arguments with `--`. A miner that runs as root starts programs as `user`, or nobody:
    the kernel bounds the number of processes only of those who are not root.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_object(options, allowed=_OPTIONS, what="configuration of command")
        self._programs, self._missing = _read_programs(options.get("programs"))
        self._limits = {
            name: read_integer(options.get(name, default), name, least=least, most=most)
            for name, (default, least, most) in _LIMITS.items()
        }
        self._user = _read_user(options.get("user"))
        self._marker = str(options.get("marker", ""))

    def warm_up(self) -> dict[str, Any]:
        """Which programs can be run here, and which were allowed but cannot."""
        if not self._programs:
            missing = "; ".join(f"{name}: {why}" for name, why in self._missing.items())
            raise WorkFailed("miner", "executor_unavailable", f"No allowed program can be run here ({missing}).")
        return {"programs": sorted(self._programs), "missing": self._missing, **self._limits}

    def run(self, work: Work, report: Report) -> Outcome:
        """Exit code and output; an exit code other than 0 is a failure that carries its output."""
        name, arguments, stdin = self._read_input(work.input)
        try:
            program = Program(
                [*self._programs[name], *arguments],
                stdin=stdin,
                user=self._user,
                folder=work.folder,
                environment=self._environment(work),
                limits=Limits(run_seconds=work.run_seconds, **self._limits),
                on_line=lambda line: report(Progress(None, [line])),
            )
        except (OSError, subprocess.SubprocessError) as error:
            message = f"The program {name} cannot be started here ({type(error).__name__}: {error})."
            raise WorkFailed("miner", "executor_unavailable", message) from None
        return _outcome_of(program.wait())

    def _read_input(self, value: Any) -> tuple[str, list[str], bytes]:
        fields = read_object(value, allowed=frozenset({"program", "arguments", "stdin"}), what="input of command")
        name = read_text(fields.get("program"), "program", shortest=1, longest=100)
        if name not in self._programs:
            allowed = ", ".join(sorted(self._programs)) or "none"
            message = f"The program {name!r} is not allowed on this miner; allowed are: {allowed}."
            raise WorkFailed("platform", "program_unavailable", message)
        arguments = [
            read_text(argument, f"arguments[{number}]", longest=ARGUMENT_CHARACTERS_MAX)
            for number, argument in enumerate(
                read_list(fields.get("arguments") or [], "arguments", fewest=0, most=ARGUMENTS_MAX)
            )
        ]
        stdin = "" if fields.get("stdin") is None else fields["stdin"]
        return name, arguments, read_text(stdin, "stdin", longest=STDIN_CHARACTERS_MAX).encode()

    def _environment(self, work: Work) -> dict[str, str]:
        """Nothing of the miner's own environment; of the job's, only names that mean nothing to a loader or a shell."""
        # Another user may be unable to walk to the folder, but starts in it.
        folder = str(work.folder) if self._user is None else "."
        given = {name: value for name, value in work.env.items() if name.startswith("AITBC_") and "\0" not in value}
        return {
            **given,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": folder,
            "TMPDIR": folder,
            "LANG": "C.UTF-8",
            "AITBC_JOB_ID": work.job_id,
            "AITBC_ATTEMPT": str(work.attempt),
            "AITBC_WORKER": self._marker,
        }


def _read_programs(value: Any) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The programs that can be run, and why the others cannot."""
    if not isinstance(value, Mapping) or not value:
        raise FieldError('programs must name what may be run, like {"wc": ["/usr/bin/wc"]}.')
    usable: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    for name, words in value.items():
        command = [
            read_text(word, f"programs.{name}", longest=ARGUMENT_CHARACTERS_MAX)
            for word in read_list(words, f"programs.{name}", fewest=1, most=ARGUMENTS_MAX)
        ]
        path = Path(command[0])
        if not path.is_absolute():
            missing[name] = "the path must be absolute"
        elif not path.is_file() or not os.access(path, os.X_OK):
            missing[name] = f"{path} is not an executable file"
        else:
            usable[str(name)] = command
    return usable, missing


def _read_user(name: Any) -> int | None:
    """The id of the user that programs run as, None for the user of the miner itself."""
    if os.getuid() != 0:
        if name is not None:
            raise FieldError("user can only be set for a miner that runs as root.")
        return None
    wanted = "nobody" if name is None else read_text(name, "user", shortest=1, longest=100)
    try:
        return pwd.getpwnam(wanted).pw_uid or None
    except KeyError:
        raise FieldError(f"user {wanted!r} does not exist on this machine.") from None


def _outcome_of(ended: Ended) -> Outcome:
    output = {
        "exit_code": ended.exit_code,
        "stdout": ended.stdout,
        "stderr": ended.stderr,
        "truncated": ended.truncated,
    }
    error = ended.failure
    if error is None and ended.exit_code != 0:
        error = Failure("requester", "exit_nonzero", f"The program ended with exit code {ended.exit_code}.")
    if error is not None and (last := ended.stderr.strip()):
        cut = "… " if len(last) > _LAST_WORDS else ""
        error = replace(error, message=f"{error.message} Its standard error ended:\n{cut}{last[-_LAST_WORDS:]}")
    return Outcome(output=output, usage={"milliseconds": ended.milliseconds}, error=error)
