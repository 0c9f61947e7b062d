"""Programs that the operator allowed by name, run under limits with arguments of the requester."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aitbc_cli.miner.executors import gpu_canary
from aitbc_cli.miner.executors.cgroup import cgroup_parent
from aitbc_cli.miner.executors.fields import FieldError, read_integer, read_list, read_object, read_text
from aitbc_cli.miner.executors.gpu_watch import GpuWatch
from aitbc_cli.miner.executors.program import Ended, Limits, Program
from aitbc_cli.miner.executors.work import (
    ALL_GPUS,
    GPU_FAILED,
    GPU_UNUSABLE,
    NO_GPUS,
    Failure,
    Gpu,
    Outcome,
    Progress,
    Report,
    Work,
    WorkFailed,
    with_last_words,
)
from aitbc_cli.miner.nvml import Nvml

ARGUMENTS_MAX = 64
ARGUMENT_CHARACTERS_MAX = 4_096
STDIN_CHARACTERS_MAX = 1_048_576

_MIB = 1024 * 1024
_LIMITS = {
    "memory_bytes": (1024 * _MIB, 16 * _MIB, 2**40),
    "output_bytes": (256 * 1024, 16, 64 * _MIB),
    "processes": (64, 1, 10_000),
    "disk_bytes": (1024 * _MIB, 4096, 2**40),
}
_OPTIONS = frozenset(
    {"programs", "user", "gpus", "proof", "control_groups", "canary_seconds", "marker", "threads", *_LIMITS}
)


class CommandExecutor:
    """Runs a program of the list: options are `programs` (name to path and fixed arguments) and the limits.

    What the requester gives are arguments after the fixed ones; an operator who allows a program whose options are
    dangerous ends the fixed arguments with `--`. A miner that runs as root starts programs as `user`, or nobody:
    the kernel bounds the number of processes only of those who are not root. `gpus` is `all`, or `none` for programs
    that shall have none; `proof` is how the miner itself proves its GPUs: `auto`, or `none`.

    Memory is bounded by what is used: by a control group where one can be made (`control_groups`), else by a watch over
    the process tree. `canary_seconds` is how long the test program of `try_gpu` may take.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_object(options, allowed=_OPTIONS, what="configuration of command")
        self._programs, self._missing = read_programs(options.get("programs"))
        self._limits = {
            name: read_integer(options.get(name, default), name, least=least, most=most)
            for name, (default, least, most) in _LIMITS.items()
        }
        self._user = _read_user(options.get("user"))
        if options.get("gpus", ALL_GPUS) not in (ALL_GPUS, NO_GPUS):
            raise FieldError(f"gpus must be {ALL_GPUS!r} or {NO_GPUS!r}.")
        self._marker = str(options.get("marker", ""))
        self._nvml = Nvml()
        self._canary_seconds = read_integer(
            options.get("canary_seconds", gpu_canary.SECONDS), "canary_seconds", least=1, most=3600
        )
        self._cgroups = cgroup_parent() if options.get("control_groups", True) else None
        if self._cgroups is not None:
            self._cgroups.remove_left()

    def warm_up(self) -> dict[str, Any]:
        """Which programs can be run here, and which were allowed but cannot."""
        if not self._programs:
            missing = "; ".join(f"{name}: {why}" for name, why in self._missing.items())
            raise WorkFailed("miner", "executor_unavailable", f"No allowed program can be run here ({missing}).")
        memory = "watch" if self._cgroups is None else "cgroup"
        return {
            "programs": sorted(self._programs),
            "missing": self._missing,
            "memory_bounded_by": memory,
            **self._limits,
        }

    def try_gpu(self, gpu: Gpu) -> dict[str, Any]:
        """Have a small program use a GPU under the limits of all programs, once in each interpreter that they run in.

        Raises WorkFailed with what it said where it failed: programs of requesters would fail the same way.
        """
        ran_on = []
        for interpreter in gpu_canary.interpreters(list(self._programs.values())):
            folder = Path(tempfile.mkdtemp(prefix="canary-", dir=Path.cwd()))
            work = Work("canary", 1, "command", None, {}, folder, float(self._canary_seconds), gpus=(gpu,))
            try:
                ended = self._run_program([interpreter, "-c", gpu_canary.SOURCE], b"", work, on_line=lambda _: None)
            except (OSError, subprocess.SubprocessError) as error:
                raise _gpu_unusable(gpu, interpreter, f"it cannot be started ({error})") from None
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            if ended.failure is not None or ended.exit_code != 0:
                last = (ended.stderr.strip().splitlines() or [f"exit code {ended.exit_code}"])[-1]
                why = ended.failure.message if ended.failure is not None else last
                raise _gpu_unusable(gpu, interpreter, why)
            ran_on.append(ended.stdout.strip()[:100])
        return {"ran_on": ran_on}

    def run(self, work: Work, report: Report) -> Outcome:
        """Exit code and output; an exit code other than 0 is a failure that carries its output."""
        name, arguments, stdin = read_command_input(work.input, self._programs)
        try:
            ended = self._run_program(
                [*self._programs[name], *arguments],
                stdin,
                work,
                on_line=lambda line: report(Progress(None, [line])),
            )
        except (OSError, subprocess.SubprocessError) as error:
            message = f"The program {name} cannot be started here ({type(error).__name__}: {error})."
            raise WorkFailed("miner", "executor_unavailable", message) from None
        return _outcome_of(ended, had_gpu=bool(work.gpus))

    def _run_program(
        self, command: Sequence[str], stdin: bytes, work: Work, *, on_line: Callable[[str], None]
    ) -> Ended:
        """Run a program to its end, with the GPUs of the work. Raises `OSError`, `SubprocessError` before it starts."""
        memory_bytes = self._limits["memory_bytes"]
        cgroup = self._cgroups.make(memory_bytes=memory_bytes) if self._cgroups is not None else None
        limits = Limits(
            run_seconds=work.run_seconds, bounds_address_space=not work.gpus and cgroup is None, **self._limits
        )
        try:
            return Program(
                list(command),
                stdin=stdin,
                user=self._user,
                folder=work.folder,
                environment=self._environment(work),
                limits=limits,
                on_line=on_line,
                cgroup=cgroup,
                gpu_watch=GpuWatch(work.gpus, self._nvml) if work.gpus else None,
            ).wait()
        finally:
            if cgroup is not None:
                cgroup.remove()

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
            **_gpu_environment(work.gpus or ()),
        }


def _gpu_environment(gpus: Sequence[Gpu]) -> dict[str, str]:
    """What CUDA and container runtimes go by: the GPUs of the work by uuid, and no others."""
    uuids = ",".join(gpu.uuid for gpu in gpus)
    visible = {"CUDA_VISIBLE_DEVICES": uuids, "NVIDIA_VISIBLE_DEVICES": uuids}
    shares = [gpu.memory_mib for gpu in gpus if gpu.memory_mib is not None]
    return visible | ({"AITBC_GPU_MEMORY_MIB": str(min(shares))} if shares else {})


def _gpu_unusable(gpu: Gpu, interpreter: str, why: str) -> WorkFailed:
    message = (
        f"{why.rstrip('.')}: so says a test program of the miner's own on the GPU {gpu.uuid} with {interpreter}. "
        f'Mend that, or give programs no GPU: gpus = "{NO_GPUS}" under [command] in --kinds-file.'
    )
    return WorkFailed("miner", GPU_UNUSABLE, message)


def read_command_input(value: Any, programs: Mapping[str, Sequence[str]]) -> tuple[str, list[str], bytes]:
    """Program, arguments and standard input. Raises `FieldError`, `WorkFailed` for a program that is not allowed."""
    fields = read_object(value, allowed=frozenset({"program", "arguments", "stdin"}), what="input of command")
    name = read_text(fields.get("program"), "program", shortest=1, longest=100)
    if name not in programs:
        allowed = ", ".join(sorted(programs)) or "none"
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


def read_programs(value: Any) -> tuple[dict[str, list[str]], dict[str, str]]:
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


def _outcome_of(ended: Ended, *, had_gpu: bool) -> Outcome:
    output = {
        "exit_code": ended.exit_code,
        "stdout": ended.stdout,
        "stderr": ended.stderr,
        "truncated": ended.truncated,
    }
    error = ended.failure
    if error is None and ended.exit_code != 0:
        said = gpu_canary.machine_fault(ended.stderr) if had_gpu else None
        error = Failure("requester", "exit_nonzero", f"The program ended with exit code {ended.exit_code}.")
        if said is not None:
            error = Failure("miner", GPU_FAILED, f"The GPU failed under the program: {said[:200]}")
    error = with_last_words(error, ended.stderr) if error is not None else None
    return Outcome(output=output, usage={"milliseconds": ended.milliseconds, **ended.usage}, error=error)
