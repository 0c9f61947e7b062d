"""Containers as jobs of a cluster: podman, called by the script of the job on whichever node it runs."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aitbc_cli.miner.cluster.planned import Planned, Size
from aitbc_cli.miner.containers import canary, confinement
from aitbc_cli.miner.containers.confinement import Container, Owner
from aitbc_cli.miner.containers.images import read_images
from aitbc_cli.miner.containers.output_folder import FilesRefused, collected
from aitbc_cli.miner.containers.runtime import Runtime, candidates
from aitbc_cli.miner.executors.container import allowance_of, read_limits
from aitbc_cli.miner.executors.container_input import asked_image, read_container, read_fields, read_stdin
from aitbc_cli.miner.executors.fields import FieldError, read_list, read_object, read_text
from aitbc_cli.miner.executors.work import Failure, Outcome, Work, WorkFailed

OPTIONS = frozenset({"images", "network", "runtime", "cpus", "memory_bytes", "output_bytes"}) | {
    *("processes", "disk_bytes", "file_bytes", "gpus", "machines", "partition"),
}
WAY, TRIED = "way", "tried-"
"""Files that the canary's job writes: how podman is called there, and for each image that it ran."""
PODMAN_BYTES = 256 * 1024 * 1024
NOT_STARTED = frozenset({125, 126, 127})
_SCRIPT = """#!/bin/sh
cd work || exit 1
exec 3<&0
remove() {{ {podman} rm -f -v -t 0 {name} >/dev/null 2>&1; }}
trap 'remove; exit 143' TERM
{podman} {words} <&3 &
wait $!
code=$?
remove
printf %s "$code" >../exit.new && mv ../exit.new ../exit
exit "$code"
"""
"""The container is removed by the script, also when the cluster ends it; podman ends it by itself at its time limit."""


class ClusterContainers:
    """What containers are on the nodes of a cluster, all of which have podman and the images that are allowed."""

    def __init__(self, options: Mapping[str, Any], prefix: str) -> None:
        """`prefix` begins the names of this miner's jobs. Raises `FieldError`."""
        read_object(options, allowed=OPTIONS, what="configuration of container before a cluster")
        self._images = read_images(options)
        limits = read_limits(options)
        self.output_bytes, self._file_bytes = limits["output_bytes"], limits["file_bytes"]
        self.allowance = allowance_of(options, cpus=1)
        given = options.get("runtime")
        words = None if given is None else [read_text(word, "runtime", longest=1000) for word in _words(given)]
        self._ways = [way for way in candidates(words or ["podman"]) if way.is_podman]
        if not self._ways:
            raise FieldError("runtime: containers of a cluster's jobs are run by podman.")
        self._owner = Owner(prefix, prefix, prefix)
        self._way: Runtime | None = None

    def canary(self, place: Path) -> str:
        """The script of a job that finds out how podman is called, and tries every image; `place` is its folder."""
        (place / "canary").write_bytes(canary.program())
        (place / "canary").chmod(0o755)
        (place / "canary.tar").write_bytes(canary.archive())
        image = f"localhost/aitbc-{self._owner.worker}canary"
        lines = ["#!/bin/sh", f"cd {shlex.quote(str(place))} || exit 1"]
        for number, way in enumerate(self._ways):
            podman = shlex.join(way.words)
            tried = Container(f"{self._owner.worker}probe", image, [canary.PATH])
            lines += [
                f"if [ ! -e {WAY} ] && {podman} import - {image} <canary.tar >/dev/null 2>>why; then",
                f"  {self._says(way, tried)} && echo {number} >{WAY}",
                f"  {podman} rmi -f {image} >/dev/null 2>&1",
                "fi",
            ]
        lines += ["case $(cat way 2>/dev/null) in"]
        for number, way in enumerate(self._ways):
            lines += [f"{number})"]
            mounts = {canary.PATH: (place / "canary", False)}
            for name, reference in self._images.by_name.items():
                inner = Container(f"{self._owner.worker}probe", reference, entrypoint=canary.PATH, mounts=mounts)
                lines += [f"  {self._says(way, inner)} && : >{TRIED}{name}"]
            lines += ["  ;;"]
        return "\n".join((*lines, "esac", "exit 0", ""))

    def _says(self, way: Runtime, container: Container) -> str:
        """A test in the shell: whether a container says what the canary says."""
        podman = shlex.join(way.words)
        words = shlex.join(confinement.run_words(way, container, self.allowance, self._owner))
        says = canary.SAYS.decode().strip()
        remove = f"{podman} rm -f -t 0 {container.name} >/dev/null 2>&1"
        return f'{{ said=$({podman} {words} </dev/null 2>>why); {remove}; [ "$said" = "{says}" ]; }}'

    def note_canary(self, place: Path) -> dict[str, Any]:
        """What the canary's job found, as the details of a kind. Raises `WorkFailed` where nothing can be run."""
        try:
            self._way = self._ways[int((place / WAY).read_text())]
        except (OSError, ValueError, IndexError):
            raise WorkFailed(
                "miner", "executor_unavailable", f"no container can be run ({_last(place / 'why')})"
            ) from None
        missing = dict.fromkeys(self._images.by_name, "it runs on no node that was tried")
        for name in self._images.by_name:
            if (place / f"{TRIED}{name}").exists():
                del missing[name]
        if len(missing) == len(self._images.by_name):
            message = f"no allowed image can be run ({_last(place / 'why')})"
            raise WorkFailed("miner", "executor_unavailable", message)
        return {"models": self._images.announced(but=missing), "missing": missing, "runtime": " ".join(self._way.words)}

    @property
    def size(self) -> Size:
        """What the cluster is asked for, for each: what podman takes by itself comes on top."""
        return Size(self.allowance.cpus, self.allowance.memory_bytes + PODMAN_BYTES, self.output_bytes)

    def plan(self, work: Work, attempt: str, place: Path) -> Planned:
        """What the job of some work runs, its folders made below `place`. Raises `WorkFailed`, `FieldError`."""
        if self._way is None:
            raise WorkFailed("miner", "executor_unavailable", "No container has been tried on this cluster yet.")
        fields, name = read_fields(work), f"{self._owner.worker}{attempt}"
        _, reference = asked_image(fields, self._images)
        container = read_container(fields, name, reference, work, worker=self._owner.worker, folder=place)
        words = confinement.run_words(self._way, container, self.allowance, self._owner)
        words[1:1] = ["--timeout", str(max(1, round(work.run_seconds)))]
        podman = shlex.join(self._way.words)
        script = _SCRIPT.format(podman=podman, words=shlex.join(words), name=name)
        return Planned(script, read_stdin(fields), self.size)

    def judge(self, outcome: Outcome, work: Work, place: Path) -> Outcome:
        """The outcome of a container's job: with its files, and whose fault an exit code is."""
        output = dict(outcome.output or {}) | {"files": {}}
        error = outcome.error
        code = output.get("exit_code")
        has_not_started = code == 125 or (code in NOT_STARTED and not work.input.get("command"))
        if error is not None and error.reason == "exit_nonzero" and has_not_started:
            error = Failure("miner", "executor_unavailable", f"The container did not start: {error.message}")
        if error is not None:
            return Outcome(output=output, usage=outcome.usage, error=error)
        try:
            files = collected(place / "out", place, file_bytes=self._file_bytes)
        except FilesRefused as refused:
            error = Failure("requester", "output_too_large", str(refused))
            return Outcome(output=output, usage=outcome.usage, error=error)
        return Outcome(output=output, output_files=files, usage=outcome.usage)


def _words(given: Any) -> list[Any]:
    return list(read_list(given, "runtime", fewest=1, most=20))


def _last(file: Path) -> str:
    try:
        lines = file.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "podman said nothing"
