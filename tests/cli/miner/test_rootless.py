"""Containers of an ordinary user's podman: what they do, and that no machine is offered where limits are ignored."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.machines.keeper import UNBOUNDED
from tests.cli.miner.busybox import busybox_archive
from tests.scale import only_in_full

SUBORDINATE = Path("/etc/subuid")
SECONDS = 120
AS_USER = """
import json, os, sys
from pathlib import Path
from aitbc_cli.miner.containers import canary, confinement, runtime
from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.executors import command, container, fields, gpu_watch, process_tree, program
from aitbc_cli.miner.executors.work import KindStatus, Work
from aitbc_cli.miner.gpus import Gpus
from aitbc_cli.miner.home import Home
from aitbc_cli.miner.machines.keeper import MachineKeeper
user, group, folder, options, line = json.loads(sys.argv[1])
os.setgroups([])
os.setgid(group)
os.setuid(user)
home = Home(Path(folder) / "home")
os.chdir(home.work)
done = container.ContainerExecutor(options)
told = done.warm_up()
place = home.work / "att_1"
place.mkdir()
value = {"image": "busybox", "command": ["/bin/sh", "-c", line]}
outcome = done.run(Work("job_1", 1, "container", value, {}, place, 60.0), lambda _: None)
status = KindStatus(True, None, "", None, None, {})
offer = MachineKeeper(options, home, Gpus(1), EventLog()).offer(status)
found = runtime.remembered(home.work)
print(json.dumps({"told": told, "output": outcome.output, "error": outcome.error and outcome.error.reason,
                  "offer": offer, "bounds": found.bounds, "words": found.words}))
"""
"""What is asked of the executor as that user: it has loaded all before, for the user may not read where it lies."""


class Rootless:
    """An ordinary user with subordinate ids, a folder of theirs, and their podman with one image."""

    def __init__(self, user: pwd.struct_passwd, folder: Path) -> None:
        self.user, self.folder = user, folder
        for name in ("images", "run", "xdg"):
            (folder / name).mkdir(mode=0o700)
        for place in (folder, *folder.iterdir()):
            os.chown(place, user.pw_uid, user.pw_gid)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "xdg")}
        self.words = ["podman", "--root", str(folder / "images"), "--runroot", str(folder / "run")]

    def call(self, *words: str, stdin: bytes = b"") -> str:
        """What their podman says; skips the test where it does not work here."""
        whose: dict[str, Any] = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        told = ["--cgroup-manager=cgroupfs", "--runtime", "runc"]
        done = subprocess.run(
            [*self.words, *told, *words],
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            cwd=self.folder,
            env=self.environment,
            **whose,
        )
        if done.returncode != 0:
            why = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason"])[-1]
            pytest.skip(f"podman of an ordinary user does not work here: {why[:200]}")
        return str(done.stdout.decode())


def somebody() -> pwd.struct_passwd | None:
    """A user of this machine who has subordinate ids."""
    named = SUBORDINATE.read_text().splitlines() if SUBORDINATE.exists() else []
    names = {line.partition(":")[0] for line in named}
    return next((user for user in pwd.getpwall() if user.pw_name in names and user.pw_uid >= 1000), None)


@pytest.fixture
def rootless() -> Iterator[Rootless]:
    missing = [name for name in ("podman", "runc", "newuidmap") if shutil.which(name) is None]
    if os.getuid() != 0 or missing:
        pytest.skip("needs root, podman and uidmap: apt-get install -y podman runc uidmap")
    user = somebody()
    if user is None:
        pytest.skip("needs a user with subordinate ids: useradd --create-home somebody")
    with tempfile.TemporaryDirectory(prefix="rl", ignore_cleanup_errors=True) as folder:
        made = Rootless(user, Path(folder))
        made.call("import", "-", "localhost/busybox:1", stdin=busybox_archive())
        yield made
        made.call("rm", "-f", "-a", "-t", "0")
        made.call("unshare", "rm", "-rf", str(made.folder / "images"))  # files of subordinate ids


@only_in_full
def test_an_ordinary_users_podman_runs_jobs_and_gives_a_machine_only_where_it_bounds(rootless: Rootless) -> None:
    digest = rootless.call("images", "--format", "{{.Digest}}").strip()
    images = {"busybox": f"localhost/busybox@{digest}"}
    limits = {"memory_bytes": 64 << 20, "processes": 20, "disk_bytes": 4 << 20, "output_bytes": 1000}
    options = {"runtime": rootless.words, "images": images, **limits}
    line = "id -u; echo made > /out/file; touch /x 2>/dev/null || echo sealed"
    told = json.dumps([rootless.user.pw_uid, rootless.user.pw_gid, str(rootless.folder), options, line])
    done = subprocess.run(
        [sys.executable, "-c", AS_USER, told],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=rootless.environment,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["error"] is None, seen
    assert seen["output"]["stdout"] == f"{rootless.user.pw_uid}\nsealed\n", seen
    assert seen["offer"]["available"] == seen["bounds"], seen
    if not seen["bounds"]:
        assert seen["offer"]["reason"] == UNBOUNDED
    assert rootless.call("ps", "-a", "-q") == ""
