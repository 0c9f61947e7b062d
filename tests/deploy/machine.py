"""A systemd of its own, in namespaces of its own, for a test: what it writes, starts and mounts is gone with it.

Only root can make one, and not in every container: `machine()` skips the test with the reason where it cannot be made.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.deploy.programs import DEPLOY

PROGRAM = Path("/lib/systemd/systemd")
ROOT = DEPLOY.parent
TARGETS = ("sysinit", "basic", "shutdown", "network-online", "multi-user", "emergency", "rescue")
CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
# The system's own units are left out, so that nothing but ours is started. The checkout appears as /opt/aitbc, with a virtual
# environment that says so. An installation of this machine, its settings and its data, is not seen from in there.
PREPARE = """
set -e
scratch=$1 prefix=$2 libraries=$3 port=$4
mount --make-rprivate /
mount -t tmpfs none "$scratch"
mkdir -p "$scratch/etc" "$scratch/work/etc" "$scratch/checkout" /opt
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$scratch/etc,workdir=$scratch/work/etc" /etc
mountpoint -q /etc && rm -rf /etc/aitbc
mount --bind "$5" "$scratch/checkout"
mount -t tmpfs -o mode=755 none /opt
mkdir -p /opt/aitbc /opt/python /opt/up /opt/work
mount -t overlay overlay -o "lowerdir=$scratch/checkout,upperdir=/opt/up,workdir=/opt/work" /opt/aitbc
mount --bind "$prefix" /opt/python
mount -t tmpfs -o mode=755 none /var/lib
mount -t tmpfs -o mode=755 none /run
mount -t proc proc /proc
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
venv=/opt/aitbc/.venv
ln -sfn /opt/python/bin/python$6 $venv/bin/python
sed -i 's#^home = .*#home = /opt/python/bin#' $venv/pyvenv.cfg
sed -i '1s#.*#\\#!/opt/aitbc/.venv/bin/python#' $venv/bin/aitbc
printf '%s\\n' /opt/aitbc/src /opt/aitbc/cli > "$(echo $venv/lib/python*/site-packages)/aaa_aitbc.pth"
mkdir -p /etc/aitbc /run/units
printf 'AITBC_SERVER__PORT=%s\\nLD_LIBRARY_PATH=%s\\n' "$port" "$libraries" > /etc/aitbc/environment
cp /opt/aitbc/deploy/systemd/*.service /run/units
for unit in aitbc.service aitbc@.service; do
    mkdir "/run/units/$unit.d"
    printf '[Service]\\nStandardOutput=append:/run/said\\nStandardError=append:/run/said\\n' > "/run/units/$unit.d/said.conf"
done
systemd-sysusers /opt/aitbc/deploy/systemd/aitbc.sysusers.conf
mount --make-rshared /
"""
BOOT = """
shift 6
for target; do printf '[Unit]\\nDefaultDependencies=no\\n' > "/run/units/$target.target"; done
printf '[Service]\\nType=oneshot\\nUser=aitbc\\nExecStart=/bin/true\\n' > /run/units/probe.service
printf 'PrivateUsers=yes\\nProtectSystem=strict\\n' >> /run/units/probe.service
export SYSTEMD_UNIT_PATH=/run/units container=docker
exec /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
"""


class Machine:
    """The running systemd."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", "-t", str(pid), "-m", "-p", "-C", "-u", "-i"]

    def run(self, *command: str) -> str:
        """What a command says in there; the test fails when it does."""
        done = subprocess.run([*self._enter, *command], capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.said()}"
        return done.stdout

    def succeeds(self, *command: str) -> bool:
        """Whether a command does in there."""
        return subprocess.run([*self._enter, *command], capture_output=True, timeout=90).returncode == 0

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Put a file into it."""
        folder = str(Path(path).parent)
        script = f"mkdir -p {folder} && cat > {path} && chmod {mode} {path}"
        subprocess.run([*self._enter, "sh", "-c", script], input=text, text=True, check=True, timeout=30)

    def show(self, unit: str) -> Mapping[str, str]:
        """What systemd knows of a unit."""
        return dict(line.split("=", 1) for line in self.run("systemctl", "show", unit).splitlines() if "=" in line)

    def said(self) -> str:
        """The last that the units have said."""
        done = subprocess.run([*self._enter, "cat", "/run/said"], capture_output=True, text=True)
        return "\n".join([line for line in done.stdout.splitlines() if "request_answered" not in line][-30:])


@contextmanager
def machine(folder: Path, *, port: int) -> Iterator[Machine]:
    """A systemd with our units, not started yet; the server will listen on this port of the test's own machine."""
    if os.geteuid() != 0 or not PROGRAM.exists() or not shutil.which("unshare"):
        pytest.skip("a systemd of its own needs root, and systemd (Debian: apt-get install systemd)")
    group = next((top / f"aitbc-{os.getpid()}" for top in CGROUPS if (top / "cgroup.procs").exists()), None)
    if group is None:
        pytest.skip("a systemd of its own needs the second version of control groups")
    (folder / "scratch").mkdir()
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a systemd of its own needs a control group: {error}")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    join = f'echo $$ > {group}/cgroup.procs && exec unshare -m -p -f -C -u -i --kill-child sh -c "$0" prepare "$@"'
    arguments = [folder / "scratch", sys.base_prefix, "/opt/python/lib", port, ROOT, version, *TARGETS]
    log = (folder / "systemd.log").open("wb")
    outer = subprocess.Popen(["sh", "-c", join, PREPARE + BOOT, *map(str, arguments)], stdout=log, stderr=log)
    try:
        yield _booted(outer, folder / "systemd.log")
    finally:
        outer.send_signal(signal.SIGKILL)  # and unshare's child with it, and all that the child has started
        outer.wait(30)
        log.close()
        _remove(group)


def _booted(outer: subprocess.Popen[bytes], log: Path) -> Machine:
    end = time.monotonic() + 20
    while time.monotonic() < end and outer.poll() is None:
        with suppress(OSError):  # it may end between two looks
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
                made = Machine(int(children[0]))
                if made.succeeds("systemctl", "start", "probe"):
                    return made
        time.sleep(0.1)
    pytest.skip(f"a systemd of its own does not start here: {log.read_text()[-300:]}")


def _remove(group: Path) -> None:
    end = time.monotonic() + 5
    while group.exists() and time.monotonic() < end:
        for inner in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            try:
                inner.rmdir()
            except OSError:
                break
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
