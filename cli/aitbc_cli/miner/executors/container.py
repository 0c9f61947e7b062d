"""Containers of images that the operator allows: no privileges, no network unless allowed, limits, files in and out."""

import itertools
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aitbc_cli.miner.containers import canary, confinement, runtime
from aitbc_cli.miner.containers.confinement import Allowance, Container, Owner
from aitbc_cli.miner.containers.images import read_images
from aitbc_cli.miner.containers.output_folder import FilesRefused, collected
from aitbc_cli.miner.containers.runtime import Runtime, RuntimeFailed
from aitbc_cli.miner.executors import gpu_canary, process_tree
from aitbc_cli.miner.executors.container_input import asked_image, read_container, read_fields, read_stdin
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

_MIB = 1024 * 1024
_LIMITS = {
    "memory_bytes": (4096 * _MIB, 16 * _MIB, 2**42),
    "output_bytes": (256 * 1024, 16, 64 * _MIB),
    "processes": (512, 1, 100_000),
    "disk_bytes": (4096 * _MIB, 4096, 2**42),
    "file_bytes": (64 * _MIB, 1, 2**40),
}
_OPTIONS = frozenset(
    {"images", "any_image", "network", "runtime", "cpus", "gpus", "proof", "marker", "miner", "daemon", "threads"}
    | {"machines"}
) | set(_LIMITS)
_NOT_STARTED = frozenset({125, 126, 127})
"""The exit codes of a runtime whose container did not start; a program may end with them too."""
_NEVER = "0001-01-01"
_UNBOUNDED = 2**62
"""What the runtime bounds itself by control groups is not watched once more."""
_RUNTIME_BYTES, _RUNTIME_PROCESSES = 256 * _MIB, 16
"""What the runtime's own processes hold beside the program's, where all of them are watched together."""


def read_limits(options: Mapping[str, Any]) -> dict[str, int]:
    """The limits of the options. Raises `FieldError`."""
    return {
        name: read_integer(options.get(name, default), name, least=least, most=most)
        for name, (default, least, most) in _LIMITS.items()
    }


def allowance_of(options: Mapping[str, Any], *, cpus: Any) -> Allowance:
    """What a container may use by the options; `cpus` unless they say how many. Raises `FieldError`."""
    limits = read_limits(options)
    processors = read_integer(options.get("cpus", cpus), "cpus", least=1, most=4096)
    return Allowance(limits["memory_bytes"], limits["processes"], processors, limits["disk_bytes"])


class ContainerExecutor:
    """Runs containers: options are `images` (name to reference with digest), `any_image`, `network` and the limits.

    `runtime` is how to call podman or docker, a list of words; left out, what works here. `gpus` is `all` or `none`.
    A container runs as nobody where the miner is root, else as the miner's user, in namespaces of its own.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_object(options, allowed=_OPTIONS, what="configuration of container")
        self._images = read_images(options)
        limits = read_limits(options)
        if options.get("gpus", ALL_GPUS) not in (ALL_GPUS, NO_GPUS):
            raise FieldError(f"gpus must be {ALL_GPUS!r} or {NO_GPUS!r}.")
        self._output_bytes, self._file_bytes = limits["output_bytes"], limits["file_bytes"]
        self._allowance = allowance_of(options, cpus=options.get("threads", 1))
        marker = str(options.get("marker", os.getpid()))
        self._owner = Owner(str(options.get("miner", marker)), str(options.get("daemon", marker)), marker)
        self._numbers = itertools.count(1)
        self._nvml = Nvml()
        self._tried: set[str] = set()
        """The images in which the canary ran."""
        self._runtime = self._found(options.get("runtime"))
        signal.signal(signal.SIGTERM, self._end)

    def _found(self, given: Any) -> Runtime:
        """The runtime that works here, with what an earlier run of this miner left removed. Raises WorkFailed."""
        if given is not None:
            given = [
                read_text(word, "runtime", longest=1000) for word in read_list(given, "runtime", fewest=1, most=20)
            ]
        if (known := runtime.remembered(Path.cwd())) is not None:
            return known
        failed: dict[str, str] = {}
        for each in runtime.candidates(given):
            try:
                each.remove_labelled(runtime.MINER, self._owner.miner, but=self._owner.daemon)
                found = confinement.probe(each, self._allowance, self._owner)
            except (RuntimeFailed, LookupError) as error:
                failed[" ".join(each.words)] = str(error)
                continue
            runtime.remember(found, Path.cwd())
            return found
        why = "; ".join(f"{words}: {said}" for words, said in failed.items())
        message = f"No container can be run here ({why or 'neither podman nor docker is installed'})."
        raise WorkFailed("miner", "executor_unavailable", message)

    def _end(self, _signal: int, _frame: object) -> None:
        """The miner has ended: take all containers along."""
        process_tree.kill_descendants(os.getpid())
        with suppress(RuntimeFailed):
            self._runtime.remove_labelled(runtime.WORKER, self._owner.worker)
        os._exit(143)

    def warm_up(self) -> dict[str, Any]:
        """Which images can be run here, and which were allowed but cannot: the canary ran in each once."""
        missing: dict[str, str] = {}
        for name, reference in self._images.by_name.items():
            if (why := self._why_not(reference)) is not None:
                missing[name] = why
        if missing and len(missing) == len(self._images.by_name) and not self._images.takes_any:
            told = "; ".join(f"{name}: {why}" for name, why in missing.items())
            raise WorkFailed("miner", "executor_unavailable", f"No allowed image can be run here ({told}).")
        return {
            "models": self._images.announced(but=missing),
            "missing": missing,
            "runtime": " ".join(self._runtime.words),
        }

    def _why_not(self, reference: str) -> str | None:
        """Why an image cannot be run."""
        if not self._runtime.has_image(reference):
            self._tried.discard(reference)
            return f"it is not on this machine: {Path(self._runtime.words[0]).name} pull {reference}"
        if reference not in self._tried:
            file = Path.cwd() / f".canary-{self._owner.worker}"
            file.write_bytes(canary.program())
            file.chmod(0o755)
            mounts = {canary.PATH: (file, False)}
            tried = Container(
                self._next_name(),
                reference,
                entrypoint=canary.PATH,
                mounts=mounts,
                has_network=self._images.gives_network,
            )
            try:
                confinement.run_canary(self._runtime, tried, self._allowance, self._owner)
            except RuntimeFailed as error:
                return str(error)
            finally:
                file.unlink()
            self._tried.add(reference)
        return None

    def try_gpu(self, gpu: Gpu) -> dict[str, Any]:
        """Have the canary run in a container that has this GPU. Raises WorkFailed where the runtime cannot give it."""
        image = f"localhost/aitbc-canary:{self._owner.worker}"
        try:
            self._runtime.call("import", "-", image, stdin=canary.archive())
            try:
                container = Container(self._next_name(), image, [canary.PATH], gpus=(gpu,))
                confinement.run_canary(self._runtime, container, self._allowance, self._owner)
            finally:
                self._runtime.call("rmi", "-f", image)
        except RuntimeFailed as error:
            message = (
                f"No container gets the GPU {gpu.uuid}: {error}. Have CDI name it by its uuid (sudo nvidia-ctk cdi "
                f"generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml), or give no GPU: "
                f'gpus = "{NO_GPUS}" under [container] in --kinds-file.'
            )
            raise WorkFailed("miner", GPU_UNUSABLE, message) from None
        return {}

    def run(self, work: Work, report: Report) -> Outcome:
        """Exit code, output and files; an exit code other than 0 is a failure that carries its output."""
        fields = read_fields(work)
        reference, pulled = self._image(fields, work)
        stdin, worker = read_stdin(fields), self._owner.worker
        container = read_container(fields, self._next_name(), reference, work, worker=worker, folder=work.folder)
        try:
            ended = self._run_container(container, stdin, work, report)
            return self._outcome_of(ended, container, work)
        except (OSError, subprocess.SubprocessError, RuntimeFailed) as error:
            message = f"The container cannot be run here ({type(error).__name__}: {error})."
            raise WorkFailed("miner", "executor_unavailable", message) from None
        finally:
            with suppress(RuntimeFailed):  # what is left is found by its label
                self._runtime.remove(container.name)
                if pulled:
                    self._runtime.call("rmi", reference)

    def _image(self, fields: Mapping[str, Any], work: Work) -> tuple[str, bool]:
        """The reference of the image that is asked for, and whether it was brought here for this work alone."""
        wanted, reference = asked_image(fields, self._images)
        if self._runtime.has_image(reference):
            return reference, False
        try:
            self._runtime.call("pull", "-q", reference, seconds=min(runtime.PULL_SECONDS, work.run_seconds))
        except RuntimeFailed as error:
            message = f"The image {wanted!r} cannot be brought to this miner: {error}"
            raise WorkFailed("platform", "program_unavailable", message) from None
        return reference, True

    def _run_container(self, container: Container, stdin: bytes, work: Work, report: Report) -> Ended:
        words = confinement.run_words(self._runtime, container, self._allowance, self._owner)
        is_bounded = self._runtime.bounds
        return Program(
            [*self._runtime.words, *words],
            stdin=stdin,
            user=None,
            folder=work.folder,
            environment=runtime.environment(),
            limits=Limits(
                run_seconds=work.run_seconds,
                memory_bytes=_UNBOUNDED if is_bounded else self._allowance.memory_bytes + _RUNTIME_BYTES,
                output_bytes=self._output_bytes,
                processes=_UNBOUNDED if is_bounded else self._allowance.processes + _RUNTIME_PROCESSES,
                disk_bytes=self._allowance.disk_bytes + sum(path.stat().st_size for path in work.input_files.values()),
            ),
            on_line=lambda line: report(Progress(None, [line])),
            gpu_watch=GpuWatch(work.gpus, self._nvml) if work.gpus else None,
            is_confined=False,
        ).wait()

    def _outcome_of(self, ended: Ended, container: Container, work: Work) -> Outcome:
        output = {"exit_code": ended.exit_code, "stdout": ended.stdout, "stderr": ended.stderr}
        output |= {"truncated": ended.truncated, "files": {}}
        usage = {"milliseconds": ended.milliseconds, **ended.usage}
        error = ended.failure
        if error is None and ended.exit_code != 0:
            error = self._why_it_failed(ended, container)
        if error is not None:
            return Outcome(output=output, usage=usage, error=with_last_words(error, ended.stderr))
        try:
            files = collected(work.folder / "out", work.folder, file_bytes=self._file_bytes)
        except FilesRefused as refused:
            return Outcome(output=output, usage=usage, error=Failure("requester", "output_too_large", str(refused)))
        return Outcome(output=output, output_files=files, usage=usage)

    def _why_it_failed(self, ended: Ended, container: Container) -> Failure:
        """Whose fault an exit code other than 0 is: that of the runtime or the image is the miner's."""
        state = self._runtime.state(container.name)
        started = state is not None and not str(state.get("StartedAt", _NEVER)).startswith(_NEVER)
        if not started and ended.exit_code in _NOT_STARTED:
            if ended.exit_code != 125 and container.command:
                return Failure("requester", "exit_nonzero", "The image has no such program, or it cannot be executed.")
            return Failure("miner", "executor_unavailable", "The container did not start.")
        if state is not None and state.get("OOMKilled"):
            message = f"The container used more than {self._allowance.memory_bytes} bytes of memory."
            return Failure("requester", "out_of_memory", message)
        if container.gpus and (said := gpu_canary.machine_fault(ended.stderr)) is not None:
            return Failure("miner", GPU_FAILED, f"The GPU failed under the container: {said[:200]}")
        message = f"The container ended with exit code {ended.exit_code}."
        if ended.exit_code == 137:
            message += f" Something killed it: the kernel does where it uses over {self._allowance.memory_bytes} bytes."
        return Failure("requester", "exit_nonzero", message)

    def _next_name(self) -> str:
        return f"aitbc-{self._owner.worker}-{next(self._numbers)}"
