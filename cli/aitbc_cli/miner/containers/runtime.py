"""The container runtime of this machine, podman or docker: found by trying, and called as a program."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALL_SECONDS = 60.0
"""How long a short call may take on a busy machine."""
PULL_SECONDS = 3600.0
_REMOVE_SECONDS = 20.0
FOUND_IN = "container-runtime.json"
"""In the folder of all workers of a miner: what the first of them found."""
MINER, DAEMON, WORKER = "aitbc.miner", "aitbc.daemon", "aitbc.worker"
"""Labels of containers: the folder of the miner, its process, and the worker that started them."""
PODMAN_WAYS: tuple[tuple[str, ...], ...] = (
    (),
    ("--cgroup-manager=cgroupfs",),
    ("--cgroup-manager=cgroupfs", "--runtime", "runc"),
)
"""How podman is called, the plain way first; in virtual machines with mixed control groups only the last one works."""
_PASSED_ON = ("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS")
_PREFIXES = ("CONTAINERS_", "DOCKER_", "REGISTRY_AUTH_FILE", "STORAGE_")


class RuntimeFailed(Exception):
    """The runtime refused something; the message is the last line of what it said."""


@dataclass(frozen=True)
class Runtime:
    """A way to call podman or docker that works here."""

    words: tuple[str, ...]
    """The program and its options before the command."""
    bounds: bool = True
    """Whether it bounds memory and processes: podman of an ordinary user does not under control groups of version 1."""

    @property
    def is_podman(self) -> bool:
        """Whether it is podman: its containers are processes below the caller's; docker's belong to its daemon."""
        return Path(self.words[0]).name.startswith("podman")

    def call(self, *words: str, stdin: bytes = b"", seconds: float = CALL_SECONDS) -> str:
        """What a call says. Raises `RuntimeFailed`."""
        return self.call_whole(*words, stdin=stdin, seconds=seconds)[0]

    def call_whole(self, *words: str, stdin: bytes = b"", seconds: float = CALL_SECONDS) -> tuple[str, str]:
        """What a call says, and what it complains of. Raises `RuntimeFailed`."""
        try:
            done = subprocess.run(
                [*self.words, *words], input=stdin, capture_output=True, timeout=seconds, check=False, env=environment()
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeFailed(f"{self.words[0]} {words[0]}: {error}") from None
        if done.returncode != 0:
            raise RuntimeFailed(last_line(done.stderr.decode("utf-8", "replace")) or f"exit code {done.returncode}")
        return done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    def has_image(self, reference: str) -> bool:
        """Whether an image is here."""
        with suppress(RuntimeFailed):
            self.call("image", "inspect", "--format", "{{.Id}}", reference)
            return True
        return False

    def state(self, name: str) -> Mapping[str, Any] | None:
        """How a container stands; none where there is no such container."""
        try:
            found: Mapping[str, Any] = json.loads(self.call("inspect", "--format", "{{json .State}}", name))
        except (RuntimeFailed, ValueError):
            return None
        return found

    def remove(self, *names: str) -> None:
        """End containers at once and remove all of them. Raises `RuntimeFailed`."""
        at_once = ("-t", "0") if self.is_podman else ()
        deadline = time.monotonic() + _REMOVE_SECONDS
        left = list(names)
        while left:
            try:
                self.call("rm", "-f", "-v", *at_once, *left)
                return
            except RuntimeFailed:
                # podman refuses it the first time where the process that watched the container was killed.
                left = [name for name in left if self.state(name) is not None]
                if left and time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def labelled(self, label: str, value: str) -> list[str]:
        """The ids of the containers that carry a label."""
        return self.call("ps", "-a", "-q", "--no-trunc", "--filter", f"label={label}={value}").split()

    def remove_labelled(self, label: str, value: str, *, but: str = "") -> int:
        """Remove the containers that carry a label, without those of this daemon; answers how many they were."""
        kept = set(self.labelled(DAEMON, but)) if but else set()
        left = [found for found in self.labelled(label, value) if found not in kept]
        self.remove(*left)
        return len(left)


def candidates(given: Sequence[str] | None) -> list[Runtime]:
    """The ways to call a runtime that are tried, in order: those of what is given, else of what this machine has."""
    programs = [tuple(given)] if given else [(name,) for name in ("podman", "docker") if shutil.which(name)]
    found = []
    for words in programs:
        plain = Runtime(words)
        found += [Runtime((*words, *way)) for way in PODMAN_WAYS] if plain.is_podman else [plain]
    return found


def remember(runtime: Runtime, folder: Path) -> None:
    """Keep what was found for the other workers of this miner."""
    temporary = folder / f".{FOUND_IN}.{os.getpid()}"
    temporary.write_text(json.dumps({"words": runtime.words, "bounds": runtime.bounds}))
    temporary.rename(folder / FOUND_IN)


def remembered(folder: Path) -> Runtime | None:
    """What a worker of this miner has found; none before."""
    try:
        kept = json.loads((folder / FOUND_IN).read_text())
        return Runtime(tuple(kept["words"]), bounds=kept["bounds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def environment() -> dict[str, str]:
    """What the runtime gets of the miner's environment: where its images, its settings and its daemon are."""
    return {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PREFIXES)} | {
        "LANG": "C.UTF-8"
    }


def last_line(text: str) -> str:
    """The last line of what a program said."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
