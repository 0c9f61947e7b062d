"""The programs that the files of deploy/ are for: found where they are installed, with a reason to skip where they are not."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
PACKAGES = {
    "systemd-analyze": "systemd",
    "nginx": "nginx",
    "haproxy": "haproxy",
    "promtool": "prometheus",
    "openssl": "openssl",
    "curl": "curl",
    "chromium": "chromium",
}
"""The Debian package of each."""
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def program(name: str) -> str:
    """Its path. Skips the test where it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})")
    return found


def run(name: str, *arguments: str | Path, stdin: bytes | None = None) -> str:
    """What a program says; the test fails when it does."""
    done = subprocess.run([program(name), *arguments], input=stdin, capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
