"""The machine: room on the disk and in memory, open files, the terminal, the shell."""

import locale
import os
import resource
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from aitbc_cli.commands.completion import SHELLS, place, script
from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, ok, skipped, warning
from aitbc_cli.doctor.finding import failed as has_failed
from aitbc_cli.terminal import size

OPEN_FILES_WANTED = 12_000
"""Every waiting miner is one, and so is every connection of a client."""


def disk(case: Case) -> Finding:
    """There is room where the state is kept."""
    folder = next(each for each in (case.state, *case.state.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    fix = f"du -xhd2 {shlex.quote(str(folder))} | sort -h | tail"
    if free < case.free_bytes_min:
        return has_failed(f"{folder} has {size(free)} left, and the server needs {size(case.free_bytes_min)}", fix)
    inodes = os.statvfs(folder)
    if inodes.f_files and inodes.f_favail < 1000:
        return has_failed(f"{folder} has room for {inodes.f_favail} more files only", fix)
    if free < case.free_bytes_wanted:
        return warning(f"{folder} has only {size(free)} left", fix)
    return ok(f"{folder} has {size(free)} left")


def memory(case: Case) -> Finding:
    """There is memory left for a server and a worker."""
    found = _memory_mib()
    if found is None:
        return skipped("this system does not say how much memory is free")
    if found < case.memory_mib_wanted:
        message = f"{found} MiB are free; server, database and a worker want {case.memory_mib_wanted} MiB"
        return warning(message, "ps -eo pid,rss,comm --sort=-rss | head")
    return ok(f"{found} MiB are free")


def open_files(case: Case) -> Finding:
    """The server may hold as many connections as it is set to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # the server raises the soft limit by itself
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES_WANTED:
        message = f"{hard} files at most may be open, and {OPEN_FILES_WANTED} are wanted for many waiting miners"
        line = f"* hard nofile {OPEN_FILES_WANTED}"
        return warning(message, f"echo '{line}' | sudo tee /etc/security/limits.d/aitbc.conf  # then sign in again")
    return ok("no limit" if hard == resource.RLIM_INFINITY else f"{hard} may be open")


def text(case: Case) -> Finding:
    """The terminal shows every letter."""
    found = locale.getpreferredencoding(False)
    if found.lower().replace("-", "") != "utf8":
        return warning(
            f"texts are shown in {found}: letters that it lacks become ?", "export LANG=C.UTF-8 LC_ALL=C.UTF-8"
        )
    return ok(f"texts are shown in {found}")


def completion(case: Case) -> Finding:
    """The shell completes what the program knows."""
    shell = Path(case.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        return skipped(f"no completion for {shell or 'an unknown shell'}")
    file = place(shell, case.environ)
    fix = f"aitbc completion install {shell}"
    try:
        written = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return skipped(f"not installed for {shell}, and not needed", fix)
    if written != script(shell).strip():
        return warning(f"{file} is another version's", fix)
    return ok(f"{shell}: {file}")


def _memory_mib() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found: Mapping[str, str] = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(found["MemAvailable"].split()[0]) // 1024 if "MemAvailable" in found else None


CHECKS = (
    Check("disk", "room where the state is kept", disk),
    Check("memory", "memory for server and worker", memory),
    Check("open-files", "how many connections may be open", open_files),
    Check("text", "the letters that the terminal shows", text),
    Check("completion", "completion in the shell", completion),
)
