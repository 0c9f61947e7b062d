"""The process that listens on a TCP port of this machine, as the system shows it."""

import os
from contextlib import suppress
from pathlib import Path


def process_on_port(port: int) -> str | None:
    """The program that listens on a port, as `name (pid 123)`; none where the system does not show it."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                if any(os.readlink(entry) in inodes for entry in os.scandir(process / "fd")):  # noqa: PTH115
                    name = (process / "comm").read_text().strip()
                    return f"{name} (pid {process.name})"
    return None
