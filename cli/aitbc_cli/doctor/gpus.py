"""The graphics cards of a machine that is a miner, and what stands between them and programs: each with its fix."""

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, ok, skipped, warning
from aitbc_cli.doctor.finding import failed as has_failed
from aitbc_cli.terminal import size

DEVICES = Path("/dev")
CONTROL = "nvidiactl"
CDI = (Path("/etc/cdi"), Path("/var/run/cdi"))
NONE = "no NVIDIA driver: a miner here works on the CPU"
PROBE = """
import importlib.util, sys
for name in ("torch", "cupy"):
    if importlib.util.find_spec(name):
        print(name); sys.exit(0)
sys.exit(1)
"""
PROBE_SECONDS = 8.0
MODEL_BYTES = 20 * 2**30
"""What a model of usual size takes on the disk."""
NOBODY = "nobody"


def gpu(case: Case) -> Sequence[Finding]:
    """The driver answers, and finds no fault with a card. None is no fault: the CPU works too."""
    is_there = (DEVICES / CONTROL).exists()
    try:
        import pynvml as nvml
    except ImportError:
        if is_there:
            from aitbc_cli.packages import install

            message = "there is an NVIDIA driver, and the package that asks it is not installed"
            return [warning(message, install(["nvidia-ml-py>=13"]))]
        return [ok(NONE)]
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if is_there:
            return [warning(f"the NVIDIA driver does not answer: {error}", "nvidia-smi || sudo reboot")]
        return [ok(NONE)]
    nvml.nvmlShutdown()
    from aitbc_cli.miner.nvml import Nvml

    opened = Nvml()
    try:
        found = opened.devices()
    finally:
        opened.close()
    faulty = [device for device in found if device["fault"]]
    findings = [
        has_failed(
            str(device["fault"]), f"sudo nvidia-smi --gpu-reset -i {device['index']}", about=str(device["index"])
        )
        for device in faulty
    ]
    sound = [device for device in found if not device["fault"]]
    names = ", ".join(str(device["name"]) for device in sound)
    if sound:
        findings.insert(0, ok(f"{names}; driver {sound[0]['driver_version']}"))
    return findings or [warning("the driver shows no card", "nvidia-smi -L; lspci | grep -i nvidia")]


def runtime(case: Case) -> Finding:
    """A Python finds torch or cupy, with which the miner proves its cards and programs compute."""
    if not (DEVICES / CONTROL).exists():
        return skipped(NONE)
    python = shutil.which("python3") or "python3"
    try:
        found = subprocess.run(
            [python, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return warning(f"{python} cannot be asked: {error}", "sudo apt install python3")
    if found.returncode:
        message = f"{python} finds neither torch nor cupy: the cards stay unverified"
        return warning(message, f"{shlex.quote(python)} -m pip install torch")
    return ok(f"{python} finds {found.stdout.strip()}")


def permissions(case: Case) -> Finding:
    """The user of programs may open the devices."""
    nodes = [DEVICES / CONTROL, DEVICES / "nvidia-uvm", *sorted(DEVICES.glob("nvidia[0-9]*"))]
    if not nodes[0].exists():
        return skipped(NONE)
    user = NOBODY if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    missing = [str(node) for node in nodes if not node.exists()]
    if missing:
        return warning(f"{', '.join(missing)} is not there: no program can use a card", "sudo nvidia-modprobe -u -c 0")
    closed = [str(node) for node in nodes if node.stat().st_mode & 0o006 != 0o006 and not _may_open(node)]
    if closed:
        fix = f"sudo chmod a+rw {shlex.join(closed)}"
        return has_failed(f"{user}, as whom programs run, may not open {', '.join(closed)}", fix)
    return ok(f"{user}, as whom programs run, may open {len(nodes)} devices")


def containers(case: Case) -> Finding:
    """There is something that runs containers, and it knows the cards."""
    engine = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if engine is None:
        return skipped("neither podman nor docker is here; only containers need one", "sudo apt install podman runc")
    if not (DEVICES / CONTROL).exists():
        return ok(f"{engine} is here")
    if not any(folder.is_dir() and any(folder.glob("nvidia*")) for folder in CDI):
        fix = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        return warning(f"{engine} is here, and no CDI file names the cards: containers get none", fix)
    return ok(f"{engine} is here, and CDI names the cards")


def memory_bound(case: Case) -> Finding:
    """How the memory of programs is bounded."""
    from aitbc_cli.miner.executors.cgroup import cgroup_parent

    if cgroup_parent() is not None:
        return ok("control groups bound the memory of programs")
    message = "no control group can be made: a watch bounds the memory of programs, 25 times a second"
    return skipped(message, "aitbc miner install  # as a service it has a group of its own")


def model_room(case: Case) -> Finding:
    """There is room for a model where the state is kept."""
    folder = next(each for each in (case.state, *case.state.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free < MODEL_BYTES:
        fix = f"du -xhd2 {shlex.quote(str(folder))} | sort -h | tail"
        return skipped(f"{folder} has {size(free)} left, and a model takes about {size(MODEL_BYTES)}", fix)
    return ok(f"{folder} has {size(free)} left")


def _may_open(node: Path) -> bool:
    return os.getuid() != 0 and os.access(node, os.R_OK | os.W_OK)


CHECKS = (
    Check("gpu", "graphics cards", gpu),
    Check("gpu-runtime", "what computes on graphics cards", runtime),
    Check("gpu-permissions", "who may open graphics cards", permissions),
    Check("containers", "what runs containers", containers),
    Check("program-memory", "how the memory of programs is bounded", memory_bound),
    Check("model-room", "room for a model", model_room),
)
