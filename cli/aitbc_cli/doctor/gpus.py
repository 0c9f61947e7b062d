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
from aitbc_cli.miner.containers.runtime import Runtime, candidates
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
    tried = candidates(None)
    if not tried:
        return skipped("neither podman nor docker is here; only containers need one", "sudo apt install podman runc")
    engine, why = _running_containers(tried)
    if engine is None:
        return warning(f"no container can be run here: {why}", "sudo apt install podman runc")
    if not (DEVICES / CONTROL).exists():
        return ok(f"{engine} runs containers")
    told = [file.read_text(errors="replace") for folder in CDI if folder.is_dir() for file in folder.glob("*")]
    named = [text for text in told if "nvidia.com/gpu" in text]
    if not named or not all(any(uuid in text for text in named) for uuid in _uuids()):
        fix = "sudo nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml"
        return warning(f"{engine} runs containers, and no CDI file names the cards by uuid: containers get none", fix)
    return ok(f"{engine} runs containers, and CDI names the cards")


def _running_containers(tried: Sequence[Runtime]) -> tuple[str | None, str]:
    """The call that runs the miner's test container, or what the last one said."""
    from aitbc_cli.miner.containers.confinement import Allowance, Owner, probe
    from aitbc_cli.miner.containers.runtime import RuntimeFailed

    mark, why = f"doctor-{os.getpid()}", ""
    for each in tried:
        try:
            probe(each, Allowance(64 << 20, 20, 1, 1 << 20), Owner(mark, mark, mark))
        except (RuntimeFailed, LookupError) as error:
            why = str(error)
        else:
            return " ".join(each.words), why
    return None, why


def _uuids() -> list[str]:
    """The uuids of the cards, as far as their driver tells."""
    from aitbc_cli.miner.nvml import Nvml

    asked = Nvml()
    try:
        return [str(device["uuid"]) for device in asked.devices() if device["uuid"]]
    finally:
        asked.close()


def cluster(case: Case) -> Finding:
    """A Slurm that is here answers; containers are not given to it."""
    asking = shutil.which("sinfo")
    if asking is None or shutil.which("sbatch") is None:
        return skipped("no Slurm here; only `aitbc miner run --slurm` needs one", "sudo apt install slurm-client")
    try:
        told = subprocess.run((asking, "-h", "-o", "%P"), capture_output=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return warning("Slurm does not answer", "sinfo; scontrol ping")
    if told.returncode != 0 or not told.stdout.strip():
        return warning("Slurm does not answer, or has no partition for this user", "sinfo; scontrol ping")
    parts = ", ".join(told.stdout.decode("utf-8", "replace").split())
    return ok(f"Slurm answers (partitions {parts}): it runs programs, the kind container is not given to it")


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
    Check("cluster", "the cluster behind this machine", cluster),
    Check("program-memory", "how the memory of programs is bounded", memory_bound),
    Check("model-room", "room for a model", model_room),
)
