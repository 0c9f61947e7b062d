"""What a container may do: as options of podman and docker."""

import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aitbc_cli.miner.containers import canary
from aitbc_cli.miner.containers.runtime import DAEMON, MINER, WORKER, Runtime, RuntimeFailed
from aitbc_cli.miner.executors import process_tree
from aitbc_cli.miner.executors.work import Gpu

NOBODY = 65_534
OPEN_FILES = 65_536
_IGNORED = "Resource limits are not supported and ignored"
"""What podman of an ordinary user says under control groups of version 1, and goes on."""
CDI_KIND = "nvidia.com/gpu"
_CPU_SHARES = 256
"""A quarter of what an ordinary program weighs: the miner and its owner go first."""


@dataclass(frozen=True)
class Allowance:
    """What each container of a miner may use; memory and processes are those of the whole container."""

    memory_bytes: int
    processes: int
    cpus: int
    disk_bytes: int
    """Of its folders `/out` and `/tmp` together."""


@dataclass(frozen=True)
class Owner:
    """Whose a container is: labels by which it is found again."""

    miner: str
    """Of the miner's folder, the same after a restart."""
    daemon: str
    worker: str

    @property
    def labels(self) -> dict[str, str]:
        """The labels of a container."""
        return {MINER: self.miner, DAEMON: self.daemon, WORKER: self.worker}


@dataclass(frozen=True)
class Container:
    """One container that is to run."""

    name: str
    image: str
    command: Sequence[str] = ()
    entrypoint: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, tuple[Path, bool]] = field(default_factory=dict)
    """Folders of this machine by their place in the container, and whether it may write there."""
    gpus: Sequence[Gpu] = ()
    has_network: bool = False


def run_words(runtime: Runtime, container: Container, allowance: Allowance, owner: Owner) -> list[str]:
    """The words after the runtime's own that run a container in the foreground. Raises `RuntimeFailed`."""
    words = ["run", "-i", "--name", container.name, "--pull", "never", "--log-driver", "none", "--hostname", "aitbc"]
    for name, value in owner.labels.items():
        words += ["--label", f"{name}={value}"]
    words += [*_privileges(runtime), *_limits(allowance)]
    words += [] if container.has_network else ["--network", "none"]
    for place, (folder, writable) in container.mounts.items():
        if "," in str(folder):
            raise RuntimeFailed(f"{folder} has a comma in its name, and cannot be given to a container")
        words += ["--mount", f"type=bind,src={folder},dst={place}{'' if writable else ',readonly'}"]
    for name, value in container.env.items():
        words += ["--env", f"{name}={value}"]
    words += ["--env", "NVIDIA_VISIBLE_DEVICES=void"]  # devices come by CDI alone, whatever the image asks for
    for gpu in container.gpus:
        words += ["--device", f"{CDI_KIND}={gpu.uuid}"]
    if container.entrypoint is not None:
        words += ["--entrypoint", container.entrypoint]
    return [*words, container.image, *container.command]


def user_of() -> int | None:
    """The user of this machine as whom containers run; none for the miner's own."""
    return NOBODY if os.getuid() == 0 else None


def _privileges(runtime: Runtime) -> list[str]:
    words = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    words += ["--security-opt", "label=disable"]  # the folders that are mounted are made for this container alone
    if runtime.is_podman:
        words += ["--read-only-tmpfs=false", "--http-proxy=false"]
    if (user := user_of()) is not None:
        return [*words, "--user", f"{user}:{user}"]
    return [*words, "--userns=keep-id"] if runtime.is_podman else [*words, "--user", f"{os.getuid()}:{os.getgid()}"]


def _limits(allowance: Allowance) -> list[str]:
    memory = f"{allowance.memory_bytes}b"
    user = user_of()
    words = ["--memory", memory, "--memory-swap", memory, "--pids-limit", str(allowance.processes)]
    words += ["--cpus", str(allowance.cpus), "--cpu-shares", str(_CPU_SHARES)]
    words += ["--shm-size", f"{max(allowance.memory_bytes // 2, 1 << 20)}b"]
    # The kernel counts all tasks of a user, in every container: a backstop to the limit of processes.
    most = process_tree.tasks_of_user(os.getuid() if user is None else user) + 4 * allowance.processes
    files, tasks = _within(resource.RLIMIT_NOFILE, OPEN_FILES), _within(resource.RLIMIT_NPROC, most)
    words += ["--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={tasks}:{tasks}", "--ulimit", "core=0:0"]
    return [*words, "--ulimit", f"fsize={allowance.disk_bytes}:{allowance.disk_bytes}"]


def _within(what: int, wanted: int) -> int:
    """A limit that this process may set."""
    hard = resource.getrlimit(what)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def probe(runtime: Runtime, allowance: Allowance, owner: Owner) -> Runtime:
    """Run the canary in an image of its own; gives the runtime, and whether it bounds. Raises `RuntimeFailed`."""
    image = f"localhost/aitbc-canary:{owner.worker}"
    runtime.call("import", "-", image, stdin=canary.archive())
    try:
        container = Container(f"aitbc-probe-{owner.worker}", image, [canary.PATH])
        return replace(runtime, bounds=_IGNORED not in run_canary(runtime, container, allowance, owner))
    finally:
        runtime.call("rmi", "-f", image)


def run_canary(runtime: Runtime, container: Container, allowance: Allowance, owner: Owner) -> str:
    """Run a container that is to say what the canary says, and remove it; gives what the runtime complained of.

    Raises `RuntimeFailed`.
    """
    try:
        said, complaints = runtime.call_whole(*run_words(runtime, container, allowance, owner))
        if said.encode() != canary.SAYS:
            raise RuntimeFailed(f"a container said {said[:100]!r} where the canary says {canary.SAYS.decode()!r}")
        return complaints
    finally:
        runtime.remove(container.name)
