"""A root file system of one static program, for images that need no registry."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest

TOOLS = (
    "cat",
    "dd",
    "echo",
    "env",
    "grep",
    "id",
    "ln",
    "ls",
    "mkdir",
    "rm",
    "seq",
    "setsid",
    "sh",
    "nc",
    "sleep",
    "stty",
    "tar",
    "touch",
    "true",
    "wc",
)


def busybox_archive() -> bytes:
    """The file system as a tar archive; skips where no static busybox is here."""
    found = shutil.which("busybox")
    if found is None or b"ld-linux" in Path(found).read_bytes()[:4096]:
        pytest.skip("needs a static busybox: apt-get install -y busybox-static")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.add(found, "bin/busybox")
        for name in TOOLS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("etc", "in", "out", "tmp", "proc", "sys", "dev"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    return made.getvalue()
