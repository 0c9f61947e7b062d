"""The canary of containers: a program of two hundred bytes, run in a container before any of a requester's is.

It needs nothing of an image, so that it runs in every image for this machine, and in an empty one.
"""

import io
import platform
import struct
import tarfile
from collections.abc import Mapping

SAYS = b"aitbc canary\n"
PATH = "/aitbc-canary"
_BASE = 0x400000
_HEADERS = 64 + 56
_MACHINES = {"x86_64": 62, "aarch64": 183}


def program() -> bytes:
    """An executable file that writes a line and ends. Raises `LookupError` on a processor without one."""
    return executable({"x86_64": _x86_64(), "aarch64": _aarch64()}, SAYS)


def executable(code_of: Mapping[str, bytes], data: bytes = b"") -> bytes:
    """A file of machine code for this processor, with what stands behind it. Raises `LookupError` for another one."""
    machine, code = _MACHINES[platform.machine()], code_of[platform.machine()]
    size = _HEADERS + len(code) + len(data)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code + data


def _x86_64() -> bytes:
    """write(1, SAYS, length); exit(0)"""
    rest = b"\xba" + struct.pack("<I", len(SAYS)) + b"\x0f\x05" + b"\xb8\x3c\x00\x00\x00" + b"\x31\xff" + b"\x0f\x05"
    return b"\xb8\x01\x00\x00\x00" + b"\xbf\x01\x00\x00\x00" + b"\x48\x8d\x35" + struct.pack("<i", len(rest)) + rest


def _aarch64() -> bytes:
    """write(1, SAYS, length); exit(0)"""
    words = (0xD2800020, 0x100000E1, 0xD2800002 | len(SAYS) << 5, 0xD2800808, 0xD4000001)
    return struct.pack("<8I", *words, 0xD2800000, 0xD2800BA8, 0xD4000001)


def archive() -> bytes:
    """A file system that holds the program alone, as a tar archive."""
    content = program()
    file = tarfile.TarInfo(PATH.lstrip("/"))
    file.size, file.mode = len(content), 0o755
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(file, io.BytesIO(content))
    return made.getvalue()
